// Package dns measures how long a resolver takes to answer: a bad resolver looks
// like a bad line to everybody who uses it.
//
// It guarantees a result for every question in bounded time, with the resolver's
// name in it, and that only a true answer to the very question counts: addresses
// of the world for the name that was asked. It asks one resolver at a time, by
// UDP, some 100 bytes there and back.
//
// It refuses to follow what is no answer: a name that does not exist, an answer
// without an address, one that lies in a home network (a router that shows a page
// of its own). Each is a failure, never a time.
package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/instrument/internal/names"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same line would give other figures.
const (
	Method        = "dns-udp"
	MethodVersion = "1"
)

// MaxQuestions is how many questions there may be.
const MaxQuestions = 8

const (
	// DefaultWait is how long each try is waited for: two satellite hops and a
	// resolver that has to ask around.
	DefaultWait = 4 * time.Second
	tries       = 2
	defaultPort = 53
	maxAnswer   = 4096 // bytes; without EDNS an answer has at most 512 (RFC 1035)
)

// Question is what to ask whom.
type Question struct {
	ID measure.TargetID
	// Name is asked for its IPv4 addresses. A first label * stands for a random one,
	// so that no cache on the way knows the answer: *.example.id needs a wildcard
	// record there.
	Name string
	// Resolver is asked; zero: the first of the box's own, see Options.Configs.
	Resolver netip.Addr
	Port     uint16 // 0: 53
}

// Options of an Instrument.
type Options struct {
	Questions []Question
	Wait      time.Duration // for the answer to each try. 0: DefaultWait
	// Configs are files that name the box's resolvers (resolv.conf). The first address
	// in them that is not the box itself is its resolver: a program on the box answers
	// from its cache and says nothing of who is behind it. nil: those of Linux, of
	// systemd-resolved and of OpenWrt.
	Configs []string
	Ledger  *ledger.Ledger // where the bytes are entered. nil: nowhere
}

// Instrument asks. Make it with New.
type Instrument struct{ opt Options }

// New makes an instrument. The error names every question that cannot be asked.
func New(o Options) (*Instrument, error) {
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Configs == nil {
		o.Configs = []string{"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/tmp/resolv.conf.d/resolv.conf.auto", "/tmp/resolv.conf.auto"}
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	var errs []error
	if len(o.Questions) > MaxQuestions {
		errs = append(errs, fmt.Errorf("dns: %d questions: at most %d", len(o.Questions), MaxQuestions))
	}
	seen := make(map[measure.TargetID]bool)
	for i, q := range o.Questions {
		where := fmt.Sprintf("dns: question %d (%q)", i+1, q.ID)
		if q.ID == "" || seen[q.ID] {
			errs = append(errs, fmt.Errorf("%s: an id is needed that no other question has", where))
		}
		seen[q.ID] = true
		if _, err := wireName(q.Name); err != nil {
			errs = append(errs, fmt.Errorf("%s: name %q: %w", where, q.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Instrument{opt: o}, nil
}

// wireName is a name as it is asked for, its random label made.
func wireName(s string) (dnsmessage.Name, error) {
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		var label [8]byte
		rand.Read(label[:])
		s = hex.EncodeToString(label[:]) + "." + rest
	}
	s = strings.TrimSuffix(s, ".")
	if len(s) > 253 {
		return dnsmessage.Name{}, errors.New("longer than 253 bytes")
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '*' }) {
			return dnsmessage.Name{}, errors.New("a name of labels such as www.example.id is needed")
		}
	}
	return dnsmessage.NewName(s + ".")
}

// Measure asks every question, one after the other: one result each, in their
// order. The value of an ok result is dns_answer_seconds, its detail names the
// resolver. A second try after a lost answer is flagged retry; its time is its
// own.
//
// A result fails with timeout if no answer came, refused or unreachable if the
// network said so, dns if the answer is an error or has no address, redirect if it
// has an address of a home network, short_body if it was cut off, malformed if
// what came is no answer to the question, cancelled if ctx ends first. Event time
// and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) []measure.Result {
	out := make([]measure.Result, 0, len(in.opt.Questions))
	for _, q := range in.opt.Questions {
		out = append(out, in.one(ctx, q))
	}
	return out
}

func (in *Instrument) one(ctx context.Context, q Question) measure.Result {
	res := measure.Result{Kind: measure.KindDNS, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion, Target: q.ID}
	start := time.Now()
	resolver, err := in.resolver(q)
	if err != nil {
		return res.Fail(measure.ReasonDNS, err.Error())
	}
	account := in.opt.Ledger.Group()
	took, tried, err := in.ask(ctx, account, q.Name, resolver)
	account.CloseAll()
	res.BytesReceived, res.BytesSent = account.Own()
	res.Duration = time.Since(start)
	switch wrong, told := errors.AsType[*refusal](err); {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case told:
		return res.Fail(wrong.reason, fmt.Sprintf("%v says: %s", resolver, wrong.what))
	case err != nil:
		return res.Fail(failure.ReasonOf(err), err.Error())
	}
	res.Values = []measure.Value{{Metric: measure.DNSAnswerSeconds, Number: took.Seconds()}}
	res.Detail = "resolver " + resolver.String()
	if tried > 1 {
		res.Flags = append(res.Flags, measure.FlagRetry)
	}
	return res
}

// resolver is who is asked.
func (in *Instrument) resolver(q Question) (netip.AddrPort, error) {
	port := q.Port
	if port == 0 {
		port = defaultPort
	}
	if q.Resolver.IsValid() {
		return netip.AddrPortFrom(q.Resolver.Unmap(), port), nil
	}
	var stub netip.Addr
	for _, file := range in.opt.Configs {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(raw) {
			fields := bytes.Fields(line)
			if len(fields) < 2 || string(fields[0]) != "nameserver" {
				continue
			}
			a, err := netip.ParseAddr(string(fields[1]))
			switch {
			case err != nil:
			case !a.IsLoopback():
				return netip.AddrPortFrom(a.Unmap(), port), nil
			case !stub.IsValid():
				stub = a
			}
		}
	}
	if stub.IsValid() {
		return netip.AddrPortFrom(stub.Unmap(), port), nil
	}
	return netip.AddrPort{}, errors.New("this box has no resolver: no nameserver in resolv.conf")
}

// refusal is an answer that is none.
type refusal struct {
	reason measure.Reason
	what   string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.what }

// ask tries until there is an answer. took is the time from the question that was
// answered to its answer.
func (in *Instrument) ask(ctx context.Context, account *ledger.Group, name string, resolver netip.AddrPort) (took time.Duration, tried int, err error) {
	for tried = 1; ; tried++ {
		took, err = in.try(ctx, account, name, resolver)
		_, told := errors.AsType[*refusal](err)
		if err == nil || told || tried == tries || ctx.Err() != nil || failure.ReasonOf(err) != measure.ReasonTimeout {
			return took, tried, err
		}
	}
}

// try asks once, from a port and with an id of its own.
func (in *Instrument) try(ctx context.Context, account *ledger.Group, name string, resolver netip.AddrPort) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, in.opt.Wait)
	defer cancel()
	asked, err := wireName(name)
	if err != nil {
		return 0, err
	}
	var id [2]byte
	rand.Read(id[:])
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(id[0])<<8 | uint16(id[1]), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: asked, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	packet, err := m.Pack()
	if err != nil {
		return 0, err
	}
	conn, err := account.DialContext(ctx, "udp", resolver.String()) // connected: only the resolver is heard
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	start := time.Now()
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	buf := make([]byte, maxAnswer)
	var nonsense error
	for {
		n, err := conn.Read(buf)
		took := time.Since(start)
		if err != nil {
			if nonsense != nil && ctx.Err() != nil {
				return 0, nonsense
			}
			return 0, err
		}
		switch ours, err := answer(buf[:n], m.Header.ID, m.Questions[0]); {
		case ours:
			return took, err
		default:
			nonsense = err // a forgery, perhaps: the true answer may follow
		}
	}
}

// maxRecords is how many records of an answer are looked at.
const maxRecords = 64

// answer reads a packet. ours is false, with the reason, if it is not the answer
// to the question; err says why an answer is none.
func answer(packet []byte, id uint16, q dnsmessage.Question) (ours bool, err error) {
	malformed := func(what string) error { return &refusal{measure.ReasonMalformed, what} }
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.ID != id || !h.Response {
		return false, malformed("something that is no answer")
	}
	got, err := p.Question()
	if err != nil || got.Type != q.Type || got.Class != q.Class || !strings.EqualFold(got.Name.String(), q.Name.String()) {
		return false, malformed("the answer to another question")
	}
	if err := p.SkipAllQuestions(); err != nil {
		return false, malformed("something that is no answer")
	}
	if h.RCode != dnsmessage.RCodeSuccess {
		return true, &refusal{measure.ReasonDNS, rcode(h.RCode)}
	}
	addresses := 0
	for range maxRecords {
		r, err := p.AnswerHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil {
			return true, malformed("an answer that cannot be read")
		}
		if r.Type != dnsmessage.TypeA {
			if err := p.SkipAnswer(); err != nil {
				return true, malformed("an answer that cannot be read")
			}
			continue
		}
		a, err := p.AResource()
		if err != nil {
			return true, malformed("an answer that cannot be read")
		}
		if addr := netip.AddrFrom4(a.A); names.Home(addr) {
			return true, &refusal{measure.ReasonRedirect, fmt.Sprintf("%v, %v", addr, names.ErrHome)}
		}
		addresses++
	}
	switch {
	case addresses > 0:
		return true, nil
	case h.Truncated:
		return true, &refusal{measure.ReasonShortBody, "an answer that was cut off"}
	}
	return true, &refusal{measure.ReasonDNS, "the name has no IPv4 address"}
}

func rcode(c dnsmessage.RCode) string {
	switch c {
	case dnsmessage.RCodeNameError:
		return "the name does not exist (NXDOMAIN)"
	case dnsmessage.RCodeServerFailure:
		return "it could not find out (SERVFAIL)"
	case dnsmessage.RCodeRefused:
		return "it will not answer (REFUSED)"
	}
	return fmt.Sprintf("error %d", c)
}

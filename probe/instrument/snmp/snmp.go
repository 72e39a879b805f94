// Package snmp asks one device of the house (the village's router, its ONT) for
// a few figures, by SNMP version 2c or 3.
//
// It guarantees bounded time and memory whatever answers, that every byte is in
// the ledger, and that an error knows its reason. What came is what was asked
// for: another object's value, a value of another sort, a table without an end are
// refused. It only reads.
//
// It refuses to resolve names, and shows no secret: see [secret.Text].
package snmp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gosnmp/gosnmp"

	"github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

const (
	// patience is how long each answer is waited for: a device of the house answers
	// within milliseconds, a small one that is busy within a second or so.
	patience = 1500 * time.Millisecond
	retries  = 1
	// maxText is how much of a text is read, in bytes.
	maxText = 255
)

// MaxObjects is how many objects can be asked for at once: a small agent's answer
// must fit into its datagram.
const MaxObjects = 16

// Failure is an error with its reason.
type Failure struct {
	Reason measure.Reason
	What   string
}

func (f *Failure) Error() string { return f.What }

// ReasonOf gives an error of this package its reason.
func ReasonOf(err error) measure.Reason {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Reason
	}
	return failure.ReasonOf(err)
}

// Malformed is the failure of an answer that cannot be.
func Malformed(format string, args ...any) error {
	return &Failure{measure.ReasonMalformed, fmt.Sprintf(format, args...)}
}

// Session is a conversation with one device. It is not safe for concurrent use.
type Session struct {
	client  *gosnmp.GoSNMP
	account *ledger.Group
	device  string
}

// Dial readies a session; nothing is sent yet. It must be closed. It lives no
// longer than ctx.
func Dial(ctx context.Context, a Access, l *ledger.Ledger) (*Session, error) {
	if wrong := a.Check(); len(wrong) > 0 {
		return nil, &Failure{measure.ReasonNoTarget, fmt.Sprintf("the access by SNMP is not settled: %v", wrong)}
	}
	at, err := a.endpoint()
	if err != nil {
		return nil, err
	}
	g := &gosnmp.GoSNMP{Target: at.Addr().String(), Port: at.Port(), Transport: "udp", Context: ctx,
		Timeout: patience, Retries: retries, MaxOids: MaxObjects}
	a.fill(g)
	if err := g.Connect(); err != nil { // makes a socket, sends nothing
		return nil, explain(ctx, at.String(), err)
	}
	_ = g.Conn.Close()
	account := l.Group()
	if g.Conn, err = account.DialContext(ctx, "udp", at.String()); err != nil { // one that is counted
		account.CloseAll()
		return nil, explain(ctx, at.String(), err)
	}
	return &Session{client: g, account: account, device: at.String()}, nil
}

// Close ends the session and returns what it moved, in bytes of layer 2.
func (s *Session) Close() (received, sent uint64) {
	s.account.CloseAll()
	return s.account.Own()
}

// Value is what a device says of one object.
type Value struct {
	sort   gosnmp.Asn1BER
	signed int64
	number uint64
	text   string
}

// Missing reports whether the device has no such object.
func (v Value) Missing() bool {
	switch v.sort {
	case 0, gosnmp.NoSuchObject, gosnmp.NoSuchInstance, gosnmp.EndOfMibView, gosnmp.Null:
		return true
	}
	return false
}

// Counter32 is the value of a Counter32.
func (v Value) Counter32() (uint32, bool) { return uint32(v.number), v.sort == gosnmp.Counter32 }

// Counter64 is the value of a Counter64.
func (v Value) Counter64() (uint64, bool) { return v.number, v.sort == gosnmp.Counter64 }

// Ticks is the value of a TimeTicks, in hundredths of a second.
func (v Value) Ticks() (uint32, bool) { return uint32(v.number), v.sort == gosnmp.TimeTicks }

// Gauge is the value of a Gauge32 (Unsigned32).
func (v Value) Gauge() (uint32, bool) {
	return uint32(v.number), v.sort == gosnmp.Gauge32 || v.sort == gosnmp.Uinteger32
}

// Integer is the value of an INTEGER (Integer32).
func (v Value) Integer() (int64, bool) { return v.signed, v.sort == gosnmp.Integer }

// Text is the value of an OCTET STRING as far as it can be printed.
func (v Value) Text() (string, bool) { return v.text, v.sort == gosnmp.OctetString }

func read(p gosnmp.SnmpPDU) (v Value, err error) {
	v.sort = p.Type
	switch p.Type {
	case gosnmp.Integer:
		n, ok := p.Value.(int)
		if !ok || int64(n) != int64(int32(n)) {
			return v, Malformed("an integer of more than 32 bits")
		}
		v.signed = int64(n)
	case gosnmp.Counter32, gosnmp.Gauge32, gosnmp.TimeTicks, gosnmp.Uinteger32, gosnmp.Counter64:
		n := gosnmp.ToBigInt(p.Value)
		if !n.IsUint64() || p.Type != gosnmp.Counter64 && n.BitLen() > 32 {
			return v, Malformed("a number that does not fit its sort")
		}
		v.number = n.Uint64()
	case gosnmp.OctetString:
		b, ok := p.Value.([]byte)
		if !ok {
			return v, Malformed("a text that is none")
		}
		v.text = printable(string(b[:min(len(b), maxText)]))
	}
	return v, nil
}

// printable makes text of a stranger fit to be compared and shown.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
}

// Get asks for objects by their instances (1.3.6.1.2.1.1.3.0), at most
// [MaxObjects]: one value each, in their order. One that the device does not have
// is missing, not an error.
func (s *Session) Get(oids ...string) ([]Value, error) {
	packet, err := s.client.Get(dotted(oids))
	if err != nil {
		return nil, s.explain(err)
	}
	if err := s.refused(packet); err != nil {
		return nil, err
	}
	if len(packet.Variables) != len(oids) {
		return nil, Malformed("%s: %d values for %d objects", s.device, len(packet.Variables), len(oids))
	}
	values := make([]Value, len(oids))
	for i, p := range packet.Variables {
		if strings.TrimPrefix(p.Name, ".") != oids[i] {
			return nil, Malformed("%s: a value of %.60s, asked for %s", s.device, p.Name, oids[i])
		}
		if values[i], err = read(p); err != nil {
			return nil, fmt.Errorf("%s: %w", s.device, err)
		}
	}
	return values, nil
}

// Row is one row of a column: the index behind the column's identifier.
type Row struct {
	Index string // such as 3, or 1.2
	Value Value
}

// Walk reads a column of a table row by row, at most most rows. A table that does
// not end there is an error, as is one that does not rise.
func (s *Session) Walk(column string, most int) ([]Row, error) {
	var rows []Row
	at := column
	for {
		packet, err := s.client.GetBulk(dotted([]string{at}), 0, MaxObjects)
		if err != nil {
			return nil, s.explain(err)
		}
		if err := s.refused(packet); err != nil {
			return nil, err
		}
		if len(packet.Variables) == 0 || len(packet.Variables) > MaxObjects {
			return nil, Malformed("%s: %d rows at once", s.device, len(packet.Variables))
		}
		for _, p := range packet.Variables {
			name := strings.TrimPrefix(p.Name, ".")
			index, inside := strings.CutPrefix(name, column+".")
			if !inside || p.Type == gosnmp.EndOfMibView {
				return rows, nil
			}
			if !rises(at, name) {
				return nil, Malformed("%s: a table that goes back from %.60s to %.60s", s.device, at, name)
			}
			if len(rows) == most {
				return nil, Malformed("%s: more than %d rows in %s", s.device, most, column)
			}
			v, err := read(p)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.device, err)
			}
			rows = append(rows, Row{Index: index, Value: v})
			at = name
		}
	}
}

// rises reports whether object identifier b comes after a.
func rises(a, b string) bool {
	for {
		var x, y string
		var moreA, moreB bool
		x, a, moreA = strings.Cut(a, ".")
		y, b, moreB = strings.Cut(b, ".")
		m, errX := strconv.ParseUint(x, 10, 32)
		n, errY := strconv.ParseUint(y, 10, 32)
		switch {
		case errX != nil || errY != nil:
			return false
		case m != n:
			return m < n
		case !moreA || !moreB:
			return !moreA && moreB
		}
	}
}

func dotted(oids []string) []string {
	out := make([]string, len(oids))
	for i, o := range oids {
		out[i] = "." + o
	}
	return out
}

// refused reads a device's error status (RFC 3416, section 3).
func (s *Session) refused(p *gosnmp.SnmpPacket) error {
	switch p.Error {
	case gosnmp.NoError:
		if p.PDUType != gosnmp.GetResponse {
			return Malformed("%s: %v in place of an answer", s.device, p.PDUType)
		}
		return nil
	case gosnmp.NoAccess, gosnmp.AuthorizationError:
		return &Failure{measure.ReasonPermission, s.device + " does not let this be read"}
	}
	return &Failure{measure.ReasonOther, fmt.Sprintf("%s answers with error %v", s.device, p.Error)}
}

func (s *Session) explain(err error) error { return explain(s.client.Context, s.device, err) }

// notAuthentic is in the client's error for an answer that does not prove that it
// knows the password: such are a device's own words that it does not know user or
// password, since whom would it prove that to?
const notAuthentic = "not authentic"

// explain gives an error of the client its reason.
func explain(ctx context.Context, device string, err error) error {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	fail := func(r measure.Reason, what string) error { return &Failure{r, device + " " + what} }
	switch reason := failure.ReasonOf(err); {
	case errors.Is(ctx.Err(), context.Canceled):
		return fail(measure.ReasonCancelled, "was not waited for")
	case is(gosnmp.ErrUnknownUsername, gosnmp.ErrWrongDigest), strings.Contains(err.Error(), notAuthentic):
		return fail(measure.ReasonPermission, "does not take this user or this password (auth), or wants another protocol")
	case is(gosnmp.ErrDecryption):
		return fail(measure.ReasonPermission, "does not take the password (privacy), or uses another protocol")
	case is(gosnmp.ErrUnknownSecurityLevel):
		return fail(measure.ReasonPermission, "does not let this user ask with, or without, auth and privacy")
	case is(gosnmp.ErrMaxRetriesExceeded, context.DeadlineExceeded), reason == measure.ReasonTimeout:
		return fail(measure.ReasonTimeout, "does not answer by SNMP: another address, community or version, or it is switched off there")
	case reason == measure.ReasonOther:
		return fail(measure.ReasonMalformed, "answers with what is no SNMP")
	default:
		return &Failure{reason, device + ": " + err.Error()}
	}
}

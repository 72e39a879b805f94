// Package page measures how long a page of the web takes to begin: the services
// that a village's cooperative lives on, named in the inventory.
//
// It guarantees a result for every page in bounded time, with the parts of which
// it is made (look-up, connection, TLS), and that only the page itself counts:
// status 200, from a server whose certificate is right. It reads the head of the
// answer and then ends the connection with a reset; a page costs a TLS handshake
// (4.7 kB with one small certificate, more with a chain) and what the server had
// sent by then, whatever its size.
//
// It refuses what a network may answer in the page's place: a redirect, a name
// that resolves into the house, another status, half an answer. Each is a failure,
// never a time. It follows no redirect: the inventory names the page itself.
package page

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/instrument/internal/names"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same line would give other figures.
const (
	Method        = "http-1.1"
	MethodVersion = "1"
)

// MaxPages is how many pages there may be.
const MaxPages = 8

// DefaultLimit is the longest that one page takes.
const DefaultLimit = 15 * time.Second

const (
	maxAddresses  = 3        // of a name that are tried
	maxHead       = 64 << 10 // bytes of an answer's head
	maxProvisions = 4        // answers of the 1xx kind before the real one
)

// Page is what to ask for.
type Page struct {
	ID  measure.TargetID
	URL string // http or https, with a path and a query if need be
}

// Options of an Instrument.
type Options struct {
	Pages []Page
	Limit time.Duration // for each page. 0: DefaultLimit
	// Now judges certificates: a box without a battery has no clock to do it with.
	// nil: the system's clock.
	Now    func() time.Time
	Roots  *x509.CertPool // nil: the system's
	Ledger *ledger.Ledger // where the bytes are entered. nil: nowhere
}

// Instrument asks for pages. Make it with New.
type Instrument struct {
	opt   Options
	pages []page
}

type page struct {
	id   measure.TargetID
	url  *url.URL
	port uint16
}

// New makes an instrument. The error names every page that cannot be asked for.
func New(o Options) (*Instrument, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	in := &Instrument{opt: o}
	var errs []error
	if len(o.Pages) > MaxPages {
		errs = append(errs, fmt.Errorf("page: %d pages: at most %d", len(o.Pages), MaxPages))
	}
	seen := make(map[measure.TargetID]bool)
	for i, p := range o.Pages {
		where := fmt.Sprintf("page: page %d (%q)", i+1, p.ID)
		if p.ID == "" || seen[p.ID] {
			errs = append(errs, fmt.Errorf("%s: an id is needed that no other page has", where))
		}
		seen[p.ID] = true
		u, port, err := parse(p.URL)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		in.pages = append(in.pages, page{p.ID, u, port})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return in, nil
}

func parse(s string) (*url.URL, uint16, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, 0, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, 0, fmt.Errorf("%q: an address such as https://www.example.id/ is needed", s)
	}
	port := map[string]uint16{"http": 80, "https": 443}[u.Scheme]
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return nil, 0, fmt.Errorf("%q: port %s: 1 to 65535", s, u.Port())
		}
		port = uint16(n)
	}
	return u, port, nil
}

// Measure asks for every page, one after the other: one result each, in their
// order. The values of an ok result are http_first_byte_seconds and, where there
// was such a part, http_lookup_seconds, http_connect_seconds, http_tls_seconds.
//
// A result fails with dns, refused, unreachable, timeout or tls where one of the
// parts did; with redirect if the answer is one, or if the name stands for an
// address of a home network; with http_status if it is not 200, short_body if it
// ends before its head does, malformed if it is no HTTP, cancelled if ctx ends
// first. Event time and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) []measure.Result {
	out := make([]measure.Result, 0, len(in.pages))
	for _, p := range in.pages {
		out = append(out, in.one(ctx, p))
	}
	return out
}

func (in *Instrument) one(ctx context.Context, p page) measure.Result {
	res := measure.Result{Kind: measure.KindHTTP, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion, Target: p.id}
	account := in.opt.Ledger.Group()
	limited, cancel := context.WithTimeout(ctx, in.opt.Limit)
	defer cancel()
	v := visit{opt: in.opt, page: p, account: account, begun: time.Now()}
	err := v.fetch(limited)
	account.CloseAll()
	res.BytesReceived, res.BytesSent = account.Own()
	res.Duration = time.Since(v.begun)
	switch wrong, told := errors.AsType[*refusal](err); {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case told:
		return res.Fail(wrong.reason, wrong.what)
	case errors.Is(err, names.ErrHome):
		return res.Fail(measure.ReasonRedirect, err.Error())
	case err != nil && limited.Err() != nil:
		return res.Fail(measure.ReasonTimeout, fmt.Sprintf("nothing within %v, %s", in.opt.Limit, v.doing))
	case err != nil:
		return res.Fail(failure.ReasonOf(err), v.doing+": "+err.Error())
	}
	res.Values = v.values
	return res
}

// refusal is an answer that is not the page.
type refusal struct {
	reason measure.Reason
	what   string
}

func (r *refusal) Error() string { return string(r.reason) + ": " + r.what }

// visit is one page being asked for.
type visit struct {
	opt     Options
	page    page
	account *ledger.Group
	begun   time.Time
	doing   string // for whom asks why it failed
	values  []measure.Value
}

// took enters the time since, as one part.
func (v *visit) took(m measure.Metric, since time.Time) {
	v.values = append(v.values, measure.Value{Metric: m, Number: time.Since(since).Seconds()})
}

func (v *visit) fetch(ctx context.Context) error {
	host := v.page.url.Hostname()
	v.doing = "look-up"
	addrs, err := names.Lookup(ctx, v.account.DialContext, host, v.opt.Limit/2)
	if err != nil {
		return err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		v.took(measure.HTTPLookupSeconds, v.begun)
	}
	v.doing = "connection"
	since := time.Now()
	conn, err := v.connect(ctx, addrs[:min(len(addrs), maxAddresses)])
	if err != nil {
		return err
	}
	v.took(measure.HTTPConnectSeconds, since)
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if v.page.url.Scheme == "https" {
		v.doing = "TLS"
		since = time.Now()
		secure := tls.Client(conn, &tls.Config{ServerName: host, RootCAs: v.opt.Roots, Time: v.opt.Now,
			NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12})
		if err := secure.HandshakeContext(ctx); err != nil {
			return certainly(err)
		}
		v.took(measure.HTTPTLSSeconds, since)
		conn = secure
	}
	v.doing = "answer"
	return v.ask(ctx, conn)
}

// connect tries one address after the other, each with its share of the time.
func (v *visit) connect(ctx context.Context, addrs []netip.Addr) (net.Conn, error) {
	var errs []error
	for i, a := range addrs {
		each, cancel := context.WithTimeout(ctx, v.opt.Limit/2/time.Duration(len(addrs)-i))
		conn, err := v.account.DialContext(each, "tcp", netip.AddrPortFrom(a, v.page.port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// certainly makes what a TLS handshake says of a stranger a matter of TLS: a
// plain server, a captive portal that hangs up.
func certainly(err error) error {
	if r := failure.ReasonOf(err); r == measure.ReasonOther || r == measure.ReasonShortBody {
		return &refusal{measure.ReasonTLS, err.Error()}
	}
	return err
}

// ask sends the request and reads the head of the answer.
func (v *visit) ask(ctx context.Context, conn net.Conn) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.page.url.String(), nil)
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("User-Agent", "pantau-desa") // so that an operator who sees it knows whose it is
	req.Header.Set("Accept", "text/html, */*;q=0.5")
	if err := req.Write(conn); err != nil {
		return err
	}
	head := &headReader{from: conn, left: maxHead}
	in := bufio.NewReader(head)
	if _, err := in.Peek(1); err != nil {
		return err
	}
	v.took(measure.HTTPFirstByteSeconds, v.begun)
	for range maxProvisions {
		resp, err := http.ReadResponse(in, req)
		switch {
		case err != nil && head.end != nil:
			return head.end // what it broke off with makes a poor error
		case err != nil:
			return &refusal{measure.ReasonMalformed, err.Error()}
		case resp.StatusCode >= 300 && resp.StatusCode < 400:
			return &refusal{measure.ReasonRedirect, fmt.Sprintf("%d to %q", resp.StatusCode, measure.Clip(resp.Header.Get("Location")))}
		case resp.StatusCode == http.StatusOK:
			return nil
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return &refusal{measure.ReasonHTTPStatus, "status " + strconv.Itoa(resp.StatusCode)}
		}
	}
	return &refusal{measure.ReasonMalformed, "provisional answers without an end"}
}

// headReader reads at most so many bytes, and remembers why it ended.
type headReader struct {
	from io.Reader
	left int
	end  error // nil: it has not
}

func (h *headReader) Read(b []byte) (n int, err error) {
	if h.left <= 0 {
		h.end = &refusal{measure.ReasonMalformed, fmt.Sprintf("a head of more than %d bytes", maxHead)}
		return 0, h.end
	}
	n, err = h.from.Read(b[:min(len(b), h.left)])
	h.left -= n
	if err != nil {
		h.end = err
	}
	return n, err
}

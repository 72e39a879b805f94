package reference

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/showwin/speedtest-go/speedtest"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	// tick is how often the bytes are looked at.
	tick = 50 * time.Millisecond
	// silence is how long no byte may have come when a test ends. After a longer
	// one it goes on until bytes flow again or StallTime is over: a server that
	// died shortly before the end must not pass for a slow line.
	silence = 5 * tick
	// margin is how much longer than that speedtest-go is told to go on: the test
	// ends it, not its own clock, so that bytes and time end together.
	margin = time.Second
	// grace is how long speedtest-go may take to end once it has no connection.
	grace     = 3 * time.Second
	userAgent = "pantau-probe (speedtest-go)"
)

// transfer is one test of one direction. It is the HTTP transport that
// speedtest-go is given: each of its requests passes through RoundTrip.
type transfer struct {
	i     *Instrument
	base  *url.URL
	kind  measure.Kind
	group *ledger.Group
	http  *http.Transport
	done  chan struct{} // closed when speedtest-go has returned; nil before it is started

	ctx context.Context // ends with the caller's, and on the first failure
	end context.CancelCauseFunc

	length  int64  // of the object, as the check before the test saw it
	server  string // the server's congestion control, if it says
	written bool   // an upload for which the kernel does not tell what was acknowledged
	starved bool
}

func newTransfer(ctx context.Context, i *Instrument, base *url.URL, kind measure.Kind) *transfer {
	t := &transfer{i: i, base: base, kind: kind, group: i.o.Ledger.Group()}
	t.ctx, t.end = context.WithCancelCause(ctx)
	t.http = &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, i.o.CheckTime)
			defer cancel()
			return t.group.DialContext(ctx, network, addr)
		},
		TLSClientConfig:     i.o.TLS.Clone(),
		TLSHandshakeTimeout: i.o.CheckTime,
		DisableCompression:  true,
		MaxIdleConnsPerHost: i.o.Threads,
		ReadBufferSize:      64 << 10,
		WriteBufferSize:     64 << 10,
		Protocols:           new(http.Protocols),
	}
	t.http.Protocols.SetHTTP1(true)
	return t
}

// measure returns the rate in bits per second.
func (t *transfer) measure() (float64, error) {
	if err := t.check(); err != nil {
		return 0, err
	}
	if t.kind == measure.KindUpload { // decided once: a mixture would be neither
		_, acked := t.group.Acked()
		t.written = !acked
	}
	t.done = make(chan struct{})
	go func() { // stop waits for it
		defer close(t.done)
		t.i.library(t)
	}()

	o := t.i.o
	begin, cpu := time.Now(), server.ProcessCPU()
	due := begin
	timer := time.NewTimer(0)
	defer timer.Stop()
	var (
		quarter      time.Time
		bytesQuarter uint64
		bytes        = t.bytes()
		progress     = begin
		ticks, late  int
		silent       int // ticks since progress
		last         = begin.Add(o.Duration)
	)
	for {
		select {
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		case <-t.done:
			if err := context.Cause(t.ctx); err != nil {
				return 0, err
			}
			return 0, server.Fail(measure.ReasonCPUStarved, "this box was too busy to end the test in time")
		case <-timer.C:
		}
		now, b := time.Now(), t.bytes()
		ticks++
		if now.Sub(due) > tick/2 {
			late++
		}
		if b > bytes {
			bytes, progress = b, now
			silent = 0
		} else if silent++; now.Sub(progress) > o.StallTime && time.Duration(silent)*tick >= o.StallTime/2 {
			// Half the looks at least: a box that does not get to look has not
			// seen a silence.
			return 0, server.Fail(measure.ReasonStalled, "no byte for %v, %v into the test",
				o.StallTime, now.Sub(begin).Round(time.Second/10))
		}
		if quarter.IsZero() && now.Sub(begin) >= o.Duration/4 {
			quarter, bytesQuarter = now, b
		}
		if !now.Before(last) && b > bytesQuarter && now.Sub(progress) < silence {
			if t.ctx.Err() != nil {
				return 0, context.Cause(t.ctx)
			}
			used := (server.ProcessCPU() - cpu).Seconds() / now.Sub(begin).Seconds()
			t.starved = late*5 > ticks || used > 0.9*float64(runtime.GOMAXPROCS(0))
			return float64(b-bytesQuarter) * 8 / now.Sub(quarter).Seconds(), nil
		}
		due = now.Add(tick)
		if now.Before(last) && due.After(last) {
			due = last
		}
		timer.Reset(time.Until(due))
	}
}

// bytes is the payload that has passed so far.
func (t *transfer) bytes() uint64 {
	if t.kind == measure.KindDownload {
		return t.group.Received()
	}
	if t.written {
		return t.group.Written()
	}
	b, _ := t.group.Acked()
	return b
}

// stop ends the test and waits for speedtest-go. It returns nil, or, if that
// does not end, a channel that is closed once it has.
func (t *transfer) stop() <-chan struct{} {
	t.end(errStopped)
	t.group.CloseAll()
	t.http.CloseIdleConnections()
	if t.done == nil {
		return nil
	}
	limit := time.NewTimer(grace)
	defer limit.Stop()
	select {
	case <-t.done:
		return nil
	case <-limit.C:
		return t.done
	}
}

var errStopped = errors.New("the test is over")

// flags qualify the number.
func (t *transfer) flags() []measure.Flag {
	var fs []measure.Flag
	if t.starved {
		fs = append(fs, measure.FlagCPUBound)
	}
	if t.written {
		fs = append(fs, FlagWritten)
	}
	if t.server != "" {
		fs = append(fs, measure.Flag(server.FlagCongestionPrefix+t.server))
	}
	return fs
}

// check makes sure, before any bulk data, that what answers is a measurement
// server: the latency file, then the path of the direction.
func (t *transfer) check() error {
	err := t.ask(http.MethodGet, "latency.txt", nil, func(resp *http.Response) error {
		b, err := io.ReadAll(io.LimitReader(resp.Body, 64))
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(b)) != server.Latency {
			return server.Fail(measure.ReasonNoServer, "latency.txt holds %q: not a measurement server", b)
		}
		t.server = server.CongestionControl(resp.Header)
		return nil
	})
	switch f := server.Explain(err); {
	case err == nil:
	case f.Reason == measure.ReasonShortBody || f.Reason == measure.ReasonOther:
		return &server.Failure{Reason: measure.ReasonNoServer, Detail: f.Detail} // it took the connection and does not speak HTTP
	default:
		return f
	}
	if t.kind == measure.KindUpload {
		return t.ask(http.MethodPost, "upload.php", t.noise(), func(resp *http.Response) error {
			_, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
			return err
		})
	}
	return t.ask(http.MethodGet, "random1000x1000.jpg", nil, func(resp *http.Response) error {
		if t.length = resp.ContentLength; t.length < server.MinObject {
			return server.Fail(measure.ReasonShortBody, "the object announces %d bytes, want %d at least", t.length, server.MinObject)
		}
		_, err := io.ReadFull(resp.Body, make([]byte, 4096))
		return err // the rest is not wanted: closing the body resets the connection
	})
}

// ask sends one request and lets read look at a good response.
func (t *transfer) ask(method, name string, body []byte, read func(*http.Response) error) error {
	ctx, cancel := context.WithTimeout(t.ctx, t.i.o.CheckTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.base.JoinPath(name).String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	t.introduce(req)
	resp, err := t.http.RoundTrip(req) // not a Client: it would follow redirects
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := server.GoodStatus(resp); err != nil {
		return err
	}
	return read(resp)
}

// introduce says who asks, and by which ticket.
func (t *transfer) introduce(req *http.Request) {
	req.Header.Set("User-Agent", userAgent)
	if token := server.Ticket(t.ctx); token != "" {
		req.Header.Set(wire.HeaderTicket, token)
	}
}

// runLibrary has speedtest-go transfer until it is stopped. It makes no use of
// speedtest.New, which sets http.DefaultClient's transport.
func runLibrary(t *transfer) {
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	st := &speedtest.Speedtest{Manager: speedtest.NewDataManager()}
	speedtest.WithDoer(client)(st)
	st.SetNThread(t.i.o.Threads)
	st.SetCaptureTime(t.i.o.Duration + t.i.o.StallTime + margin)
	st.SetRateCaptureFrequency(time.Hour) // its rate, and its early stop, are not wanted
	server := &speedtest.Server{URL: t.base.JoinPath("upload.php").String(), Context: st}
	if t.kind == measure.KindDownload {
		server.DownloadTestContext(t.ctx)
	} else {
		server.UploadTestContext(t.ctx)
	}
}

// RoundTrip carries one request of speedtest-go and ends the test if the answer
// is not what it should be.
//
// After the end it ends the calling goroutine. speedtest-go's workers come back
// with the next request at once, whatever they are told, until a timer of
// theirs goes off; they do release what they hold when they unwind.
func (t *transfer) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.ctx.Err() != nil {
		runtime.Goexit()
	}
	out := req.Clone(req.Context())
	t.introduce(out)
	var up *upload
	if req.Body != nil && req.Body != http.NoBody {
		up = &upload{ReadCloser: req.Body, noise: t.i.noise, at: rand.IntN(len(t.i.noise))}
		out.Body = up
	}
	resp, err := t.http.RoundTrip(out)
	if err == nil {
		if err = t.good(resp, out, up); err != nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		t.fail(req.Context(), err)
		return nil, err
	}
	resp.Body = &download{ReadCloser: resp.Body, t: t, ctx: req.Context()}
	return resp, nil
}

// good checks a response during the test.
func (t *transfer) good(resp *http.Response, req *http.Request, up *upload) error {
	if err := server.GoodStatus(resp); err != nil {
		return err
	}
	switch {
	case up != nil && up.sent.Load() < req.ContentLength:
		return server.Fail(measure.ReasonShortBody, "the server answered after %d of %d bytes", up.sent.Load(), req.ContentLength)
	case up == nil && resp.ContentLength != t.length:
		return server.Fail(measure.ReasonShortBody, "the object announces %d bytes, before the test it was %d", resp.ContentLength, t.length)
	}
	return nil
}

// fail ends the test with its first failure. What fails because the request's
// own time is over is none.
func (t *transfer) fail(ctx context.Context, err error) {
	if ctx.Err() == nil {
		t.end(server.Explain(err))
	}
}

// upload replaces the content of a request body, which in speedtest-go is one
// byte repeated (a compressing link would carry that for nothing), and counts it.
type upload struct {
	io.ReadCloser
	noise []byte
	at    int
	sent  atomic.Int64
}

func (u *upload) Read(b []byte) (int, error) {
	n, err := u.ReadCloser.Read(b)
	for c := b[:n]; len(c) > 0; {
		m := copy(c, u.noise[u.at:])
		c = c[m:]
		u.at = (u.at + m) % len(u.noise)
	}
	u.sent.Add(int64(n))
	return n, err
}

// download notices a body that breaks off. net/http compares its length with
// the announced one.
type download struct {
	io.ReadCloser
	t   *transfer
	ctx context.Context
}

func (d *download) Read(b []byte) (int, error) {
	n, err := d.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		d.t.fail(d.ctx, err)
	}
	return n, err
}

// noise is a small upload body.
func (t *transfer) noise() []byte { return t.i.noise[:1000] }

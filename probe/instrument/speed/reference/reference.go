// Package reference measures how fast a line carries bulk data down and up, with
// the transfers of speedtest-go, fenced in, against a server that speaks Ookla's HTTP paths:
// the goodput of several TCP streams at once.
//
// It guarantees that a number is a measurement. speedtest-go returns one for a
// 404, a captive portal, a refused connection or a server that died half-way, so
// its own figure is discarded, every response it gets is checked on the way, and
// the rate is made of bytes counted at the sockets over monotonic time. Whatever
// does not hold is a failure with its reason. Measure returns in bounded time,
// cancelled at once, and leaves no connection behind.
//
// It refuses redirects, proxies, HTTP/2 (which would put all streams on one
// connection) and a second test while one runs. It leaves http.DefaultClient as
// it was, which importing speedtest-go alone does not.
package reference

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/showwin/speedtest-go/speedtest"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference/internal/defaultclient"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// InstrumentName names what transferred; MethodVersion what was made of it.
//
// Version 1: the payload at the sockets from the first quarter of the transfer
// to its end. Down that is bytes read, up bytes that the other end's TCP has
// acknowledged (behind a splitting proxy: the proxy's).
const (
	InstrumentName = "speedtest-go"
	MethodVersion  = "1"
)

// FlagWritten marks an upload for which the kernel did not tell what was
// acknowledged, so that bytes handed to it were counted: too high on slow lines by
// what its buffers hold.
const FlagWritten measure.Flag = "written_not_acked"

// Options of an Instrument.
type Options struct {
	// Ledger opens and counts the connections. Required.
	Ledger *ledger.Ledger
	// Logger hears of what Results do not tell. The default discards.
	Logger *slog.Logger
	// Now reads the box's clocks. The default is the kernel's.
	Now func() clock.Reading
	// TLS is used for https servers; nil trusts the system's authorities.
	TLS *tls.Config
	// Threads is the number of streams (default 8, so that every device
	// measures alike).
	Threads int
	// Duration of a transfer, one direction (default 10 s).
	Duration time.Duration
	// CheckTime is the longest wait for a connection and for each answer before
	// the transfer (default 10 s).
	CheckTime time.Duration
	// StallTime without a byte makes a transfer fail (default 3 s).
	StallTime time.Duration
}

// Instrument measures one direction at a time.
type Instrument struct {
	o     Options
	noise []byte
	turn  chan struct{} // held while a test runs

	// library runs speedtest-go until it returns by itself.
	library func(*transfer)
	// stuck is closed when a run of the library that did not end in time has
	// ended after all. Guarded by turn.
	stuck <-chan struct{}
}

var _ = restore()

// restore undoes what importing speedtest-go did to http.DefaultClient, unless
// another package has set its own transport since.
func restore() struct{} {
	if _, its := http.DefaultClient.Transport.(*speedtest.Speedtest); its {
		http.DefaultClient.Transport = defaultclient.Transport()
	}
	return struct{}{}
}

// New returns an instrument. It fails without a ledger, or when the kernel's
// clocks are needed and cannot be read.
func New(o Options) (*Instrument, error) {
	if o.Ledger == nil {
		return nil, errors.New("speedtest-go: Options.Ledger is required")
	}
	if o.Now == nil {
		c, err := clock.Open()
		if err != nil {
			return nil, err
		}
		o.Now = c.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Threads <= 0 {
		o.Threads = 8
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Duration, 10 * time.Second}, {&o.CheckTime, 10 * time.Second}, {&o.StallTime, 3 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	noise, err := server.NewNoise(256 << 10)
	if err != nil {
		return nil, err
	}
	return &Instrument{o: o, noise: noise, turn: make(chan struct{}, 1), library: runLibrary}, nil
}

// Measure measures one direction, [measure.KindDownload] or
// [measure.KindUpload], against the server at rawURL: "http://host:port",
// "http://host:port/speedtest" as the inventory has it, or the full address of its upload.php as Ookla's server list has it.
//
// It takes at most the connection's and two answers' CheckTime, Duration, and
// a few seconds in which speedtest-go is made to end; after ctx ends, the
// latter alone. A result that is ok carries one value, in bits per second.
func (i *Instrument) Measure(ctx context.Context, id measure.TargetID, rawURL string, kind measure.Kind) measure.Result {
	r := measure.Result{Kind: kind, Instrument: InstrumentName, MethodVersion: MethodVersion, Target: id}
	stamp := func() {
		at := i.o.Now()
		r.MeasuredAt, r.Monotonic, r.Boot = at.Wall, at.Mono, at.Boot
	}
	stamp()
	var metric measure.Metric
	switch kind {
	case measure.KindDownload:
		metric = measure.DownloadBitsPerSecond
	case measure.KindUpload:
		metric = measure.UploadBitsPerSecond
	default:
		return r.Fail(measure.ReasonInternal, fmt.Sprintf("%q is no direction", kind))
	}
	if rawURL == "" {
		return r.Skip(measure.ReasonNoTarget, "no server is configured")
	}
	base, err := server.ParseBase(rawURL)
	if err != nil {
		return r.Fail(measure.ReasonNoTarget, err.Error())
	}
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return r.Fail(server.Ended(ctx), "while another speed test was running")
	}
	if i.stuck != nil {
		select {
		case <-i.stuck:
			i.stuck = nil
		default:
			return r.Fail(measure.ReasonInternal, "an earlier run of speedtest-go has not ended: no test until it has")
		}
	}

	stamp()
	begin := time.Now()
	t := newTransfer(ctx, i, base, kind)
	rate, err := t.measure()
	if done := t.stop(); done != nil {
		i.stuck = done
		i.o.Logger.Error("speedtest-go does not end; no further speed test until it has", "target", id, "kind", kind)
		err = server.Fail(measure.ReasonInternal, "speedtest-go did not end in time")
	}
	r.Duration = time.Since(begin)
	r.BytesReceived, r.BytesSent = t.group.Own()
	if err != nil {
		f := server.Explain(err)
		if ctx.Err() != nil {
			f = server.Fail(server.Ended(ctx), "during the test")
		}
		return f.Of(r)
	}
	r.Outcome = measure.OK
	r.Values = []measure.Value{{Metric: metric, Number: rate}}
	r.Flags = t.flags()
	return r
}

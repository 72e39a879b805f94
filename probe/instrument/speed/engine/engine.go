// Package engine is our own speed instrument, for audits: the goodput of 8 or 16
// TCP streams against a measurement server that speaks Ookla's HTTP paths.
// METHOD.md, in the folder above, is the method; this is the program.
//
// It guarantees that a number is a measurement: download is what came to this
// box's sockets, upload what came to the server's, by the server's clock; both over
// monotonic time, of incompressible bytes, without an idle round trip. It ends
// as soon as four windows agree, or when time or bytes are spent. What could
// make the number another one than the line's is a flag of the result; what does
// not hold is a failure with its reason and no number. It returns in bounded
// time, at once when it is cancelled, and leaves nothing behind.
//
// It refuses redirects, proxies in the settings, HTTP/2 and a second test while
// one runs.
package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// InstrumentName and MethodVersion are what results carry. The version changes
// whenever the same line would give another figure.
const (
	InstrumentName = "pantau"
	MethodVersion  = "2"
)

// The flags that qualify a number. Beside them: streams_N, stop_stable,
// stop_limit, stop_bytes, server_cc_NAME and probe_cc_NAME.
const (
	// FlagNotSaturated: nothing shows that the line, and not the streams, held the
	// rate: losses, windows too small, or a rise to the end. The line can carry at
	// least this much.
	FlagNotSaturated measure.Flag = "not_saturated"
	// FlagUnsteady: the rate changed during the interval by more than four windows
	// that agree.
	FlagUnsteady measure.Flag = "unsteady"
	// FlagProxySuspected: the path acknowledged more than 5% more than the server
	// received, or the answers name a proxy. The figure is the server's.
	FlagProxySuspected measure.Flag = "proxy_suspected"
	// FlagAckedOnly: the server does not tell what it received: upload is what was
	// acknowledged, by a proxy's buffers too high.
	FlagAckedOnly measure.Flag = "acked_not_received"
	// FlagServerBusy: the server used more than nine tenths of its processors, or all
	// tests together of its line.
	FlagServerBusy measure.Flag = "server_busy"
	// FlagSharedLine: another probe of the site, whose line is the same, tested at the
	// same time.
	FlagSharedLine measure.Flag = "shared_line"
	// FlagTCPLatency: ICMP was not permitted or not answered: latency is TCP's own.
	FlagTCPLatency measure.Flag = "latency_from_tcp"
	// FlagNICLimited: the interface carries hardly more than was measured.
	FlagNICLimited measure.Flag = "nic_limited"
	// FlagWiFi: the box's own way to the line is radio.
	FlagWiFi measure.Flag = "wifi_path"
)

// mostBytes is the most payload of a transfer: 3 s at 1 Gbit/s.
const mostBytes = 400e6

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
	// Network is "tcp", "tcp4" or "tcp6" (default "tcp": whichever answers).
	Network string
	// Limit is the longest transfer, one direction (default 15 s).
	Limit time.Duration
	// MostBytes ends a transfer early, in bytes of payload (default, and most: 400 MB).
	MostBytes int64
	// Full has every transfer last for Limit: the audit of the early end.
	Full bool
	// NoEcho has latency taken from TCP alone: for connections that do not leave by
	// the way that an ICMP socket of this process would.
	NoEcho bool
	// Trace, if set, is told how the figure of a good result came about.
	Trace func(Trace)
	// CheckTime is the longest wait for a connection and for each first answer
	// (default 10 s).
	CheckTime time.Duration
	// StallTime without a byte makes a transfer fail (default 3 s).
	StallTime time.Duration
}

// Trace is how a figure came about, by the clock that counts, whose zero was at
// Began: the interval that was measured, when streams were added (0: never), and
// all that was known. A course can be played again with it.
type Trace struct {
	Began   time.Time     `json:"began"`
	From    time.Duration `json:"from_ns"`
	To      time.Duration `json:"to_ns"`
	Changed time.Duration `json:"changed_ns"`
	Rest    time.Duration `json:"rest_ns"` // the 95th percentile of round trips before; 0: not known
	Points  []Point       `json:"points"`
	Looks   []Look        `json:"looks"`
}

// Point is how many bytes of payload had passed at an instant.
type Point struct {
	At    time.Duration `json:"at_ns"`
	Bytes int64         `json:"bytes"`
}

// Look is what was known of the way at an instant.
type Look struct {
	At     time.Duration `json:"at_ns"`
	RTT    time.Duration `json:"rtt_ns"`     // now; 0: not known
	Echo   bool          `json:"echo"`       // it is ICMP's, not TCP's
	MinRTT time.Duration `json:"min_rtt_ns"` // the shortest one
	// Segments is how many with payload were sent so far, Again how many of them
	// again.
	Segments uint64 `json:"segments"`
	Again    uint64 `json:"again"`
}

// Instrument measures one direction at a time.
type Instrument struct {
	o     Options
	noise []byte
	turn  chan struct{} // held while a test runs
}

// New returns an instrument. It fails without a ledger, or when the kernel's
// clocks are needed and cannot be read.
func New(o Options) (*Instrument, error) {
	if o.Ledger == nil {
		return nil, errors.New("speed: Options.Ledger is required")
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
	if o.Network == "" {
		o.Network = "tcp"
	}
	if o.MostBytes <= 0 || o.MostBytes > mostBytes {
		o.MostBytes = mostBytes
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Limit, 15 * time.Second}, {&o.CheckTime, 10 * time.Second}, {&o.StallTime, 3 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	noise, err := server.NewNoise(256 << 10)
	if err != nil {
		return nil, err
	}
	return &Instrument{o: o, noise: noise, turn: make(chan struct{}, 1)}, nil
}

// Measure measures one direction, [measure.KindDownload] or
// [measure.KindUpload], against the server at rawURL: "http://host:port",
// "http://host:port/speedtest" as the inventory has it, or the full address of
// its upload.php as Ookla's server list has it.
//
// It takes at most two connections' and answers' CheckTime, an idle burst of two
// seconds, Limit and StallTime. A result that is ok carries the speed, the
// latency before and during the transfer and the share of segments sent again,
// as far as they are known.
func (i *Instrument) Measure(ctx context.Context, id measure.TargetID, rawURL string, kind measure.Kind) measure.Result {
	r := measure.Result{Kind: kind, Instrument: InstrumentName, MethodVersion: MethodVersion, Target: id}
	stamp := func() {
		at := i.o.Now()
		r.MeasuredAt, r.Monotonic, r.Boot = at.Wall, at.Mono, at.Boot
	}
	stamp()
	if kind != measure.KindDownload && kind != measure.KindUpload {
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

	stamp()
	begin := time.Now()
	t := newTransfer(ctx, i, base, kind)
	found, err := t.measure()
	t.stop()
	r.Duration = time.Since(begin)
	r.BytesReceived, r.BytesSent = t.own()
	if err != nil {
		f := server.Explain(err)
		if ctx.Err() != nil {
			f = server.Fail(server.Ended(ctx), "during the test")
		}
		return f.Of(r)
	}
	r.Outcome = measure.OK
	r.Values, r.Flags = found.values(kind), found.flags
	return r
}

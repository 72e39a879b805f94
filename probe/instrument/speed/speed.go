// Package speed measures how fast a line carries bulk data down and up: the
// goodput of several TCP streams at once, against a server that speaks Ookla's
// HTTP paths.
//
// Two instruments answer the question, and a result names its own: [Pantau], our
// engine, whose method METHOD.md writes down, for audits; and [SpeedtestGo],
// whose transfers other people's figures come from, for comparison. Both
// guarantee that a number is a measurement: a 404, a captive portal, a refused
// connection, a server that died half-way are failures with their reason, in
// bounded time, and nothing is left behind.
package speed

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/engine"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Name of an instrument.
type Name string

// The instruments.
const (
	Pantau      Name = engine.InstrumentName
	SpeedtestGo Name = reference.InstrumentName
)

// Default is the one that measures when nothing else is said.
const Default = Pantau

// Instrument measures one direction, [measure.KindDownload] or
// [measure.KindUpload], against the server at rawURL, one at a time.
type Instrument interface {
	Measure(ctx context.Context, id measure.TargetID, rawURL string, kind measure.Kind) measure.Result
}

// Options of an instrument.
type Options struct {
	Instrument Name           // empty: Default
	Ledger     *ledger.Ledger // required
	Logger     *slog.Logger   // nil: none
	TLS        *tls.Config    // for https servers; nil trusts the system's authorities
	// Duration of a transfer, one direction: at most for Pantau (0: 15 s), which
	// ends as soon as it knows, exactly for SpeedtestGo (0: 10 s).
	Duration time.Duration
	// Full has Pantau use all of Duration: the audit of its early end.
	Full bool
	// MostBytes ends a transfer of Pantau early, in bytes of payload (0, and at most: 400 MB).
	MostBytes int64
	// NoEcho has Pantau take latency from TCP alone, where ICMP would go another way.
	NoEcho bool
}

// New makes an instrument.
func New(o Options) (Instrument, error) {
	switch o.Instrument {
	case "":
		o.Instrument = Default
		return New(o)
	case Pantau:
		return engine.New(engine.Options{Ledger: o.Ledger, Logger: o.Logger, TLS: o.TLS, Limit: o.Duration, MostBytes: o.MostBytes, Full: o.Full, NoEcho: o.NoEcho})
	case SpeedtestGo:
		return reference.New(reference.Options{Ledger: o.Ledger, Logger: o.Logger, TLS: o.TLS, Duration: o.Duration})
	}
	return nil, fmt.Errorf("speed: %q is no instrument: %s or %s", o.Instrument, Pantau, SpeedtestGo)
}

// WithTicket has the tests of ctx carry a token, as the collector gave it for a
// server ([wire.HeaderTicket]).
func WithTicket(ctx context.Context, token string) context.Context {
	return server.WithTicket(ctx, token)
}

// Publishable returns r as a schedule hands it on. A figure that the box, or another
// probe's test on the same line, may have limited is none of the line's: in a series
// nobody looks at flags, so it is a failure whose detail keeps the figure.
func Publishable(r measure.Result) measure.Result {
	if r.Outcome != measure.OK {
		return r
	}
	reason, why := measure.ReasonNone, ""
	switch {
	case slices.Contains(r.Flags, measure.FlagCPUBound):
		reason, why = measure.ReasonCPUStarved, " is what this box managed, not what the line carries"
	case slices.Contains(r.Flags, engine.FlagSharedLine):
		reason, why = measure.ReasonBusyLine, " is what another probe's test left of the line"
	default:
		return r
	}
	figure := "the figure"
	for _, m := range []measure.Metric{measure.DownloadBitsPerSecond, measure.UploadBitsPerSecond} {
		if v, ok := r.Value(m); ok {
			figure = fmt.Sprintf("%.2f Mbit/s", v/1e6)
		}
	}
	return r.Fail(reason, figure+why)
}

// Blank is a result of an instrument that was not asked.
func Blank(n Name, kind measure.Kind) measure.Result {
	r := measure.Result{Kind: kind, Instrument: engine.InstrumentName, MethodVersion: engine.MethodVersion}
	if n == SpeedtestGo || n == "" && Default == SpeedtestGo {
		r.Instrument, r.MethodVersion = reference.InstrumentName, reference.MethodVersion
	}
	return r
}

// PublicServer is one of the public Ookla network.
type PublicServer = reference.PublicServer

// FlagPublic marks a result against that network: its servers are nobody's we know,
// and its way leads through networks that are not the village's.
const FlagPublic measure.Flag = "public_ookla"

// Public finds the server of the public Ookla network that answers soonest, for
// [SpeedtestGo]. That network, abroad, so learns this box's address.
func Public(ctx context.Context, o Options) (PublicServer, error) {
	return reference.Public(ctx, reference.Options{Ledger: o.Ledger, Logger: o.Logger, TLS: o.TLS})
}

// Failed is a result of an instrument for which no server was found.
func Failed(n Name, kind measure.Kind, err error) measure.Result {
	return server.Explain(err).Of(Blank(n, kind))
}

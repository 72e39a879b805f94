// Package latency measures round-trip time, jitter and loss towards one target
// with a short burst of ICMP echoes.
//
// It guarantees a result in bounded time whatever the line does, a loss ratio
// that counts every request, also one that could not be sent, and no round-trip
// time where nothing answered. In a cut it is ok with loss 1 if requests left the
// box, else failed (unreachable): see [Instrument.Measure].
package latency

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/echo"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same line would give other figures.
const (
	Method        = "pro-bing"
	MethodVersion = "1"
)

// The defaults of Options: 3.8 s at most, 1,320 bytes on an IPv4 line.
const (
	DefaultCount    = 10
	DefaultInterval = 200 * time.Millisecond
	DefaultWait     = 2 * time.Second
)

// lookupLimit bounds the resolution of the target's name.
const lookupLimit = 3 * time.Second

// Options of an Instrument.
type Options struct {
	// Target is the inventory's id of the target.
	Target measure.TargetID
	// Host is its address (IPv4 or IPv6) or name. Empty: nothing is measured.
	Host     string
	Count    int           // requests in a burst. 0: DefaultCount
	Interval time.Duration // between two requests. 0: DefaultInterval
	// Wait is how long each request is waited for; a later answer is a lost one.
	// 0: DefaultWait.
	Wait   time.Duration
	Ledger *ledger.Ledger // where the burst's bytes are entered. nil: nowhere
	Logger *slog.Logger   // nil: none
}

// Instrument measures one target. Make it with New.
type Instrument struct {
	opt      Options
	resolver *net.Resolver // nil: a counted one
}

// New makes an instrument.
func New(o Options) *Instrument {
	if o.Count <= 0 {
		o.Count = DefaultCount
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	return &Instrument{opt: o}
}

// Measure runs one burst. The values of an ok result are packet_loss_ratio and,
// if anything was answered, latency_seconds_min, _median, _p95; from two answers
// on, jitter_seconds.
//
// It is skipped with no_target if there is none. It fails with dns if the
// target's name has no address, permission if the system lets it send no ICMP,
// unreachable if every request was refused by the kernel (no route, link down),
// cancelled if ctx ends first. Event time and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindLatency, Outcome: measure.OK,
		Instrument: Method, MethodVersion: MethodVersion, Target: in.opt.Target}
	if in.opt.Host == "" {
		return res.Skip(measure.ReasonNoTarget, "no target is configured")
	}
	account := in.opt.Ledger.Group() // of the look-up; echoes have no connection
	burst, reason, detail := in.ask(ctx, account)
	account.CloseAll()
	in.opt.Ledger.AddPackets(burst.Received, burst.Transmitted)
	rx, tx := burst.Bytes()
	res.BytesReceived, res.BytesSent = account.Own()
	res.BytesReceived += rx
	res.BytesSent += tx
	res.Duration = time.Since(start)
	if reason != measure.ReasonNone {
		return res.Fail(reason, detail)
	}
	res.Values = values(burst)
	return res
}

// ask finds the target and runs the burst. A reason says why there are no values.
func (in *Instrument) ask(ctx context.Context, account *ledger.Group) (echo.Report, measure.Reason, string) {
	resolver := in.resolver
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true, Dial: account.DialContext}
	}
	addr, err := echo.Resolve(ctx, resolver, in.opt.Host, lookupLimit)
	if ctx.Err() != nil {
		return echo.Report{}, measure.ReasonCancelled, ctx.Err().Error()
	}
	if err != nil {
		return echo.Report{}, measure.ReasonDNS, err.Error()
	}
	burst, err := echo.Burst{Address: addr, Count: in.opt.Count, Interval: in.opt.Interval,
		Wait: in.opt.Wait, Logger: in.opt.Logger}.Run(ctx)
	switch {
	case ctx.Err() != nil:
		return burst, measure.ReasonCancelled, ctx.Err().Error()
	case errors.Is(err, echo.ErrPermission):
		return burst, measure.ReasonPermission, err.Error()
	case err != nil:
		return burst, measure.ReasonOther, err.Error()
	case burst.Sent == 0 && burst.Failed == 0:
		return burst, measure.ReasonInternal, "the burst ended before its first request"
	case burst.Sent == 0:
		return burst, measure.ReasonUnreachable, fmt.Sprintf("no request could be sent to %v: %v", addr, burst.SendError)
	}
	return burst, measure.ReasonNone, ""
}

// values are the figures of a burst in which at least one request left the box.
func values(b echo.Report) []measure.Value {
	asked := b.Sent + b.Failed
	vs := []measure.Value{{Metric: measure.PacketLossRatio, Number: float64(asked-len(b.RTTs)) / float64(asked)}}
	add := func(m measure.Metric, d time.Duration) {
		vs = append(vs, measure.Value{Metric: m, Number: d.Seconds()})
	}
	if len(b.RTTs) == 0 {
		return vs
	}
	sorted := slices.Sorted(slices.Values(b.RTTs))
	add(measure.LatencySecondsMin, sorted[0])
	add(measure.LatencySecondsMedian, quantile(sorted, 0.5))
	add(measure.LatencySecondsP95, quantile(sorted, 0.95))
	if j, ok := jitter(b.RTTs); ok {
		add(measure.JitterSeconds, j)
	}
	return vs
}

// quantile is the nearest-rank quantile of a sorted, non-empty sample: its
// ceil(q*n)-th smallest value, so always one that was measured. Of ten, the
// median is the fifth smallest and the 95th percentile the largest.
func quantile(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// jitter is the mean of |D(i-1,i)| over the n answered requests in the order of
// sending, D(i-1,i) = RTT(i) - RTT(i-1), i = 2..n: the difference of RFC 3550
// section 6.4.1, with round-trip in place of one-way times. The RFC smooths it
// for endless streams, J += (|D|-J)/16 from J = 0, which after the nine
// differences of a burst of ten has seen only 44% of a steady |D|; the plain mean
// is what that estimate tends to. ok is false below two answers.
func jitter(rtts []time.Duration) (mean time.Duration, ok bool) {
	if len(rtts) < 2 {
		return 0, false
	}
	var sum time.Duration
	for i := 1; i < len(rtts); i++ {
		sum += (rtts[i] - rtts[i-1]).Abs()
	}
	return sum / time.Duration(len(rtts)-1), true
}

package probe

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/budget"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/ticket"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// heavy is one speed test, both directions against one of the targets, drawn by
// lot: with several, a bad server is told from a bad line. nil: no target.
func (k *kit) heavy(c *wirepb.ProbeConfig, instrument speed.Name) func(context.Context) []measure.Result {
	o := speed.Options{Instrument: instrument, Ledger: k.line, Logger: k.log, Duration: orDefault(c.SpeedDurationNs, 15*time.Second)}
	if len(c.SpeedTargets) == 0 {
		return nil
	}
	if _, err := speed.New(o); err != nil {
		k.log.Error("speed cannot be measured", "err", err)
		return nil
	}
	targets, patience := c.SpeedTargets, min(orDefault(c.SpeedMeanIntervalNs, meanInterval)/2, mostPatience)
	return func(ctx context.Context) []measure.Result {
		target := k.put.target // a turn is at one server
		if !slices.Contains(targets, target) {
			target = targets[rand.IntN(len(targets))]
		}
		return k.confirm(ctx, o, limitsOf(c), targets, target, k.ask(ctx, o, target, patience))
	}
}

// meanInterval is between two heavy tests if the collector does not say; mostPatience
// is how long one waits for a ticket, or half the mean interval if that is shorter: it
// would become the next one.
const (
	meanInterval = 6 * time.Hour
	mostPatience = time.Hour
)

// putOff is a heavy test that has to wait for its ticket.
type putOff struct {
	target *wirepb.SpeedTarget // nil: none waits
	since  time.Time           // of the first refusal
	wait   time.Duration       // that was told last
}

// ask makes a test by ticket. One that has to wait is put off; when that would be too
// long, it is skipped.
func (k *kit) ask(ctx context.Context, o speed.Options, target *wirepb.SpeedTarget, patience time.Duration) []measure.Result {
	before := k.put
	k.put = putOff{}
	test := func(ctx context.Context) []measure.Result { return k.test(ctx, o, target, both) }
	results, err := k.byTicket(ctx, target, test)
	no, refused := errors.AsType[*ticket.Refusal](err)
	if !refused {
		return results
	}
	since := before.since
	if before.target == nil {
		since = time.Now()
	}
	if time.Since(since)+no.After <= patience {
		k.put = putOff{target, since, no.After}
		return nil
	}
	for kind := range parts {
		r := speed.Blank(o.Instrument, kind).Skip(no.Reason, no.Detail)
		r.Target = measure.TargetID(target.Id)
		results = append(results, r)
	}
	return results
}

// byTicket runs test when the collector lets it begin; the only error is a
// [ticket.Refusal].
func (k *kit) byTicket(ctx context.Context, target *wirepb.SpeedTarget, test func(context.Context) []measure.Result) ([]measure.Result, error) {
	if k.office == nil {
		return test(ctx), nil
	}
	return k.office.Test(ctx, measure.TargetID(target.Id), test)
}

// test is one speed test in some directions, within what the month can pay for. One
// that it cannot is one skipped result.
func (k *kit) test(ctx context.Context, o speed.Options, target *wirepb.SpeedTarget, wanted func(measure.Kind) bool) (results []measure.Result) {
	grant, full, err := k.reserve()
	if err != nil {
		return []measure.Result{speed.Blank(o.Instrument, measure.KindDownload).Skip(measure.ReasonBudget, err.Error())}
	}
	release() // a test needs memory of its own
	defer release()
	defer func() {
		var bytes uint64
		typical := true
		for _, r := range results {
			bytes += r.BytesReceived + r.BytesSent
			typical = typical && r.Outcome == measure.OK
		}
		grant.End(bytes, typical)
	}()
	limited, stop := grant.Context(ctx)
	defer stop()
	o.Full = full
	for kind, part := range parts {
		if !wanted(kind) {
			continue
		}
		if o.MostBytes = grant.Payload(part); o.MostBytes < leastPayload {
			return append(results, speed.Blank(o.Instrument, kind).Skip(measure.ReasonBudget, "the other direction took what this test may"))
		}
		r := k.measure(limited, o, target, kind)
		if r.Outcome == measure.Failed && errors.Is(context.Cause(limited), budget.ErrSpent) {
			r = r.Skip(measure.ReasonBudget, "cut off: "+budget.ErrSpent.Error())
		}
		if full && r.Outcome == measure.OK {
			r.Flags = append(r.Flags, measure.FlagFullLength)
		}
		results = append(results, r)
	}
	return results
}

func both(measure.Kind) bool { return true }

// leastPayload is what a transfer takes to tell anything, in bytes.
const leastPayload = 1 << 20

// parts yields the directions in their order, and which part of what a test may still
// take each may.
func parts(yield func(measure.Kind, float64) bool) {
	_ = yield(measure.KindDownload, 0.5) && yield(measure.KindUpload, 1)
}

// reserve charges the month with a test: the week's one of full length, if it is due
// and can be paid for, else an ordinary one.
func (k *kit) reserve() (g *budget.Grant, full bool, err error) {
	if k.budget.LastFull().Before(schedule.FullDue(k.probe, k.now())) {
		if g, err = k.budget.Reserve(true); err == nil {
			return g, true, nil
		}
	}
	g, err = k.budget.Reserve(false)
	return g, false, err
}

// measure measures one direction. Its ledger gets what comes in after the end, too.
func (k *kit) measure(ctx context.Context, o speed.Options, t *wirepb.SpeedTarget, kind measure.Kind) measure.Result {
	in, err := speed.New(o)
	if err != nil {
		return speed.Blank(o.Instrument, kind).Fail(measure.ReasonInternal, err.Error())
	}
	r := in.Measure(ctx, measure.TargetID(t.Id), t.Url, kind)
	after := underway(r)
	refused := after / frame
	k.line.AddPackets(ledger.Packets{Bytes: after}, ledger.Packets{Count: refused, Bytes: refused * (refusal - header)})
	r.BytesReceived += after
	r.BytesSent += refused * refusal
	return speed.Publishable(r)
}

// underway is at most what a download had on its way to this box when it ended with
// resets, in bytes: what the line carries in a round trip, queue included. It arrives,
// is refused packet by packet, and no connection counts it.
func underway(r measure.Result) uint64 {
	rate, ok := r.Value(measure.DownloadBitsPerSecond)
	rtt, known := r.Value(measure.LoadedLatencySecondsDownload)
	if !ok || !known {
		return 0
	}
	return uint64(rate / 8 * rtt * fuller / goodput)
}

const (
	// fuller is how much longer the queue may be at the end than at the median: measured
	// 200 ms to 146, in a queue of 200.
	fuller = 1.5
	// frame is a full one, refusal the one that answers it (a reset), header that of
	// Ethernet in each, in bytes.
	frame, refusal, header = 1514, 54, 14
)

// goodput is the share of payload in a full packet, Ethernet header included.
const goodput = 1448.0 / 1514

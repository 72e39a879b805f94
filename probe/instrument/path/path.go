// Package path follows the way to a target, router by router: it tells where
// beyond the ODP a line becomes slow or ends.
//
// It guarantees a result in bounded time, at most some 3 kB, and that a target
// that does not answer is a result (path_reached 0, and how far it went), not a
// failure. It says nothing of a hop that is silent: routers need not answer, and a
// silent one may carry everything beyond it. The round trip to a router is how
// soon it answered, which many do late; that of the last hop counts.
package path

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/instrument/internal/names"
	"github.com/pantau-desa/pantau/probe/instrument/internal/trace"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same line would give other figures.
const (
	Method        = "icmp-ttl"
	MethodVersion = "1"
)

// DefaultWait is how long an answer is waited for: two satellite hops and a full
// queue.
const DefaultWait = 2 * time.Second

const (
	stretch  = 10 // hop limits that are asked at once
	farthest = 30
	tries    = 2
	spacing  = 300 * time.Millisecond
	lookup   = 3 * time.Second
)

// Limit is the longest that Measure takes with DefaultWait.
const Limit = lookup + farthest/stretch*(DefaultWait+(tries-1)*spacing) + time.Second

// Options of an Instrument.
type Options struct {
	Target measure.TargetID
	Host   string         // address or name of the target. Empty: nothing is measured
	Wait   time.Duration  // for each answer. 0: DefaultWait
	Ledger *ledger.Ledger // where the bytes are entered. nil: nowhere
}

// Instrument follows the way to one target. Make it with New.
type Instrument struct{ opt Options }

// New makes an instrument.
func New(o Options) *Instrument {
	if o.Wait <= 0 {
		o.Wait = DefaultWait
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	return &Instrument{opt: o}
}

// Measure follows the way once. The values of an ok result are path_reached and,
// if that is 1, path_hops; its hops are what answered.
//
// It is skipped with no_target if there is none. It fails with dns if the target's
// name has no address, redirect if that is one of the house, permission if the
// system permits no raw socket, unreachable if the box has no way to send anything
// or nothing at all answered, cancelled if ctx ends first. Event time and boot are
// the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindPath, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion, Target: in.opt.Target}
	if in.opt.Host == "" {
		return res.Skip(measure.ReasonNoTarget, "no target is configured")
	}
	account := in.opt.Ledger.Group() // of the look-up; echoes have no connection
	var way way
	addrs, err := names.Lookup(ctx, account.DialContext, in.opt.Host, lookup)
	if err == nil {
		way, err = in.follow(ctx, trace.Trace{To: addrs[0], Tries: tries, Spacing: spacing, Wait: in.opt.Wait, Refusals: true})
	}
	account.CloseAll()
	in.opt.Ledger.AddPackets(way.received, way.transmitted)
	res.BytesReceived, res.BytesSent = account.Own()
	const ethernet = 14 // header, as package ledger counts
	res.BytesReceived += way.received.Bytes + ethernet*way.received.Count
	res.BytesSent += way.transmitted.Bytes + ethernet*way.transmitted.Count
	res.Duration = time.Since(start)
	switch {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case errors.Is(err, names.ErrHome):
		return res.Fail(measure.ReasonRedirect, err.Error())
	case errors.Is(err, fs.ErrPermission):
		return res.Fail(measure.ReasonPermission, "raw sockets are not permitted: give the program CAP_NET_RAW")
	case err != nil:
		return res.Fail(failure.ReasonOf(err), err.Error())
	case way.transmitted.Count == 0:
		return res.Fail(measure.ReasonUnreachable, fmt.Sprintf("no request could be sent to %v: %v", addrs[0], way.refused))
	case len(way.answers) == 0:
		return res.Fail(measure.ReasonUnreachable, fmt.Sprintf("nothing on the way to %v answers, not even the LAN gateway", addrs[0]))
	}
	reached := measure.Value{Metric: measure.PathReached}
	for i, a := range way.answers {
		if a.Refused && i > 0 && way.answers[i-1].Address == a.Address {
			break // the last router, who has no way on, said so at the limit after its own
		}
		res.Hops = append(res.Hops, measure.Hop{Limit: a.Limit, Address: a.Address, RoundTrip: a.RoundTrip})
		if a.Arrived {
			reached.Number = 1
			res.Values = []measure.Value{{Metric: measure.PathHops, Number: float64(a.Limit)}}
		}
		if a.Arrived || a.Refused { // what comes after it is more of the same
			break
		}
	}
	res.Values = append([]measure.Value{reached}, res.Values...)
	return res
}

// way is what answered, by rising limit, and what it cost.
type way struct {
	answers               []trace.Answer
	received, transmitted ledger.Packets
	refused               error
}

// follow asks stretch by stretch, until the target answers, a router has no way
// on, or a whole stretch is silent.
func (in *Instrument) follow(ctx context.Context, t trace.Trace) (w way, err error) {
	for first := 1; first <= farthest; first += stretch {
		t.Limits = nil
		for l := first; l < first+stretch; l++ {
			t.Limits = append(t.Limits, l)
		}
		before, ended := len(w.answers), false
		t.Heard = func(a trace.Answer) bool {
			w.answers = append(w.answers, a)
			ended = ended || a.Arrived || a.Refused
			return false
		}
		r, err := t.Run(ctx)
		w.received.Count += r.Received.Count
		w.received.Bytes += r.Received.Bytes
		w.transmitted.Count += r.Transmitted.Count
		w.transmitted.Bytes += r.Transmitted.Bytes
		w.refused = cmp.Or(r.SendError, w.refused)
		if err != nil {
			return w, err
		}
		if ended || len(w.answers) == before || ctx.Err() != nil {
			break
		}
	}
	slices.SortFunc(w.answers, func(a, b trace.Answer) int { return cmp.Compare(a.Limit, b.Limit) })
	return w, nil
}

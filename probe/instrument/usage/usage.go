// Package usage counts the bytes that a village moves through one interface
// which is declared to carry its traffic, the probe's own bytes subtracted.
//
// It guarantees totals that never fall and never jump: a counter that wraps is
// followed, one that starts again is begun anew, and what passed unseen is not
// invented. The totals begin at 0 with the program and are kept in memory only; a
// restart is the counter reset that every reader of Prometheus counters expects,
// so the 0 of the first reading claims nothing about what was before it.
//
// It refuses to guess the interface: on a box beside the village's router, any
// would count the wrong traffic.
package usage

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same traffic would give other figures.
const (
	Method        = "interface-counters"
	MethodVersion = "1"
)

// Own tells what the probe itself has received and sent since its start, in
// bytes of layer 2. Neither figure falls.
type Own interface {
	Own() (rx, tx uint64)
}

// Options of an Instrument.
type Options struct {
	// Interface carries the village's traffic, on the side of the provider: what it
	// receives is the village's download. Empty: nothing is measured.
	Interface string
	// Own is taken off. nil: nothing is.
	Own Own
}

// Instrument follows one interface. Make it with New.
type Instrument struct {
	opt  Options
	read func(name string) (reading, error)
	now  func() time.Duration // monotonic, suspend included

	mu     sync.Mutex // guards what follows
	last   reading
	at     time.Duration
	own    pair
	known  bool // last, at, own are of an earlier reading
	rx, tx uint64
}

type pair struct{ rx, tx uint64 }

// reading is one look at an interface's counters. An interface that was removed
// and made again has another index.
type reading struct {
	index int
	pair
}

// New makes an instrument whose totals are 0.
func New(o Options) *Instrument {
	return &Instrument{opt: o, read: counters, now: clock.Mono}
}

// Measure adds what passed since the last reading to the totals. The values of
// an ok result are link_receive_bytes_total and link_transmit_bytes_total. From
// one reading to the next each grows by max(0, interface - own); by nothing over
// the first reading, a counter that started again, or a difference that no
// interface can have carried.
//
// It is skipped with no_target if no interface is declared, and fails with
// no_target while the declared one does not exist, internal if it has no
// counters. Event time and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindUsage, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion}
	if in.opt.Interface == "" {
		return res.Skip(measure.ReasonNoTarget, "no interface is declared to carry the village's traffic")
	}
	if err := ctx.Err(); err != nil {
		return res.Fail(measure.ReasonCancelled, err.Error())
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	// Own bytes first: what the probe moves in between counts as the village's for
	// now, rather than the village's as the probe's.
	var own pair
	if in.opt.Own != nil {
		own.rx, own.tx = in.opt.Own.Own()
	}
	cur, err := in.read(in.opt.Interface)
	now := in.now()
	res.Duration = time.Since(start)
	switch {
	case errors.Is(err, errNoInterface):
		return res.Fail(measure.ReasonNoTarget, err.Error())
	case err != nil:
		return res.Fail(measure.ReasonInternal, err.Error())
	}
	if in.known && cur.index == in.last.index {
		elapsed := now - in.at
		in.rx += without(passed(in.last.rx, cur.rx, elapsed), own.rx-in.own.rx)
		in.tx += without(passed(in.last.tx, cur.tx, elapsed), own.tx-in.own.tx)
	}
	in.last, in.at, in.own, in.known = cur, now, own, true
	res.Values = []measure.Value{
		{Metric: measure.LinkReceiveBytesTotal, Number: float64(in.rx)},
		{Metric: measure.LinkTransmitBytesTotal, Number: float64(in.tx)},
	}
	return res
}

// without is total less part, at least 0.
func without(total, part uint64) uint64 {
	return total - min(total, part)
}

// fastest is more than any interface of a village carries, in bytes per second
// (100 Gbit/s). burst is what may have passed in no time at all.
const (
	fastest = 100e9 / 8
	burst   = 1 << 20
)

// passed is what a counter has moved from last to cur, in bytes.
//
// A counter that fell has either wrapped, which drivers that count in 32 bits do
// (every 343 s at 100 Mbit/s), or started again. Both readings within 32 bits and
// less than half their range apart is a wrap (the serial number arithmetic of RFC
// 1982); anything else that fell started again, and what it moved before and
// after is unknown: 0. So is more than the fastest interface could have moved.
func passed(last, cur uint64, elapsed time.Duration) uint64 {
	d := cur - last
	if cur < last {
		d = uint64(uint32(cur) - uint32(last))
		if last > math.MaxUint32 || d > math.MaxInt32 {
			return 0
		}
	}
	if float64(d) > fastest*elapsed.Seconds()+burst {
		return 0
	}
	return d
}

var errNoInterface = errors.New("there is no such interface")

// counters asks the kernel for an interface of this process's own network
// namespace; /sys/class/net may show another's.
func counters(name string) (reading, error) {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return reading{}, fmt.Errorf("%s: %w", name, errNoInterface)
	}
	if err != nil {
		return reading{}, fmt.Errorf("interface %s: %w", name, err)
	}
	a := link.Attrs()
	if a.Statistics == nil {
		return reading{}, fmt.Errorf("interface %s has no counters", name)
	}
	return reading{index: a.Index, pair: pair{rx: a.Statistics.RxBytes, tx: a.Statistics.TxBytes}}, nil
}

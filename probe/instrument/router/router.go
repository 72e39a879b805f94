// Package router counts the bytes that a village moves through its router, asked
// by SNMP, the probe's own bytes subtracted: usage for a box that stands beside
// the router.
//
// It guarantees what room usage guarantees of an interface of its own: totals that
// never fall and never jump, that begin at 0 with the program, and into which
// nothing is invented. A router adds its own ways to go wrong, and each is met: a
// counter of 32 bits that wraps, a router that restarts (its clock, sysUpTime, says
// so), an interface that gets another index, counters that are brought up to date
// only now and then.
//
// It refuses to guess the interface, and to count where 32 bits may have wrapped
// unseen.
package router

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same traffic would give other figures.
const (
	Method        = "snmp-counters"
	MethodVersion = "1"
)

// FlagCounter32 says that the router counts in 32 bits: what a line of more than
// 300 Mbit/s carries would be too low.
const FlagCounter32 measure.Flag = "counter_32_bits"

// Limit is the longest that Measure takes.
const Limit = 5 * time.Second

// DefaultRefresh is how often a router brings its counters up to date at least,
// unless told otherwise: net-snmp does every 15 s, most others at once.
const DefaultRefresh = 30 * time.Second

// Own tells what the probe itself has received and sent since its start, in
// bytes of layer 2. Neither figure falls.
type Own interface {
	Own() (rx, tx uint64)
}

// Options of an Instrument.
type Options struct {
	Access snmp.Access
	// Interface is the router's that carries the village's traffic on the side of the
	// provider, by the name that the router gives it (ifName, else ifDescr): what it
	// receives is the village's download. Empty: nothing is measured.
	Interface string
	// Refresh is how often the router brings its counters up to date. 0: DefaultRefresh.
	Refresh time.Duration
	// Own is taken off. nil: nothing is.
	Own    Own
	Ledger *ledger.Ledger // where the bytes of asking are entered. nil: nowhere
}

// Instrument follows one interface of one router. Make it with New.
type Instrument struct {
	opt  Options
	read func(context.Context, string) (reading, cost, error) // with the index as last known
	now  func() time.Duration                                 // monotonic, suspend included

	mu     sync.Mutex // guards what follows
	index  string     // of the interface, as last seen; empty: not known
	last   reading
	at     time.Duration
	own    pair // at the last reading
	due    pair // of the probe's bytes, what the last reading cannot have shown yet
	known  bool // last, at, own are of an earlier reading
	rx, tx uint64
}

type pair struct{ rx, tx uint64 }

// cost is what asking moved, in bytes of layer 2.
type cost struct{ received, sent uint64 }

// New makes an instrument whose totals are 0.
func New(o Options) *Instrument {
	if o.Refresh <= 0 {
		o.Refresh = DefaultRefresh
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	in := &Instrument{opt: o, now: clock.Mono}
	in.read = in.ask
	return in
}

// Measure adds what passed since the last reading to the totals. The values of
// an ok result are link_receive_bytes_total and link_transmit_bytes_total.
//
// It is skipped with no_target if no interface is declared. It fails with no_target
// if the access is not settled or the router has no such interface, timeout,
// refused or unreachable if it does not answer, permission if it does not let
// itself be asked, malformed if what it says cannot be, cancelled if ctx ends
// first. Event time and boot are the caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	start := time.Now()
	res := measure.Result{Kind: measure.KindUsage, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion}
	if in.opt.Interface == "" {
		return res.Skip(measure.ReasonNoTarget, "no interface of the router is declared to carry the village's traffic")
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	// Own bytes first: what the probe moves in between counts as the village's for
	// now, rather than the village's as the probe's.
	var own pair
	if in.opt.Own != nil {
		own.rx, own.tx = in.opt.Own.Own()
	}
	limited, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	cur, spent, err := in.read(limited, in.index)
	now := in.now()
	res.BytesReceived, res.BytesSent = spent.received, spent.sent
	res.Duration = time.Since(start)
	switch {
	case ctx.Err() != nil:
		return res.Fail(measure.ReasonCancelled, ctx.Err().Error())
	case err != nil:
		return res.Fail(snmp.ReasonOf(err), err.Error())
	}
	in.index = cur.index
	in.take(cur, own, now)
	res.Values = []measure.Value{
		{Metric: measure.LinkReceiveBytesTotal, Number: float64(in.rx)},
		{Metric: measure.LinkTransmitBytesTotal, Number: float64(in.tx)},
	}
	if !cur.wide {
		res.Flags = append(res.Flags, FlagCounter32)
	}
	return res
}

// take enters a reading. One that comes before the counters can have been brought
// up to date since the last is left alone: the next one covers its time.
func (in *Instrument) take(cur reading, own pair, now time.Duration) {
	elapsed := now - in.at
	if in.known && elapsed < in.opt.Refresh && cur.follows(in.last, elapsed) {
		return
	}
	if in.known && cur.follows(in.last, elapsed) {
		w := window{elapsed: elapsed, refresh: in.opt.Refresh, wide: cur.wide, speed: cur.speed}
		rx, tx := w.passed(in.last.rx, cur.rx), w.passed(in.last.tx, cur.tx)
		in.rx, in.due.rx = less(in.rx, rx, own.rx-in.own.rx, in.due.rx)
		in.tx, in.due.tx = less(in.tx, tx, own.tx-in.own.tx, in.due.tx)
	} else {
		in.due = pair{}
	}
	in.last, in.at, in.own, in.known = cur, now, own, true
}

// less adds what passed to a total, the probe's own bytes taken off. Counters
// that lag show them a reading late: what could not be taken off now is due then,
// but only then, and never more than the probe has just moved.
func less(total, passed, own, due uint64) (uint64, uint64) {
	off := min(passed, own+due)
	return total + passed - off, min(own+due-off, own)
}

// reading is one look at the router.
type reading struct {
	index         string
	pair          // octets
	wide          bool
	speed         float64 // of the interface, bits per second; 0: not known
	uptime        uint32  // sysUpTime, hundredths of a second
	clocked       bool    // uptime is known
	discontinuity uint32  // ifCounterDiscontinuityTime
	marked        bool    // discontinuity is known
}

// follows reports whether the counters of cur go on from those of last: the same
// interface, the same width, no restart of the router and, as far as it says, no
// discontinuity of the interface (RFC 2863) in between. Two counters that fall at
// once did not wrap both: an interface was dialled anew.
func (cur reading) follows(last reading, elapsed time.Duration) bool {
	if cur.index != last.index || cur.wide != last.wide || cur.rx < last.rx && cur.tx < last.tx {
		return false
	}
	if cur.marked && last.marked && cur.discontinuity != last.discontinuity {
		return false
	}
	if !cur.clocked || !last.clocked || cur.uptime == last.uptime { // a clock that stands still says nothing
		return true
	}
	const tick = 10 * time.Millisecond
	// After 497 days the clock begins again at 0: the difference is the same.
	moved := time.Duration(cur.uptime-last.uptime) * tick
	return (moved - elapsed).Abs() <= 5*time.Second+elapsed/20
}

const (
	// fastest is more than any interface of a village carries, in bits per second.
	fastest = 100e9
	// fastest32 is what is believed of an interface that counts in 32 bits, in bits
	// per second: these wrap after 114 s then, a reading each minute is in time.
	fastest32 = 300e6
	// slowest is the least that is believed of an interface's own word for its speed,
	// in bits per second: dialled ones give any figure, and net-snmp says 10 Mbit/s of
	// what it does not know.
	slowest = 20e6
	// burst is what may have passed in no time at all, in bytes.
	burst = 1 << 20
)

// window is what lies between two readings.
type window struct {
	elapsed, refresh time.Duration
	wide             bool
	speed            float64 // bits per second; 0: not known
}

// passed is what a counter has moved from last to cur, in bytes; 0 where that is
// not known: it may have wrapped more than once, or the interface cannot have moved
// so much.
func (w window) passed(last, cur uint64) uint64 {
	most := fastest
	if !w.wide {
		most = fastest32
	}
	if w.speed >= slowest {
		most = min(most, w.speed)
	}
	// The counters may have stood for a while before the first reading.
	could := most / 8 * (w.elapsed + w.refresh).Seconds()
	d := cur - last
	switch {
	case w.wide && cur < last, !w.wide && could > math.MaxUint32:
		return 0
	case !w.wide:
		d = uint64(uint32(cur) - uint32(last))
	}
	if float64(d) > could*1.05+burst {
		return 0
	}
	return d
}

// Object identifiers: SNMPv2-MIB (RFC 3418), IF-MIB (RFC 2863). All but the first
// are columns, to which the interface's index is added.
const (
	sysUpTime                  = "1.3.6.1.2.1.1.3.0"
	ifDescr                    = "1.3.6.1.2.1.2.2.1.2"
	ifSpeed                    = "1.3.6.1.2.1.2.2.1.5" // bits per second
	ifInOctets                 = "1.3.6.1.2.1.2.2.1.10"
	ifOutOctets                = "1.3.6.1.2.1.2.2.1.16"
	ifName                     = "1.3.6.1.2.1.31.1.1.1.1"
	ifHCInOctets               = "1.3.6.1.2.1.31.1.1.1.6"
	ifHCOutOctets              = "1.3.6.1.2.1.31.1.1.1.10"
	ifHighSpeed                = "1.3.6.1.2.1.31.1.1.1.15" // Mbit/s
	ifCounterDiscontinuityTime = "1.3.6.1.2.1.31.1.1.1.19"
)

// mostInterfaces bounds the search for a name.
const mostInterfaces = 512

// ask reads the interface at its last known index, and searches it where it is
// not that any more.
func (in *Instrument) ask(ctx context.Context, index string) (r reading, c cost, err error) {
	s, err := snmp.Dial(ctx, in.opt.Access, in.opt.Ledger)
	if err != nil {
		return r, c, err
	}
	defer func() { c.received, c.sent = s.Close() }()
	if index != "" {
		r, found, err := in.look(s, index)
		if err != nil || found {
			return r, c, err
		}
	}
	if index, err = in.search(s); err != nil {
		return r, c, err
	}
	r, found, err := in.look(s, index)
	if err == nil && !found {
		err = snmp.Malformed("interface %s changes its index while it is read", in.opt.Interface)
	}
	return r, c, err
}

// look reads the interface at an index. found is false if that is another's, or
// nobody's.
func (in *Instrument) look(s *snmp.Session, index string) (r reading, found bool, err error) {
	column := func(c string) string { return c + "." + index }
	v, err := s.Get(sysUpTime, column(ifName), column(ifDescr), column(ifHCInOctets), column(ifHCOutOctets), column(ifInOctets),
		column(ifOutOctets), column(ifHighSpeed), column(ifSpeed), column(ifCounterDiscontinuityTime))
	if err != nil {
		return r, false, err
	}
	if !in.named(v[1]) && !in.named(v[2]) {
		return r, false, nil
	}
	r.index = index
	r.uptime, r.clocked = v[0].Ticks()
	r.discontinuity, r.marked = v[9].Ticks()
	if mega, ok := v[7].Gauge(); ok && mega > 0 {
		r.speed = float64(mega) * 1e6
	} else if bps, ok := v[8].Gauge(); ok && bps < math.MaxUint32 { // which stands for more
		r.speed = float64(bps)
	}
	rx, okRX := v[3].Counter64()
	tx, okTX := v[4].Counter64()
	if okRX && okTX {
		r.wide, r.pair = true, pair{rx, tx}
		return r, true, nil
	}
	rx32, okRX := v[5].Counter32()
	tx32, okTX := v[6].Counter32()
	if !okRX || !okTX {
		return r, false, snmp.Malformed("interface %s of the router has no counters", in.opt.Interface)
	}
	r.pair = pair{uint64(rx32), uint64(tx32)}
	return r, true, nil
}

func (in *Instrument) named(v snmp.Value) bool {
	name, ok := v.Text()
	return ok && name == in.opt.Interface
}

// search finds the interface's index by its name.
func (in *Instrument) search(s *snmp.Session) (index string, err error) {
	var names []string
	for _, column := range []string{ifName, ifDescr} {
		rows, err := s.Walk(column, mostInterfaces)
		if err != nil {
			return "", err
		}
		for _, row := range rows {
			if in.named(row.Value) {
				return row.Index, nil
			}
			if name, ok := row.Value.Text(); ok && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return "", &snmp.Failure{Reason: measure.ReasonNoTarget, What: fmt.Sprintf("the router has no interface %s, but %s", in.opt.Interface, strings.Join(names, " "))}
}

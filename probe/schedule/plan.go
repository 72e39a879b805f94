// Package schedule decides when a probe measures, and runs what is due.
//
// It guarantees that the light instruments run once in every slot, at a second of
// the minute that is the probe's own, whatever else happens; that speed tests are
// spaced at random (exponentially), so that a nation of probes never tests at
// once; that the rare instruments come at random instants too; and that a heavy
// test never overlaps another, nor a result that it would spoil. When is pure
// ([Slot], [Phase], [Gap], [Spread]); only [Runner] acts.
package schedule

import (
	"hash/fnv"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Phase is the probe's own offset within an interval: the same probe always has
// the same, two probes rarely do. It is a whole second where the interval allows.
func Phase(id measure.ProbeID, interval time.Duration) time.Duration {
	unit := time.Second
	if interval < 2*unit {
		unit = time.Millisecond
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	return time.Duration(h.Sum64()%uint64(interval/unit)) * unit
}

// Slot is the latest instant at or before now that is a multiple of interval
// (since the Unix epoch) plus phase.
func Slot(now time.Time, interval, phase time.Duration) time.Time {
	n := now.UnixNano() - int64(phase)
	k := n / int64(interval)
	if n < 0 && n%int64(interval) != 0 {
		k-- // division truncates towards zero; a box without a clock may boot before 1970
	}
	return time.Unix(0, k*int64(interval)+int64(phase)).UTC()
}

// Pace is how often heavy tests run.
type Pace struct {
	// Mean is the mean time between two tests.
	Mean time.Duration
	// First bounds the wait for the first test after a start. 0: 60 s.
	First time.Duration
}

// Gap is the time from now to the next heavy test. The gaps are exponential with
// the pace's mean, so that tests are independent of everything, of each other
// included (Poisson sampling, RFC 2330 section 11.1.1), cut at a tenth and five
// times the mean. rnd is uniform in [0,1).
//
// The first test of a start comes within Pace.First, unless the last one (zero:
// none known) is less than a tenth of the mean ago: a box that restarts in a loop
// must not spend the village's quota.
func Gap(p Pace, first bool, sinceLast time.Duration, known bool, rnd func() float64, exp func() float64) time.Duration {
	if first && (!known || sinceLast < 0 || sinceLast >= p.Mean/10) {
		if p.First <= 0 {
			p.First = time.Minute
		}
		return time.Duration(rnd() * float64(p.First))
	}
	gap := time.Duration(exp() * float64(p.Mean))
	return min(max(gap, p.Mean/10), 5*p.Mean)
}

// firstRare bounds the wait for the first rare measurement after a start.
const firstRare = time.Minute

// Spread is the time from now to the next measurement of a rare instrument:
// uniform between a half and one and a half of every, so that no two probes keep
// step and none is silent for long. rnd is uniform in [0,1).
//
// The first of a start comes within a minute, unless the last one (known) is so
// short a time ago that this would come too early.
func Spread(every time.Duration, first bool, sinceLast time.Duration, known bool, rnd func() float64) time.Duration {
	gap := time.Duration((0.5 + rnd()) * float64(every))
	switch {
	case !first:
		return gap
	case known && sinceLast >= 0 && sinceLast < every/2:
		return gap - sinceLast
	}
	return time.Duration(rnd() * float64(min(firstRare, every)))
}

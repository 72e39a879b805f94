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
	"cmp"
	"fmt"
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
	// Mean is the mean time between two tests, over a whole day.
	Mean time.Duration
	// First bounds the wait for the first test after a start. 0: 60 s.
	First time.Duration
	// Peak is the share of tests within the peak hours, above 0 and below 1. 0: a
	// third, so that of a month's 120 tests 40 tell of the evenings, and 80 of the rest.
	Peak float64
	// Offset is local time less UTC.
	Offset time.Duration
}

// The peak hours in local time: when Indonesia's households are online.
const (
	peakFrom  = 18 * time.Hour
	peakTo    = 23 * time.Hour
	peakShare = 1.0 / 3
)

// window reports whether an instant lies within the peak hours, and when that
// changes.
func (p Pace) window(at time.Time) (peak bool, until time.Time) {
	day := Slot(at, 24*time.Hour, -p.Offset) // local midnight
	switch {
	case at.Before(day.Add(peakFrom)):
		return false, day.Add(peakFrom)
	case at.Before(day.Add(peakTo)):
		return true, day.Add(peakTo)
	}
	return false, day.Add(24*time.Hour + peakFrom)
}

// Weight is how many times as often as over a whole day tests run at an instant:
// constant within the peak hours and outside, such that Peak of them fall within and
// Mean holds over the day.
func (p Pace) Weight(at time.Time) float64 {
	share, hours := p.Peak, peakTo-peakFrom
	if share <= 0 || share >= 1 {
		share = peakShare
	}
	if peak, _ := p.window(at); !peak {
		share, hours = 1-share, 24*time.Hour-hours
	}
	return share * float64(24*time.Hour) / float64(hours)
}

// Gap is the way to the next heavy test in means: each second brings it nearer by
// Weight/Mean, whatever they are by then. Exponential, so that tests are independent
// of everything, of each other included (Poisson sampling, RFC 2330 section 11.1.1),
// cut at a tenth and five. exp is exponential with mean 1.
func Gap(exp func() float64) float64 { return min(max(exp(), 0.1), 5) }

// First is the wait for the first test after a start, unless (ok is false) the last
// one, if known, is less than a mean ago: a box that restarts in a loop must not
// test more often than one that does not. rnd is uniform in [0,1).
func (p Pace) first(sinceLast time.Duration, known bool, rnd func() float64) (wait time.Duration, ok bool) {
	if known && sinceLast >= 0 && sinceLast < p.Mean {
		return 0, false
	}
	return time.Duration(rnd() * float64(cmp.Or(max(p.First, 0), time.Minute))), true
}

// From FCC Measuring Broadband America, where a test waits while others use the line,
// and looks again each minute. Bits per second.
const (
	busyDown = 64e3
	busyUp   = 32e3
	longest  = time.Hour // that a test waits, see Pace.patience
)

// use is what a village does with its line, between two readings of its meter.
type use struct {
	rx, tx   float64 // bytes so far, at
	at       time.Duration
	metered  bool    // the last reading told
	known    bool    // and so did the one before: what follows is of the time between
	down, up float64 // bits per second
}

// next is the use after another reading. A total that fell began anew.
func (u use) next(r measure.Result, at time.Duration) use {
	rx, ok := r.Value(measure.LinkReceiveBytesTotal)
	tx, both := r.Value(measure.LinkTransmitBytesTotal)
	n := use{rx: rx, tx: tx, at: at, metered: r.Outcome == measure.OK && ok && both}
	if s := (at - u.at).Seconds(); n.metered && u.metered && s > 0 && rx >= u.rx && tx >= u.tx {
		n.known, n.down, n.up = true, (rx-u.rx)*8/s, (tx-u.tx)*8/s
	}
	return n
}

// busy reports whether others use the line.
func (u use) busy() bool { return u.known && (u.down > busyDown || u.up > busyUp) }

// unsure reports whether the next reading will tell.
func (u use) unsure() bool { return u.metered && !u.known }

// patience is until when a test that was due at an instant waits for the line: half
// the mean time between two, an hour at most, and not beyond the window that it was
// drawn for, whose share it would take to the other.
func (p Pace) patience(due time.Time) time.Time {
	_, until := p.window(due)
	if most := due.Add(min(p.Mean/2, longest)); most.Before(until) {
		return most
	}
	return until
}

// FullDue is the instant of the week (from Thursday 00:00 UTC) at which a probe's test
// of full length is due: the week's latest at or before now, at random by probe and
// week.
func FullDue(id measure.ProbeID, now time.Time) time.Time {
	const week = 7 * 24 * time.Hour
	start := Slot(now, week, 0)
	for ; ; start = start.Add(-week) {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %d", id, start.Unix())
		// The low bits of FNV-1a tell similar texts apart better than the high ones.
		if at := start.Add(time.Duration(h.Sum64() % uint64(week))); !at.After(now) {
			return at
		}
	}
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

package push

import (
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Timekeeper knows the time as well as the box can: from the collector where it
// has answered in this boot, else from the box, but never before a floor.
type Timekeeper struct {
	now func() clock.Reading

	mu    sync.Mutex
	floor time.Time
	seen  time.Time     // collector's time, and
	at    time.Duration // when, on the monotonic clock
}

// NewTimekeeper starts from the times that are known to have passed: the build,
// the enrolment, the last run.
func NewTimekeeper(now func() clock.Reading, passed ...time.Time) *Timekeeper {
	t := &Timekeeper{now: now}
	for _, p := range passed {
		if p.After(t.floor) {
			t.floor = p
		}
	}
	return t
}

// agreement is how far box and collector may differ and still agree.
const agreement = 2 * time.Second

// Learn takes the collector's time from an authenticated answer. The question
// left at the monotonic instant asked: half the round trip is the best estimate
// of the way back (RFC 5905 section 8).
func (t *Timekeeper) Learn(collector time.Time, asked time.Duration) {
	r := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.at, t.seen = r.Mono, collector.Add(max(r.Mono-asked, 0)/2)
	if t.seen.After(t.floor) {
		t.floor = t.seen
	}
}

// Reading is the box's clocks, with the quality that the collector's time adds.
// The wall time stays as the box has it: correction is the collector's.
func (t *Timekeeper) Reading() clock.Reading {
	r := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.seen.IsZero() {
		if d := r.Wall.Sub(t.seen.Add(r.Mono - t.at)); d.Abs() <= agreement {
			r.Quality = measure.ClockCollector
		} else {
			r.Quality = measure.ClockUnknown
		}
	}
	return r
}

// Floor is the best knowledge of the present: for judging certificates.
func (t *Timekeeper) Floor() time.Time {
	at, _ := t.Best()
	return at
}

// Best is the best knowledge of the present, and whether the collector, in this
// boot, or the kernel vouches for it.
func (t *Timekeeper) Best() (at time.Time, vouched bool) {
	r := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.seen.IsZero() {
		return t.seen.Add(r.Mono - t.at), true
	}
	if r.Wall.Before(t.floor) {
		return t.floor, false
	}
	return r.Wall, r.Quality != measure.ClockUnknown
}

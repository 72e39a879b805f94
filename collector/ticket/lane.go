package ticket

import (
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

const (
	// firstHold is what a test is thought to take until some have ended: both
	// directions of an engine that ends early.
	firstHold           = 15 * time.Second
	leastHold, mostHold = 5 * time.Second, 90 * time.Second
	// late is how long after its turn a probe may still come: it begins a test at an
	// instant that spoils little, up to a slot later.
	late = 90 * time.Second
	// mostWaiting bounds the turns that are kept: above it a probe is told to come when
	// the last of them is over, and then queues like any other.
	mostWaiting = 10_000
)

// lane is one limit and those who wait for room below it.
type lane struct {
	limit   int
	under   int           // tests under way
	hold    time.Duration // what a test takes, a running mean
	waiting []turn        // in the order of asking
}

// turn is when a probe was told to come back.
type turn struct {
	probe measure.ProbeID
	at    time.Time
}

func newLane(limit int) *lane { return &lane{limit: limit, hold: firstHold} }

// took learns what a test took.
func (l *lane) took(d time.Duration) {
	l.hold = min(max(l.hold+(d-l.hold)/8, leastHold), mostHold)
}

// enter lets a probe in, which then waits no more.
func (l *lane) enter(id measure.ProbeID) {
	l.under++
	l.waiting = slices.DeleteFunc(l.waiting, func(t turn) bool { return t.probe == id })
}

// wait is how long a probe has to wait, 0 if it may enter now. A probe whose turn
// has come needs free room alone; one that has none also needs room beside those
// whose turns come before its test would be over. Who waits has a turn afterwards.
func (l *lane) wait(id measure.ProbeID, now time.Time) time.Duration {
	l.waiting = slices.DeleteFunc(l.waiting, func(t turn) bool { return now.Sub(t.at) > late })
	own := slices.IndexFunc(l.waiting, func(t turn) bool { return t.probe == id })
	free := l.limit - l.under
	if own >= 0 && !now.Before(l.waiting[own].at) {
		if free > 0 {
			return 0
		}
		// Tests took longer than thought: again soon, in its old place.
		wait := l.hold / time.Duration(min(l.limit, 4))
		l.waiting[own].at = now.Add(wait)
		return wait
	}
	soon := 0
	for i, t := range l.waiting {
		if i != own && !t.at.After(now.Add(l.hold)) {
			soon++
		}
	}
	if free > soon {
		return 0
	}
	if own >= 0 { // came early
		return l.waiting[own].at.Sub(now)
	}
	at := now.Add(l.step())
	if n := len(l.waiting); n > 0 {
		at = later(at, l.waiting[n-1].at.Add(l.step()))
	}
	if len(l.waiting) < mostWaiting {
		l.waiting = append(l.waiting, turn{id, at})
	}
	return at.Sub(now)
}

// step is the mean time between two tests that end while the lane is full.
func (l *lane) step() time.Duration { return max(l.hold/time.Duration(l.limit), time.Millisecond) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package soak

import (
	"slices"
	"testing"
	"time"
)

// testRate is what only a speed test moves, in bytes per second: all else that a
// probe does at once is some ten kilobytes.
const testRate = 100e3

// heavy reports whether a speed test filled the line between two samples.
func heavy(a, b sample) bool {
	return float64(b.moved()-a.moved()) > testRate*(b.at-a.at).Seconds()
}

// trial is a speed test as the router sees it.
type trial struct {
	life     int // 0: the last frames of one that was killed
	from, to time.Duration
	bytes    uint64
}

// pause is how long a test may leave the line alone: between its directions.
const pause = 3 * time.Second

// trials finds the speed tests.
func trials(samples []sample) (out []trial) {
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		if !heavy(a, b) {
			continue
		}
		if n := len(out); n > 0 && out[n-1].life == b.life && a.at-out[n-1].to < pause {
			out[n-1].to = b.at
			out[n-1].bytes += b.moved() - a.moved()
		} else {
			out = append(out, trial{b.life, a.at, b.at, b.moved() - a.moved()})
		}
	}
	return out
}

// use is what a share of the day has cost.
type use struct {
	cpu  float64 // seconds of processor
	wall time.Duration
}

func (u use) ratio() float64 {
	if u.wall == 0 {
		return 0
	}
	return u.cpu / u.wall.Seconds()
}

// settled is how long a start takes, and what a test leaves to do after it.
const settled = 10 * time.Second

// costs shares the day out: what is idle (light and rare instruments, heartbeats,
// pushes), the first seconds of a life, and speed tests. What metrics cost that
// were asked for is in none of them.
func costs(samples []sample, tests []trial) (idle, starting, testing use) {
	for i := 1; i < len(samples); i++ {
		a, b := samples[i-1], samples[i]
		if b.life == 0 || a.life != b.life || b.asked {
			continue
		}
		u := &idle
		switch {
		case slices.ContainsFunc(tests, func(t trial) bool { return a.at > t.from-2*time.Second && a.at < t.to+pause }):
			u = &testing
		case a.age < settled:
			u = &starting
		}
		u.cpu += b.cpu - a.cpu
		u.wall += b.at - a.at
	}
	return idle, starting, testing
}

// memory is the most that was resident at once, and the median of what is resident
// between tests, in bytes.
func memory(samples []sample, tests []trial) (peak, resting int64) {
	var all []int64
	for _, s := range samples {
		if s.life == 0 {
			continue
		}
		peak = max(peak, s.peak, s.rss)
		if s.age > settled && !slices.ContainsFunc(tests, func(t trial) bool { return s.at > t.from && s.at < t.to }) {
			all = append(all, s.rss)
		}
	}
	if len(all) > 0 {
		slices.Sort(all)
		resting = all[len(all)/2]
	}
	return peak, resting
}

// life of the probe. dead is when it was killed; of the last one, when it was told
// to end.
type life struct{ born, dead time.Time }

// round is how long the light instruments of a slot may be under way, on a busy
// machine.
const round = 8 * time.Second

// excused reports whether kills may have cost the slot: it was under way when the
// probe died, or nobody lived in its first half, after which it is left alone.
func excused(slot time.Time, interval time.Duration, lives []life) bool {
	const start = 2 * time.Second // from a program's start to its first slot
	alive := time.Time{}          // since when somebody lives, if anybody did at the slot's begin or since
	for _, l := range lives {
		if !l.dead.Before(slot) && l.dead.Before(slot.Add(round)) {
			return true
		}
		if l.dead.After(slot) && (alive.IsZero() || l.born.Before(alive)) {
			alive = l.born
		}
	}
	return alive.IsZero() || alive.Add(start).After(slot.Add(interval/2))
}

func TestAccounts(t *testing.T) {
	// Two lives of 40 s. In the first a test from 20 s to 26 s with a pause, in the
	// second one that the kill cuts; 20 ms of processor a second, 500 ms in tests, 1 s in
	// the first second of a life.
	var all []sample
	bytes, cpu := uint64(0), 0.0
	for at := time.Duration(0); at <= 85*time.Second; at += every {
		sec := at.Seconds()
		s := sample{at: at, life: 1, age: at, rss: 10e6, peak: 10e6}
		if sec >= 40 {
			s.life, s.age = 0, 0
		}
		if sec >= 45 {
			s.life, s.age = 2, at-45*time.Second
		}
		if s.age == 0 {
			cpu = 0
		}
		cpu += 0.02 * every.Seconds()
		if s.life > 0 && s.age > 0 && s.age <= time.Second {
			cpu += 0.5
		}
		bytes += 1000
		if sec > 20 && sec <= 23 || sec > 24 && sec <= 26 || sec > 82 {
			bytes += 2e6
			cpu += 0.5 * every.Seconds()
			s.rss, s.peak = 15e6, 16e6
		}
		if s.life > 0 {
			s.cpu = cpu
		} else {
			s.rss, s.peak = 0, 0
		}
		s.down, s.up = bytes/2, bytes-bytes/2
		s.asked = at == 30*time.Second
		if s.asked {
			cpu += 5 // it may cost whatever it wants
			s.cpu = cpu
		}
		all = append(all, s)
	}
	tests := trials(all)
	if len(tests) != 2 || tests[0].life != 1 || tests[0].from != 20*time.Second || tests[0].to != 26*time.Second || tests[0].bytes != 20e6+10*1000 ||
		tests[1].life != 2 || tests[1].from != 82*time.Second || tests[1].to != 85*time.Second {
		t.Fatalf("%+v", tests)
	}
	idle, starting, testing := costs(all, tests)
	if r := idle.ratio(); r < 0.0199 || r > 0.0201 || idle.wall < 30*time.Second {
		t.Errorf("idle %v of a core over %v", r, idle.wall)
	}
	if starting.wall > 20*time.Second || starting.cpu < 1.9 {
		t.Errorf("starting: %+v", starting)
	}
	if testing.ratio() < 0.25 {
		t.Errorf("testing: %+v", testing)
	}
	if peak, resting := memory(all, tests); peak != 16e6 || resting != 10e6 {
		t.Errorf("%d at most, %d at rest", peak, resting)
	}
}

func TestExcuses(t *testing.T) {
	day := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return day.Add(time.Duration(s * float64(time.Second))) }
	lives := []life{{at(-100), at(3)}, {at(4), at(38)}, {at(55), at(99)}}
	for s, want := range map[float64]bool{
		-10: false, // done before the kill
		0:   true,  // under way
		10:  false, 20: false,
		30: false, // just done before the kill
		31: true,
		40: true,  // nobody lived
		50: true,  // begun by nobody, and half over at the start
		60: false, // the third life's
		80: false, 90: false, 95: true,
		100: true, // after the end
	} {
		if got := excused(at(s), 10*time.Second, lives); got != want {
			t.Errorf("slot at %v s: %v, want %v", s, got, want)
		}
	}
	if excused(at(52), 10*time.Second, lives) {
		t.Error("a start three seconds into a slot is in time for it")
	}
}

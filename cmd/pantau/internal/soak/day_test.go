package soak

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/provision"
)

// day is what is done in a soak.
type day struct {
	length time.Duration
	kills  int
	pace   provision.Schedule
	// The month ends at monthEnds of the day; quota is what is left of its budget when
	// the day begins, in bytes.
	monthEnds time.Duration
	quota     float64
}

// newDay compresses a day's schedule as far as probes and collector allow: package
// comment.
func newDay(length time.Duration) day {
	factor := float64(24*time.Hour) / float64(length)
	shrink := func(d, least time.Duration) time.Duration {
		return max(time.Duration(float64(d)/factor).Round(100*time.Millisecond), least)
	}
	// 50 an hour, and never more; a few in any case.
	kills := min(50, max(2, int(50*length/time.Hour)))
	return day{length: length, kills: kills,
		pace: provision.Schedule{Light: shrink(time.Minute, 10*time.Second), Heartbeat: shrink(30*time.Second, 5*time.Second),
			Seal: shrink(5*time.Minute, time.Second), Transition: shrink(time.Minute, time.Second),
			Rare: shrink(time.Hour, 30*time.Second), SpeedDuration: 15 * time.Second,
			PeakShare: 5.0 / 24, // as many tests at any hour
			SpeedMean: max(time.Duration(float64(length)*speedShare), 30*time.Second)},
		monthEnds: time.Duration(float64(length) * monthShare), quota: 60e6 + float64(kills)*perKill}
}

const (
	// speedShare is the mean time between two tests, as a share of the day: so many
	// that a third of the kills fall into one.
	speedShare = 1.0 / 80
	monthShare = 0.8
	// perKill is what the month may spend between two kills, in bytes: less than it
	// would with tests that often, of some 20 MB each, of which one that is killed counts
	// as four.
	perKill = 34e6
)

// after is the part of the day that follows the last kill: the probe is to come to
// rest.
const after = 0.08

// death is when the probe is killed: at an instant, or, where there is an ambush,
// that long after a test begins that begins before it.
type death struct {
	watch, at time.Duration // since the day began; watch <= at
	ambush    time.Duration // negative: none
}

// deaths are one in each of equal parts of the day, at a random instant; every
// second lies in wait for a test, but not for the first, of whose cost nothing is
// known: the account would keep most of the month for it.
func (d day) deaths(rnd *rand.Rand) []death {
	part := time.Duration(float64(d.length) * (1 - after) / float64(d.kills))
	out := make([]death, d.kills)
	for i := range out {
		begin := time.Duration(i) * part
		out[i] = death{begin, begin + within(rnd, part), -1}
		if i%2 == 1 && (i > 2 || d.kills < 10) {
			out[i] = death{begin, begin + part, within(rnd, mostAmbush)}
		}
	}
	return out
}

// within is a random part of d.
func within(rnd *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(rnd.Int64N(int64(d)))
}

// mostAmbush is about how long a test takes on the soak's line.
const mostAmbush = 7 * time.Second

func TestDayIsCompressed(t *testing.T) {
	hour := newDay(time.Hour)
	if hour.kills != 50 || hour.pace != (provision.Schedule{Light: 10 * time.Second, Heartbeat: 5 * time.Second, Seal: 12500 * time.Millisecond,
		Transition: 2500 * time.Millisecond, Rare: 150 * time.Second, SpeedMean: 45 * time.Second, SpeedDuration: 15 * time.Second, PeakShare: 5.0 / 24}) {
		t.Errorf("an hour: %+v", hour)
	}
	if whole := newDay(24 * time.Hour); whole.kills != 50 || whole.pace != (provision.Schedule{Light: time.Minute, Heartbeat: 30 * time.Second,
		Seal: 5 * time.Minute, Transition: time.Minute, Rare: time.Hour, SpeedMean: 18 * time.Minute, SpeedDuration: 15 * time.Second, PeakShare: 5.0 / 24}) {
		t.Errorf("a whole day: %+v", whole)
	}
	for _, length := range []time.Duration{time.Minute, 3 * time.Minute, time.Hour, 24 * time.Hour} {
		d := newDay(length)
		if wrong := d.pace.Check(); len(wrong) > 0 {
			t.Errorf("%v: the collector refuses it: %v", length, wrong)
		}
		last, ambushes := time.Duration(-1), 0
		for _, x := range d.deaths(rand.New(rand.NewPCG(1, 2))) {
			if x.watch < last || x.at < x.watch || x.at > length*93/100 {
				t.Errorf("%v: killed at %v, watched from %v, after %v", length, x.at, x.watch, last)
			}
			last = x.at
			if x.ambush >= 0 {
				ambushes++
			}
		}
		if ambushes < d.kills*2/5 {
			t.Errorf("%v: %d of %d kills lie in wait for a test", length, ambushes, d.kills)
		}
	}
}

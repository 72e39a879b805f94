package netlab

import (
	"math"
	"testing"
	"time"
)

// offer gives the course one full frame every gap for so long and returns those
// that come out, with the instants at which they did.
func offer(c *course, gap, whole time.Duration) (at []int64) {
	var now int64
	take := func() {
		for f, ok := c.due(now); ok; f, ok = c.due(now) {
			at = append(at, f.at)
		}
		c.looked = now
	}
	for now < int64(whole) {
		c.admit(frame{size: 1514}, now, false)
		take()
		now += int64(gap)
	}
	for n, ok := c.next(); ok; n, ok = c.next() {
		now = n
		take()
	}
	return at
}

func bits(frames int) float64 { return float64(frames) * 1514 * 8 }

func TestPathCarriesItsRate(t *testing.T) {
	for _, p := range []Path{{Rate: 1e6}, {Rate: 20e6, Delay: 30 * time.Millisecond}, {Rate: 20e6, Delay: 30 * time.Millisecond, Jitter: 10 * time.Millisecond}, {Rate: 10e6, Police: true, Queue: 50 * time.Millisecond}} {
		c := newCourse(p, 1)
		at := offer(c, time.Duration(bits(1)/p.Rate/1.5*1e9), 20*time.Second) // half as much again as fits
		var n int
		for i, x := range at {
			if i > 0 && x < at[i-1] {
				t.Fatalf("%+v: frame %d overtakes", p, i)
			}
			if x >= int64(5*time.Second) && x < int64(15*time.Second) {
				n++
			}
		}
		if got := bits(n) / 10; math.Abs(got/p.Rate-1) > 0.005 {
			t.Errorf("%+v: carries %.0f bit/s", p, got)
		}
		if c.dropped == 0 || c.lost != 0 {
			t.Errorf("%+v: dropped %d, lost %d", p, c.dropped, c.lost)
		}
	}
}

// A frame that finds a full queue waits as long as the queue is, and no longer.
func TestPathQueues(t *testing.T) {
	const queue = 200 * time.Millisecond
	c := newCourse(Path{Rate: 20e6, Queue: queue, Delay: 10 * time.Millisecond}, 1)
	var worst time.Duration
	for now := int64(0); now < int64(3*time.Second); now += int64(300 * time.Microsecond) {
		c.admit(frame{size: 1514}, now, false)
		for f, ok := c.due(now); ok; f, ok = c.due(now) {
			worst = max(worst, time.Duration(f.at-f.arrived))
		}
		c.looked = now
	}
	if want := queue + 10*time.Millisecond; worst < want-3*time.Millisecond || worst > want {
		t.Errorf("the longest way took %v, want %v", worst, want)
	}
}

func TestPathLoses(t *testing.T) {
	for _, tt := range []struct {
		p     Path
		share float64
		run   float64 // mean length of a run of losses, in frames
	}{
		{Path{Loss: 0.02}, 0.02, 1 / 0.98},
		{Path{BurstEnter: 0.00125, BurstLeave: 0.125}, 0.00125 / (0.00125 + 0.125), 8},
	} {
		c := newCourse(tt.p, 7)
		const n = 1_000_000
		var lost, runs int
		before := false
		for range n {
			gone := !c.admit(frame{size: 1514}, 0, false)
			c.due(0)
			if gone {
				lost++
				if !before {
					runs++
				}
			}
			before = gone
		}
		if got := float64(lost) / n; math.Abs(got/tt.share-1) > 0.1 {
			t.Errorf("%+v: lost %.4f, want %.4f", tt.p, got, tt.share)
		}
		if got := float64(lost) / float64(runs); math.Abs(got/tt.run-1) > 0.1 {
			t.Errorf("%+v: runs of %.2f, want %.2f", tt.p, got, tt.run)
		}
		if !c.admit(frame{size: 42}, 0, true) {
			t.Error("a precious frame was lost")
		}
	}
}

// What still waits is sent at the new rate.
func TestPathChangesItsRate(t *testing.T) {
	c := newCourse(Path{Rate: 20e6}, 1)
	for range 100 {
		c.admit(frame{size: 1514}, 0, false)
	}
	c.setRate(1e6, int64(10*time.Millisecond))
	var last int64
	for at, ok := c.next(); ok; at, ok = c.next() {
		if f, ok := c.due(at); ok {
			last = f.at
		}
	}
	sent := bits(100)
	if want := 10e6 + (sent-20e6*0.01)/1e6*1e9; math.Abs(float64(last)/want-1) > 0.02 {
		t.Errorf("empty after %v, want %v", time.Duration(last), time.Duration(want))
	}
}

// A look that comes late costs the line nothing, as long as there was something
// to send.
func TestPathForgivesLateLooks(t *testing.T) {
	c := newCourse(Path{Rate: 10e6, Queue: time.Second}, 1)
	n := 0
	for now := int64(0); now < int64(10*time.Second); now += int64(15 * time.Millisecond) {
		for range 14 { // 1.1 times what fits into 15 ms
			c.admit(frame{size: 1514}, now, false)
		}
		for _, ok := c.due(now); ok; _, ok = c.due(now) {
			n++
		}
		c.looked = now
	}
	if got := bits(n) / 10; math.Abs(got/10e6-1) > 0.01 {
		t.Errorf("carries %.0f bit/s of 10e6", got)
	}
}

func TestPathRefusesNonsense(t *testing.T) {
	for _, p := range []Path{{Loss: 1.1}, {Loss: -1}, {BurstEnter: 0.1}, {Rate: 1}, {Rate: math.NaN()}, {Delay: -1}, {Queue: time.Minute}} {
		if p.check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
}

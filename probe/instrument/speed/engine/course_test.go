package engine

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// line is one that a course is played on: what it carries with so many streams, what
// a round trip takes there, and which share of segments is lost.
type line struct {
	rtt   time.Duration
	carry func(streams int, t time.Duration) (bits float64, queue time.Duration, loss float64)
}

// play feeds a course every 50 ms until it stops.
func play(l line, limit time.Duration, mostBytes int64, full bool) (*course, order) {
	c := newCourse(limit, mostBytes, full)
	c.begins(l.rtt)
	random := rand.New(rand.NewPCG(1, 2))
	var bytes, segments, again float64
	streams := c.streams
	c.passed.add(Point{})
	for t := 50 * time.Millisecond; t < time.Minute; t += 50 * time.Millisecond {
		bits, queue, loss := l.carry(streams, t)
		bytes += bits / 8 * 0.05 * (1 + 0.02*(random.Float64()-0.5))
		segments += bits / 8 * 0.05 / 1448
		again += loss * bits / 8 * 0.05 / 1448
		c.passed.add(Point{t, int64(bytes)})
		c.looks = append(c.looks, Look{At: t, RTT: l.rtt + queue, MinRTT: l.rtt, Segments: uint64(segments), Again: uint64(again)})
		o := c.next()
		if o.stop != "" {
			return c, o
		}
		streams = o.streams
	}
	return c, order{}
}

// full is a line of so many bits per second with a queue that fills.
func full(bits float64) func(int, time.Duration) (float64, time.Duration, float64) {
	return func(_ int, t time.Duration) (float64, time.Duration, float64) {
		if t < 500*time.Millisecond { // slow start
			return bits / 2, 0, 0
		}
		return bits, 150 * time.Millisecond, 0.001
	}
}

func TestCourse(t *testing.T) {
	ms := time.Millisecond
	for _, tt := range []struct {
		name      string
		line      line
		limit     time.Duration
		mostBytes int64
		full      bool

		stop      stopReason
		streams   int
		rate      float64       // bits per second, within 2%
		within    time.Duration // it ends
		saturated bool
		steady    bool
	}{
		{"a queue stands: no more streams, and an early end", line{20 * ms, full(20e6)},
			15 * time.Second, 0, false, stopStable, 8, 20e6, 3 * time.Second, true, true},
		{"for audit: the whole time", line{20 * ms, full(20e6)},
			6 * time.Second, 0, true, stopLimit, 8, 20e6, 6100 * ms, true, true},
		{"bytes are spent", line{20 * ms, full(20e6)},
			15 * time.Second, 3_000_000, false, stopBytes, 8, 20e6, 2 * time.Second, true, true},
		{"a long way: long windows, sixteen at once", line{600 * ms, full(5e6)},
			15 * time.Second, 0, false, stopStable, 16, 5e6, 9 * time.Second, true, true},
		{"a long way, and losses hold all of them", line{250 * ms, func(n int, _ time.Duration) (float64, time.Duration, float64) {
			return float64(n) * 0.4e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopStable, 16, 6.4e6, 6 * time.Second, false, true},
		{"a long way, no queue and no loss: nothing shows that it is full", line{250 * ms, func(n int, _ time.Duration) (float64, time.Duration, float64) {
			return float64(n) * 2e6, 0, 0
		}}, 15 * time.Second, 0, false, stopStable, 16, 32e6, 6 * time.Second, false, true},
		{"full at first", line{600 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			if t < 10*time.Second {
				return 5e6, 200 * ms, 0.01
			}
			return 3e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopStable, 16, 5e6, 9600 * ms, true, true},
		{"the dips after many losses agree, but not with the full line that follows", line{600 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			switch {
			case t < 4*time.Second:
				return 2e6, 0, 0
			case t < 7*time.Second:
				return 4.7e6, 0, 0.02
			}
			return 4.8e6 + 0.2e6*min((t-7*time.Second).Seconds(), 1), 100 * ms, 0.01
		}}, 15 * time.Second, 0, false, stopStable, 16, 5e6, 15 * time.Second, true, true},
		{"full now and then", line{600 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			if t%(3*time.Second) < 1800*ms {
				return 5e6, 200 * ms, 0.01
			}
			return 3.5e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopLimit, 16, 0, 15100 * ms, false, false},
		{"over before it could compare", line{20 * ms, func(int, time.Duration) (float64, time.Duration, float64) { return 20e6, 0, 0 }},
			900 * ms, 0, false, stopLimit, 8, 20e6, time.Second, false, true},
		{"a rise to the end", line{600 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) { return 1e6 * t.Seconds(), 0, 0 }},
			15 * time.Second, 0, false, stopLimit, 16, 0, 15100 * ms, false, false},
		{"slower at first, and it beats faster than a window: the half that agrees", line{20 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			if t < 6*time.Second {
				return 5e6 + 3e6*math.Sin(2*math.Pi*t.Seconds()), 150 * ms, 0.001
			}
			return 20e6 + 10e6*math.Sin(2*math.Pi*t.Seconds()/0.625), 150 * ms, 0.001
		}}, 15 * time.Second, 0, false, stopLimit, 8, 20e6, 15100 * ms, true, true},
		{"for audit: a pause belongs to it", line{20 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			if s := t.Seconds(); s > 8 && s <= 9 {
				return 0, 150 * ms, 0.001
			}
			return 20e6, 150 * ms, 0.001
		}}, 15 * time.Second, 0, true, stopLimit, 8, 20e6 * 10.25 / 11.25, 15100 * ms, true, false},
		{"no queue and no loss: twice the streams bring nothing", line{20 * ms, func(_ int, _ time.Duration) (float64, time.Duration, float64) { return 50e6, 2 * ms, 0 }},
			15 * time.Second, 0, false, stopStable, 16, 50e6, 5 * time.Second, true, true},
		{"windows too small: twice the streams bring twice as much", line{100 * ms, func(n int, _ time.Duration) (float64, time.Duration, float64) {
			return float64(n) * 5e6, 0, 0
		}}, 15 * time.Second, 0, false, stopStable, 16, 80e6, 6 * time.Second, false, true},
		{"losses that do not answer hold the streams", line{100 * ms, func(n int, _ time.Duration) (float64, time.Duration, float64) {
			return float64(n) * 0.4e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopStable, 16, 6.4e6, 12 * time.Second, false, true},
		{"the same where they fell back meanwhile: the sum stays, the losses tell", line{100 * ms, func(n int, t time.Duration) (float64, time.Duration, float64) {
			if n == 8 {
				return 6.4e6, 0, 0.02
			}
			return 6.4e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopStable, 16, 6.4e6, 12 * time.Second, false, true},
		{"a policer: more streams, more losses, no more bytes", line{20 * ms, func(n int, _ time.Duration) (float64, time.Duration, float64) {
			return 20e6, 0, 0.0005 * float64(n*n)
		}}, 15 * time.Second, 0, false, stopStable, 16, 20e6, 5 * time.Second, true, true},
		{"a rate that swings: the whole time, and it says so", line{20 * ms, func(_ int, t time.Duration) (float64, time.Duration, float64) {
			return 20e6 + 10e6*math.Sin(2*math.Pi*t.Seconds()/3), 150 * ms, 0.001
		}}, 15 * time.Second, 0, false, stopLimit, 8, 0, 15100 * ms, true, false},
		{"an overshoot that is followed by loss is no queue", line{60 * ms, func(n int, t time.Duration) (float64, time.Duration, float64) {
			if t < 1200*time.Millisecond {
				return 20e6, 100 * ms, 0.02
			}
			return float64(n) * 0.8e6, 0, 0.02
		}}, 15 * time.Second, 0, false, stopStable, 16, 12.8e6, 8 * time.Second, false, true},
		{"slow: windows long enough to hold something", line{20 * ms, full(1e6)},
			15 * time.Second, 0, false, stopStable, 8, 1e6, 7 * time.Second, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, o := play(tt.line, tt.limit, tt.mostBytes, tt.full)
			rate := c.passed.rate(o.from, o.to)
			if o.stop != tt.stop || o.streams != tt.streams || o.to > tt.within || o.steady != tt.steady {
				t.Errorf("%+v", o)
			}
			if tt.rate > 0 && math.Abs(rate/tt.rate-1) > 0.02 {
				t.Errorf("%.0f bit/s, want %.0f", rate, tt.rate)
			}
			if got := c.saturated(o); got != tt.saturated {
				t.Errorf("saturated: %v; before %.0f, rise %.2f, loss %.4f", got, c.before, c.rise, c.loss)
			}
		})
	}
}

func TestSeries(t *testing.T) {
	var s series
	for _, p := range []Point{{0, 0}, {time.Second, 1000}, {500 * time.Millisecond, 2000}, {2 * time.Second, 900}, {3 * time.Second, 1000}, {4 * time.Second, 3000}} {
		s.add(p)
	}
	if len(s) != 4 { // what is earlier or less says nothing
		t.Errorf("%v", s)
	}
	for at, want := range map[time.Duration]float64{-time.Second: 0, 0: 0, 500 * time.Millisecond: 500, 2 * time.Second: 1000, 3500 * time.Millisecond: 2000, time.Minute: 3000} {
		if got := s.bytesAt(at); got != want {
			t.Errorf("at %v: %v, want %v", at, got, want)
		}
	}
	if got := s.rate(0, 4*time.Second); got != 6000 {
		t.Errorf("rate %v", got)
	}
	if s.moved() != 4*time.Second || series(nil).rate(0, 0) != 0 || series(nil).bytesAt(1) != 0 {
		t.Error("the ends")
	}
}

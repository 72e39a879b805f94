package schedule

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
)

func TestSlot(t *testing.T) {
	day := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		now, want string
		interval  time.Duration
		phase     time.Duration
	}{
		{"07:00:00", "07:00:00", time.Minute, 0},
		{"07:00:59.9", "07:00:00", time.Minute, 0},
		{"07:00:11", "06:59:12", time.Minute, 12 * time.Second},
		{"07:00:12", "07:00:12", time.Minute, 12 * time.Second},
		{"00:00:03", "00:00:00", 15 * time.Second, 0},
	} {
		now, err := time.Parse("15:04:05", c.now)
		if err != nil {
			t.Fatal(err)
		}
		now = day.Add(now.Sub(now.Truncate(24 * time.Hour)))
		if got := Slot(now, c.interval, c.phase).Format("15:04:05"); got != c.want {
			t.Errorf("%s, every %v at %v: %s, want %s", c.now, c.interval, c.phase, got, c.want)
		}
	}
	before1970 := time.Unix(-90, 0)
	if got := Slot(before1970, time.Minute, 0); !got.Equal(time.Unix(-120, 0)) {
		t.Errorf("before 1970: %v", got)
	}
}

func TestPhasesSpreadOverTheMinute(t *testing.T) {
	seconds := map[time.Duration]int{}
	for i := range 6000 {
		p := Phase(measure.ProbeID(fmt.Sprintf("kl-%04d", i)), time.Minute)
		if p < 0 || p >= time.Minute || p%time.Second != 0 {
			t.Fatal(p)
		}
		seconds[p]++
	}
	for s := range time.Duration(60) {
		if n := seconds[s*time.Second]; n < 50 || n > 150 { // 100 expected, 5 standard deviations
			t.Errorf("%d of 6000 probes at second %d", n, s)
		}
	}
}

func TestGap(t *testing.T) {
	p := Pace{Mean: time.Hour}
	half, one := func() float64 { return 0.5 }, func() float64 { return 1 }
	for _, c := range []struct {
		name      string
		first     bool
		since     time.Duration
		known     bool
		exp       func() float64
		want      time.Duration
		rationale string
	}{
		{"first ever", true, 0, false, one, 30 * time.Second, "within a minute of the start"},
		{"first after a long rest", true, 2 * time.Hour, true, one, 30 * time.Second, "within a minute of the start"},
		{"restart in a loop", true, time.Minute, true, one, time.Hour, "the quota is not spent on restarts"},
		{"clock went back", true, -time.Hour, true, one, 30 * time.Second, "an unknown past does not hold up"},
		{"running", false, 0, true, one, time.Hour, "the mean"},
		{"very soon", false, 0, true, func() float64 { return 0 }, 6 * time.Minute, "never back to back"},
		{"very late", false, 0, true, func() float64 { return 9 }, 5 * time.Hour, "never forgotten"},
	} {
		if got := Gap(p, c.first, c.since, c.known, half, c.exp); got != c.want {
			t.Errorf("%s: %v, want %v: %s", c.name, got, c.want, c.rationale)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var sum, n float64 = 0, 20000
	for range int(n) {
		sum += Gap(p, false, 0, true, rnd.Float64, rnd.ExpFloat64).Hours()
	}
	if m := sum / n; math.Abs(m-1) > 0.03 {
		t.Errorf("the mean gap is %v h, want about 1", m)
	}
}

type log struct {
	mu      sync.Mutex
	results []measure.Result
}

func (l *log) record(r measure.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.results = append(l.results, r)
}

func (l *log) last(k measure.Kind) (t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.results {
		if r.Kind == k {
			t = r.MeasuredAt
		}
	}
	return t
}

func (l *log) of(k measure.Kind) (rs []measure.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.results {
		if r.Kind == k {
			rs = append(rs, r)
		}
	}
	return rs
}

func okay(k measure.Kind, m measure.Metric) func(context.Context) measure.Result {
	return func(ctx context.Context) measure.Result {
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
		return measure.Result{Kind: k, Outcome: measure.OK, Values: []measure.Value{{Metric: m, Number: 1}}, Duration: 2 * time.Second}
	}
}

func start(t *testing.T, l *log, set func() Set) (stop func()) {
	t.Helper()
	began := time.Now()
	r := New(Options{Probe: "kl-0001", Set: set, LastSlot: l.last, Record: l.record,
		Now: func() clock.Reading {
			return clock.Reading{Wall: time.Now(), Mono: time.Since(began) + time.Hour, Boot: "b"}
		},
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestEveryMinuteOnceWhateverTheHeavyTestDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		heavy, most := 0, 0
		var mu sync.Mutex
		set := func() Set {
			return Set{Interval: time.Minute, Pace: Pace{Mean: 20 * time.Minute},
				Light: []Light{{Kind: measure.KindReach, Measure: okay(measure.KindReach, measure.ODPReachable)},
					{Kind: measure.KindLatency, Measure: okay(measure.KindLatency, measure.PacketLossRatio), Idle: true}},
				Heavy: func(ctx context.Context) []measure.Result {
					mu.Lock()
					heavy++
					most = max(most, heavy)
					mu.Unlock()
					time.Sleep(150 * time.Second) // far longer than a slot
					mu.Lock()
					heavy--
					mu.Unlock()
					return []measure.Result{{Kind: measure.KindDownload, Outcome: measure.OK, Duration: 75 * time.Second,
						Values: []measure.Value{{Metric: measure.DownloadBitsPerSecond, Number: 1}}},
						{Kind: measure.KindUpload, Outcome: measure.OK, Duration: 75 * time.Second,
							Values: []measure.Value{{Metric: measure.UploadBitsPerSecond, Number: 1}}}}
				}}
		}
		stop := start(t, l, set)
		time.Sleep(4 * time.Hour)
		stop()
		reach := l.of(measure.KindReach)
		if len(reach) < 239 || len(reach) > 241 {
			t.Fatalf("%d reach results in 240 minutes", len(reach))
		}
		phase := Phase("kl-0001", time.Minute)
		for i, r := range reach {
			if i > 0 && r.MeasuredAt.Sub(reach[i-1].MeasuredAt) != time.Minute {
				t.Fatalf("from %v to %v", reach[i-1].MeasuredAt, r.MeasuredAt)
			}
			if got := r.MeasuredAt.Sub(r.MeasuredAt.Truncate(time.Minute)); got != phase {
				t.Fatalf("measured at %v of the minute, want %v", got, phase)
			}
			if r.Boot != "b" || r.Monotonic <= 0 {
				t.Fatalf("%+v", r)
			}
		}
		down := l.of(measure.KindDownload)
		if len(down) < 2 || len(down) > 30 || most != 1 { // the longest gap is 100 minutes
			t.Fatalf("%d heavy tests, %d at once", len(down), most)
		}
		skipped := 0
		for _, r := range l.of(measure.KindLatency) {
			if r.Outcome == measure.Skipped {
				if r.Reason != measure.ReasonBusyLine {
					t.Fatalf("%+v", r)
				}
				skipped++
			}
		}
		// 150 s from the end of a round cover the next two slots.
		if want := 2 * len(down); skipped < want-2 || skipped > want+2 {
			t.Fatalf("%d latency results skipped over %d heavy tests", skipped, len(down))
		}
		up := l.of(measure.KindUpload)
		if d := up[0].MeasuredAt.Sub(down[0].MeasuredAt); d != 75*time.Second {
			t.Fatalf("upload began %v after download", d)
		}
	})
}

func TestRestartMeasuresNoSlotTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		set := func() Set {
			return Set{Interval: time.Minute, Light: []Light{{Kind: measure.KindReach, Measure: okay(measure.KindReach, measure.ODPReachable)}}}
		}
		for range 20 {
			stop := start(t, l, set)
			time.Sleep(35 * time.Second)
			stop()
		}
		seen := map[time.Time]bool{}
		for _, r := range l.of(measure.KindReach) {
			if seen[r.MeasuredAt] {
				t.Fatalf("slot %v twice", r.MeasuredAt)
			}
			seen[r.MeasuredAt] = true
		}
		if len(seen) < 8 {
			t.Fatalf("%d slots of about 11", len(seen))
		}
	})
}

func TestFirstHeavyTestWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		ran := make(chan time.Duration, 1)
		began := time.Now()
		set := func() Set {
			return Set{Interval: time.Minute, Pace: Pace{Mean: 6 * time.Hour}, Heavy: func(context.Context) []measure.Result {
				ran <- time.Since(began)
				return nil
			}}
		}
		stop := start(t, l, set)
		defer stop()
		if d := <-ran; d > time.Minute {
			t.Fatalf("after %v", d)
		}
	})
}

func TestAnInstrumentThatLiesIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		set := func() Set {
			return Set{Interval: time.Minute, Light: []Light{{Kind: measure.KindReach, Measure: func(context.Context) measure.Result {
				return measure.Result{Kind: measure.KindReach, Outcome: measure.OK} // ok without a value
			}}}}
		}
		stop := start(t, l, set)
		time.Sleep(2 * time.Minute)
		stop()
		if r := l.of(measure.KindReach)[0]; r.Outcome != measure.Failed || r.Reason != measure.ReasonInternal {
			t.Fatalf("%+v", r)
		}
	})
}

func TestSpread(t *testing.T) {
	none, half, almost := func() float64 { return 0 }, func() float64 { return 0.5 }, func() float64 { return 0.999 }
	for _, c := range []struct {
		name  string
		every time.Duration
		first bool
		since time.Duration
		known bool
		rnd   func() float64
		want  time.Duration
	}{
		{"running", time.Hour, false, 0, true, half, time.Hour},
		{"running, soon", time.Hour, false, 0, true, none, 30 * time.Minute},
		{"running, late", time.Hour, false, 0, true, almost, time.Hour + 30*time.Minute - 3600*time.Millisecond},
		{"first ever", time.Hour, true, 0, false, half, 30 * time.Second},
		{"first after a long rest", time.Hour, true, 2 * time.Hour, true, half, 30 * time.Second},
		{"restart in a loop", time.Hour, true, 20 * time.Minute, true, half, 40 * time.Minute},
		{"restart in a loop, soon", time.Hour, true, 20 * time.Minute, true, none, 10 * time.Minute},
		{"clock went back", time.Hour, true, -time.Hour, true, half, 30 * time.Second},
		{"often", 10 * time.Second, true, 0, false, half, 5 * time.Second},
	} {
		if got := Spread(c.every, c.first, c.since, c.known, c.rnd); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRareInstruments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		var mu sync.Mutex
		heavy, rare := false, 0
		rarely := func(kind measure.Kind, idle bool, takes time.Duration) func(context.Context) []measure.Result {
			return func(context.Context) []measure.Result {
				mu.Lock()
				rare++
				if rare > 1 || idle && heavy {
					t.Errorf("%s: %d rare ones at once, heavy %v", kind, rare, heavy)
				}
				mu.Unlock()
				time.Sleep(takes)
				mu.Lock()
				if idle && heavy {
					t.Errorf("a heavy test began while %s was measured", kind)
				}
				rare--
				mu.Unlock()
				one := measure.Result{Kind: kind, Outcome: measure.OK, Duration: takes / 2,
					Values: []measure.Value{{Metric: measure.DNSAnswerSeconds, Number: 1}}}
				return []measure.Result{one, one}
			}
		}
		set := func() Set {
			return Set{Interval: time.Minute, Pace: Pace{Mean: 10 * time.Minute},
				Rare: []Rare{{Kind: measure.KindDNS, Every: 20 * time.Minute, Idle: true, Measure: rarely(measure.KindDNS, true, 40*time.Second)},
					{Kind: measure.KindOptics, Every: 5 * time.Minute, Measure: rarely(measure.KindOptics, false, 4*time.Second)}},
				Heavy: func(context.Context) []measure.Result {
					mu.Lock()
					heavy = true
					mu.Unlock()
					time.Sleep(2 * time.Minute)
					mu.Lock()
					heavy = false
					mu.Unlock()
					return nil
				}}
		}
		stop := start(t, l, set)
		time.Sleep(20 * time.Hour)
		stop()
		for kind, want := range map[measure.Kind]int{measure.KindDNS: 60, measure.KindOptics: 240} {
			rs := l.of(kind)
			if n := len(rs) / 2; n < want*8/10 || n > want*12/10 {
				t.Errorf("%s: %d times in 20 hours, want about %d", kind, n, want)
			}
			seconds := map[int]int{}
			for i := 0; i+1 < len(rs); i += 2 {
				if d := rs[i+1].MeasuredAt.Sub(rs[i].MeasuredAt); d != rs[i].Duration {
					t.Fatalf("%s: the second of two began %v after the first, which took %v", kind, d, rs[i].Duration)
				}
				seconds[rs[i].MeasuredAt.Second()]++
			}
			if len(seconds) < 20 {
				t.Errorf("%s: at %d different seconds only", kind, len(seconds))
			}
		}
	})
}

func TestRareInstrumentsFollowTheConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		var mu sync.Mutex
		every := 10 * time.Hour
		set := func() Set {
			mu.Lock()
			defer mu.Unlock()
			s := Set{Interval: time.Minute}
			if every > 0 {
				s.Rare = []Rare{{Kind: measure.KindDNS, Every: every, Measure: func(context.Context) []measure.Result {
					return []measure.Result{measure.Result{Kind: measure.KindDNS}.Fail(measure.ReasonTimeout, "")}
				}}}
			}
			return s
		}
		stop := start(t, l, set)
		defer stop()
		phase := func(e, lasts time.Duration, least, most int) {
			t.Helper()
			mu.Lock()
			every = e
			mu.Unlock()
			before := len(l.of(measure.KindDNS))
			time.Sleep(lasts)
			if n := len(l.of(measure.KindDNS)) - before; n < least || n > most {
				t.Errorf("every %v for %v: %d times", e, lasts, n)
			}
		}
		phase(10*time.Hour, 2*time.Hour, 1, 1)
		// Gaps of a half to one and a half hours; it does not wait for the end of the ten.
		phase(time.Hour, 10*time.Hour, 6, 20)
		phase(0, 10*time.Hour, 0, 0)
		phase(10*time.Hour, 7*time.Hour, 1, 2)
	})
}

package schedule

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
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
	fixed := func(x float64) func() float64 { return func() float64 { return x } }
	for _, c := range [][2]float64{{0, 0.1}, {1, 1}, {9, 5}} { // never back to back, never forgotten
		if got := Gap(fixed(c[0])); got != c[1] {
			t.Errorf("%v: %v", c, got)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	var sum, n float64 = 0, 20000
	for range int(n) {
		sum += Gap(rnd.ExpFloat64)
	}
	if m := sum / n; math.Abs(m-1) > 0.03 {
		t.Errorf("the mean gap is %v means", m)
	}
	half := fixed(0.5)
	for _, c := range []struct {
		name  string
		since time.Duration
		known bool
		want  time.Duration
		ok    bool
	}{
		{"first ever", 0, false, 30 * time.Second, true},
		{"after a long rest", 2 * time.Hour, true, 30 * time.Second, true},
		{"restart in a loop", 50 * time.Minute, true, 0, false}, // the quota is not spent on restarts
		{"clock went back", -time.Hour, true, 30 * time.Second, true},
	} {
		if got, ok := (Pace{Mean: time.Hour}).first(c.since, c.known, half); got != c.want || ok != c.ok {
			t.Errorf("%s: %v %v", c.name, got, ok)
		}
	}
}

func TestPeakHours(t *testing.T) {
	wit := Pace{Offset: 9 * time.Hour}
	for _, c := range []struct {
		at, until string
		peak      bool
	}{
		{"2026-03-14T08:59:59Z", "2026-03-14T09:00:00Z", false},
		{"2026-03-14T09:00:00Z", "2026-03-14T14:00:00Z", true},
		{"2026-03-14T13:59:59Z", "2026-03-14T14:00:00Z", true},
		{"2026-03-14T14:00:00Z", "2026-03-15T09:00:00Z", false},
		{"2026-03-14T16:00:00Z", "2026-03-15T09:00:00Z", false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if peak, until := wit.window(at); peak != c.peak || until.Format(time.RFC3339) != c.until {
			t.Errorf("%s: %v until %v", c.at, peak, until)
		}
	}
	for _, share := range []float64{0, 0.1, 1.0 / 3, 0.9, 1, -1} {
		p := Pace{Peak: share, Offset: 7 * time.Hour}
		noon := time.Date(2026, 3, 14, 5, 0, 0, 0, time.UTC)
		in, out := 5*p.Weight(noon.Add(8*time.Hour)), 19*p.Weight(noon)
		if math.Abs(in+out-24) > 1e-9 {
			t.Errorf("share %v: a day has %v means", share, (in+out)/24)
		}
		if share <= 0 || share >= 1 {
			share = 1.0 / 3
		}
		if math.Abs(in/24-share) > 1e-9 {
			t.Errorf("share %v: %v", share, in/24)
		}
	}
}

// A month of tests: as many as the mean says, the peak's share of them, spread evenly
// over the hours within each window.
func TestAMonthOfTests(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	p := Pace{Mean: 20 * time.Minute, Offset: 7 * time.Hour}
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	var hours [24]float64
	n, last, left, least := 0.0, begin, Gap(rnd.ExpFloat64), time.Hour
	for at := begin; at.Before(begin.AddDate(0, 1, 0)); at = at.Add(time.Second) {
		if left -= p.Weight(at) / p.Mean.Seconds(); left > 0 {
			continue
		}
		left = Gap(rnd.ExpFloat64)
		hours[at.Add(p.Offset).Hour()]++
		n++
		least, last = min(least, at.Sub(last)), at
	}
	if want := 31 * 24 * 3.0; math.Abs(n-want) > 4*math.Sqrt(want) {
		t.Errorf("%v tests, want about %v", n, want)
	}
	peak := 0.0
	chi := 0.0
	for h, k := range hours {
		want := n * 2 / 3 / 19
		if h >= 18 && h < 23 {
			peak += k
			want = n / 3 / 5
		}
		chi += (k - want) * (k - want) / want
	}
	if sd := math.Sqrt(n * 2 / 9); math.Abs(peak-n/3) > 4*sd {
		t.Errorf("%v of %v tests in the peak hours", peak, n)
	}
	if chi > 49.7 { // chi-square, 23 degrees of freedom, 0.1%
		t.Errorf("chi-square over the hours is %v: %v", chi, hours)
	}
	if least < p.Mean/20 { // a tenth of the mean, at 1.6 times the pace
		t.Errorf("two tests only %v apart", least)
	}
}

func reading(rx, tx float64) measure.Result {
	return measure.Result{Kind: measure.KindUsage, Outcome: measure.OK, Values: []measure.Value{
		{Metric: measure.LinkReceiveBytesTotal, Number: rx}, {Metric: measure.LinkTransmitBytesTotal, Number: tx}}}
}

func TestUse(t *testing.T) {
	none := measure.Result{Kind: measure.KindUsage}.Skip(measure.ReasonNoTarget, "")
	for _, c := range []struct {
		name         string
		first, then  measure.Result
		busy, unsure bool
	}{
		{"quiet", reading(0, 0), reading(480000, 240000), false, false}, // 64 and 32 kbit/s
		{"down", reading(0, 0), reading(480001, 0), true, false},
		{"up", reading(7, 1e6), reading(7, 1e6+240001), true, false},
		{"no meter", none, none, false, false},
		{"a meter that just began", none, reading(0, 0), false, true},
		{"a meter that broke", reading(0, 0), none, false, false},
		{"begun anew", reading(1e9, 1e9), reading(1e6, 1e6), false, true},
	} {
		u := use{}.next(c.first, time.Minute).next(c.then, 2*time.Minute)
		if u.busy() != c.busy || u.unsure() != c.unsure {
			t.Errorf("%s: %+v", c.name, u)
		}
	}
	p := Pace{Mean: time.Hour, Offset: 7 * time.Hour}
	noon := time.Date(2026, 3, 14, 5, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		mean       time.Duration
		due, until time.Time
	}{
		{time.Hour, noon, noon.Add(30 * time.Minute)},
		{6 * time.Hour, noon, noon.Add(time.Hour)},
		{6 * time.Hour, noon.Add(5*time.Hour + 50*time.Minute), noon.Add(6 * time.Hour)}, // the peak begins
	} {
		p.Mean = c.mean
		if got := p.patience(c.due); !got.Equal(c.until) {
			t.Errorf("%v from %v: %v", c.mean, c.due, got)
		}
	}
}

func TestATestWaitsForTheLine(t *testing.T) {
	for _, c := range []struct {
		name    string
		busy    func(time.Duration) bool // at a time since the start
		metered bool
		flags   []measure.Flag // of the first test
		within  [2]time.Duration
	}{
		{"nobody", func(time.Duration) bool { return false }, true, nil, [2]time.Duration{0, 4 * time.Minute}},
		{"for a while", func(d time.Duration) bool { return d < 20*time.Minute }, true,
			[]measure.Flag{measure.FlagDeferred}, [2]time.Duration{20 * time.Minute, 23 * time.Minute}},
		{"for ever", func(time.Duration) bool { return true }, true,
			[]measure.Flag{measure.FlagDeferred, measure.FlagCrossTraffic}, [2]time.Duration{60 * time.Minute, 64 * time.Minute}},
		{"nobody knows", func(time.Duration) bool { return true }, false, nil, [2]time.Duration{0, time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := new(log)
				began, moved, last := time.Now(), 0.0, time.Now()
				meter := func(context.Context) measure.Result {
					if !c.metered {
						return measure.Result{Kind: measure.KindUsage}.Skip(measure.ReasonNoTarget, "")
					}
					if c.busy(time.Since(began)) {
						moved += 1e6 / 8 * time.Since(last).Seconds()
					}
					last = time.Now()
					return reading(moved, 0)
				}
				set := func() Set {
					return Set{Interval: time.Minute, Metered: c.metered, Pace: Pace{Mean: 6 * time.Hour, Offset: -3 * time.Hour}, // synctest's midnight is 21:00
						Light: []Light{{Kind: measure.KindUsage, Measure: meter}},
						Heavy: func(context.Context) []measure.Result {
							r := reading(0, 0)
							r.Kind = measure.KindDownload
							return []measure.Result{r}
						}}
				}
				stop := start(t, l, set)
				time.Sleep(70 * time.Minute)
				stop()
				down := l.of(measure.KindDownload)
				if len(down) == 0 {
					t.Fatal("no test")
				}
				if d := down[0].MeasuredAt.Sub(began); d < c.within[0] || d > c.within[1] || !slices.Equal(down[0].Flags, c.flags) {
					t.Errorf("after %v, flags %v", d, down[0].Flags)
				}
			})
		})
	}
}

// Whoever turns the pace is followed at once, and a box that is switched off and on
// all the time tests hardly more often than another.
func TestTheRunnerKeepsThePace(t *testing.T) {
	for _, c := range []struct {
		name        string
		restart     time.Duration // on average; 0: never
		least, most float64       // tests in units of what the pace says
	}{{"undisturbed", 0, 0.8, 1.2}, {"switched off and on", 3 * time.Hour, 0.9, 1.6}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, mean := new(log), new(atomic.Int64)
				set := func() Set {
					return Set{Interval: time.Minute, Pace: Pace{Mean: time.Duration(mean.Load()), Offset: 7 * time.Hour},
						Heavy: func(context.Context) []measure.Result {
							r := reading(0, 0)
							r.Kind = measure.KindDownload
							return []measure.Result{r}
						}}
				}
				rnd := rand.New(rand.NewPCG(7, 8))
				for _, m := range []time.Duration{time.Hour, 8 * time.Hour, 30 * time.Minute} {
					const span = 10 * 24 * time.Hour
					mean.Store(int64(m))
					before, peak := len(l.of(measure.KindDownload)), 0
					for end := time.Now().Add(span); time.Now().Before(end); {
						stop := start(t, l, set)
						run := time.Until(end)
						if c.restart > 0 {
							run = min(run, time.Duration(rnd.ExpFloat64()*float64(c.restart)))
						}
						time.Sleep(run)
						stop()
					}
					made := l.of(measure.KindDownload)[before:]
					for _, r := range made {
						if h := r.MeasuredAt.Add(7 * time.Hour).Hour(); h >= 18 && h < 23 {
							peak++
						}
					}
					// Chance: four standard deviations.
					n, want := float64(len(made)), float64(span/m)
					if slack := 4 * math.Sqrt(want); n < want*c.least-slack || n > want*c.most+slack {
						t.Errorf("every %v: %v tests, want about %v", m, n, want)
					}
					if share := float64(peak) / n; c.restart == 0 && math.Abs(share-1.0/3) > 4*math.Sqrt(2.0/9/n) {
						t.Errorf("every %v: %v of %v tests in the peak hours", m, peak, n)
					}
				}
			})
		})
	}
}

func TestFullDue(t *testing.T) {
	const week = 7 * 24 * time.Hour
	begin := time.Date(2026, 3, 5, 0, 0, 0, 0, time.UTC) // a Thursday
	var days [7]int
	for i := range 1400 {
		id := measure.ProbeID(fmt.Sprintf("kl-%04d", i))
		first := FullDue(id, begin.Add(week-1))
		days[first.Sub(begin)/(24*time.Hour)]++
		for w := range time.Duration(5) {
			at := FullDue(id, begin.Add((w+1)*week-1))
			if at.Before(begin.Add(w*week)) || !at.Before(begin.Add((w+1)*week)) {
				t.Fatalf("%s, week %d: %v", id, w, at)
			}
			if got := FullDue(id, at.Add(-1)); !got.Before(at) || at.Sub(got) > 2*week {
				t.Fatalf("just before %v: %v", at, got)
			}
			if w > 0 && at.Sub(first) == w*week {
				t.Fatalf("%s: the same instant in two weeks", id)
			}
		}
	}
	for d, n := range days { // 200 expected, 5 standard deviations
		if n < 135 || n > 265 {
			t.Errorf("%d of 1400 on day %d", n, d)
		}
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
		SinceTest: func() (time.Duration, bool) {
			last := l.last(measure.KindDownload)
			return time.Since(last), !last.IsZero()
		},
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
		// 150 s from the end of a round cover the next two slots. The first test, which
		// waits for no round, may cover three, and one under way at the end has no result.
		if want := 2 * len(down); skipped < want || skipped > want+3 {
			t.Fatalf("%d latency results skipped over %d heavy tests", skipped, len(down))
		}
		up := l.of(measure.KindUpload)
		if d := up[0].MeasuredAt.Sub(down[0].MeasuredAt); d != 75*time.Second {
			t.Fatalf("upload began %v after download", d)
		}
	})
}

// A test that is put off comes when it was told, and spoils nothing meanwhile.
func TestATestThatIsPutOffComesWhenItWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := new(log)
		waits := []time.Duration{95 * time.Second, 7 * time.Minute, 2 * time.Second, 0}
		var tries []time.Time
		set := func() Set {
			return Set{Interval: time.Minute, Pace: Pace{Mean: 100 * time.Hour},
				Light: []Light{{Kind: measure.KindLatency, Measure: okay(measure.KindLatency, measure.PacketLossRatio), Idle: true}},
				Heavy: func(context.Context) []measure.Result {
					tries = append(tries, time.Now())
					if waits[len(tries)-1] > 0 {
						return nil
					}
					return []measure.Result{{Kind: measure.KindDownload, Outcome: measure.OK,
						Values: []measure.Value{{Metric: measure.DownloadBitsPerSecond, Number: 1}}}}
				},
				Postponed: func() time.Duration { return waits[len(tries)-1] }}
		}
		stop := start(t, l, set)
		time.Sleep(20 * time.Minute)
		stop()
		if len(tries) != len(waits) || len(l.of(measure.KindDownload)) != 1 {
			t.Fatalf("%d tries, %d tests", len(tries), len(l.of(measure.KindDownload)))
		}
		for i, at := range tries[1:] {
			if late := at.Sub(tries[i]) - waits[i]; late < 0 || late > 40*time.Second {
				t.Errorf("told to come in %v, came %v later than that", waits[i], late)
			}
		}
		for _, r := range l.of(measure.KindLatency) {
			if r.Outcome != measure.OK {
				t.Errorf("a slot was spoiled: %+v", r)
			}
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

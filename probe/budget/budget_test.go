package budget

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/probe/schedule"
)

// box is a probe's surroundings: what it moves, and its clock.
type box struct {
	t       *testing.T
	file    string
	rx, tx  uint64 // since the program's start
	at      time.Time
	vouched bool
	log     bytes.Buffer
}

func newBox(t *testing.T, at time.Time) *box {
	dir, err := os.MkdirTemp("/dev/shm", "budget") // thousands of writes, and none of them about the disk
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &box{t: t, file: filepath.Join(dir, "budget.json"), at: at, vouched: true}
}

// start is a start of the program, after however it ended.
func (b *box) start(budget uint64) *Account {
	b.rx, b.tx = 0, 0
	a := Open(Options{File: b.file, Own: func() (uint64, uint64) { return b.rx, b.tx },
		Now:    func() (time.Time, bool) { return b.at, b.vouched },
		Logger: slog.New(slog.NewTextHandler(&b.log, nil))})
	a.SetBudget(budget)
	a.Keep()
	return a
}

func (b *box) move(n uint64) { b.rx += n - n/3; b.tx += n / 3 }

// begun is an account that has existed since the month began.
func (b *box) begun(budget uint64) *Account {
	at, vouched := b.at, b.vouched
	b.at, _ = MonthOf(at).Bounds()
	b.vouched = true
	if err := b.start(budget).Close(); err != nil {
		b.t.Fatal(err)
	}
	b.at, b.vouched = at, vouched
	return b.start(budget)
}

var (
	first = time.Date(2026, 3, 1, 0, 0, 0, 0, zone)
	mid   = time.Date(2026, 3, 16, 12, 0, 0, 0, zone) // half of 31 days
)

func TestMonth(t *testing.T) {
	for _, c := range []struct{ at, month, rest string }{
		{"2026-02-28T16:59:59Z", "2026-02", "1s"},
		{"2026-02-28T17:00:00Z", "2026-03", "744h0m0s"},
		{"2026-12-31T17:00:00Z", "2027-01", "744h0m0s"},
		{"2027-01-31T10:00:00Z", "2027-01", "7h0m0s"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		m := MonthOf(at)
		if m.String() != c.month || m.Rest(at).String() != c.rest {
			t.Errorf("%s: %s, %v", c.at, m, m.Rest(at))
		}
		var again Month
		if err := again.UnmarshalText([]byte(m.String())); err != nil || again != m {
			t.Errorf("%v: %v, %v", m, again, err)
		}
	}
	m := MonthOf(first)
	for _, outside := range []time.Time{first.Add(-1), first.AddDate(0, 1, 0), {}} {
		if m.Rest(outside) != 31*24*time.Hour {
			t.Errorf("%v: %v", outside, m.Rest(outside))
		}
	}
}

func TestThePlanOfTheRest(t *testing.T) {
	const month, gb = 30 * 24 * time.Hour, 1e9
	for _, c := range []struct {
		name string
		o    outlook
		mean time.Duration // of 6 h
		most uint64
		ok   bool
	}{
		{"no budget", outlook{spent: 1e15, rest: month, cost: 50e6, known: true}, 6 * time.Hour, 4e9, true},
		{"enough", outlook{budget: 50 * gb, rest: month, light: 130, cost: 50e6, known: true}, 6 * time.Hour, 200e6, true},
		// A 256th of 100 GB, less 0.34 for the light ones.
		{"plenty", outlook{budget: 100 * gb, rest: month, light: 130, cost: 50e6, known: true}, 6 * time.Hour, 389308750, true},
		{"without end", outlook{budget: 1e6 * gb, rest: month, light: 130, cost: 50e6}, 6 * time.Hour, 4e9, true},
		// 3 GB, less 0.34 for the light ones, less 4.3 weeks of 150 MB more: 2.02 GB carry 40.4 tests.
		{"scarce", outlook{budget: 3 * gb, rest: month, light: 130, cost: 50e6, known: true}, 17*time.Hour + 49*time.Minute, 200e6, true},
		{"for one and a half", outlook{budget: gb, spent: gb - 75e6, rest: time.Hour, cost: 50e6, known: true}, 6 * time.Hour, 75e6, true},
		{"not for one", outlook{budget: gb, spent: gb - 49e6, rest: month, cost: 50e6, known: true}, 6 * time.Hour, 49e6, false},
		{"spent", outlook{budget: gb, spent: 2 * gb, rest: month, cost: 50e6, known: true}, 6 * time.Hour, 0, false},
		{"the light ones alone are too much", outlook{budget: gb, rest: month, light: 1000, cost: 50e6, known: true}, 6 * time.Hour, 0, false},
		{"the first", outlook{budget: 30 * gb, rest: month, light: 130, cost: firstCost}, 6 * time.Hour, 512e6, true},
		{"the first of little", outlook{budget: gb, rest: month, cost: firstCost}, 39 * time.Hour, 125e6, true},
	} {
		if mean := c.o.mean(6 * time.Hour); (mean - c.mean).Abs() > time.Hour {
			t.Errorf("%s: every %v, want %v", c.name, mean, c.mean)
		}
		if most, ok := c.o.most(false); most != c.most || ok != c.ok {
			t.Errorf("%s: at most %d, %v", c.name, most, ok)
		}
	}
	for _, c := range []struct {
		spare uint64
		rest  time.Duration
		ok    bool
	}{
		{2e9, month, true}, {1.2e9, month, false}, // 643 MB more than others until the month ends
		{300e6, 7 * 24 * time.Hour, false}, {310e6, 7 * 24 * time.Hour, true},
		{199e6, time.Hour, false}, {201e6, time.Hour, true},
	} {
		o := outlook{budget: 3 * gb, spent: 3*gb - c.spare, rest: c.rest, cost: 50e6, known: true}
		if most, ok := o.most(true); ok != c.ok || most != min(c.spare, 800e6) {
			t.Errorf("of full length with %d in %v: %d, %v", c.spare, c.rest, most, ok)
		}
	}
}

func TestAKillLosesNothing(t *testing.T) {
	b := newBox(t, first)
	a := b.start(10e9)
	b.move(1000)
	if v := a.View(); v.Spent != 1000 || v.Reserved < leastAhead/2 {
		t.Fatalf("%+v", v)
	}
	a = b.start(10e9) // killed
	if v := a.View(); v.Spent != leastAhead {
		t.Fatalf("what was charged ahead is not taken as spent: %+v", v)
	}
	if err := a.Close(); err != nil { // in good order
		t.Fatal(err)
	}
	a = b.start(10e9)
	if v := a.View(); v.Spent != leastAhead {
		t.Fatalf("%+v", v)
	}
	g, err := a.Reserve(false)
	if err != nil {
		t.Fatal(err)
	}
	b.move(20e6)
	if g.Left() != 512e6-20e6 {
		t.Fatalf("%d bytes left", g.Left())
	}
	a = b.start(10e9) // killed in the middle of the test
	if v := a.View(); v.Spent != 2*leastAhead+512e6 {
		t.Fatalf("%+v", v)
	}
	if since, known := a.SinceTest(); since != 0 || !known {
		t.Errorf("the test that was killed is forgotten: %v, %v", since, known)
	}
	// One that ends gives back what it did not take.
	before := a.View().Spent
	if g, err = a.Reserve(false); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Reserve(false); err == nil {
		t.Error("two tests at once")
	}
	b.move(50e6)
	g.End(50e6, true)
	g.End(50e6, true)
	if v := a.View(); v.Spent != before+50e6 || v.Test != 50e6 || v.Reserved != leastAhead {
		t.Errorf("%+v", v)
	}
	if v := b.start(10e9).View(); v.Spent != before+50e6+leastAhead || v.Test != 50e6 {
		t.Errorf("after a kill: %+v", v)
	}
}

func TestTheBudgetMayChange(t *testing.T) {
	b := newBox(t, mid)
	a := b.begun(10e9)
	b.move(2e9)
	a.SetBudget(1e9)
	if _, err := a.Reserve(false); err == nil || !strings.Contains(err.Error(), "of the 1000 MB of 2026-03 2000.0 MB are spent") {
		t.Errorf("%v", err)
	}
	a.SetBudget(5e9)
	if v := a.View(); v.Spent != 2e9 || v.Budget != 5e9 {
		t.Errorf("%+v", v)
	}
	g, err := a.Reserve(false)
	if err != nil {
		t.Fatal(err)
	}
	g.End(0, false)
	a.SetBudget(0)
	if g, err = a.Reserve(true); err != nil {
		t.Fatal("there is no budget to stop it")
	}
	g.End(0, false)
}

func TestClocksThatLie(t *testing.T) {
	b := newBox(t, mid)
	a := b.begun(10e9)
	b.move(4e6)
	spent := func(want uint64, month string) {
		t.Helper()
		if v := a.View(); v.Spent != want || v.Month.String() != month {
			t.Errorf("%d of %v, want %d of %s", v.Spent, v.Month, want, month)
		}
	}
	b.at, b.vouched = mid.AddDate(0, 2, 0), false // nothing vouches for it: the month goes on
	spent(4e6, "2026-03")
	b.at = time.Unix(0, 0)
	spent(4e6, "2026-03")
	b.at, b.vouched = mid.AddDate(0, 2, 0), true // a wrong server's time
	spent(0, "2026-05")
	b.move(1e6)
	spent(1e6, "2026-05")
	a.Keep()
	b.at = mid // and back
	spent(4e6, "2026-03")
	b.at = mid.AddDate(-1, 0, 0) // before all that is known
	spent(4e6, "2025-03")
	b.at = mid.AddDate(0, 2, 0)
	spent(1e6, "2026-05")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b.vouched = false
	a = b.start(10e9) // a boot without a clock
	spent(1e6, "2026-05")
	if !a.Seen().Equal(b.at) {
		t.Errorf("seen %v", a.Seen())
	}
	// A test goes on over the month's end: what it takes from then on is the new one's.
	b.vouched = true
	g, err := a.Reserve(false)
	if err != nil {
		t.Fatal(err)
	}
	b.move(100e6)
	b.at = mid.AddDate(0, 3, 0)
	spent(0, "2026-06")
	b.move(12e6)
	if g.Left() != 512e6-112e6 {
		t.Errorf("%d left", g.Left())
	}
	a.Keep()
	a = b.start(10e9)
	spent(512e6-100e6+leastAhead, "2026-06")
}

func TestABoxWithoutAMemory(t *testing.T) {
	for _, c := range []struct {
		name, file, says string
	}{
		{"none", "", "no account of the month yet"},
		{"torn", `{"months":[{"month":"2026-03","char`, "unreadable"},
		{"another checksum", `{"months":[{"month":"2026-03","charged_bytes":5}],"light_bytes_per_second":0}` + "\n00000000\n", "unreadable"},
		{"zeros", string(make([]byte, 100)), "unreadable"},
	} {
		b := newBox(t, mid)
		if c.file != "" {
			if err := os.WriteFile(b.file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b.start(0) // the budget comes with the configuration, later
		b.move(7)
		a := b.start(0)
		a.SetBudget(10e9)
		if v := a.View(); v.Spent != 5e9+leastAhead {
			t.Errorf("%s: %+v, want half of it and what was charged", c.name, v)
		}
		a.SetBudget(20e9)
		if v := a.View(); v.Spent != 5e9+leastAhead {
			t.Errorf("%s: taken twice: %+v", c.name, v)
		}
		if !strings.Contains(b.log.String(), c.says) {
			t.Errorf("%s: %s", c.name, b.log.String())
		}
		if c.file != "" {
			if kept, err := os.ReadFile(b.file + ".bad"); err != nil || string(kept) != c.file {
				t.Errorf("%s: what was unreadable is gone: %q, %v", c.name, kept, err)
			}
		}
	}
}

func TestNoTestThatCannotBeSetDown(t *testing.T) {
	b := newBox(t, first)
	b.file = filepath.Join(t.TempDir(), "no", "such", "folder", "budget.json")
	a := b.start(10e9)
	if _, err := a.Reserve(false); err == nil || !strings.Contains(err.Error(), "cannot be set down") {
		t.Fatal(err)
	}
	if _, known := a.SinceTest(); known {
		t.Error("a test that was refused is known as one")
	}
	b.move(5) // all else goes on
	a.Keep()
	if v := a.View(); v.Spent != 5 || v.Reserved != 0 {
		t.Errorf("%+v", v)
	}
	if err := os.MkdirAll(filepath.Dir(b.file), 0o700); err != nil {
		t.Fatal(err)
	}
	a.Keep()
	g, err := a.Reserve(false)
	if err != nil {
		t.Fatal(err)
	}
	g.End(1, true)
	if n := strings.Count(b.log.String(), "cannot be kept"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

func TestATestIsCutOffAtItsMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, first)
		a := b.start(10e9)
		g, err := a.Reserve(false)
		if err != nil {
			t.Fatal(err)
		}
		if p := g.Payload(0.5); p < 200e6 || float64(p) > 256e6/overhead {
			t.Errorf("%d bytes of payload in one direction", p)
		}
		ctx, stop := g.Context(t.Context())
		defer stop()
		time.Sleep(time.Minute)
		if ctx.Err() != nil {
			t.Fatal("cut off too early")
		}
		a.mu.Lock()
		b.move(600e6)
		a.mu.Unlock()
		time.Sleep(time.Second)
		if !errors.Is(context.Cause(ctx), ErrSpent) {
			t.Error(context.Cause(ctx))
		}
		if g.Payload(1) != 1 {
			t.Errorf("%d left", g.Payload(1))
		}
		g.End(600e6, true)
	})
}

// Two months of a probe that is killed and started anew several times a day, in the
// middle of tests too: what it really moved never exceeds the budget, what it says it
// spent is never less, and the budget is put to use.
func TestTwoMonthsOfKills(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget uint64
		cost   float64       // bytes of a test, on average
		kills  time.Duration // mean time between two
		least  int           // tests in February
	}{
		{"fibre", 30e9, 40e6, 8 * time.Hour, 80},
		{"satellite", 1.5e9, 50e6, 8 * time.Hour, 8},
		{"in a loop", 3e9, 30e6, 20 * time.Minute, 1},
		{"the light ones alone are too much", 100e6, 30e6, 8 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(5, 6))
				now := time.Now()
				b := newBox(t, now)
				b.at = now
				a := b.start(c.budget)
				really := map[Month]uint64{}
				tests := map[Month]int{}
				pace := schedule.Pace{Offset: 7 * time.Hour}
				left := schedule.Gap(rnd.ExpFloat64)
				const step = time.Minute
				tick := func(bytes uint64) (killed bool) {
					b.move(bytes)
					really[MonthOf(b.at)] += bytes
					time.Sleep(step)
					b.at = time.Now()
					if v := a.View(); v.Spent < really[v.Month] {
						t.Fatalf("%v: %d spent, really %d", b.at, v.Spent, really[v.Month])
					}
					if rnd.Float64() < float64(step)/float64(c.kills) {
						a, left = b.start(c.budget), schedule.Gap(rnd.ExpFloat64)
						return true
					}
					a.Keep()
					return false
				}
				for end := now.AddDate(0, 2, 0); b.at.Before(end); {
					tick(uint64(rnd.Float64() * 2 * 130 * step.Seconds()))
					if left -= step.Seconds() * pace.Weight(b.at) / a.Mean(6*time.Hour).Seconds(); left > 0 {
						continue
					}
					left = schedule.Gap(rnd.ExpFloat64)
					g, err := a.Reserve(false)
					if err != nil {
						continue
					}
					tests[MonthOf(b.at)]++
					var took uint64
					killed := false
					for want := uint64(c.cost * (0.5 + rnd.Float64())); took < want && g.Left() > 0 && !killed; {
						part := min(want/4+1, g.Left())
						took += part
						killed = tick(part)
					}
					if !killed {
						g.End(took, true)
					}
				}
				january, february := MonthOf(now), MonthOf(now)+1
				for _, m := range []Month{january, february} {
					t.Logf("%v: %.0f of %.0f MB, %d tests", m, float64(really[m])/1e6, float64(c.budget)/1e6, tests[m])
					if really[m] > c.budget && tests[m] > 0 {
						t.Errorf("%v: %d bytes of %d", m, really[m], c.budget)
					}
				}
				if tests[february] < c.least {
					t.Errorf("%d tests in February, want at least %d", tests[february], c.least)
				}
			})
		})
	}
}

// What goes on beside tests is set aside as it is, though the box never runs for long.
func TestAllElseIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t, first)
		a := b.start(10e9)
		for range 3600 { // minute by minute
			g, err := a.Reserve(false)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Second)
			b.move(1e6)
			a.Keep()
			g.End(1e6, true)
			for range 28 {
				b.move(2000) // 1 kB/s
				time.Sleep(2 * time.Second)
				a.Keep()
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			a = b.start(10e9)
		}
		if v := a.View(); v.Light < 900 || v.Light > 1100 {
			t.Errorf("%v bytes per second are set aside, want about 1000", v.Light)
		}
	})
}

func FuzzDecode(f *testing.F) {
	good, err := encode(state{Months: []charge{{MonthOf(mid), 5e9}, {MonthOf(first) - 1, 7}}, At: mid, Light: 130, Costs: []uint64{50e6}, Test: mid})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := decode(good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n00000000\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, in := range [][]byte{data, sealed(data)} {
			s, err := decode(in)
			if err != nil {
				continue
			}
			if err := s.check(); err != nil {
				t.Fatalf("accepted: %v", err)
			}
			out, err := encode(s)
			if err != nil {
				t.Fatalf("what was read cannot be written: %v", err)
			}
			if again, err := decode(out); err != nil || again.Months[0] != s.Months[0] {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
	})
}

// sealed gives any text its checksum, so that the reader behind it is tried too.
func sealed(raw []byte) []byte {
	raw = bytes.ReplaceAll(raw, []byte("\n"), nil)
	return appendSum(bytes.Clone(raw))
}

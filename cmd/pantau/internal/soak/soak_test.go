package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/probe/measure"
)

// What a probe may cost.
const (
	mostMemory = 20e6  // bytes resident, in a speed test too
	mostIdle   = 0.005 // of a core, between speed tests
)

const lengthVariable = "PANTAU_SOAK_DAY"

func TestDay(t *testing.T) {
	s := os.Getenv(lengthVariable)
	if s == "" {
		t.Skip("a soak: make soak-day, or make soak-day DAY=90s")
	}
	length, err := time.ParseDuration(s)
	if err != nil || length < time.Minute {
		t.Fatalf("%s=%s: want a duration of at least 1m", lengthVariable, s)
	}
	d := newDay(length)
	t.Logf("a day in %v, %d kills: light %v, heartbeat %v, seal %v, rare %v, speed tests %v on average; line %.2f/%.2f Mbit/s",
		d.length, d.kills, d.pace.Light, d.pace.Heartbeat, d.pace.Seal, d.pace.Rare, d.pace.SpeedMean, world.PublishedDown/1e6, world.PublishedUp/1e6)
	v := build(t, d)
	r := &record{}
	v.live(d, r)
	if t.Failed() {
		t.FailNow()
	}
	v.collector.end(t)
	r.judge(t, d, v.month, readJournal(t))
}

// record is what was seen of a day.
type record struct {
	began   time.Time
	start   sample // just before the first life
	samples []sample
	lives   []life
	accounts
	inTests int // kills while a test filled the line
	bills   []bill
}

// bill is what the probe's account of the month says at an instant, beside what the
// router has counted since the day began, in bytes.
type bill struct {
	at                      time.Time
	budget, spent, reserved float64
	ownDown, ownUp          float64 // what this life has moved by its own account
	down, up                float64 // by the router
}

func (b bill) own() float64    { return b.ownDown + b.ownUp }
func (b bill) routed() float64 { return b.down + b.up }

// accounts compare what lives said of their bytes with what the router counted in
// the same time.
type accounts struct {
	lives       int
	own, routed float64 // bytes
	unasked     int     // lives that ended before they could be asked
}

// live lets the probe live its day.
func (v *village) live(d day, r *record) {
	t := v.t
	// A random day each time; what is said here plays the same kills again.
	seed := uint64(time.Now().UnixNano())
	t.Logf("kills of seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	w := &watcher{v: v, began: time.Now()}
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	r.began = w.began
	var eyes sync.WaitGroup
	eyes.Go(func() { w.run(watching) })

	probe, born := v.born(w)
	r.start = born
	v.await("the probe tells its account of the month", func() bool {
		b, err := r.look(w)
		return err == nil && b.budget > 0
	})
	for i, x := range d.deaths(rnd) {
		inTest := w.until(t, x)
		before := r.ask(w, born)
		if inTest {
			r.inTests++
		}
		dead := time.Now()
		probe.kill()
		w.lives(nil)
		r.lives = append(r.lives, life{probe.began, dead})
		t.Logf("%v: kill %d, after %v, in a test: %v, %s", dead.Sub(w.began).Round(time.Second), i+1, dead.Sub(probe.began).Round(time.Second), inTest, before)
		wait(t, within(rnd, 2*time.Second))
		probe, born = v.born(w)
	}
	wait(t, time.Until(w.began.Add(d.length)))
	t.Log("the end: ", r.ask(w, born))
	dead := time.Now()
	probe.end(t)
	w.lives(nil)
	r.lives = append(r.lives, life{probe.began, dead})
	time.Sleep(every) // the last of what is on its way
	w.look()
	stop()
	eyes.Wait()
	for _, err := range w.errs {
		t.Error(err)
	}
	r.samples = w.samples
}

// born starts a probe, and returns what was seen just before.
func (v *village) born(w *watcher) (*process, sample) {
	v.t.Helper()
	before := w.look()
	p, err := v.probe()
	must(v.t, err)
	w.lives(p)
	return p, before
}

// until waits for the instant of a death, and reports whether a test fills the
// line then.
func (w *watcher) until(t *testing.T, x death) (inTest bool) {
	wait(t, time.Until(w.began.Add(x.watch)))
	for ; x.ambush >= 0 && time.Since(w.began) < x.at; wait(t, every/2) {
		if w.testing() {
			wait(t, x.ambush)
			return w.testing()
		}
	}
	wait(t, time.Until(w.began.Add(x.at)))
	return w.testing()
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	case <-time.After(d):
	}
}

const (
	ownDown = `pantau_probe_own_bytes_total{direction="receive"}`
	ownUp   = `pantau_probe_own_bytes_total{direction="transmit"}`

	monthBudget   = "pantau_probe_budget_bytes"
	monthSpent    = "pantau_probe_budget_spent_bytes"
	monthReserved = "pantau_probe_budget_reserved_bytes"
)

// look asks the probe for its account and notes it.
func (r *record) look(w *watcher) (bill, error) {
	w.asks()
	m, err := w.v.metrics()
	now := w.look()
	b := bill{at: w.began.Add(now.at), budget: m[monthBudget], spent: m[monthSpent], reserved: m[monthReserved],
		ownDown: m[ownDown], ownUp: m[ownUp], down: float64(now.down - r.start.down), up: float64(now.up - r.start.up)}
	if err == nil && b.budget > 0 {
		r.bills = append(r.bills, b)
	}
	return b, err
}

// ask asks a life for its account at its end, and compares it with the router's
// since it was born. It returns a line for people.
func (r *record) ask(w *watcher, born sample) string {
	b, err := r.look(w)
	if err != nil {
		r.unasked++
		return "not asked: " + err.Error()
	}
	down, up := b.down-float64(born.down-r.start.down), b.up-float64(born.up-r.start.up)
	r.accounts.lives++
	r.own += b.own()
	r.routed += down + up
	return fmt.Sprintf("own account %.0f/%.0f kB, router %.0f/%.0f; since the beginning %.1f MB; the month has %.1f MB left",
		b.ownDown/1e3, b.ownUp/1e3, down/1e3, up/1e3, b.routed()/1e6, (b.budget-b.spent-b.reserved)/1e6)
}

// assumed is what the account took as spent before there was any.
func (r *record) assumed() float64 { return r.bills[0].spent - r.bills[0].own() }

// billed holds the month's account to what the router counted: it never says less
// than was moved, and the month never moves more than its budget had left.
func (r *record) billed(t *testing.T, d day, m month, tests []trial, k kept) {
	t.Helper()
	// What is moved while the month turns may be of either.
	const turning = 3 * time.Second
	var old, turned float64 // what the router had counted when the month ended, and when that was noticed
	for _, s := range r.samples {
		routed := float64(s.moved() - r.start.moved())
		if r.began.Add(s.at).Before(m.to) {
			old = routed
		}
		if r.began.Add(s.at).Before(m.to.Add(turning)) {
			turned = routed
		}
	}
	quota, charged := r.bills[0].budget-r.assumed(), 0.0
	for _, b := range r.bills {
		moved, says := b.routed(), b.spent+b.reserved-r.assumed()
		switch {
		case b.at.Before(m.to):
			charged = says
		case b.at.Before(m.to.Add(turning)):
			continue
		default:
			moved, says = b.routed()-turned, b.spent+b.reserved
		}
		if says < moved {
			t.Errorf("%v: the account of the month says %.0f bytes, spent or set aside, the router has counted %.0f", b.at.Sub(r.began), says, moved)
		}
	}
	skipped, again := 0, 0
	for _, x := range k.results {
		if x.Outcome == measure.Skipped && x.Reason == measure.ReasonBudget {
			skipped++
		}
	}
	for _, x := range tests {
		if r.began.Add(x.from).After(m.to) {
			again++
		}
	}
	t.Logf("the month ended after %v; of %.1f MB that it had left the router counted %.1f, the account %.1f; %d tests skipped for the budget, %d made in the next month",
		m.to.Sub(r.began).Round(time.Second), quota/1e6, old/1e6, charged/1e6, skipped, again)
	if old > quota {
		t.Errorf("the month moved %.0f bytes, it had %.0f left", old, quota)
	}
	if d.length >= long && (skipped == 0 || again == 0) {
		t.Errorf("%d tests were skipped for the budget, %d made in the next month: it proves nothing", skipped, again)
	}
}

// long is a day in which chance evens out.
const long = 20 * time.Minute

// judge holds a day to what a probe may cost.
func (r *record) judge(t *testing.T, d day, m month, k kept) {
	tests := trials(r.samples)
	idle, starting, testing := costs(r.samples, tests)
	peak, resting := memory(r.samples, tests)
	first, last := r.start, r.samples[len(r.samples)-1]
	bytes := uint64(0)
	for _, x := range tests {
		bytes += x.bytes
	}
	t.Logf("%d speed tests on the line, %.1f MB of %.1f MB in all (%.1f down, %.1f up); %d of %d kills fell into one", len(tests), float64(bytes)/1e6,
		float64(last.moved()-first.moved())/1e6, float64(last.down-first.down)/1e6, float64(last.up-first.up)/1e6, r.inTests, d.kills)
	t.Logf("memory: %.2f MB at most, %.2f MB between tests", float64(peak)/1e6, float64(resting)/1e6)
	t.Logf("processor: idle %.3f%% of a core over %v; %.0f ms for each of %d starts; in tests %.1f%% over %v", 100*idle.ratio(), idle.wall.Round(time.Second),
		1000*starting.cpu/float64(len(r.lives)), len(r.lives), 100*testing.ratio(), testing.wall.Round(time.Second))
	t.Logf("accounts of %d lives (%d ended too soon): %.0f bytes; the router: %.0f", r.accounts.lives, r.unasked, r.own, r.routed)

	if peak > mostMemory {
		t.Errorf("%.2f MB were resident, at most %.2f may be", float64(peak)/1e6, mostMemory/1e6)
	}
	if idle.wall < d.length/20 {
		t.Errorf("the probe was idle for %v of %v only: nothing is proved of it", idle.wall, d.length)
	}
	if idle.ratio() > mostIdle {
		t.Errorf("idle it takes %.3f%% of a core, at most %.1f%% is allowed", 100*idle.ratio(), 100*mostIdle)
	}

	whole, missing := k.slots(t, d.pace.Light, r.lives)
	t.Logf("%d results of slots are due, %d are missing; the journal has %d batches with %d results:\n%s", whole, missing, len(k.batches), len(k.results), k.tally())
	k.unbroken(t)
	k.counted(t)
	r.tested(t, tests, k)
	r.billed(t, d, m, tests, k)
}

// tested checks that each test that no end of a life cut short has left a result.
func (r *record) tested(t *testing.T, tests []trial, k kept) {
	t.Helper()
	for _, x := range tests {
		from, to := r.began.Add(x.from), r.began.Add(x.to)
		if x.life == 0 || to.Sub(r.lives[x.life-1].born) < time.Second {
			continue // what was on its way to one that is dead
		}
		cut := r.lives[x.life-1].dead.Sub(to) < pause
		told := slices.ContainsFunc(k.results, func(m measure.Result) bool {
			return (m.Kind == measure.KindDownload || m.Kind == measure.KindUpload) &&
				m.MeasuredAt.After(from.Add(-6*time.Second)) && m.MeasuredAt.Before(to)
		})
		if !cut && !told {
			t.Errorf("a speed test from %v to %v that moved %d bytes left no result", x.from, x.to, x.bytes)
		}
	}
}

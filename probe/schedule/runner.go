package schedule

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Light is an instrument that costs the line next to nothing.
type Light struct {
	Kind    measure.Kind
	Measure func(ctx context.Context) measure.Result
	// Idle says that the result is only true while the probe itself leaves the line
	// alone: during a heavy test it is skipped.
	Idle bool
}

// Rare is an instrument that is asked now and then: it costs the line some
// kilobytes, or what it measures changes slowly.
type Rare struct {
	Kind    measure.Kind
	Every   time.Duration // on average, see Spread
	Measure func(ctx context.Context) []measure.Result
	// Idle says that the results are only true while no heavy test runs: the one
	// waits for the other.
	Idle bool
}

// Set is what is measured, and how often. It may change between two rounds.
type Set struct {
	Interval time.Duration // between two slots of the light instruments
	Light    []Light
	Rare     []Rare // at most one of a kind
	Pace     Pace
	// Heavy runs one speed test and returns its results. nil: there is none.
	Heavy func(ctx context.Context) []measure.Result
	// Postponed is asked when Heavy has returned: how long the test, which has not begun,
	// is put off. 0: it was made, or given up. nil: none ever is put off.
	Postponed func() time.Duration
	// Metered says that the usage among Light is expected to tell what the village does
	// with its line: a heavy test waits for it to know.
	Metered bool
}

// Options of a Runner.
type Options struct {
	Probe measure.ProbeID
	// Set is asked before each round.
	Set func() Set
	Now func() clock.Reading
	// LastSlot is the event time of the last result of a kind, so that a restart
	// measures no slot twice.
	LastSlot func(measure.Kind) time.Time
	// SinceTest is how long ago the last heavy test began, if one is known.
	SinceTest func() (time.Duration, bool)
	// Record keeps one result, durably.
	Record func(measure.Result)
	Logger *slog.Logger
	// Rand and Exp are sources of randomness: uniform in [0,1) and exponential with
	// mean 1. nil: math/rand's.
	Rand, Exp func() float64
}

// Runner runs what is due. Make it with New.
type Runner struct {
	opt Options

	mu    sync.Mutex    // guards what follows
	heavy bool          // a heavy test runs
	rare  bool          // a rare instrument measures
	idle  bool          // one that a heavy test would spoil
	again time.Duration // monotonic instant to which a heavy test was put off; 0: none was
	waits bool          // and it had waited for the line before
	use   use           // of the line by others
}

// New makes a runner.
func New(o Options) *Runner {
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Exp == nil {
		o.Exp = rand.ExpFloat64
	}
	return &Runner{opt: o}
}

// maxWait bounds one sleep, so that a step of the wall clock is noticed.
const maxWait = 5 * time.Second

// Run measures until ctx ends, and returns when the last measurement has.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var test turn      // the next heavy test
	var done time.Time // the slot that was served last
	rare := map[measure.Kind]time.Duration{}
	for {
		set := r.opt.Set()
		phase := Phase(r.opt.Probe, set.Interval)
		now := r.opt.Now()
		slot := Slot(now.Wall, set.Interval, phase)
		r.draw(&test, set, now)
		// A slot that is half over is left alone: its time would not be that of the
		// measurement.
		ran := false
		if !slot.Equal(done) && now.Wall.Sub(slot) <= set.Interval/2 {
			done = slot
			r.round(ctx, set, slot)
			ran, now = true, r.opt.Now()
		}
		// A heavy test begins right after a round, so that it spoils the fewest slots, and
		// knows by then what others do with the line; the first of a start does not wait for
		// one. One that a rare instrument holds up comes a slot later. One that was put off
		// begins when it was told, unless the next slot is near: others wait behind it.
		next := Slot(now.Wall, set.Interval, phase).Add(set.Interval).Sub(now.Wall)
		if set.Heavy != nil && test.due && (ran || !test.tested && !set.Metered || test.again && next >= set.Interval/2) {
			if wait, flags := r.defers(&test, set, now); !wait && r.begin() {
				test = turn{tested: true, left: Gap(r.opt.Exp), at: now.Mono}
				wg.Go(func() { r.runHeavy(ctx, set, flags) })
			}
		}
		rareNext := r.startRare(ctx, &wg, set, rare)
		wait := min(next, rareNext)
		if set.Heavy != nil && test.soon > now.Mono {
			wait = min(wait, test.soon-now.Mono)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(min(wait, maxWait), time.Millisecond)):
		}
	}
}

// turn is the way to one heavy test.
type turn struct {
	drawn, tested bool          // it was drawn; a test of this start began
	soon          time.Duration // the monotonic instant of the first of a start; 0: by left
	left          float64       // means to go, see Gap,
	at            time.Duration // at this monotonic instant
	due           bool
	since         time.Time // it is due,
	deferred      bool      // and waits for the line
	again         bool      // it was put off, to soon
}

// draw goes on towards the next heavy test, after it was drawn.
func (r *Runner) draw(t *turn, set Set, now clock.Reading) {
	if set.Heavy == nil || set.Pace.Mean <= 0 {
		t.at = now.Mono // what there is none of comes no nearer
		return
	}
	r.mu.Lock()
	again, deferred := r.again, r.waits
	r.again = 0
	r.mu.Unlock()
	if again > 0 {
		*t = turn{drawn: true, tested: true, soon: again, at: now.Mono, again: true, deferred: deferred}
	}
	if !t.drawn && !t.tested {
		t.left, t.at = Gap(r.opt.Exp), now.Mono
		since, known := r.opt.SinceTest()
		if wait, ok := set.Pace.first(since, known, r.opt.Rand); ok {
			t.soon = now.Mono + wait
		}
	}
	t.drawn = true
	t.left -= float64(now.Mono-t.at) * set.Pace.Weight(now.Wall) / float64(set.Pace.Mean)
	t.at = now.Mono
	if due := t.left <= 0 && t.soon == 0 || t.soon > 0 && now.Mono >= t.soon; due && !t.due {
		t.due, t.since = true, now.Wall
	}
}

// defers reports whether a test that is due waits for the line, and if not, what is
// to be said of its result.
func (r *Runner) defers(t *turn, set Set, now clock.Reading) (wait bool, flags []measure.Flag) {
	r.mu.Lock()
	u := r.use
	r.mu.Unlock()
	patient := now.Wall.Before(set.Pace.patience(t.since)) && !now.Wall.Before(t.since)
	if (u.busy() || set.Metered && u.unsure()) && patient {
		t.deferred = t.deferred || u.busy()
		return true, nil
	}
	if t.deferred {
		flags = append(flags, measure.FlagDeferred)
	}
	if u.busy() {
		flags = append(flags, measure.FlagCrossTraffic)
	}
	return false, flags
}

// startRare starts the rare instrument that has been due the longest, if there is
// one and nothing hinders it, and returns how long until the next may be due. due
// holds the monotonic instants, and follows the set.
func (r *Runner) startRare(ctx context.Context, wg *sync.WaitGroup, set Set, due map[measure.Kind]time.Duration) time.Duration {
	now := r.opt.Now()
	for kind := range due {
		if !slices.ContainsFunc(set.Rare, func(in Rare) bool { return in.Kind == kind }) {
			delete(due, kind) // should it come back, it comes back soon
		}
	}
	for _, in := range set.Rare {
		at, planned := due[in.Kind]
		if !planned {
			last := r.opt.LastSlot(in.Kind)
			at = now.Mono + Spread(in.Every, true, now.Wall.Sub(last), !last.IsZero(), r.opt.Rand)
		}
		due[in.Kind] = min(at, now.Mono+in.Every+in.Every/2) // Every may have become shorter
	}
	waiting := slices.Clone(set.Rare)
	slices.SortStableFunc(waiting, func(a, b Rare) int { return cmp.Compare(due[a.Kind], due[b.Kind]) })
	next := maxWait
	for _, in := range waiting {
		if due[in.Kind] > now.Mono {
			next = min(next, due[in.Kind]-now.Mono)
			break
		}
		if r.beginRare(in.Idle) {
			due[in.Kind] = now.Mono + Spread(in.Every, false, 0, true, r.opt.Rand)
			wg.Go(func() {
				defer r.endRare()
				r.keep(ctx, in.Measure)
			})
		}
	}
	return next
}

// round runs the light instruments of one slot at once and waits for them.
func (r *Runner) round(ctx context.Context, set Set, slot time.Time) {
	var wg sync.WaitGroup
	for _, in := range set.Light {
		if r.opt.LastSlot(in.Kind).Equal(slot) {
			continue // measured before a restart
		}
		wg.Go(func() {
			start := r.opt.Now()
			var res measure.Result
			if in.Idle && r.testing() {
				res = measure.Result{Kind: in.Kind}.Skip(measure.ReasonBusyLine, "the probe's own speed test is under way")
			} else {
				res = in.Measure(ctx)
			}
			if ctx.Err() != nil {
				return // cut short by the end of the program: says nothing about the line
			}
			res.MeasuredAt, res.Boot = slot, start.Boot
			res.Monotonic = start.Mono - start.Wall.Sub(slot)
			if in.Kind == measure.KindUsage {
				r.meter(res)
			}
			r.record(res)
		})
	}
	wg.Wait()
}

func (r *Runner) runHeavy(ctx context.Context, set Set, flags []measure.Flag) {
	defer r.end()
	r.keep(ctx, func(ctx context.Context) []measure.Result {
		results := set.Heavy(ctx)
		for i := range results {
			for _, f := range flags {
				if results[i].Outcome == measure.OK && !slices.Contains(results[i].Flags, f) {
					results[i].Flags = append(results[i].Flags, f)
				}
			}
		}
		return results
	})
	if set.Postponed == nil {
		return
	}
	if wait := set.Postponed(); wait > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.again, r.waits = r.opt.Now().Mono+wait, slices.Contains(flags, measure.FlagDeferred)
	}
}

// meter takes a reading of what the village moves.
func (r *Runner) meter(res measure.Result) {
	at := r.opt.Now().Mono
	r.mu.Lock()
	defer r.mu.Unlock()
	r.use = r.use.next(res, at)
}

// keep measures, and records one result after the other.
func (r *Runner) keep(ctx context.Context, measurement func(context.Context) []measure.Result) {
	at := r.opt.Now()
	for _, res := range measurement(ctx) {
		if ctx.Err() != nil {
			return // cut short by the end of the program: says nothing about the line
		}
		res.MeasuredAt, res.Monotonic, res.Boot = at.Wall, at.Mono, at.Boot
		r.record(res)
		at.Wall, at.Mono = at.Wall.Add(res.Duration), at.Mono+res.Duration
	}
}

// record holds every instrument to the vocabulary before anything is kept.
func (r *Runner) record(res measure.Result) {
	if err := res.Validate(); err != nil {
		r.opt.Logger.Error("an instrument broke its promise", "kind", res.Kind, "err", err)
		res = res.Fail(measure.ReasonInternal, err.Error())
	}
	r.opt.Record(res)
}

func (r *Runner) testing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heavy
}

func (r *Runner) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.heavy || r.idle {
		return false
	}
	r.heavy = true
	return true
}

func (r *Runner) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heavy = false
}

func (r *Runner) beginRare(idle bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rare || idle && r.heavy {
		return false
	}
	r.rare, r.idle = true, idle
	return true
}

func (r *Runner) endRare() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rare, r.idle = false, false
}

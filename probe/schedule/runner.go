package schedule

import (
	"context"
	"log/slog"
	"math/rand/v2"
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

// Set is what is measured, and how often. It may change between two rounds.
type Set struct {
	Interval time.Duration // between two slots of the light instruments
	Light    []Light
	Pace     Pace
	// Heavy runs one speed test and returns its results. nil: there is none.
	Heavy func(ctx context.Context) []measure.Result
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

	mu    sync.Mutex
	heavy bool
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
	first, tested := true, false
	var due time.Duration // monotonic instant of the next heavy test
	var done time.Time    // the slot that was served last
	for {
		set := r.opt.Set()
		phase := Phase(r.opt.Probe, set.Interval)
		now := r.opt.Now()
		slot := Slot(now.Wall, set.Interval, phase)
		if first {
			due = now.Mono + r.gap(set, now, true)
			first = false
		}
		// A slot that is half over is left alone: its time would not be that of the
		// measurement.
		ran := false
		if !slot.Equal(done) && now.Wall.Sub(slot) <= set.Interval/2 {
			done = slot
			r.round(ctx, set, slot)
			ran, now = true, r.opt.Now()
		}
		// A heavy test begins right after a round, so that it spoils the fewest slots;
		// the first of a start does not wait for one.
		if set.Heavy != nil && now.Mono >= due && (ran || !tested) && r.begin() {
			tested = true
			due = now.Mono + r.gap(set, now, false)
			wg.Go(func() { r.runHeavy(ctx, set) })
		}
		wait := Slot(now.Wall, set.Interval, phase).Add(set.Interval).Sub(now.Wall)
		if set.Heavy != nil && !tested && due > now.Mono {
			wait = min(wait, due-now.Mono)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(max(min(wait, maxWait), time.Millisecond)):
		}
	}
}

func (r *Runner) gap(set Set, now clock.Reading, first bool) time.Duration {
	last := r.opt.LastSlot(measure.KindDownload)
	return Gap(set.Pace, first, now.Wall.Sub(last), !last.IsZero(), r.opt.Rand, r.opt.Exp)
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
			r.record(res)
		})
	}
	wg.Wait()
}

func (r *Runner) runHeavy(ctx context.Context, set Set) {
	defer r.end()
	start := r.opt.Now()
	at := start
	for _, res := range set.Heavy(ctx) {
		if ctx.Err() != nil {
			return
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
	if r.heavy {
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

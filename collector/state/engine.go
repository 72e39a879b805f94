package state

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Site is what the engine must know of one site of the inventory.
type Site struct {
	ID       measure.SiteID
	Probes   []measure.ProbeID // placed there now
	Coverage bool              // false: a known blankspot, nothing is installed
	// Maintenance: announced work, during which its silence means nothing.
	Maintenance bool
}

// Options of an Engine.
type Options struct {
	// Sites are the inventory's sites at an instant.
	Sites func(at time.Time) []Site
	// Enrolled reports whether a probe has ever reached the collector.
	Enrolled func(measure.ProbeID) bool
	// Keep makes a snapshot durable.
	Keep func(context.Context, Snapshot) error
	// Stalled is told of each stretch in which the collector itself did not listen.
	Stalled func(ctx context.Context, from, to time.Time)
	// Restored is the last snapshot of an earlier run; zero if there is none.
	Restored Snapshot
	// DownAfter is how long a site may be silent. 0: 170 s, three beats of three
	// tries each and a little more.
	DownAfter time.Duration
	// Every is the time between two snapshots without a change. 0: a minute.
	Every time.Duration
	// Now must carry Go's monotonic reading, as time.Now does: silence is not
	// measured on a wall clock that can be set. nil: time.Now.
	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Engine derives states. It is safe for concurrent use; Run must run for silence
// to be noticed.
type Engine struct {
	opt    Options
	stalls prometheus.Counter

	mu        sync.Mutex
	sites     map[measure.SiteID]*site
	probes    map[measure.ProbeID]*probe
	listening time.Time // since when silence counts
	changed   bool
	outdated  bool // the sites are to be asked for again
}

type site struct {
	Site
	state State
	since time.Time
	beat  time.Time
}

type probe struct {
	beat   time.Time      // arrival of the latest fresh one
	said   wire.Heartbeat // what it said
	upFrom time.Time      // arrival of the first after a silence
	reach  []reachResult  // the latest few, by event time
}

type reachResult struct {
	at time.Time
	ok bool
}

// failuresToDegrade is how many reach results must fail running.
const failuresToDegrade = 3

// freshness is how old a result may be at its arrival to speak of the present.
const freshness = 3 * time.Minute

// stallAfter is how long the engine may oversleep before it counts as deaf.
const stallAfter = 5 * time.Second

const tick = time.Second

// New makes an engine.
func New(o Options) *Engine {
	o.DownAfter = cmp.Or(o.DownAfter, 170*time.Second)
	o.Every = cmp.Or(o.Every, time.Minute)
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Engine{opt: o, probes: map[measure.ProbeID]*probe{}, sites: map[measure.SiteID]*site{},
		stalls: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_collector_stalls_total",
			Help: "Times that the collector itself did not run for seconds; silence is not counted over them."})}
	o.Registerer.MustRegister(e.stalls, stateGauge{e})
	e.listening = o.Now()
	old := map[measure.SiteID]SiteState{}
	for _, s := range o.Restored.Sites {
		old[s.Site] = s
	}
	for _, s := range o.Sites(e.listening) {
		n := &site{Site: s, state: NeverSeen, since: e.listening}
		if r, ok := old[s.ID]; ok {
			n.state, n.since, n.beat = r.State, r.Since, r.LastBeat
		}
		e.sites[s.ID] = n
	}
	e.evaluate(e.listening)
	e.changed = true
	return e
}

// Beat takes a sign of life that arrived at that instant.
func (e *Engine) Beat(b wire.Heartbeat, arrived time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.probe(b.Probe)
	if arrived.Before(p.beat) {
		return
	}
	if arrived.Sub(p.beat) > e.opt.DownAfter {
		p.upFrom = arrived
	}
	p.beat, p.said = arrived, b
}

// Batch takes the reach results of a batch. Late ones say nothing of the present.
func (e *Engine) Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.probe(id)
	for _, r := range b.Results {
		if r.Kind != measure.KindReach || r.Boot != sent.Boot || r.Outcome == measure.Skipped {
			continue
		}
		age := sent.Mono - r.Monotonic // free of the box's wall clock
		if age < 0 || age > freshness {
			continue
		}
		v, ok := r.Value(measure.ODPReachable)
		p.reach = append(p.reach, reachResult{at: received.Add(-age), ok: ok && v > 0})
	}
	slices.SortStableFunc(p.reach, func(a, b reachResult) int { return a.at.Compare(b.at) })
	if n := len(p.reach); n > 2*failuresToDegrade {
		p.reach = slices.Clone(p.reach[n-2*failuresToDegrade:])
	}
}

func (e *Engine) probe(id measure.ProbeID) *probe {
	p := e.probes[id]
	if p == nil {
		p = new(probe)
		e.probes[id] = p
	}
	return p
}

// Refresh asks for the sites again within a second, not only with the next minute.
func (e *Engine) Refresh() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outdated = true
}

// LastBeat is when the latest sign of life of a probe arrived; zero: none since
// the start.
func (e *Engine) LastBeat(id measure.ProbeID) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.probes[id]; p != nil {
		return p.beat
	}
	return time.Time{}
}

// Snapshot is the state of every site now.
func (e *Engine) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.snapshot(e.opt.Now())
}

func (e *Engine) snapshot(now time.Time) Snapshot {
	s := Snapshot{At: now.UTC().Round(0), Sites: make([]SiteState, 0, len(e.sites))}
	for _, id := range slices.Sorted(maps.Keys(e.sites)) {
		x := e.sites[id]
		s.Sites = append(s.Sites, SiteState{Site: id, State: x.state, Since: x.since.Round(0), LastBeat: x.beat.Round(0)})
	}
	return s
}

// Run notices silence, keeps snapshots, and returns when ctx ends.
func (e *Engine) Run(ctx context.Context) error {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := e.opt.Now()
	var kept time.Time
	for {
		now := e.opt.Now()
		// Either clock may show that we were away: a stopped process by the monotonic
		// one, a suspended machine by the wall clock alone.
		if gap := max(now.Sub(last), now.Round(0).Sub(last.Round(0))); gap > tick+stallAfter {
			e.stalls.Inc()
			e.opt.Logger.Warn("the collector was away: silence is counted anew", "seconds", gap.Seconds())
			e.opt.Stalled(ctx, last, now)
			e.mu.Lock()
			e.listening = now
			e.mu.Unlock()
		}
		last = now

		due := kept.IsZero() || now.Sub(kept) >= e.opt.Every
		e.mu.Lock()
		if due || e.outdated {
			e.reload(now)
			e.outdated = false
		}
		e.evaluate(now)
		keep := due || e.changed
		snap := e.snapshot(now)
		e.mu.Unlock()
		if keep {
			if err := e.opt.Keep(ctx, snap); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				e.opt.Logger.Error("the states cannot be kept: trying again", "err", err)
			} else {
				kept = now
				e.mu.Lock()
				e.changed = false
				e.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// reload follows the inventory: its facts begin and end with dates.
func (e *Engine) reload(now time.Time) {
	next := make(map[measure.SiteID]*site, len(e.sites))
	for _, s := range e.opt.Sites(now) {
		if old, ok := e.sites[s.ID]; ok {
			old.Site = s
			next[s.ID] = old
		} else {
			next[s.ID] = &site{Site: s, state: NeverSeen, since: now}
			e.changed = true
		}
	}
	e.sites = next
}

func (e *Engine) evaluate(now time.Time) {
	for _, s := range e.sites {
		for _, id := range s.Probes {
			if p := e.probes[id]; p != nil && p.beat.After(s.beat) {
				s.beat = p.beat
			}
		}
		next := e.judge(s, now)
		if next == s.state {
			continue
		}
		s.state, s.since = next, now
		if next == Down && !s.beat.IsZero() {
			s.since = s.beat // silent since then, known only now
		}
		e.changed = true
	}
}

// judge is the state of a site now.
func (e *Engine) judge(s *site, now time.Time) State {
	switch {
	case !s.Coverage:
		return NoCoverage
	case s.Maintenance:
		return Maintenance
	}
	var talking []*probe
	seen := !s.beat.IsZero()
	for _, id := range s.Probes {
		seen = seen || e.opt.Enrolled(id)
		if p := e.probes[id]; p != nil && !p.beat.IsZero() && now.Sub(p.beat) < e.opt.DownAfter {
			talking = append(talking, p)
		}
	}
	switch {
	case len(s.Probes) == 0 || !seen:
		return NeverSeen
	case len(talking) > 0:
		return worstOf(talking)
	case now.Sub(e.listening) < e.opt.DownAfter:
		if s.state == NoCoverage {
			return NeverSeen
		}
		return s.state // we have not listened long enough to say
	}
	return Down
}

// worstOf is what the probes of one site say together: they watch one line, so a
// healthy one outweighs a faulty one.
func worstOf(talking []*probe) State {
	verdict := ProbeFault
	for _, p := range talking {
		if p.said.Health.Fault() {
			continue
		}
		if !p.failing() {
			return Up
		}
		verdict = Degraded
	}
	return verdict
}

// failing reports whether the latest reach results failed running. What was
// measured before the line came back does not count.
func (p *probe) failing() bool {
	n := 0
	for _, r := range slices.Backward(p.reach) {
		if r.ok || r.at.Before(p.upFrom) {
			break
		}
		n++
	}
	return n >= failuresToDegrade
}

// stateGauge counts sites by state for the collector's own metrics.
type stateGauge struct{ e *Engine }

var siteStates = prometheus.NewDesc("pantau_collector_sites", "Sites of the inventory by state now.", []string{"state"}, nil)

func (g stateGauge) Describe(ch chan<- *prometheus.Desc) { ch <- siteStates }

func (g stateGauge) Collect(ch chan<- prometheus.Metric) {
	g.e.mu.Lock()
	n := map[State]int{}
	for _, s := range g.e.sites {
		n[s.state]++
	}
	g.e.mu.Unlock()
	for _, s := range States() {
		ch <- prometheus.MustNewConstMetric(siteStates, prometheus.GaugeValue, float64(n[s]), s.String())
	}
}

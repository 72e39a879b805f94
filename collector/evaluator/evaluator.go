// Package evaluator applies rules to what the store holds: it records series and
// finds alerts, with Prometheus' own rule manager.
//
// It guarantees:
//
//   - Rules about villages look at minutes that have arrived: as far back as
//     results take to come in ([Options.Offset]). They are not evaluated while the
//     store is behind the journal, nor before the probes had time to deliver what
//     they kept while the collector was away, be it stopped or stalled. Nothing
//     fires on half the data, and nothing is taken for over by it.
//   - Rules about the collector itself are evaluated throughout; and where even
//     that fails, because the store does, it says so itself (alert CollectorBlind).
//   - What was pending or firing before a restart is so after it.
//   - Rule files that are wrong change nothing: the last good set stays in force,
//     and the log, a metric and a rule say what is wrong.
//
// It tells nobody: Options.Notify does.
package evaluator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	prules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/pantau-desa/pantau/alerts/rules"
)

const (
	// behind is how far the store may be behind the journal.
	behind = time.Minute
	// outage is for how long an alert is remembered that nobody looked at, and for
	// how long whoever was told of one may take it for true: no stall and no restart
	// shorter than this ends an alert.
	outage = time.Hour
	// resend is the time between two times that an alert is told.
	resend = time.Minute
)

// Storage is where rules read and write.
type Storage interface {
	storage.Queryable
	storage.AppendableV2
}

// Options of an Evaluator. Files, Engine and Storage are required.
type Options struct {
	// Files are the built-in rule files; see rules.Files.
	Files map[string][]byte
	// Dir holds rule files of the operator's; empty: none. A file of a built-in one's
	// name takes its place. It is looked at every so often; Look 0: twice a minute.
	Dir     string
	Look    time.Duration
	Engine  promql.QueryEngine
	Storage Storage

	// Offset is how long it takes until the results of a minute are in the store;
	// rules whose group has no query_offset look so far back.
	Offset time.Duration
	// Fresh is the latest instant of which the store has all records, Listening since
	// when the collector has listened without a break; both with Go's monotonic
	// reading. nil: always.
	Fresh, Listening func() time.Time
	// Written is when the collector's own metrics were last stored; nil: not looked at.
	Written func() time.Time

	// Notify is told of alerts when they begin to fire, each minute while they do, and
	// for 15 minutes after they ended; nil: nobody. An alert that is not told again
	// may be taken for over at its ValidUntil, an hour later.
	Notify prules.NotifyFunc
	// URL is where people find this collector, for templates.
	URL string
	// Every is the time between two evaluations of a group that does not say; 0: a
	// minute. Grace is how long an alert that was pending before a restart goes on
	// doing so at least; 0: a minute.
	Every, Grace time.Duration
	Logger       *slog.Logger          // nil: discards
	Registerer   prometheus.Registerer // nil: no metrics
}

// Evaluator evaluates rules. Make it with New, then Run it once.
type Evaluator struct {
	opt    Options
	url    *url.URL
	stop   context.CancelFunc // of what managers do
	parser parser.Parser
	// own evaluates groups about the collector alone, from the start; villages the
	// others, from when the store is fresh for the first time.
	own, villages *manager
	refused       prometheus.Gauge

	loading sync.Mutex        // held while managers are made to follow files
	seen    [sha256.Size]byte // of what the directory held when it was last read

	mu    sync.Mutex
	files map[string][]byte // in force
	tick  time.Time         // when Run was last awake
	awoke time.Time         // when it was found to have slept; zero: never
}

// manager is one of Prometheus' and the files that it reads.
type manager struct {
	*prules.Manager
	takes func(rulefmt.RuleGroup) bool
	files func() map[string][]byte
	parse parser.Parser
	done  chan struct{} // closed when Run has returned; nil: not run. Guarded by loading.
}

// Load implements [prules.GroupLoader].
func (m *manager) Load(name string, ignoreUnknown bool, names model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	got, errs := rulefmt.Parse(m.files()[name], ignoreUnknown, names, m.parse, slog.New(slog.DiscardHandler))
	if errs != nil {
		return nil, errs
	}
	got.Groups = slices.DeleteFunc(got.Groups, func(g rulefmt.RuleGroup) bool { return !m.takes(g) })
	return got, nil
}

// Parse implements [prules.GroupLoader].
func (m *manager) Parse(query string) (parser.Expr, error) { return m.parse.ParseExpr(query) }

// New loads the rules. What is wrong with the built-in files is an error; what is
// wrong with the directory is logged, and the built-in ones are in force alone.
func New(o Options) (*Evaluator, error) {
	if o.Engine == nil || o.Storage == nil || o.Files == nil {
		return nil, errors.New("evaluator: an option is missing")
	}
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Look == 0 {
		o.Look = 30 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func(context.Context, string, ...*prules.Alert) {}
	}
	if o.Fresh == nil {
		o.Fresh = time.Now
	}
	if o.Listening == nil {
		o.Listening = func() time.Time { return time.Time{} }
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("evaluator: %w", err)
	}
	if wrong := rules.Check(o.Files); len(wrong) > 0 {
		return nil, fmt.Errorf("evaluator: %w", wrong)
	}
	e := &Evaluator{opt: o, url: u, parser: parser.NewParser(parser.Options{}), files: o.Files,
		refused: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_rules_files_refused",
			Help: "Files of the rule directory that are refused now; the last good set stays in force."})}
	if o.Registerer != nil {
		waiting := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pantau_rules_waiting",
			Help: "1 while rules about villages are not evaluated, because the store is catching up or the collector was away; else 0."},
			func() float64 {
				if e.Waiting() != "" {
					return 1
				}
				return 0
			})
		for _, c := range []prometheus.Collector{e.refused, waiting} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("evaluator: %w", err)
			}
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	e.stop = stop
	metrics := prules.NewGroupMetrics(o.Registerer)
	e.own = e.manager(ctx, metrics, rules.OfCollector)
	e.villages = e.manager(ctx, metrics, func(g rulefmt.RuleGroup) bool { return !rules.OfCollector(g) })
	_ = e.look(true) // it has said what is wrong
	return e, nil
}

func (e *Evaluator) manager(ctx context.Context, metrics *prules.Metrics, takes func(rulefmt.RuleGroup) bool) *manager {
	m := &manager{takes: takes, files: e.inForce, parse: e.parser}
	m.Manager = prules.NewManager(&prules.ManagerOptions{
		ExternalURL: e.url, QueryFunc: prules.EngineQueryFunc(e.opt.Engine, e.opt.Storage), NotifyFunc: e.notify, Context: ctx,
		AppendableV2: e.opt.Storage, Queryable: e.opt.Storage, Logger: e.opt.Logger, OutageTolerance: outage, ForGracePeriod: e.opt.Grace,
		ResendDelay: resend, GroupLoader: m, DefaultRuleQueryOffset: func() time.Duration { return e.opt.Offset }, Metrics: metrics, Parser: e.parser,
	})
	return m
}

func (e *Evaluator) inForce() map[string][]byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.files
}

// update makes a manager follow the files in force.
func (e *Evaluator) update(m *manager) error {
	iterate := func(ctx context.Context, g *prules.Group, at time.Time) {
		if e.asleep() || m == e.villages && e.Waiting() != "" {
			return
		}
		prules.DefaultEvalIterationFunc(ctx, g, at)
	}
	return m.Update(e.opt.Every, slices.Sorted(maps.Keys(e.inForce())), labels.EmptyLabels(), e.opt.URL, iterate)
}

// notify passes on what a manager finds, valid for longer than a stall may take.
func (e *Evaluator) notify(ctx context.Context, expr string, alerts ...*prules.Alert) {
	if len(alerts) == 0 {
		return
	}
	for _, a := range alerts {
		if until := time.Now().Add(outage); a.ResolvedAt.IsZero() && a.ValidUntil.Before(until) {
			a.ValidUntil = until
		}
	}
	e.opt.Notify(ctx, expr, alerts...)
}

// Waiting says why rules about villages are not evaluated now; empty: they are.
func (e *Evaluator) Waiting() string {
	since := e.opt.Listening()
	e.mu.Lock()
	if e.awoke.After(since) {
		since = e.awoke
	}
	e.mu.Unlock()
	now := time.Now()
	if now.Sub(since) < e.opt.Offset {
		return fmt.Sprintf("the collector was away until %s: probes are delivering what they kept", since.UTC().Format(time.RFC3339))
	}
	if now.Sub(e.opt.Fresh()) > behind {
		return "the store is behind the journal"
	}
	return ""
}

// nap is how long Run may not have been awake without having slept.
const nap = 5 * time.Second

// gap is how long ago an instant was by whichever clock says more: the monotonic
// one stands still while a machine is suspended.
func gap(now, then time.Time) time.Duration {
	return max(now.Sub(then), now.Round(0).Sub(then.Round(0)))
}

// wake notes that Run is awake, and whether it has slept.
func (e *Evaluator) wake() {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.tick.IsZero() && gap(now, e.tick) > nap {
		e.awoke = now
	}
	e.tick = now
}

// asleep reports whether the process has just gone on after it stood still, and
// nobody has noticed yet: whoever is first must not judge by old figures.
func (e *Evaluator) asleep() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return gap(time.Now(), e.tick) > nap
}

// Run evaluates until ctx ends, then waits for evaluations that run.
func (e *Evaluator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	defer func() {
		cancel()
		e.stop()
		e.shut()
		<-watched
	}()
	e.wake()
	go func() { // beside what may have to wait for an evaluation
		defer close(watched)
		e.stayAwake(ctx)
	}()
	if err := e.start(e.own); err != nil {
		return err
	}
	var sight blindness
	started := false
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	looked := time.Now()
	for n := 1; ; n++ {
		if !started && e.Waiting() == "" {
			if err := e.start(e.villages); err != nil {
				return err
			}
			started = true
			e.opt.Logger.Info("rules about villages are evaluated from now on")
		}
		if time.Since(looked) >= e.opt.Look {
			looked = time.Now()
			_ = e.look(false) // it has said what is wrong
		}
		if n%int(blindEvery/time.Second) == 0 {
			sight.look(ctx, e)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (e *Evaluator) stayAwake(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			e.wake()
		}
	}
}

// start loads a manager's rules and lets it evaluate them.
func (e *Evaluator) start(m *manager) error {
	e.loading.Lock()
	defer e.loading.Unlock()
	if err := e.update(m); err != nil {
		return fmt.Errorf("evaluator: %w", err) // checked before: never
	}
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		m.Run()
	}()
	return nil
}

// shut stops the managers. One that never ran has no groups.
func (e *Evaluator) shut() {
	e.loading.Lock()
	defer e.loading.Unlock()
	for _, m := range []*manager{e.own, e.villages} {
		if m.done == nil {
			continue
		}
		m.Stop()
		<-m.done
	}
}

// Reload looks at the rule directory now. The error is of type [rules.Problems]
// if its files are refused.
func (e *Evaluator) Reload() error { return e.look(true) }

// look reads the rule directory and, if it is new and good, puts it in force.
func (e *Evaluator) look(always bool) error {
	if e.opt.Dir == "" {
		return nil
	}
	e.loading.Lock()
	defer e.loading.Unlock()
	extra, err := rules.ReadDir(e.opt.Dir)
	sum := digest(extra, err)
	if sum == e.seen && !always {
		return nil
	}
	e.seen = sum
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("the rule directory does not exist: %w", err)
	}
	next := maps.Clone(e.opt.Files)
	maps.Copy(next, extra)
	wrong := rules.Problems(nil)
	if err == nil {
		if wrong = rules.Check(next); len(wrong) > 0 {
			err = wrong
		}
	}
	if err != nil {
		e.refused.Set(float64(max(1, wrong.Files())))
		const most = 10 // lines of a log
		for i, p := range wrong {
			if i == most {
				e.opt.Logger.Error("and more problems with rule files", "more", len(wrong)-most)
				break
			}
			e.opt.Logger.Error("a rule file is wrong", "dir", e.opt.Dir, "problem", p.Error())
		}
		e.opt.Logger.Error("the rule files are refused: the last good set stays in force", "dir", e.opt.Dir, "err", firstLine(err))
		return err
	}
	before := e.inForce()
	e.mu.Lock()
	e.files = next
	e.mu.Unlock()
	for _, m := range []*manager{e.own, e.villages} {
		if m.done == nil {
			continue // it will begin with these
		}
		if err := e.update(m); err != nil { // what Check does not see and Prometheus does
			e.mu.Lock()
			e.files = before
			e.mu.Unlock()
			e.refused.Set(1)
			e.opt.Logger.Error("the rule files are refused: the last good set stays in force", "dir", e.opt.Dir, "err", err)
			return err
		}
	}
	e.refused.Set(0)
	if !maps.EqualFunc(before, next, func(a, b []byte) bool { return string(a) == string(b) }) {
		e.opt.Logger.Info("rule files in force", "dir", e.opt.Dir, "of_directory", len(extra), "in_all", len(next))
	}
	return nil
}

func digest(files map[string][]byte, err error) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(h, "%q %d\n", name, len(files[name]))
		h.Write(files[name])
	}
	if err != nil {
		_, _ = io.WriteString(h, err.Error())
	}
	h.Sum(sum[:0])
	return sum
}

func firstLine(err error) string {
	var ps rules.Problems
	if errors.As(err, &ps) && len(ps) > 0 {
		return ps[0].Error()
	}
	return err.Error()
}

// RuleGroups are the groups that are evaluated now, for the API.
func (e *Evaluator) RuleGroups() []*prules.Group {
	return append(e.own.RuleGroups(), e.villages.RuleGroups()...)
}

// AlertingRules are their alerting rules, for the API.
func (e *Evaluator) AlertingRules() []*prules.AlertingRule {
	return append(e.own.AlertingRules(), e.villages.AlertingRules()...)
}

// Package router is the Alertmanager within: it decides which receiver an alert
// goes to, holds alerts together that belong together, and lets silences and
// inhibitions speak before anybody is told.
//
// It guarantees that every alert that fires is handed to Options.Deliver, or is
// muted, or is tried again until one of the two is so, and that Options.Flushed
// hears which; and that a silence which was accepted survives a crash.
//
// It keeps alerts in memory alone: who cannot bear to lose one puts it again after
// a start, and removes doubles behind Deliver. It knows no mail and no incident.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	amconfig "github.com/prometheus/alertmanager/config"
	amcommon "github.com/prometheus/alertmanager/config/common"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/inhibit"
	"github.com/prometheus/alertmanager/marker"
	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/notify"
	amlabels "github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/timeinterval"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

// Alert is something that fires, or has ceased to.
type Alert struct {
	Labels      map[string]string // its identity
	Annotations map[string]string
	StartsAt    time.Time
	// EndsAt is when it ceases unless it is put again; of one that has ceased, when
	// it did. Required in Put.
	EndsAt time.Time
}

// Matcher is a condition on a label; a label that is missing is empty.
type Matcher struct {
	Label, Value string
	Regexp       bool // Value is an anchored regular expression
}

// Receiver is who is told of the alerts that match, in one flush for each group.
type Receiver struct {
	Name    string
	Match   []Matcher // all of them; the first receiver that matches takes the alert
	GroupBy []string  // labels whose values make a group
	// Wait is how long a new group is held to gather; Interval is the time between
	// two flushes of a group, during which a delivery that failed is tried again.
	Wait, Interval time.Duration
	// Again is after how long an unchanged group is delivered again.
	Again time.Duration
	// Resolved: it is told of what has ceased, too.
	Resolved bool
}

// Inhibition mutes targets while a source fires that has the same Equal labels.
type Inhibition struct {
	Source, Target []Matcher
	Equal          []string
}

// Routes are who is told of what.
type Routes struct {
	Receivers   []Receiver
	Inhibitions []Inhibition
}

// Options of a Router. SilenceFile, Deliver and Flushed are required.
type Options struct {
	SilenceFile string // its folder exists
	// Deliver hands a group to a receiver; an error means that it is tried again.
	// Several groups may be delivered at once.
	Deliver func(ctx context.Context, receiver string, alerts []Alert) error
	// Flushed is told of each alert of a group whose flush succeeded while it fired:
	// it was delivered to its receiver, or muted; silencedBy has the ids of silences.
	// An alert that no receiver matches is flushed as well.
	Flushed    func(a Alert, silencedBy []string)
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: none
}

// Router routes alerts. Its methods may be called from any goroutine.
type Router struct {
	opt      Options
	alerts   *mem.Alerts
	silences *silence.Silences
	silencer *silence.Silencer
	nflog    *nflog.Log
	groups   marker.GroupMarker
	pipeline *notify.PipelineBuilder
	metrics  *dispatch.DispatcherMetrics
	recorder eventrecorder.Recorder
	upkeep   chan struct{} // closed: no more upkeep
	done     sync.WaitGroup

	file sync.Mutex // one writer of the silences' file at a time

	mu        sync.Mutex // guards what follows
	closed    bool
	dispatch  *dispatch.Dispatcher
	inhibitor *inhibit.Inhibitor
}

// nobody takes what no receiver does.
const nobody = "nobody"

// Bounds of upkeep.
const (
	upkeepEvery = 15 * time.Minute
	// remember is how long it is remembered that a group was told; what outlives that
	// is remembered behind Deliver.
	remember = 120 * time.Hour
)

// New reads the silences. Nothing is routed before Apply.
func New(opt Options) (*Router, error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Registerer == nil {
		opt.Registerer = prometheus.NewRegistry()
	}
	flags := featurecontrol.NoopFlags{}
	r := &Router{opt: opt, recorder: eventrecorder.NopRecorder(), groups: marker.NewGroupMarker(), upkeep: make(chan struct{})}
	var err error
	if r.silences, err = openSilences(opt); err != nil {
		return nil, err
	}
	if r.nflog, err = nflog.New(nflog.Options{Retention: remember, Logger: opt.Logger, Metrics: opt.Registerer}); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.silencer = silence.NewSilencer(r.silences, opt.Logger, r.recorder)
	if r.alerts, err = mem.NewAlerts(context.Background(), upkeepEvery, 0, r.silencer, opt.Logger, r.recorder, opt.Registerer, flags); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.pipeline = notify.NewPipelineBuilder(opt.Registerer, flags, r.recorder)
	r.metrics = dispatch.NewDispatcherMetrics(false, opt.Registerer, flags)
	r.done.Go(func() { r.nflog.Maintenance(upkeepEvery, "", r.upkeep, nil) })
	r.done.Go(r.keepSilences)
	return r, nil
}

// Apply routes by these receivers from now on. What fires already is routed anew.
// After an error nothing has changed.
func (r *Router) Apply(routes Routes) error {
	root, inhibitions, integrations, err := r.build(routes)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("router: closed")
	}
	r.halt()
	r.inhibitor = inhibit.NewInhibitor(r.alerts, inhibitions, r.opt.Logger, r.recorder)
	stage := r.pipeline.New(integrations, func() time.Duration { return 0 }, r.inhibitor, r.silencer, timeinterval.NewIntervener(nil), r.groups, r.nflog, nil)
	r.dispatch = dispatch.NewDispatcher(r.alerts, dispatch.NewRoute(root, nil), r.watch(stage), r.groups,
		func(d time.Duration) time.Duration { return max(d, notify.MinTimeout) }, 30*time.Second, nil, r.opt.Logger, r.recorder, r.metrics, nil)
	inhibitor, dispatcher := r.inhibitor, r.dispatch
	r.done.Go(inhibitor.Run)
	inhibitor.WaitForLoading()
	r.done.Go(func() { dispatcher.Run(time.Now()) })
	dispatcher.WaitForLoading()
	return nil
}

// halt stops routing. r.mu is held.
func (r *Router) halt() {
	if r.dispatch != nil {
		r.dispatch.Stop()
		r.inhibitor.Stop()
	}
}

// Close stops routing; no Deliver runs any more when it returns.
func (r *Router) Close() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.closed = true
	r.halt()
	r.alerts.Close()
	close(r.upkeep)
	r.mu.Unlock()
	r.done.Wait()
}

// Put brings alerts, new ones or again. One whose EndsAt is not after now has
// ceased.
func (r *Router) Put(ctx context.Context, alerts ...Alert) error {
	now := time.Now()
	out := make([]*amalert.Alert, 0, len(alerts))
	var wrong error
	for _, a := range alerts {
		x := &amalert.Alert{UpdatedAt: now, Alert: model.Alert{Labels: set(a.Labels), Annotations: set(a.Annotations), StartsAt: a.StartsAt, EndsAt: a.EndsAt}}
		if x.StartsAt.IsZero() {
			x.StartsAt = now
		}
		if x.EndsAt.Before(x.StartsAt) {
			x.EndsAt = x.StartsAt
		}
		if err := x.Validate(); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("router: alert %v: %w", a.Labels, err))
			continue
		}
		out = append(out, x)
	}
	return errors.Join(wrong, r.alerts.Put(ctx, out...))
}

func set(m map[string]string) model.LabelSet {
	out := make(model.LabelSet, len(m))
	for k, v := range m {
		out[model.LabelName(k)] = model.LabelValue(v)
	}
	return out
}

func unset(ls model.LabelSet) map[string]string {
	out := make(map[string]string, len(ls))
	for k, v := range ls {
		out[string(k)] = string(v)
	}
	return out
}

func alertOf(a *amalert.Alert) Alert {
	return Alert{Labels: unset(a.Labels), Annotations: unset(a.Annotations), StartsAt: a.StartsAt, EndsAt: a.EndsAt}
}

// watch lets Flushed hear of every flush that succeeded.
func (r *Router) watch(stage notify.Stage) notify.Stage {
	return notify.StageFunc(func(ctx context.Context, l *slog.Logger, alerts ...*amalert.Alert) (context.Context, []*amalert.Alert, error) {
		after, rest, err := stage.Exec(ctx, l, alerts...)
		if err != nil {
			return after, rest, err
		}
		marks, _ := marker.FromContext(ctx)
		for _, a := range alerts {
			if !a.EndsAt.IsZero() { // a flush clears the end of what fires
				continue
			}
			var by []string
			if marks != nil {
				by = marks.Status(a.Fingerprint()).SilencedBy
			}
			r.opt.Flushed(alertOf(a), by)
		}
		return after, rest, nil
	})
}

// delivery is a receiver as the pipeline sees it.
type delivery struct {
	r        *Router
	receiver string
	resolved bool
}

func (d delivery) SendResolved() bool { return d.resolved }

// Notify implements notify.Notifier. Every failure may be tried again.
func (d delivery) Notify(ctx context.Context, alerts ...*amalert.Alert) (bool, error) {
	list := make([]Alert, len(alerts))
	for i, a := range alerts {
		list[i] = alertOf(a)
	}
	return true, d.r.opt.Deliver(ctx, d.receiver, list)
}

// build turns routes into what the parts of an Alertmanager take.
func (r *Router) build(routes Routes) (*amconfig.Route, []amcommon.InhibitRule, map[string][]notify.Integration, error) {
	span := func(d time.Duration) *model.Duration { return (*model.Duration)(&d) }
	root := &amconfig.Route{Receiver: nobody, GroupByAll: true, GroupWait: span(0), GroupInterval: span(time.Minute), RepeatInterval: span(remember)}
	integrations := map[string][]notify.Integration{nobody: nil}
	for _, x := range routes.Receivers {
		match, err := matchers(x.Match)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("receiver %s: %w", x.Name, err)
		}
		if _, twice := integrations[x.Name]; twice || x.Name == "" || len(match) == 0 || x.Interval <= 0 || x.Again <= 0 {
			return nil, nil, nil, fmt.Errorf("receiver %q: there twice, or without name, condition, interval or time to be told again", x.Name)
		}
		groupBy := make([]model.LabelName, len(x.GroupBy))
		for i, l := range x.GroupBy {
			groupBy[i] = model.LabelName(l)
		}
		root.Routes = append(root.Routes, &amconfig.Route{Receiver: x.Name, Matchers: match, GroupBy: groupBy,
			GroupWait: span(x.Wait), GroupInterval: span(x.Interval), RepeatInterval: span(x.Again)})
		d := delivery{r, x.Name, x.Resolved}
		integrations[x.Name] = []notify.Integration{notify.NewIntegration(d, d, "mail", 0, x.Name)}
	}
	var inhibitions []amcommon.InhibitRule
	for _, x := range routes.Inhibitions {
		source, err := matchers(x.Source)
		if err != nil {
			return nil, nil, nil, err
		}
		target, err := matchers(x.Target)
		if err != nil {
			return nil, nil, nil, err
		}
		inhibitions = append(inhibitions, amcommon.InhibitRule{SourceMatchers: source, TargetMatchers: target, Equal: x.Equal})
	}
	return root, inhibitions, integrations, nil
}

func matchers(list []Matcher) (amcommon.Matchers, error) {
	var out amcommon.Matchers
	for _, m := range list {
		kind := amlabels.MatchEqual
		if m.Regexp {
			kind = amlabels.MatchRegexp
		}
		x, err := amlabels.NewMatcher(kind, m.Label, m.Value)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

// Package selfmetrics keeps the collector's own metrics in its store, minute by
// minute, so that rules and dashboards see the collector as they see villages.
//
// It guarantees that they never grow beyond a bound, that a series which is no
// longer there ends, and that nothing here can be taken for a measurement: names
// of the catalogue that are made of the journal are not taken from metrics. They
// are not evidence and not in the journal: a store that is made again has them
// from then on.
package selfmetrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"

	"github.com/pantau-desa/pantau/collector/series"
)

// DefaultMost is how many series are kept at most: some 300 are the rule, and one
// for each ailment of a probe.
const DefaultMost = 5000

// Options of a Writer. Gatherer and Storage are required.
type Options struct {
	Gatherer prometheus.Gatherer
	Storage  storage.AppendableV2
	Every    time.Duration    // 0: a minute
	Most     int              // series; 0: DefaultMost
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: discards
}

// Writer writes them. Make it with New, then Run it once.
type Writer struct {
	opt     Options
	keep    map[string]bool // by name, whatever the prefix
	records map[string]bool // never
	last    map[string]labels.Labels
	failing bool
	over    bool
	written atomic.Pointer[time.Time]
}

// New returns a writer that has written nothing yet.
func New(o Options) *Writer {
	if o.Every == 0 {
		o.Every = time.Minute
	}
	if o.Most == 0 {
		o.Most = DefaultMost
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Writer{opt: o, keep: map[string]bool{}, records: map[string]bool{}}
	for _, d := range series.Catalogue() {
		if d.Source == series.FromSelf {
			w.keep[d.Name] = true
		} else {
			w.records[d.Name] = true
		}
	}
	return w
}

// Run writes at once, then every so often, until ctx ends. A store that fails is
// tried again the next time.
func (w *Writer) Run(ctx context.Context) error {
	t := time.NewTicker(w.opt.Every)
	defer t.Stop()
	for {
		err := w.Write(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !w.failing:
			w.opt.Logger.Error("the collector's own metrics cannot be kept", "err", err)
		case err == nil && w.failing:
			w.opt.Logger.Info("the collector's own metrics are kept again")
		}
		w.failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Written is when they were last written; zero: not since the start.
func (w *Writer) Written() time.Time {
	if t := w.written.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// Write writes all kept metrics as they are now.
func (w *Writer) Write(ctx context.Context) error {
	families, err := w.opt.Gatherer.Gather()
	if len(families) == 0 && err != nil {
		return fmt.Errorf("selfmetrics: %w", err) // else one that fails keeps no other
	}
	now := w.opt.Now()
	samples := w.samples(families)
	app := w.opt.Storage.AppenderV2(ctx)
	next := make(map[string]labels.Labels, len(samples))
	put := func(l labels.Labels, v float64) error {
		_, err := app.Append(0, l, 0, now.UnixMilli(), v, nil, nil, storage.AppendV2Options{})
		if errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			return nil // a clock that was set back
		}
		return err
	}
	for _, s := range samples {
		if err := put(s.labels, s.value); err != nil {
			return fmt.Errorf("selfmetrics: %w", errors.Join(err, app.Rollback()))
		}
		next[string(s.labels.Bytes(nil))] = s.labels
	}
	for key, l := range w.last {
		if _, ok := next[key]; ok {
			continue
		}
		if err := put(l, math.Float64frombits(value.StaleNaN)); err != nil {
			return fmt.Errorf("selfmetrics: %w", errors.Join(err, app.Rollback()))
		}
	}
	if err := app.Commit(); err != nil {
		return fmt.Errorf("selfmetrics: %w", err)
	}
	w.last = next
	w.written.Store(&now)
	return nil
}

type sample struct {
	labels labels.Labels
	value  float64
}

// samples are those that are kept, the first ones if they are too many.
func (w *Writer) samples(families []*dto.MetricFamily) (out []sample) {
	for _, f := range families {
		name := f.GetName()
		if w.records[name] || !w.keep[name] && !strings.HasPrefix(name, "pantau_") {
			continue
		}
		for _, m := range f.GetMetric() {
			one := flatten(name, f.GetType(), m)
			if len(out)+len(one) > w.opt.Most {
				if !w.over {
					w.opt.Logger.Warn("the collector has more metrics than are kept: the rest is at /metrics only", "kept", w.opt.Most, "from", name)
				}
				w.over = true
				return out
			}
			out = append(out, one...)
		}
	}
	w.over = false
	return out
}

// flatten makes samples of a metric, as a scrape would; of a summary its sum and
// count.
func flatten(name string, t dto.MetricType, m *dto.Metric) []sample {
	with := func(suffix string, v float64, more ...labels.Label) sample {
		b := labels.NewBuilder(labels.EmptyLabels()).Set(model.MetricNameLabel, name+suffix)
		for _, l := range m.GetLabel() {
			b.Set(l.GetName(), l.GetValue())
		}
		for _, l := range more {
			b.Set(l.Name, l.Value)
		}
		return sample{b.Labels(), v}
	}
	switch t {
	case dto.MetricType_COUNTER:
		return []sample{with("", m.GetCounter().GetValue())}
	case dto.MetricType_GAUGE:
		return []sample{with("", m.GetGauge().GetValue())}
	case dto.MetricType_UNTYPED:
		return []sample{with("", m.GetUntyped().GetValue())}
	case dto.MetricType_SUMMARY:
		s := m.GetSummary()
		return []sample{with("_sum", s.GetSampleSum()), with("_count", float64(s.GetSampleCount()))}
	case dto.MetricType_HISTOGRAM:
		h := m.GetHistogram()
		out := []sample{with("_sum", h.GetSampleSum()), with("_count", float64(h.GetSampleCount()))}
		for _, b := range h.GetBucket() {
			if !math.IsInf(b.GetUpperBound(), 1) {
				out = append(out, with("_bucket", float64(b.GetCumulativeCount()), labels.Label{Name: model.BucketLabel, Value: bound(b.GetUpperBound())}))
			}
		}
		return append(out, with("_bucket", float64(h.GetSampleCount()), labels.Label{Name: model.BucketLabel, Value: "+Inf"}))
	}
	return nil
}

// bound writes a bucket's bound as Prometheus does: with a point.
func bound(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !slices.ContainsFunc([]rune(s), func(r rune) bool { return r == '.' || r == 'e' }) {
		s += ".0"
	}
	return s
}

package selfmetrics

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"github.com/pantau-desa/pantau/collector/query"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
)

type world struct {
	t     *testing.T
	reg   *prometheus.Registry
	store *tsdb.DB
	now   time.Time
	log   strings.Builder
	*Writer
}

func newWorld(t *testing.T, most int) *world {
	t.Helper()
	w := &world{t: t, reg: prometheus.NewRegistry(), now: time.Now().Truncate(time.Second)}
	var err error
	if w.store, err = tsdb.Open(tsdb.Options{Dir: t.TempDir(), Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	w.Writer = New(Options{Gatherer: w.reg, Storage: w.store, Most: most, Now: func() time.Time { return w.now },
		Logger: slog.New(slog.NewTextHandler(&w.log, nil))})
	return w
}

func (w *world) write() {
	w.t.Helper()
	if err := w.Write(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) query(expr string) map[string]float64 {
	w.t.Helper()
	q, err := query.New(query.Options{Storage: w.store})
	if err != nil {
		w.t.Fatal(err)
	}
	defer q.Close()
	v, err := q.Instant(w.t.Context(), expr, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range v {
		out[s.Metric.String()] = s.F
	}
	return out
}

func TestMetricsBecomeSeries(t *testing.T) {
	w := newWorld(t, 0)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_test_errors_total"}, []string{"reason"})
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pantau_test_seconds", Buckets: []float64{0.5, 1, 1e6}})
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "go_goroutines"})
	other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "prometheus_engine_queries"})
	measured := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_village_state"})
	s := prometheus.NewSummary(prometheus.SummaryOpts{Name: "pantau_test_summary", Objectives: map[float64]float64{0.5: 0.05}})
	w.reg.MustRegister(c, h, g, other, measured, s)
	c.WithLabelValues("disk").Add(3)
	h.Observe(0.7)
	h.Observe(7)
	s.Observe(2)
	g.Set(12)
	measured.Set(3)
	w.write()
	if d := cmp.Diff(map[string]float64{
		`{__name__="pantau_test_errors_total", reason="disk"}`: 3,
		`{__name__="pantau_test_seconds_sum"}`:                 7.7,
		`{__name__="pantau_test_seconds_count"}`:               2,
		`{__name__="pantau_test_seconds_bucket", le="0.5"}`:    0,
		`{__name__="pantau_test_seconds_bucket", le="1.0"}`:    1,
		`{__name__="pantau_test_seconds_bucket", le="1e+06"}`:  2,
		`{__name__="pantau_test_seconds_bucket", le="+Inf"}`:   2,
		`{__name__="pantau_test_summary_sum"}`:                 2,
		`{__name__="pantau_test_summary_count"}`:               1,
		`{__name__="go_goroutines"}`:                           12,
	}, w.query(`{__name__=~".+"}`)); d != "" {
		t.Error(d)
	}
	if !w.Written().Equal(w.now) {
		t.Errorf("written %v", w.Written())
	}

	// A rate sees the counter, and what is gone ends at once.
	c.WithLabelValues("disk").Add(6)
	c.WithLabelValues("net")
	w.now = w.now.Add(time.Minute)
	w.write()
	if got := w.query(`increase(pantau_test_errors_total{reason="disk"}[2m])`); len(got) != 1 || got[`{reason="disk"}`] < 6 {
		t.Errorf("increase %v", got)
	}
	c.DeleteLabelValues("disk")
	w.now = w.now.Add(time.Minute)
	w.write()
	if got := slices.Collect(maps.Keys(w.query("pantau_test_errors_total"))); len(got) != 1 || !strings.Contains(got[0], "net") {
		t.Errorf("after one went: %v", got)
	}
}

func TestMetricsAreBounded(t *testing.T) {
	w := newWorld(t, 10)
	c := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pantau_test"}, []string{"n"})
	w.reg.MustRegister(c)
	for i := range 30 {
		c.WithLabelValues(string(rune('A' + i))).Set(1)
	}
	w.write()
	w.write() // the same instant again
	if got := w.query("count(pantau_test)"); got["{}"] != 10 {
		t.Errorf("%v", got)
	}
	if n := strings.Count(w.log.String(), "more metrics than are kept"); n != 1 {
		t.Errorf("said %d times: %s", n, w.log.String())
	}
}

// A clock that is set back loses nothing and breaks nothing.
func TestClockSetBack(t *testing.T) {
	w := newWorld(t, 0)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_test"})
	w.reg.MustRegister(g)
	w.write()
	w.now = w.now.Add(-10 * time.Minute)
	g.Set(5)
	w.write()
	if got := w.query("pantau_test"); got[`{__name__="pantau_test"}`] != 5 {
		t.Errorf("%v", got)
	}
}

// broken is a store that takes nothing for a while.
type broken struct {
	storage.AppendableV2
	until int
}

func (b *broken) AppenderV2(ctx context.Context) storage.AppenderV2 {
	b.until--
	return failing{b.AppendableV2.AppenderV2(ctx), b.until >= 0}
}

type failing struct {
	storage.AppenderV2
	fail bool
}

func (f failing) Commit() error {
	if f.fail {
		return errors.Join(errors.New("no disk"), f.Rollback())
	}
	return f.AppenderV2.Commit()
}

func TestStoreThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t, 0)
	w.opt.Storage = &broken{w.store, 3}
	w.opt.Every = time.Millisecond
	w.reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_test"}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for w.Written().IsZero() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil || w.Written().IsZero() {
		t.Fatal(err, w.Written())
	}
	if log := w.log.String(); strings.Count(log, "cannot be kept") != 1 || !strings.Contains(log, "no disk") || !strings.Contains(log, "kept again") {
		t.Error(log)
	}
}

package alerts

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/pantau-desa/pantau/collector/state"
)

// Each Monday at seven a regency hears of its week, once, whatever restarts.
func TestWeek(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.change = func(o *Options) {
			o.States = func() state.Snapshot {
				s := state.Snapshot{At: time.Now()}
				for n, site := range inv.Sites(time.Now()) {
					x := state.Up
					if n < 3 {
						x = state.States()[n+2] // down, fault, never seen
					}
					s.Sites = append(s.Sites, state.SiteState{Site: site.ID, State: x})
				}
				return s
			}
		}
		w.start() // Saturday, 1 January 2000, 07.00 WIB
		w.pass(4 * time.Minute)
		w.sever(1, 40)
		w.pass(10 * time.Minute)
		w.heal()
		w.pass(20 * time.Minute)
		before := len(w.letters(dinas))
		until := func(day, hour, minute int) {
			time.Sleep(time.Until(time.Date(2000, 1, day, hour, minute, 0, 0, time.FixedZone("WIB", 7*3600))))
			synctest.Wait()
		}
		weeks := func() []arrived { return w.letters(dinas)[before:] }
		until(3, 6, 59)
		if n := len(weeks()); n != 0 {
			t.Fatalf("%d before seven: %v", n, w.subjects(dinas))
		}
		until(3, 7, 1)
		got := weeks()
		if len(got) != 1 || !strings.HasPrefix(got[0].subject, "[Ringkasan pekan] Klaten: 1 gangguan, 40 desa; kini 57 dari 60 desa normal, 27 Desember 1999 sampai 2 Januari 2000") {
			t.Fatalf("%v", w.subjects(dinas))
		}
		for _, want := range []string{"G-3310-000101-01", "Belum diketahui", "alat bermasalah", "belum terpantau", "3 kecamatan", "data belum cukup"} {
			if !strings.Contains(got[0].text, want) {
				t.Errorf("the summary lacks %q:\n%s", want, got[0].text)
			}
		}
		w.stop()
		w.start()
		until(9, 12, 0)
		if n := len(weeks()); n != 1 {
			t.Errorf("%d within a week", n)
		}
		w.stop() // from Sunday to Tuesday
		until(11, 12, 0)
		w.start()
		until(11, 12, 2)
		if n := len(weeks()); n != 2 || !strings.HasPrefix(weeks()[1].subject, "[Ringkasan pekan] Klaten: tidak ada gangguan") {
			t.Errorf("after two days away: %v", w.subjects(dinas))
		}
		w.stop()
		until(20, 12, 0) // Thursday: too late
		w.start()
		until(20, 13, 0)
		if n := len(weeks()); n != 2 {
			t.Errorf("%d after a week that was missed", n)
		}
		w.stop()
		w.expect(ops)
	})
}

// querier is a real store with a real engine.
type querier struct {
	db     *tsdb.DB
	engine *promql.Engine
}

func newQuerier(t *testing.T) *querier {
	t.Helper()
	opt := tsdb.DefaultOptions()
	opt.OutOfOrderTimeWindow = (60 * 24 * time.Hour).Milliseconds() // one series after the other
	db, err := tsdb.Open(filepath.Join(t.TempDir(), "tsdb"), nil, nil, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	// Writes out of order must not meet the first truncation of a head that has no
	// chunk file yet: upstream then counts files anew and panics.
	db.DisableCompactions()
	t.Cleanup(func() { _ = db.Close() })
	return &querier{db, promql.NewEngine(promql.EngineOpts{MaxSamples: 50_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{})})}
}

func (q *querier) Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	x, err := q.engine.NewInstantQuery(ctx, q.db, nil, expr, at)
	if err != nil {
		return nil, err
	}
	defer x.Close()
	v, err := x.Exec(ctx).Vector()
	return append(promql.Vector(nil), v...), err
}

func (q *querier) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	x, err := q.engine.NewRangeQuery(ctx, q.db, nil, expr, from, to, step)
	if err != nil {
		return nil, err
	}
	m, err := x.Exec(ctx).Matrix()
	return m, err // not closed: its points are returned
}

// apart asks a store that lives outside of a bubble from within it.
type apart struct {
	*querier
	do func(func())
}

func (a apart) Instant(_ context.Context, expr string, at time.Time) (v promql.Vector, err error) {
	a.do(func() { v, err = a.querier.Instant(context.Background(), expr, at) })
	return v, err
}

func (a apart) Range(_ context.Context, expr string, from, to time.Time, step time.Duration) (m promql.Matrix, err error) {
	a.do(func() { m, err = a.querier.Range(context.Background(), expr, from, to, step) })
	return m, err
}

func (q *querier) put(t *testing.T, from, to time.Time, step time.Duration, value func(time.Time) float64, name string, pairs ...string) {
	t.Helper()
	app := q.db.Appender(t.Context())
	ls := labels.FromStrings(append([]string{"__name__", name}, pairs...)...)
	for at := from; at.Before(to); at = at.Add(step) {
		if v := value(at); !math.IsNaN(v) {
			if _, err := app.Append(0, ls, at.UnixMilli(), v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// The figures of a week come from the series, with n and interval.
func TestWeekFigures(t *testing.T) {
	inv := network(t, 24, contacts) // the first 16 in Prambanan
	q := newQuerier(t)
	monday := mondayOf(time.Date(2000, 1, 19, 12, 0, 0, 0, inv.Location("33.10")))
	from := monday.AddDate(0, 0, -7)
	for n, site := range inv.Sites(monday) {
		code := site.Village
		where := []string{"province", "33", "regency", "33.10", "district", code[:8], "village", code}
		speed := append([]string{"site", string(site.ID), "probe", "p", "target", "ukur-1"}, where...)
		q.put(t, from.AddDate(0, 0, -7), monday, 6*time.Hour, func(at time.Time) float64 {
			mbps := 20 + float64(n%10)
			if code[:8] == "33.10.01" && at.After(from) {
				mbps *= 0.7
			}
			return mbps * 1e6
		}, "pantau_download_bits_per_second", speed...)
		q.put(t, from, monday, time.Minute, func(at time.Time) float64 {
			switch hours := at.Sub(from).Hours(); {
			case n < 4 && hours < 16.8: // a tenth of the week
				return 3
			case n >= 20 && hours < 16.8:
				return math.NaN()
			case n == 17:
				return 5
			}
			return 1
		}, "pantau_village_state", where...)
	}
	server := smtpServer(t)
	w := &world{t: t, server: server, dir: t.TempDir(), change: func(o *Options) { o.Figures, o.SpeedMean = q, 6*time.Hour }}
	w.inv.Store(inv)
	w.engine = w.openEngine()
	defer w.engine.Close()
	s, err := New(w.options())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	week := s.weekOf(t.Context(), "33.10", monday)
	g := week.Digest(inv, inv.Contacts(monday)[1], s.style, monday.Add(7*time.Hour))
	if g.Download.N != 24*27 || g.Download.Villages != 24 || g.Download.Value < 14e6 || g.Download.Low >= g.Download.Value || math.Abs(g.Coverage-27.0/28) > 1e-9 || g.Upload.N != 0 {
		t.Errorf("speeds %+v, coverage %v, upload %+v", g.Download, g.Coverage, g.Upload)
	}
	// 23 villages count: 4 were cut off for a tenth of the week, of 4 a tenth is not known.
	if a := g.Availability; !a.Known || math.Abs(a.Low-(23-.8)/23) > 0.002 || math.Abs(a.High-(23-.4)/23) > 0.002 {
		t.Errorf("availability %+v, want %v to %v", a, 22.2/23, 22.6/23)
	}
	if len(g.Watch) != 1 || g.Watch[0].Name != "Prambanan" || !g.Watch[0].Changed || math.Abs(g.Watch[0].Now.Value/g.Watch[0].Before.Value-0.7) > 0.01 {
		t.Errorf("watch %+v", g.Watch)
	}
	m, err := g.Render()
	if err != nil || !strings.Contains(m.Text, "kecepatan turun 30%") || strings.Contains(m.Text, "NaN") {
		t.Errorf("%v\n%s", err, m.Text)
	}
}

// A surge is shown with its figures where the rules have recorded them.
func TestSpikeFigures(t *testing.T) {
	server, inv := smtpServer(t), network(t, 60, contacts)
	q, do := newQuerier(t), outside(t)
	base := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // where the clock of a bubble begins
	for n, site := range inv.Sites(base) {
		if site.Village[:8] != "33.10.01" {
			continue
		}
		where := []string{"province", "33", "regency", "33.10", "district", site.Village[:8], "village", site.Village}
		grow := 1.1
		if n%4 == 0 {
			grow = 3
		}
		q.put(t, base.Add(-3*time.Hour), base.Add(time.Hour), 5*time.Minute, func(at time.Time) float64 { return 8e6 * grow }, "village:pantau_link_receive_bits_per_second:rate5m", where...)
		q.put(t, base.Add(-3*time.Hour), base.Add(time.Hour), 5*time.Minute, func(time.Time) float64 { return 8e6 }, "village:pantau_link_receive_bits_per_second:usual", where...)
		q.put(t, base.Add(-3*time.Hour), base.Add(time.Hour), time.Minute, func(time.Time) float64 { return 0.02 }, "pantau_latency_seconds", append([]string{"stat", "median", "site", string(site.ID)}, where...)...)
	}
	district := []string{"province", "33", "regency", "33.10", "district", "33.10.01"}
	q.put(t, base.Add(-3*time.Hour), base.Add(time.Hour), 5*time.Minute, func(at time.Time) float64 {
		if at.After(base.Add(-30 * time.Minute)) {
			return 250e6
		}
		return 130e6
	}, "district:pantau_link_receive_bits_per_second:rate5m", district...)
	q.put(t, base.Add(-3*time.Hour), base.Add(time.Hour), 5*time.Minute, func(time.Time) float64 { return 125e6 }, "district:pantau_link_receive_bits_per_second:usual", district...)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, server, inv)
		w.change = func(o *Options) {
			o.Figures = apart{q, do}
			o.States = func() state.Snapshot {
				s := state.Snapshot{At: time.Now()}
				for _, site := range inv.Sites(time.Now()) {
					s.Sites = append(s.Sites, state.SiteState{Site: site.ID, State: state.Up})
				}
				return s
			}
		}
		w.start()
		defer w.end()
		a := ill("DistrictUsageFarAboveUsual", "warning")
		a.Labels = labels.FromStrings(append([]string{"alertname", "DistrictUsageFarAboveUsual", "kind", "spike", "severity", "warning"}, district...)...)
		a.Annotations = labels.FromStrings("ringkasan", "x", "value", "2.0")
		w.evaluate(10*time.Minute, []*rules.Alert{a}...)
		w.expect(dinas, "[Lonjakan] Pemakaian Kec. Prambanan 2,00 kali biasanya sejak")
		text := w.letters(dinas)[0].text
		for _, want := range []string{"250 Mbps", "125 Mbps", "16 dari 16 desa normal", "jaringan masih lancar", "PEMAKAIAN, ", "24"} {
			if !strings.Contains(text, want) && !strings.Contains(w.letters(dinas)[0].subject, want) {
				t.Errorf("the mail lacks %q:\n%s", want, text)
			}
		}
	})
}

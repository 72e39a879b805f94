// Package sinktest holds what every sink must do: the tests of one are the
// tests of all.
package sinktest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink"
)

// Store is one opening of a sink's store.
type Store struct {
	sink.Sink
	// Read returns everything that the store holds: the values of each series
	// (by its labels' text form, the name included) in order of time. A stale
	// marker counts as a value.
	Read func(t testing.TB) Content

	// What some stores cannot do. Each costs users something: the sink's own
	// documentation says what.

	// Overwrites: of two values for one instant the last one stays, and the store
	// cannot tell. InfluxDB: a point replaces the fields of the one before it.
	Overwrites bool
	// Endless: a series has no end. A store may do without where the new facts
	// about a site take the place of the old ones by themselves, as fields do in
	// InfluxDB. No stale markers are expected.
	Endless bool
}

// Content is what a store holds.
type Content map[string][]Point

// Point is a sample of a known series.
type Point struct {
	T int64 // Unix milliseconds
	V float64
}

// Open opens the store that is kept in dir, whose parent exists; the same dir is
// opened again only after Close. now is the store's clock.
type Open func(t testing.TB, dir string, now func() time.Time) Store

// Run runs the conformance tests.
func Run(t *testing.T, open Open) {
	for name, test := range map[string]func(t *testing.T, x *rig){
		"holds what was written":             holds,
		"replay doubles nothing":             replay,
		"replay after a restart":             replayAfterRestart,
		"any order":                          anyOrder,
		"late by almost two days":            late,
		"a write in parts":                   partial,
		"nothing from the future":            future,
		"a conflict keeps one value":         conflict,
		"an old fact ends with the new one":  facts,
		"an old fact ends after a restart":   factsAfterRestart,
		"a replayed fact ends nothing":       factsReplayed,
		"nothing to write":                   empty,
		"a cancelled write is written later": cancelled,
		"closing twice":                      closeTwice,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := &rig{t: t, open: open, dir: filepath.Join(t.TempDir(), "store"), now: time.Now().Truncate(time.Minute)}
			x.restart()
			t.Cleanup(func() { _ = x.store.Close() })
			test(t, x)
		})
	}
}

type rig struct {
	t     *testing.T
	open  Open
	dir   string
	now   time.Time
	store Store
}

func (x *rig) restart() {
	x.t.Helper()
	if x.store.Sink != nil {
		if err := x.store.Close(); err != nil {
			x.t.Fatal(err)
		}
	}
	x.store = x.open(x.t, x.dir, func() time.Time { return x.now })
}

func (x *rig) write(samples ...series.Sample) sink.Refused {
	x.t.Helper()
	refused, err := x.store.Write(context.Background(), samples)
	if err != nil {
		x.t.Fatal(err)
	}
	return refused
}

// expect compares the store's content with samples.
func (x *rig) expect(samples ...series.Sample) {
	x.t.Helper()
	want := Content{}
	for _, s := range samples {
		if x.store.Endless && series.IsStale(s.V) {
			continue
		}
		key := s.Series.Labels.String()
		want[key] = append(want[key], Point{s.T, s.V})
	}
	if d := cmp.Diff(want, x.store.Read(x.t), equalNaN); d != "" {
		x.t.Error(d)
	}
}

var equalNaN = cmp.Comparer(func(a, b float64) bool { return a == b || series.IsStale(a) && series.IsStale(b) })

// minutes makes n samples of one series, a minute apart, the last one ago before now.
func (x *rig) minutes(site string, n int, ago time.Duration) []series.Sample {
	s := &series.Series{Labels: labels.FromStrings(model.MetricNameLabel, "pantau_jitter_seconds",
		"district", "33.10.15", "probe", "p-"+site, "province", "33", "regency", "33.10", "site", site, "target", "iix-1", "village", "33.10.15.2009")}
	var out []series.Sample
	for i := range n {
		at := x.now.Add(-ago - time.Duration(n-1-i)*time.Minute)
		out = append(out, series.Sample{Series: s, T: at.UnixMilli(), V: float64(i) / 8})
	}
	return out
}

func (x *rig) info(isp string, ago time.Duration) series.Sample {
	return series.Sample{Series: &series.Series{Labels: labels.FromStrings(model.MetricNameLabel, series.SiteInfo,
		"district", "33.10.15", "isp", isp, "province", "33", "regency", "33.10", "site", "site-a", "village", "33.10.15.2009")},
		T: x.now.Add(-ago).UnixMilli(), V: 1}
}

func ended(s series.Sample, by series.Sample) series.Sample {
	return series.Sample{Series: s.Series, T: by.T, V: series.StaleMarker()}
}

func holds(t *testing.T, x *rig) {
	a, b := x.minutes("site-a", 3, 0), x.minutes("site-b", 2, time.Minute)
	if r := x.write(append(a, b...)...); r.Total() != 0 {
		t.Errorf("refused %+v", r)
	}
	x.expect(append(a, b...)...)
	x.restart()
	x.expect(append(a, b...)...)
}

func replay(t *testing.T, x *rig) {
	a := x.minutes("site-a", 10, 0)
	for range 3 {
		x.write(a...)
	}
	x.write(a[2:5]...)
	x.write(a[9])
	x.expect(a...)
}

func replayAfterRestart(t *testing.T, x *rig) {
	a := x.minutes("site-a", 10, 0)
	x.write(a[:7]...)
	x.restart()
	x.write(a[3:]...)
	x.restart()
	x.write(a...)
	x.expect(a...)
}

func anyOrder(t *testing.T, x *rig) {
	a, b := x.minutes("site-a", 300, 0), x.minutes("site-b", 300, 5*time.Hour)
	all := append(append([]series.Sample(nil), a...), b...)
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for len(all) > 0 {
		n := min(1+rng.IntN(50), len(all))
		if r := x.write(all[:n]...); r.Total() != 0 {
			t.Fatalf("refused %+v", r)
		}
		all = all[n:]
	}
	x.expect(append(a, b...)...)
}

func late(t *testing.T, x *rig) {
	fresh, old := x.minutes("site-a", 2, 0), x.minutes("site-a", 60, series.MaxAge-2*time.Hour)
	x.write(fresh...)
	if r := x.write(old...); r.Total() != 0 {
		t.Errorf("refused %+v", r)
	}
	x.expect(append(old, fresh...)...)
	x.restart()
	x.write(old...)
	x.expect(append(old, fresh...)...)
}

// partial writes what a crash between two parts of a group leaves to be done:
// the first part, then all.
func partial(t *testing.T, x *rig) {
	var all, first []series.Sample
	for i := range 50 {
		a := x.minutes(fmt.Sprintf("site-%02d", i), 20, 0)
		all = append(all, a...)
		first = append(first, a[:i%20]...)
	}
	x.write(first...)
	x.restart()
	x.write(all...)
	x.expect(all...)
}

func future(t *testing.T, x *rig) {
	a := x.minutes("site-a", 3, 0)
	ahead := a[2]
	ahead.T = x.now.AddDate(0, 0, 400).UnixMilli()
	if r := x.write(a[0], ahead, a[1]); r != (sink.Refused{Future: 1}) {
		t.Errorf("refused %+v", r)
	}
	if r := x.write(a[2]); r.Total() != 0 {
		t.Errorf("after it: refused %+v", r)
	}
	x.expect(a...)
}

func conflict(t *testing.T, x *rig) {
	a := x.minutes("site-a", 3, 0)
	x.write(a...)
	other := a[2]
	other.V = 77
	if r := x.write(other, x.minutes("site-b", 1, 0)[0]); r.Total() > 1 || r.Total() != r.Conflict {
		t.Errorf("refused %+v", r)
	}
	if x.store.Overwrites {
		a[2] = other
	}
	x.expect(append(a, x.minutes("site-b", 1, 0)...)...)
}

func facts(t *testing.T, x *rig) {
	a, b := x.info("isp-a", 2*time.Minute), x.info("isp-b", time.Minute)
	x.write(a)
	x.write(b)
	x.expect(a, ended(a, b), b)
}

func factsAfterRestart(t *testing.T, x *rig) {
	a, b := x.info("isp-a", 2*time.Minute), x.info("isp-b", time.Minute)
	x.write(a)
	x.restart()
	x.write(b)
	x.expect(a, ended(a, b), b)
}

func factsReplayed(t *testing.T, x *rig) {
	a, b := x.info("isp-a", 2*time.Minute), x.info("isp-b", time.Minute)
	x.write(a, b)
	x.restart()
	x.write(a, b)
	x.write(a)
	x.expect(a, ended(a, b), b)
}

func empty(t *testing.T, x *rig) {
	if r := x.write(); r.Total() != 0 {
		t.Errorf("refused %+v", r)
	}
	x.expect()
}

func cancelled(t *testing.T, x *rig) {
	a := x.minutes("site-a", 3, 0)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := x.store.Write(ctx, a); err == nil {
		t.Error("a cancelled write succeeded")
	}
	x.write(a...)
	x.expect(a...)
}

func closeTwice(t *testing.T, x *rig) {
	a := x.minutes("site-a", 3, 0)
	x.write(a...)
	if err := x.store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := x.store.Close(); err != nil {
		t.Errorf("closed again: %v", err)
	}
	if _, err := x.store.Write(context.Background(), a); err == nil {
		t.Error("a closed store took samples")
	}
	x.restart()
	x.expect(a...)
}

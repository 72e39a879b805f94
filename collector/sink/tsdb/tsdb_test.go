package tsdb_test

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
)

func open(t testing.TB, dir string, now func() time.Time) *tsdb.DB {
	t.Helper()
	db, err := tsdb.Open(tsdb.Options{Dir: dir, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// read returns all samples of a storage.
func read(t testing.TB, q storage.Queryable) sinktest.Content {
	t.Helper()
	out := sinktest.Content{}
	querier, err := q.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer querier.Close()
	set := querier.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	var it chunkenc.Iterator
	for set.Next() {
		key := set.At().Labels().String()
		for it = set.At().Iterator(it); it.Next() != chunkenc.ValNone; {
			at, v := it.At()
			out[key] = append(out[key], sinktest.Point{T: at, V: v})
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, func(t testing.TB, dir string, now func() time.Time) sinktest.Store {
		db := open(t, dir, now)
		return sinktest.Store{Sink: db, Read: func(t testing.TB) sinktest.Content { return read(t, db) }}
	})
}

var site = &series.Series{Labels: labels.FromStrings(model.MetricNameLabel, "pantau_odp_reachable", "site", "site-a")}

func TestTooOldIsCountedAndPassedOver(t *testing.T) {
	now := time.Now()
	db := open(t, t.TempDir(), time.Now)
	defer db.Close()
	fresh := series.Sample{Series: site, T: now.UnixMilli(), V: 1}
	old := series.Sample{Series: site, T: now.Add(-49 * time.Hour).UnixMilli(), V: 1}
	if _, err := db.Write(t.Context(), []series.Sample{fresh}); err != nil {
		t.Fatal(err)
	}
	next := series.Sample{Series: site, T: now.UnixMilli() + 1, V: 0}
	refused, err := db.Write(t.Context(), []series.Sample{old, next})
	if err != nil || refused.Old != 1 || refused.Total() != 1 {
		t.Errorf("refused %+v, %v", refused, err)
	}
	if got := read(t, db)[site.Labels.String()]; len(got) != 2 {
		t.Errorf("holds %v", got)
	}
}

func TestRulesRecordBesideTheSink(t *testing.T) {
	db := open(t, t.TempDir(), time.Now)
	app := db.AppenderV2(t.Context())
	ls := labels.FromStrings(model.MetricNameLabel, "village:download:median")
	if _, err := app.Append(0, ls, 0, time.Now().UnixMilli(), 5, nil, nil, storage.AppendV2Options{}); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, db)[ls.String()]; len(got) != 1 || got[0].V != 5 {
		t.Errorf("holds %v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.AppenderV2(t.Context()).Append(0, ls, 0, 1, 5, nil, nil, storage.AppendV2Options{}); err == nil {
		t.Error("a closed store took a rule's sample")
	}
	if _, err := db.Querier(0, 1); err == nil {
		t.Error("a closed store answers")
	}
}

func TestCloseWaitsForQueries(t *testing.T) {
	db := open(t, t.TempDir(), time.Now)
	if _, err := db.Write(t.Context(), []series.Sample{{Series: site, T: time.Now().UnixMilli(), V: 1}}); err != nil {
		t.Fatal(err)
	}
	q, err := db.Querier(0, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error, 1)
	go func() { closed <- db.Close() }()
	for { // until Close has begun
		second, err := db.Querier(0, 1)
		if err != nil {
			break
		}
		second.Close()
	}
	set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "site", "site-a"))
	if !set.Next() || set.At().Iterator(nil).Next() != chunkenc.ValFloat {
		t.Error("an open query lost its store")
	}
	select {
	case err := <-closed:
		t.Errorf("closed under an open query: %v", err)
	default:
	}
	q.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestRetentionMustCoverLateSamples(t *testing.T) {
	if _, err := tsdb.Open(tsdb.Options{Dir: t.TempDir(), Retention: 24 * time.Hour}); err == nil {
		t.Error("a retention of a day is accepted")
	}
}

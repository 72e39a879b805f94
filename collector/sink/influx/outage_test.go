package influx_test

import (
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/influx/influxtest"
	"github.com/pantau-desa/pantau/collector/state"
)

// soak is for how long the server is away; without it the test goes on as soon as
// the sink has tried in vain often enough.
const soak = "PANTAU_SOAK_OUTAGE"

// Each batch is five minutes of one probe's light results, 46 samples.
const (
	probes         = 40
	samplesOfBatch = 46
)

// results appends batches of all probes, five minutes after five minutes, as fast
// as pace lets it, until stop is called, or until now is reached.
func (w *world) results(pace time.Duration) (appended *atomic.Int64, stop func()) {
	appended = new(atomic.Int64)
	quit, ended := make(chan struct{}), make(chan struct{})
	begin := time.Now().Add(-47 * time.Hour).Truncate(time.Minute)
	go func() {
		defer close(ended)
		for round := 0; ; round++ {
			now := begin.Add(time.Duration(round) * 5 * time.Minute)
			if now.After(time.Now()) {
				w.t.Error("the test took so long that there is nothing left to append")
				return
			}
			booted := now.Add(-time.Hour)
			for i := range probes {
				select {
				case <-quit:
					return
				case <-time.After(pace):
				}
				end := now.Add(-time.Duration(i) * time.Millisecond)
				w.batch(seriestest.Batch(seriestest.ProbeName(i), uint64(round+1), now, booted, seriestest.Minutes(end, booted, 5)...), booted, now)
				appended.Add(1)
			}
			w.snapshot(state.Snapshot{At: now})
		}
	}()
	return appended, func() { close(quit); <-ended }
}

// The server is away for ten minutes (or, in short, until the sink has tried in
// vain several times), is killed in the middle of what follows, and comes back: no
// point is lost, none is doubled, and meanwhile nobody else waits and nothing piles
// up in memory.
func TestOutageLosesNothing(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{})
	server.Create("pantau")
	var away time.Duration
	pace, kills := 10*time.Millisecond, 1
	if text := os.Getenv(soak); text != "" {
		var err error
		if away, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		pace, kills = 50*time.Millisecond, 5
	}

	w := newWorld(t, seriestest.Fleet(t, probes))
	options := influx.Options{URL: server.URL(), Org: org, Bucket: "pantau"}
	run, stop := w.influx("influx", options)
	appended, enough := w.results(pace)
	until(t, "the sink has written", func() bool { return w.metric("pantau_sink_samples_total", "influx") > 0 })

	// Away.
	before := heap()
	server.Kill()
	gone, at := time.Now(), appended.Load()
	failed := w.metric("pantau_sink_errors_total", "influx")
	var most uint64
	until := func(what string, so func() bool) {
		t.Helper()
		for end := time.Now().Add(away + patience); !so(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain until %s", what)
			}
		}
	}
	var looked time.Time
	until("it was away", func() bool {
		if time.Since(looked) > 5*time.Second {
			looked, most = time.Now(), max(most, heap())
		}
		return time.Since(gone) >= away && w.metric("pantau_sink_errors_total", "influx") >= failed+3 && appended.Load() >= at+2*probes
	})
	most = max(most, heap())
	stood := run.Position()
	last := w.journal.End()
	until("the embedded store has all of the outage", func() bool { return !w.tsdb.Position().Before(last) })
	if run.Position() != stood {
		t.Error("the cursor moved while the server was away")
	}
	lost := (appended.Load() - at) * samplesOfBatch
	t.Logf("away for %.0f s: %d samples came meanwhile, %.0f tries failed, heap %.1f MB before and %.1f MB at most",
		time.Since(gone).Seconds(), lost, w.metric("pantau_sink_errors_total", "influx")-failed, float64(before)/1e6, float64(most)/1e6)
	if away > 0 && most > before+32<<20 { // in short, other tests use the heap too
		t.Errorf("the heap grew from %d to %d bytes while the server was away", before, most)
	}

	// Killed again while it catches up, then let be.
	for range kills {
		from := w.metric("pantau_sink_samples_total", "influx")
		server.Restart()
		until("it writes again", func() bool { return w.metric("pantau_sink_samples_total", "influx") > from })
		server.Kill()
	}
	server.Restart()
	back := time.Now()
	until("it has caught up once", run.CaughtUp)
	enough()
	until("it has caught up", func() bool { return run.CaughtUp() && w.tsdb.CaughtUp() })
	t.Logf("caught up %.1f s after the server was back", time.Since(back).Seconds())

	total := w.complete(server, "pantau")
	if n := w.metric("pantau_sink_refused_samples_total", "influx"); n != 0 {
		t.Errorf("%v samples were refused", n)
	}

	// A replay of everything, as after a crash of the collector before it ever saved
	// its cursor, doubles nothing.
	stop()
	again, _ := w.influx("again", options)
	until("all is written again", again.CaughtUp)
	if n := w.complete(server, "pantau"); n != total {
		t.Errorf("%d points after the replay, %d before", n, total)
	}
	t.Logf("%d points counted, 0 lost, 0 doubled, also after a replay of all", total)
}

// complete holds the server's content against the journal, by counting all and by
// comparing what a test may compare, and returns how many figures there are.
func (w *world) complete(server *influxtest.Server, db string) (total int64) {
	w.t.Helper()
	want := make(map[string]int64)
	seen := make(map[string]map[int64]bool)
	w.journalled(func(samples []series.Sample) {
		for _, s := range samples {
			key := s.Series.Labels.String()
			if seen[key] == nil {
				seen[key] = make(map[int64]bool)
			}
			if seen[key][s.T] {
				continue
			}
			seen[key][s.T] = true
			name := strings.TrimPrefix(s.Series.Name(), "pantau_")
			if stat := s.Series.Labels.Get("stat"); stat != "" {
				name += "_" + stat
			}
			want["count_"+name]++
			total++
		}
	})
	got := make(map[string]int64)
	for _, s := range server.InfluxQL(db, "SELECT COUNT(*) FROM /.*/") {
		for i, column := range s.Columns {
			// Facts are fields too, and each measurement's row has the columns of all.
			if n, ok := s.Values[0][i].(float64); ok && want[column] > 0 {
				got[column] += int64(n)
			}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		w.t.Errorf("counts of figures (journal, InfluxDB): %s", d)
	}
	if os.Getenv(soak) == "" {
		if d := diff(w.expected(), read(w.t, server, db)); d != "" {
			w.t.Error(d)
		}
	}
	return total
}

// heap is what is in use after a collection, in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

package influx_test

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// patience is for what only another goroutine or process can bring about, on a
// busy machine.
const patience = 2 * time.Minute

// world is a journal with the embedded store behind it, as in a collector, and a
// place for further sinks.
type world struct {
	t       *testing.T
	dir     string
	inv     *inventory.Inventory
	codec   *wire.Codec
	journal *journal.Journal
	reg     *prometheus.Registry
	metrics *sink.Metrics
	db      *tsdb.DB
	tsdb    *sink.Runner
}

func newWorld(t *testing.T, inv *inventory.Inventory) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), inv: inv, reg: prometheus.NewRegistry()}
	var err error
	if w.codec, err = wire.NewCodec(); err != nil {
		t.Fatal(err)
	}
	if w.journal, err = journal.Open(journal.Options{Dir: filepath.Join(w.dir, "journal"), Linger: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.journal.Close() })
	if w.metrics, err = sink.NewMetrics(w.reg); err != nil {
		t.Fatal(err)
	}
	if w.db, err = tsdb.Open(tsdb.Options{Dir: filepath.Join(w.dir, "tsdb"), Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	w.tsdb = w.runner("tsdb", w.db)
	w.run(w.tsdb)
	return w
}

// runner makes a runner with a cursor of its own, named after it.
func (w *world) runner(name string, s sink.Sink) *sink.Runner {
	w.t.Helper()
	r, err := sink.NewRunner(sink.Options{Name: name, Sink: s, Journal: w.journal, Cursor: journal.NewCursor(filepath.Join(w.dir, name+".cursor")),
		Inventory: func() *inventory.Inventory { return w.inv }, Metrics: w.metrics, Linger: 20 * time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// run runs a runner until the test ends or stop is called.
func (w *world) run(r *sink.Runner) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// influx is a sink for a bucket and a runner that has it follow the journal.
func (w *world) influx(name string, o influx.Options) (r *sink.Runner, stop func()) {
	w.t.Helper()
	r = w.runner(name, open(w.t, o))
	return r, w.run(r)
}

func (w *world) append(rec journal.Record) journal.Position {
	w.t.Helper()
	at, err := w.journal.Append(w.t.Context(), rec)
	if err != nil {
		w.t.Fatal(err)
	}
	return at
}

func (w *world) batch(b wire.Batch, booted, received time.Time) journal.Position {
	w.t.Helper()
	body, err := w.codec.EncodeBatch(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.append(journal.Record{Type: journal.Batch, ReceivedAt: received, Body: body,
		Headers: []journal.Header{{Key: wire.HeaderSent, Value: seriestest.Sent(received, booted).String()}}})
}

func (w *world) snapshot(s state.Snapshot) journal.Position {
	w.t.Helper()
	body, err := s.MarshalBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	return w.append(journal.Record{Type: journal.State, ReceivedAt: s.At, Body: body})
}

func (w *world) caughtUp(what string, runners ...*sink.Runner) {
	w.t.Helper()
	for _, r := range runners {
		until(w.t, what, r.CaughtUp)
	}
}

// until polls for what only another goroutine or process can bring about.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// metric is the sum of a metric over one sink's series.
func (w *world) metric(name, sink string) (sum float64) {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetName() == "sink" && l.GetValue() == sink {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				}
			}
		}
	}
	return sum
}

// journalled calls each with the samples of each record of the journal, mapped
// anew.
func (w *world) journalled(each func([]series.Sample)) {
	w.t.Helper()
	m := series.NewMapper()
	reader := w.journal.NewReader(journal.Position{})
	defer reader.Close()
	var samples []series.Sample
	for {
		rec, _, err := reader.TryNext()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			w.t.Fatal(err)
		}
		samples = samples[:0]
		switch rec.Type {
		case journal.Batch:
			b, err := w.codec.DecodeBatch(rec.Body)
			if err != nil {
				w.t.Fatal(err)
			}
			h, _ := rec.Header(wire.HeaderSent)
			sent, err := wire.ParseSent(h)
			if err != nil {
				w.t.Fatal(err)
			}
			samples, _ = m.Batch(samples, &b, sent, rec.ReceivedAt, w.inv)
		case journal.State:
			var s state.Snapshot
			if err := s.UnmarshalBinary(rec.Body); err != nil {
				w.t.Fatal(err)
			}
			samples, _ = m.State(samples, s, rec.ReceivedAt, w.inv)
		}
		each(samples)
	}
}

// expected is what every store must hold of the journal: the values of each
// series. None of the tests' batches says two things of one instant.
func (w *world) expected() sinktest.Content {
	w.t.Helper()
	out := sinktest.Content{}
	w.journalled(func(samples []series.Sample) {
		for _, s := range samples {
			key := s.Series.Labels.String()
			out[key] = append(out[key], sinktest.Point{T: s.T, V: s.V})
		}
	})
	for _, points := range out {
		sortPoints(points)
	}
	return out
}

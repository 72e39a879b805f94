package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// shelf is a store whose failures a test decides.
type shelf struct {
	settle time.Duration

	mu     sync.Mutex
	points map[string]map[int64]float64
	writes int
	fail   error
	closed bool
}

func (s *shelf) Write(ctx context.Context, samples []series.Sample) (sink.Refused, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.points == nil {
		s.points = make(map[string]map[int64]float64)
	}
	for i, x := range samples {
		if s.fail != nil && i == len(samples)/2 {
			return sink.Refused{}, s.fail
		}
		key := x.Series.Labels.String()
		if s.points[key] == nil {
			s.points[key] = make(map[int64]float64)
		}
		s.points[key][x.T] = x.V
	}
	return sink.Refused{}, s.fail
}

func (s *shelf) Settle() time.Duration { return s.settle }

func (s *shelf) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.fail
}

func (s *shelf) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *shelf) count() (samples, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.points {
		samples += len(p)
	}
	return samples, s.writes
}

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type rig struct {
	t       *testing.T
	dir     string
	journal *journal.Journal
	codec   *wire.Codec
	reg     *prometheus.Registry
	metrics *sink.Metrics
	clock   *clock
	seq     uint64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), reg: prometheus.NewRegistry(), clock: &clock{now: time.Now()}}
	var err error
	if r.journal, err = journal.Open(journal.Options{Dir: filepath.Join(r.dir, "journal"), Linger: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.journal.Close() })
	if r.codec, err = wire.NewCodec(); err != nil {
		t.Fatal(err)
	}
	if r.metrics, err = sink.NewMetrics(r.reg); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) cursor() *journal.Cursor { return journal.NewCursor(filepath.Join(r.dir, "cursor")) }

func (r *rig) runner(s sink.Sink) *sink.Runner {
	r.t.Helper()
	inv := seriestest.Inventory(r.t)
	run, err := sink.NewRunner(sink.Options{Name: "test", Sink: s, Journal: r.journal, Cursor: r.cursor(), Linger: -1,
		Inventory: func() *inventory.Inventory { return inv }, Metrics: r.metrics, Now: r.clock.Now})
	if err != nil {
		r.t.Fatal(err)
	}
	run.SaveEvery(time.Millisecond)
	return run
}

// start runs a runner until stop is called, which returns Run's error.
func (r *rig) start(run *sink.Runner) (stop func() error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	r.t.Cleanup(func() { _ = stop() })
	return stop
}

func (r *rig) append(rec journal.Record) journal.Position {
	r.t.Helper()
	at, err := r.journal.Append(r.t.Context(), rec)
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

// batch appends the next batch: one latency result a minute old, six samples
// with its counter.
func (r *rig) batch() journal.Position { return r.append(r.record()) }

const samplesOfBatch = 6

func (r *rig) record() journal.Record {
	r.t.Helper()
	r.seq++
	now := r.clock.Now().Add(time.Duration(r.seq) * time.Millisecond)
	booted := now.Add(-time.Hour)
	body, err := r.codec.EncodeBatch(seriestest.Batch("probe-b", r.seq, now, booted, seriestest.Latency(now.Add(-time.Minute), booted, 0.01)))
	if err != nil {
		r.t.Fatal(err)
	}
	return journal.Record{Type: journal.Batch, ReceivedAt: now, Body: body,
		Headers: []journal.Header{{Key: wire.HeaderSent, Value: seriestest.Sent(now, booted).String()}}}
}

func (r *rig) wait(run *sink.Runner, at journal.Position) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	if err := run.WaitFor(ctx, at); err != nil {
		r.t.Fatal(err)
	}
}

// until polls for what only another goroutine can bring about.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func (r *rig) metric(want string, names ...string) {
	r.t.Helper()
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), names...); err != nil {
		r.t.Error(err)
	}
}

func TestCarriesEveryRecord(t *testing.T) {
	r := newRig(t)
	s := &shelf{}
	run := r.runner(s)
	if !run.CaughtUp() {
		t.Error("not caught up with an empty journal")
	}
	r.start(run)
	for range 50 {
		r.batch()
	}
	// Unreadable ones, and ones without samples, hold up nothing.
	r.append(journal.Record{Type: journal.Batch, ReceivedAt: r.clock.Now(), Body: []byte("not a batch")})
	r.append(journal.Record{Type: journal.State, ReceivedAt: r.clock.Now(), Body: []byte("not a snapshot")})
	r.append(journal.Record{Type: journal.Start, ReceivedAt: r.clock.Now()})
	r.append(journal.Record{Type: 99, ReceivedAt: r.clock.Now()})
	snap, err := state.Snapshot{At: r.clock.Now(), Sites: []state.SiteState{{Site: "site-b", State: state.Up}}}.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	r.append(journal.Record{Type: journal.State, ReceivedAt: r.clock.Now(), Body: snap})
	late := r.record()
	late.ReceivedAt = late.ReceivedAt.Add(72 * time.Hour) // its result is older than two days then
	late.Headers = nil
	last := r.append(late)
	r.wait(run, last)
	until(t, "all is read", run.CaughtUp)

	const ofState = 3 + 3 + 4 // villages, sites, plans
	if samples, _ := s.count(); samples != 50*samplesOfBatch+ofState {
		t.Errorf("%d samples", samples)
	}
	r.metric(`
# HELP pantau_sink_records_total Journal records that the sink has passed, by type.
# TYPE pantau_sink_records_total counter
pantau_sink_records_total{sink="test",type="batch"} 52
pantau_sink_records_total{sink="test",type="other"} 1
pantau_sink_records_total{sink="test",type="start"} 1
pantau_sink_records_total{sink="test",type="state"} 2
# HELP pantau_sink_unreadable_records_total Journal records that were passed over because they cannot be decoded, by type.
# TYPE pantau_sink_unreadable_records_total counter
pantau_sink_unreadable_records_total{sink="test",type="batch"} 1
pantau_sink_unreadable_records_total{sink="test",type="state"} 1
# HELP pantau_sink_samples_total Samples that the sink stored, those that it had already included.
# TYPE pantau_sink_samples_total counter
pantau_sink_samples_total{sink="test"} 310
# HELP pantau_sink_held_results_total Results that were kept from the sink and are in the journal only, by reason.
# TYPE pantau_sink_held_results_total counter
pantau_sink_held_results_total{reason="clock",sink="test"} 0
pantau_sink_held_results_total{reason="future",sink="test"} 0
pantau_sink_held_results_total{reason="invalid",sink="test"} 0
pantau_sink_held_results_total{reason="inventory",sink="test"} 0
pantau_sink_held_results_total{reason="old",sink="test"} 1
pantau_sink_held_results_total{reason="target",sink="test"} 0
`, "pantau_sink_records_total", "pantau_sink_unreadable_records_total", "pantau_sink_samples_total", "pantau_sink_held_results_total")
}

func TestWritesInGroups(t *testing.T) {
	r := newRig(t)
	for range 500 {
		r.batch()
	}
	s := &shelf{}
	run := r.runner(s)
	r.start(run)
	until(t, "all is read", run.CaughtUp)
	if samples, writes := s.count(); samples != 500*samplesOfBatch || writes != 1 {
		t.Errorf("%d samples in %d writes", samples, writes)
	}
}

func TestAFailingSinkWaits(t *testing.T) {
	r := newRig(t)
	s := &shelf{}
	s.set(errors.New("disk full"))
	run := r.runner(s)
	stop := r.start(run)
	at := r.batch()
	until(t, "it has tried twice", func() bool { _, writes := s.count(); return writes >= 2 })
	if at.Before(run.Position()) || run.CaughtUp() {
		t.Error("the position moved over what is not stored")
	}
	r.clock.advance(time.Minute)
	until(t, "the lag shows", func() bool {
		n, err := testutil.GatherAndCount(r.reg, "pantau_sink_lag_seconds")
		return err == nil && n == 1 && lag(t, r.reg) > 50
	})
	s.set(nil)
	r.wait(run, at)
	until(t, "the lag is gone", func() bool { return lag(t, r.reg) == 0 })
	if samples, _ := s.count(); samples != samplesOfBatch {
		t.Errorf("%d samples", samples)
	}

	// Stopped while it fails, it leaves the record to its successor.
	s.set(errors.New("disk full"))
	at = r.batch()
	_, before := s.count()
	until(t, "it has tried", func() bool { _, writes := s.count(); return writes > before })
	if err := stop(); err != nil {
		t.Error(err)
	}
	s.set(nil)
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	fresh := &shelf{}
	run = r.runner(fresh)
	r.start(run)
	r.wait(run, at)
	if samples, _ := fresh.count(); samples != samplesOfBatch {
		t.Errorf("the successor has %d samples", samples)
	}
}

// line is one line of a log.
type line struct {
	at    time.Time
	level slog.Level
	text  string
}

// notes is a log handler that keeps what is said and when.
type notes struct {
	mu    sync.Mutex
	lines []line
}

func (n *notes) Enabled(context.Context, slog.Level) bool { return true }
func (n *notes) WithAttrs([]slog.Attr) slog.Handler       { return n }
func (n *notes) WithGroup(string) slog.Handler            { return n }
func (n *notes) Handle(_ context.Context, r slog.Record) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line{time.Now(), r.Level, r.Message})
	return nil
}

func (n *notes) errors() (at []time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.lines {
		if l.level == slog.LevelError {
			at = append(at, l.at)
		}
	}
	return at
}

// newRigLater is newRig in a bubble, whose clock begins in the year 2000, when
// there was no inventory.
func newRigLater(t *testing.T) *rig {
	t.Helper()
	time.Sleep(time.Until(seriestest.Moved()))
	return newRig(t)
}

// What a failed write means for the wait, for what is said and for the metric.
func TestDecisionsOfAFailingSink(t *testing.T) {
	const watched = 40 * time.Minute
	person := fmt.Errorf("401 Unauthorized: %w", sink.ErrOperator)
	for _, c := range []struct {
		name   string
		err    error
		writes [2]int // at least, at most, in the time watched
		said   int
		needs  float64
	}{
		{"down", errors.New("connection refused"), [2]int{80, 100}, 3, 0},                                    // every 30 s; at 0, 15 and 30 min
		{"for a person", person, [2]int{80, 100}, 40, 1},                                                     // every minute
		{"asked to wait", &sink.Later{Err: errors.New("429"), After: 2 * time.Minute}, [2]int{20, 21}, 3, 0}, // every 2 min
		{"asked to wait a day", &sink.Later{Err: errors.New("503"), After: 24 * time.Hour}, [2]int{8, 9}, 3, 0},
		{"asked to wait a moment", &sink.Later{Err: person, After: time.Millisecond}, [2]int{80, 100}, 40, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRigLater(t)
				s, log, inv := &shelf{}, &notes{}, seriestest.Inventory(t)
				s.set(c.err)
				run, err := sink.NewRunner(sink.Options{Name: "test", Sink: s, Journal: r.journal, Cursor: r.cursor(), Linger: -1,
					Inventory: func() *inventory.Inventory { return inv }, Metrics: r.metrics, Logger: slog.New(log)})
				if err != nil {
					t.Fatal(err)
				}
				stop := r.start(run)
				at := r.batch()
				time.Sleep(watched)
				if _, writes := s.count(); writes < c.writes[0] || writes > c.writes[1] {
					t.Errorf("%d writes in %v", writes, watched)
				}
				if n := len(log.errors()); n < c.said-1 || n > c.said+1 {
					t.Errorf("said %d times in %v: %v", n, watched, log.errors())
				}
				if got := gauge(t, r.reg, "pantau_sink_needs_operator"); got != c.needs {
					t.Errorf("needs an operator: %v", got)
				}
				s.set(nil)
				time.Sleep(5 * time.Minute) // the longest wait
				r.wait(run, at)
				if got := gauge(t, r.reg, "pantau_sink_needs_operator"); got != 0 {
					t.Errorf("mended, it still needs an operator: %v", got)
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestThatAPersonIsNeededIsSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRigLater(t)
		s, log, inv := &shelf{}, &notes{}, seriestest.Inventory(t)
		s.set(errors.New("connection refused"))
		run, err := sink.NewRunner(sink.Options{Name: "test", Sink: s, Journal: r.journal, Cursor: r.cursor(), Linger: -1,
			Inventory: func() *inventory.Inventory { return inv }, Metrics: r.metrics, Logger: slog.New(log)})
		if err != nil {
			t.Fatal(err)
		}
		stop := r.start(run)
		r.batch()
		time.Sleep(time.Minute)
		if n := len(log.errors()); n != 1 {
			t.Errorf("said %d times in the first minute", n)
		}
		s.set(sink.ErrOperator) // the server is back, and the token is not good
		time.Sleep(31 * time.Second)
		if n := len(log.errors()); n != 2 {
			t.Errorf("said %d times", n)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func lag(t *testing.T, reg *prometheus.Registry) float64 {
	t.Helper()
	return gauge(t, reg, "pantau_sink_lag_seconds")
}

func gauge(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

func TestTheSavedCursorLagsUntilSettled(t *testing.T) {
	r := newRig(t)
	s := &shelf{settle: time.Minute}
	run := r.runner(s)
	stop := r.start(run)
	saved := func() journal.Position {
		p, err := r.cursor().Load()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}

	first := r.batch()
	r.wait(run, first)
	afterFirst := run.Position()
	r.clock.advance(30 * time.Second)
	second := r.batch()
	r.wait(run, second)
	if p := saved(); p != (journal.Position{}) {
		t.Errorf("saved %v at once", p)
	}
	r.clock.advance(31 * time.Second) // 61 s after the first, 31 s after the second
	until(t, "the first is saved", func() bool { return saved() != journal.Position{} })
	if p := saved(); p != afterFirst {
		t.Errorf("saved %v, want %v", p, afterFirst)
	}
	third := r.batch()
	r.wait(run, third)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if !s.closed {
		t.Error("the sink is open")
	}
	if p := saved(); p != r.journal.End() {
		t.Errorf("saved %v on closing, want %v", p, r.journal.End())
	}

	// What the cursor covers is not read again.
	fresh := &shelf{}
	run = r.runner(fresh)
	r.start(run)
	r.wait(run, r.batch())
	if samples, _ := fresh.count(); samples != samplesOfBatch {
		t.Errorf("%d samples after a restart", samples)
	}
}

func TestASinkThatCannotCloseKeepsItsCursor(t *testing.T) {
	r := newRig(t)
	s := &shelf{settle: time.Hour}
	run := r.runner(s)
	stop := r.start(run)
	r.wait(run, r.batch())
	if err := stop(); err != nil {
		t.Error(err)
	}
	s.set(errors.New("disk gone"))
	if err := run.Close(); err == nil {
		t.Error("closing succeeded")
	}
	if p, err := r.cursor().Load(); err != nil || p != (journal.Position{}) {
		t.Errorf("cursor %v, %v", p, err)
	}
}

func TestRunEndsWithTheJournal(t *testing.T) {
	r := newRig(t)
	s := &shelf{}
	run := r.runner(s)
	ended := make(chan error, 1)
	go func() { ended <- run.Run(t.Context()) }()
	r.batch()
	if err := r.journal.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if samples, _ := s.count(); samples != samplesOfBatch {
		t.Errorf("%d samples", samples)
	}
	if err := run.Close(); err != nil {
		t.Error(err)
	}
}

func TestACursorThatDoesNotFitIsForAPerson(t *testing.T) {
	r := newRig(t)
	r.batch()
	if err := r.cursor().Save(journal.Position{Segment: 9, Offset: 4096}); err != nil {
		t.Fatal(err)
	}
	if err := r.runner(&shelf{}).Run(t.Context()); !errors.Is(err, journal.ErrPosition) {
		t.Errorf("cursor of another journal: %v", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "cursor"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	inv := seriestest.Inventory(t)
	if _, err := sink.NewRunner(sink.Options{Name: "test", Sink: &shelf{}, Journal: r.journal, Cursor: r.cursor(),
		Inventory: func() *inventory.Inventory { return inv }, Metrics: r.metrics}); err == nil || !strings.Contains(err.Error(), "cursor") {
		t.Errorf("unreadable cursor: %v", err)
	}
}

func TestWaitForGivesUpWithItsContext(t *testing.T) {
	r := newRig(t)
	at := r.batch()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.runner(&shelf{}).WaitFor(ctx, at); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func BenchmarkMap(b *testing.B) {
	const probes = 500
	inv := seriestest.Fleet(b, probes)
	now := time.Now()
	booted := now.Add(-time.Hour)
	m := series.NewMapper()
	var samples []series.Sample
	var total int
	results := seriestest.Minutes(now.Add(-time.Second), booted, 5)
	for i := 0; b.Loop(); i++ {
		batch := seriestest.Batch(seriestest.ProbeName(i%probes), 1, now, booted, results...)
		samples, _ = m.Batch(samples[:0], &batch, seriestest.Sent(now, booted), now, inv)
		total += len(samples)
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "samples/s")
}

package sink_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// childDir, when set, makes the test binary a collector's inside that appends to
// a journal below it until it is killed.
const childDir = "PANTAU_SINK_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, child(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// settled is the store with a cursor that follows at once: a kill, unlike a
// crash of the machine, takes back nothing that was committed.
type settled struct{ *tsdb.DB }

func (settled) Settle() time.Duration { return 0 }

// inside is a journal, a store and what runs between.
type inside struct {
	journal *journal.Journal
	db      *tsdb.DB
	runner  *sink.Runner
}

func openInside(dir string) (*inside, error) {
	inv, err := inventory.Parse(seriestest.Files())
	if err != nil {
		return nil, err
	}
	x := &inside{}
	if x.journal, err = journal.Open(journal.Options{Dir: filepath.Join(dir, "journal"), SegmentBytes: 64 << 10}); err != nil {
		return nil, err
	}
	if x.db, err = tsdb.Open(tsdb.Options{Dir: filepath.Join(dir, "tsdb"), Reserve: -1}); err != nil {
		return nil, err
	}
	metrics, err := sink.NewMetrics(nil)
	if err != nil {
		return nil, err
	}
	x.runner, err = sink.NewRunner(sink.Options{Name: "tsdb", Sink: settled{x.db}, Journal: x.journal,
		Cursor: journal.NewCursor(filepath.Join(dir, "cursor")), Inventory: func() *inventory.Inventory { return inv },
		Metrics: metrics, Linger: 5 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	x.runner.SaveEvery(time.Millisecond)
	return x, nil
}

// child appends batches from several probes' worth of goroutines and writes the
// sequence number of each to standard output once the journal has acknowledged
// it. Every third is an hour late.
func child(dir string) error {
	x, err := openInside(dir)
	if err != nil {
		return err
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return err
	}
	go func() { _ = x.runner.Run(context.Background()) }()
	var seq atomic.Uint64
	var out sync.Mutex
	failed := make(chan error)
	for range 8 {
		go func() {
			for {
				n := seq.Add(1)
				now := time.Now()
				booted := now.Add(-3 * time.Hour)
				measured := now.Add(-time.Duration(n%50) * time.Second)
				if n%3 == 0 {
					measured = measured.Add(-time.Hour)
				}
				b := seriestest.Batch("probe-b", n, now, booted, seriestest.Latency(measured, booted, float64(n)))
				body, err := codec.EncodeBatch(b)
				if err == nil {
					_, err = x.journal.Append(context.Background(), journal.Record{Type: journal.Batch, ReceivedAt: now, Body: body,
						Headers: []journal.Header{{Key: wire.HeaderSent, Value: seriestest.Sent(now, booted).String()}}})
				}
				if err != nil {
					failed <- err
					return
				}
				out.Lock()
				fmt.Println(now.UnixNano(), n)
				out.Unlock()
			}
		}()
	}
	return <-failed
}

// killedChild runs a child until it has acknowledged so many batches, kills it,
// and returns all that it acknowledged: instant of receipt and sequence number.
func killedChild(t *testing.T, dir string, acknowledged int) map[string]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acks := make(map[string]bool)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		acks[lines.Text()] = true // whole: a pipe takes so short a line at once
		if len(acks) == acknowledged {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the child ended by itself: %v %s", cmd.ProcessState, complaint.String())
	}
	return acks
}

func TestKilledAtAnyInstantLosesAndDoublesNothing(t *testing.T) {
	dir := t.TempDir()
	acks := make(map[string]bool)
	for _, n := range []int{1, 40, 300, 300, 300, 300, 300, 700} {
		for ack := range killedChild(t, dir, n) {
			acks[ack] = true
		}
	}

	x, err := openInside(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer x.journal.Close()
	defer x.runner.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- x.runner.Run(ctx) }()
	until(t, "the journal is stored", x.runner.CaughtUp)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// What the journal holds, mapped anew, is what the store must hold.
	seen := make(map[string]map[int64]bool)
	codec, err := wire.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	m, inv := series.NewMapper(), seriestest.Inventory(t)
	journalled := make(map[string]int)
	reader := x.journal.NewReader(journal.Position{})
	defer reader.Close()
	for {
		rec, _, err := reader.TryNext()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := codec.DecodeBatch(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		journalled[fmt.Sprintf("%d %d", rec.ReceivedAt.UnixNano(), b.Seq)]++
		h, _ := rec.Header(wire.HeaderSent)
		sent, err := wire.ParseSent(h)
		if err != nil {
			t.Fatal(err)
		}
		samples, _ := m.Batch(nil, &b, sent, rec.ReceivedAt, inv)
		for _, s := range samples {
			key := s.Series.Labels.String()
			if seen[key] == nil {
				seen[key] = make(map[int64]bool)
			}
			seen[key][s.T] = true
		}
	}
	for ack := range acks {
		if journalled[ack] != 1 {
			t.Errorf("acknowledged batch %q is %d times in the journal", ack, journalled[ack])
		}
	}
	if len(acks) < 2000 {
		t.Errorf("only %d batches were acknowledged", len(acks))
	}

	got := contents(t, x.db)
	if len(got) != len(seen) {
		t.Errorf("%d series in the store, %d in the journal", len(got), len(seen))
	}
	for key, instants := range seen {
		have := make(map[int64]bool)
		for _, at := range got[key] {
			if have[at] {
				t.Errorf("%s: twice at %d", key, at)
			}
			have[at] = true
		}
		if d := cmp.Diff(instants, have); d != "" {
			t.Errorf("%s: %s", key, d)
		}
	}
}

// contents are the instants of all samples of a storage.
func contents(t *testing.T, q storage.Queryable) map[string][]int64 {
	t.Helper()
	querier, err := q.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	defer querier.Close()
	out := make(map[string][]int64)
	set := querier.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+"))
	var it chunkenc.Iterator
	for set.Next() {
		for it = set.At().Iterator(it); it.Next() != chunkenc.ValNone; {
			key := set.At().Labels().String()
			out[key] = append(out[key], it.AtT())
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

// BenchmarkJournalToStore is all that a sink costs: reading, decoding, mapping,
// committing. A batch is five minutes of light results: 46 samples.
func BenchmarkJournalToStore(b *testing.B) {
	const probes = 500
	dir := b.TempDir()
	j, err := journal.Open(journal.Options{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	db, err := tsdb.Open(tsdb.Options{Dir: filepath.Join(dir, "tsdb"), Reserve: -1})
	if err != nil {
		b.Fatal(err)
	}
	codec, err := wire.NewCodec()
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now().Add(-40 * time.Hour)
	var last journal.Position
	var group sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan struct{}, 64)
	rounds := b.N
	for round := range rounds {
		now := begin.Add(time.Duration(round) * 5 * time.Minute)
		booted := now.Add(-time.Hour)
		for i := range probes {
			body, err := codec.EncodeBatch(seriestest.Batch(seriestest.ProbeName(i), uint64(round+1), now, booted,
				seriestest.Minutes(now.Add(-time.Duration(i)*time.Millisecond), booted, 5)...))
			if err != nil {
				b.Fatal(err)
			}
			slots <- struct{}{}
			group.Go(func() {
				defer func() { <-slots }()
				at, err := j.Append(context.Background(), journal.Record{Type: journal.Batch, ReceivedAt: now, Body: body,
					Headers: []journal.Header{{Key: wire.HeaderSent, Value: seriestest.Sent(now, booted).String()}}})
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if last.Before(at) {
					last = at
				}
			})
		}
		group.Wait()
	}
	inv := seriestest.Fleet(b, probes)
	metrics, err := sink.NewMetrics(nil)
	if err != nil {
		b.Fatal(err)
	}
	run, err := sink.NewRunner(sink.Options{Name: "tsdb", Sink: db, Journal: j, Cursor: journal.NewCursor(filepath.Join(dir, "cursor")),
		Inventory: func() *inventory.Inventory { return inv }, Metrics: metrics})
	if err != nil {
		b.Fatal(err)
	}
	defer run.Close()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	b.ResetTimer()
	go func() { _ = run.Run(ctx) }()
	if err := run.WaitFor(ctx, last); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	samples := float64(rounds * probes * 46)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(samples/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(cpu.Seconds()/samples*1e6, "CPU-s/M")
}

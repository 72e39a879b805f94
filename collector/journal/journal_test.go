package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// small makes the files small; no linger makes one group of each lone Append.
func small(dir string) Options {
	return Options{Dir: dir, SegmentBytes: minSegment, Linger: -1}
}

func open(t testing.TB, opt Options) *Journal {
	t.Helper()
	j, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// record is a record of its own for every id: 0 to maxBody bytes that no other
// id has, some headers.
func record(id uint64, maxBody int) Record {
	rnd := rand.New(rand.NewPCG(id, 7))
	body := make([]byte, 8+rnd.IntN(maxBody))
	binary.BigEndian.PutUint64(body, id)
	for i := 8; i < len(body); i++ {
		body[i] = byte(1 + rnd.IntN(255))
	}
	return Record{
		Type: Type(1 + id%5), ReceivedAt: time.Unix(1_800_000_000, int64(id)).UTC(),
		Headers: []Header{{"id", fmt.Sprint(id)}, {"empty", ""}}, Body: body,
	}
}

func idOf(t testing.TB, r Record) uint64 {
	t.Helper()
	if len(r.Body) < 8 {
		t.Fatalf("a record with a body of %d bytes", len(r.Body))
	}
	return binary.BigEndian.Uint64(r.Body)
}

func mustAppend(t testing.TB, j *Journal, r Record) Position {
	t.Helper()
	p, err := j.Append(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type placed struct {
	At     Position
	Record Record
}

func readAll(t testing.TB, j *Journal, from Position) []placed {
	t.Helper()
	r := j.NewReader(from)
	defer r.Close()
	var out []placed
	for {
		rec, at, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("after %d records: %v", len(out), err)
		}
		out = append(out, placed{at, rec})
	}
}

// diffRecords is cmp.Diff, which is slow on bytes, for what is seldom different.
func diffRecords(want, got []placed) string {
	equal := func(a, b placed) bool {
		return a.At == b.At && a.Record.Type == b.Record.Type && a.Record.ReceivedAt.Equal(b.Record.ReceivedAt) &&
			slices.Equal(a.Record.Headers, b.Record.Headers) && bytes.Equal(a.Record.Body, b.Record.Body)
	}
	if slices.EqualFunc(want, got, equal) {
		return ""
	}
	return "records differ: " + cmp.Diff(want, got)
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	opt := small(t.TempDir())
	j := open(t, opt)
	if end := j.End(); end != (Position{}) {
		t.Fatalf("an empty journal ends at %v", end)
	}
	var want []placed
	for id := range uint64(300) {
		r := record(id, 1500)
		if id == 250 {
			r = record(id, 200_000) // larger than a segment
		}
		if id == 120 {
			r.Type, r.Headers, r.Body = 77, nil, binary.BigEndian.AppendUint64(nil, id) // of a newer version
		}
		want = append(want, placed{mustAppend(t, j, r), r})
	}
	if diff := diffRecords(want, readAll(t, j, Position{})); diff != "" {
		t.Fatal(diff)
	}
	if last := want[len(want)-1].At; last.Segment < 3 {
		t.Fatalf("never rolled: %v", last)
	}
	end := j.End()
	for range 2 { // the first opening writes nothing
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = open(t, opt)
		if j.End() != end {
			t.Fatalf("end %v after reopening, was %v", j.End(), end)
		}
		if diff := diffRecords(want, readAll(t, j, Position{})); diff != "" {
			t.Fatal(diff)
		}
	}
	more := placed{mustAppend(t, j, record(300, 9)), record(300, 9)}
	want = append(want, more)
	for _, i := range []int{0, 1, 150, 299, 300} {
		if diff := diffRecords(want[i:], readAll(t, j, want[i].At)); diff != "" {
			t.Fatalf("from %v: %s", want[i].At, diff)
		}
	}
	if got := readAll(t, j, end); len(got) != 1 {
		t.Fatalf("from the end before: %d records", len(got))
	}
	if d := j.Damaged(); len(d) != 0 {
		t.Fatalf("damage in a whole journal: %v", d)
	}
}

func TestAppendRefuses(t *testing.T) {
	j := open(t, Options{Dir: t.TempDir(), MaxRecordBytes: 10_000, Linger: -1})
	now := time.Now()
	for name, c := range map[string]struct {
		r    Record
		want error
	}{
		"no type":     {Record{ReceivedAt: now}, ErrInvalid},
		"no time":     {Record{Type: Batch}, ErrInvalid},
		"no key":      {Record{Type: Batch, ReceivedAt: now, Headers: []Header{{"", "x"}}}, ErrInvalid},
		"long key":    {Record{Type: Batch, ReceivedAt: now, Headers: []Header{{strings.Repeat("k", 256), ""}}}, ErrInvalid},
		"33 headers":  {Record{Type: Batch, ReceivedAt: now, Headers: slices.Repeat([]Header{{"k", ""}}, 33)}, ErrInvalid},
		"big headers": {Record{Type: Batch, ReceivedAt: now, Headers: []Header{{"k", strings.Repeat("v", 4093)}}}, ErrInvalid},
		"big body":    {Record{Type: Batch, ReceivedAt: now, Body: make([]byte, 9_977)}, ErrTooLarge},
	} {
		if _, err := j.Append(t.Context(), c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	mustAppend(t, j, Record{Type: Batch, ReceivedAt: now, Body: make([]byte, 9_976),
		Headers: nil})
	mustAppend(t, j, Record{Type: Batch, ReceivedAt: now, Headers: []Header{{strings.Repeat("k", 255), strings.Repeat("v", 4096-3-255)}}})
	if got := readAll(t, j, Position{}); len(got) != 2 {
		t.Fatalf("%d records, the two at the bounds were good", len(got))
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	j := open(t, small(dir))
	_, err := Open(small(dir))
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatalf("second opening: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), record(1, 10)); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
	open(t, small(dir))
}

func TestReadOnlyBesideTheWriter(t *testing.T) {
	dir := t.TempDir()
	w := open(t, small(dir))
	for id := range uint64(100) {
		mustAppend(t, w, record(id, 1500))
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	opt := small(dir)
	opt.ReadOnly = true
	j := open(t, opt)
	if diff := diffRecords(readAll(t, w, Position{}), readAll(t, j, Position{})); diff != "" {
		t.Fatal(diff)
	}
	if _, _, err := j.NewReader(j.End()).Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Fatalf("at the end: %v", err)
	}
	if _, err := j.Append(t.Context(), record(1, 10)); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("append: %v", err)
	}
	mustAppend(t, w, record(100, 10))
	after, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(after) {
		t.Fatalf("%d files became %d", len(before), len(after))
	}
}

func TestWrongPositions(t *testing.T) {
	j := open(t, small(t.TempDir()))
	for _, p := range []Position{{1, dataStart}, {9, dataStart}} {
		if _, _, err := j.NewReader(p).TryNext(); !errors.Is(err, ErrPosition) {
			t.Errorf("%v of an empty journal: %v", p, err)
		}
	}
	at := mustAppend(t, j, record(1, 100))
	for _, p := range []Position{{1, 0}, {1, dataStart + 4}, {1, j.End().Offset + 8}, {2, dataStart}} {
		if _, _, err := j.NewReader(p).TryNext(); !errors.Is(err, ErrPosition) {
			t.Errorf("%v of a journal from %v to %v: %v", p, at, j.End(), err)
		}
	}
	if d := j.Damaged(); len(d) != 0 {
		t.Fatalf("a wrong position was taken for damage: %v", d)
	}
}

// Writers and readers at once: every record exactly once, where Append said, in
// the same order for everybody, and never before it is durable.
func TestConcurrentAppendsAndReaders(t *testing.T) {
	const writers, each, readers = 24, 60, 3
	opt := small(t.TempDir())
	opt.Linger = 200 * time.Microsecond
	j := open(t, opt)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()

	seen := make([][]placed, readers)
	var following sync.WaitGroup
	for i := range readers {
		following.Go(func() {
			r := j.NewReader(Position{})
			defer r.Close()
			for len(seen[i]) < writers*each {
				rec, at, err := r.Next(ctx)
				if err != nil {
					t.Errorf("reader %d after %d records: %v", i, len(seen[i]), err)
					return
				}
				if end := j.End(); !at.Before(end) || end.Before(r.Position()) {
					t.Errorf("record at %v before it was durable: end %v", at, end)
				}
				seen[i] = append(seen[i], placed{at, rec})
			}
		})
	}
	var mu sync.Mutex
	told := make(map[Position]uint64)
	var writing sync.WaitGroup
	for w := range uint64(writers) {
		writing.Go(func() {
			for n := range uint64(each) {
				id := w*each + n
				at, err := j.Append(ctx, record(id, 1500))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				told[at] = id
				mu.Unlock()
			}
		})
	}
	writing.Wait()
	following.Wait()
	if len(told) != writers*each {
		t.Fatalf("%d positions for %d records", len(told), writers*each)
	}
	for i, got := range seen {
		if diff := diffRecords(seen[0], got); diff != "" {
			t.Fatalf("reader %d saw another order: %s", i, diff)
		}
	}
	for i, p := range seen[0] {
		id, ok := told[p.At]
		if !ok {
			t.Fatalf("a record at %v that nobody was told of, or twice", p.At)
		}
		delete(told, p.At)
		if diff := diffRecords([]placed{{p.At, record(id, 1500)}}, []placed{p}); diff != "" {
			t.Fatal(diff)
		}
		if i > 0 && !seen[0][i-1].At.Before(p.At) {
			t.Fatalf("%v after %v", p.At, seen[0][i-1].At)
		}
	}
}

func TestCloseCommitsWhatWaits(t *testing.T) {
	opt := small(t.TempDir())
	opt.Linger = time.Hour // nothing but Close ends the wait
	j := open(t, opt)
	result := make(chan error)
	go func() {
		_, err := j.Append(context.Background(), record(1, 100))
		result <- err
	}()
	poll(t, func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.pending) == 1
	})
	reading := make(chan error)
	go func() {
		r := j.NewReader(Position{})
		_, _, err := r.Next(context.Background())
		if err == nil {
			_, _, err = r.Next(context.Background())
		}
		reading <- err
	}()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-result; err != nil {
		t.Fatalf("append: %v", err)
	}
	if err := <-reading; !errors.Is(err, ErrClosed) {
		t.Fatalf("the reader ended with %v", err)
	}
	if got := readAll(t, open(t, small(opt.Dir)), Position{}); len(got) != 1 {
		t.Fatalf("%d records", len(got))
	}
}

// poll waits for what another goroutine does, and fails after a while.
func poll(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened")
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	opt := small(t.TempDir())
	opt.Registerer = reg
	j := open(t, opt)
	for _, typ := range []Type{Batch, Batch, State, 99} {
		mustAppend(t, j, Record{Type: typ, ReceivedAt: time.Now(), Body: make([]byte, 8)})
	}
	err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP pantau_journal_appended_records_total Records made durable, by type.
# TYPE pantau_journal_appended_records_total counter
pantau_journal_appended_records_total{type="batch"} 2
pantau_journal_appended_records_total{type="inventory"} 0
pantau_journal_appended_records_total{type="other"} 1
pantau_journal_appended_records_total{type="stall"} 0
pantau_journal_appended_records_total{type="start"} 0
pantau_journal_appended_records_total{type="state"} 1
# HELP pantau_journal_bytes_total Bytes of records made durable, frames included.
# TYPE pantau_journal_bytes_total counter
pantau_journal_bytes_total 128
`), "pantau_journal_appended_records_total", "pantau_journal_bytes_total")
	if err != nil {
		t.Fatal(err)
	}
	if free := testutil.ToFloat64(j.metrics.free); free <= 0 {
		t.Fatalf("%v bytes free", free)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, opt) // the same registry takes the next one
}

func TestPositionText(t *testing.T) {
	for _, p := range []Position{{}, {1, dataStart}, {1<<64 - 1, 1<<63 - 1}} {
		b, err := p.MarshalText()
		var q Position
		if err = errors.Join(err, q.UnmarshalText(b)); err != nil || p != q {
			t.Errorf("%v became %v: %v", p, q, err)
		}
	}
	for _, s := range []string{"", ":", "1", "1:", ":1", "1:-1", "-1:1", "01:1", "1:+1", "1:1 ", "1:1:1", "18446744073709551616:0"} {
		p := Position{3, 3}
		if err := p.UnmarshalText([]byte(s)); err == nil || p != (Position{3, 3}) {
			t.Errorf("%q was read as %v", s, p)
		}
	}
	for _, c := range []struct {
		a, b Position
		want bool
	}{{Position{1, 9}, Position{2, 0}, true}, {Position{1, 1}, Position{1, 2}, true}, {Position{1, 1}, Position{1, 1}, false}, {Position{2, 0}, Position{1, 9}, false}} {
		if c.a.Before(c.b) != c.want {
			t.Errorf("%v before %v: %v", c.a, c.b, !c.want)
		}
	}
}

func TestCursor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sink.cursor")
	c := NewCursor(path)
	if p, err := c.Load(); err != nil || p != (Position{}) {
		t.Fatalf("unsaved: %v, %v", p, err)
	}
	for _, want := range []Position{{1, 8192}, {7, 8200}} {
		if err := c.Save(want); err != nil {
			t.Fatal(err)
		}
		if p, err := NewCursor(path).Load(); err != nil || p != want {
			t.Fatalf("%v, %v; want %v", p, err, want)
		}
	}
	for _, bad := range []string{"", "7", "7:8200\n\n", "7:82\x00\x00"} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if p, err := c.Load(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%q was read as %v, %v", bad, p, err)
		}
	}
	if err := NewCursor(filepath.Join(path, "none")).Save(Position{1, 8192}); err == nil {
		t.Error("saved below a file")
	}
}

// FuzzFrame gives the decoder frames whose CRC is right, so that it gets to the
// inside: it must not panic, and what it accepts must be what the encoder writes.
func FuzzFrame(f *testing.F) {
	id := segmentID{number: 3, sync: 0xa1b2c3d4}
	for i := range uint64(3) {
		b := appendFrame(nil, id, dataStart, record(i, 40))
		length, _ := frameLength(b, id)
		f.Add(b[frameCovered:frameCovered+length], int64(dataStart))
	}
	f.Add([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, int64(0))
	f.Add([]byte{1, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 255, 'a'}, int64(8))
	f.Fuzz(func(t *testing.T, covered []byte, off int64) {
		if _, intact, _ := decodeFrame(covered, id, off); intact {
			t.Fatal("accepted without a CRC")
		}
		if len(covered) > maxFrameLength {
			return
		}
		frame := binary.LittleEndian.AppendUint32(nil, id.sync)
		frame = binary.LittleEndian.AppendUint32(frame, uint32(len(covered)))
		frame = binary.LittleEndian.AppendUint32(frame, frameCRC(id, off, uint32(len(covered)), covered))
		frame = append(frame, covered...)
		r, intact, err := decodeFrame(frame, id, off)
		if !intact || err != nil {
			return
		}
		again := appendFrame(nil, id, off, r)
		if !bytes.Equal(again[:len(frame)], frame) {
			t.Fatalf("read %x, would write %x", frame, again)
		}
		if _, intact, _ := decodeFrame(frame, id, off+8); intact {
			t.Fatal("accepted at another place")
		}
	})
}

// FuzzSegment reads a segment whose bytes are arbitrary behind a good header.
func FuzzSegment(f *testing.F) {
	h := segmentHeader{segmentID: segmentID{number: 1, sync: 0x01020304}, created: time.Unix(1, 0)}
	var good []byte
	for i := range uint64(3) {
		good = appendFrame(good, h.segmentID, dataStart+int64(len(good)), record(i, 40))
	}
	f.Add(good, 0)
	f.Add(good[:len(good)-9], dataStart)
	f.Add(append(bytes.Repeat([]byte{4, 3, 2, 1}, 20), good...), 8)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, at int) {
		head := h.head()
		if at >= 0 && at < len(head) {
			head[at] ^= 1
		}
		if err := os.WriteFile(segmentPath(dir, 1), append(head, data...), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openScanner(dir, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		last := int64(dataStart)
		end, _, err := s.tail(func(from, to int64) {
			if from < last || to <= from || to > dataStart+int64(len(data)) {
				t.Fatalf("a gap from %d to %d", from, to)
			}
			last = to
		})
		if err != nil && !errors.Is(err, errNewer) {
			t.Fatal(err)
		}
		if err == nil && (end < dataStart || end > dataStart+int64(len(data))) {
			t.Fatalf("end %d of %d bytes", end, len(data))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 256} {
		for _, linger := range []time.Duration{-1, defaultLinger} {
			b.Run(fmt.Sprintf("writers=%d/linger=%v", writers, max(linger, 0)), func(b *testing.B) {
				j := open(b, Options{Dir: b.TempDir(), Linger: linger})
				r := Record{Type: Batch, ReceivedAt: time.Now(), Body: bytes.Repeat([]byte("x"), 1500)}
				b.SetBytes(int64(len(r.Body)))
				var left = make(chan struct{}, b.N)
				for range b.N {
					left <- struct{}{}
				}
				close(left)
				var mu sync.Mutex
				var took []time.Duration
				b.ResetTimer()
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						var mine []time.Duration
						for range left {
							t0 := time.Now()
							if _, err := j.Append(context.Background(), r); err != nil {
								b.Error(err)
								return
							}
							mine = append(mine, time.Since(t0))
						}
						mu.Lock()
						took = append(took, mine...)
						mu.Unlock()
					})
				}
				wg.Wait()
				b.StopTimer()
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
				b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	j := open(b, Options{Dir: b.TempDir(), Linger: -1})
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 500 {
				if _, err := j.Append(context.Background(), Record{Type: Batch, ReceivedAt: time.Now(), Body: make([]byte, 1500)}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.SetBytes(1500)
	r := j.NewReader(Position{})
	for b.Loop() {
		_, _, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			r.pos = Position{}
			_ = r.Close()
		} else if err != nil {
			b.Fatal(err)
		}
	}
}

func TestSince(t *testing.T) {
	dir := t.TempDir()
	j := open(t, small(dir))
	if p, err := j.Since(time.Now()); err != nil || p != (Position{}) {
		t.Errorf("an empty journal: %v, %v", p, err)
	}
	const n = 600 // several segments, a record each nanosecond
	at := make([]Position, n)
	for id := range n {
		if id == n/2 { // another life
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j = open(t, small(dir))
		}
		at[id] = mustAppend(t, j, record(uint64(id), 2000))
	}
	if at[n-1].Segment < 5 {
		t.Fatalf("only %d segments", at[n-1].Segment)
	}
	for id := range n {
		p, err := j.Since(record(uint64(id), 1).ReceivedAt)
		if err != nil {
			t.Fatal(err)
		}
		// The segment of the record, or the one before if it is its first.
		if !p.Before(at[id]) && p != at[id] || p.Segment+1 < at[id].Segment {
			t.Fatalf("since record %d at %v: %v", id, at[id], p)
		}
		r := j.NewReader(p)
		rec, _, err := r.TryNext()
		if err != nil || idOf(t, rec) > uint64(id) {
			t.Fatalf("since record %d: it begins with %d, %v", id, idOf(t, rec), err)
		}
		r.Close()
	}
	if p, err := j.Since(time.Unix(0, 0)); err != nil || p != (Position{}) {
		t.Errorf("since ever: %v, %v", p, err)
	}
	if p, err := j.Since(time.Unix(2_000_000_000, 0)); err != nil || p.Segment != at[n-1].Segment {
		t.Errorf("since later: %v, %v; the last is at %v", p, err, at[n-1])
	}
}

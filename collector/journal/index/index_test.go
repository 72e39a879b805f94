package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// The tests' batches carry their key in the body: probe 16, epoch 16, seq 8.

func key(probe, seq uint64) Key {
	k := Key{Probe: measure.ProbeID(fmt.Sprintf("p-%06d", probe)), Seq: seq}
	binary.BigEndian.PutUint64(k.Epoch[:], probe*7)
	return k
}

func batch(k Key, more string) journal.Record {
	body := make([]byte, 16, 64)
	copy(body, k.Probe)
	body = append(body, k.Epoch[:]...)
	body = binary.BigEndian.AppendUint64(body, k.Seq)
	return journal.Record{Type: journal.Batch, ReceivedAt: time.Unix(1_800_000_000, int64(k.Seq)).UTC(), Body: append(body, more...)}
}

func keyOf(r journal.Record) (Key, wire.Digest, bool) {
	if len(r.Body) < 40 {
		return Key{}, wire.Digest{}, false
	}
	return Key{Probe: measure.ProbeID(bytes.TrimRight(r.Body[:16], "\x00")), Epoch: wire.Epoch(r.Body[16:32]),
		Seq: binary.BigEndian.Uint64(r.Body[32:])}, wire.DigestOf(r.Body), true
}

func openJournal(t testing.TB) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: filepath.Join(t.TempDir(), "journal"), Linger: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	return j
}

func appendBatch(t testing.TB, j *journal.Journal, k Key) Entry {
	t.Helper()
	r := batch(k, "")
	at, err := j.Append(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return Entry{Digest: wire.DigestOf(r.Body), ReceivedAt: r.ReceivedAt, Position: at}
}

func openIndex(t testing.TB, opt Options) *Index {
	t.Helper()
	if opt.Key == nil {
		opt.Key = keyOf
	}
	x, err := Open(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// run follows until stop is called, which returns Run's error.
func run(t testing.TB, x *Index) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func expect(t testing.TB, x *Index, k Key, want Entry) {
	t.Helper()
	got, found, err := x.Lookup(k)
	if err != nil || !found || got != want {
		t.Fatalf("%v: %v, %v, %v; want %v", k, got, found, err, want)
	}
}

func poll(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never happened")
		}
	}
}

func TestPutIsFoundAndStays(t *testing.T) {
	j := openJournal(t)
	opt := Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: time.Millisecond, CommitEntries: 7}
	x := openIndex(t, opt)
	stop := run(t, x)
	want := make(map[Key]Entry)
	for i := range uint64(200) {
		k := key(i%9, i)
		if _, found, err := x.Lookup(k); found || err != nil {
			t.Fatalf("found before it was there: %v", err)
		}
		want[k] = appendBatch(t, j, k)
		x.Put(k, want[k])
		for k, e := range want {
			expect(t, x, k, e)
		}
	}
	poll(t, func() bool { return x.pending() == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Lookup(key(0, 0)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("closed: %v", err)
	}
	opt.Key = func(journal.Record) (Key, wire.Digest, bool) {
		t.Error("a record was read again although it was committed")
		return Key{}, wire.Digest{}, false
	}
	x = openIndex(t, opt)
	for k, e := range want {
		expect(t, x, k, e)
	}
}

// The process dies between Append and Put, or with entries in memory only.
func TestCrashBetweenAppendAndPut(t *testing.T) {
	j := openJournal(t)
	opt := Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: time.Hour}
	x := openIndex(t, opt)
	put, unput := key(1, 1), key(1, 2)
	e1 := appendBatch(t, j, put)
	x.Put(put, e1)
	e2 := appendBatch(t, j, unput)
	if _, err := j.Append(t.Context(), journal.Record{Type: journal.State, ReceivedAt: time.Now(), Body: batch(key(1, 3), "").Body}); err != nil {
		t.Fatal(err)
	}
	if err := x.Close(); err != nil { // nothing was committed: as after a crash
		t.Fatal(err)
	}
	x = openIndex(t, opt)
	expect(t, x, put, e1)
	expect(t, x, unput, e2)
	if _, found, err := x.Lookup(key(1, 3)); found || err != nil {
		t.Fatalf("a record of another type was taken for a batch: %v", err)
	}
	// Without Put at all, by the running follower.
	run(t, x)
	k := key(2, 1)
	e := appendBatch(t, j, k)
	poll(t, func() bool {
		_, found, err := x.Lookup(k)
		return found && err == nil
	})
	expect(t, x, k, e)
}

// A commit is due by number as well as by time, and the follower takes no more
// than it may commit at once.
func TestCommitByNumber(t *testing.T) {
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: time.Hour, CommitEntries: 50})
	stop := run(t, x)
	var entries []Entry
	for i := range uint64(110) {
		entries = append(entries, appendBatch(t, j, key(1, i)))
	}
	poll(t, func() bool { // two commits of 50
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.committed == entries[100].Position
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := x.pending(); n != 0 {
		t.Fatalf("%d entries not committed at the end", n)
	}
}

// A late Put, of an entry that is already committed, must not stay in memory.
func TestLatePut(t *testing.T) {
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: time.Millisecond})
	run(t, x)
	k := key(1, 1)
	e := appendBatch(t, j, k)
	poll(t, func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.committed == j.End()
	})
	x.Put(k, e)
	if n := x.pending(); n != 0 {
		t.Fatalf("%d entries stay in memory", n)
	}
	expect(t, x, k, e)
}

// Simultaneous submissions of the same batches, as ingest does them: each gets
// into the journal once.
func TestClaimSerialises(t *testing.T) {
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: 3 * time.Millisecond, CommitEntries: 5})
	stop := run(t, x)
	const keys, submissions = 40, 8
	var wg sync.WaitGroup
	for n := range keys * submissions {
		wg.Go(func() {
			k := key(1, uint64(n%keys))
			release, err := x.Claim(t.Context(), k)
			if err != nil {
				t.Error(err)
				return
			}
			defer release()
			defer release() // harmless
			if _, found, err := x.Lookup(k); err != nil {
				t.Error(err)
			} else if !found {
				x.Put(k, appendBatch(t, j, k))
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	r := j.NewReader(journal.Position{})
	defer r.Close()
	n := 0
	for ; ; n++ {
		if _, _, err := r.TryNext(); err != nil {
			break
		}
	}
	if n != keys {
		t.Fatalf("%d records for %d batches", n, keys)
	}
	if len(x.claims) != 0 {
		t.Fatalf("%d claims left", len(x.claims))
	}
	// A claim that is held does not outlive the patience of the next.
	release, err := x.Claim(t.Context(), key(5, 5))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
	defer cancel()
	if _, err := x.Claim(ctx, key(5, 5)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestFirstRecordOfAKeyWins(t *testing.T) {
	j := openJournal(t)
	k := key(1, 1)
	first := appendBatch(t, j, k)
	if _, err := j.Append(t.Context(), batch(k, "another")); err != nil {
		t.Fatal(err)
	}
	opt := Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j}
	x := openIndex(t, opt) // both in one transaction
	expect(t, x, k, first)
	if _, err := j.Append(t.Context(), batch(k, "a third")); err != nil {
		t.Fatal(err)
	}
	_ = x.Close()
	expect(t, openIndex(t, opt), k, first) // in a later one
}

func TestInvalidKeys(t *testing.T) {
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j})
	for _, probe := range []measure.ProbeID{"", "p\x00", measure.ProbeID(strings.Repeat("p", measure.MaxProbeID+1))} {
		if _, _, err := x.Lookup(Key{Probe: probe}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", probe, err)
		}
		if _, err := x.Claim(t.Context(), Key{Probe: probe}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", probe, err)
		}
	}
	a, b := Key{Probe: "p", Seq: 1}.encode(), Key{Probe: "p", Seq: 256}.encode()
	if len(a) != keyBytes || bytes.Compare(a, b) >= 0 {
		t.Fatal("keys are not in the order of their sequence numbers")
	}
}

// Whatever happens to the file, it is kept, and all is found again.
func TestUnreadableFile(t *testing.T) {
	j := openJournal(t)
	path := filepath.Join(t.TempDir(), "index")
	want := make(map[Key]Entry)
	x := openIndex(t, Options{Path: path, Journal: j})
	for i := range uint64(2000) {
		k := key(i%40, i)
		want[k] = appendBatch(t, j, k)
	}
	_ = x.Close()
	x = openIndex(t, Options{Path: path, Journal: j}) // reads and commits
	_ = x.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(5, 5))
	some := want[key(7, 7)]
	for name, spoil := range map[string]func(b []byte) []byte{
		"text":              func([]byte) []byte { return []byte("not an index\n") },
		"half a page":       func(b []byte) []byte { return b[:2000] },
		"two pages":         func(b []byte) []byte { return b[:8192] },
		"five pages":        func(b []byte) []byte { return b[:20480] },
		"half":              func(b []byte) []byte { return b[:len(b)/2] },
		"no meta pages":     func(b []byte) []byte { clear(b[:8192]); return b },
		"all but meta gone": func(b []byte) []byte { clear(b[8192:]); return b },
		"another format":    func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(formatName), []byte("pantau batch index 9")) },
		"noise behind meta": func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = byte(rnd.Uint32())
			}
			return b
		},
		"a flipped bit in an entry": func(b []byte) []byte {
			n := bytes.Count(b, some.Digest[:])
			if n == 0 {
				t.Fatal("the entry is not in the file")
			}
			flipped := some.Digest
			flipped[3] ^= 4
			return bytes.ReplaceAll(b, some.Digest[:], flipped[:])
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index")
			spoilt := spoil(bytes.Clone(whole))
			if err := os.WriteFile(path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			x := openIndex(t, Options{Path: path, Journal: j, CommitEvery: time.Millisecond})
			run(t, x)
			for k, e := range want {
				poll(t, func() bool { // found out by a lookup only, it is rebuilt under way
					got, found, err := x.Lookup(k)
					if err == nil && (!found || got != e) {
						t.Fatalf("%v: %v, %v; want %v", k, got, found, e)
					}
					if err != nil && !errors.Is(err, ErrUnavailable) {
						t.Fatal(err)
					}
					return err == nil
				})
			}
			kept, err := os.ReadFile(path + ".unreadable-1")
			if err != nil || !bytes.Equal(kept, spoilt) {
				t.Fatalf("the spoilt file was not kept as it was: %d bytes of %d, %v", len(kept), len(spoilt), err)
			}
			if got := testutil.ToFloat64(x.metrics.rebuilds); got != 1 {
				t.Fatalf("%v rebuilds", got)
			}
		})
	}
}

// The journal was replaced by a younger one: the index is of another journal.
func TestIndexAheadOfTheJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	old := openJournal(t)
	for i := range uint64(10) {
		appendBatch(t, old, key(1, i))
	}
	x := openIndex(t, Options{Path: path, Journal: old})
	_ = x.Close()
	young := openJournal(t)
	k := key(2, 1)
	e := appendBatch(t, young, k)
	x = openIndex(t, Options{Path: path, Journal: young})
	expect(t, x, k, e)
	if _, found, err := x.Lookup(key(1, 1)); found || err != nil {
		t.Fatalf("an entry of the other journal: %v", err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	j := openJournal(t)
	opt := Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEntries: 50, MaxPending: 100, CommitEvery: time.Millisecond}
	x := openIndex(t, opt)
	for i := range uint64(100) {
		k := key(1, i)
		release, err := x.Claim(t.Context(), k)
		if err != nil {
			t.Fatalf("after %d: %v", i, err)
		}
		x.Put(k, appendBatch(t, j, k))
		release()
	}
	if _, err := x.Claim(t.Context(), key(1, 100)); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("above the bound: %v", err)
	}
	stop := run(t, x)
	poll(t, func() bool {
		release, err := x.Claim(t.Context(), key(1, 100))
		if err == nil {
			release()
		}
		return err == nil && x.pending() == 0
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_ = x.Close()

	// A replay of any length holds no more than one commit's entries.
	for i := range uint64(1000) {
		appendBatch(t, j, key(2, i))
	}
	reg := prometheus.NewRegistry()
	opt.Registerer = reg
	most, calls := 0.0, 0
	opt.Key = func(r journal.Record) (Key, wire.Digest, bool) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "pantau_index_pending_entries" {
				calls++
				most = max(most, f.GetMetric()[0].GetGauge().GetValue())
			}
		}
		return keyOf(r)
	}
	openIndex(t, opt)
	if calls != 1000 || most == 0 || most > 50 {
		t.Fatalf("%v entries in memory at once over %d records", most, calls)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
}

// The index's disk is full, the journal's is not: what is put stays findable,
// and is committed when there is room.
func TestFullDisk(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a tmpfs of 1 MB needs root and CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(mnt, "index"), Journal: j, CommitEvery: time.Millisecond, CommitEntries: 200})
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 850<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := run(t, x)
	want := make(map[Key]Entry)
	for i := uint64(0); testutil.ToFloat64(x.metrics.errors) == 0; i++ {
		k := key(i%50, i)
		want[k] = appendBatch(t, j, k)
		x.Put(k, want[k])
		if i > 20_000 {
			t.Fatal("a disk of 1 MB does not fill")
		}
	}
	for k, e := range want {
		expect(t, x, k, e)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool { return x.pending() == 0 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for k, e := range want {
		expect(t, x, k, e)
	}
	if n := testutil.ToFloat64(x.metrics.rebuilds); n != 0 {
		t.Fatalf("a full disk was taken for a spoilt file %v times", n)
	}
}

func TestClosedJournalEndsRun(t *testing.T) {
	j := openJournal(t)
	x := openIndex(t, Options{Path: filepath.Join(t.TempDir(), "index"), Journal: j, CommitEvery: time.Hour})
	k := key(1, 1)
	e := appendBatch(t, j, k)
	x.Put(k, e)
	ended := make(chan error, 1)
	go func() { ended <- x.Run(t.Context()) }()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := x.pending(); n != 0 {
		t.Fatalf("%d entries were not committed", n)
	}
	expect(t, x, k, e)
}

// BenchmarkStore measures the layout's claim: bytes of the file for each entry
// when 5,000 probes' batches come in turn.
func BenchmarkStore(b *testing.B) {
	s := store{path: filepath.Join(b.TempDir(), "index")}
	if _, err := s.open(); err != nil {
		b.Fatal(err)
	}
	defer s.close()
	n := 0
	var items []item
	for b.Loop() {
		items = append(items, item{key(uint64(n%5000), uint64(n/5000)), Entry{Position: journal.Position{Segment: 1, Offset: int64(n) * 8}}})
		if n++; len(items) == defaultCommitEntries {
			if err := s.put(items, journal.Position{Segment: 1, Offset: int64(n) * 8}); err != nil {
				b.Fatal(err)
			}
			items = items[:0]
		}
	}
	if st, err := os.Stat(s.path); err == nil {
		b.ReportMetric(float64(st.Size())/float64(n), "bytes/entry")
	}
}

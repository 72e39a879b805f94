package spool

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const boot = measure.BootID("0b5e6c1e-93a8-4b63-9a6e-2a5df3b3a001")

func open(t testing.TB, dir string, edit ...func(*Options)) *Spool {
	t.Helper()
	s, err := tryOpen(dir, edit...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func tryOpen(dir string, edit ...func(*Options)) (*Spool, error) {
	c, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	o := Options{Dir: dir, Codec: c, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		NewEpoch: func() (e wire.Epoch) { rand.Read(e[:]); return e }}
	for _, f := range edit {
		f(&o)
	}
	return Open(o)
}

func result(n int) measure.Result {
	return measure.Result{Kind: measure.KindReach, Outcome: measure.OK, MeasuredAt: time.Unix(int64(n), 0).UTC(), Boot: boot,
		Monotonic: time.Duration(n), Values: []measure.Value{{Metric: measure.ODPReachable, Number: 1}}}
}

func seal() Seal { return Seal{Probe: "p", At: time.Unix(1e9, 0), Boot: boot, Software: "test"} }

func mustSeal(t testing.TB, s *Spool) {
	t.Helper()
	if ok, err := s.Seal(seal()); err != nil || !ok {
		t.Fatalf("seal: %v, %v", ok, err)
	}
}

// contents decodes everything on disk: sealed batches and what is pending.
func contents(t testing.TB, s *Spool) (ids []int, batches []wire.Batch) {
	t.Helper()
	seqs := s.Waiting()
	slices.Reverse(seqs)
	for _, seq := range seqs {
		x, err := s.Load(seq)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.opt.Codec.DecodeBatch(x.Body)
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, b)
		for _, r := range b.Results {
			ids = append(ids, int(r.Monotonic))
		}
	}
	for _, r := range s.pend {
		ids = append(ids, int(r.Monotonic))
	}
	return ids, batches
}

func count(cs []wire.Counter) (n uint64) {
	for _, c := range cs {
		n += c.Count
	}
	return n
}

func upTo(n int) (ids []int) {
	for i := range n {
		ids = append(ids, i)
	}
	return ids
}

func TestResultsOutliveRestartsInOneBatchEach(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for range 4 {
		s := open(t, dir)
		for range 3 {
			if err := s.Append(result(next)); err != nil {
				t.Fatal(err)
			}
			next++
		}
		mustSeal(t, s)
		if err := s.Append(result(next)); err != nil {
			t.Fatal(err)
		}
		next++
		if got := count(s.Counters()); got != uint64(next) {
			t.Fatalf("%d counted of %d", got, next)
		}
		if got := s.LastSlot(measure.KindReach); !got.Equal(time.Unix(int64(next-1), 0)) {
			t.Fatalf("last slot %v", got)
		}
		s.Close()
	}
	s := open(t, dir)
	ids, batches := contents(t, s)
	if !slices.Equal(ids, upTo(next)) {
		t.Fatal(ids)
	}
	var prev wire.Digest
	for i, b := range batches {
		if b.Seq != uint64(i+1) || b.Previous != prev || b.Epoch != s.Epoch() {
			t.Fatalf("batch %d breaks the chain: seq %d", i, b.Seq)
		}
		x, _ := s.Load(b.Seq)
		prev = x.Digest
	}
	if got := count(batches[3].Counters); got != 15 {
		t.Fatalf("the last batch counts %d results, want 15", got)
	}
}

func TestSequenceNumbersAreNeverReused(t *testing.T) {
	dir := t.TempDir()
	for want := uint64(1); want < 5; want++ {
		s := open(t, dir)
		if err := s.Append(result(1)); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, s)
		if got := s.Waiting(); !slices.Equal(got, []uint64{want}) {
			t.Fatalf("waiting %v, want %d", got, want)
		}
		if err := s.Acknowledge(want); err != nil {
			t.Fatal(err)
		}
		if err := s.Acknowledge(want); err != nil {
			t.Fatalf("a second acknowledgement is an error: %v", err)
		}
		s.Close()
	}
}

func TestTornTailCostsOnlyWhatWasBeingWritten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var sizes []int64
	for i := range 4 {
		if err := s.Append(result(i)); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, s.bytes)
	}
	s.Close()
	log := filepath.Join(dir, logName(1))
	whole, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		for _, damage := range []string{"cut", "zeros", "garbage"} {
			data := slices.Clone(whole[:cut])
			switch damage {
			case "zeros":
				data = append(data, make([]byte, len(whole)-cut)...)
			case "garbage":
				for range len(whole) - cut {
					data = append(data, 0xa5)
				}
			}
			if err := os.WriteFile(log, data, 0o600); err != nil {
				t.Fatal(err)
			}
			want := 0
			for want < len(sizes) && sizes[want] <= int64(cut) {
				want++
			}
			s, err := tryOpen(dir)
			if err != nil {
				t.Fatal(err)
			}
			if ids, _ := contents(t, s); !slices.Equal(ids, upTo(want)) {
				t.Fatalf("%s at %d: %v, want %d", damage, cut, ids, want)
			}
			if err := s.Append(result(want)); err != nil {
				t.Fatal(err)
			}
			s.Close()
			s, err = tryOpen(dir)
			if err != nil {
				t.Fatal(err)
			}
			if ids, _ := contents(t, s); !slices.Equal(ids, upTo(want+1)) {
				t.Fatalf("%s at %d: after another: %v", damage, cut, ids)
			}
			s.Close()
		}
	}
}

// Every instant at which a crash can fall within Seal, made by hand.
func TestCrashWithinSeal(t *testing.T) {
	prepare := func(t *testing.T) (dir string, before map[string][]byte, after map[string][]byte) {
		dir = t.TempDir()
		s := open(t, dir)
		for i := range 3 {
			if err := s.Append(result(i)); err != nil {
				t.Fatal(err)
			}
		}
		before = files(t, dir)
		mustSeal(t, s)
		s.Close()
		return dir, before, files(t, dir)
	}
	for name, disk := range map[string]func(before, after map[string][]byte) map[string][]byte{
		"before anything": func(b, a map[string][]byte) map[string][]byte { return b },
		"batch half written": func(b, a map[string][]byte) map[string][]byte {
			b[batchName(1)+".tmp"] = a[batchName(1)][:5]
			return b
		},
		"batch without head": func(b, a map[string][]byte) map[string][]byte {
			b[batchName(1)] = a[batchName(1)]
			return b
		},
		"head, old log still there": func(b, a map[string][]byte) map[string][]byte {
			a[logName(1)] = b[logName(1)]
			return a
		},
		"rest split off, no batch": func(b, a map[string][]byte) map[string][]byte {
			b[logName(2)] = b[logName(1)]
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, before, after := prepare(t)
			dir := t.TempDir()
			for name, data := range disk(before, after) {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, dir)
			if ids, _ := contents(t, s); !slices.Equal(ids, upTo(3)) {
				t.Fatal(ids)
			}
			if got := count(s.Counters()); got != 3 {
				t.Fatalf("%d counted, want 3", got)
			}
			if err := s.Append(result(3)); err != nil {
				t.Fatal(err)
			}
			mustSeal(t, s)
			if ids, _ := contents(t, s); !slices.Equal(ids, upTo(4)) {
				t.Fatal(ids)
			}
		})
	}
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, e := range entries {
		if !e.IsDir() {
			if m[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return m
}

func TestUnreadableHeadBeginsANewEpochAndKeepsTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	old := s.Epoch()
	if err := s.Append(result(0)); err != nil {
		t.Fatal(err)
	}
	mustSeal(t, s)
	s.Close()
	if err := os.WriteFile(filepath.Join(dir, "head.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if s.Epoch() == old {
		t.Error("the epoch goes on, though its sequence number is lost")
	}
	kept, err := filepath.Glob(filepath.Join(dir, "quarantine", "*"+batchName(1)))
	if err != nil || len(kept) != 1 {
		t.Errorf("the batch was not kept: %v, %v", kept, err)
	}
}

func TestFullShareDropsTheOldestAndSaysSo(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxBytes = 500 })
	for i := range 10 {
		if err := s.Append(result(i)); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, s)
	}
	ids, batches := contents(t, s)
	last := batches[len(batches)-1]
	if s.WaitingBytes() > 500 || ids[len(ids)-1] != 9 || len(ids) >= 10 {
		t.Fatalf("%d bytes, %v", s.WaitingBytes(), ids)
	}
	if s.Dropped() != uint64(10-len(ids)) || last.SpoolDropped == 0 {
		t.Fatalf("%d dropped by count, %d by the batch, %d are gone", s.Dropped(), last.SpoolDropped, 10-len(ids))
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, func(o *Options) { o.MaxQuarantine = 2 })
	for i := range 5 {
		if err := s.Append(result(i)); err != nil {
			t.Fatal(err)
		}
		mustSeal(t, s)
		if err := s.Quarantine(uint64(i + 1)); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadDir(filepath.Join(dir, "quarantine"))
	if err != nil || len(kept) != 2 || !strings.HasSuffix(kept[1].Name(), batchName(5)) {
		t.Fatalf("%v, %v", kept, err)
	}
	if len(s.Waiting()) != 0 {
		t.Fatal("a refused batch still waits")
	}
}

func TestCountersBeginAnewWithABoot(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 3 {
		if err := s.Append(result(i)); err != nil {
			t.Fatal(err)
		}
	}
	r := result(3)
	r.Boot = "22222222-93a8-4b63-9a6e-2a5df3b3a001"
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
	if got := count(s.Counters()); got != 1 {
		t.Fatalf("%d counted in the new boot, want 1", got)
	}
}

func TestOneProcessHoldsASpool(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	if _, err := tryOpen(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatal(err)
	}
}

func TestManyResultsMakeSeveralBatches(t *testing.T) {
	s := open(t, t.TempDir())
	const n = wire.MaxResults + 10
	// Appending would sync each one: the log is written at once.
	var all []measure.Result
	for i := range n {
		all = append(all, result(i))
	}
	if err := s.writeLog(1, all); err != nil {
		t.Fatal(err)
	}
	if err := s.openLog(1); err != nil {
		t.Fatal(err)
	}
	for s.Pending() > 0 {
		mustSeal(t, s)
	}
	if ids, _ := contents(t, s); !slices.Equal(ids, upTo(n)) {
		t.Fatalf("%d results of %d", len(ids), n)
	}
}

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PANTAU_SPOOL_CHILD"); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

func child(dir string) {
	s, err := tryOpen(dir)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	from, _ := strconv.Atoi(os.Getenv("PANTAU_SPOOL_FROM"))
	for i := from; ; i++ {
		if err := s.Append(result(i)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(i) // unbuffered: said only once it is durable
		if i%7 == 0 {
			if _, err := s.Seal(seal()); err != nil {
				fmt.Println("error", err)
				os.Exit(1)
			}
		}
	}
}

func TestKillMinus9LosesNothing(t *testing.T) {
	dir := t.TempDir()
	next := 0
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PANTAU_SPOOL_CHILD="+dir, "PANTAU_SPOOL_FROM="+strconv.Itoa(next))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		last := next - 1
		for stop := 5 + 3*round; lines.Scan(); {
			n, err := strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatal(lines.Text())
			}
			last = n
			if n >= next+stop {
				cmd.Process.Kill()
				break
			}
		}
		for lines.Scan() { // what it still said before it died
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				last = n
			}
		}
		cmd.Wait()
		s, err := tryOpen(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids, _ := contents(t, s)
		s.Close()
		// What was said is there once and in order; one more may be, written but not
		// yet said.
		if len(ids) < last+1 || len(ids) > last+2 || !slices.Equal(ids, upTo(len(ids))) {
			t.Fatalf("round %d: said up to %d, found %v", round, last, ids)
		}
		next = len(ids)
	}
}

package journal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childDir   = "PANTAU_JOURNAL_CHILD_DIR"
	childRound = "PANTAU_JOURNAL_CHILD_ROUND"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	os.Exit(m.Run())
}

// child appends from several goroutines until it is killed, and prints what
// was acknowledged, one write per line.
func child(dir string) {
	j, err := Open(Options{Dir: dir, SegmentBytes: 1 << 20, Linger: -1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	var round uint64
	_, _ = fmt.Sscan(os.Getenv(childRound), &round)
	var wg sync.WaitGroup
	for w := range uint64(8) {
		wg.Go(func() {
			for n := uint64(0); ; n++ {
				id := round<<40 | w<<32 | n
				at, err := j.Append(context.Background(), record(id, 3000))
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(2)
				}
				_, _ = os.Stdout.WriteString(fmt.Sprintf("%d %v\n", id, at))
			}
		})
	}
	wg.Wait()
}

// kill -9 at random instants: every record that the child was told of is there
// exactly once, where it was told, with equal bytes.
func TestKilledProcess(t *testing.T) {
	rounds := uint64(8)
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	told := make(map[uint64]Position)
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s=%d", childRound, round))
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(told)
		var kill *time.Timer
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if kill == nil { // it is at work
				kill = time.AfterFunc(time.Duration(rand.Int64N(int64(150*time.Millisecond))), func() { _ = cmd.Process.Kill() })
			}
			var id uint64
			var at Position
			idText, atText, _ := strings.Cut(lines.Text(), " ")
			if _, err := fmt.Sscan(idText, &id); err != nil {
				t.Fatal(err)
			}
			if err := at.UnmarshalText([]byte(atText)); err != nil {
				t.Fatal(err)
			}
			told[id] = at
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
			t.Fatalf("the child ended with %v, not killed: %s", err, stderr.String())
		}
		if len(told) == before {
			t.Fatal("the child did nothing")
		}
	}
	verify(t, Options{Dir: dir}, told, 3000)
	t.Logf("%d acknowledged records over %d kills", len(told), rounds)
}

// verify opens the journal and holds it to what was told: acknowledged records
// exactly once, at their place; of the others at most one each; all bytes equal;
// nothing else.
func verify(t *testing.T, opt Options, told map[uint64]Position, maxBody int) {
	t.Helper()
	j := open(t, opt)
	defer j.Close()
	seen := make(map[uint64]bool)
	for _, p := range readAll(t, j, Position{}) {
		id := idOf(t, p.Record)
		if seen[id] {
			t.Fatalf("record %x is there twice", id)
		}
		seen[id] = true
		if at, ok := told[id]; ok && at != p.At {
			t.Fatalf("record %x is at %v, not at %v", id, p.At, at)
		}
		want := record(id, maxBody)
		if string(want.Body) != string(p.Record.Body) || !want.ReceivedAt.Equal(p.Record.ReceivedAt) || want.Type != p.Record.Type || len(want.Headers) != len(p.Record.Headers) {
			t.Fatalf("record %x is another", id)
		}
	}
	for id, at := range told {
		if !seen[id] {
			t.Fatalf("record %x, acknowledged at %v, is lost; end %v, damage %v", id, at, j.End(), j.Damaged())
		}
	}
}

// disk is a failing disk under real files: it fails syncs on demand, and can
// lose power, which leaves any subset of the unsynced sectors.
type disk struct {
	mu       sync.Mutex
	rnd      *rand.Rand
	dead     bool
	cutAfter int // syncs until the power goes; 0: never
	syncErr  error
	truncErr error
	syncing  chan struct{} // if set, told of each sync,
	release  chan struct{} // which then waits for this
}

type diskFile struct {
	d *disk
	osFile
	unsynced []undo
}

// undo is what a sector's bytes were before a write.
type undo struct {
	off int64
	old []byte
}

const sector = 512

func (d *disk) create(path string) (segmentFile, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return nil, unix.EIO
	}
	f, err := createFile(path)
	if err != nil {
		return nil, err
	}
	return &diskFile{d: d, osFile: f.(osFile)}, nil
}

func (f *diskFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return 0, unix.EIO
	}
	for i := off; i < off+int64(len(b)); {
		n := min(sector-i%sector, off+int64(len(b))-i)
		old := make([]byte, n)
		if _, err := f.File.ReadAt(old, i); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		f.unsynced = append(f.unsynced, undo{i, old})
		i += n
	}
	return f.File.WriteAt(b, off)
}

func (f *diskFile) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return unix.EIO
	}
	if f.d.truncErr != nil {
		return f.d.truncErr
	}
	return f.File.Truncate(size)
}

func (f *diskFile) Datasync() error {
	if f.d.syncing != nil {
		f.d.syncing <- struct{}{}
		<-f.d.release
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.dead {
		return unix.EIO
	}
	if f.d.syncErr != nil {
		return f.d.syncErr
	}
	if f.d.cutAfter > 0 {
		if f.d.cutAfter--; f.d.cutAfter == 0 {
			f.d.dead = true
			return errors.Join(unix.EIO, f.losePower())
		}
	}
	if err := f.osFile.Datasync(); err != nil {
		return err
	}
	f.unsynced = nil
	return nil
}

// losePower undoes the unsynced writes of about half the sectors.
func (f *diskFile) losePower() error {
	lost := make(map[int64]bool)
	for i := len(f.unsynced) - 1; i >= 0; i-- {
		u := f.unsynced[i]
		l, decided := lost[u.off/sector]
		if !decided {
			l = f.d.rnd.IntN(2) == 0
			lost[u.off/sector] = l
		}
		if l {
			if _, err := f.File.WriteAt(u.old, u.off); err != nil {
				return err
			}
		}
	}
	return nil
}

// Power cuts in the middle of a commit, with whole sectors lost at random, over
// one directory that lives through them all.
func TestPowerCuts(t *testing.T) {
	opt := small(t.TempDir())
	told := make(map[uint64]Position)
	var mu sync.Mutex
	for round := range uint64(25) {
		d := &disk{rnd: rand.New(rand.NewPCG(round, 3))}
		d.cutAfter = 2 + d.rnd.IntN(40)
		opt.create = d.create
		j, err := Open(opt)
		if err != nil {
			t.Fatal(err)
		}
		following := make(chan map[uint64]bool)
		go func() {
			seen := make(map[uint64]bool)
			r := j.NewReader(j.End())
			defer r.Close()
			for {
				rec, _, err := r.Next(context.Background())
				if err != nil {
					following <- seen
					return
				}
				seen[idOf(t, rec)] = true
			}
		}()
		var wg sync.WaitGroup
		for w := range uint64(8) {
			wg.Go(func() {
				for n := uint64(0); ; n++ {
					id := round<<40 | w<<32 | n
					at, err := j.Append(context.Background(), record(id, 3000))
					if err != nil {
						if !errors.Is(err, ErrUnavailable) || at != (Position{}) {
							t.Errorf("%v, %v", at, err)
						}
						return
					}
					mu.Lock()
					told[id] = at
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		for id := range <-following {
			if _, ok := told[id]; !ok {
				t.Fatalf("record %x was read, yet never acknowledged", id)
			}
		}
		verify(t, Options{Dir: opt.Dir}, told, 3000)
	}
	if len(told) < 100 {
		t.Fatalf("only %d records acknowledged: this tested nothing", len(told))
	}
	t.Logf("%d acknowledged records over 25 cuts", len(told))
}

// A failed fdatasync: told to the sender, never repeated on that file, the
// record never returned, now or by a later process, and writing goes on by
// itself in another segment.
func TestFailedSync(t *testing.T) {
	for _, c := range []struct {
		name     string
		truncErr error // the disk that failed may refuse the truncation as well
	}{{"truncated", nil}, {"not even truncated", unix.EIO}} {
		t.Run(c.name, func(t *testing.T) {
			d := &disk{}
			opt := small(t.TempDir())
			opt.create = d.create
			j := open(t, opt)
			told := map[uint64]Position{1: mustAppend(t, j, record(1, 500))}
			d.mu.Lock()
			d.syncErr, d.truncErr = unix.EIO, c.truncErr
			d.mu.Unlock()
			_, err := j.Append(t.Context(), record(2, 500))
			if !errors.Is(err, ErrUnavailable) || !errors.Is(err, unix.EIO) {
				t.Fatal(err)
			}
			if _, err := j.Append(t.Context(), record(3, 500)); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			if got := readAll(t, j, Position{}); len(got) != 1 {
				t.Fatalf("%d records with the disk failed", len(got))
			}
			if c.truncErr != nil {
				// The refused record is on the disk, whole: only the next header tells.
				if st, err := os.Stat(segmentPath(opt.Dir, 1)); err != nil || st.Size() < j.End().Offset+record(2, 500).frameSize() {
					t.Fatal(st, err)
				}
			}
			d.mu.Lock()
			d.syncErr = nil
			d.mu.Unlock()
			var at Position
			poll(t, func() bool {
				at, err = j.Append(t.Context(), record(4, 500))
				return err == nil
			})
			told[4] = at
			if at.Segment == told[1].Segment {
				t.Fatalf("went on in the failed segment: %v", at)
			}
			if got := readAll(t, j, Position{}); len(got) != 2 {
				t.Fatalf("%d records", len(got))
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			j = open(t, small(opt.Dir))
			if got := readAll(t, j, Position{}); len(got) != 2 || len(j.Damaged()) != 0 {
				t.Fatalf("%d records, damage %v", len(got), j.Damaged())
			}
			_ = j.Close()
			verify(t, small(opt.Dir), told, 500)
		})
	}
}

// A cancelled Append: withdrawn while it waits, waited out once it is written.
func TestCancelledAppend(t *testing.T) {
	d := &disk{syncing: make(chan struct{}), release: make(chan struct{})}
	opt := small(t.TempDir())
	opt.create = d.create
	j := open(t, opt)
	type answer struct {
		at  Position
		err error
	}
	appendAsync := func(ctx context.Context, id uint64) chan answer {
		ch := make(chan answer, 1)
		go func() {
			at, err := j.Append(ctx, record(id, 100))
			ch <- answer{at, err}
		}()
		return ch
	}
	cancelled, cancel := context.WithCancel(t.Context())
	written := appendAsync(cancelled, 1)
	<-d.syncing // of the new segment
	d.release <- struct{}{}
	<-d.syncing // of the group with record 1

	waiting := appendAsync(cancelled, 2)
	poll(t, func() bool {
		j.mu.Lock()
		defer j.mu.Unlock()
		return len(j.pending) == 1
	})
	if end := j.End(); end != (Position{}) {
		t.Fatalf("readers are told of %v before it is durable", end)
	}
	if got := readAll(t, j, Position{}); len(got) != 0 {
		t.Fatalf("%d records before they are durable", len(got))
	}
	cancel()
	if a := <-waiting; !errors.Is(a.err, context.Canceled) {
		t.Fatalf("the waiting one: %v", a)
	}
	select {
	case a := <-written:
		t.Fatalf("answered before its fate was known: %v", a)
	default:
	}
	d.release <- struct{}{}
	if a := <-written; a.err != nil || a.at != (Position{1, dataStart}) {
		t.Fatalf("the written one: %v", a)
	}
	third := appendAsync(t.Context(), 3)
	<-d.syncing
	d.release <- struct{}{}
	if a := <-third; a.err != nil {
		t.Fatal(a.err)
	}
	var ids []uint64
	for _, p := range readAll(t, j, Position{}) {
		ids = append(ids, idOf(t, p.Record))
	}
	if len(ids) != 2 || ids[0] != 1 || ids[1] != 3 {
		t.Fatalf("records %v, want 1 and 3", ids)
	}
	if _, err := j.Append(cancelled, record(4, 1)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A real file system that fills up: appends fail, and succeed again by
// themselves when there is room.
func TestFullDisk(t *testing.T) {
	mnt := t.TempDir()
	if err := unix.Mount("tmpfs", mnt, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("mounting a tmpfs of 2 MB needs root and CAP_SYS_ADMIN: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mnt, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	opt := Options{Dir: filepath.Join(mnt, "journal"), SegmentBytes: 256 << 10, Linger: -1}
	j := open(t, opt)
	told := make(map[uint64]Position)
	ballast := filepath.Join(mnt, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	id := uint64(0)
	fill := func() {
		for ; ; id++ {
			at, err := j.Append(t.Context(), record(id, 3000))
			if errors.Is(err, ErrUnavailable) && errors.Is(err, unix.ENOSPC) {
				id++
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			told[id] = at
			if id > 10_000 {
				t.Fatal("a disk of 2 MB does not fill")
			}
		}
	}
	fill()
	full := len(told)
	if free := freeBytes(opt.Dir); free > 256<<10 {
		t.Fatalf("full with %v bytes free", free)
	}
	fill() // still
	if got := readAll(t, j, Position{}); len(got) != len(told) {
		t.Fatalf("%d records readable on the full disk, %d acknowledged", len(got), len(told))
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		id++
		at, err := j.Append(t.Context(), record(id, 3000))
		if err == nil {
			told[id] = at
		}
		return err == nil
	})
	id++
	fill()
	if len(told) <= full+100 {
		t.Fatalf("%d records before, %d after room was made", full, len(told))
	}
	if got := readAll(t, j, Position{}); len(got) != len(told) || len(j.Damaged()) != 0 {
		t.Fatalf("%d records readable, %d acknowledged, damage %v", len(got), len(told), j.Damaged())
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, opt, told, 3000) // opening needs no space
	t.Logf("%d records in the first fill, %d in all", full, len(told))
}

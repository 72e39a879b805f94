package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// crashed returns the files of a journal as a crash would leave them: copied
// from under the running one.
func crashed(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = b
	}
	return files
}

func restore(t testing.TB, files map[string][]byte) (dir string) {
	t.Helper()
	// Hundreds of them, and no durability at stake: in memory where there is some.
	dir, err := os.MkdirTemp("/dev/shm", "journal-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func segmentName(number uint64) string { return filepath.Base(segmentPath("", number)) }

// The last group is cut, zeroed or garbled from every one of its bytes on:
// what was acknowledged before it stays, whole records of it may, and nothing
// of it is ever taken for damage or written over.
func TestTornTails(t *testing.T) {
	j := open(t, small(t.TempDir()))
	var all []placed
	for id := range uint64(7) {
		all = append(all, placed{mustAppend(t, j, record(id, 60)), record(id, 60)})
	}
	const acknowledged = 4 // the last three are the group that the crash met
	files := crashed(t, j.opt.Dir)
	name := segmentName(1)
	begin, end := all[acknowledged].At.Offset, j.End().Offset
	rnd := rand.New(rand.NewPCG(1, 1))

	tears := map[string]func(file []byte, at int64) []byte{
		"truncated": func(file []byte, at int64) []byte { return file[:at] },
		"zeroed": func(file []byte, at int64) []byte {
			clear(file[at:])
			return file
		},
		"garbled": func(file []byte, at int64) []byte {
			for i := at; i < end; i++ {
				file[i] ^= byte(1 + rnd.IntN(255))
			}
			return file
		},
	}
	for how, tear := range tears {
		t.Run(how, func(t *testing.T) {
			for at := begin; at <= end; at++ {
				torn := tear(append([]byte(nil), files[name]...), at)
				dir := restore(t, map[string][]byte{name: torn})
				whole := acknowledged
				for whole < len(all) && all[whole].At.Offset+unpadded(all[whole].Record) <= at {
					whole++
				}
				if how == "truncated" && at%frameAlign != 0 && whole > acknowledged && at < all[whole-1].At.Offset+all[whole-1].Record.frameSize() {
					whole-- // its padding is cut: as good as torn
				}
				j := open(t, small(dir))
				if diff := diffRecords(all[:whole], readAll(t, j, Position{})); diff != "" {
					t.Fatalf("at byte %d: %s", at, diff)
				}
				more := placed{mustAppend(t, j, record(99, 60)), record(99, 60)}
				if more.At.Segment != 2 {
					t.Fatalf("at byte %d: written on in segment %d", at, more.At.Segment)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				j = open(t, small(dir))
				want := append(append([]placed(nil), all[:whole]...), more)
				if diff := diffRecords(want, readAll(t, j, Position{})); diff != "" {
					t.Fatalf("at byte %d, opened again: %s", at, diff)
				}
				if d := j.Damaged(); len(d) != 0 {
					t.Fatalf("at byte %d: a torn tail reported as damage: %v", at, d)
				}
				kept, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(trimZeros(torn), trimZeros(kept)) {
					t.Fatalf("at byte %d: the torn segment was changed", at)
				}
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func unpadded(r Record) int64 { return int64(frameFixed + r.headerBytes() + len(r.Body)) }

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// threeSegments is a closed journal of three segments.
func threeSegments(t *testing.T) (files map[string][]byte, all []placed) {
	t.Helper()
	opt := small(t.TempDir())
	for part := range uint64(3) {
		j := open(t, opt)
		for id := part * 10; id < part*10+10; id++ {
			all = append(all, placed{mustAppend(t, j, record(id, 60)), record(id, 60)})
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return crashed(t, opt.Dir), all
}

// One flipped bit costs one record, whichever it is, and is known to the byte.
func TestBitRot(t *testing.T) {
	files, all := threeSegments(t)
	for _, victim := range []int{0, 5, 9, 10, 15, 19, 20, 25, 28} {
		at, size := all[victim].At, all[victim].Record.frameSize()
		name := segmentName(at.Segment)
		for i := int64(0); i < unpadded(all[victim].Record); i++ {
			rotten := append([]byte(nil), files[name]...)
			rotten[at.Offset+i] ^= 1 << (i % 8)
			changed := map[string][]byte{name: rotten}
			for n, b := range files {
				if n != name {
					changed[n] = b
				}
			}
			j := open(t, small(restore(t, changed)))
			want := append(append([]placed(nil), all[:victim]...), all[victim+1:]...)
			for range 2 { // a second reader comes upon the same
				if diff := diffRecords(want, readAll(t, j, Position{})); diff != "" {
					t.Fatalf("record %d, byte %d: %s", victim, i, diff)
				}
			}
			if diff := cmp.Diff([]Damage{{at, size, Garbled}}, j.Damaged()); diff != "" {
				t.Fatalf("record %d, byte %d: %s", victim, i, diff)
			}
			if got := testutil.ToFloat64(j.metrics.damaged); got != float64(size) {
				t.Fatalf("%v bytes counted, want %d", got, size)
			}
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLostParts(t *testing.T) {
	files, all := threeSegments(t)
	first, second := all[10].At, all[11].At // of the second segment
	end2 := all[19].At.Offset + all[19].Record.frameSize()
	data := end2 - dataStart
	end3 := all[29].At.Offset + all[29].Record.frameSize()
	without := func(from, to int) []placed {
		return append(append([]placed(nil), all[:from]...), all[to:]...)
	}
	for name, c := range map[string]struct {
		number uint64
		change func(b []byte) []byte // nil: the file is gone
		from   Position
		want   []placed
		damage []Damage
	}{
		"one copy of a header": {number: 2, change: func(b []byte) []byte { clear(b[:4096]); return b }, want: all},
		"the other copy":       {number: 2, change: func(b []byte) []byte { b[headerCopy+20]++; return b }, want: all},
		"both copies": {number: 2, change: func(b []byte) []byte { clear(b[:dataStart]); return b }, want: all,
			damage: []Damage{{Position{2, 0}, dataStart, NoHead}}},
		"both copies and the first record": {number: 2, change: func(b []byte) []byte { clear(b[:second.Offset]); return b },
			want: without(10, 20), damage: []Damage{{Position{2, 0}, end2, NoHead}}},
		"both copies of the last": {number: 3, change: func(b []byte) []byte { clear(b[:dataStart]); return b }, want: all,
			damage: []Damage{{Position{3, 0}, dataStart, NoHead}}},
		"head and first record of the last": {number: 3, change: func(b []byte) []byte { clear(b[:all[21].At.Offset]); return b },
			want: all[:20], damage: []Damage{{Position{3, 0}, end3, NoHead}}},
		"the end of an ended segment": {number: 2, change: func(b []byte) []byte { return b[:all[18].At.Offset+3] },
			want: without(18, 20), damage: []Damage{{all[18].At, end2 - all[18].At.Offset, Garbled}}},
		"all of an ended segment": {number: 2, change: func([]byte) []byte { return []byte{} },
			want: without(10, 20), damage: []Damage{{Position{2, 0}, end2, NoHead}}},
		"a hole of zeros": {number: 2, change: func(b []byte) []byte { clear(b[first.Offset:all[15].At.Offset]); return b },
			want: without(10, 15), damage: []Damage{{first, all[15].At.Offset - first.Offset, Garbled}}},
		"a file in the middle": {number: 2, want: without(10, 20), damage: []Damage{{Position{2, dataStart}, data, Missing}}},
		"the file of a cursor": {number: 2, from: second, want: all[20:],
			damage: []Damage{{second, end2 - second.Offset, Missing}}},
		"the oldest file, moved away": {number: 1, want: all[10:]},
	} {
		t.Run(name, func(t *testing.T) {
			changed := make(map[string][]byte)
			for n, b := range files {
				changed[n] = append([]byte(nil), b...)
			}
			if n := segmentName(c.number); c.change == nil {
				delete(changed, n)
			} else {
				changed[n] = c.change(changed[n])
			}
			j := open(t, small(restore(t, changed)))
			for range 2 {
				if diff := diffRecords(c.want, readAll(t, j, c.from)); diff != "" {
					t.Fatal(diff)
				}
			}
			if diff := cmp.Diff(c.damage, j.Damaged(), cmpEmpty); diff != "" {
				t.Fatal(diff)
			}
			mustAppend(t, j, record(99, 10))
			if got := readAll(t, j, c.from); len(got) != len(c.want)+1 {
				t.Fatalf("%d records, want one more than %d", len(got), len(c.want))
			}
		})
	}
}

var cmpEmpty = cmp.Transformer("empty", func(d []Damage) []Damage {
	if len(d) == 0 {
		return nil
	}
	return d
})

// A file that vanishes under an open journal: readers go on if the rest is
// there, and stop if the directory itself is gone.
func TestFilesVanish(t *testing.T) {
	files, all := threeSegments(t)
	dir := restore(t, files)
	j := open(t, small(dir))
	if err := os.Remove(segmentPath(dir, 2)); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, j, Position{}); len(got) != 20 {
		t.Fatalf("%d records of 20", len(got))
	}
	if d := j.Damaged(); len(d) != 1 || d[0].Cause != Missing || d[0].From.Segment != 2 {
		t.Fatalf("damage: %v", d)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir + ".away") })
	r := j.NewReader(all[0].At)
	for range 3 {
		if _, _, err := r.TryNext(); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("without the directory: %v", err)
		}
	}
	if r.Position() != all[0].At {
		t.Fatalf("the reader moved to %v", r.Position())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if _, at, err := r.TryNext(); err != nil || at != all[0].At {
		t.Fatalf("with the directory back: %v, %v", at, err)
	}
}

// A body that holds the image of a record must not turn into one when the
// record around it is damaged, even if it knows the segment's sync word.
func TestRecordInsideABody(t *testing.T) {
	dir := t.TempDir()
	j := open(t, small(dir))
	at := mustAppend(t, j, record(1, 60))
	b, err := os.ReadFile(segmentPath(dir, at.Segment))
	if err != nil {
		t.Fatal(err)
	}
	known := segmentID{number: at.Segment, sync: binary.LittleEndian.Uint32(b[at.Offset:])}
	outer := record(2, 60)
	outer.Headers = nil
	outer.Body = appendFrame(nil, known, at.Offset, record(666, 60)) // a copy from another place
	guess := segmentID{number: at.Segment, sync: known.sync + 1}
	outer.Body = appendFrame(outer.Body, guess, at.Offset, record(667, 60))
	at2 := mustAppend(t, j, outer)
	mustAppend(t, j, record(3, 60))
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = os.ReadFile(segmentPath(dir, at.Segment)); err != nil {
		t.Fatal(err)
	}
	b[at2.Offset+16]++
	j = open(t, small(restore(t, map[string][]byte{segmentName(at.Segment): b})))
	var ids []uint64
	for _, p := range readAll(t, j, Position{}) {
		ids = append(ids, idOf(t, p.Record))
	}
	if diff := cmp.Diff([]uint64{1, 3}, ids); diff != "" {
		t.Fatal(diff)
	}
}

// What a newer program wrote is neither damage nor skipped.
func TestNewerVersionStops(t *testing.T) {
	files, all := threeSegments(t)
	name := segmentName(2)
	b := append([]byte(nil), files[name]...)
	at := all[15].At.Offset
	frame := b[at : at+unpadded(all[15].Record)]
	h, ok, err := parseHeader(b[:headerBytes])
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	frame[13] = frameVersion + 1
	length, _ := frameLength(frame, h.segmentID)
	binary.LittleEndian.PutUint32(frame[8:], frameCRC(h.segmentID, at, length, frame[frameCovered:]))
	files[name] = b
	j := open(t, small(restore(t, files)))
	r := j.NewReader(Position{})
	defer r.Close()
	n := 0
	for ; ; n++ {
		if _, _, err = r.TryNext(); err != nil {
			break
		}
	}
	if !errors.Is(err, errNewer) || errors.Is(err, io.EOF) || n != 15 || r.Position() != all[15].At {
		t.Fatalf("stopped after %d records at %v: %v", n, r.Position(), err)
	}
	if d := j.Damaged(); len(d) != 0 {
		t.Fatal(d)
	}
}

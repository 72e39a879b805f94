package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ErrPosition is wrapped by a reader's error if its position cannot be one of
// this journal: it lies beyond the end, or where no record can begin. The
// cursor is from another journal, or the journal was restored from an older
// copy.
var ErrPosition = errors.New("journal: not a position of this journal")

// Reader returns records in order. It belongs to one goroutine. Damage on its
// way is skipped and reported to [Journal.Damaged]; an error does not move it,
// so the call can be repeated.
type Reader struct {
	j    *Journal
	pos  Position // where the next record would start
	scan *scanner // of segment pos.Segment; nil: not open
}

// NewReader reads from a position that a reader or Append returned, or from
// the beginning (zero). If that segment is gone it goes on with the next.
func (j *Journal) NewReader(from Position) *Reader { return &Reader{j: j, pos: from} }

// Position is where the next record would start: what a cursor saves.
func (r *Reader) Position() Position { return r.pos }

// Close gives the open file free. The reader may be used again.
func (r *Reader) Close() error {
	if r.scan == nil {
		return nil
	}
	err := r.scan.close()
	r.scan = nil
	return err
}

// Next returns the next record and where it is, and waits until there is a
// durable one. Beyond the errors of [Reader.TryNext] it returns ctx's, and
// [ErrClosed] at the end of a closed journal. At the end of a journal that is
// open read-only it returns io.EOF, for nothing will follow.
func (r *Reader) Next(ctx context.Context) (Record, Position, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Record{}, Position{}, err
		}
		r.j.mu.Lock()
		changed := r.j.changed
		r.j.mu.Unlock()
		rec, at, err := r.TryNext()
		if !errors.Is(err, io.EOF) || r.j.opt.ReadOnly {
			return rec, at, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Record{}, Position{}, ctx.Err()
		case <-r.j.stopped:
			// The owner published its last group before it stopped.
			if rec, at, err = r.TryNext(); errors.Is(err, io.EOF) {
				err = ErrClosed
			}
			return rec, at, err
		}
	}
}

// TryNext is Next without waiting: io.EOF at the durable end. Other errors wrap
// [ErrUnavailable] or [ErrPosition], or say that the journal was written by a
// newer version of this program.
func (r *Reader) TryNext() (Record, Position, error) {
	for {
		seg, next, live, ok := r.j.segmentFrom(r.pos.Segment)
		switch {
		case !ok && r.pos.Segment == 0:
			return Record{}, Position{}, io.EOF // an empty journal
		case !ok:
			return Record{}, Position{}, r.misplaced()
		case seg.number != r.pos.Segment:
			if err := r.enter(seg.number); err != nil {
				return Record{}, Position{}, err
			}
			continue
		}
		if r.pos.Offset < dataStart || r.pos.Offset%frameAlign != 0 || live && r.pos.Offset > seg.end {
			return Record{}, Position{}, r.misplaced()
		}
		if seg.end < 0 {
			end, err := r.j.learnEnd(seg.number, next)
			if err != nil {
				return Record{}, Position{}, err
			}
			seg.end = end
		}
		if r.pos.Offset >= seg.end {
			if next == 0 {
				return Record{}, Position{}, io.EOF
			}
			if err := r.enter(next); err != nil {
				return Record{}, Position{}, err
			}
			continue
		}
		if r.scan == nil {
			if err := r.open(seg); err != nil {
				return Record{}, Position{}, err
			}
			continue // the file may be gone, or all of it be lost
		}
		rec, at, end, err := r.scan.next(r.pos.Offset, seg.end)
		if errors.Is(err, io.EOF) {
			at, end, err = seg.end, seg.end, nil
		}
		if err != nil {
			return Record{}, Position{}, fmt.Errorf("segment %d: %w", seg.number, err)
		}
		if at > r.pos.Offset {
			r.j.report(Damage{From: r.pos, Bytes: at - r.pos.Offset, Cause: Garbled})
		}
		r.pos.Offset = end
		if at < end {
			return rec, Position{seg.number, at}, nil
		}
	}
}

// Since returns a position behind which all records lie that were received at an
// instant or later: the beginning of a segment, so older ones lie behind it too.
// It goes by the clock of receipt, and by the first record of each segment: if the
// clock was ever set back, ask for an instant that much earlier.
func (j *Journal) Since(t time.Time) (Position, error) {
	var before Position
	for n := uint64(0); ; {
		seg, _, _, ok := j.segmentFrom(n)
		if !ok {
			return before, nil
		}
		begin := Position{seg.number, dataStart}
		r := j.NewReader(begin)
		rec, at, err := r.TryNext()
		if err = errors.Join(err, r.Close()); errors.Is(err, io.EOF) {
			return before, nil
		}
		if err != nil {
			return Position{}, err
		}
		if !rec.ReceivedAt.Before(t) {
			return before, nil
		}
		before, n = begin, at.Segment+1 // a segment may hold nothing that can be read
	}
}

// enter moves to the beginning of segment number, and reports what is missing
// on the way there.
func (r *Reader) enter(number uint64) error {
	s, err := openScanner(r.j.opt.Dir, number)
	if errors.Is(err, fs.ErrNotExist) {
		return r.j.drop(number)
	}
	if err != nil {
		return err
	}
	from := r.pos
	h := s.header
	if from.Segment != 0 && h.previous >= from.Segment && !r.j.has(h.previous) {
		if h.previous != from.Segment {
			from = Position{h.previous, dataStart}
		}
		if n := h.previousEnd - from.Offset; n > 0 {
			r.j.report(Damage{From: from, Bytes: n, Cause: Missing})
		}
	}
	_ = r.Close()
	r.scan, r.pos = s, Position{number, dataStart}
	return r.head()
}

// open opens the segment that the reader stands in.
func (r *Reader) open(seg segment) error {
	s, err := openScanner(r.j.opt.Dir, seg.number)
	if errors.Is(err, fs.ErrNotExist) {
		return r.j.drop(seg.number)
	}
	if err != nil {
		return err
	}
	r.scan = s
	return r.head()
}

// head skips a segment that cannot be read for want of its header.
func (r *Reader) head() error {
	if !r.scan.headless {
		return nil
	}
	seg, next, _, _ := r.j.segmentFrom(r.pos.Segment)
	if seg.end < 0 {
		var err error
		if seg.end, err = r.j.learnEnd(seg.number, next); err != nil {
			return err
		}
	}
	r.j.report(headless(seg.number, r.scan, seg.end))
	if r.scan.header.sync == 0 {
		r.pos.Offset = max(r.pos.Offset, seg.end)
	}
	return nil
}

// headless is the damage of a lost header: without the sync word all that
// follows is lost with it.
func headless(number uint64, s *scanner, end int64) Damage {
	d := Damage{From: Position{Segment: number}, Bytes: dataStart, Cause: NoHead}
	if s.header.sync == 0 {
		d.Bytes = max(end, dataStart)
	}
	return d
}

func (r *Reader) misplaced() error {
	return fmt.Errorf("%w: %v, which ends at %v", ErrPosition, r.pos, r.j.End())
}

// segmentFrom returns the first segment numbered n or above, and the number of
// the one behind it (0: none). live: it is being appended to.
func (j *Journal) segmentFrom(n uint64) (s segment, next uint64, live, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i, _ := j.findLocked(n)
	if i == len(j.segments) {
		return segment{}, 0, false, false
	}
	if i+1 < len(j.segments) {
		next = j.segments[i+1].number
	}
	s = j.segments[i]
	return s, next, s.number == j.live, true
}

func (j *Journal) findLocked(n uint64) (int, bool) {
	return slices.BinarySearchFunc(j.segments, n, func(s segment, n uint64) int { return cmp.Compare(s.number, n) })
}

func (j *Journal) has(n uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.findLocked(n)
	return ok
}

// learnEnd finds where the durable records of an earlier life's segment end:
// its successor's header says so. Without that word, its last readable record.
func (j *Journal) learnEnd(number, next uint64) (int64, error) {
	end := int64(-1)
	s, err := openScanner(j.opt.Dir, next)
	switch {
	case err == nil:
		switch {
		case s.headless:
		case s.header.previous == number:
			end = s.header.previousEnd
		case s.header.previous < number:
			end = dataStart // its successor passed it over: nothing in it was ever acknowledged
		}
		err = s.close()
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return 0, err
	}
	if end < 0 {
		var blank bool
		end, blank, err = j.examine(number)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, j.drop(number)
		}
		if err != nil {
			return 0, err
		}
		if !blank {
			st, err := os.Stat(segmentPath(j.opt.Dir, number))
			if err != nil {
				return 0, unavailable(err)
			}
			// Whether this was acknowledged cannot be told: it counts as lost.
			j.report(Damage{From: Position{number, end}, Bytes: st.Size() - end, Cause: Garbled})
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if i, ok := j.findLocked(number); ok && j.segments[i].end < 0 {
		j.segments[i].end = end
	}
	return end, nil
}

// drop forgets a segment whose file is gone, if the directory is still there
// and it is not the last one: readers then go on behind it. Otherwise the disk
// is not what it was, and nothing is skipped.
func (j *Journal) drop(number uint64) error {
	gone := fmt.Errorf("%w: segment %d is gone from %s", ErrUnavailable, number, j.opt.Dir)
	if j.lock != nil {
		held, err1 := j.lock.Stat()
		there, err2 := os.Stat(filepath.Join(j.opt.Dir, lockName))
		if err1 != nil || err2 != nil || !os.SameFile(held, there) {
			return gone
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	i, ok := j.findLocked(number)
	if ok && i == len(j.segments)-1 {
		return gone
	}
	if ok {
		j.segments = slices.Delete(j.segments, i, i+1)
	}
	return nil
}

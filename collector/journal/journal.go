// Package journal is the collector's evidence: an append-only log of records in
// segment files, where "appended" means "durable here". FORMAT.md describes the
// files.
//
// It guarantees:
//
//   - A record whose Append returned without error is on stable storage, is
//     returned by readers exactly once, with equal bytes, in one order that
//     never changes; and so after any crash.
//   - A record whose Append failed is not returned by any reader of this
//     process, nor of a later one, unless the process died before it could
//     begin another segment: then the record may be there. An answer that never
//     came is of this kind: unacknowledged means "may be present".
//   - Readers see durable records only.
//   - What cannot be read is skipped, counted, logged, and kept: nothing is
//     overwritten or wiped.
//
// It rests on a disk that keeps what fdatasync reported as kept, and that does
// not destroy the old half of a sector while it rewrites it with the same bytes.
//
// It refuses a second process on its directory, and never repeats a failed
// fdatasync: the kernel may have dropped the pages and then report success.
// Instead the segment ends at its last durable record and the next Append
// begins another one.
package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/durable"
)

// Errors of [Journal.Append] and the readers; all are wrapped.
var (
	// ErrUnavailable: the disk failed or is full. The same call may succeed
	// later; nothing needs to be restarted.
	ErrUnavailable = errors.New("journal: disk unavailable")
	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal: closed")
	// ErrReadOnly: the journal was opened read-only.
	ErrReadOnly = errors.New("journal: open read-only")
)

func unavailable(err error) error { return fmt.Errorf("%w: %w", ErrUnavailable, err) }

// Options configure [Open]. Only Dir is required.
type Options struct {
	// Dir holds the segments and nothing else; it is created.
	Dir string
	// SegmentBytes is where the journal rolls to the next segment: 64 KiB or
	// more, by default 64 MiB. A record above it gets a segment of its own.
	SegmentBytes int64
	// MaxRecordBytes bounds one record with its frame: at most 64 MiB, by
	// default 16 MiB.
	MaxRecordBytes int
	// Linger is how long the first waiting record waits for company before the
	// commit, by default 2 ms; negative: not at all. Many waiting records do
	// not wait.
	Linger time.Duration
	// ReadOnly opens what is there for readers only, without the lock, so also
	// beside the process that writes. Its End is that of the moment of Open, and
	// its last records may not be durable yet.
	ReadOnly   bool
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none

	create createFunc // the failing disk's seam
}

const (
	defaultSegment   = 64 << 20
	minSegment       = 64 << 10
	defaultMaxRecord = 16 << 20
	defaultLinger    = 2 * time.Millisecond
)

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, errors.New("journal: no directory")
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = defaultSegment
	}
	if o.SegmentBytes < minSegment {
		return o, fmt.Errorf("journal: segments of %d bytes, at least %d", o.SegmentBytes, minSegment)
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = defaultMaxRecord
	}
	if o.MaxRecordBytes < frameFixed || o.MaxRecordBytes > maxFrameLength {
		return o, fmt.Errorf("journal: records of up to %d bytes, from %d to %d", o.MaxRecordBytes, frameFixed, maxFrameLength)
	}
	if o.Linger == 0 {
		o.Linger = defaultLinger
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.create == nil {
		o.create = createFile
	}
	return o, nil
}

// Journal is one open directory. Its methods may be called concurrently.
type Journal struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	lock    *os.File // nil: read-only

	mu       sync.Mutex
	segments []segment     // ascending; a new one is listed with its first durable record
	live     uint64        // number of the listed segment that is appended to; 0: none
	changed  chan struct{} // closed at the next change of what is durable
	pending  []*request
	oldest   time.Time // when pending became non-empty
	closed   bool

	wake    chan struct{} // pending became non-empty, or a group's worth
	closing chan struct{}
	stopped chan struct{} // the owner has ended

	owner owner // of the goroutine run alone

	damageMu sync.Mutex
	damages  map[Position]Damage
}

// segment is what all readers share about one file.
type segment struct {
	number uint64
	// end is where the durable records end; -1: written before this Open, and
	// nobody asked yet.
	end int64
}

type request struct {
	record Record
	at     Position
	taken  bool // under Journal.mu: the owner has it, it can no longer be withdrawn
	done   chan error
}

// Open opens or creates the journal in opt.Dir. It reads the last segment to
// find its end: a torn tail, what a crash left of groups never acknowledged, is
// noted and kept, and writing begins in a new segment.
func Open(opt Options) (*Journal, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	j := &Journal{
		opt: opt, log: opt.Logger, damages: make(map[Position]Damage),
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	if !opt.ReadOnly {
		if err := makeDir(opt.Dir); err != nil {
			return nil, err
		}
		if j.lock, err = lockDir(opt.Dir); err != nil {
			return nil, err
		}
	}
	j.metrics, err = newMetrics(opt.Registerer, opt.Dir)
	if err == nil {
		if err = j.load(); err != nil {
			j.metrics.unregister()
		}
	}
	if err != nil {
		if j.lock != nil {
			err = errors.Join(err, j.lock.Close())
		}
		return nil, err
	}
	if opt.ReadOnly {
		close(j.stopped)
	} else {
		go j.run()
	}
	return j, nil
}

// makeDir creates dir durably: its entry in the parent as well.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// load lists the segments and finds the end of the last.
func (j *Journal) load() error {
	numbers, partial, err := listSegments(j.opt.Dir)
	if err != nil {
		return err
	}
	if !j.opt.ReadOnly {
		for _, path := range partial {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	for _, n := range numbers {
		j.segments = append(j.segments, segment{number: n, end: -1})
	}
	if len(numbers) == 0 {
		return nil
	}
	last := &j.segments[len(numbers)-1]
	j.owner.number = last.number
	if !j.opt.ReadOnly {
		// What a killed process wrote may still be in the kernel's memory alone;
		// nobody may read it before it is durable.
		if err := j.settle(last.number); err != nil {
			return fmt.Errorf("journal: segment %d: %w", last.number, err)
		}
	}
	var blank bool
	last.end, blank, err = j.examine(last.number)
	if err != nil {
		return err
	}
	if j.opt.ReadOnly {
		return nil
	}
	path := segmentPath(j.opt.Dir, last.number)
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	switch {
	case blank && st.Size() > last.end:
		// Zeros written ahead, which nothing will follow. Failure costs space only.
		_ = os.Truncate(path, last.end)
	case !blank:
		j.log.Warn("journal has a torn tail: unacknowledged records of a crash; kept, writing goes on in a new segment",
			"from", Position{last.number, last.end}.String(), "bytes", st.Size()-last.end, "dir", j.opt.Dir)
	}
	return nil
}

// settle makes the content of a segment and its name durable.
func (j *Journal) settle(number uint64) error {
	f, err := os.OpenFile(segmentPath(j.opt.Dir, number), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return unavailable(err)
	}
	if err := durable.SyncDir(j.opt.Dir); err != nil {
		return unavailable(err)
	}
	return nil
}

// examine reads a segment whose end is not written anywhere.
func (j *Journal) examine(number uint64) (end int64, blank bool, err error) {
	s, err := openScanner(j.opt.Dir, number)
	if err != nil {
		return 0, false, err
	}
	defer s.close()
	end, blank, err = s.tail(func(from, to int64) {
		j.report(Damage{From: Position{number, from}, Bytes: to - from, Cause: Garbled})
	})
	if err == nil && s.headless {
		// A segment gets its name after its header is durable: this is decay, and
		// how much was acknowledged cannot be told. All of it counts.
		if end, err = s.size(); err == nil {
			j.report(headless(number, s, end))
		}
		blank = true
	}
	return end, blank, err
}

// Append writes r and returns where, once it is durable.
//
// If ctx ends while the record waits for its group, it is withdrawn: the error
// is ctx's and the record is certainly not in the journal. If its group is
// already being written, Append waits for the outcome and tells it, whatever
// ctx says: neither success nor failure is ever made up.
//
// Errors: [ErrInvalid], [ErrTooLarge] (the same record will never do),
// [ErrUnavailable] (later it may), [ErrClosed], [ErrReadOnly], ctx's. r's bytes
// must not change until Append returns.
func (j *Journal) Append(ctx context.Context, r Record) (Position, error) {
	if j.opt.ReadOnly {
		return Position{}, ErrReadOnly
	}
	if err := r.check(j.opt.MaxRecordBytes); err != nil {
		return Position{}, err
	}
	if err := ctx.Err(); err != nil {
		return Position{}, err
	}
	q := &request{record: r, done: make(chan error, 1)}
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return Position{}, ErrClosed
	}
	j.pending = append(j.pending, q)
	n := len(j.pending)
	if n == 1 {
		j.oldest = time.Now()
	}
	j.mu.Unlock()
	if n == 1 || n == groupEnough {
		select {
		case j.wake <- struct{}{}:
		default:
		}
	}
	select {
	case err := <-q.done:
		return q.at, err
	case <-ctx.Done():
	}
	if j.withdraw(q) {
		return Position{}, ctx.Err()
	}
	err := <-q.done
	return q.at, err
}

// withdraw takes q back unless the owner has it.
func (j *Journal) withdraw(q *request) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if q.taken {
		return false
	}
	j.pending = slices.DeleteFunc(j.pending, func(p *request) bool { return p == q })
	return true
}

// End is behind the last durable record: where a reader that wants only what is
// new begins. It is the zero Position for a journal that has no segment.
func (j *Journal) End() Position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.endLocked()
}

func (j *Journal) endLocked() Position {
	if len(j.segments) == 0 {
		return Position{}
	}
	last := j.segments[len(j.segments)-1]
	return Position{last.number, last.end}
}

// Close commits what waits, ends the owner, and gives the directory free.
// Readers still return what is durable, then [ErrClosed].
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		<-j.stopped
		return nil
	}
	j.closed = true
	close(j.closing)
	j.mu.Unlock()
	<-j.stopped
	j.metrics.unregister()
	if j.lock == nil {
		return nil
	}
	return j.lock.Close()
}

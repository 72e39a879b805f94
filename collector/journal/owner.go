package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/durable"
)

const (
	// groupEnough waiting records are committed at once, without lingering.
	groupEnough = 64
	// groupBytes bounds one write; one larger record is a group of its own.
	groupBytes = 4 << 20
	// growBytes is how far zeros are written ahead of the records.
	growBytes = 4 << 20
	// retryPause is how long a failed disk is left alone. Appends in between
	// fail at once.
	retryPause = 250 * time.Millisecond
)

// segmentFile is the part of *os.File that the owner writes through.
type segmentFile interface {
	WriteAt(b []byte, off int64) (int, error)
	Truncate(size int64) error
	Datasync() error
	Close() error
}

type createFunc func(path string) (segmentFile, error)

type osFile struct{ *os.File }

func (f osFile) Datasync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func createFile(path string) (segmentFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// owner is the state of the one goroutine that writes.
type owner struct {
	file   segmentFile // nil: the next commit begins a segment
	id     segmentID
	end    int64  // behind the last durable record
	zeroed int64  // the file is written up to here
	number uint64 // the highest number ever used
	group  []byte

	failed   error // why the disk is left alone until failedAt+retryPause
	failedAt time.Time
}

// run commits groups until the journal closes.
func (j *Journal) run() {
	defer close(j.stopped)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for closing := false; !closing; {
		select {
		case <-j.wake:
			closing = j.linger(timer)
		case <-j.closing:
			closing = true
		}
		j.commit(j.take())
	}
	if j.owner.file != nil {
		j.seal()
	}
	j.publish(0)
}

// linger waits until the first of the waiting records has waited long enough,
// or there is company enough.
func (j *Journal) linger(timer *time.Timer) (closing bool) {
	for j.opt.Linger > 0 {
		j.mu.Lock()
		n, left := len(j.pending), time.Until(j.oldest.Add(j.opt.Linger))
		j.mu.Unlock()
		if n == 0 || n >= groupEnough || left <= 0 {
			return false
		}
		timer.Reset(left)
		select {
		case <-timer.C:
		case <-j.wake:
		case <-j.closing:
			return true
		}
	}
	return false
}

func (j *Journal) take() []*request {
	j.mu.Lock()
	defer j.mu.Unlock()
	taken := j.pending
	j.pending = nil
	for _, q := range taken {
		q.taken = true
	}
	return taken
}

// commit makes all of them durable, or tells them why not, group by group.
func (j *Journal) commit(waiting []*request) {
	for len(waiting) > 0 {
		n, err := j.commitGroup(waiting)
		for _, q := range waiting[:n] {
			q.done <- err
		}
		waiting = waiting[n:]
	}
}

// commitGroup takes as many as go into one write and reports how many they were.
func (j *Journal) commitGroup(waiting []*request) (n int, err error) {
	w := &j.owner
	if w.file == nil {
		if w.failed != nil && time.Since(w.failedAt) < retryPause {
			return len(waiting), w.failed
		}
		if err := j.begin(); err != nil {
			return len(waiting), j.fail(err)
		}
	}
	w.group = w.group[:0]
	for _, q := range waiting {
		at, size := w.end+int64(len(w.group)), q.record.frameSize()
		if at > dataStart && at+size > j.opt.SegmentBytes || n > 0 && len(w.group)+int(size) > groupBytes {
			break
		}
		q.at = Position{w.id.number, at}
		w.group = appendFrame(w.group, w.id, at, q.record)
		n++
	}
	if n == 0 {
		j.seal() // full: the caller comes again, for the next one
		return 0, nil
	}
	begun := time.Now()
	err = j.write(w.group)
	j.metrics.commit.Observe(time.Since(begun).Seconds())
	if err != nil {
		for _, q := range waiting[:n] {
			q.at = Position{}
		}
		j.seal()
		return n, j.fail(err)
	}
	w.end += int64(len(w.group))
	j.publish(w.id.number)
	for _, q := range waiting[:n] {
		j.metrics.records.WithLabelValues(q.record.Type.String()).Inc()
	}
	j.metrics.bytes.Add(float64(len(w.group)))
	if cap(w.group) > 2*groupBytes {
		w.group = nil
	}
	if w.failed != nil {
		j.log.Info("journal writes again", "dir", j.opt.Dir, "after", time.Since(w.failedAt).String())
		w.failed = nil
	}
	return n, nil
}

// write puts the group behind the last durable record. Any error ends the
// segment.
func (j *Journal) write(group []byte) error {
	w := &j.owner
	need := w.end + int64(len(group))
	for w.zeroed < need {
		if err := w.grow(max(need, min(w.zeroed+growBytes, j.opt.SegmentBytes))); err != nil {
			return err
		}
	}
	if _, err := w.file.WriteAt(group, w.end); err != nil {
		return err
	}
	return w.file.Datasync()
}

// grow writes zeros up to size, so that later an fdatasync has no metadata to
// write: neither the file's size nor its extents change then.
func (w *owner) grow(size int64) error {
	zeros := make([]byte, min(size-w.zeroed, growBytes))
	for w.zeroed < size {
		n, err := w.file.WriteAt(zeros[:min(size-w.zeroed, growBytes)], w.zeroed)
		w.zeroed += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// begin creates the next segment under a passing name, and names it when it is
// durable. It is listed for readers with its first record.
func (j *Journal) begin() (err error) {
	w := &j.owner
	w.number++ // never again, whatever becomes of this one
	previous := j.End()
	h := segmentHeader{
		segmentID: segmentID{number: w.number, sync: 1 + rand.Uint32N(1<<32-1)},
		created:   time.Now(), previous: previous.Segment, previousEnd: previous.Offset,
	}
	path := segmentPath(j.opt.Dir, w.number)
	partial := strings.TrimSuffix(path, segmentSuffix) + partialSuffix
	f, err := j.opt.create(partial)
	if err != nil {
		return err
	}
	next := owner{file: f, id: h.segmentID, end: dataStart, zeroed: dataStart}
	_, err = f.WriteAt(h.head(), 0)
	if err == nil {
		err = next.grow(min(dataStart+growBytes, j.opt.SegmentBytes))
	}
	if err == nil {
		err = f.Datasync()
	}
	if err == nil {
		err = os.Rename(partial, path)
	}
	if err == nil {
		err = durable.SyncDir(j.opt.Dir)
	}
	if err != nil {
		// It holds no record, so it may go; what stays is no harm, only a file.
		_ = f.Close()
		_ = os.Remove(partial)
		_ = os.Remove(path)
		return fmt.Errorf("creating segment %s: %w", filepath.Base(path), err)
	}
	w.file, w.id, w.end, w.zeroed = next.file, next.id, next.end, next.zeroed
	return nil
}

// seal ends the segment at its last durable record. Cutting off what lies
// behind (zeros, or a group that failed and was told so) gives space back; it
// may fail, for the next segment's header says where this one ends.
func (j *Journal) seal() {
	w := &j.owner
	_ = w.file.Truncate(w.end)
	_ = w.file.Close()
	w.file = nil
	if w.end == dataStart {
		// No record was ever durable here, so no reader knows of it.
		_ = os.Remove(segmentPath(j.opt.Dir, w.id.number))
	}
}

// fail notes a failed disk; it is logged when it begins, not for every group.
func (j *Journal) fail(err error) error {
	w := &j.owner
	j.metrics.errors.Inc()
	if w.failed == nil {
		j.log.Error("journal cannot write; appends fail until the disk is well", "err", err, "dir", j.opt.Dir)
	}
	w.failed, w.failedAt = unavailable(err), time.Now()
	return w.failed
}

// publish tells readers what is durable. live is 0 when the owner ends.
func (j *Journal) publish(live uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.live = live
	if live != 0 {
		if n := len(j.segments); n > 0 && j.segments[n-1].number == live {
			j.segments[n-1].end = j.owner.end
		} else {
			j.segments = append(j.segments, segment{number: live, end: j.owner.end})
		}
	}
	close(j.changed)
	j.changed = make(chan struct{})
}

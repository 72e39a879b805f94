package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The head of a segment file; see FORMAT.md. It stands twice, in two blocks of
// the disk, so that one bad block does not cost the segment.
const (
	headerMagic   = "PANTAUJL"
	headerVersion = 1
	headerBytes   = 64
	headerCopy    = 4096 // where the second copy begins
	dataStart     = 8192 // where the first record begins

	segmentSuffix = ".seg"
	partialSuffix = ".tmp" // a segment that was never finished: it holds no record
)

// segmentID is what a frame needs to know of its segment.
type segmentID struct {
	number uint64
	sync   uint32 // never 0
}

type segmentHeader struct {
	segmentID
	created time.Time
	// previous and previousEnd say which segment came before and where its
	// durable records end; what lies behind was never acknowledged. previous is
	// 0 for the first.
	previous    uint64
	previousEnd int64
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, segmentSuffix))
}

// listSegments returns the numbers in ascending order, and the paths of
// unfinished segments.
func listSegments(dir string) (numbers []uint64, partial []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		digits, suffix, _ := strings.Cut(e.Name(), ".")
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || len(digits) != 16 || n == 0 {
			continue
		}
		switch "." + suffix {
		case segmentSuffix:
			numbers = append(numbers, n)
		case partialSuffix:
			partial = append(partial, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortFunc(numbers, cmp.Compare)
	return numbers, partial, nil
}

// head is the first dataStart bytes of the segment's file.
func (h segmentHeader) head() []byte {
	b := make([]byte, dataStart)
	copy(b, headerMagic)
	binary.LittleEndian.PutUint32(b[8:], headerVersion)
	binary.LittleEndian.PutUint64(b[16:], h.number)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.created.UnixNano()))
	binary.LittleEndian.PutUint32(b[32:], h.sync)
	binary.LittleEndian.PutUint64(b[40:], h.previous)
	binary.LittleEndian.PutUint64(b[48:], uint64(h.previousEnd))
	binary.LittleEndian.PutUint32(b[12:], headerCRC(b[:headerBytes]))
	copy(b[headerCopy:], b[:headerBytes])
	return b
}

func headerCRC(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:12], castagnoli), castagnoli, b[16:headerBytes])
}

// errNoHeader: neither copy of the header is intact.
var errNoHeader = errors.New("journal: segment header unreadable")

func readHeader(f io.ReaderAt, number uint64) (segmentHeader, error) {
	head := make([]byte, dataStart)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return segmentHeader{}, unavailable(err)
	}
	for _, at := range []int{0, headerCopy} {
		if at+headerBytes > n {
			break
		}
		h, ok, err := parseHeader(head[at : at+headerBytes])
		if err != nil {
			return segmentHeader{}, fmt.Errorf("segment %d: %w", number, err)
		}
		if ok && h.number == number {
			return h, nil
		}
	}
	return segmentHeader{}, errNoHeader
}

func parseHeader(b []byte) (h segmentHeader, ok bool, err error) {
	if string(b[:8]) != headerMagic || binary.LittleEndian.Uint32(b[12:]) != headerCRC(b) {
		return h, false, nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != headerVersion {
		return h, false, fmt.Errorf("%w (segment version %d)", errNewer, v)
	}
	h.number = binary.LittleEndian.Uint64(b[16:])
	h.created = time.Unix(0, int64(binary.LittleEndian.Uint64(b[24:]))).UTC()
	h.sync = binary.LittleEndian.Uint32(b[32:])
	h.previous = binary.LittleEndian.Uint64(b[40:])
	h.previousEnd = int64(binary.LittleEndian.Uint64(b[48:]))
	return h, h.sync != 0 && h.previousEnd >= 0, nil
}

// scanner reads the records of one segment file. It holds a window of the file;
// limits passed to it never lie beyond what is durable, so the window is never
// stale.
type scanner struct {
	file   *os.File
	header segmentHeader
	// headless: no header was readable; sync is that of the first record, or 0
	// if that is unreadable as well.
	headless bool
	buf      []byte
	base     int64 // offset of buf[0]
}

const (
	scanWindow  = 256 << 10
	keptWindow  = 1 << 20 // a window that a large record has blown up is let go above this
	blankWindow = 64 << 10
)

// openScanner opens segment number for reading. fs.ErrNotExist passes through.
func openScanner(dir string, number uint64) (*scanner, error) {
	f, err := os.Open(segmentPath(dir, number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, unavailable(err)
	}
	s := &scanner{file: f}
	s.header, err = readHeader(f, number)
	if errors.Is(err, errNoHeader) {
		err = s.adopt(number)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// adopt reads a segment whose header is lost: its sync word stands at the head
// of its first record, and that record's CRC vouches for it.
func (s *scanner) adopt(number uint64) error {
	s.headless = true
	size, err := s.size()
	if err != nil {
		return err
	}
	b, err := s.bytes(dataStart, 4, size)
	if err != nil || len(b) < 4 {
		return err
	}
	s.header.segmentID = segmentID{number: number, sync: binary.LittleEndian.Uint32(b)}
	if _, _, intact, err := s.frame(dataStart, size); err != nil && !intact {
		return err
	} else if !intact {
		s.header.sync = 0
	}
	return nil
}

func (s *scanner) close() error { return s.file.Close() }

func (s *scanner) size() (int64, error) {
	st, err := s.file.Stat()
	if err != nil {
		return 0, unavailable(err)
	}
	return st.Size(), nil
}

// bytes returns up to n bytes from off, fewer at limit or at the end of the
// file, valid until the next call.
func (s *scanner) bytes(off int64, n int, limit int64) ([]byte, error) {
	n = int(min(int64(n), limit-off))
	if n <= 0 {
		return nil, nil
	}
	if i := off - s.base; i >= 0 && i+int64(n) <= int64(len(s.buf)) {
		return s.buf[i : i+int64(n)], nil
	}
	want := int(min(max(int64(n), scanWindow), limit-off))
	if cap(s.buf) < want || cap(s.buf) > keptWindow && want <= scanWindow {
		s.buf = make([]byte, max(want, scanWindow))
	}
	s.buf = s.buf[:want]
	got, err := s.file.ReadAt(s.buf, off)
	s.buf, s.base = s.buf[:got], off
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, unavailable(err)
	}
	return s.buf[:min(n, got)], nil
}

// frame reads the record at off, if an intact one is there.
func (s *scanner) frame(off, limit int64) (r Record, next int64, intact bool, err error) {
	if s.header.sync == 0 {
		return r, 0, false, nil
	}
	fixed, err := s.bytes(off, frameFixed, limit)
	if err != nil {
		return r, 0, false, err
	}
	length, ok := frameLength(fixed, s.header.segmentID)
	size := frameCovered + int64(length)
	next = off + align(size)
	if !ok || next > limit {
		return r, 0, false, nil
	}
	b, err := s.bytes(off, int(size), limit)
	if err != nil {
		return r, 0, false, err
	}
	r, intact, err = decodeFrame(b, s.header.segmentID, off)
	return r, next, intact, err
}

// next returns the first readable record in [off, limit): it begins at at and
// ends at end. What lies before at is damage. Without any it returns io.EOF.
// [errNewer] stops it: what an older program cannot read is not damage.
func (s *scanner) next(off, limit int64) (r Record, at, end int64, err error) {
	for at = off; ; {
		r, end, intact, err := s.frame(at, limit)
		if intact && err == nil {
			return r, at, end, nil
		}
		if err != nil && !errors.Is(err, errMalformed) {
			return Record{}, at, 0, err
		}
		if at, err = s.search(at+frameAlign, limit); err != nil {
			return Record{}, 0, 0, err
		}
	}
}

// search returns the next place from off at which a record could begin.
func (s *scanner) search(off, limit int64) (int64, error) {
	if s.header.sync == 0 {
		return 0, io.EOF
	}
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], s.header.sync)
	for off+frameFixed <= limit {
		b, err := s.bytes(off, scanWindow, limit)
		if err != nil {
			return 0, err
		}
		if len(b) < frameFixed {
			break
		}
		for i := 0; i+4 <= len(b); {
			j := bytes.Index(b[i:], word[:])
			if j < 0 {
				break
			}
			if i += j; i%frameAlign == 0 {
				return off + int64(i), nil
			}
			i++
		}
		off += int64(len(b)) &^ (frameAlign - 1)
	}
	return 0, io.EOF
}

// tail finds where the records of a segment end that no header of a successor
// speaks of: behind the last readable one. blank says whether only zeros, or
// nothing, follow. gap is told of damage between records.
func (s *scanner) tail(gap func(from, to int64)) (end int64, blank bool, err error) {
	size, err := s.size()
	if err != nil {
		return 0, false, err
	}
	end = dataStart
	for {
		_, at, next, err := s.next(end, size)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, false, err
		}
		if at > end {
			gap(end, at)
		}
		end = next
	}
	for off := end; off < size; {
		b, err := s.bytes(off, blankWindow, size)
		if err != nil {
			return 0, false, err
		}
		if len(b) == 0 {
			break
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return end, false, nil
		}
		off += int64(len(b))
	}
	return end, true, nil
}

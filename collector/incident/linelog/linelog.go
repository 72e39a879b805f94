// Package linelog is a small durable log: one JSON object a line, each sealed
// with its checksum, only ever appended to.
//
// It guarantees that an object whose Append returned without error is on stable
// storage and is read again, after a crash too, with equal bytes and in order;
// and that what cannot be read any more is skipped, reported and kept. Half a
// line at the end was never acknowledged: it is cut.
//
// It refuses a second process on its file, and never repeats a failed fsync: the
// kernel may have dropped the pages and then report success.
package linelog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/durable"
)

// MaxLine bounds one line in bytes, and so the memory of reading one.
const MaxLine = 64 << 20

// Errors that say why a line cannot be read, or why none can be written.
var (
	// ErrDamaged: the bytes are not those that were written.
	ErrDamaged = errors.New("linelog: damaged line")
	// ErrBroken: the disk left it unknown what is durable. Open the log again once
	// the disk is well.
	ErrBroken = errors.New("linelog: the disk failed while writing")
)

// castagnoli is RFC 3720's CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The last member of each line is the checksum of the object without it, so that
// a line is still a JSON object to every other tool.
const (
	sealFormat = `,"crc32c":"%08x"}` + "\n"
	sealLength = len(`,"crc32c":"00000000"}` + "\n")
)

func seal(object []byte) ([]byte, error) {
	n := len(object)
	if n < 3 || object[0] != '{' || object[n-1] != '}' || bytes.IndexByte(object, '\n') >= 0 {
		return nil, errors.New("linelog: no JSON object with members on one line")
	}
	if n+sealLength > MaxLine {
		return nil, fmt.Errorf("linelog: an object of %d bytes, at most %d", n, MaxLine-sealLength)
	}
	line := append(make([]byte, 0, n+sealLength), object[:n-1]...)
	return fmt.Appendf(line, sealFormat, crc32.Checksum(object, castagnoli)), nil
}

func unseal(line []byte) ([]byte, error) {
	n := len(line) - sealLength
	if n < 2 {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrDamaged, len(line))
	}
	object := append(bytes.Clone(line[:n]), '}')
	if string(line[n:]) != fmt.Sprintf(sealFormat, crc32.Checksum(object, castagnoli)) {
		return nil, fmt.Errorf("%w: wrong checksum", ErrDamaged)
	}
	return object, nil
}

// Visit is told of each whole line: where it begins, in bytes, and the object,
// which it may keep; or why it cannot be read (wraps ErrDamaged).
type Visit func(offset int64, object []byte, err error)

// Scan reads lines from r until its end and returns where the last whole line
// ends, in bytes. The error is r's.
func Scan(r io.Reader, visit Visit) (end int64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	var length int64
	for {
		part, err := in.ReadSlice('\n')
		length += int64(len(part))
		if length <= MaxLine {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			return end, nil
		case err != nil:
			return end, err
		}
		if length > MaxLine {
			visit(end, nil, fmt.Errorf("%w: %d bytes, at most %d", ErrDamaged, length, MaxLine))
		} else {
			object, err := unseal(line)
			visit(end, object, err)
		}
		end += length
		length, line = 0, line[:0]
	}
}

// Log is an open log. Its methods must not be called concurrently, but for Read.
type Log struct {
	file   *os.File
	end    int64
	broken error
}

// Open locks the file, makes it (mode 0600) if there is none, and shows visit all
// its lines. torn is how many bytes of a line that was never acknowledged were
// cut off the end.
func Open(path string, visit Visit) (l *Log, torn int64, err error) {
	_, err = os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, 0, fmt.Errorf("%s is in use: another collector runs on this directory (%w)", path, err)
	}
	if fresh {
		if err := durable.SyncDir(filepath.Dir(path)); err != nil {
			return nil, 0, err
		}
	}
	l = &Log{file: f}
	if l.end, err = Scan(f, visit); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if torn = info.Size() - l.end; torn > 0 {
		if err := f.Truncate(l.end); err != nil {
			return nil, 0, err
		}
	}
	// What a killed process wrote may be in the kernel's memory alone.
	return l, torn, f.Sync()
}

// Append makes objects durable, all with one fsync, and returns where each
// begins. After an error none of them counts as written: the call may be
// repeated, unless the error wraps ErrBroken.
func (l *Log) Append(objects ...[]byte) ([]int64, error) {
	if l.broken != nil {
		return nil, l.broken
	}
	var lines []byte
	offsets := make([]int64, 0, len(objects))
	for _, o := range objects {
		line, err := seal(o)
		if err != nil {
			return nil, err
		}
		offsets = append(offsets, l.end+int64(len(lines)))
		lines = append(lines, line...)
	}
	if _, err := l.file.WriteAt(lines, l.end); err != nil {
		if cut := l.file.Truncate(l.end); cut != nil {
			l.broken = fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, cut))
			return nil, l.broken
		}
		return nil, err
	}
	if err := l.file.Sync(); err != nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
		return nil, l.broken
	}
	l.end += int64(len(lines))
	return offsets, nil
}

// Read returns the object of the line that begins at an offset. It may be called
// at any time before Close.
func (l *Log) Read(offset int64) ([]byte, error) {
	in := bufio.NewReader(io.LimitReader(io.NewSectionReader(l.file, offset, MaxLine), MaxLine))
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: at %d: %w", ErrDamaged, offset, err)
	}
	return unseal(line)
}

// Close gives the file back. It may be called more than once.
func (l *Log) Close() error {
	if errors.Is(l.broken, os.ErrClosed) {
		return nil
	}
	l.broken = fmt.Errorf("linelog: %w", os.ErrClosed)
	return l.file.Close()
}

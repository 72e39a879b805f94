package registry

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/durable"
	"github.com/pantau-desa/pantau/probe/measure"
)

// eventFile holds all changes of keys, one JSON object a line, oldest first. It
// is only ever appended to: who had which key when is evidence. The last member
// of each object, "crc32c", is that of the object without it: a key with a
// flipped bit would else silence a probe and pass for its history.
const eventFile = "probes.jsonl"

// The events.
const (
	eventClaim  = "claim"  // a code was made; an open one is void
	eventEnrol  = "enrol"  // the open code was used; an older key ends
	eventRevoke = "revoke" // the key and the open code end
)

type event struct {
	At    time.Time       `json:"at"`
	Event string          `json:"event"`
	Probe measure.ProbeID `json:"probe"`
	// Of a claim.
	Site    measure.SiteID `json:"site,omitempty"`
	Secret  []byte         `json:"secret_sha256,omitempty"`
	Expires time.Time      `json:"expires,omitzero"`
	// Of an enrolment.
	PublicKey    []byte `json:"public_key,omitempty"`
	HeartbeatKey []byte `json:"heartbeat_key,omitempty"`
}

// maxLine bounds one event, in bytes.
const maxLine = 4096

const sumFormat = `,"crc32c":"%08x"}` + "\n"

const sumLength = len(`,"crc32c":"00000000"}` + "\n")

// castagnoli is RFC 3720's CRC-32C, as in the journal.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is e as it stands in the file.
func (e event) line() ([]byte, error) {
	object, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	line := fmt.Appendf(object[:len(object)-1:len(object)-1], sumFormat, crc32.Checksum(object, castagnoli))
	if len(line) > maxLine {
		return nil, fmt.Errorf("an event of %d bytes, at most %d", len(line), maxLine)
	}
	return line, nil
}

func parseLine(line []byte) (e event, err error) {
	n := len(line) - sumLength
	if n < 0 {
		return e, errors.New("no event")
	}
	object := append(line[:n:n], '}')
	if string(line[n:]) != fmt.Sprintf(sumFormat, crc32.Checksum(object, castagnoli)) {
		return e, errors.New("its bytes are not what was written (checksum)")
	}
	return e, json.Unmarshal(object, &e)
}

type eventLog struct {
	file *os.File
	end  int64 // where the durable events end
	// broken is set when the disk left it unknown what is durable. A failed fsync
	// is never repeated: the kernel may have dropped the page and then report
	// success.
	broken error
}

// openLog locks and reads the log and calls each for its events. What a crash
// left of an event that was never acknowledged, a line without an end, is cut.
func openLog(path string, log *slog.Logger, each func(event) error) (*eventLog, error) {
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &eventLog{file: f}
	if err := l.open(path, fresh, log, each); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (l *eventLog) open(path string, fresh bool, log *slog.Logger, each func(event) error) error {
	if err := private(l.file); err != nil {
		return err
	}
	if err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%s is in use: another collector runs on this directory (%w)", path, err)
	}
	if fresh {
		if err := durable.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	var err error
	if l.end, err = scan(l.file, path, each); err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if torn := info.Size() - l.end; torn > 0 {
		log.Warn("the registry ends in half an event, left by a crash and never acknowledged: cut", "file", path, "bytes", torn)
		if err := l.file.Truncate(l.end); err != nil {
			return err
		}
	}
	return l.file.Sync() // what a killed process wrote may be in the kernel's memory alone
}

// readLog reads the log without a lock.
func readLog(path string, each func(event) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = scan(f, path, each)
	return errors.Join(err, f.Close())
}

// scan reads whole lines and returns where the last one ends.
func scan(f io.Reader, path string, each func(event) error) (end int64, err error) {
	in := bufio.NewReaderSize(f, maxLine)
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			return end, nil
		}
		if err == nil {
			var e event
			if e, err = parseLine(line); err == nil {
				err = each(e)
			}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			err = fmt.Errorf("longer than %d bytes", maxLine)
		}
		if err != nil {
			return 0, fmt.Errorf("%s, line %d: %w; restore the file from a backup", path, number, err)
		}
		end += int64(len(line))
	}
}

// append makes e durable. After an error it is not in the log, unless the disk
// itself cannot tell: then nothing is appended until the log is opened again.
func (l *eventLog) append(e event) error {
	if l.broken != nil {
		return fmt.Errorf("restart the collector once the disk is well: %w", l.broken)
	}
	line, err := e.line()
	if err != nil {
		return err
	}
	if _, err := l.file.WriteAt(line, l.end); err != nil {
		if cut := l.file.Truncate(l.end); cut != nil {
			l.broken = errors.Join(err, cut)
		}
		return err
	}
	if err := l.file.Sync(); err != nil {
		l.broken = err
		return err
	}
	l.end += int64(len(line))
	return nil
}

// close may be called more than once.
func (l *eventLog) close() error {
	if errors.Is(l.broken, os.ErrClosed) {
		return nil
	}
	l.broken = os.ErrClosed
	return l.file.Close()
}

// errExposed says that others may read a file of secrets.
var errExposed = errors.New("the file holds secrets that others may read")

// private refuses such a file.
func private(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w (mode %04o): chmod 600 %s", errExposed, mode, f.Name())
	}
	return nil
}

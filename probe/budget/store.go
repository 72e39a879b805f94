package budget

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// state is what is on disk.
type state struct {
	// Months are what has been charged to each, the one that is spent from first.
	Months []charge `json:"months"`
	// Fresh says that the past of the first month is not known.
	Fresh bool `json:"fresh,omitempty"`
	// At is the last vouched time of a write; zero: none.
	At time.Time `json:"at,omitzero"`
	// Light is what is moved beside tests, in bytes per second; 0: not known.
	Light float64 `json:"light_bytes_per_second"`
	// Costs are those of the last tests, in bytes, the latest last.
	Costs []uint64 `json:"test_bytes,omitempty"`
	// Test is when the last test began, Full when the last of full length did.
	Test time.Time `json:"last_test,omitzero"`
	Full time.Time `json:"last_full,omitzero"`
}

// charge is what was set down for a month in bytes: never less than was spent.
type charge struct {
	Month Month  `json:"month"`
	Bytes uint64 `json:"charged_bytes"`
}

const (
	maxMonths = 4
	maxCosts  = 8
	maxFile   = 16 << 10
	// maxBytes is more than any line carries in a month: an exabyte.
	maxBytes = 1e18
	// maxLight is more than any line's light instruments: 1 Gbit/s.
	maxLight = 125e6
)

func (s state) check() error {
	if n := len(s.Months); n == 0 || n > maxMonths {
		return fmt.Errorf("%d months", n)
	}
	for i, m := range s.Months {
		if m.Bytes > maxBytes {
			return fmt.Errorf("%d bytes in %s", m.Bytes, m.Month)
		}
		for _, other := range s.Months[:i] {
			if other.Month == m.Month {
				return fmt.Errorf("%s twice", m.Month)
			}
		}
	}
	if len(s.Costs) > maxCosts {
		return fmt.Errorf("%d tests", len(s.Costs))
	}
	for _, c := range s.Costs {
		if c == 0 || c > maxBytes {
			return fmt.Errorf("a test of %d bytes", c)
		}
	}
	if !(s.Light >= 0 && s.Light <= maxLight) {
		return fmt.Errorf("%v bytes per second", s.Light)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode writes JSON in one line and its CRC-32C in a second.
func encode(s state) ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	return appendSum(raw), nil
}

func appendSum(raw []byte) []byte {
	return fmt.Appendf(raw, "\n%08x\n", crc32.Checksum(raw, castagnoli))
}

// decode takes what encode wrote, whole.
func decode(data []byte) (state, error) {
	raw, sum, ok := bytes.Cut(data, []byte("\n"))
	if !ok || string(sum) != fmt.Sprintf("%08x\n", crc32.Checksum(raw, castagnoli)) {
		return state{}, errors.New("the checksum does not fit")
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, err
	}
	return s, s.check()
}

// errMissing says that there is no file.
var errMissing = errors.New("there is none")

func load(file string) (state, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, errMissing
	}
	if err != nil {
		return state{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return state{}, err
	}
	return decode(data)
}

// save replaces the file: it is on disk, whole, when save returns.
func save(file string, s state) error {
	data, err := encode(s)
	if err != nil {
		return err
	}
	tmp := file + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, file); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// The bbolt file: bucket "batches", and bucket "meta" with the format and the
// journal position up to which the entries are complete.
//
// Key, 40 bytes: probe padded with zeros to 16, epoch 16, seq u64, big endian.
// Value, 60 bytes: digest 32, received_at i64 ns, segment u64, offset i64,
// CRC-32C u32 of key and value, because bbolt has no checksum of its data.
//
// An entry takes 116 bytes with bbolt's element header, in pages that are half
// to three quarters full: measured 200 to 235 bytes of file for each entry, with
// the batches of 20,000 probes arriving in turn up to 60 each. So 10 million
// entries are about 2.3 GB, four levels of pages deep. (Splitting pages at 90%
// was measured too, and is worse, up to 357 bytes: a probe's batches grow in the
// middle of a page, between its neighbours'.)
//
// Sorted by probe, epoch, seq, a probe's batches lie side by side: a commit
// touches about one leaf for each probe in it, at 84,000 probes and a batch every
// five minutes 560 leaves (2.3 MB) every two seconds, and after an outage, with
// many batches of each probe, far fewer leaves than entries. A lookup reads one
// leaf, which is in the page cache for every probe heard lately. Hashed keys
// would be smaller and scatter every entry. Nothing is ever dropped.
const (
	formatName = "pantau batch index 1"
	keyBytes   = measure.MaxProbeID + 16 + 8
	valueBytes = 32 + 8 + 8 + 8 + 4
	lockWait   = time.Second
	minFile    = 4 * 4096 // bbolt writes two meta pages, a freelist, a leaf at once
)

func batchesBucket() []byte { return []byte("batches") }
func metaBucket() []byte    { return []byte("meta") }
func formatKey() []byte     { return []byte("format") }
func cursorKey() []byte     { return []byte("cursor") }

// errUnreadable: the file's content is not what was written. It can be rebuilt.
var errUnreadable = errors.New("index file unreadable")

func (k Key) check() error {
	if n := len(k.Probe); n == 0 || n > measure.MaxProbeID || strings.ContainsRune(string(k.Probe), 0) {
		return fmt.Errorf("%w: probe %q", ErrInvalid, k.Probe)
	}
	return nil
}

func (k Key) encode() []byte {
	b := make([]byte, keyBytes)
	copy(b, k.Probe)
	copy(b[measure.MaxProbeID:], k.Epoch[:])
	binary.BigEndian.PutUint64(b[keyBytes-8:], k.Seq)
	return b
}

func (e Entry) encode(key []byte) []byte {
	b := make([]byte, 0, valueBytes)
	b = append(b, e.Digest[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(e.ReceivedAt.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, e.Position.Segment)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Position.Offset))
	return binary.BigEndian.AppendUint32(b, entryCRC(key, b))
}

func decodeEntry(key, b []byte) (Entry, error) {
	if len(b) != valueBytes || binary.BigEndian.Uint32(b[valueBytes-4:]) != entryCRC(key, b[:valueBytes-4]) {
		return Entry{}, fmt.Errorf("%w: an entry's checksum is wrong", errUnreadable)
	}
	return Entry{
		Digest:     wire.Digest(b[:32]),
		ReceivedAt: time.Unix(0, int64(binary.BigEndian.Uint64(b[32:]))).UTC(),
		Position:   journal.Position{Segment: binary.BigEndian.Uint64(b[40:]), Offset: int64(binary.BigEndian.Uint64(b[48:]))},
	}, nil
}

func entryCRC(key, value []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the library
	return crc32.Update(crc32.Checksum(key, table), table, value)
}

// store is the file. Its methods may be called concurrently.
type store struct {
	path string
	mu   sync.RWMutex // for reading: db is in use; for writing: it is exchanged
	db   *bolt.DB
}

// open opens or creates the file and returns its cursor.
func (s *store) open() (cursor journal.Position, err error) {
	if err := s.close(); err != nil {
		return cursor, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st, err := os.Stat(s.path); err == nil && st.Size() > 0 && st.Size() < minFile {
		return cursor, fmt.Errorf("%w: %d bytes", errUnreadable, st.Size())
	}
	err = guard(func() error {
		db, err := bolt.Open(s.path, 0o640, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
		if errors.Is(err, berrors.ErrTimeout) {
			return fmt.Errorf("index: %s is open in another process", s.path)
		}
		if err != nil {
			return err
		}
		if cursor, err = prepare(db, s.path); err != nil {
			return errors.Join(err, db.Close())
		}
		s.db = db
		return nil
	})
	return cursor, err
}

// prepare checks the buckets of an old file, and changes nothing in it; it makes
// those of a new one.
func prepare(db *bolt.DB, path string) (cursor journal.Position, err error) {
	fresh := false
	err = db.View(func(tx *bolt.Tx) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if st.Size() < tx.Size() {
			return fmt.Errorf("%w: %d of %d bytes", errUnreadable, st.Size(), tx.Size())
		}
		meta, batches := tx.Bucket(metaBucket()), tx.Bucket(batchesBucket())
		if fresh = meta == nil && batches == nil; fresh {
			return nil
		}
		if meta == nil || batches == nil || string(meta.Get(formatKey())) != formatName {
			return fmt.Errorf("%w: not of the format %q", errUnreadable, formatName)
		}
		if err := cursor.UnmarshalText(meta.Get(cursorKey())); err != nil {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		return nil
	})
	if err != nil || !fresh {
		return cursor, err
	}
	return cursor, db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket(batchesBucket()); err != nil {
			return err
		}
		meta, err := tx.CreateBucket(metaBucket())
		if err != nil {
			return err
		}
		if err := meta.Put(formatKey(), []byte(formatName)); err != nil {
			return err
		}
		return putCursor(meta, cursor)
	})
}

func putCursor(meta *bolt.Bucket, at journal.Position) error {
	b, err := at.MarshalText()
	if err != nil {
		return err
	}
	return meta.Put(cursorKey(), b)
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db == nil {
		return nil
	}
	db := s.db
	s.db = nil
	return guard(db.Close)
}

// setAside renames the file to one that is kept, and returns its name.
func (s *store) setAside() (kept string, err error) {
	_ = s.close() // it is of no use, however it closes
	for n := 1; ; n++ {
		kept = fmt.Sprintf("%s.unreadable-%d", s.path, n)
		if _, err := os.Lstat(kept); errors.Is(err, fs.ErrNotExist) {
			return filepath.Base(kept), os.Rename(s.path, kept)
		} else if err != nil {
			return "", err
		}
	}
}

func (s *store) get(key Key) (e Entry, found bool, err error) {
	k := key.encode()
	err = s.use(func(db *bolt.DB) error {
		return db.View(func(tx *bolt.Tx) error {
			v := tx.Bucket(batchesBucket()).Get(k)
			if v == nil {
				return nil
			}
			found = true
			e, err = decodeEntry(k, v)
			return err
		})
	})
	return e, found && err == nil, err
}

// put writes the entries and the cursor, or nothing. The first entry of a key
// stays.
func (s *store) put(batch []item, at journal.Position) error {
	type pair struct{ key, value []byte }
	pairs := make([]pair, 0, len(batch))
	for _, it := range batch {
		k := it.key.encode()
		pairs = append(pairs, pair{k, it.entry.encode(k)})
	}
	// In the order of the pages; of equal keys the first record first.
	slices.SortStableFunc(pairs, func(a, b pair) int { return bytes.Compare(a.key, b.key) })
	return s.use(func(db *bolt.DB) error {
		return db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(batchesBucket())
			for _, p := range pairs {
				if b.Get(p.key) != nil {
					continue
				}
				if err := b.Put(p.key, p.value); err != nil {
					return err
				}
			}
			return putCursor(tx.Bucket(metaBucket()), at)
		})
	})
}

func (s *store) use(f func(db *bolt.DB) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.db == nil {
		return errors.New("index file is not open")
	}
	return guard(func() error { return f(s.db) })
}

// guard calls into bbolt. On a file that decayed bbolt panics, or touches memory
// that is mapped beyond the end of the file; both become errUnreadable, as do
// its own words for it. Errors of the system stay what they are.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errUnreadable, p)
		}
	}()
	err = f()
	for _, own := range []error{berrors.ErrInvalid, berrors.ErrVersionMismatch, berrors.ErrChecksum} {
		if errors.Is(err, own) {
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
	}
	return err
}

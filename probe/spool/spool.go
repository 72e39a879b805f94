// Package spool keeps results on a probe's disk until the collector has
// acknowledged them.
//
// It guarantees that an appended result survives a crash of the program or of
// the box (fsync before return), that a torn tail costs only what was being
// written, that a batch, once sealed, never changes a byte, and that every
// result is in exactly one batch. It is bounded: when its share of the disk is
// full the oldest batch is dropped, counted, and the count travels with every
// later batch. It never wipes what it cannot read: that goes to quarantine.
//
// On disk, below its directory:
//
//	head.json            epoch, last sealed seq and digest, counters, last slots
//	open-<seq>.log       results that batch <seq> will hold: {length u32, CRC-32C u32, protobuf}
//	batch-<seq>.zst      a sealed body, exactly as it is sent
//	quarantine/          bodies that the collector refused for good, damaged files
package spool

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Options say where the spool lives and how much it may take.
type Options struct {
	Dir string
	// MaxBytes bounds the sealed batches that wait, in bytes. 0: 256 MiB, about a
	// year of results.
	MaxBytes int64
	// MaxQuarantine bounds the refused bodies that are kept, in files. 0: 100.
	MaxQuarantine int
	Codec         *wire.Codec
	Logger        *slog.Logger
	// NewEpoch makes the identity of a new spool: 16 random bytes.
	NewEpoch func() wire.Epoch
}

// Seal is what a batch says beside its results.
type Seal struct {
	Probe    measure.ProbeID
	At       time.Time // wall clock of the box
	Mono     time.Duration
	Boot     measure.BootID
	Quality  measure.ClockQuality
	Software string
	// Of the month, in bytes; 0: no budget.
	Budget, BudgetSpent uint64
}

// Sealed is one batch on disk.
type Sealed struct {
	Seq    uint64
	Digest wire.Digest
	Body   []byte
}

// Spool is safe for concurrent use.
type Spool struct {
	opt   Options
	log   *slog.Logger
	lock  *os.File
	mu    sync.Mutex
	head  head
	open  *os.File
	pend  []measure.Result // what open holds, in order
	bytes int64            // good length of the open log
	dirty bool             // the head on disk is behind a batch on disk
	wait  map[uint64]int64 // sealed batches by seq: size in bytes
}

// head is what must outlive the batches themselves. Its counters and slots are
// of sealed results only: what is pending is added from the open log, so that a
// restart counts nothing twice.
type head struct {
	Epoch    hexBytes                   `json:"epoch"`
	Seq      uint64                     `json:"last_sealed_seq"`
	Digest   hexBytes                   `json:"last_sealed_digest"`
	Dropped  uint64                     `json:"dropped_batches"`
	Boot     measure.BootID             `json:"counters_boot"`
	Counters map[string]uint64          `json:"counters"` // "kind outcome reason" since Boot
	Slots    map[measure.Kind]time.Time `json:"last_slots"`
}

type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }
func (h *hexBytes) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	*h = b
	return err
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// maxRecord bounds one result on disk: a reach result with hundreds of targets
// stays far below it.
const maxRecord = 1 << 20

// Open reads what is there and makes what is not. One process may hold a spool.
func Open(o Options) (*Spool, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxQuarantine == 0 {
		o.MaxQuarantine = 100
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "quarantine"), 0o700); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(o.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("spool: %s is in use by another pantau-probe: stop that one first", o.Dir)
	}
	s := &Spool{opt: o, log: o.Logger, lock: lock, wait: map[uint64]int64{}}
	if err := s.recover(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("spool: %w", err)
	}
	return s, nil
}

// Close releases the spool. Everything appended is on disk already.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.open != nil {
		err = s.open.Close()
	}
	return errors.Join(err, s.lock.Close())
}

// Epoch is the spool's identity.
func (s *Spool) Epoch() wire.Epoch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Epoch(s.head.Epoch)
}

// Append makes r durable. After an error r is not in the spool; a later Append
// may succeed.
func (s *Spool) Append(r measure.Result) error {
	raw, err := wire.EncodeResult(r)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if len(raw) > maxRecord {
		return fmt.Errorf("spool: a result of %d bytes, at most %d", len(raw), maxRecord)
	}
	rec := binary.LittleEndian.AppendUint32(nil, uint32(len(raw)))
	rec = binary.LittleEndian.AppendUint32(rec, crc32.Checksum(raw, castagnoli))
	rec = append(rec, raw...)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil { // the disk refused a new log before
		if err := s.openLog(s.head.Seq + 1); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	_, err = s.open.WriteAt(rec, s.bytes)
	if err == nil {
		err = s.open.Sync()
	}
	if err != nil {
		// What may have been written is beyond the good length: cut it off, so that
		// a later record never follows half of this one.
		return fmt.Errorf("spool: %w", errors.Join(err, s.open.Truncate(s.bytes)))
	}
	s.bytes += int64(len(rec))
	s.pend = append(s.pend, r)
	return nil
}

// Pending is the number of results that no batch holds yet.
func (s *Spool) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pend)
}

// LastSlot is the event time, by the box's clock, of the result of kind that was
// appended last; zero if there is none.
func (s *Spool) LastSlot(k measure.Kind) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.with(s.pend).Slots[k]
}

// Counters are the cumulative numbers of results since the boot of the latest.
func (s *Spool) Counters() []wire.Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.with(s.pend).counters()
}

// Seal turns what is pending into a batch. It returns false if nothing is.
func (s *Spool) Seal(by Seal) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pend) == 0 {
		return false, nil
	}
	n := min(len(s.pend), wire.MaxResults)
	b := wire.Batch{Probe: by.Probe, Epoch: wire.Epoch(s.head.Epoch), Seq: s.head.Seq + 1,
		Boot: by.Boot, SealedAt: by.At, SealedMono: by.Mono, Quality: by.Quality, Software: by.Software,
		Results: s.pend[:n], SpoolBytes: uint64(s.waiting()), SpoolDropped: s.head.Dropped,
		Budget: by.Budget, BudgetSpent: by.BudgetSpent}
	copy(b.Previous[:], s.head.Digest)
	after := s.head.with(s.pend[:n])
	b.Counters = after.countersOf(by.Boot)
	body, err := s.opt.Codec.EncodeBatch(b)
	for err != nil && n > 1 { // too large for one batch: what is left makes the next
		n /= 2
		after = s.head.with(s.pend[:n])
		b.Results, b.Counters = s.pend[:n], after.countersOf(by.Boot)
		body, err = s.opt.Codec.EncodeBatch(b)
	}
	if err != nil {
		return false, fmt.Errorf("spool: sealing batch %d: %w", b.Seq, err)
	}

	// The order is what makes a crash harmless: once the batch is in place its
	// open log is known to be spent; before, the batch does not exist.
	if rest := s.pend[n:]; len(rest) > 0 {
		if err := s.writeLog(b.Seq+1, rest); err != nil {
			return false, fmt.Errorf("spool: %w", err)
		}
	}
	if err := s.writeFile(batchName(b.Seq), body); err != nil {
		return false, fmt.Errorf("spool: %w", err)
	}
	digest := wire.DigestOf(body)
	s.wait[b.Seq] = int64(len(body))
	after.Seq, after.Digest = b.Seq, digest[:]
	s.head, s.dirty = after, true
	spent := s.open
	s.open, s.pend, s.bytes = nil, nil, 0
	s.enforceShare()
	// From here on the batch stands. What fails below is made good later: the head
	// before the batch may be removed, the log at the next Append.
	err = errors.Join(s.saveHead(), s.openLog(b.Seq+1))
	if spent != nil {
		err = errors.Join(err, spent.Close(), os.Remove(spent.Name()))
	}
	if err != nil {
		s.log.Error("the spool cannot write: trying again with the next result", "err", err)
	}
	return true, nil
}

// Waiting lists the sealed batches, newest first: what is fresh is told first,
// what is old is back-filled after it.
func (s *Spool) Waiting() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	seqs := slices.Sorted(maps.Keys(s.wait))
	slices.Reverse(seqs)
	return seqs
}

// WaitingBytes is what the sealed batches take on disk.
func (s *Spool) WaitingBytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting()
}

// Dropped counts the batches of this epoch that were lost for want of room.
func (s *Spool) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head.Dropped
}

// Load reads a sealed batch.
func (s *Spool) Load(seq uint64) (Sealed, error) {
	body, err := os.ReadFile(s.path(batchName(seq)))
	if err != nil {
		return Sealed{}, fmt.Errorf("spool: %w", err)
	}
	return Sealed{Seq: seq, Digest: wire.DigestOf(body), Body: body}, nil
}

// Acknowledge removes a batch that the collector has made durable. Removing one
// that is gone is no error.
func (s *Spool) Acknowledge(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settleHead(); err != nil {
		return err
	}
	delete(s.wait, seq)
	if err := os.Remove(s.path(batchName(seq))); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

// Quarantine sets a batch aside that the collector refused for good, so that it
// never blocks what follows. The oldest ones make room.
func (s *Spool) Quarantine(seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.settleHead(); err != nil {
		return err
	}
	delete(s.wait, seq)
	return s.setAside(batchName(seq))
}

// settleHead writes a head that is behind. While it is, a batch must not go: its
// file alone knows which sequence numbers are spent.
func (s *Spool) settleHead() error {
	if !s.dirty {
		return nil
	}
	if err := s.saveHead(); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func (s *Spool) path(name string) string { return filepath.Join(s.opt.Dir, name) }

func batchName(seq uint64) string { return fmt.Sprintf("batch-%016d.zst", seq) }
func logName(seq uint64) string   { return fmt.Sprintf("open-%016d.log", seq) }

func (s *Spool) waiting() (n int64) {
	for _, size := range s.wait {
		n += size
	}
	return n
}

func (s *Spool) setAside(name string) error {
	dir := s.path("quarantine")
	to := filepath.Join(dir, strconv.FormatInt(time.Now().UnixNano(), 10)+"-"+name)
	if err := os.Rename(s.path(name), to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("spool: %w", err)
	}
	kept, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	for i := 0; i < len(kept)-s.opt.MaxQuarantine; i++ { // sorted by name, so by time
		if err := os.Remove(filepath.Join(dir, kept[i].Name())); err != nil {
			return fmt.Errorf("spool: %w", err)
		}
	}
	return nil
}

// enforceShare drops the oldest batches beyond the share, always leaving one.
// The caller saves the head.
func (s *Spool) enforceShare() {
	seqs := slices.Sorted(maps.Keys(s.wait))
	dropped := 0
	for used := s.waiting(); used > s.opt.MaxBytes && len(seqs) > 1; seqs = seqs[1:] {
		if err := os.Remove(s.path(batchName(seqs[0]))); err != nil {
			s.log.Error("the oldest batch cannot be dropped", "seq", seqs[0], "err", err)
			break
		}
		used -= s.wait[seqs[0]]
		delete(s.wait, seqs[0])
		dropped++
	}
	if dropped > 0 {
		s.head.Dropped += uint64(dropped)
		s.log.Error("the spool's share of the disk is full: oldest batches dropped",
			"batches", dropped, "share_bytes", s.opt.MaxBytes)
	}
}

func (s *Spool) recover() error {
	if err := s.loadHead(); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	var logs []uint64
	last := uint64(0)
	for _, e := range entries {
		seq, kind := parseName(e.Name())
		switch kind {
		case "batch":
			info, err := e.Info()
			if err != nil {
				return err
			}
			s.wait[seq] = info.Size()
			last = max(last, seq)
		case "open":
			logs = append(logs, seq)
		case "tmp":
			if err := os.Remove(s.path(e.Name())); err != nil {
				return err
			}
		}
	}
	for seq := s.head.Seq + 1; seq <= last; seq++ { // crashed between the batch and the head
		if _, ok := s.wait[seq]; !ok {
			continue
		}
		b, err := s.Load(seq)
		if err != nil {
			return err
		}
		s.head.Seq, s.head.Digest = seq, b.Digest[:]
		batch, err := s.opt.Codec.DecodeBatch(b.Body)
		if err != nil {
			s.log.Error("a sealed batch is unreadable: set aside", "seq", seq, "err", err)
			delete(s.wait, seq)
			if err := s.setAside(batchName(seq)); err != nil {
				return err
			}
			continue
		}
		s.head = s.head.with(batch.Results)
	}
	next := s.head.Seq + 1
	for _, seq := range logs {
		// Below next its batch exists, or existed and is acknowledged; above, it was
		// split off for a batch that was never made, and the log of next holds it.
		if seq != next {
			if err := os.Remove(s.path(logName(seq))); err != nil {
				return err
			}
		}
	}
	if err := s.saveHead(); err != nil {
		return err
	}
	return s.openLog(next)
}

func parseName(name string) (seq uint64, kind string) {
	if strings.HasSuffix(name, ".tmp") {
		return 0, "tmp"
	}
	for prefix, suffix := range map[string]string{"batch-": ".zst", "open-": ".log"} {
		if n, ok := strings.CutPrefix(name, prefix); ok {
			if n, ok = strings.CutSuffix(n, suffix); ok {
				if seq, err := strconv.ParseUint(n, 10, 64); err == nil {
					return seq, strings.TrimSuffix(prefix, "-")
				}
			}
		}
	}
	return 0, ""
}

func (s *Spool) loadHead() error {
	raw, err := os.ReadFile(s.path("head.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s.head)
		if err == nil && len(s.head.Epoch) != len(wire.Epoch{}) {
			err = errors.New("epoch is not 16 bytes")
		}
		if err != nil {
			// The batches that wait belong to an epoch that they name themselves; a new
			// epoch begins for what comes.
			s.log.Error("the spool's head is unreadable: set aside, a new epoch begins", "err", err)
			s.head = head{}
			if err := s.quarantineAll(); err != nil {
				return err
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if s.head.Epoch == nil {
		epoch := s.opt.NewEpoch()
		s.head.Epoch = epoch[:]
	}
	if s.head.Counters == nil {
		s.head.Counters = map[string]uint64{}
	}
	if s.head.Slots == nil {
		s.head.Slots = map[measure.Kind]time.Time{}
	}
	return nil
}

func (s *Spool) quarantineAll() error {
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, kind := parseName(e.Name()); kind == "batch" || kind == "open" || e.Name() == "head.json" {
			if err := s.setAside(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Spool) saveHead() error {
	raw, err := json.MarshalIndent(s.head, "", " ")
	if err != nil {
		return err
	}
	if err := s.writeFile("head.json", raw); err != nil {
		return err
	}
	s.dirty = false
	return nil
}

// writeFile replaces a file so that it is whole or not there.
func (s *Spool) writeFile(name string, data []byte) error {
	tmp := s.path(name + ".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path(name)); err != nil {
		return err
	}
	return s.syncDir()
}

func (s *Spool) syncDir() error {
	d, err := os.Open(s.opt.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s *Spool) writeLog(seq uint64, results []measure.Result) error {
	var all []byte
	for _, r := range results {
		raw, err := wire.EncodeResult(r)
		if err != nil {
			return err
		}
		all = binary.LittleEndian.AppendUint32(all, uint32(len(raw)))
		all = binary.LittleEndian.AppendUint32(all, crc32.Checksum(raw, castagnoli))
		all = append(all, raw...)
	}
	return s.writeFile(logName(seq), all)
}

// openLog opens the log of the next batch and reads what it holds, up to the
// first torn record.
func (s *Spool) openLog(seq uint64) error {
	f, err := os.OpenFile(s.path(logName(seq)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(f)
	if err == nil {
		err = s.syncDir()
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	results, good := parseLog(data)
	if good < int64(len(data)) {
		s.log.Warn("the spool's last record was torn: cut off", "file", f.Name(), "bytes", int64(len(data))-good)
		if err := os.WriteFile(filepath.Join(s.opt.Dir, "quarantine", logName(seq)+".tail"), data[good:], 0o600); err != nil {
			return errors.Join(err, f.Close())
		}
		if err := f.Truncate(good); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	s.open, s.pend, s.bytes = f, results, good
	return nil
}

// parseLog reads records until the first that is not whole.
func parseLog(data []byte) (results []measure.Result, good int64) {
	for {
		rest := data[good:]
		if len(rest) < 8 {
			return results, good
		}
		n := binary.LittleEndian.Uint32(rest)
		// Zeros are what a file system leaves after a power cut: an empty record is none.
		if n == 0 || n > maxRecord || int(n) > len(rest)-8 {
			return results, good
		}
		raw := rest[8 : 8+n]
		if crc32.Checksum(raw, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			return results, good
		}
		r, err := wire.DecodeResult(raw)
		if err != nil {
			return results, good
		}
		results = append(results, r)
		good += 8 + int64(n)
	}
}

// with is h after results were sealed. Counters begin anew with each boot, as
// the readers of counters expect of a reset.
func (h head) with(results []measure.Result) head {
	h.Counters, h.Slots = maps.Clone(h.Counters), maps.Clone(h.Slots)
	for _, r := range results {
		if r.Boot != h.Boot {
			h.Boot = r.Boot
			clear(h.Counters)
		}
		h.Counters[fmt.Sprintf("%s %s %s", r.Kind, r.Outcome, r.Reason)]++
		h.Slots[r.Kind] = r.MeasuredAt
	}
	return h
}

// countersOf is the counters if they are of this boot: others say nothing of it.
func (h head) countersOf(boot measure.BootID) []wire.Counter {
	if h.Boot != boot {
		return nil
	}
	return h.counters()
}

func (h head) counters() []wire.Counter {
	out := make([]wire.Counter, 0, len(h.Counters))
	for _, k := range slices.Sorted(maps.Keys(h.Counters)) {
		f := strings.Split(k, " ")
		if len(f) != 3 {
			continue
		}
		out = append(out, wire.Counter{Kind: measure.Kind(f[0]), Outcome: measure.Outcome(f[1]),
			Reason: measure.Reason(f[2]), Count: h.Counters[k]})
	}
	return out
}

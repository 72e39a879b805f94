// Package index knows which batches the journal has: (probe, epoch, seq) to the
// digest, the time of receipt and the place of the record. Ingest asks it
// whether a batch is a replay.
//
// It guarantees that a batch whose record is durable is found: at once after
// Put, and after any crash. It is a cache of the journal and has one feed, the
// journal: a follower reads it record by record and commits entries together
// with its own position, so a crash between Append and Put, or between two
// commits, is made good by reading on from there. Put is only the overlay that
// spares ingest from waiting for the follower.
//
// It refuses to answer rather than to guess: while it is being rebuilt, and
// while more entries wait than fit its bound, Claim fails with [ErrUnavailable].
// A file that cannot be read is moved aside, never removed, and rebuilt.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Key identifies a batch. Probe has 1 to measure.MaxProbeID bytes, none of
// them 0.
type Key struct {
	Probe measure.ProbeID
	Epoch wire.Epoch
	Seq   uint64
}

// Entry is what is known of a batch in the journal: enough to repeat its
// acknowledgement.
type Entry struct {
	Digest     wire.Digest
	ReceivedAt time.Time // UTC, to the nanosecond
	Position   journal.Position
}

// Errors; all are wrapped.
var (
	// ErrUnavailable: the index cannot answer now; later it can.
	ErrUnavailable = errors.New("index: unavailable")
	// ErrInvalid: the key is outside its bounds.
	ErrInvalid = errors.New("index: invalid key")
)

// Options configure [Open]. Path, Journal and Key are required.
type Options struct {
	// Path is the bbolt file. Its directory must exist.
	Path    string
	Journal *journal.Journal
	// Key finds a batch record's key and digest; false: the record is no batch
	// that can be looked up. It must be a pure function of the record.
	Key func(journal.Record) (Key, wire.Digest, bool)
	// CommitEvery and CommitEntries bound what a restart must read again: by
	// default 2 s and 4096, whichever comes first.
	CommitEvery   time.Duration
	CommitEntries int
	// MaxPending bounds the entries in memory; above it Claim fails. By default
	// 262,144, about 60 MB.
	MaxPending int
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

const (
	defaultCommitEvery   = 2 * time.Second
	defaultCommitEntries = 4096
	defaultMaxPending    = 1 << 18
)

// Index is one open index. Its methods may be called concurrently, Run once.
type Index struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	store   store

	mu      sync.Mutex
	ready   bool   // every durable batch is findable
	losses  uint64 // how often ready was lost: an answer that spans one is void
	decayed error  // why the file must be moved aside before it is used again
	overlay map[Key]Entry
	// committed is the store's cursor: every batch before it is in the store.
	committed journal.Position
	claims    map[Key]chan struct{} // closed on release

	follower follower // of Open, then of Run
}

// Open opens or creates the index and reads the journal from where it stopped
// to its end, so that every durable batch is findable when it returns. A file
// that cannot be read, or that is ahead of the journal, is moved aside and
// built anew.
func Open(ctx context.Context, opt Options) (*Index, error) {
	if opt.Path == "" || opt.Journal == nil || opt.Key == nil {
		return nil, errors.New("index: Path, Journal and Key are required")
	}
	if opt.CommitEvery <= 0 {
		opt.CommitEvery = defaultCommitEvery
	}
	if opt.CommitEntries <= 0 {
		opt.CommitEntries = defaultCommitEntries
	}
	if opt.MaxPending <= 0 {
		opt.MaxPending = defaultMaxPending
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	x := &Index{opt: opt, log: opt.Logger, store: store{path: opt.Path},
		overlay: make(map[Key]Entry), claims: make(map[Key]chan struct{})}
	var err error
	if x.metrics, err = newMetrics(opt.Registerer, x.pending); err != nil {
		return nil, err
	}
	if err := x.load(ctx); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

// Close gives the file free, after Run has returned. What was not committed is
// read from the journal at the next Open.
func (x *Index) Close() error {
	x.mu.Lock()
	x.ready = false
	x.losses++
	x.mu.Unlock()
	x.metrics.unregister()
	if x.follower.reader != nil {
		_ = x.follower.reader.Close()
	}
	return x.store.close()
}

// Claim gives the caller the key alone: a second submission of the same batch
// waits here until the first is done, and then finds its entry. The caller
// looks up, appends to the journal, puts, and releases. release may be called
// more than once.
//
// Errors: [ErrInvalid], [ErrUnavailable], ctx's.
func (x *Index) Claim(ctx context.Context, key Key) (release func(), err error) {
	if err := key.check(); err != nil {
		return nil, err
	}
	for {
		x.mu.Lock()
		if !x.ready {
			x.mu.Unlock()
			return nil, fmt.Errorf("%w: being rebuilt, or closed", ErrUnavailable)
		}
		if n := len(x.overlay); n >= x.opt.MaxPending {
			x.mu.Unlock()
			return nil, fmt.Errorf("%w: %d entries wait for the disk", ErrUnavailable, n)
		}
		held, taken := x.claims[key]
		if !taken {
			done := make(chan struct{})
			x.claims[key] = done
			x.mu.Unlock()
			return sync.OnceFunc(func() {
				x.mu.Lock()
				delete(x.claims, key)
				x.mu.Unlock()
				close(done)
			}), nil
		}
		x.mu.Unlock()
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lookup returns the entry of the first record with this key. found is false
// only if the journal has none.
//
// Errors: [ErrInvalid], [ErrUnavailable].
func (x *Index) Lookup(key Key) (e Entry, found bool, err error) {
	if err := key.check(); err != nil {
		return Entry{}, false, err
	}
	x.mu.Lock()
	ready, losses := x.ready, x.losses
	e, found = x.overlay[key]
	x.mu.Unlock()
	if !ready {
		return Entry{}, false, fmt.Errorf("%w: being rebuilt, or closed", ErrUnavailable)
	}
	if found {
		return e, true, nil
	}
	// An entry leaves the overlay only after it is in the store.
	e, found, err = x.store.get(key)
	x.mu.Lock()
	defer x.mu.Unlock()
	if errors.Is(err, errUnreadable) && losses == x.losses {
		x.lose(err) // Run sees it and rebuilds
	}
	if err == nil && losses != x.losses {
		err = errors.New("rebuilt meanwhile")
	}
	if err != nil {
		return Entry{}, false, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return e, found, nil
}

// Put makes the entry of a durable record findable at once. It does no I/O and
// needs no success: the follower comes upon the same record.
func (x *Index) Put(key Key, e Entry) {
	if key.check() != nil {
		return
	}
	e.ReceivedAt = e.ReceivedAt.UTC().Round(0)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !e.Position.Before(x.committed) { // else the follower was faster
		x.remember(key, e)
	}
}

// lose makes every answer void until the file is rebuilt. The caller holds mu.
func (x *Index) lose(why error) {
	x.ready, x.decayed = false, why
	x.losses++
}

// remember keeps the first record of a key. The caller holds mu.
func (x *Index) remember(key Key, e Entry) {
	if old, ok := x.overlay[key]; !ok || e.Position.Before(old.Position) {
		x.overlay[key] = e
	}
}

func (x *Index) pending() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.overlay)
}

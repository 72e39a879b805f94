package index

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/pantau-desa/pantau/collector/journal"
)

// replayLogEvery is how often a long replay says how far it is.
const replayLogEvery = 30 * time.Second

// follower reads the journal on behalf of the store. One goroutine has it.
type follower struct {
	reader *journal.Reader
	batch  []item // read, not yet committed
}

type item struct {
	key   Key
	entry Entry
}

// load opens the store and replays the journal; again if the file turns out to
// be of no use.
func (x *Index) load(ctx context.Context) error {
	x.mu.Lock()
	err := x.decayed
	x.mu.Unlock()
	for fresh := false; ; fresh = true {
		var cursor journal.Position
		if err == nil {
			cursor, err = x.store.open()
		}
		if err == nil {
			x.mu.Lock()
			x.committed, x.decayed = cursor, nil
			x.mu.Unlock()
			if x.follower.reader != nil {
				_ = x.follower.reader.Close()
			}
			x.follower = follower{reader: x.opt.Journal.NewReader(cursor)}
			err = x.replay(ctx)
		}
		useless := errors.Is(err, errUnreadable) || errors.Is(err, journal.ErrPosition)
		if !useless || fresh {
			return err
		}
		kept, err2 := x.store.setAside()
		if err2 != nil {
			return errors.Join(err, err2)
		}
		x.metrics.rebuilds.Inc()
		x.log.Warn("index is moved aside and rebuilt from the journal", "err", err, "kept", kept)
		err = nil
	}
}

// replay reads the journal to its durable end and declares the index ready.
func (x *Index) replay(ctx context.Context) error {
	begun, said, n := time.Now(), time.Now(), 0
	for ctx.Err() == nil {
		rec, at, err := x.follower.reader.TryNext()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if x.take(rec, at) {
			n++
		}
		if len(x.follower.batch) >= x.opt.CommitEntries {
			if err := x.commit(); err != nil {
				return err
			}
		}
		if time.Since(said) > replayLogEvery {
			said = time.Now()
			x.log.Info("index reads the journal", "batches", n, "at", at.String(), "end", x.opt.Journal.End().String())
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := x.commit(); err != nil {
		return err
	}
	x.mu.Lock()
	x.ready = true
	x.mu.Unlock()
	if n > 0 {
		x.log.Info("index has read the journal to its end", "batches", n, "took", time.Since(begun).String())
	}
	return nil
}

// take notes one record of the journal. It reports whether it is a batch that
// can be looked up.
func (x *Index) take(rec journal.Record, at journal.Position) bool {
	if rec.Type != journal.Batch {
		return false
	}
	key, digest, ok := x.opt.Key(rec)
	if !ok || key.check() != nil {
		return false
	}
	e := Entry{Digest: digest, ReceivedAt: rec.ReceivedAt, Position: at}
	x.follower.batch = append(x.follower.batch, item{key, e})
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remember(key, e)
	return true
}

// commit writes what was taken, with the reader's position, in one transaction.
func (x *Index) commit() error {
	at := x.follower.reader.Position()
	x.mu.Lock()
	idle := at == x.committed
	x.mu.Unlock()
	if idle {
		return nil
	}
	begun := time.Now()
	err := x.store.put(x.follower.batch, at)
	x.metrics.commit.Observe(time.Since(begun).Seconds())
	if err != nil {
		return fmt.Errorf("%w: commit: %w", ErrUnavailable, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, it := range x.follower.batch {
		delete(x.overlay, it.key)
	}
	clear(x.follower.batch)
	x.follower.batch = x.follower.batch[:0]
	x.committed = at
	return nil
}

// Run follows the journal until ctx ends or the journal closes; then it commits.
// A full disk delays it. A file that became unreadable is moved aside and
// rebuilt; until that is done Claim and Lookup fail. The errors that it returns
// are for a person: the journal itself does not let itself be followed.
func (x *Index) Run(ctx context.Context) error {
	failing := false
	for ctx.Err() == nil {
		err := x.round(ctx)
		switch {
		case err == nil:
			if failing {
				x.log.Info("index follows the journal again")
			}
			failing = false
		case ctx.Err() != nil:
		case errors.Is(err, journal.ErrClosed):
			return x.finish()
		case errors.Is(err, errUnreadable):
			x.metrics.errors.Inc()
			x.mu.Lock()
			x.lose(err)
			x.mu.Unlock()
		case errors.Is(err, ErrUnavailable), errors.Is(err, journal.ErrUnavailable):
			x.metrics.errors.Inc()
			if !failing {
				x.log.Error("index stands still; it tries again", "err", err)
			}
			failing = true
			select {
			case <-ctx.Done():
			case <-time.After(x.opt.CommitEvery):
			}
		default:
			return err
		}
	}
	return x.finish()
}

// finish commits, unless a rebuild was cut short: that begins where it stopped.
func (x *Index) finish() error {
	x.mu.Lock()
	ready := x.ready
	x.mu.Unlock()
	if !ready {
		return nil
	}
	return x.commit()
}

// round takes records until a commit is due, and commits; or it rebuilds. While
// commits fail it takes no more: then only Put fills the overlay, and Claim
// bounds that.
func (x *Index) round(ctx context.Context) error {
	x.mu.Lock()
	ready := x.ready
	x.mu.Unlock()
	if !ready {
		return x.load(ctx)
	}
	due, cancel := context.WithTimeout(ctx, x.opt.CommitEvery)
	defer cancel()
	for len(x.follower.batch) < x.opt.CommitEntries {
		rec, at, err := x.follower.reader.Next(due)
		if due.Err() != nil && err != nil {
			break
		}
		if err != nil {
			return err
		}
		x.take(rec, at)
	}
	return x.commit()
}

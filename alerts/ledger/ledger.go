// Package ledger remembers, on disk, what has been decided about who was told: how
// far the events of incidents were followed, what rules were told of and not yet
// recalled, and which weeks were summed up.
//
// It guarantees that what a method wrote is there after a crash, as a whole or not
// at all. It does not remember mails: the outbox does.
package ledger

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pantau-desa/pantau/collector/durable"
)

// ErrBusy: another process has the file.
var ErrBusy = errors.New("ledger: the file is in use by another process")

// Bounds of memory.
const (
	keepIncidents = 90 * 24 * time.Hour
	keepMuted     = 500
)

// Muted is an event that nobody was told of because of silences.
type Muted struct {
	Event    string    `json:"event"`
	Incident string    `json:"incident"`
	Region   string    `json:"region,omitempty"`
	At       time.Time `json:"at"`
	Silences []string  `json:"silences"` // ids
}

// Settled is an event of an incident about which all is decided and handed over.
type Settled struct {
	Seq      uint64
	At       time.Time
	Incident string
	Villages []string // that it has now, by code
	Muted    []Muted
}

// Finding is an alert of a rule.
type Finding struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Since       time.Time         `json:"since"`
	Ended       time.Time         `json:"ended,omitzero"`
}

// Episode is what rules of one kind found in one region, from the first mail until
// all has ceased.
type Episode struct {
	Key      string    `json:"key"` // kind and region
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Region   string    `json:"region,omitempty"`
	Opened   time.Time `json:"opened"`
	Step     int       `json:"step"`    // mails so far
	StepAt   time.Time `json:"step_at"` // of the last
	Findings []Finding `json:"findings"`
}

type incident struct {
	Villages []string  `json:"villages"`
	At       time.Time `json:"at"`
}

func buckets() []string {
	return []string{"meta", "incidents", "muted", "episodes", "numbers", "weeks"}
}

// Ledger is the file. Its methods may be called from any goroutine.
type Ledger struct{ db *bolt.DB }

// Open opens or creates the file, of mode 0600; its folder exists.
func Open(file string) (*Ledger, error) {
	_, statErr := os.Stat(file)
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrBusy, file)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: open %s: %w", file, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets() {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && errors.Is(statErr, os.ErrNotExist) {
		err = durable.SyncDir(filepath.Dir(file))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %w", err), db.Close())
	}
	return &Ledger{db}, nil
}

// Close closes the file.
func (l *Ledger) Close() error { return l.db.Close() }

func bucket(tx *bolt.Tx, name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }

func put(b *bolt.Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}

// get reports whether there is such a key.
func get(b *bolt.Bucket, key string, v any) (bool, error) {
	raw := b.Get([]byte(key))
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("entry %s: %w", key, err)
	}
	return true, nil
}

func (l *Ledger) read(what string, f func(tx *bolt.Tx) error) error {
	if err := l.db.View(f); err != nil {
		return fmt.Errorf("ledger: read %s: %w", what, err)
	}
	return nil
}

func (l *Ledger) write(what string, f func(tx *bolt.Tx) error) error {
	if err := l.db.Update(f); err != nil {
		return fmt.Errorf("ledger: write %s: %w", what, err)
	}
	return nil
}

// Seq is the sequence number up to which the events of incidents are settled; ok:
// there was ever one.
func (l *Ledger) Seq() (seq uint64, ok bool, err error) {
	err = l.read("the sequence number", func(tx *bolt.Tx) error {
		ok, err = get(bucket(tx, "meta"), "seq", &seq)
		return err
	})
	return seq, ok, err
}

// Start sets the sequence number of a ledger that has none.
func (l *Ledger) Start(seq uint64) error {
	return l.write("the sequence number", func(tx *bolt.Tx) error { return put(bucket(tx, "meta"), "seq", seq) })
}

// Settle notes that an event is settled, and all before it.
func (l *Ledger) Settle(s Settled) error {
	return l.write("an event", func(tx *bolt.Tx) error {
		if s.Incident != "" {
			if err := put(bucket(tx, "incidents"), s.Incident, incident{s.Villages, s.At}); err != nil {
				return err
			}
		}
		m := bucket(tx, "muted")
		for _, x := range s.Muted {
			n, err := m.NextSequence()
			if err != nil {
				return err
			}
			if err := put(m, string(binary.BigEndian.AppendUint64(nil, n)), x); err != nil {
				return err
			}
			if n > keepMuted {
				if err := m.Delete(binary.BigEndian.AppendUint64(nil, n-keepMuted)); err != nil {
					return err
				}
			}
		}
		return put(bucket(tx, "meta"), "seq", s.Seq)
	})
}

// Villages are those that an incident had at its last settled event.
func (l *Ledger) Villages(id string) (codes []string, err error) {
	err = l.read("an incident", func(tx *bolt.Tx) error {
		var x incident
		_, err := get(bucket(tx, "incidents"), id, &x)
		codes = x.Villages
		return err
	})
	return codes, err
}

// Muted returns the latest events that were muted, newest first, at most n.
func (l *Ledger) Muted(n int) (out []Muted, err error) {
	err = l.read("what was muted", func(tx *bolt.Tx) error {
		c := bucket(tx, "muted").Cursor()
		for k, v := c.Last(); k != nil && len(out) < n; k, v = c.Prev() {
			var x Muted
			if err := json.Unmarshal(v, &x); err != nil {
				return err
			}
			out = append(out, x)
		}
		return nil
	})
	return out, err
}

// Episode returns the open episode of a key.
func (l *Ledger) Episode(key string) (e Episode, ok bool, err error) {
	err = l.read("an episode", func(tx *bolt.Tx) error {
		ok, err = get(bucket(tx, "episodes"), key, &e)
		return err
	})
	return e, ok, err
}

// Episodes returns the open episodes, by key.
func (l *Ledger) Episodes() (out []Episode, err error) {
	err = l.read("episodes", func(tx *bolt.Tx) error {
		return bucket(tx, "episodes").ForEach(func(_, v []byte) error {
			var e Episode
			if err := json.Unmarshal(v, &e); err != nil {
				return err
			}
			out = append(out, e)
			return nil
		})
	})
	return out, err
}

// Begin gives a new episode its id, made of a prefix and the next number from 01,
// and keeps it.
func (l *Ledger) Begin(e Episode, prefix string) (Episode, error) {
	err := l.write("an episode", func(tx *bolt.Tx) error {
		n := 0
		if _, err := get(bucket(tx, "numbers"), prefix, &n); err != nil {
			return err
		}
		n++
		if err := put(bucket(tx, "numbers"), prefix, n); err != nil {
			return err
		}
		e.ID = fmt.Sprintf("%s%02d", prefix, n)
		return put(bucket(tx, "episodes"), e.Key, e)
	})
	return e, err
}

// Keep replaces an open episode.
func (l *Ledger) Keep(e Episode) error {
	return l.write("an episode", func(tx *bolt.Tx) error { return put(bucket(tx, "episodes"), e.Key, e) })
}

// End forgets an episode that is over.
func (l *Ledger) End(key string) error {
	return l.write("an episode", func(tx *bolt.Tx) error { return bucket(tx, "episodes").Delete([]byte(key)) })
}

// Week is the last week that was summed up for a regency, by its first day
// (2025-07-14); empty: none.
func (l *Ledger) Week(region string) (week string, err error) {
	err = l.read("a week", func(tx *bolt.Tx) error {
		_, err := get(bucket(tx, "weeks"), region, &week)
		return err
	})
	return week, err
}

// SumUp notes that a week was summed up.
func (l *Ledger) SumUp(region, week string) error {
	return l.write("a week", func(tx *bolt.Tx) error { return put(bucket(tx, "weeks"), region, week) })
}

// Forget drops incidents that were settled long before now.
func (l *Ledger) Forget(now time.Time) error {
	return l.write("what is forgotten", func(tx *bolt.Tx) error {
		b := bucket(tx, "incidents")
		var old [][]byte
		err := b.ForEach(func(k, v []byte) error {
			var x incident
			if err := json.Unmarshal(v, &x); err != nil {
				return err
			}
			if now.Sub(x.At) > keepIncidents {
				old = append(old, slices.Clone(k))
			}
			return nil
		})
		for _, k := range old {
			err = errors.Join(err, b.Delete(k))
		}
		return err
	})
}

package router

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pantau-desa/pantau/collector/durable"
)

// Silence mutes alerts for a while.
type Silence struct {
	ID            string // given by Silence
	Match         []Matcher
	Author, About string // who, and why
	From, Until   time.Time
	Notes         map[string]string // kept with it, not interpreted
}

// MaxSilences is how many silences there may be at once, those that ended lately
// included.
const MaxSilences = 500

// Errors of silences, to be told apart with errors.Is.
var (
	// ErrNoSilence: there is none with that id.
	ErrNoSilence = errors.New("router: no such silence")
	// ErrTooMany: MaxSilences are there.
	ErrTooMany = fmt.Errorf("router: there are %d silences already", MaxSilences)
)

// openSilences reads the file. One that cannot be read is put aside: alerts that
// were silenced are told then, which is the lesser evil.
func openSilences(opt Options) (*silence.Silences, error) {
	options := silence.Options{Retention: remember, Logger: opt.Logger, Metrics: opt.Registerer}
	data, err := os.ReadFile(opt.SilenceFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("router: %w", err)
	}
	if err == nil {
		// Tried apart first: what has failed half-way would have registered its metrics.
		if _, bad := silence.New(silence.Options{SnapshotReader: bytes.NewReader(data), Logger: opt.Logger, Metrics: prometheus.NewRegistry()}); bad != nil {
			aside := opt.SilenceFile + ".unreadable"
			opt.Logger.Error("the silences cannot be read: put aside, and none is in force", "file", aside, "error", bad)
			if err := os.Rename(opt.SilenceFile, aside); err != nil {
				return nil, fmt.Errorf("router: %w", err)
			}
		} else {
			options.SnapshotReader = bytes.NewReader(data)
		}
	}
	s, err := silence.New(options)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return s, nil
}

// keepSilences forgets what ended long ago.
func (r *Router) keepSilences() {
	r.silences.Maintenance(upkeepEvery, "", r.upkeep, func() (int64, error) {
		if _, err := r.silences.GC(); err != nil {
			return 0, err
		}
		return 0, r.saveSilences()
	})
}

// saveSilences replaces the file, so that it is the old one or the new one after a
// crash.
func (r *Router) saveSilences() error {
	r.file.Lock()
	defer r.file.Unlock()
	tmp := r.opt.SilenceFile + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("router: %w", err)
	}
	_, err = r.silences.Snapshot(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, r.opt.SilenceFile)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(r.opt.SilenceFile))
	}
	if err != nil {
		return fmt.Errorf("router: the silences cannot be kept: %w", err)
	}
	return nil
}

// Silence mutes what matches, from From, which is now if it is zero or past. When
// it returns without an error, the silence survives a crash. It returns the id.
func (r *Router) Silence(ctx context.Context, s Silence) (id string, err error) {
	if all, _, err := r.silences.Query(ctx); err != nil {
		return "", fmt.Errorf("router: %w", err)
	} else if len(all) >= MaxSilences {
		return "", ErrTooMany
	}
	now := time.Now()
	if s.From.Before(now) {
		s.From = now
	}
	set := &silencepb.MatcherSet{}
	for _, m := range s.Match {
		kind := silencepb.Matcher_EQUAL
		if m.Regexp {
			kind = silencepb.Matcher_REGEXP
		}
		set.Matchers = append(set.Matchers, &silencepb.Matcher{Type: kind, Name: m.Label, Pattern: m.Value})
	}
	x := &silencepb.Silence{MatcherSets: []*silencepb.MatcherSet{set}, StartsAt: timestamppb.New(s.From), EndsAt: timestamppb.New(s.Until),
		CreatedBy: s.Author, Comment: s.About, Annotations: maps.Clone(s.Notes)}
	if err := r.silences.Set(ctx, x); err != nil {
		return "", fmt.Errorf("router: %w", err)
	}
	if err := r.saveSilences(); err != nil {
		// One that a crash would end unseen is not in force.
		return "", errors.Join(err, r.silences.Expire(ctx, x.Id))
	}
	return x.Id, nil
}

// Expire ends a silence now. It is told by the beginning of its id as well, if
// that is of one alone.
func (r *Router) Expire(ctx context.Context, id string) (Silence, error) {
	list, err := r.Silences(ctx)
	if err != nil {
		return Silence{}, err
	}
	list = slices.DeleteFunc(list, func(s Silence) bool { return !strings.HasPrefix(s.ID, id) })
	if len(list) != 1 || len(id) < 4 {
		return Silence{}, fmt.Errorf("%w: %q", ErrNoSilence, id)
	}
	if err := r.silences.Expire(ctx, list[0].ID); err != nil {
		return Silence{}, fmt.Errorf("router: %w", err)
	}
	return list[0], r.saveSilences()
}

// Silences returns those that are in force or to come, the one that ends first
// first.
func (r *Router) Silences(ctx context.Context) ([]Silence, error) {
	found, _, err := r.silences.Query(ctx, silence.QState(silence.SilenceStateActive, silence.SilenceStatePending))
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	out := make([]Silence, 0, len(found))
	for _, x := range found {
		s := Silence{ID: x.Id, Author: x.CreatedBy, About: x.Comment, From: x.StartsAt.AsTime(), Until: x.EndsAt.AsTime(), Notes: maps.Clone(x.Annotations)}
		for _, set := range x.MatcherSets {
			for _, m := range set.Matchers {
				s.Match = append(s.Match, Matcher{Label: m.Name, Value: m.Pattern, Regexp: m.Type == silencepb.Matcher_REGEXP})
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b Silence) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

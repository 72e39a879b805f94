package inventory

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Validity is the time for which a fact holds: From inclusive, To exclusive.
// A zero To means open: it holds until further notice.
type Validity struct {
	From, To time.Time
}

// Covers reports whether the fact holds at an instant.
func (v Validity) Covers(at time.Time) bool {
	return !at.Before(v.From) && (v.To.IsZero() || at.Before(v.To))
}

// overlap is the time for which both hold; the two must meet somewhere.
func (v Validity) overlap(w Validity) Validity {
	if w.From.After(v.From) {
		v.From = w.From
	}
	if !w.To.IsZero() && (v.To.IsZero() || w.To.Before(v.To)) {
		v.To = w.To
	}
	return v
}

// day is a civil date without a zone: days since 1970-01-01.
type day int32

// forever is the day that an open validity ends on.
const forever day = math.MaxInt32

const secondsPerDay = 24 * 60 * 60

func dayOf(year int, month time.Month, d int) day {
	return day(time.Date(year, month, d, 0, 0, 0, 0, time.UTC).Unix() / secondsPerDay)
}

// String is the date as 2026-01-31, or "open".
func (d day) String() string {
	if d == forever {
		return "open"
	}
	return d.midnight(time.UTC).Format(time.DateOnly)
}

// midnight is the instant at which the day begins in a zone; zero for forever.
func (d day) midnight(zone *time.Location) time.Time {
	if d == forever {
		return time.Time{}
	}
	_, offset := time.Unix(0, 0).In(zone).Zone() // Indonesian zones are fixed
	return time.Unix(int64(d)*secondsPerDay-int64(offset), 0).In(zone)
}

// span is a validity as written: civil dates, to exclusive.
type span struct{ from, to day }

func (s span) meets(t span) bool { return s.from < t.to && t.from < s.to }

func (s span) in(zone *time.Location) Validity {
	return Validity{From: s.from.midnight(zone), To: s.to.midnight(zone)}
}

func (s span) String() string { return s.from.String() + " to " + s.to.String() }

// entry is one row: a fact of type V about K for a time.
type entry[K cmp.Ordered, V any] struct {
	key   K
	line  int
	dates span
	valid Validity // set once the zone is known
	value V
}

// timeline holds the dated facts of one file: by key, then by first day.
type timeline[K cmp.Ordered, V any] struct {
	entries []entry[K, V]
	index   map[K][2]int32 // key: entries[lo:hi]
}

func newTimeline[K cmp.Ordered, V any](entries []entry[K, V]) timeline[K, V] {
	slices.SortFunc(entries, func(a, b entry[K, V]) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.dates.from, b.dates.from), cmp.Compare(a.line, b.line))
	})
	t := timeline[K, V]{entries: entries, index: make(map[K][2]int32, len(entries))}
	for lo := 0; lo < len(entries); {
		hi := lo + 1
		for hi < len(entries) && entries[hi].key == entries[lo].key {
			hi++
		}
		t.index[entries[lo].key] = [2]int32{int32(lo), int32(hi)}
		lo = hi
	}
	return t
}

// of returns every entry about key, earliest first.
func (t *timeline[K, V]) of(key K) []entry[K, V] {
	x := t.index[key]
	return t.entries[x[0]:x[1]]
}

// at returns the entry that holds at an instant, or nil. Where two hold, which
// takes a move eastwards across time zones on one date, it is the newer one.
func (t *timeline[K, V]) at(key K, at time.Time) *entry[K, V] {
	es := t.of(key)
	for i := len(es) - 1; i >= 0; i-- {
		if es[i].valid.Covers(at) {
			return &es[i]
		}
	}
	return nil
}

// on returns the entry that holds on a civil date, or nil.
func (t *timeline[K, V]) on(key K, d day) *entry[K, V] {
	es := t.of(key)
	for i := len(es) - 1; i >= 0; i-- {
		if es[i].dates.from <= d && d < es[i].dates.to {
			return &es[i]
		}
	}
	return nil
}

// gap returns the first part of s in which nothing is known of key.
func (t *timeline[K, V]) gap(key K, s span) (span, bool) {
	reached := s.from
	for _, e := range t.of(key) {
		if e.dates.to <= reached {
			continue
		}
		if e.dates.from > reached {
			return span{reached, min(e.dates.from, s.to)}, true
		}
		if reached = e.dates.to; reached >= s.to {
			return span{}, false
		}
	}
	return span{reached, s.to}, true
}

// setZones turns civil dates into instants.
func (t *timeline[K, V]) setZones(zone func(e *entry[K, V]) *time.Location) {
	for i := range t.entries {
		e := &t.entries[i]
		e.valid = e.dates.in(zone(e))
	}
}

// Package series turns what the journal holds into samples of the metric
// catalogue, for every sink alike.
//
// It guarantees that samples are a function of the record and the dated
// inventory alone: a rebuild makes the same series with the same timestamps. A
// failed or skipped result never gives a sample: unknown is not zero. It
// refuses, and counts by reason, whatever cannot be dated, lies outside the time
// that a sink takes, or belongs to no place; a refusal never holds up what
// follows.
package series

import (
	"math"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
)

// How far from its receipt an event may lie for its samples to go to the sinks.
// A sample from the future would make a store refuse every good one after it.
const (
	MaxAhead = 10 * time.Minute
	MaxAge   = 48 * time.Hour
)

// Series is one time series. A mapper hands out the same pointer for the same
// series as long as it remembers it, so that a sink may keep what it knows of a
// series by its pointer; two pointers may still name one series.
type Series struct {
	// Labels include the name (__name__).
	Labels labels.Labels
}

// Name is the metric's name.
func (s *Series) Name() string { return s.Labels.Get(model.MetricNameLabel) }

// Sample is one value of a series.
type Sample struct {
	Series *Series
	T      int64 // event time, Unix milliseconds
	V      float64
}

// StaleMarker is the value that ends a series at its timestamp, for sinks that
// know such a thing (Prometheus and its kin). See [Supersedes].
func StaleMarker() float64 { return math.Float64frombits(value.StaleNaN) }

// IsStale reports whether v is the stale marker.
func IsStale(v float64) bool { return value.IsStaleNaN(v) }

// Tally counts what became of a record's results beside samples.
type Tally struct {
	Held      map[Reason]int // results, or sites of a snapshot, held back; nil: none
	Corrected int            // results whose wall clock was not believed
}

func (t *Tally) hold(why Reason, n int) {
	if n == 0 {
		return
	}
	if t.Held == nil {
		t.Held = make(map[Reason]int)
	}
	t.Held[why] += n
}

// within reports why an event may not go to the sinks for its time; "" if it may.
func within(at, receivedAt time.Time) Reason {
	switch {
	case at.After(receivedAt.Add(MaxAhead)):
		return HeldFuture
	case at.Before(receivedAt.Add(-MaxAge)):
		return HeldOld
	}
	return ""
}

// Supersedes tells which series ends when a site's facts change: of the series
// that exist once for each site, the one with the labels of before. The zero
// value has seen nothing. It is not safe for concurrent use.
type Supersedes struct {
	last map[siteSeries]Sample
}

type siteSeries struct{ name, site string }

// Next takes a sample that is about to be written. If it is the first of a
// series that takes another's place, it returns a stale marker for that other
// one, at the same instant. A sample that is not newer than the last of its kind
// (a replay) changes nothing.
func (u *Supersedes) Next(s Sample) (ended Sample, ok bool) {
	name := s.Series.Name()
	switch name {
	case SiteInfo, PlanDownload, PlanUpload:
	default:
		return Sample{}, false
	}
	if u.last == nil {
		u.last = make(map[siteSeries]Sample)
	}
	key := siteSeries{name, s.Series.Labels.Get("site")}
	before, known := u.last[key]
	if known && s.T <= before.T {
		return Sample{}, false
	}
	u.last[key] = s
	if !known || before.Series == s.Series || labels.Equal(before.Series.Labels, s.Series.Labels) {
		return Sample{}, false
	}
	return Sample{Series: before.Series, T: s.T, V: StaleMarker()}, true
}

package speed

import (
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Merged is both directions as one object, for machines that read the output
// of a test made by hand.
type Merged struct {
	Kind          string           `json:"kind"` // "speed"
	Outcome       measure.Outcome  `json:"outcome"`
	Reason        measure.Reason   `json:"reason"`
	Detail        string           `json:"detail,omitempty"`
	Instrument    string           `json:"instrument"`
	MethodVersion string           `json:"method_version"`
	MeasuredAt    time.Time        `json:"measured_at"` // UTC, start of the first direction
	Duration      float64          `json:"duration_seconds"`
	Target        measure.TargetID `json:"target"`
	// Values holds what succeeded, also when the other direction did not.
	Values        map[measure.Metric]float64 `json:"values"`
	Flags         []measure.Flag             `json:"flags"`
	BytesReceived uint64                     `json:"bytes_received"`
	BytesSent     uint64                     `json:"bytes_sent"`
}

// Merge joins the two directions: failed if either failed, else skipped if
// either was skipped; the reason is that of the first that was not ok.
func Merge(down, up measure.Result) Merged {
	m := Merged{
		Kind: "speed", Outcome: measure.OK, Instrument: down.Instrument, MethodVersion: down.MethodVersion,
		MeasuredAt: down.MeasuredAt.UTC(), Duration: (down.Duration + up.Duration).Seconds(), Target: down.Target,
		Values: make(map[measure.Metric]float64), Flags: []measure.Flag{},
		BytesReceived: down.BytesReceived + up.BytesReceived, BytesSent: down.BytesSent + up.BytesSent,
	}
	for _, worst := range []measure.Outcome{measure.Failed, measure.Skipped} {
		for _, r := range []measure.Result{down, up} {
			if m.Outcome == measure.OK && r.Outcome == worst {
				m.Outcome, m.Reason, m.Detail = worst, r.Reason, string(r.Kind)+": "+r.Detail
			}
		}
	}
	for _, r := range []measure.Result{down, up} {
		for _, v := range r.Values {
			// Of what both directions have the worse counts.
			m.Values[v.Metric] = max(m.Values[v.Metric], v.Number)
		}
		for _, f := range r.Flags {
			if !slices.Contains(m.Flags, f) {
				m.Flags = append(m.Flags, f)
			}
		}
	}
	return m
}

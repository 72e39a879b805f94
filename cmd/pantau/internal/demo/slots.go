package demo

import (
	"context"
	"fmt"
	"time"
)

// slots are the windows of one slot's length within a span, each with at most one
// reach result of a village.
type slots struct {
	ends []time.Time
	// reached is, by village and end of the window in ms, 1 for reached and 0 for not;
	// a window without a result is not in it.
	reached map[string]map[int64]float64
}

// reachSlots reads the slots that lie wholly within a span.
func (r *run) reachSlots(ctx context.Context, from, to time.Time) (slots, error) {
	length := r.pace.Light
	out := slots{ends: windows(from, to, length), reached: map[string]map[int64]float64{}}
	if len(out.ends) == 0 {
		return out, nil
	}
	m, err := r.col.Query().Range(ctx, fmt.Sprintf("max by (village) (max_over_time(pantau_odp_reachable[%ds]))", int(length.Seconds())),
		out.ends[0], out.ends[len(out.ends)-1], length)
	if err != nil {
		return out, err
	}
	for _, s := range m {
		v := map[int64]float64{}
		for _, f := range s.Floats {
			v[f.T] = f.F
		}
		out.reached[s.Metric.Get("village")] = v
	}
	return out, nil
}

// windows are the ends of the windows within a span. A slot begins at a whole
// second: windows that end at half seconds have one each.
func windows(from, to time.Time, length time.Duration) (ends []time.Time) {
	end := from.Truncate(length).Add(time.Second / 2)
	for end.Add(-length).Before(from) {
		end = end.Add(length)
	}
	for ; !end.After(to); end = end.Add(length) {
		ends = append(ends, end)
	}
	return ends
}

// missingMinutes counts the minutes of a village in which any slot has no result.
func (s slots) missingMinutes(village string) int {
	minutes := map[time.Time]bool{}
	for _, end := range s.ends {
		if _, ok := s.reached[village][end.UnixMilli()]; !ok {
			minutes[end.Truncate(time.Minute)] = true
		}
	}
	return len(minutes)
}

// count counts a village's results within a span by what they say.
func (s slots) count(village string, from, to time.Time) (reached, cutOff int) {
	for _, end := range s.ends {
		v, ok := s.reached[village][end.UnixMilli()]
		switch {
		case !ok || end.Before(from) || end.After(to):
		case v > 0:
			reached++
		default:
			cutOff++
		}
	}
	return reached, cutOff
}

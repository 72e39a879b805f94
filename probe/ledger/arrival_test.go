package ledger

import (
	"testing"
	"time"
)

func TestArrival(t *testing.T) {
	const mss = 1000
	var a Arrival
	at := time.Unix(1000, 0)
	for _, look := range []struct {
		after                          time.Duration
		received, segments, disordered uint64
		want                           uint64
		why                            string
	}{
		{0, 10_000, 10, 0, 10_000, "in order"},
		{50 * time.Millisecond, 14_500, 15, 0, 14_500, "one was not full: what is in order is known exactly"},
		{50 * time.Millisecond, 15_500, 25, 9, 24_500, "one in order, one lost, nine behind it"},
		{50 * time.Millisecond, 15_500, 30, 14, 29_500, "and more behind it"},
		{50 * time.Millisecond, 15_500, 30, 14, 29_500, "nothing came"},
		{50 * time.Millisecond, 31_500, 32, 14, 31_500, "it came again, and one more: all is in order"},
		{50 * time.Millisecond, 31_500, 34, 15, 33_500, "another hole, and a segment for the second time"},
		{50 * time.Millisecond, 33_500, 35, 15, 34_500, "filled: what came twice still counts"},
		{time.Second, 133_500, 135, 15, 134_500, "all in order again"},
		{3 * time.Second, 233_500, 235, 15, 233_500, "for so long that nothing can be missing"},
	} {
		at = at.Add(look.after)
		if got := a.Look(at, look.received, look.segments, look.disordered, mss); got != look.want {
			t.Errorf("%s: %d bytes, want %d", look.why, got, look.want)
		}
	}
}

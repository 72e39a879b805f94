package measure

import (
	"math"
	"net/netip"
	"strings"
	"testing"
)

func TestUnknownIsNeverAValue(t *testing.T) {
	value := func(m Metric, n float64) []Value { return []Value{{Metric: m, Number: n}} }
	a := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct {
		name string
		r    Result
		says string // "" : valid
	}{
		{"ok", Result{Outcome: OK, Values: value(DownloadBitsPerSecond, 1)}, ""},
		{"zero is a value", Result{Outcome: OK, Values: value(ODPReachable, 0)}, ""},
		{"failed", Result{Outcome: Failed, Reason: ReasonTimeout}, ""},
		{"skipped", Result{Outcome: Skipped, Reason: ReasonNoTarget}, ""},
		{"ok without a value", Result{Outcome: OK}, "ok without a value"},
		{"ok with a reason", Result{Outcome: OK, Reason: ReasonTimeout, Values: value(ODPReachable, 1)}, "ok with reason"},
		{"failed with a value", Result{Outcome: Failed, Reason: ReasonTimeout, Values: value(ODPReachable, 0)}, "failed with 1 values"},
		{"failed without a reason", Result{Outcome: Failed}, "failed without a reason"},
		{"no outcome", Result{}, "unknown outcome"},
		{"not a number", Result{Outcome: OK, Values: value(JitterSeconds, math.NaN())}, "NaN"},
		{"infinite", Result{Outcome: OK, Values: value(JitterSeconds, math.Inf(1))}, "Inf"},
		{"negative", Result{Outcome: OK, Values: value(UploadBitsPerSecond, -8e-6)}, "-8e-06"},
		{"loss above one", Result{Outcome: OK, Values: value(PacketLossRatio, 1.01)}, "0 and 1"},
		{"two answers of one", Result{Outcome: OK, Values: value(TargetReachable, 2)}, "0 and 1"},
		{"light", Result{Outcome: OK, Values: value(OpticalReceivePowerDBm, -27.5)}, ""},
		{"dark", Result{Outcome: OK, Values: value(OpticalReceivePowerDBm, -40.1)}, "-40 and 8.2"},
		{"weak", Result{Outcome: OK, Values: value(MobileRSRPDBm, -156)}, ""},
		{"a modem's word for unknown", Result{Outcome: OK, Values: value(MobileRSRPDBm, -9999)}, "-156 and -31"},
		{"a quality above all", Result{Outcome: OK, Values: value(MobileSINRDB, 40.5)}, "-23 and 40"},
		{"sixth generation", Result{Outcome: OK, Values: value(MobileGeneration, 6)}, "2 and 5"},
		{"way", Result{Outcome: OK, Values: value(PathReached, 1), Hops: []Hop{{1, a, 0}, {3, a, 5}}}, ""},
		{"way back", Result{Outcome: OK, Values: value(PathReached, 1), Hops: []Hop{{3, a, 0}, {3, a, 5}}}, "hop 3 after 3"},
		{"hop without address", Result{Outcome: OK, Values: value(PathReached, 1), Hops: []Hop{{Limit: 1}}}, "hop 1"},
		{"a way too long", Result{Outcome: OK, Values: value(PathReached, 1), Hops: []Hop{{65, a, 0}}}, "hop 65"},
		{"failed with a way", Result{Outcome: Failed, Reason: ReasonTimeout, Hops: []Hop{{1, a, 0}}}, "failed with 1 values"},
		{"negative duration", Result{Outcome: Failed, Reason: ReasonOther, Duration: -1}, "negative duration"},
	} {
		err := c.r.Validate()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
}

func TestFailAndSkipTakeTheValuesAway(t *testing.T) {
	r := Result{Outcome: OK, Values: []Value{{Metric: ODPReachable, Number: 1}}, Hops: []Hop{{Limit: 1}}}
	long := strings.Repeat("é", MaxDetail)
	for _, x := range []Result{r.Fail(ReasonTimeout, long), r.Skip(ReasonBudget, long)} {
		if err := x.Validate(); err != nil || len(x.Detail) > MaxDetail || !strings.HasPrefix(long, x.Detail) || x.Detail == "" {
			t.Errorf("%v, %d bytes of detail", err, len(x.Detail))
		}
	}
}

func TestValueOfTheWholeResultOnly(t *testing.T) {
	r := Result{Values: []Value{{Metric: TargetReachable, Target: "olt", Number: 1}, {Metric: ODPReachable, Number: 0}}}
	if _, ok := r.Value(TargetReachable); ok {
		t.Error("a target's value is taken for the result's")
	}
	if v, ok := r.Value(ODPReachable); !ok || v != 0 {
		t.Errorf("%v, %v", v, ok)
	}
}

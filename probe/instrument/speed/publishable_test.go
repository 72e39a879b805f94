package speed

import (
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/probe/measure"
)

func TestWhatTheBoxLimitedIsNoFigureOfTheLine(t *testing.T) {
	r := measure.Result{Kind: measure.KindUpload, Outcome: measure.OK, Values: []measure.Value{{Metric: measure.UploadBitsPerSecond, Number: 5.9876e6}},
		Flags: []measure.Flag{"streams_8"}, BytesSent: 7}
	if got := Publishable(r); got.Outcome != measure.OK || len(got.Values) != 1 {
		t.Errorf("a sound result became %+v", got)
	}
	r.Flags = append(r.Flags, measure.FlagCPUBound)
	got := Publishable(r)
	if got.Outcome != measure.Failed || got.Reason != measure.ReasonCPUStarved || !strings.HasPrefix(got.Detail, "5.99 Mbit/s ") || got.BytesSent != 7 || got.Validate() != nil {
		t.Errorf("%+v", got)
	}
	failed := measure.Result{Kind: measure.KindUpload, Flags: r.Flags}.Fail(measure.ReasonStalled, "no byte")
	if got := Publishable(failed); got.Reason != measure.ReasonStalled {
		t.Errorf("%+v", got)
	}
}

package probe

import (
	"context"
	"slices"
	"testing"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

func figure(kind measure.Kind, mbps float64) measure.Result {
	m := measure.DownloadBitsPerSecond
	if kind == measure.KindUpload {
		m = measure.UploadBitsPerSecond
	}
	return measure.Result{Kind: kind, Outcome: measure.OK, Values: []measure.Value{{Metric: m, Number: mbps * 1e6}}}
}

func TestWhatIsLowIsMarked(t *testing.T) {
	l := limits{measure.KindDownload: 25e6, measure.KindUpload: 10e6}
	down, up := measure.KindDownload, measure.KindUpload
	const confirmed, alone = measure.FlagLowConfirmed, measure.FlagLowUnconfirmed
	for _, c := range []struct {
		name          string
		first, second []measure.Result
		want          []measure.Flag // of each; empty: none
	}{
		{"good", []measure.Result{figure(down, 48), figure(up, 10)}, nil, []measure.Flag{"", ""}},
		{"a bad server", []measure.Result{figure(down, 8), figure(up, 19)}, []measure.Result{figure(down, 47)}, []measure.Flag{alone, "", ""}},
		{"a bad line", []measure.Result{figure(down, 8), figure(up, 19)}, []measure.Result{figure(down, 9)}, []measure.Flag{confirmed, "", confirmed}},
		{"both directions, each by itself", []measure.Result{figure(down, 8), figure(up, 2)}, []measure.Result{figure(down, 9), figure(up, 18)},
			[]measure.Flag{confirmed, alone, confirmed, ""}},
		{"no other server", []measure.Result{figure(down, 8), figure(up, 19)}, nil, []measure.Flag{alone, ""}},
		{"the other one failed", []measure.Result{figure(down, 8)}, []measure.Result{figure(down, 0).Fail(measure.ReasonRefused, "x")}, []measure.Flag{alone, ""}},
	} {
		got := l.mark(c.first, c.second)
		if len(got) != len(c.want) {
			t.Fatalf("%s: %d results", c.name, len(got))
		}
		for i, r := range got {
			want := []measure.Flag{c.want[i]}
			if c.want[i] == "" {
				want = nil
			}
			if !slices.Equal(r.Flags, want) {
				t.Errorf("%s: %s has %v, want %v", c.name, r.Kind, r.Flags, want)
			}
		}
	}
	if (limits{}).low(figure(down, 0.001)) {
		t.Error("low without a plan")
	}
}

// server is a measurement server on loopback until the test ends.
func server(t *testing.T) (url string) {
	t.Helper()
	s, err := target.New(target.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return "http://" + s.Addr().String() + "/speedtest"
}

// A line that is low at one server is measured at another one, in that direction.
func TestALowResultIsMeasuredAgainElsewhere(t *testing.T) {
	one, two := server(t), server(t)
	for _, c := range []struct {
		name    string
		targets []*wirepb.SpeedTarget
		tests   int // downloads
	}{
		{"two servers", []*wirepb.SpeedTarget{{Id: "one", Url: one}, {Id: "two", Url: two}}, 2},
		{"one server", []*wirepb.SpeedTarget{{Id: "one", Url: one}}, 1},
		{"one server by two names", []*wirepb.SpeedTarget{{Id: "one", Url: one}, {Id: "same", Url: one}}, 1},
	} {
		k := kitFor(t)
		set := k.set(&wirepb.ProbeConfig{SpeedDurationNs: 2e9, SpeedTargets: c.targets, LowDownloadBps: 1e15}, Local{})
		at := map[measure.TargetID]bool{}
		var downs, ups int
		for _, r := range set.Heavy(t.Context()) {
			marked := slices.Contains(r.Flags, measure.FlagLowConfirmed) || slices.Contains(r.Flags, measure.FlagLowUnconfirmed)
			if r.Kind == measure.KindUpload {
				if ups++; marked {
					t.Errorf("%s: an upload without a limit is marked: %v", c.name, r.Flags)
				}
				continue
			}
			downs++
			at[r.Target] = true
			// On a busy machine a figure may be the box's own, and is none then.
			if r.Outcome == measure.OK && !marked {
				t.Errorf("%s: %+v is not marked", c.name, r)
			}
			if r.Reason == measure.ReasonCPUStarved {
				c.tests = min(c.tests, max(downs, 1))
			}
		}
		if downs != c.tests || ups != 1 || len(at) != c.tests {
			t.Errorf("%s: %d downloads at %v, %d uploads", c.name, downs, at, ups)
		}
	}
}

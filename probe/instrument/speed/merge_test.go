package speed_test

import (
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/measure"
)

func TestMerge(t *testing.T) {
	ok := func(kind measure.Kind, m measure.Metric, v float64, flags ...measure.Flag) measure.Result {
		return measure.Result{Kind: kind, Outcome: measure.OK, Instrument: "speedtest-go", MethodVersion: "1", Target: "t1",
			MeasuredAt: time.Date(2026, 3, 1, 7, 0, 0, 0, time.FixedZone("WIB", 7*3600)), Duration: 10 * time.Second,
			Values: []measure.Value{{Metric: m, Number: v}}, Flags: flags, BytesReceived: 100, BytesSent: 10}
	}
	down := ok(measure.KindDownload, measure.DownloadBitsPerSecond, 38e6, measure.FlagCPUBound, "server_cc_bbr")
	up := ok(measure.KindUpload, measure.UploadBitsPerSecond, 19e6, "server_cc_bbr")
	for _, tt := range []struct {
		name     string
		down, up measure.Result
		want     measure.Outcome
		reason   measure.Reason
		detail   string
		values   int
	}{
		{"both", down, up, measure.OK, measure.ReasonNone, "", 2},
		{"up failed", down, up.Fail(measure.ReasonStalled, "no byte"), measure.Failed, measure.ReasonStalled, "upload: no byte", 1},
		{"down failed", down.Fail(measure.ReasonDNS, "no name"), up, measure.Failed, measure.ReasonDNS, "download: no name", 1},
		{"both failed", down.Fail(measure.ReasonDNS, "a"), up.Fail(measure.ReasonStalled, "b"), measure.Failed, measure.ReasonDNS, "download: a", 0},
		{"skipped and failed", down.Skip(measure.ReasonBudget, "a"), up.Fail(measure.ReasonStalled, "b"), measure.Failed, measure.ReasonStalled, "upload: b", 0},
		{"up skipped", down, up.Skip(measure.ReasonBudget, "spent"), measure.Skipped, measure.ReasonBudget, "upload: spent", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := speed.Merge(tt.down, tt.up)
			if m.Outcome != tt.want || m.Reason != tt.reason || m.Detail != tt.detail || len(m.Values) != tt.values {
				t.Errorf("%+v", m)
			}
			if m.Kind != "speed" || m.Duration != 20 || m.BytesReceived != 200 || m.BytesSent != 20 ||
				len(m.Flags) != 2 || m.MeasuredAt.Format(time.RFC3339) != "2026-03-01T00:00:00Z" {
				t.Errorf("%+v", m)
			}
		})
	}
}

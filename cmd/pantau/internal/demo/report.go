package demo

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/netlab"
)

// Report is what a run amounts to, as JSON.
type Report struct {
	// OK: every village has speed, latency, reach and usage, and its median speeds
	// are within Tolerance of what its line carries. Without namespaces only the
	// first two are asked.
	OK       bool            `json:"ok"`
	Netns    bool            `json:"netns"`
	Seconds  float64         `json:"duration_seconds"`
	First    float64         `json:"first_result_seconds"` // from the start to the first figure of every village; 0: never
	Villages []VillageReport `json:"villages"`
	Page     string          `json:"page"`
	Target   string          `json:"target"`
}

// VillageReport is one village's line and what was measured of it.
type VillageReport struct {
	Village            string  `json:"village"`
	Name               string  `json:"name"`
	State              string  `json:"state"`
	ShapedDownload     float64 `json:"shaped_download_bps"` // layer 2; 0: not shaped
	ShapedUpload       float64 `json:"shaped_upload_bps"`
	MedianDownload     float64 `json:"median_download_bps"` // payload; 0: none yet
	MedianUpload       float64 `json:"median_upload_bps"`
	Tests              int     `json:"tests"`
	LatencySeconds     float64 `json:"latency_seconds_median"`
	ReachResults       int     `json:"reach_results"`
	UsageBytesReceived float64 `json:"usage_bytes_received"`
	Within             bool    `json:"within_tolerance"`

	usage, latency, reach bool
}

// Tolerance is how far a median may be from what the line carries.
const Tolerance = 0.10

const span = "[24h]"

// look reads the villages' figures from the store.
func (r *run) look(ctx context.Context) []VillageReport {
	states := map[string][]state.State{}
	for _, s := range r.col.Snapshot().Sites {
		states[string(s.Site)] = append(states[string(s.Site)], s.State)
	}
	read := func(expr string) map[string]float64 {
		out := map[string]float64{}
		v, err := r.col.Query().Instant(ctx, expr, time.Now())
		if err != nil {
			r.log.Warn("the demo cannot read its figures", "err", err)
			return out
		}
		for _, s := range v {
			out[s.Metric.Get("village")] = s.F
		}
		return out
	}
	down := read("max by (village) (quantile_over_time(0.5, pantau_download_bits_per_second" + span + "))")
	up := read("max by (village) (quantile_over_time(0.5, pantau_upload_bits_per_second" + span + "))")
	tests := read("sum by (village) (count_over_time(pantau_download_bits_per_second" + span + "))")
	lat := read(`max by (village) (last_over_time(pantau_latency_seconds{stat="median"}` + span + "))")
	reach := read("sum by (village) (count_over_time(pantau_odp_reachable" + span + "))")
	used := read("sum by (village) (last_over_time(pantau_link_receive_bytes_total" + span + "))")
	var out []VillageReport
	for _, l := range r.lines {
		v := VillageReport{Village: l.Code, Name: l.Name, ShapedDownload: l.Down, ShapedUpload: l.Up,
			MedianDownload: down[l.Code], MedianUpload: up[l.Code], Tests: int(tests[l.Code]), LatencySeconds: lat[l.Code],
			ReachResults: int(reach[l.Code]), UsageBytesReceived: used[l.Code],
			State: state.OfVillage(states[string(l.Site)]).String()}
		_, v.usage = used[l.Code]
		_, v.latency = lat[l.Code]
		v.reach = v.ReachResults > 0
		v.Within = within(v.MedianDownload, l.Down) && within(v.MedianUpload, l.Up)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b VillageReport) int { return cmp.Compare(a.Village, b.Village) })
	return out
}

// within compares a payload rate with what a shaped line carries of it.
func within(median, shaped float64) bool {
	if shaped == 0 {
		return median > 0
	}
	truth := netlab.PayloadRate(shaped)
	return math.Abs(median-truth) <= Tolerance*truth
}

// report is the verdict on what lastLook saw.
func (r *run) report() Report {
	out := Report{OK: len(r.final) > 0, Netns: r.world != nil, Seconds: time.Since(r.began).Seconds(), First: r.first.Seconds(),
		Villages: r.final, Page: r.page(), Target: r.targetURL()}
	for _, v := range r.final {
		out.OK = out.OK && v.Tests > 0 && v.latency && v.reach && v.Within && (r.world == nil || v.usage)
	}
	return out
}

// lastLook reads the figures while the store is still open.
func (r *run) lastLook() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !r.col.CaughtUp() && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
	}
	r.final = r.look(ctx)
}

func (r *run) page() string { return fmt.Sprintf("http://%s/", r.col.OfficeAddr()) }

func (r *run) targetURL() string { return fmt.Sprintf("http://%s/speedtest", r.target.Addr()) }

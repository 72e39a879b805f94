package demo

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/netlab"
)

// Report is what a run amounts to, as JSON.
type Report struct {
	// OK: every village has speed, latency, reach and usage, its median speeds are
	// within Tolerance of what its line carries, and the run ended without an error.
	// Without namespaces there is no rate to compare with, and no usage is asked.
	OK       bool            `json:"ok"`
	Netns    bool            `json:"netns"`
	Seconds  float64         `json:"duration_seconds"`
	First    float64         `json:"first_result_seconds"` // from the start until every village had latency and reach; 0: never
	Villages []VillageReport `json:"villages"`
	Page     string          `json:"page"`
	Target   string          `json:"target"`
	Mails    string          `json:"mails"` // address of the pages of the post office
	Seed     uint64          `json:"seed"`  // draws the same rates and the same story
	*StoryReport
}

// VillageReport is one village's line and what was measured of it.
type VillageReport struct {
	Village        string  `json:"village"`
	Name           string  `json:"name"`
	State          string  `json:"state"`
	ShapedDownload float64 `json:"shaped_download_bps"` // layer 2; 0: not shaped
	ShapedUpload   float64 `json:"shaped_upload_bps"`
	MedianDownload float64 `json:"median_download_bps"` // payload; 0: none yet
	MedianUpload   float64 `json:"median_upload_bps"`
	Tests          int     `json:"tests"`
	// TestsInSpike are those that measured what the story's traffic left of the line:
	// they are in no median here, and not among Tests.
	TestsInSpike       int     `json:"tests_in_spike,omitempty"`
	LatencySeconds     float64 `json:"latency_seconds_median"`
	ReachResults       int     `json:"reach_results"`
	ReachMissing       int     `json:"reach_missing"` // slots without a result between the first and the last that has one
	UsageBytesReceived float64 `json:"usage_bytes_received"`
	Within             bool    `json:"within_tolerance"`
	// Problems say in words why the village's figures do not hold.
	Problems []string `json:"problems,omitempty"`

	number, odc           int // of the village from 1, of its ODC from 0
	state                 villageState
	usage, latency, reach bool
}

// Tolerance is how far a median may be from what the line carries.
const Tolerance = 0.10

const span = "[24h]"

// villageState is what is known now of a village.
type villageState struct {
	place
	State           state.State
	At, Since, Beat time.Time // of the look; of the state; of the last heartbeat, zero: none
}

// states are those of the villages now, in their order.
func (r *run) states() []villageState {
	snap := r.col.Snapshot()
	var out []villageState
	for _, l := range r.lines {
		v := villageState{place: l.place, At: snap.At}
		var of []state.State
		for _, s := range snap.Sites {
			if s.Site == l.Site {
				of = append(of, s.State)
				v.Since, v.Beat = s.Since, s.LastBeat
			}
		}
		v.State = state.OfVillage(of)
		out = append(out, v)
	}
	return out
}

// look reads the villages' figures from the store.
func (r *run) look(ctx context.Context) []VillageReport {
	now := time.Now()
	read := func(expr string) map[string]float64 {
		out := map[string]float64{}
		v, err := r.col.Query().Instant(ctx, expr, now)
		if err != nil {
			r.cannotRead(ctx, err)
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
	missing := r.missing(ctx, now)
	var out []VillageReport
	for i, s := range r.states() {
		l := r.lines[i]
		v := VillageReport{Village: l.Code, Name: l.Name, State: s.State.String(), ShapedDownload: l.Down, ShapedUpload: l.Up,
			MedianDownload: down[l.Code], MedianUpload: up[l.Code], Tests: int(tests[l.Code]), LatencySeconds: lat[l.Code],
			ReachResults: int(reach[l.Code]), ReachMissing: missing[l.Code], UsageBytesReceived: used[l.Code],
			number: i + 1, odc: l.ODC, state: s}
		if spike := r.spike.Load(); spike != nil && spike.village == l.Code {
			r.leaveOut(ctx, now, &v, *spike)
		}
		_, v.usage = used[l.Code]
		_, v.latency = lat[l.Code]
		v.reach = v.ReachResults > 0
		v.Within = within(v.MedianDownload, l.Down) && within(v.MedianUpload, l.Up)
		v.Problems = v.problems()
		out = append(out, v)
	}
	return out
}

// spike is the stretch in which the story filled a village's line. A test that
// begins within measures what is left of it, which is not what the line carries.
type spike struct {
	village  string
	from, to time.Time // to: zero while it lasts
}

func (s spike) holds(at time.Time) bool {
	return at.After(s.from) && (s.to.IsZero() || !at.After(s.to))
}

// leaveOut takes the tests of a spike out of a village's figures.
func (r *run) leaveOut(ctx context.Context, now time.Time, v *VillageReport, s spike) {
	median := func(metric string) (m float64, in, out int) {
		// A window of a second around each second has every sample once.
		series, err := r.col.Query().Range(ctx, fmt.Sprintf("last_over_time(%s{village=%q}[1s])", metric, v.Village), r.began, now, time.Second)
		if err != nil {
			r.cannotRead(ctx, err)
			return 0, 0, 0
		}
		var rest []float64
		for _, x := range series {
			for _, f := range x.Floats {
				if s.holds(time.UnixMilli(f.T)) {
					in++
				} else {
					rest = append(rest, f.F)
				}
			}
		}
		return medianOf(rest), in, len(rest)
	}
	v.MedianDownload, v.TestsInSpike, v.Tests = median("pantau_download_bits_per_second")
	v.MedianUpload, _, _ = median("pantau_upload_bits_per_second")
}

// medianOf is 0 of nothing, as is every figure here that is not known.
func medianOf(x []float64) float64 {
	n := len(x)
	if n == 0 {
		return 0
	}
	x = slices.Sorted(slices.Values(x))
	return (x[(n-1)/2] + x[n/2]) / 2
}

func (r *run) cannotRead(ctx context.Context, err error) {
	if ctx.Err() == nil {
		r.log.Warn("the demo cannot read its figures", "err", err)
	}
}

// missing counts for each village the slots without a reach result between the
// first and the last that has one. While a village is cut off none is missing yet;
// when its line is back, some are until all have come.
func (r *run) missing(ctx context.Context, now time.Time) map[string]int {
	slot := r.pace.Light
	// A slot begins at a whole second: windows that end at half seconds have one each.
	from := r.began.Truncate(slot).Add(time.Second / 2)
	out := map[string]int{}
	m, err := r.col.Query().Range(ctx, fmt.Sprintf("sum by (village) (count_over_time(pantau_odp_reachable[%ds]))", int(slot.Seconds())),
		from, now.Add(slot), slot)
	if err != nil {
		r.cannotRead(ctx, err)
		return out
	}
	for _, s := range m {
		if n := len(s.Floats); n > 0 {
			out[s.Metric.Get("village")] = int((s.Floats[n-1].T-s.Floats[0].T)/slot.Milliseconds()) + 1 - n
		}
	}
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

// problems are the reasons why a village's figures do not hold; none: they do.
func (v VillageReport) problems() (out []string) {
	no := func(missing bool, what string) {
		if missing {
			out = append(out, "no "+what)
		}
	}
	no(v.Tests == 0, "speed test")
	no(!v.latency, "latency")
	no(!v.reach, "reach")
	no(!v.usage && v.ShapedDownload > 0, "usage")
	for _, d := range []struct {
		name           string
		median, shaped float64
	}{{"download", v.MedianDownload, v.ShapedDownload}, {"upload", v.MedianUpload, v.ShapedUpload}} {
		if v.Tests > 0 && !within(d.median, d.shaped) {
			out = append(out, fmt.Sprintf("median %s of %.2f Mbit/s, its line carries %.2f", d.name, d.median/1e6, netlab.PayloadRate(d.shaped)/1e6))
		}
	}
	return out
}

// report is the verdict on what lastLook saw.
func (r *run) report() Report {
	out := Report{OK: len(r.final) > 0, Netns: r.world != nil, Seconds: time.Since(r.began).Seconds(), First: r.first.Seconds(),
		Villages: r.final, Page: r.page(), Target: r.targetURL(),
		Mails: r.postURL(), Seed: r.opt.Seed}
	for _, v := range r.final {
		out.OK = out.OK && len(v.Problems) == 0
	}
	if r.story != nil {
		out.StoryReport = &r.story.report
		out.OK = out.OK && r.story.failed == nil
	}
	return out
}

// lastLook reads the figures while the store is still open.
func (r *run) lastLook() {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for !r.col.CaughtUp() && ctx.Err() == nil {
		pause(ctx, 50*time.Millisecond)
	}
	r.final = r.look(ctx)
	r.show(r.final)
	r.screen.fix()
}

// conclude says what the run amounts to, when all is closed and removed.
func (r *run) conclude(out Report, err error) {
	if err != nil {
		return // that is said instead
	}
	if len(out.Villages) == 0 {
		r.say("Ended before anything was measured. Nothing is left but %s.", r.opt.Dir)
		return
	}
	tests, missing, wrong := 0, 0, 0
	var problems []string
	for _, v := range out.Villages {
		tests += v.Tests
		missing += v.ReachMissing
		if len(v.Problems) > 0 {
			wrong++
			problems = append(problems, fmt.Sprintf("  %s: %s", v.Name, strings.Join(v.Problems, "; ")))
		}
	}
	said := "The figures hold for all %d villages"
	if !out.Netns {
		said = "All %d villages have figures"
	}
	said = fmt.Sprintf(said, len(out.Villages))
	if wrong > 0 {
		said = fmt.Sprintf("The figures do not hold for %d of %d villages", wrong, len(out.Villages))
	}
	r.say("%s, after %s and %d speed tests; %d slots of reach are missing.", said,
		time.Duration(out.Seconds*float64(time.Second)).Round(time.Second), tests, missing)
	for _, p := range problems {
		r.say("%s", p)
	}
	if r.story != nil {
		r.say("%s", r.story.conclusion())
	}
	r.say("Nothing is left but %s.", r.opt.Dir)
}

func (r *run) page() string { return fmt.Sprintf("http://%s/", r.col.OfficeAddr()) }

func (r *run) postURL() string { return fmt.Sprintf("http://%s/", r.post.Addr()) }

func (r *run) targetURL() string { return fmt.Sprintf("http://%s/speedtest", r.hand.Addr()) }

package series_test

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

var (
	now    = time.Date(2026, 2, 10, 8, 5, 3, 0, time.UTC)
	booted = now.Add(-70 * time.Hour)
)

// lines renders samples for comparison: series, seconds after now, value.
func lines(samples []series.Sample) []string {
	var out []string
	for _, s := range samples {
		out = append(out, fmt.Sprintf("%s @%v %v", s.Series.Labels, time.UnixMilli(s.T).Sub(now), s.V))
	}
	slices.Sort(out)
	return out
}

func TestBatchGivesTheContractsSeries(t *testing.T) {
	at := now.Add(-2 * time.Minute)
	speed := seriestest.Latency(at, booted, 1)
	speed.Kind, speed.Target, speed.Values = measure.KindDownload, "iix-2", []measure.Value{{Metric: measure.DownloadBitsPerSecond, Number: 38.16e6}}
	usage := seriestest.Latency(at, booted, 1)
	usage.Kind, usage.Target = measure.KindUsage, ""
	usage.Values = []measure.Value{{Metric: measure.LinkReceiveBytesTotal, Number: 5}, {Metric: measure.LinkTransmitBytesTotal, Number: 6}}
	optics := seriestest.Latency(at, booted, 1)
	optics.Kind, optics.Target, optics.Values = measure.KindOptics, "", []measure.Value{{Metric: measure.OpticalReceivePowerDBm, Number: -21.5}}
	path := seriestest.Latency(at, booted, 1)
	path.Kind, path.Values = measure.KindPath, []measure.Value{{Metric: measure.PathReached, Number: 0}}
	path.Hops = []measure.Hop{{Limit: 1, Address: netip.MustParseAddr("192.168.1.1"), RoundTrip: time.Millisecond},
		{Limit: 3, Address: netip.MustParseAddr("10.0.0.1"), RoundTrip: 9 * time.Millisecond}}
	b := seriestest.Batch("probe-a", 7, now.Add(-time.Second), booted,
		seriestest.Latency(at, booted, 0.02), seriestest.Reach(at, booted, false), speed, usage, optics, path)
	b.Counters = append(b.Counters, wire.Counter{Kind: measure.KindUpload, Outcome: measure.Failed, Reason: measure.ReasonTimeout, Count: 2})

	got, tally := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now.Add(300*time.Millisecond), seriestest.Inventory(t))
	if len(tally.Held) > 0 || tally.Corrected != 0 {
		t.Errorf("tally %+v", tally)
	}
	const who = `district="33.10.15", %sprobe="probe-a", province="33", %sregency="33.10", site="site-a"%s, village="33.10.15.2009"}`
	line := func(name, extra, stat, rest string) string {
		return `{__name__="` + name + `", ` + fmt.Sprintf(who, "", "", extra+stat) + rest
	}
	iix := `, target="iix-1"`
	want := []string{
		line("pantau_latency_seconds", `, stat="min"`, iix, " @-2m0s 0.01"),
		line("pantau_latency_seconds", `, stat="median"`, iix, " @-2m0s 0.02"),
		line("pantau_latency_seconds", `, stat="p95"`, iix, " @-2m0s 0.04"),
		line("pantau_jitter_seconds", "", iix, " @-2m0s 0.002"),
		line("pantau_packet_loss_ratio", "", iix, " @-2m0s 0"),
		line("pantau_carrier_up", "", "", " @-2m0s 1"),
		line("pantau_lan_gateway_reachable", "", "", " @-2m0s 0"),
		line("pantau_target_reachable", "", iix, " @-2m0s 0"),
		line("pantau_odp_reachable", "", "", " @-2m0s 0"),
		line("pantau_download_bits_per_second", "", `, target="iix-2"`, " @-2m0s 3.816e+07"),
		line("pantau_link_receive_bytes_total", "", "", " @-2m0s 5"),
		line("pantau_link_transmit_bytes_total", "", "", " @-2m0s 6"),
		line("pantau_optical_receive_power_dbm", "", "", " @-2m0s -21.5"),
		line("pantau_path_reached", "", iix, " @-2m0s 0"),
		strings.Replace(line("pantau_path_hop_seconds", "", iix, " @-2m0s 0.001"), `15", probe`, `15", hop="1", probe`, 1),
		strings.Replace(line("pantau_path_hop_seconds", "", iix, " @-2m0s 0.009"), `15", probe`, `15", hop="3", probe`, 1),
		`{__name__="pantau_result_total", district="33.10.15", kind="latency", outcome="ok", probe="probe-a", province="33", regency="33.10", site="site-a", village="33.10.15.2009"} @-1s 7`,
		`{__name__="pantau_result_total", district="33.10.15", kind="upload", outcome="failed", probe="probe-a", province="33", reason="timeout", regency="33.10", site="site-a", village="33.10.15.2009"} @-1s 2`,
	}
	slices.Sort(want)
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Error(d)
	}
}

func TestWhatGivesNoSampleAndWhatIsHeld(t *testing.T) {
	at := now.Add(-time.Minute)
	ok := seriestest.Latency(at, booted, 0.02)
	with := func(change func(*measure.Result)) measure.Result {
		r := ok
		r.Values = slices.Clone(ok.Values)
		change(&r)
		return r
	}
	for name, tc := range map[string]struct {
		r     measure.Result
		probe measure.ProbeID
		held  series.Reason // empty: nothing is held
		n     int           // samples
	}{
		"ok":                    {r: ok, n: 5},
		"failed":                {r: ok.Fail(measure.ReasonTimeout, "")},
		"failed with values":    {r: with(func(r *measure.Result) { r.Outcome, r.Reason = measure.Failed, measure.ReasonTimeout })},
		"skipped":               {r: ok.Skip(measure.ReasonBudget, "")},
		"outcome of the future": {r: with(func(r *measure.Result) { r.Outcome = "other" })},
		"negative":              {r: with(func(r *measure.Result) { r.Values[1].Number = -1 }), held: series.HeldInvalid},
		"loss above one":        {r: with(func(r *measure.Result) { r.Values[4].Number = 1.1 }), held: series.HeldInvalid},
		"light beyond any receiver": {r: with(func(r *measure.Result) {
			r.Values = append(r.Values, measure.Value{Metric: measure.OpticalReceivePowerDBm, Number: -65535})
		}), held: series.HeldInvalid},
		"a way back": {r: with(func(r *measure.Result) {
			r.Hops = []measure.Hop{{Limit: 2, Address: netip.IPv6Loopback()}, {Limit: 1, Address: netip.IPv6Loopback()}}
		}), held: series.HeldInvalid},
		"not finite": {r: with(func(r *measure.Result) { r.Values[1].Number = math.Inf(1) }), held: series.HeldInvalid},
		"figure of the future": {r: with(func(r *measure.Result) {
			r.Values = append(r.Values, measure.Value{Metric: measure.MetricOther, Number: -60})
		}), n: 5},
		"only figures of the future": {r: with(func(r *measure.Result) { r.Values = []measure.Value{{Metric: measure.MetricOther, Number: -60}} })},
		"unknown probe":              {r: ok, probe: "probe-x", held: series.HeldInventory},
		"before the probe's place":   {r: with(func(r *measure.Result) { r.MeasuredAt = time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC) }), n: 5}, // its clock is corrected
		"target with a space":        {r: with(func(r *measure.Result) { r.Target = "a b" }), held: series.HeldTarget},
		"target not UTF-8":           {r: with(func(r *measure.Result) { r.Target = "\xff" }), held: series.HeldTarget},
		"long target":                {r: with(func(r *measure.Result) { r.Target = measure.TargetID(strings.Repeat("x", 65)) }), held: series.HeldTarget},
		"measured after sending":     {r: with(func(r *measure.Result) { r.Monotonic = now.Add(time.Second).Sub(booted) }), held: series.HeldClock},
		"measured before the boot":   {r: with(func(r *measure.Result) { r.Monotonic = -1 }), held: series.HeldClock},
		"older than two days": {r: with(func(r *measure.Result) {
			r.MeasuredAt = now.Add(-48*time.Hour - time.Second)
			r.Monotonic = r.MeasuredAt.Sub(booted)
		}), held: series.HeldOld},
		"almost two days old": {r: with(func(r *measure.Result) {
			r.MeasuredAt = now.Add(-48*time.Hour + time.Second)
			r.Monotonic = r.MeasuredAt.Sub(booted)
		}), n: 5},
	} {
		t.Run(name, func(t *testing.T) {
			b := seriestest.Batch("probe-a", 1, now, booted, tc.r)
			if tc.probe != "" {
				b.Probe = tc.probe
			}
			b.Counters = nil
			got, tally := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
			if len(got) != tc.n {
				t.Errorf("%d samples, want %d: %v", len(got), tc.n, lines(got))
			}
			var want map[series.Reason]int
			if tc.held != "" {
				want = map[series.Reason]int{tc.held: 1}
			}
			if d := cmp.Diff(want, tally.Held); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestARefusalHoldsUpNothing(t *testing.T) {
	old := seriestest.Latency(now.Add(-49*time.Hour), booted, 1)
	b := seriestest.Batch("probe-a", 1, now, booted, old, seriestest.Latency(now.Add(-time.Minute), booted, 0.02), old)
	got, tally := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
	if len(got) != 6 || tally.Held[series.HeldOld] != 2 {
		t.Errorf("%d samples, held %v", len(got), tally.Held)
	}
}

func TestEventTime(t *testing.T) {
	const otherBoot measure.BootID = "6c1b1a5e-6f0e-4c55-9d30-0a4f3f1f0002"
	wrong := time.Date(1970, 1, 1, 3, 0, 0, 0, time.UTC).Sub(now) // a clock that began in 1970
	event := now.Add(-10 * time.Minute)
	for name, tc := range map[string]struct {
		sent    wire.Sent
		quality measure.ClockQuality
		sealing time.Duration // error of the clock at sealing, and at measuring
		boot    measure.BootID
		wall    time.Time
		want    time.Time // zero: held
		skewed  bool
	}{
		"good clock": {sent: seriestest.Sent(now, booted), wall: event, want: event},
		"good clock, off by less than two seconds": {sent: wire.Sent{Boot: seriestest.Boot, Mono: now.Sub(booted), Wall: now.Add(1900 * time.Millisecond)},
			wall: event.Add(1900 * time.Millisecond), want: event.Add(1900 * time.Millisecond)},
		"three seconds ahead": {sent: wire.Sent{Boot: seriestest.Boot, Mono: now.Sub(booted), Wall: now.Add(3 * time.Second)},
			wall: event.Add(3 * time.Second), want: event, skewed: true},
		"in 1970":                                {sent: wire.Sent{Boot: seriestest.Boot, Mono: now.Sub(booted), Wall: now.Add(wrong)}, wall: event.Add(wrong), want: event, skewed: true},
		"in 2090":                                {sent: wire.Sent{Boot: seriestest.Boot, Mono: now.Sub(booted), Wall: now.AddDate(64, 0, 0)}, wall: event.AddDate(64, 0, 0), want: event, skewed: true},
		"in 1970 when measured, right when sent": {sent: seriestest.Sent(now, booted), wall: event.Add(wrong), want: event, skewed: true},
		"slow upload of a vouched clock": {sent: seriestest.Sent(now.Add(-90*time.Second), booted), quality: measure.ClockSynchronised,
			wall: event, want: event},
		"slow upload of a clock that nothing vouches for": {sent: seriestest.Sent(now.Add(-90*time.Second), booted),
			wall: event, want: event.Add(90 * time.Second), skewed: true},
		"earlier boot, vouched": {sent: wire.Sent{Boot: otherBoot, Mono: time.Minute, Wall: now}, quality: measure.ClockSynchronised, wall: event, want: event},
		"earlier boot, vouched when sealed, in 1970 when measured": {sent: wire.Sent{Boot: otherBoot, Mono: time.Minute, Wall: now},
			quality: measure.ClockCollector, wall: event.Add(wrong), want: event, skewed: true},
		"earlier boot, not vouched":           {sent: wire.Sent{Boot: otherBoot, Mono: time.Minute, Wall: now}, wall: event},
		"no word of the sending, vouched":     {quality: measure.ClockCollector, wall: event, want: event},
		"no word of the sending, not vouched": {wall: event},
		"before a power cut, sealed after it": {sent: seriestest.Sent(now, booted), quality: measure.ClockSynchronised, boot: otherBoot,
			wall: booted.Add(-time.Minute), want: booted.Add(-time.Minute)},
		"of another boot but dated into this one": {sent: seriestest.Sent(now, booted), quality: measure.ClockSynchronised, boot: otherBoot, wall: event},
	} {
		t.Run(name, func(t *testing.T) {
			b := seriestest.Batch("probe-a", 1, now.Add(-time.Minute), booted)
			b.Quality = tc.quality
			boot := tc.boot
			if boot == "" {
				boot = seriestest.Boot
			}
			at, skewed, held := series.NewDater(&b, tc.sent, now).Date(boot, event.Sub(booted), tc.wall)
			if !at.Equal(tc.want) || skewed != tc.skewed || (held != "") != tc.want.IsZero() {
				t.Errorf("got %v, corrected %v, held %q; want %v, corrected %v", at, skewed, held, tc.want, tc.skewed)
			}
		})
	}
}

func TestFutureIsHeld(t *testing.T) {
	// Only a vouched clock that lies can date anything ahead.
	b := seriestest.Batch("probe-a", 1, now.Add(400*24*time.Hour), booted, seriestest.Latency(now.Add(400*24*time.Hour), booted, 1))
	got, tally := series.NewMapper().Batch(nil, &b, wire.Sent{}, now, seriestest.Inventory(t))
	if len(got) != 0 || tally.Held[series.HeldFuture] != 1 {
		t.Errorf("%v, held %v", lines(got), tally.Held)
	}
}

func TestLabelsFollowThePlaceAtEventTime(t *testing.T) {
	moved := seriestest.Moved()
	booted := moved.Add(-70 * time.Hour)
	b := seriestest.Batch("probe-a", 1, moved.Add(time.Hour), booted,
		seriestest.Latency(moved.Add(-time.Minute), booted, 1), seriestest.Latency(moved, booted, 1), seriestest.Latency(moved.Add(-2*time.Minute), booted, 1))
	got, _ := series.NewMapper().Batch(nil, &b, seriestest.Sent(moved.Add(time.Hour), booted), moved.Add(time.Hour), seriestest.Inventory(t))
	var sites []string
	for _, s := range got {
		if s.Series.Name() == "pantau_jitter_seconds" || s.Series.Name() == series.ResultTotal {
			sites = append(sites, s.Series.Labels.Get("site")+" "+s.Series.Labels.Get("village"))
		}
	}
	if d := cmp.Diff([]string{"site-a 33.10.15.2009", "site-c 33.10.15.2010", "site-a 33.10.15.2009", "site-c 33.10.15.2010"}, sites); d != "" {
		t.Error(d)
	}
}

func TestTargetsAreBounded(t *testing.T) {
	m, inv := series.NewMapper(), seriestest.Inventory(t)
	seen := make(map[string]bool)
	var held int
	for i := range 1000 {
		r := seriestest.Latency(now.Add(-time.Minute), booted, 1)
		r.Target = measure.TargetID(fmt.Sprintf("t%d", i))
		b := seriestest.Batch("probe-a", 1, now, booted, r)
		got, tally := m.Batch(nil, &b, seriestest.Sent(now, booted), now, inv)
		held += tally.Held[series.HeldTarget]
		for _, s := range got {
			if x := s.Series.Labels.Get("target"); x != "" {
				seen[x] = true
			}
		}
	}
	if len(seen) != 64 || held != 1000-64 {
		t.Errorf("%d targets, %d held", len(seen), held)
	}
}

func TestCountersOfUnknownSortsAreSummed(t *testing.T) {
	b := seriestest.Batch("probe-a", 3, now, booted)
	other := wire.Counter{Kind: measure.KindOther, Outcome: measure.OK, Count: 4}
	b.Counters = append(b.Counters, other, other)
	got, _ := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
	if len(got) != 2 || got[0].V != 3 || got[1].V != 8 {
		t.Errorf("%v", lines(got))
	}
}

func TestTheMonthsBudget(t *testing.T) {
	b := seriestest.Batch("probe-a", 3, now, booted)
	b.Counters = nil
	m := series.NewMapper()
	if got, _ := m.Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t)); len(got) != 0 {
		t.Errorf("of a probe without a budget: %v", lines(got))
	}
	b.Budget, b.BudgetSpent = 3e9, 4e9
	got, _ := m.Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
	if len(got) != 2 || got[0].Series.Name() != "pantau_probe_budget_bytes" || got[0].V != 3e9 ||
		got[1].Series.Name() != "pantau_probe_budget_spent_bytes" || got[1].V != 4e9 || got[1].Series.Labels.Get("probe") != "probe-a" {
		t.Errorf("%v", lines(got))
	}
}

func TestTheSameRecordGivesTheSameSamples(t *testing.T) {
	inv := seriestest.Inventory(t)
	b := seriestest.Batch("probe-a", 9, now, booted, seriestest.Minutes(now.Add(-time.Minute), booted, 5)...)
	m := series.NewMapper()
	once, _ := m.Batch(nil, &b, seriestest.Sent(now, booted), now, inv)
	again, _ := m.Batch(nil, &b, seriestest.Sent(now, booted), now, inv)
	anew, _ := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
	if d := cmp.Diff(lines(once), lines(again)) + cmp.Diff(lines(once), lines(anew)); d != "" {
		t.Error(d)
	}
	for i := range once {
		if once[i].Series != again[i].Series {
			t.Fatalf("%s was built twice", once[i].Series.Labels)
		}
	}
}

func snapshot(at time.Time, states ...state.SiteState) state.Snapshot {
	return state.Snapshot{At: at, Sites: states}
}

func TestStateOfEveryVillage(t *testing.T) {
	snap := snapshot(now, state.SiteState{Site: "site-a", State: state.Up}, state.SiteState{Site: "site-b", State: state.Down},
		state.SiteState{Site: "site-gone", State: state.Down})
	m := series.NewMapper()
	got, tally := m.State(nil, snap, now, seriestest.Inventory(t))
	if d := cmp.Diff(map[series.Reason]int{series.HeldInventory: 1}, tally.Held); d != "" {
		t.Error(d)
	}
	const region = `province="33", regency="33.10"`
	minute := " @-3s "
	want := []string{
		`{__name__="pantau_village_state", district="33.10.15", ` + region + `, village="33.10.15.2009"} @0s 2`,
		`{__name__="pantau_village_state", district="33.10.15", ` + region + `, village="33.10.15.2010"} @0s 5`,
		`{__name__="pantau_village_state", district="33.10.15", ` + region + `, village="33.10.15.2011"} @0s 6`,
		`{__name__="pantau_plan_download_bits_per_second", district="33.10.15", ` + region + `, site="site-a", village="33.10.15.2009"}` + minute + `5e+07`,
		`{__name__="pantau_plan_upload_bits_per_second", district="33.10.15", ` + region + `, site="site-a", village="33.10.15.2009"}` + minute + `2.5e+07`,
		`{__name__="pantau_plan_download_bits_per_second", district="33.10.15", ` + region + `, site="site-c", village="33.10.15.2010"}` + minute + `5e+07`,
		`{__name__="pantau_plan_upload_bits_per_second", district="33.10.15", ` + region + `, site="site-c", village="33.10.15.2010"}` + minute + `2.5e+07`,
		`{__name__="pantau_site_info", access="fiber", district="33.10.15", district_name="Trucuk", isp="isp-a", isp_name="Serat Nusa", lat="-7.71", lon="110.67", name="Balai Desa Mireng", odp="odp-1", population="3120", province="33", province_name="Jawa Tengah", regency="33.10", regency_name="Klaten", site="site-a", village="33.10.15.2009", village_name="Mireng"}` + minute + `1`,
		`{__name__="pantau_site_info", access="fiber", district="33.10.15", district_name="Trucuk", isp="isp-a", isp_name="Serat Nusa", name="KDMP Mireng", odp="odp-1", province="33", province_name="Jawa Tengah", regency="33.10", regency_name="Klaten", site="site-b", village="33.10.15.2009", village_name="Mireng"}` + minute + `1`,
		`{__name__="pantau_site_info", access="fiber", district="33.10.15", district_name="Trucuk", isp="isp-a", isp_name="Serat Nusa", lat="-7.72", lon="110.68", name="Balai Desa Kalikebo", odp="odp-1", population="2750", province="33", province_name="Jawa Tengah", regency="33.10", regency_name="Klaten", site="site-c", village="33.10.15.2010", village_name="Kalikebo"}` + minute + `1`,
	}
	slices.Sort(want)
	if d := cmp.Diff(want, lines(got)); d != "" {
		t.Error(d)
	}

	// A change within the minute writes states alone.
	again, _ := m.State(nil, snapshot(now.Add(time.Second)), now, seriestest.Inventory(t))
	if len(again) != 3 {
		t.Errorf("%v", lines(again))
	}
}

func TestSnapshotOutOfTimeIsHeldWhole(t *testing.T) {
	for reason, at := range map[series.Reason]time.Time{series.HeldFuture: now.Add(11 * time.Minute), series.HeldOld: now.Add(-49 * time.Hour)} {
		got, tally := series.NewMapper().State(nil, snapshot(at, state.SiteState{Site: "site-a", State: state.Up}), now, seriestest.Inventory(t))
		if len(got) != 0 || tally.Held[reason] != 1 {
			t.Errorf("%s: %v, held %v", reason, lines(got), tally.Held)
		}
	}
}

func TestFactsFollowTheirDates(t *testing.T) {
	m, inv := series.NewMapper(), seriestest.Inventory(t)
	plan := func(at time.Time) float64 {
		got, _ := m.State(nil, snapshot(at), at, inv)
		for _, s := range got {
			if s.Series.Name() == series.PlanDownload && s.Series.Labels.Get("site") == "site-c" {
				return s.V
			}
		}
		return math.NaN()
	}
	moved := seriestest.Moved()
	if before, after, back := plan(moved.Add(-time.Minute)), plan(moved), plan(moved.Add(-2*time.Minute)); before != 50e6 || after != 100e6 || back != 50e6 {
		t.Errorf("plan before %v, after %v, before again %v", before, after, back)
	}
}

func TestSupersedes(t *testing.T) {
	info := func(site, isp string, at int64) series.Sample {
		return series.Sample{Series: &series.Series{Labels: labels.FromStrings("__name__", series.SiteInfo, "site", site, "isp", isp)}, T: at, V: 1}
	}
	var u series.Supersedes
	for i, step := range []struct {
		s     series.Sample
		ended string // isp of the series that ends; empty: none
	}{
		{info("s1", "a", 100), ""},
		{info("s2", "b", 100), ""}, // another site
		{info("s1", "a", 160), ""},
		{info("s1", "b", 220), "a"},
		{info("s1", "a", 160), ""}, // a replay
		{info("s1", "b", 220), ""},
		{info("s1", "b", 280), ""},
		{info("s1", "c", 340), "b"},
		{series.Sample{Series: &series.Series{Labels: labels.FromStrings("__name__", series.VillageState, "village", "v")}, T: 400}, ""},
	} {
		ended, ok := u.Next(step.s)
		if ok != (step.ended != "") {
			t.Fatalf("step %d: ended %v", i, ok)
		}
		if ok && (ended.Series.Labels.Get("isp") != step.ended || ended.T != step.s.T || !series.IsStale(ended.V)) {
			t.Errorf("step %d: %v", i, ended)
		}
	}
}

func TestCatalogueCoversEverySampleAndMetric(t *testing.T) {
	defs, names := make(map[string]series.Definition), make(map[string]bool)
	for _, d := range series.Catalogue() {
		if names[d.Name] || d.Help == "" || !slices.IsSorted(d.Labels) || d.Source == "" {
			t.Errorf("definition %+v", d)
		}
		names[d.Name] = true
		if d.Source != series.FromRecords {
			continue
		}
		if !strings.HasPrefix(d.Name, "pantau_") {
			t.Errorf("definition %+v", d)
		}
		defs[d.Name] = d
	}
	if !slices.IsSortedFunc(series.Catalogue(), func(a, b series.Definition) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the catalogue is not sorted")
	}

	m, inv := series.NewMapper(), seriestest.Inventory(t)
	r := seriestest.Latency(now.Add(-time.Minute), booted, 0.1)
	r.Values = nil
	for _, x := range measure.Metrics() {
		least, most := x.Bounds()
		v := measure.Value{Metric: x, Number: min(max(1, least), most)}
		if x == measure.TargetReachable {
			v.Target = "iix-1"
		}
		r.Values = append(r.Values, v)
	}
	r.Hops = []measure.Hop{{Limit: 1, Address: netip.MustParseAddr("192.0.2.1")}}
	low := r
	low.Kind, low.Target, low.Flags = measure.KindDownload, "iix-1", []measure.Flag{measure.FlagLowConfirmed}
	low.Values, low.Hops = []measure.Value{{Metric: measure.DownloadBitsPerSecond, Number: 1}}, nil
	b := seriestest.Batch("probe-a", 1, now, booted, r, low)
	b.Budget = 1
	got, _ := m.Batch(nil, &b, seriestest.Sent(now, booted), now, inv)
	if want := len(measure.Metrics()) + len(r.Hops) + 1 + 2 + 2; len(got) != want { // counter, budget, a low test
		t.Errorf("%d samples of a result with every metric, want %d", len(got), want)
	}
	got, _ = m.State(got, snapshot(now), now, inv)
	got, _ = m.Incidents(got, incident.Listing{At: now, Lines: []incident.Line{{ID: "G-3310-260301-01", Kind: incident.Outage,
		Regency: "33.10", Node: "ODC-01", Cause: incident.CauseODPOrFeeder}}}, now)
	made := make(map[string]bool)
	for _, s := range got {
		d, ok := defs[s.Series.Name()]
		made[d.Name] = true
		if !ok {
			t.Errorf("%s is not in the catalogue", s.Series.Name())
		}
		s.Series.Labels.Range(func(l labels.Label) {
			if l.Name != model.MetricNameLabel && !d.Has(l.Name) {
				t.Errorf("%s: label %s is not in the catalogue", d.Name, l.Name)
			}
		})
	}
	for name := range defs {
		if !made[name] {
			t.Errorf("%s is in the catalogue and nothing makes it", name)
		}
	}
}

// Whether a low speed was confirmed is said of low ones alone, and per direction.
func TestLowSpeeds(t *testing.T) {
	test := func(kind measure.Kind, metric measure.Metric, target measure.TargetID, flags ...measure.Flag) measure.Result {
		r := seriestest.Latency(now.Add(-time.Minute), booted, 0.1)
		r.Kind, r.Target, r.Flags = kind, target, append([]measure.Flag{"streams_8"}, flags...)
		r.Values = []measure.Value{{Metric: metric, Number: 9e6}}
		return r
	}
	const down, up = measure.DownloadBitsPerSecond, measure.UploadBitsPerSecond
	b := seriestest.Batch("probe-a", 1, now, booted,
		test(measure.KindDownload, down, "t1", measure.FlagLowConfirmed), test(measure.KindDownload, down, "t2", measure.FlagLowConfirmed),
		test(measure.KindUpload, up, "t1", measure.FlagLowUnconfirmed), test(measure.KindUpload, up, "t2"),
		test(measure.KindUpload, up, "t3", measure.FlagLowConfirmed, measure.FlagLowUnconfirmed),
		test(measure.KindLatency, measure.LatencySecondsMedian, "t4", measure.FlagLowConfirmed))
	got, _ := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, booted), now, seriestest.Inventory(t))
	said := map[string]float64{}
	for _, s := range got {
		if s.Series.Name() == "pantau_speed_low_confirmed" {
			said[s.Series.Labels.Get("direction")+" "+s.Series.Labels.Get("target")] = s.V
		}
	}
	if want := map[string]float64{"download t1": 1, "download t2": 1, "upload t1": 0, "upload t3": 0}; !maps.Equal(said, want) {
		t.Errorf("%v, want %v", said, want)
	}
}

func FuzzEventTime(f *testing.F) {
	f.Add(int64(0), int64(0), int64(0), int64(0), int64(0), true, true)
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), int64(math.MaxInt64), int64(math.MinInt64), int64(-1), false, true)
	inv := seriestest.Inventory(f)
	f.Fuzz(func(t *testing.T, sentMono, sentWall, mono, wall, sealed int64, vouched, same bool) {
		r := seriestest.Latency(time.Unix(0, wall), booted, 0.1)
		r.Monotonic = time.Duration(mono)
		b := seriestest.Batch("probe-a", 1, time.Unix(0, sealed), booted, r)
		if !vouched {
			b.Quality = measure.ClockUnknown
		}
		sent := wire.Sent{Boot: seriestest.Boot, Mono: time.Duration(sentMono), Wall: time.Unix(0, sentWall)}
		if !same {
			sent.Boot = "another"
		}
		got, tally := series.NewMapper().Batch(nil, &b, sent, now, inv)
		for _, s := range got {
			if at := time.UnixMilli(s.T); at.After(now.Add(series.MaxAhead)) || at.Before(now.Add(-series.MaxAge-time.Millisecond)) {
				t.Fatalf("a sample at %v, received %v", at, now)
			}
		}
		if n := len(got); tally.Held == nil && n < 5 {
			t.Fatalf("%d samples and nothing held", n)
		}
	})
}

// One snapshot of a country's part: states, and facts once a minute.
func BenchmarkState(b *testing.B) {
	const villages = 10_000
	inv := seriestest.Fleet(b, villages)
	snap := snapshot(now)
	for i := range villages {
		snap.Sites = append(snap.Sites, state.SiteState{Site: measure.SiteID(fmt.Sprintf("s%06d", i)), State: state.Up})
	}
	m := series.NewMapper()
	var samples []series.Sample
	var total int
	for i := 0; b.Loop(); i++ {
		snap.At = now.Add(time.Duration(i) * time.Minute)
		samples, _ = m.State(samples[:0], snap, snap.At, inv)
		total += len(samples)
	}
	b.ReportMetric(float64(total)/b.Elapsed().Seconds(), "samples/s")
}

package influx_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/pantau-desa/pantau/collector/query"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/influx/influxtest"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// lived is a journal of six hours of three probes: good minutes and bad ones, a
// cut with what came of it later, speed tests, traffic, failures, states, and one
// batch that came twice.
func lived(t *testing.T) (w *world, end time.Time) {
	w = newWorld(t, seriestest.Inventory(t))
	const hours = 6
	end = time.Now().Truncate(time.Hour)
	booted := end.Add(-(hours + 1) * time.Hour)
	type late struct {
		batch    wire.Batch
		received time.Time
	}
	var waiting []late
	figure := func(i, j int) float64 { return float64((i*7919+j*104729)%1000) / 1000 }
	seqs := map[measure.ProbeID]uint64{}
	for minute := range hours * 60 {
		at := end.Add(time.Duration(minute-hours*60) * time.Minute)
		for p, probe := range []measure.ProbeID{"probe-a", "probe-b"} {
			slot := at.Add(time.Duration(7+p*20) * time.Second)
			seqs[probe]++
			f := figure(minute, p)
			results := []measure.Result{seriestest.Latency(slot, booted, 0.005+f/50), seriestest.Reach(slot, booted, f < 0.9)}
			loss := results[0]
			loss.Target, loss.Values = "tcp-1", []measure.Value{{Metric: measure.PacketLossRatio, Number: math.Round(f*8) / 8}}
			failed := results[0]
			failed.Outcome, failed.Reason, failed.Values, failed.Target = measure.Failed, measure.ReasonTimeout, nil, "mati"
			usage := results[1]
			usage.Kind, usage.Values = measure.KindUsage, []measure.Value{{Metric: measure.LinkReceiveBytesTotal, Number: float64(minute*1_000_000) + f},
				{Metric: measure.LinkTransmitBytesTotal, Number: float64(minute * 30_000)}}
			results = append(results, loss, failed, usage)
			if minute%45 == p*10 {
				speed := results[0]
				speed.Kind, speed.Target, speed.Values = measure.KindDownload, "server", []measure.Value{{Metric: measure.DownloadBitsPerSecond, Number: 4e7 + f*1e6}}
				results = append(results, speed)
			}
			sealed := slot.Add(20 * time.Second)
			b := seriestest.Batch(probe, seqs[probe], sealed, booted, results...)
			if cut := minute >= 100 && minute < 190; cut && p == 0 {
				waiting = append(waiting, late{b, end.Add((190 - hours*60) * time.Minute)})
				continue
			}
			w.batch(b, booted, sealed)
			if minute%50 == 3 {
				w.batch(b, booted, sealed) // the journal may hold what it was told twice
			}
		}
		if minute == 190 {
			for _, l := range waiting {
				w.batch(l.batch, booted, l.received.Add(time.Minute))
			}
		}
		states := state.Snapshot{At: at}
		for i, site := range []measure.SiteID{"site-a", "site-b", "site-c"} {
			s := state.SiteState{Site: site, State: state.Up}
			if f := figure(minute/30, i); f > 0.6 {
				s.State = state.Down
			}
			states.Sites = append(states.Sites, s)
		}
		w.snapshot(states)
	}
	return w, end
}

// A question in three languages. %[1]s and %[2]s are where its time begins and ends
// as each language puts it: none of the samples lies on either. keys are the labels
// that name an answer's rows; by hour, the hour's end is one more.
type question struct {
	about  string
	keys   []string
	hourly bool
	promQL string
	inQL   string
	flux   string
}

func questions() []question {
	return []question{
		{"mean round trip of a village", []string{"village"}, false,
			`sum by (village) (sum_over_time(pantau_latency_seconds{stat="median"}[6h])) / sum by (village) (count_over_time(pantau_latency_seconds{stat="median"}[6h]))`,
			`SELECT MEAN(latency_seconds_median) FROM latency WHERE %[1]s AND %[2]s GROUP BY village`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._measurement == "latency" and r._field == "latency_seconds_median") |> group(columns: ["village"]) |> mean()`},
		{"largest 95th percentile of a regency", []string{"regency"}, false,
			`max by (regency) (max_over_time(pantau_latency_seconds{stat="p95"}[6h]))`,
			`SELECT MAX(latency_seconds_p95) FROM latency WHERE %[1]s AND %[2]s GROUP BY regency`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "latency_seconds_p95") |> group(columns: ["regency"]) |> max()`},
		{"median loss to a target", []string{"site", "target"}, false,
			`quantile_over_time(0.5, pantau_packet_loss_ratio[6h])`,
			`SELECT MEDIAN(packet_loss_ratio) FROM latency WHERE %[1]s AND %[2]s GROUP BY site, target`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "packet_loss_ratio") |> group(columns: ["site", "target"]) |> median(method: "exact_mean")`},
		{"share of minutes in which an ODP could be reached", []string{"site"}, false,
			`avg_over_time(pantau_odp_reachable[6h])`,
			`SELECT MEAN(odp_reachable) FROM reach WHERE %[1]s AND %[2]s GROUP BY site`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "odp_reachable") |> group(columns: ["site"]) |> mean()`},
		{"that, by the hour", []string{"site"}, true,
			`avg_over_time(pantau_odp_reachable[1h])`,
			`SELECT MEAN(odp_reachable) FROM reach WHERE %[1]s AND %[2]s GROUP BY time(1h), site`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "odp_reachable") |> group(columns: ["site"]) |> aggregateWindow(every: 1h, fn: mean)`},
		{"minutes that were measured", []string{"probe"}, false,
			`count_over_time(pantau_odp_reachable[6h])`,
			`SELECT COUNT(odp_reachable) FROM reach WHERE %[1]s AND %[2]s GROUP BY probe`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "odp_reachable") |> group(columns: ["probe"]) |> count()`},
		{"bytes that a village received", []string{"site"}, false,
			`max_over_time(pantau_link_receive_bytes_total[6h]) - min_over_time(pantau_link_receive_bytes_total[6h])`,
			`SELECT SPREAD(link_receive_bytes_total) FROM usage WHERE %[1]s AND %[2]s GROUP BY site`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "link_receive_bytes_total") |> group(columns: ["site"]) |> spread()`},
		{"last speed", []string{"site"}, false,
			`last_over_time(pantau_download_bits_per_second[6h])`,
			`SELECT LAST(download_bits_per_second) FROM speed WHERE %[1]s AND %[2]s GROUP BY site`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "download_bits_per_second") |> group(columns: ["site"]) |> sort(columns: ["_time"]) |> last()`},
		{"speed against plan", []string{"site"}, false,
			`last_over_time(pantau_plan_download_bits_per_second[6h])`,
			`SELECT LAST(plan_download_bits_per_second) FROM "plan" WHERE %[1]s AND %[2]s GROUP BY site`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "plan_download_bits_per_second") |> last()`},
		{"state now", []string{"village"}, false,
			`last_over_time(pantau_village_state[6h])`,
			`SELECT LAST(village_state) FROM village WHERE %[1]s AND %[2]s GROUP BY village`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._measurement == "village") |> last()`},
		{"minutes that a village was down", []string{"village"}, false,
			`count_over_time((pantau_village_state == 3)[6h:1m])`,
			`SELECT COUNT(village_state) FROM village WHERE village_state = 3 AND %[1]s AND %[2]s GROUP BY village`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "village_state" and r._value == 3.0) |> count()`},
		{"results by outcome", []string{"probe", "kind", "outcome"}, false,
			`max_over_time(pantau_result_total[6h])`,
			`SELECT MAX(result_total) FROM result WHERE %[1]s AND %[2]s GROUP BY probe, kind, outcome`,
			`from(bucket: "pantau") |> range(start: %[1]s, stop: %[2]s) |> filter(fn: (r) => r._field == "result_total") |> max()`},
	}
}

// table is an answer: by its keys, a number.
type table map[string]float64

func (q question) row(label func(string) string, at time.Time) string {
	var parts []string
	for _, k := range q.keys {
		parts = append(parts, k+"="+label(k))
	}
	if q.hourly {
		parts = append(parts, at.UTC().Format(time.RFC3339))
	}
	return strings.Join(parts, " ")
}

func (q question) askPromQL(t *testing.T, engine *query.Querier, from, to time.Time) table {
	t.Helper()
	var matrix promql.Matrix
	if q.hourly {
		var err error
		if matrix, err = engine.Range(t.Context(), q.promQL, from.Add(time.Hour), to, time.Hour); err != nil {
			t.Fatal(err)
		}
	} else {
		vector, err := engine.Instant(t.Context(), q.promQL, to)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range vector {
			matrix = append(matrix, promql.Series{Metric: s.Metric, Floats: []promql.FPoint{{T: s.T, F: s.F}}})
		}
	}
	out := table{}
	for _, s := range matrix {
		for _, p := range s.Floats {
			out[q.row(s.Metric.Get, time.UnixMilli(p.T))] = p.F
		}
	}
	return out
}

func (q question) askInfluxQL(server *influxtest.Server, from, to time.Time) table {
	out := table{}
	for _, s := range server.InfluxQL("pantau", fmt.Sprintf(q.inQL, fmt.Sprintf("time >= %dms", from.UnixMilli()), fmt.Sprintf("time < %dms", to.UnixMilli()))) {
		for _, row := range s.Values {
			if v, ok := row[1].(float64); ok {
				hour := time.UnixMilli(int64(row[0].(float64))).Add(time.Hour) // it names an hour by its begin
				out[q.row(func(k string) string { return s.Tags[k] }, hour)] = v
			}
		}
	}
	return out
}

func (q question) askFlux(t *testing.T, server *influxtest.Server, from, to time.Time) table {
	t.Helper()
	out := table{}
	for _, row := range server.Flux(fmt.Sprintf(q.flux, from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))) {
		at, _ := row["_time"].(time.Time)
		key := q.row(func(k string) string { s, _ := row[k].(string); return s }, at)
		switch v := row["_value"].(type) {
		case float64:
			out[key] = v
		case int64:
			out[key] = float64(v)
		case nil:
		default:
			t.Fatalf("%s: %T", q.about, v)
		}
	}
	return out
}

// same compares two answers; sums may be added up in another order.
func same(a, b table) bool {
	return maps.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= 1e-12*math.Max(math.Abs(x), math.Abs(y)) })
}

func TestThreeLanguagesGiveTheSame(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{Flux: true})
	server.Create("pantau")
	w, end := lived(t)
	run, _ := w.influx("influx", influx.Options{URL: server.URL(), Org: org, Bucket: "pantau"})
	w.caughtUp("all is stored", run, w.tsdb)

	// All figures of every metric, one by one.
	prom := contentOf(t, w)
	if d := diff(prom, read(t, server, "pantau")); d != "" {
		t.Errorf("figures (PromQL, InfluxQL): %s", d)
	}
	figures, kinds := 0, map[string]bool{}
	for key, points := range prom {
		figures += len(points)
		kinds[strings.SplitN(strings.TrimPrefix(key, `{__name__="`), `"`, 2)[0]] = true
	}
	t.Logf("%d figures of %d metrics are the same", figures, len(kinds))
	if figures < 10_000 || len(kinds) < 14 {
		t.Errorf("only %d figures of %v", figures, slices.Sorted(maps.Keys(kinds)))
	}

	engine, err := query.New(query.Options{Storage: w.db})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	// States lie on the minute: the time asked for begins and ends between two.
	from, to := end.Add(-6*time.Hour), end
	for _, q := range questions() {
		t.Run(q.about, func(t *testing.T) {
			a, b := from, to
			if !q.hourly {
				a, b = from.Add(-time.Second), to.Add(-time.Second)
			}
			pq, iq, fx := q.askPromQL(t, engine, a, b), q.askInfluxQL(server, a, b), q.askFlux(t, server, a, b)
			if len(pq) == 0 || !same(pq, iq) || !same(pq, fx) {
				t.Errorf("PromQL   %v\nInfluxQL %v\nFlux     %v", pq, iq, fx)
			}
		})
	}

	// Names and positions of the sites, which are labels here and fields there.
	vector, err := engine.Instant(t.Context(), "last_over_time("+series.SiteInfo+"[6h])", to)
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]string{}
	for _, s := range vector {
		facts[s.Metric.Get("site")] = strings.Join([]string{s.Metric.Get("name"), s.Metric.Get("isp"), s.Metric.Get("lat"), s.Metric.Get("lon"), s.Metric.Get("population")}, " ")
	}
	got := map[string]string{}
	for _, s := range server.InfluxQL("pantau", `SELECT "name", isp, lat, lon, population FROM site_info GROUP BY site ORDER BY time DESC LIMIT 1`) {
		got[s.Tags["site"]] = strings.ReplaceAll(strings.Trim(fmt.Sprint(s.Values[0][1:]), "[]"), "<nil>", "")
	}
	if len(facts) != 3 || !maps.Equal(facts, got) {
		t.Errorf("facts: PromQL %v, InfluxQL %v", facts, got)
	}
	pivot := map[string]string{}
	for _, row := range server.Flux(`from(bucket: "pantau") |> range(start: -12h) |> filter(fn: (r) => r._measurement == "site_info") |> last() |> pivot(rowKey: ["_time", "site"], columnKey: ["_field"], valueColumn: "_value")`) {
		pivot[row["site"].(string)] = strings.ReplaceAll(fmt.Sprintf("%v %v %v %v %v", row["name"], row["isp"], row["lat"], row["lon"], row["population"]), "<nil>", "")
	}
	if !maps.Equal(facts, pivot) {
		t.Errorf("facts: PromQL %v, Flux %v", facts, pivot)
	}
}

// contentOf is what the embedded store holds, but for the ends of series.
func contentOf(t *testing.T, w *world) sinktest.Content {
	t.Helper()
	out := sinktest.Content{}
	engine, err := query.New(query.Options{Storage: w.db, MaxSamples: 10_000_000})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	for _, d := range series.Catalogue() {
		q, err := engine.Engine().NewInstantQuery(t.Context(), w.db, nil, d.Name+"[3d]", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		result := q.Exec(t.Context())
		matrix, err := result.Matrix()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range matrix {
			for _, p := range s.Floats {
				key := s.Metric.String()
				out[key] = append(out[key], sinktest.Point{T: p.T, V: p.F})
			}
		}
		q.Close()
	}
	return out
}

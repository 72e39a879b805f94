package endtoend

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/pantau-desa/pantau/dashboards"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Every query of every dashboard has data once a probe has measured for a few
// minutes, but for those that say why not.
func TestDashboards(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, pace)
	w.serveReady()
	s := w.newSender("site-1", w.ingest, newDiary())
	s.minutes(t, 8)
	if err := s.seal(); err != nil {
		t.Fatal(err)
	}
	s.drained(t)
	// Facts about sites are written on the minute.
	await(t, 2*time.Minute, "facts about the site are stored", func() bool {
		_, ok := w.one(`pantau_site_info * on (site) pantau_plan_download_bits_per_second`)
		return ok
	})
	w.await("what was measured is stored", func() bool {
		v, ok := w.one(`count(count_over_time(pantau_download_bits_per_second[10m]) >= 8)`)
		return ok && v == 1
	})

	queries, err := dashboards.Queries()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"province": "33", "regency": "33.10", "district": "33.10.15", "village": village, "site": "site-1",
		"__interval": "2m", "__rate_interval": "4m", "__range": "900s", "__range_s": "900"}
	quiet := 0
	for _, q := range queries {
		n, why := w.series(q, q.Fill(values)), q.Quiet()
		if n == 0 && why == "" && q.Dashboard == "pengumpul" && w.parts(q, q.Fill(values)) {
			why = "a rate needs two of the collector's own samples, which are a minute apart"
		}
		switch {
		case n > 0:
		case why == "":
			t.Errorf("%v has no data:\n%s", q, q.Fill(values))
		default:
			quiet++
			t.Logf("%v has no data: %s", q, why)
		}
	}
	t.Logf("%d queries, %d of them rightly without data", len(queries), quiet)
	w.serving.end()
}

// parts reports whether every series that an expression is made of is there.
func (w *world) parts(q dashboards.Query, expr string) bool {
	w.t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		w.t.Fatalf("%v: %v", q, err)
	}
	all := true
	q.Instant = true
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			all = all && w.series(q, s.String()) > 0
		}
		return nil
	})
	return all
}

// series is how many series a query gives.
func (w *world) series(q dashboards.Query, expr string) int {
	w.t.Helper()
	form, path := url.Values{"query": {expr}}, "/api/v1/query"
	if !q.Instant {
		path += "_range"
		now := float64(time.Now().UnixMilli()) / 1000
		form.Set("start", strconv.FormatFloat(now-900, 'f', 3, 64))
		form.Set("end", strconv.FormatFloat(now, 'f', 3, 64))
		form.Set("step", "60") // the grid ends now
	}
	code, body := ask(w.t, http.DefaultTransport, http.MethodPost, w.office+path, form)
	var out struct {
		Status string
		Data   struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK || out.Status != "success" {
		w.t.Errorf("%v: %d %.500s\n%s", q, code, body, expr)
	}
	return len(out.Data.Result)
}

// minutes appends the results of the last n minutes, one of everything a minute.
func (s *sender) minutes(t *testing.T, n int) {
	t.Helper()
	now := s.clocks.Now()
	for i := n; i > 0; i-- {
		ago := time.Duration(i)*time.Minute - 30*time.Second
		if now.Mono < ago {
			continue // before the machine's own boot
		}
		append := func(kind measure.Kind, target measure.TargetID, values ...measure.Value) {
			t.Helper()
			if err := s.spool.Append(measure.Result{Kind: kind, Outcome: measure.OK, Instrument: "endtoend", MethodVersion: "1", Target: target,
				MeasuredAt: now.Wall.Add(-ago), Monotonic: now.Mono - ago, Boot: now.Boot, Values: values}); err != nil {
				t.Fatal(err)
			}
		}
		value := func(m measure.Metric, v float64) measure.Value { return measure.Value{Metric: m, Number: v} }
		append(measure.KindReach, "", value(measure.ODPReachable, 1), value(measure.LANGatewayReachable, 1), value(measure.FirstHopReachable, 1),
			value(measure.CarrierUp, 1), measure.Value{Metric: measure.TargetReachable, Target: "echo", Number: 1})
		append(measure.KindLatency, "echo", value(measure.LatencySecondsMin, 0.012), value(measure.LatencySecondsMedian, 0.014), value(measure.LatencySecondsP95, 0.021),
			value(measure.JitterSeconds, 0.001), value(measure.PacketLossRatio, 0.05))
		append(measure.KindDownload, "server", value(measure.DownloadBitsPerSecond, 19e6+float64(i)*1e5))
		append(measure.KindUpload, "server", value(measure.UploadBitsPerSecond, 7e6+float64(i)*1e5))
		append(measure.KindUsage, "", value(measure.LinkReceiveBytesTotal, float64(n-i)*5e6), value(measure.LinkTransmitBytesTotal, float64(n-i)*1e6))
	}
}

package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/measure"
)

// filled is a store with an hour of two probes' light results and states up to
// now, which is a whole minute.
func filled(t *testing.T) (*tsdb.DB, time.Time) {
	t.Helper()
	now := time.Now().Truncate(time.Minute)
	db, err := tsdb.Open(tsdb.Options{Dir: t.TempDir(), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	m, inv, booted := series.NewMapper(), seriestest.Inventory(t), now.Add(-3*time.Hour)
	var samples []series.Sample
	for i, probe := range []measure.ProbeID{"probe-a", "probe-b"} {
		b := seriestest.Batch(probe, uint64(i+1), now, booted, seriestest.Minutes(now, booted, 60)...)
		samples, _ = m.Batch(samples, &b, seriestest.Sent(now, booted), now, inv)
	}
	for i := range 10 {
		at := now.Add(time.Duration(i-9) * time.Minute)
		samples, _ = m.State(samples, state.Snapshot{At: at, Sites: []state.SiteState{{Site: "site-a", State: state.Up}}}, at, inv)
	}
	if _, err := db.Write(t.Context(), samples); err != nil {
		t.Fatal(err)
	}
	return db, now
}

func newQuerier(t *testing.T, opt Options) *Querier {
	t.Helper()
	q, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { q.Close() })
	return q
}

func TestInstant(t *testing.T) {
	db, now := filled(t)
	q := newQuerier(t, Options{Storage: db})
	v, err := q.Instant(t.Context(), `count(pantau_odp_reachable == 1)`, now)
	if err != nil || len(v) != 1 || v[0].F != 2 {
		t.Errorf("got %v, %v", v, err)
	}
	if v, err = q.Instant(t.Context(), "1+1", time.Unix(4, 0)); err != nil || len(v) != 1 || v[0].F != 2 {
		t.Errorf("got %v, %v", v, err)
	}
	for _, expr := range []string{"", "rate(", `"text"`, "pantau_odp_reachable[5m]"} {
		if v, err := q.Instant(t.Context(), expr, now); err == nil {
			t.Errorf("%q: %v", expr, v)
		}
	}
}

func TestRange(t *testing.T) {
	db, now := filled(t)
	q := newQuerier(t, Options{Storage: db})
	const expr = `pantau_jitter_seconds{probe="probe-b"}`
	first, err := q.Range(t.Context(), expr, now.Add(-9*time.Minute), now, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	// A later query must not reach into what an earlier one returned.
	if _, err := q.Range(t.Context(), expr+"*0", now.Add(-9*time.Minute), now, time.Minute); err != nil {
		t.Fatal(err)
	}
	if len(first) != 1 || len(first[0].Floats) != 10 {
		t.Fatalf("got %v", first)
	}
	for i, p := range first[0].Floats {
		if want := (0.010 + float64(9-i)/1000) / 10; p.F != want || p.T != now.Add(time.Duration(i-9)*time.Minute).UnixMilli() {
			t.Errorf("point %d: %v, want %v", i, p, want)
		}
	}
	if _, err := q.Range(t.Context(), expr, now, now.Add(-time.Minute), time.Minute); err == nil {
		t.Error("a range backwards")
	}
	if _, err := q.Range(t.Context(), expr, now, now, 0); err == nil {
		t.Error("a range without step")
	}
}

func TestBounds(t *testing.T) {
	db, now := filled(t)
	q := newQuerier(t, Options{Storage: db, MaxSamples: 50})
	var tooMany promql.ErrTooManySamples
	if _, err := q.Instant(t.Context(), `sum(count_over_time({__name__=~"pantau_.*"}[1h]))`, now); !errors.As(err, &tooMany) {
		t.Errorf("too many samples: %v", err)
	}

	// One query occupies the only slot; the next one waits no longer than it may.
	gate := &gated{Storage: db, entered: make(chan struct{}), leave: make(chan struct{})}
	q = newQuerier(t, Options{Storage: gate, MaxConcurrent: 1, Timeout: time.Second})
	first := make(chan error, 1)
	go func() {
		_, err := q.Instant(context.Background(), "pantau_odp_reachable", now)
		first <- err
	}()
	<-gate.entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := q.Instant(ctx, "1+1", now); err == nil {
		t.Error("two queries ran at once")
	}
	close(gate.leave)
	if err := <-first; err != nil {
		t.Error(err)
	}

	var timeout promql.ErrQueryTimeout
	q = newQuerier(t, Options{Storage: db, Timeout: time.Nanosecond})
	_, err := q.Instant(t.Context(), "sum(pantau_odp_reachable)", now)
	if !errors.As(err, &timeout) && !errors.Is(err, context.DeadlineExceeded) { // where it runs out, or where it waits
		t.Errorf("timeout: %v", err)
	}
	if _, err := New(Options{Storage: db, MaxSamples: -1}); err == nil {
		t.Error("a negative bound is accepted")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no storage is accepted")
	}
}

// gated holds its first querier up until it may leave.
type gated struct {
	Storage
	once           sync.Once
	entered, leave chan struct{}
}

func (g *gated) Querier(mint, maxt int64) (storage.Querier, error) {
	g.once.Do(func() { close(g.entered) })
	<-g.leave
	return g.Storage.Querier(mint, maxt)
}

// client asks as Grafana does.
type client struct {
	t    *testing.T
	base string
}

func (c client) do(method, path string, form url.Values) (code int, body string) {
	c.t.Helper()
	u := c.base + path
	var in io.Reader
	if method == http.MethodPost {
		in = strings.NewReader(form.Encode())
	} else if len(form) > 0 {
		u += "?" + form.Encode()
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, u, in)
	if err != nil {
		c.t.Fatal(err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("Origin", "http://grafana.example")
	res, err := http.DefaultTransport.RoundTrip(req) // no redirect is followed
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if o := res.Header.Get("Access-Control-Allow-Origin"); o != "" {
		c.t.Errorf("%s %s lets %s in", method, path, o)
	}
	return res.StatusCode, string(b)
}

// data asks and decodes the answer's data.
func (c client) data(method, path string, form url.Values) any {
	c.t.Helper()
	code, body := c.do(method, path, form)
	var out struct {
		Status string
		Data   any
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != 200 || out.Status != "success" {
		c.t.Errorf("%s %s: %d %s", method, path, code, body)
	}
	return out.Data
}

func serve(t *testing.T, opt Options) client {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(Prefix+"/", newQuerier(t, opt).Handler())
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return client{t, srv.URL}
}

func TestEveryCallOfGrafana(t *testing.T) {
	db, now := filled(t)
	c := serve(t, Options{Storage: db, Version: "v0.1.0"})
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	hour := url.Values{"start": {seconds(now.Add(-time.Hour))}, "end": {seconds(now)}}
	with := func(v url.Values, kv ...string) url.Values {
		out := url.Values{}
		for k, x := range v {
			out[k] = x
		}
		for i := 0; i < len(kv); i += 2 {
			out.Add(kv[i], kv[i+1])
		}
		return out
	}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			c := client{t, c.base}
			// Save & test.
			got := c.data(method, "/api/v1/query", url.Values{"query": {"1+1"}, "time": {"4"}})
			if d := cmp.Diff(map[string]any{"resultType": "scalar", "result": []any{4.0, "2"}}, got); d != "" {
				t.Error(d)
			}
			// Panels.
			got = c.data(method, "/api/v1/query_range", with(hour, "query", `sum(pantau_odp_reachable)`, "step", "60"))
			points := got.(map[string]any)["result"].([]any)[0].(map[string]any)["values"].([]any)
			if len(points) != 60 || points[59].([]any)[1] != "2" {
				t.Errorf("%d points, the last %v", len(points), points[len(points)-1])
			}
			got = c.data(method, "/api/v1/query", url.Values{"time": {seconds(now)},
				"query": {`pantau_jitter_seconds{probe="probe-b"} * on(site) group_left(name, isp_name) pantau_site_info`}})
			metric := got.(map[string]any)["result"].([]any)[0].(map[string]any)["metric"].(map[string]any)
			if metric["name"] != "KDMP Mireng" || metric["isp_name"] != "Serat Nusa" {
				t.Errorf("joined %v", metric)
			}
			// Exemplars when asked, and once at load with milliseconds.
			c.data(method, "/api/v1/query_exemplars", with(hour, "query", "pantau_odp_reachable"))
			ms := url.Values{"query": {"test"}, "start": {strconv.FormatInt(now.Add(-time.Hour).UnixMilli(), 10)}, "end": {strconv.FormatInt(now.UnixMilli(), 10)}}
			if got := c.data(method, "/api/v1/query_exemplars", ms); got != nil && len(got.([]any)) != 0 {
				t.Errorf("exemplars %v", got)
			}
			// The editor.
			if got := c.data(method, "/api/v1/labels", with(hour, "match[]", "pantau_jitter_seconds")); !slices.Contains(got.([]any), any("village")) {
				t.Errorf("labels %v", got)
			}
			if got := c.data(method, "/api/v1/series", with(hour, "match[]", "pantau_village_state")); len(got.([]any)) != 3 {
				t.Errorf("series %v", got)
			}
			if got := c.data(method, "/api/v1/format_query", url.Values{"query": {"sum( up )"}}); got != "sum(up)" {
				t.Errorf("formatted %v", got)
			}
			if got := c.data(method, "/api/v1/parse_query", url.Values{"query": {"up"}}).(map[string]any)["type"]; got != "vectorSelector" {
				t.Errorf("parsed %v", got)
			}
		})
	}

	// Variables.
	if got := c.data("GET", "/api/v1/label/village/values", with(hour, "match[]", `pantau_village_state{regency="33.10"}`, "limit", "40000")); len(got.([]any)) != 3 {
		t.Errorf("villages %v", got)
	}
	if got := c.data("GET", "/api/v1/label/__name__/values", nil); !slices.Contains(got.([]any), any("pantau_site_info")) {
		t.Errorf("names %v", got)
	}
	// At load.
	meta := c.data("GET", "/api/v1/metadata", nil).(map[string]any)
	if len(meta) != len(series.Catalogue()) {
		t.Errorf("%d metrics described, %d in the catalogue", len(meta), len(series.Catalogue()))
	}
	one := c.data("GET", "/api/v1/metadata", url.Values{"metric": {"pantau_jitter_seconds"}, "limit": {"10"}})
	if d := cmp.Diff(map[string]any{"pantau_jitter_seconds": []any{map[string]any{"type": "gauge", "unit": "seconds", "help": "Jitter of round trips (RFC 3550, section 6.4.1)."}}}, one); d != "" {
		t.Error(d)
	}
	if got := c.data("GET", "/api/v1/metadata", url.Values{"limit": {"2"}}).(map[string]any); len(got) != 2 {
		t.Errorf("limited to 2: %v", got)
	}
	if d := cmp.Diff(map[string]any{"groups": []any{}}, c.data("GET", "/api/v1/rules", nil)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]any{"alerts": []any{}}, c.data("GET", "/api/v1/alerts", nil)); d != "" {
		t.Error(d)
	}
	info := c.data("GET", "/api/v1/status/buildinfo", nil).(map[string]any)
	if info["version"] != prometheusVersion+"+pantau" || info["revision"] != "v0.1.0" {
		t.Errorf("buildinfo %v", info)
	}
}

func TestVersionIsTheLibrarys(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^\s*github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+)`).FindStringSubmatch(string(mod))
	if m == nil {
		t.Fatal("go.mod names no version")
	}
	minor, _ := strconv.Atoi(m[2])
	if want := fmt.Sprintf("%s.%d.%s", m[1], minor, m[3]); prometheusVersion != want {
		t.Errorf("%s, go.mod has %s", prometheusVersion, want)
	}
}

// TestNothingElseAnswers enumerates every route of Prometheus' API.
func TestNothingElseAnswers(t *testing.T) {
	db, _ := filled(t)
	q := newQuerier(t, Options{Storage: db})
	var paths []string
	q.register(route.New().WithInstrumentation(func(path string, h http.HandlerFunc) http.HandlerFunc {
		paths = append(paths, path)
		return h
	}))
	slices.Sort(paths)
	paths = slices.Compact(paths)
	for _, must := range []string{"/write", "/read", "/otlp/v1/metrics", "/admin/tsdb/delete_series", "/status/tsdb", "/status/config", "/targets", "/notifications", "/query"} {
		if !slices.Contains(paths, must) {
			t.Fatalf("the enumeration misses %s: %v", must, paths)
		}
	}
	want := []string{
		"GET /alerts", "GET /format_query", "GET /label/:name/values", "GET /labels", "GET /metadata", "GET /parse_query", "GET /query",
		"GET /query_exemplars", "GET /query_range", "GET /rules", "GET /series", "GET /status/buildinfo",
		"POST /format_query", "POST /labels", "POST /parse_query", "POST /query", "POST /query_exemplars", "POST /query_range", "POST /series",
	}
	c := serve(t, Options{Storage: db})
	var got []string
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", "TRACE", "get"} {
			code, _ := c.do(method, Prefix+strings.NewReplacer(":name", "village", "*path", "query").Replace(path), nil)
			if code != http.StatusNotFound && path != "/*path" {
				got = append(got, method+" "+path)
			}
		}
	}
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNoWayAround(t *testing.T) {
	db, _ := filled(t)
	h := newQuerier(t, Options{Storage: db}).Handler()
	for _, target := range []string{
		"/", "/api", "/api/v1", "/api/v1/", "/api/v1//query", "//api/v1/query", "/api/v1/query/", "/api/v1/./query", "/api/v1/../v1/query",
		"/api/v1/query/../write", "/api/v1/query%2f..%2fwrite", "/api/v1/%2e%2e/v1/write", "/api/v1/qu%65ry", "/api/v1/%71uery", "/api/v1/status%2ftsdb",
		"/api/v1/status/buildinfo/../tsdb", "/api/v1/Query", "/api/v1/query;x", "/api/v1/query%00", "/api/v1/label/a/b/values", "/api/v1/label//values",
		"/api/v1/label/../values", "/api/v1/label/..%2f..%2fwrite%3f/values", "/api/v1/label/%76illage/values", "/api/v1/label/9a/values", "/api/v1/label/a-b/values",
		"/api/v1/label/village/values/", "/api/v2/query", "/federate", "/api/v1/federate", "/api/v1/query_cost", "/api/v1/openapi.yaml", "/api/v1/features",
	} {
		for _, method := range []string{"GET", "POST"} {
			// As a client sends it: nothing is cleaned on the way.
			u, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			req := httptest.NewRequest(method, "http://collector.example/", nil)
			req.URL, req.RequestURI = u, target
			w := httptest.NewRecorder()
			h.ServeHTTP(w, req)
			if w.Code != http.StatusNotFound {
				t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
			}
		}
	}
}

func TestBadRequests(t *testing.T) {
	db, now := filled(t)
	c := serve(t, Options{Storage: db, MaxForm: 1000})
	at := strconv.FormatInt(now.Unix(), 10)
	for name, tc := range map[string]struct {
		method, path string
		form         url.Values
		code         int
	}{
		"no query":        {"POST", "/api/v1/query", nil, 400},
		"no PromQL":       {"POST", "/api/v1/query", url.Values{"query": {"rate("}}, 400},
		"large form":      {"POST", "/api/v1/query", url.Values{"query": {strings.Repeat("1+", 600) + "1"}}, 413},
		"too many points": {"POST", "/api/v1/query_range", url.Values{"query": {"1"}, "start": {"0"}, "end": {at}, "step": {"1"}}, 400},
		"bad limit":       {"GET", "/api/v1/metadata", url.Values{"limit": {"x"}}, 400},
		"bad escape":      {"GET", "/api/v1/query?query=%zz", nil, 400},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := client{t, c.base}.do(tc.method, tc.path, tc.form)
			var answer struct{ Status, ErrorType, Error string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || code != tc.code || answer.Status != "error" || answer.ErrorType != "bad_data" {
				t.Errorf("%d %s", code, body)
			}
		})
	}
}

func TestTooManyOpenRequests(t *testing.T) {
	db, _ := filled(t)
	gate := &gated{Storage: db, entered: make(chan struct{}), leave: make(chan struct{})}
	c := serve(t, Options{Storage: gate, MaxConcurrent: 1})
	answers := make(chan int, 4)
	ask := func() {
		for {
			res, err := http.Get(c.base + "/api/v1/query?query=pantau_odp_reachable")
			if err != nil {
				answers <- 0
				return
			}
			res.Body.Close()
			if res.StatusCode != http.StatusServiceUnavailable { // the probing request below was in its place
				answers <- res.StatusCode
				return
			}
		}
	}
	go ask()
	<-gate.entered
	for range 3 {
		go ask()
	}
	// Three more wait for the engine; whoever comes then is sent away.
	var refused bool
	for end := time.Now().Add(10 * time.Second); !refused && time.Now().Before(end); {
		code, _ := c.do("GET", "/api/v1/status/buildinfo", nil)
		refused = code == http.StatusServiceUnavailable
	}
	if !refused {
		t.Error("a fifth request was let in")
	}
	close(gate.leave)
	for range 4 {
		if code := <-answers; code != http.StatusOK {
			t.Errorf("a request that was let in got %d", code)
		}
	}
}

// panicking is a store with a bug.
type panicking struct{ Storage }

func (panicking) Querier(int64, int64) (storage.Querier, error) { panic("a bug") }

func TestAPanicEndsOneRequest(t *testing.T) {
	db, now := filled(t)
	var log bytes.Buffer
	c := serve(t, Options{Storage: panicking{db}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	hour := url.Values{"start": {strconv.FormatInt(now.Unix()-3600, 10)}, "end": {strconv.FormatInt(now.Unix(), 10)}, "match[]": {"up"}}
	if code, body := c.do("GET", "/api/v1/series", hour); code != http.StatusInternalServerError || !strings.Contains(body, `"internal"`) || strings.Contains(body, "a bug") {
		t.Errorf("%d %s", code, body)
	}
	if !strings.Contains(log.String(), "a bug") || !strings.Contains(log.String(), "query_test.go") {
		t.Errorf("logged %s", log.String())
	}
	if got := c.data("GET", "/api/v1/status/buildinfo", nil); got == nil {
		t.Error("no answer after a panic")
	}
}

// TestPromtool asks with Prometheus' own client: PROMTOOL names it, or it is in
// the PATH.
func TestPromtool(t *testing.T) {
	tool := os.Getenv("PROMTOOL")
	if tool == "" {
		var err error
		if tool, err = exec.LookPath("promtool"); err != nil {
			t.Skip("no promtool: go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0, or set PROMTOOL")
		}
	}
	db, now := filled(t)
	c := serve(t, Options{Storage: db})
	at := now.Format(time.RFC3339)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"instant", "--time", at, c.base, "sum(pantau_odp_reachable)"}, "{} => 2 @"},
		{[]string{"range", "--start", now.Add(-time.Hour).Format(time.RFC3339), "--end", at, c.base, "sum(pantau_odp_reachable)"}, "2 @"},
		{[]string{"series", "--match", "pantau_village_state", c.base}, `village="33.10.15.2011"`},
		{[]string{"labels", c.base, "village"}, "33.10.15.2010"},
	} {
		out, err := exec.Command(tool, append([]string{"query"}, tc.args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), tc.want) {
			t.Errorf("promtool query %s: %v\n%s", strings.Join(tc.args, " "), err, out)
		}
	}
}

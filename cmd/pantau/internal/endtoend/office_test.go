package endtoend

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What people, Grafana and promtool see of a collector that a probe pushes to, and
// what nobody sees.
func TestOffice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, pace)
	w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	probe := w.probe("site-1")
	w.await("the probe's first results are stored", func() bool {
		odp, ok := w.one(`pantau_odp_reachable`)
		_, rtt := w.one(`pantau_latency_seconds{stat="median"}`)
		return ok && odp == 1 && rtt
	})
	w.await("the village is up", func() bool {
		state, ok := w.one(fmt.Sprintf(`pantau_village_state{village=%q}`, village))
		return ok && state == 1
	})
	t.Run("listed", w.testListed)
	t.Run("nothing else", w.testNothingElse)
	t.Run("Grafana", w.testGrafana)
	t.Run("promtool", w.testPromtool)
	t.Run("speed", func(t *testing.T) {
		if testing.Short() {
			t.Skip("the first test comes within a minute of the probe's start")
		}
		// Over loopback the line has no end, so a busy machine may be the limit, which is
		// a result without a figure. Figures over lines are the demo's to prove.
		for _, kind := range []string{"download", "upload"} {
			w.await(kind+" is measured", func() bool {
				v, ok := w.one(fmt.Sprintf(`last_over_time(pantau_%s_bits_per_second{probe="box-1",target="server"}[10m])`, kind))
				n, starved := w.one(fmt.Sprintf(`last_over_time(pantau_result_total{probe="box-1",kind=%q,outcome="failed",reason="cpu_starved"}[10m])`, kind))
				return ok && v > 1e6 || starved && n > 0
			})
		}
	})
	probe.end()
	w.serving.end()
}

func (w *world) testListed(t *testing.T) {
	for path, want := range map[string]string{
		"/":                         "Uji 1",
		"/desa/" + village:          "Uji 1",
		"/surat":                    "Tidak ada yang dikabari",
		"/healthz":                  "ok",
		"/readyz":                   "ready",
		"/metrics":                  "pantau_ingest_batches_total",
		"/api/v1/query?query=1%2B1": `"2"`,
	} {
		if code, body := ask(t, http.DefaultTransport, http.MethodGet, w.office+path, nil); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("GET %s: %d, %q is not in %.500s", path, code, want, body)
		}
	}
}

func (w *world) testNothingElse(t *testing.T) {
	probes := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // a stranger trusts anybody
	defer probes.CloseIdleConnections()
	methods := []string{"GET", "POST", "PUT", "DELETE", "OPTIONS"}
	for _, side := range []struct {
		name, base string
		through    http.RoundTripper
		paths      []string
	}{
		{"office", w.office, http.DefaultTransport, []string{
			"/desa/99.99", "/desa/", "/nowhere", "/gangguan.php", "/.git/config", "/debug/pprof/", "/federate", "/-/quit", "/-/reload", "/probes",
			"/api/v1/write", "/api/v1/read", "/api/v1/otlp/v1/metrics", "/api/v1/targets", "/api/v1/status/tsdb", "/api/v1/status/config",
			"/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/delete_series", "/api/v1/admin/tsdb/clean_tombstones",
			"/v1/batches", "/v1/enroll", "/v1/heartbeat"}},
		{"ingest", "https://" + w.ingest, probes, []string{
			"/", "/desa/" + village, "/healthz", "/readyz", "/metrics", "/debug/pprof/", "/probes",
			"/api/v1/query?query=1", "/api/v1/write", "/api/v1/admin/tsdb/snapshot", "/v1/", "/v1/batches/", "//v1/batches", "/v2/batches"}},
	} {
		for _, path := range side.paths {
			for _, method := range methods {
				code, _ := ask(t, side.through, method, side.base+path, nil)
				if path == "/desa/99.99" && method != "GET" && code == http.StatusMethodNotAllowed {
					continue // a page is there for some codes: it is only read
				}
				if code != http.StatusNotFound {
					t.Errorf("%s: %s %s: %d", side.name, method, path, code)
				}
			}
		}
	}
	// What is listed on one listener is read there only as listed.
	for path, code := range map[string]int{"/v1/batches": 404, "/v1/enroll": 404, "/v1/heartbeat": 404} {
		if got, _ := ask(t, probes, "GET", "https://"+w.ingest+path, nil); got != code {
			t.Errorf("ingest: GET %s: %d, want %d", path, got, code)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if code := w.status("POST", path); code != http.StatusNotFound {
			t.Errorf("office: POST %s: %d", path, code)
		}
	}
}

// testGrafana does what Grafana's data source does: on save, at load, in panels,
// in the editor, for variables.
func (w *world) testGrafana(t *testing.T) {
	end := time.Now()
	seconds := func(at time.Time) string { return strconv.FormatInt(at.Unix(), 10) }
	hour := func(more ...string) url.Values {
		v := url.Values{"start": {seconds(end.Add(-time.Hour))}, "end": {seconds(end)}}
		for i := 0; i < len(more); i += 2 {
			v.Add(more[i], more[i+1])
		}
		return v
	}
	get := func(path string, query url.Values) any {
		t.Helper()
		return data(t, http.MethodGet, w.office+"/api/v1/"+path+"?"+query.Encode(), nil)
	}
	post := func(path string, form url.Values) any {
		t.Helper()
		return data(t, http.MethodPost, w.office+"/api/v1/"+path, form)
	}
	has := func(what string, got any, want string) {
		t.Helper()
		raw, err := json.Marshal(got)
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %s is not in %.500s (%v)", what, want, raw, err)
		}
	}
	has("save & test", post("query", url.Values{"query": {"1+1"}, "time": {"4"}}), `[4,"2"]`)
	has("build", get("status/buildinfo", nil), `"version":"3.`)

	has("rules", get("rules", nil), `"file":"health.yml"`)
	post("query_exemplars", url.Values{"query": {"test"}, "start": {seconds(end.Add(-time.Hour)) + "000"}, "end": {seconds(end) + "000"}})

	has("panel", post("query_range", hour("query", "pantau_odp_reachable", "step", "10")), `"1"]`)
	has("instant panel", post("query", url.Values{"query": {`pantau_village_state * on(village) group_left(name) pantau_site_info{site="site-1"}`}, "time": {seconds(end)}}), "Kantor Desa Uji 1")
	has("panel by GET", get("query_range", hour("query", "pantau_odp_reachable", "step", "10")), `"1"]`)

	has("labels", post("labels", hour("match[]", "pantau_odp_reachable")), `"village"`)
	has("metadata", get("metadata", url.Values{"limit": {"40000"}}), `"pantau_odp_reachable":[{`)
	has("series", post("series", hour("match[]", "pantau_odp_reachable")), `"probe":"box-1"`)
	has("names", get("label/__name__/values", hour("limit", "40000")), `"pantau_site_info"`)

	// The chain of variables, from province to village.
	match, want := "pantau_village_state", []string{"33", "33.10", "33.10.15", village}
	for i, label := range []string{"province", "regency", "district", "village"} {
		got := get("label/"+label+"/values", hour("match[]", match, "limit", "40000"))
		list, _ := got.([]any)
		if !slices.Contains(list, any(want[i])) || i < 3 && len(list) != 1 || i == 3 && len(list) != 2 {
			t.Errorf("variable %s: %v", label, got)
		}
		match = fmt.Sprintf("pantau_village_state{%s=%q}", label, want[i])
	}
}

// data asks the API and returns what it answers.
func data(t *testing.T, method, address string, form url.Values) any {
	t.Helper()
	code, body := ask(t, http.DefaultTransport, method, address, form)
	var out struct {
		Status string
		Data   any
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK || out.Status != "success" {
		t.Errorf("%s %s: %d %s (%v)", method, address, code, body, err)
	}
	return out.Data
}

// testPromtool asks with Prometheus' own client.
func (w *world) testPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("no promtool in the path: `make test` builds it")
	}
	at := func(ago time.Duration) string { return time.Now().Add(-ago).UTC().Format(time.RFC3339) }
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"instant", w.office, "sum(pantau_odp_reachable)"}, "{} => 1 @"},
		{[]string{"range", "--start", at(10 * time.Minute), "--end", at(-time.Second), "--step", "10s", w.office, "sum(pantau_odp_reachable)"}, "1 @"},
		{[]string{"series", "--match", "pantau_village_state", w.office}, fmt.Sprintf("village=%q", village)},
		{[]string{"labels", w.office, "probe"}, "box-1"},
	} {
		if out := must(t, "promtool", append([]string{"query"}, tc.args...)...); !strings.Contains(out, tc.want) {
			t.Errorf("promtool query %s: %s is not in\n%s", strings.Join(tc.args, " "), tc.want, out)
		}
	}
}

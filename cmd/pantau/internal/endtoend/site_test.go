package endtoend

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// village is that of the first site; every site has one of its own.
const village = "33.10.15.2001"

// pace is the fastest that the collector lets probes measure and speak.
const pace = "probes: {light: 10s, seal: 1s, transition: 1s, heartbeat: 5s, speed_mean: 30s, speed_duration: 2s, budget_fiber_gb: 100000}\n"

// world is one collector with its inventory and settings, and the addresses of
// all that belongs to it.
type world struct {
	t        *testing.T
	dir      string
	config   string
	host     string // on loopback, of this test alone
	ingest   string // host:port
	office   string // URL
	target   string // host:port
	serving  *program
	settings string // of the probes
}

// newWorld writes an inventory of n sites (site-1, site-2, ...), each with a probe
// (box-1, box-2, ...), and the settings of a collector.
func newWorld(t *testing.T, n int, probes string) *world {
	t.Helper()
	// Addresses of our own, and ports that the kernel gives to nobody who asks for
	// any: a program that is started again finds them free, and no client that calls
	// while it is down can be given its port and talk to itself.
	w := &world{t: t, dir: t.TempDir(), host: fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254)), settings: probes}
	w.ingest, w.target, w.office = w.free(), w.free(), "http://"+w.free()
	w.config = w.write("pantau.yaml", w.yaml())
	region, sites, boxes := []string{"code;name;valid_from", "33;Jawa Tengah;2025-01-01", "33.10;Kabupaten Klaten;2025-01-01", "33.10.15;Wonosari;2025-01-01"},
		[]string{"site;village;name;isp;access;odp;valid_from"}, []string{"probe;site;valid_from"}
	for i := range n {
		region = append(region, fmt.Sprintf("33.10.15.%d;Uji %d;2025-01-01", 2001+i, i+1))
		sites = append(sites, fmt.Sprintf("site-%d;33.10.15.%d;Kantor Desa Uji %d;uji;fiber;ODP-1;2025-01-01", i+1, 2001+i, i+1))
		boxes = append(boxes, fmt.Sprintf("box-%d;site-%d;2025-01-01", i+1, i+1))
	}
	for file, rows := range map[string][]string{
		"regions.csv": region, "sites.csv": sites, "probes.csv": boxes,
		"isps.csv":  {"isp;name;valid_from", "uji;Penyedia Uji;2025-01-01"},
		"nodes.csv": {"node;type;parent;name;valid_from", "ODC-1;odc;;ODC Uji;2025-01-01", "ODP-1;odp;ODC-1;ODP Uji;2025-01-01"},
		"plans.csv": {"site;download_mbps;upload_mbps;source_document;valid_from", "site-1;20;10;Uji;2025-01-01"},
		"targets.csv": {"target;method;address;port;url;latency;valid_from", "echo;icmp;" + w.host + ";;;yes;2025-01-01",
			"tcp;tcp;" + strings.Replace(w.target, ":", ";", 1) + ";;;2025-01-01", "server;speed;;;http://" + w.target + "/speedtest;;2025-01-01"},
	} {
		w.write("inventory/"+file, strings.Join(rows, "\n")+"\n")
	}
	return w
}

func (w *world) yaml() string {
	return fmt.Sprintf("data_dir: %q\ninventory: %q\ningest: {listen: %q, names: [%q]}\noffice: {listen: %q}\n%s",
		w.path("collector"), w.path("inventory"), w.ingest, w.host, strings.TrimPrefix(w.office, "http://"), w.settings)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, filepath.FromSlash(name)) }

func (w *world) write(name, text string) (path string) {
	w.t.Helper()
	path = w.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// free is an address where nobody listens, tcp and udp, below the ports that
// clients are given (32768 and up).
func (w *world) free() string {
	w.t.Helper()
	for range 100 {
		addr := net.JoinHostPort(w.host, strconv.Itoa(10_000+rand.IntN(20_000)))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		p, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			p.Close()
			return addr
		}
	}
	w.t.Fatal("no free port on loopback")
	return ""
}

// serve starts the collector and returns at once.
func (w *world) serve() {
	w.t.Helper()
	w.serving = start(w.t, w.path("serve.log"), nil, "pantau", "serve", "--config", w.config)
}

// serveReady starts the collector and waits until it answers.
func (w *world) serveReady() {
	w.t.Helper()
	w.serve()
	w.ready()
}

// ready waits until all that is durable can be asked for.
func (w *world) ready() {
	w.t.Helper()
	w.await("the collector is ready", func() bool { return w.status(http.MethodGet, "/readyz") == http.StatusOK })
}

// await is await that shows what the collector said.
func (w *world) await(what string, so func() bool) {
	w.t.Helper()
	const patience = 3 * time.Minute // the first speed test of a start is planned within one
	for end := time.Now().Add(patience); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: %s\n%s", patience, what, tail(w.path("serve.log")))
		}
	}
}

// startTarget starts the measurement server.
func (w *world) startTarget() *program {
	w.t.Helper()
	p := start(w.t, w.path("target.log"), nil, "pantau", "target", "--listen", w.target)
	w.await("the target answers", func() bool {
		c, err := net.Dial("tcp", w.target)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

// claim asks for a claim code, as an operator does.
func (w *world) claim(site string) (code string) {
	w.t.Helper()
	out := must(w.t, "pantau", "probe", "add", "--config", w.config, "--site", site, "--json", "-")
	var c struct{ Code string }
	if err := json.Unmarshal([]byte(out), &c); err != nil || c.Code == "" {
		w.t.Fatalf("%v: %s", err, out)
	}
	return c.Code
}

// enroll makes a box of the site's probe and returns its state directory.
func (w *world) enroll(site string) (state string) {
	w.t.Helper()
	state = w.path(site + "/state")
	out := must(w.t, "pantau-probe", "enroll", "--state-dir", state, "--collector", "https://"+w.ingest, "--code", w.claim(site))
	if !strings.Contains(out, site) {
		w.t.Errorf("enrolment says %q", out)
	}
	return state
}

// probe runs the box of an enrolled site.
func (w *world) probe(site string) *program {
	w.t.Helper()
	config := w.write(site+"/pantau-probe.yaml", fmt.Sprintf("state_dir: %q\nmetrics: {listen: \"\"}\n", w.path(site+"/state")))
	return start(w.t, w.path(site+"/log"), nil, "pantau-probe", "run", "--config", config)
}

// status asks the office side; 0 if it does not answer.
func (w *world) status(method, path string) int {
	code, _ := ask(w.t, http.DefaultTransport, method, w.office+path, nil)
	return code
}

// ask sends one request, without following redirects. The code is 0 if nobody
// answers.
func ask(t *testing.T, through http.RoundTripper, method, address string, form url.Values) (code int, body string) {
	t.Helper()
	var in io.Reader
	if form != nil {
		in = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, in)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := through.RoundTrip(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, ""
	}
	return res.StatusCode, string(raw)
}

// metric is a counter or gauge of the collector's own, summed over its labels;
// labels must all be in the line. ok is false while there is none.
func (w *world) metric(name string, labels ...string) (sum float64, ok bool) {
	w.t.Helper()
	_, body := ask(w.t, http.DefaultTransport, http.MethodGet, w.office+"/metrics", nil)
lines:
	for line := range strings.Lines(body) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' ')+1:]), 64)
		if err != nil {
			w.t.Fatalf("%q: %v", line, err)
		}
		sum, ok = sum+v, true
	}
	return sum, ok
}

// sample is one point of a series: Unix milliseconds and value.
type sample struct {
	at int64
	v  float64
}

// stored asks the PromQL API for every sample of one series within the last ten
// minutes, as they are.
func (w *world) stored(selector string) (out []sample) {
	w.t.Helper()
	result := w.query(selector + "[10m]")
	if len(result) > 1 {
		w.t.Fatalf("%s is %d series", selector, len(result))
	}
	if len(result) == 1 {
		for _, p := range result[0].Values {
			out = append(out, p.sample(w.t))
		}
	}
	return out
}

// one is the value of an instant query that has one; NaN is never returned: ok is
// false if there is none.
func (w *world) one(expr string) (v float64, ok bool) {
	w.t.Helper()
	result := w.query(expr)
	if len(result) != 1 {
		return 0, false
	}
	return result[0].Value.sample(w.t).v, true
}

type point [2]any

func (p point) sample(t *testing.T) sample {
	t.Helper()
	at, ok := p[0].(float64)
	text, isText := p[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if !ok || !isText || err != nil {
		t.Fatalf("no point: %v", p)
	}
	return sample{int64(at*1000 + 0.5), v}
}

type seriesAnswer struct {
	Metric map[string]string
	Value  point
	Values []point
}

func (w *world) query(expr string) []seriesAnswer {
	w.t.Helper()
	code, body := ask(w.t, http.DefaultTransport, http.MethodPost, w.office+"/api/v1/query", url.Values{"query": {expr}})
	var out struct {
		Status string
		Data   struct{ Result []seriesAnswer }
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || code != http.StatusOK || out.Status != "success" {
		w.t.Fatalf("%s: %d %s (%v)", expr, code, body, err)
	}
	return out.Data.Result
}

package collector

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/probe/wire"
)

// open makes a collector over the example inventory and runs it; it ends with the
// test.
func open(t *testing.T, change func(*Options)) *Collector {
	t.Helper()
	office, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{DataDir: filepath.Join(t.TempDir(), "data"), Inventory: "../configs/klaten", Names: []string{"127.0.0.1"},
		IngestAddr: "127.0.0.1:0", Office: office, Software: "test", Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	c, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return c
}

func get(t *testing.T, c *Collector, path string, into any) {
	t.Helper()
	r, err := (&http.Client{Timeout: time.Minute}).Get("http://" + c.OfficeAddr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %v: %s", path, r.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for: %s", what)
		}
	}
}

// What the catalogue says of the collector's own metrics is what a collector, and
// the outbox beside it, has.
func TestOwnMetricsAreAsDeclared(t *testing.T) {
	c := open(t, nil)
	has := map[string][]string{}
	sees := func(reg *prometheus.Registry) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			var names []string
			for _, l := range f.Metric[0].Label {
				names = append(names, l.GetName())
			}
			has[f.GetName()] = slices.Sorted(slices.Values(names))
		}
		// Those of which there is nothing to show now.
		described := regexp.MustCompile(`fqName: "(\w+)".*variableLabels: \{([^}]*)\}`)
		ch := make(chan *prometheus.Desc)
		go func() { defer close(ch); reg.Describe(ch) }()
		for d := range ch {
			m := described.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("a description of another form: %s", d)
			}
			if _, ok := has[m[1]]; !ok {
				has[m[1]] = slices.Sorted(slices.Values(strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' })))
			}
		}
	}
	sees(c.reg)
	mails := prometheus.NewRegistry()
	box, err := outbox.Open(outbox.Options{File: filepath.Join(t.TempDir(), "outbox"), From: "Uji <uji@example.id>", SMTP: outbox.SMTP{Host: "127.0.0.1"}, Registerer: mails})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	sees(mails)

	n := 0
	for _, d := range series.Catalogue() {
		got, ok := has[d.Name]
		if d.Source != series.FromSelf {
			if ok && d.Source == series.FromRecords {
				t.Errorf("%s is a measurement and a metric", d.Name)
			}
			continue
		}
		n++
		want := d.Labels
		if len(want) == 0 {
			want = nil
		}
		if !ok {
			t.Errorf("%s is declared and the collector has no such metric", d.Name)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: labels declared and had: %s", d.Name, diff)
		}
	}
	if n < 40 {
		t.Errorf("only %d metrics of the collector are declared", n)
	}
}

// Rules see the collector itself from the first minute, and the API shows them.
func TestRulesSeeTheCollector(t *testing.T) {
	dir := t.TempDir()
	mine := "groups: [{name: mine, interval: 1s, query_offset: 0s, rules: [{alert: Disk, expr: pantau_journal_free_bytes > 1, " +
		"labels: {kind: ours, severity: warning}, annotations: {summary: s, ringkasan: r, description: d, value: '{{ $value }}'}}]}]"
	if err := os.WriteFile(filepath.Join(dir, "mine.yml"), []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	c := open(t, func(o *Options) { o.RuleDir = dir })
	var alerts struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	waitFor(t, "an alert about the collector", func() bool {
		get(t, c, "/api/v1/alerts", &alerts)
		return slices.ContainsFunc(alerts.Data.Alerts, func(a struct {
			Labels map[string]string
			State  string
		}) bool {
			return a.Labels["alertname"] == "Disk" && a.State == "firing"
		})
	})
	var list struct {
		Data struct{ Groups []struct{ Name, File string } }
	}
	get(t, c, "/api/v1/rules", &list)
	files := map[string]bool{}
	for _, g := range list.Data.Groups {
		files[g.File] = true
	}
	// Those about villages follow when the probes had time to deliver.
	if d := cmp.Diff([]string{"health.yml", "mine.yml", "probes.yml"}, slices.Sorted(maps.Keys(files))); d != "" {
		t.Error(d)
	}
	if why := c.rules.Waiting(); !strings.Contains(why, "away until") {
		t.Errorf("waits: %q", why)
	}
	v, err := c.Query().Instant(t.Context(), "pantau_rules_waiting", time.Now())
	if err != nil || len(v) != 1 || v[0].F != 1 {
		t.Errorf("%v, %v", v, err)
	}
}

// A probe that says what ails it is shown with its place, as long as it says so.
func TestAilingProbes(t *testing.T) {
	c := open(t, nil)
	p := c.inventory().Probes(time.Now())[0]
	l, ok := c.inventory().Labels(p.Probe, time.Now())
	if !ok {
		t.Fatal(p)
	}
	shown := func() (out []string) {
		families, err := c.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() != series.ProbeAiling {
				continue
			}
			for _, m := range f.Metric {
				labels := map[string]string{}
				for _, x := range m.Label {
					labels[x.GetName()] = x.GetValue()
				}
				if m.Gauge.GetValue() != 1 || labels["village"] != l.Village || labels["site"] != string(l.Site) || labels["regency"] != l.Village[:5] {
					t.Errorf("%v", m)
				}
				out = append(out, labels["ailment"])
			}
		}
		return out
	}
	beat := func(n uint64, h wire.Health) {
		c.states.Beat(wire.Heartbeat{Probe: p.Probe, Counter: n, Health: h}, time.Now())
		c.states.Beat(wire.Heartbeat{Probe: "nowhere", Counter: n, Health: wire.HealthSpool}, time.Now())
	}
	if got := shown(); len(got) > 0 {
		t.Errorf("before any beat: %q", got)
	}
	beat(1, wire.HealthSpool|wire.HealthClock|1<<20)
	if d := cmp.Diff([]string{"clock", "other", "spool"}, slices.Sorted(slices.Values(shown()))); d != "" {
		t.Error(d)
	}
	beat(2, 0)
	if got := shown(); len(got) > 0 {
		t.Errorf("when it is well again: %q", got)
	}
}

package influx

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
)

// Every metric that sinks are given has its place, which README.md names, and no two
// share one.
func TestEveryMetricHasItsPlace(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]string{}
	for _, d := range series.Catalogue() {
		if d.Source != series.FromRecords {
			continue // it is made in the embedded store alone
		}
		metric := strings.TrimPrefix(d.Name, prefix)
		if d.Name != series.SiteInfo && measurement(metric) == metric {
			t.Errorf("%s has a measurement of its own: put it where the figures are that are measured with it", d.Name)
		}
		stats := []string{""}
		if d.Has(stat) {
			stats = []string{"min", "median", "p95"}
		}
		for _, s := range stats {
			place := measurement(metric) + "." + field(metric, s)
			if other, taken := fields[place]; taken {
				t.Errorf("%s and %s share %s", d.Name, other, place)
			}
			fields[place] = d.Name
			row := "| `" + measurement(metric) + "` |"
			_, line, found := strings.Cut(string(readme), row)
			line, _, _ = strings.Cut(line, "\n")
			if !found || !strings.Contains(line, "`"+field(metric, s)+"`") {
				t.Errorf("README.md does not say in the row of %s that %s is there", row, field(metric, s))
			}
		}
		for _, label := range d.Labels {
			if d.Name == series.SiteInfo && isFact(label) && !strings.Contains(string(readme), "`"+label+"`") {
				t.Errorf("README.md does not name the fact %s", label)
			}
		}
	}
}

// A result's figures are one point; of two for one instant the first counts.
func TestPointsHoldWhatBelongsTogether(t *testing.T) {
	now := time.Now()
	b := seriestest.Batch("probe-b", 1, now, now.Add(-time.Hour), seriestest.Latency(now, now.Add(-time.Hour), 0.01), seriestest.Reach(now, now.Add(-time.Hour), true))
	samples, _ := series.NewMapper().Batch(nil, &b, seriestest.Sent(now, now.Add(-time.Hour)), now, seriestest.Inventory(t))
	double := samples[0]
	double.V = 99
	got, refused := points(append(samples, double), now.Add(time.Minute).UnixMilli())
	if refused.Total() != 0 {
		t.Errorf("refused %+v", refused)
	}
	n := map[string]int{}
	for _, p := range got {
		n[p.name] += len(p.line.FieldList())
		for _, f := range p.line.FieldList() {
			if f.Value == 99.0 {
				t.Errorf("the second value of %s stands", f.Key)
			}
		}
	}
	// Latency is one point; reach is one of the target and one of the rest.
	if len(got) != 4 || n["latency"] != 5 || n["reach"] != 4 || n["result"] != 1 {
		t.Errorf("%d points, fields %v", len(got), n)
	}
}

// BenchmarkWrite is what the sink itself costs: points, lines, compression, a
// request on loopback. It counts the processor time of client and discarding server.
func BenchmarkWrite(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	s, err := New(Options{URL: server.URL, Org: "o", Bucket: "b"})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const probes = 500
	inv := seriestest.Fleet(b, probes)
	now := time.Now()
	booted := now.Add(-time.Hour)
	m := series.NewMapper()
	var samples []series.Sample
	for i := range probes {
		batch := seriestest.Batch(seriestest.ProbeName(i), 1, now, booted, seriestest.Minutes(now.Add(-time.Second), booted, 5)...)
		samples, _ = m.Batch(samples, &batch, seriestest.Sent(now, booted), now, inv)
	}
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	var n int
	for b.Loop() {
		refused, err := s.Write(b.Context(), samples)
		if err != nil || refused.Total() != 0 {
			b.Fatal(refused, err)
		}
		n += len(samples)
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(cpu.Seconds()/float64(n)*1e6, "CPU-s/M")
}

package endtoend

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/collector/sink/influx/influxtest"
)

// A collector with an InfluxDB: what that one misses while it is away waits for it
// alone, and stores can be made again from the evidence.
func TestInfluxDB(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{User: "admin", Password: "kunci"})
	server.Create("pantau")
	server.InfluxQL("", "CREATE USER pantau WITH PASSWORD 'rahasia'")
	server.InfluxQL("", "GRANT WRITE ON pantau TO pantau")
	w := newWorld(t, 1, "")
	token := w.write("influx-token", "pantau:rahasia\n")
	if err := os.Chmod(token, 0o600); err != nil {
		t.Fatal(err)
	}
	w.settings = pace + "influx: {url: " + server.URL() + ", org: pantau, bucket: pantau, token_file: " + token + "}\n"
	w.config = w.write("pantau.yaml", w.yaml())
	if out := must(t, "pantau", "check", "--config", w.config); !strings.Contains(out, "good") {
		t.Errorf("check says %s", out)
	}

	const reach = `pantau_odp_reachable{probe="box-1"}`
	copied := func() (n int) {
		for _, s := range server.InfluxQL("pantau", "SELECT COUNT(odp_reachable) FROM reach WHERE probe = 'box-1'") {
			n += int(s.Values[0][1].(float64))
		}
		return n
	}
	more := func(than int) func() bool { return func() bool { return len(w.stored(reach)) > than } }

	// Away from the start: nobody else waits.
	server.Kill()
	w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	probe := w.probe("site-1")
	w.await("results are stored while InfluxDB is away", more(0))
	w.await("the collector says so", func() bool {
		n, ok := w.metric("pantau_sink_errors_total", `sink="influx"`)
		return ok && n > 0
	})
	if code := w.status(http.MethodGet, "/readyz"); code != http.StatusOK {
		t.Errorf("not ready: %d", code)
	}
	server.Restart()
	w.await("InfluxDB has them", func() bool { return copied() > 0 })
	// Away again, in the middle.
	server.Kill()
	w.await("more are stored meanwhile", more(len(w.stored(reach))))
	server.Restart()
	probe.end()
	w.await("InfluxDB has all", func() bool { n := len(w.stored(reach)); return n > 1 && copied() == n })
	all := w.stored(reach)

	// Made again: the bucket that somebody emptied, the store that somebody doubts.
	if _, errs, code := call(t, "pantau", "rebuild", "--config", w.config, "--sink", "influx"); code != 1 || !strings.Contains(errs, "stop it first") {
		t.Errorf("beside a running collector: exit %d, %s", code, errs)
	}
	w.serving.end()
	server.InfluxQL("pantau", "DROP SERIES FROM reach")
	for _, args := range [][]string{{"--sink", "influxdb"}, {"--sink", "tsdb", "--from", "yesterday"}, {"--sink", "tsdb", "--dir", w.path("collector")}} {
		if _, errs, code := call(t, "pantau", append([]string{"rebuild", "--config", w.config}, args...)...); code != 2 || errs == "" {
			t.Errorf("rebuild %v: exit %d, %s", args, code, errs)
		}
	}
	if out := must(t, "pantau", "rebuild", "--config", w.config, "--sink", "influx", "--from", "2020-01-01"); !strings.Contains(out, "influx begins again from the beginning of the journal") {
		t.Errorf("rebuild says %s", out)
	}
	out := must(t, "pantau", "rebuild", "--dir", w.path("collector"), "--sink", "tsdb")
	_, kept, found := strings.Cut(strings.TrimSpace(out), "remove ")
	kept, _, _ = strings.Cut(kept, " ")
	if _, err := os.Stat(kept); !found || err != nil {
		t.Errorf("rebuild says %s: %v", out, err)
	}
	w.serveReady()
	w.await("InfluxDB has all again", func() bool { return copied() == len(all) })
	if again := w.stored(reach); len(again) != len(all) || again[0] != all[0] || again[len(all)-1] != all[len(all)-1] {
		t.Errorf("%d samples after the rebuild, %d before", len(again), len(all))
	}
	w.serving.end()
	if said := w.serving.said(); strings.Contains(said, "rahasia") {
		t.Errorf("the log shows the token: %s", said)
	}
}

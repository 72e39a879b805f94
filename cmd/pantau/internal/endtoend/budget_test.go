package endtoend

import (
	"strings"
	"testing"
	"time"
)

// A site whose budget does not even carry what is measured each minute has no speed
// tests, each planned one says why, and all else goes on. Whoever gives it more in the
// inventory has tests again.
func TestBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, pace)
	budget := func(gb string) {
		w.write("inventory/sites.csv", "site;village;name;isp;access;odp;budget_gb;valid_from\n"+
			"site-1;"+village+";Kantor Desa Uji 1;uji;fiber;ODP-1;"+gb+";2025-01-01\n")
	}
	budget("0,2") // and 130 bytes a second are 0.35 in a month
	w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	p := w.probe("site-1")
	last := func(selector string) float64 {
		if s := w.stored(selector); len(s) > 0 {
			return s[len(s)-1].v
		}
		return 0
	}
	w.await("a planned test is skipped", func() bool {
		return last(`pantau_result_total{kind="download",outcome="skipped",reason="budget"}`) > 0
	})
	w.await("the budget is told", func() bool {
		return last("pantau_probe_budget_bytes") == 200e6 && last("pantau_probe_budget_spent_bytes") > 0
	})
	for _, kind := range []string{"download", "upload"} {
		if n := w.stored(`pantau_result_total{kind="` + kind + `",outcome="ok"}`); len(n) > 0 {
			t.Errorf("%s is measured all the same", kind)
		}
	}
	w.await("latency goes on", func() bool { return len(w.stored(`pantau_latency_seconds{stat="min"}`)) > 0 })

	budget("100000")
	if out := must(t, "pantau", "reload", "--config", w.config); strings.Contains(out, "problem") {
		t.Fatal(out)
	}
	w.await("the new budget is there", func() bool { return last("pantau_probe_budget_bytes") == 100e12 })
	p.end()
	w.probe("site-1") // its first test comes within a minute
	ended := time.Now().Add(3 * time.Minute)
	for { // whether they measure anything is the machine's business
		if n, ok := w.one(`sum(pantau_result_total{kind="download",outcome!="skipped"})`); ok && n > 0 {
			break
		}
		if time.Now().After(ended) {
			t.Fatalf("no test: %s", tail(w.path("site-1/log")))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

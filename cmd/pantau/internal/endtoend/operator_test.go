package endtoend

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// waiting are the sealed batches in a box's spool, by file name.
func (w *world) waiting(site string) []string {
	w.t.Helper()
	found, err := filepath.Glob(w.path(site + "/state/spool/batch-*.zst"))
	if err != nil {
		w.t.Fatal(err)
	}
	for i, path := range found {
		found[i] = filepath.Base(path)
	}
	return found
}

// pending is how many bytes of results a box's spool has that are in no batch.
func (w *world) pending(site string) (n int64) {
	w.t.Helper()
	found, err := filepath.Glob(w.path(site + "/state/spool/open-*.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, path := range found {
		if info, err := os.Stat(path); err == nil { // it may have been sealed since
			n += info.Size()
		}
	}
	return n
}

// A revoked probe is refused from then on and keeps what it measures; enrolled
// anew, it tells all of it.
func TestRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, pace)
	w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	probe := w.probe("site-1")
	w.await("the probe is heard", func() bool { n, _ := w.metric("pantau_ingest_batches_total"); return n > 0 })
	if row := w.listed("box-1"); len(row) < 8 || row[1] != "site-1" || row[4] != "-" {
		t.Errorf("before: %q", row)
	}
	if row := w.listed("box-2"); row != nil {
		t.Errorf("a probe without a claim code is listed: %q", row)
	}

	if out := must(t, "pantau", "probe", "revoke", "--config", w.config, "box-1"); out != "box-1 is revoked\n" {
		t.Errorf("revoke says %q", out)
	}
	if row := w.listed("box-1"); len(row) < 8 || row[4] == "-" {
		t.Errorf("after: %q", row)
	}
	w.await("a push is refused", func() bool {
		n, _ := w.metric("pantau_ingest_refused_total", `reason="revoked"`)
		return n > 0 && len(w.waiting("site-1")) > 0
	})
	w.await("the probe says so", func() bool {
		return strings.Contains(probe.said(), "403 Forbidden") && strings.Contains(probe.said(), "ask for a new claim code")
	})
	probe.end()
	kept := w.waiting("site-1")
	if len(kept) == 0 {
		t.Error("the spool is empty")
	}

	// The same box, with a new code: what it kept is not lost.
	out := must(t, "pantau-probe", "enroll", "--state-dir", w.path("site-1/state"), "--collector", "https://"+w.ingest, "--code", w.claim("site-1"))
	if !strings.Contains(out, "box-1") {
		t.Errorf("enrolment says %q", out)
	}
	probe = w.probe("site-1")
	w.await("what was kept is told", func() bool {
		still := w.waiting("site-1")
		for _, name := range kept {
			for _, s := range still {
				if s == name {
					return false
				}
			}
		}
		return true
	})
	probe.end()
	e := w.journalled("box-1")
	if e.hold(t); e.last != w.lastSealed("site-1") {
		t.Errorf("%d batches are in the journal, %d were sealed", e.last, w.lastSealed("site-1"))
	}

	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"revoke", "box-9"}, "no probe box-9 is enrolled"},
		{[]string{"add", "--site", "site-9"}, `the inventory has no site "site-9" today`},
		{[]string{"add", "--site", "site-1", "--probe", "box-2"}, "the inventory has no probe box-2 at site site-1"},
	} {
		_, errs, code := call(t, "pantau", append([]string{"probe", "--config", w.config}, tc.args...)...)
		if code != 1 || !strings.Contains(errs, tc.want) {
			t.Errorf("probe %v: exit %d, %q", tc.args, code, errs)
		}
	}
	w.serving.end()
	if _, errs, code := call(t, "pantau", "probe", "list", "--config", w.config); code != 1 || !strings.Contains(errs, "is `pantau serve` running") {
		t.Errorf("list without a collector: exit %d, %q", code, errs)
	}
}

// listed are the cells of a probe's row in `pantau probe list`; an instant takes
// two (date and time).
func (w *world) listed(probe string) []string {
	w.t.Helper()
	for line := range strings.Lines(must(w.t, "pantau", "probe", "list", "--config", w.config)) {
		if cells := strings.Fields(line); len(cells) > 0 && cells[0] == probe {
			return cells
		}
	}
	return nil
}

// Everything that an operator can have wrong is said where it is.
func TestWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, pace)

	t.Run("nothing is", func(t *testing.T) {
		out, errs, code := call(t, "pantau", "check", "--config", w.config)
		if code != 0 || !strings.Contains(out, "1 districts, 1 villages") {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("a key", func(t *testing.T) {
		file := w.write("typo.yaml", strings.Replace(w.yaml(), "\noffice:", "\nofice:", 1))
		for _, command := range []string{"check", "serve"} {
			_, errs, code := call(t, "pantau", command, "--config", file)
			if want := file + ":4: unknown key ofice; the nearest is office\n"; code != 2 || !strings.Contains(errs, want) {
				t.Errorf("%s: exit %d, want %q in\n%s", command, code, want, errs)
			}
		}
	})
	t.Run("a value", func(t *testing.T) {
		file := w.write("value.yaml", strings.Replace(w.yaml(), "light: 10s", "light: 1s", 1))
		_, errs, code := call(t, "pantau", "check", "--config", file)
		if want := ":5: probes.light: 1s is not within 10s and 5m0s"; code != 2 || !strings.Contains(errs, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, errs)
		}
	})
	t.Run("the inventory", func(t *testing.T) {
		broken := newWorld(t, 2, pace)
		sites := broken.write("inventory/sites.csv", "site;village;name;isp;access;odp;valid_from\n"+
			"site-1;33.10.15.2001;Kantor;tiada;fiber;ODP-1;2025-01-01\nsite-2;33.10.99.2001;Kantor;uji;fiber;ODP-1;2025-01-01\n")
		_, errs, code := call(t, "pantau", "serve", "--config", broken.config)
		for _, want := range []string{"2 problems with the inventory", "pantau check inventory " + broken.path("inventory"), filepath.Base(sites) + ":2", "tiada"} {
			if code != 2 || !strings.Contains(errs, want) {
				t.Errorf("exit %d, %q is not in\n%s", code, want, errs)
			}
		}
		out, _, code := call(t, "pantau", "check", "inventory", broken.path("inventory"))
		if code != 1 || !strings.Contains(out, "tiada") || !strings.Contains(out, "33.10.99.2001") {
			t.Errorf("check: exit %d\n%s", code, out)
		}
	})
	t.Run("no enrolment", func(t *testing.T) {
		file := w.write("box.yaml", fmt.Sprintf("state_dir: %q\nmetrics: {listen: \"\"}\n", w.path("nobody")))
		_, errs, code := call(t, "pantau-probe", "run", "--config", file)
		if code != 1 || !strings.Contains(errs, w.path("nobody")+": not enrolled: run `pantau-probe enroll") {
			t.Errorf("exit %d, %q", code, errs)
		}
	})
	t.Run("a claim code", func(t *testing.T) {
		_, errs, code := call(t, "pantau-probe", "enroll", "--state-dir", w.path("nobody"), "--collector", "https://"+w.ingest, "--code", "ABCD-EFGH")
		if code != 2 || !strings.Contains(errs, "claim code") {
			t.Errorf("exit %d, %q", code, errs)
		}
	})
	t.Run("two at once", func(t *testing.T) {
		w.serveReady()
		second := *w
		second.ingest, second.office = w.free(), "http://"+w.free()
		file := w.write("second.yaml", second.yaml())
		_, errs, code := call(t, "pantau", "serve", "--config", file)
		if want := fmt.Sprintf("journal: in use: %s is open in process %d", w.path("collector/journal"), w.serving.cmd.Process.Pid); code != 1 || !strings.Contains(errs, want) {
			t.Errorf("the same data: exit %d, want %q in\n%s", code, want, errs)
		}
		_, errs, code = call(t, "pantau", "serve", "--config", w.config)
		if code != 1 || !strings.Contains(errs, "office.listen: ") || !strings.Contains(errs, "address already in use") {
			t.Errorf("the same addresses: exit %d, %q", code, errs)
		}
		if code := w.status(http.MethodGet, "/readyz"); code != http.StatusOK {
			t.Errorf("the first answers %d afterwards", code)
		}
		w.enroll("site-1") // its administration is undisturbed
		w.serving.end()
	})
}

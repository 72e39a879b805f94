package endtoend

import (
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
)

// page is what a page says.
func (w *world) page(path string) string {
	w.t.Helper()
	resp, err := http.Get(w.office + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(raw)
}

// A reload brings new facts without a restart; one that is wrong changes nothing
// and is said on every page until it is mended. Announced work is a state.
func TestReloadAndMaintenance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, pace)
	w.serveReady()
	regions, err := os.ReadFile(w.path("inventory/regions.csv"))
	if err != nil {
		t.Fatal(err)
	}

	w.write("inventory/regions.csv", string(regions)+"33.10.15;Dua Kali;2025-01-01\n")
	if _, errs, code := call(t, "pantau", "reload", "--config", w.config); code != 1 || !strings.Contains(errs, "stays in force") || !strings.Contains(errs, "regions.csv:") {
		t.Errorf("a wrong inventory: exit %d, %q", code, errs)
	}
	if s := w.page("/"); !strings.Contains(s, "yang lama tetap berlaku") || !strings.Contains(s, "Uji 1") {
		t.Error("the page does not say that the inventory before is in force")
	}
	if n, _ := w.metric("pantau_collector_inventory_reload_failed"); n != 1 {
		t.Errorf("the metric says %v", n)
	}

	w.write("inventory/regions.csv", string(regions)+"33.10.15.2099;Desa Baru;2025-01-01\n")
	if err := w.serving.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	w.await("the new village is there", func() bool { return strings.Contains(w.page("/?q=33.10.15.2099"), "Desa Baru") })
	// It is there before it is in the evidence, and the reload has succeeded after that.
	w.await("the page no longer says that the reload failed", func() bool { return !strings.Contains(w.page("/"), "yang lama tetap berlaku") })

	if _, errs, code := call(t, "pantau", "maintenance", "--config", w.config, "add", "--scope", "ODC-9", "--for", "1h", "--reason", "Uji", "--author", "Uji"); code != 1 || !strings.Contains(errs, `no region, site or node "ODC-9"`) {
		t.Errorf("exit %d, %q", code, errs)
	}
	if _, errs, code := call(t, "pantau", "maintenance", "--config", w.config, "add", "--scope", "ODC-1", "--reason", "Uji", "--author", "Uji"); code != 2 || !strings.Contains(errs, "--to or --for") {
		t.Errorf("exit %d, %q", code, errs)
	}
	out := must(t, "pantau", "maintenance", "--config", w.config, "add", "--scope", "ODC-1", "--for", "1h", "--reason", "Penggantian ODC", "--author", "Uji")
	if !strings.HasPrefix(out, "maintenance 1: ODC-1, ") {
		t.Errorf("add says %q", out)
	}
	w.await("the villages below it are under maintenance", func() bool { return strings.Count(w.page("/"), "Pemeliharaan</td>") == 2 })
	if s := w.page("/gangguan"); !strings.Contains(s, "Penggantian ODC (Uji)") {
		t.Error("the page of incidents does not list the announced work")
	}
	w.serving.kill()
	w.serveReady()
	if out := must(t, "pantau", "maintenance", "--config", w.config, "list"); !strings.Contains(out, "Penggantian ODC") {
		t.Errorf("after a kill: %q", out)
	}
	must(t, "pantau", "maintenance", "--config", w.config, "end", "1")
	if _, errs, code := call(t, "pantau", "maintenance", "--config", w.config, "end", "1"); code != 1 || !strings.Contains(errs, "pantau maintenance list") {
		t.Errorf("exit %d, %q", code, errs)
	}
	w.serving.end()
}

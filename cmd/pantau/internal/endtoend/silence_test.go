package endtoend

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
)

// Silences are kept by the running collector, through kills, and shown on a page
// that nobody can write to.
func TestSilences(t *testing.T) {
	t.Parallel()
	server, err := smtptest.Start(smtptest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	w := newWorld(t, 2, pace)
	settings, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	w.serveReady()
	silence := func(args ...string) []string {
		return append([]string{"silence", "--config", w.config}, args...)
	}
	if _, errs, code := call(t, "pantau", silence("list")...); code != 1 || !strings.Contains(errs, "no section mail") {
		t.Errorf("without mail: exit %d, %q", code, errs)
	}
	w.serving.end()

	w.write("pantau.yaml", string(settings)+"\nmail: {host: "+server.Host()+", port: "+strconv.Itoa(server.Port())+", encryption: none, from: pantau@example.id}\n")
	w.write("inventory/contacts.csv", "email;role;region;name;valid_from\nkominfo@klaten.example.id;dinas;33.10;Diskominfo Klaten;2025-01-01\n")
	w.serveReady()
	if s := w.page("/surat"); !strings.Contains(s, "Diskominfo Klaten") || !strings.Contains(s, "Tidak ada yang dibungkam") {
		t.Errorf("the page of mails:\n%s", s)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"add", "--scope", "ODC-9", "--for", "1h", "--reason", "Uji", "--author", "Uji"}, 1, `no node "ODC-9"`},
		{[]string{"add", "--scope", "ODC-1", "--for", "800h", "--reason", "Uji", "--author", "Uji"}, 1, "longer than 30 days"},
		{[]string{"add", "--scope", "ODC-1", "--reason", "Uji", "--author", "Uji"}, 2, "--to or --for"},
		{[]string{"add", "--scope", "ODC-1", "--for", "1h", "--reason", "Uji", "--author", ""}, 1, "author"},
		{[]string{"expire", "zzzzzzzz"}, 1, "begins with"},
	} {
		if _, errs, code := call(t, "pantau", silence(c.args...)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%v: exit %d, %q", c.args, code, errs)
		}
	}
	out := must(t, "pantau", silence("add", "--scope", "ODC-1", "--for", "1h", "--reason", "Penyedia sudah dikabari", "--author", "Operator")...)
	if !strings.HasPrefix(out, "silence ") || !strings.Contains(out, "node ODC-1") {
		t.Errorf("add says %q", out)
	}
	id := strings.TrimSuffix(strings.Fields(out)[1], ":")
	w.serving.kill()
	w.serveReady()
	if out := must(t, "pantau", silence("list")...); !strings.Contains(out, id) || !strings.Contains(out, "Penyedia sudah dikabari") {
		t.Errorf("after a kill: %q", out)
	}
	if s := w.page("/surat"); !strings.Contains(s, "Penyedia sudah dikabari") || !strings.Contains(s, id) {
		t.Error("the page does not show the silence")
	}
	if code := w.status("POST", "/surat"); code != 405 {
		t.Errorf("POST /surat: %d", code)
	}
	must(t, "pantau", silence("expire", id)...)
	if out := must(t, "pantau", silence("list")...); strings.Contains(out, id) {
		t.Errorf("after its end: %q", out)
	}
	w.serving.end()
}

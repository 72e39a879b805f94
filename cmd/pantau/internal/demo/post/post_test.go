package post

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
)

// open is an office, and an outbox that sends to it as the collector does.
func open(t *testing.T) (*Office, *outbox.Outbox) {
	t.Helper()
	pages, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(Options{Dir: filepath.Join(t.TempDir(), "surat"), Pages: pages})
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.Open(outbox.Options{File: filepath.Join(t.TempDir(), "outbox"), From: "Pantau Desa <pantau@contoh.example>",
		SMTP: outbox.SMTP{Host: o.SMTP().Host(), Port: o.SMTP().Port(), CA: o.SMTP().CA()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := box.Close(); err != nil {
			t.Error(err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o, box
}

// send sends a mail and waits until the office has it.
func send(t *testing.T, o *Office, box *outbox.Outbox, event string, m mail.Message) {
	t.Helper()
	before := len(o.SMTP().Mails())
	ok, err := box.Enqueue(t.Context(), outbox.Mail{Event: event, Thread: strings.Split(event, "/")[0], Recipient: "dinas@klaten.example",
		Message: outbox.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML}})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := o.SMTP().Wait(ctx, before+1); err != nil {
		t.Fatal(err)
	}
}

// view is an incident of two villages, one with a name that is markup.
func view(event mail.Event, l mail.Language, simulation bool) mail.Incident {
	began := time.Date(2026, 11, 24, 7, 2, 0, 0, time.UTC)
	village := func(code, name string) mail.Village {
		return mail.Village{Code: code, Name: name, District: "Wonosari", Since: began, LastHeard: began, Restored: began.Add(7*time.Minute + 40*time.Second)}
	}
	return mail.Incident{Envelope: mail.Envelope{Language: l, Zone: time.FixedZone("WIB", 7*3600), SentAt: began.Add(4 * time.Minute),
		Region: mail.Region{Code: "33.10", Name: "Kabupaten Klaten"}, Simulation: simulation},
		Event: event, Kind: mail.Outage, ID: "G-3310-261124-01", Villages: []mail.Village{village("33.10.15.2009", "Boto"), village("33.10.15.2014", "O'<b>Brien")},
		Path: []mail.Node{{ID: "ODC-1", Type: "odc", State: mail.NodeSilent}}, Suspected: mail.ODPOrFeeder, Final: mail.ODPOrFeeder,
		Since: began, Confirmed: began.Add(3 * time.Minute), FirstMail: began.Add(4 * time.Minute), Restored: began.Add(7*time.Minute + 40*time.Second), Stable: 3 * time.Minute}
}

// What the collector's own templates and outbox send is read as people read it.
func TestLettersAreReadAsPeopleDo(t *testing.T) {
	o, box := open(t)
	var want []News
	for _, l := range []mail.Language{mail.Indonesian, mail.English} {
		for _, simulation := range []bool{false, true} {
			for event, news := range map[mail.Event]News{mail.Opened: Opened, mail.Widened: Widened, mail.Unstable: Unstable, mail.Recovered: Recovered} {
				m, err := view(event, l, simulation).Render()
				if err != nil {
					t.Fatal(err)
				}
				send(t, o, box, fmt.Sprintf("G-3310-261124-01/%s-%s-%t", event, l, simulation), m)
				want = append(want, news)
			}
		}
	}
	letters, err := o.Letters()
	if err != nil {
		t.Fatal(err)
	}
	if len(letters) != len(want) {
		t.Fatalf("%d letters of %d", len(letters), len(want))
	}
	for i, l := range letters {
		if l.News != want[i] || l.Incident != "G-3310-261124-01" || l.Recipient != "dinas@klaten.example" || time.Since(l.At) > time.Hour {
			t.Errorf("%+v, want %s", l, want[i])
		}
		for what, named := range map[string]bool{"33.10.15.2009": true, "Boto": true, "33.10.15.2014": true, "O'<b>Brien": true,
			"33.10.15.2010": false, "Bot": false, "3.10.15.2009": false, "": false} {
			if is, half := l.Names(what); is != named || half {
				t.Errorf("%q: %q is named: %t, in one twin alone: %t", l.Subject, what, is, half)
			}
		}
		d, ok := l.Lasted()
		if recovered := l.News == Recovered; ok != recovered || recovered && (d != 7*time.Minute || l.Cause() == "") {
			t.Errorf("%q: lasted %v, %t, cause %q", l.Subject, d, ok, l.Cause())
		}
		if i == 0 && len(l.References) > 0 || i > 0 && (len(l.References) == 0 || l.References[0] != letters[0].MessageID) {
			t.Errorf("letter %d of %s refers to %v", i, letters[0].MessageID, l.References)
		}
	}
}

func TestNewsOfASubject(t *testing.T) {
	for subject, want := range map[string]News{
		"[Gangguan] Desa Boto putus":                Opened,
		"[SIMULASI Mutu menurun] Desa Boto menurun": Opened,
		"[Lonjakan] Pemakaian Kec. Prambanan":       Other,
		"[Ringkasan pekan] Klaten: 3 gangguan":      Other,
		"Gangguan":                                  Other,
		"":                                          Other,
	} {
		if got := newsOf(subject); got != want {
			t.Errorf("%q: %s, want %s", subject, got, want)
		}
	}
}

func TestLasted(t *testing.T) {
	for subject, want := range map[string]time.Duration{
		"[Pulih] 3 desa pulih 16.43 WIB setelah 2 jam 41 menit: ODC putus":     161 * time.Minute,
		"[Pulih] 3 desa pulih 16.43 WIB setelah 1 hari 3 menit":                24*time.Hour + 3*time.Minute,
		"[Recovered] 3 villages back 16:43 WIB after 1 hour 1 minute: unknown": 61 * time.Minute,
		"[Pulih] 3 desa pulih 16.43 WIB setelah 40 detik":                      40 * time.Second,
		"[Pulih] 3 desa pulih 16.43 WIB setelah waktu yang belum diketahui":    0,
		"[Gangguan] 3 desa putus sejak 14.02 WIB":                              0,
	} {
		if got, ok := (Letter{Subject: subject}).Lasted(); got != want || ok != (want > 0) {
			t.Errorf("%q: %v, %t", subject, got, ok)
		}
	}
}

// A mail that lacks a twin, or is none, is said, and hides no other.
func TestUnreadableLetters(t *testing.T) {
	o, box := open(t)
	m, err := view(mail.Opened, mail.Indonesian, true).Render()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"0000.eml": "not a mail", "0002.eml.part": "half written",
		"0003.eml": "Subject: [Gangguan] x\r\nContent-Type: text/plain\r\n\r\nG-3310-261124-01\r\n"} {
		if err := os.WriteFile(filepath.Join(o.opt.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	send(t, o, box, "G-3310-261124-01/opened", m)
	letters, err := o.Letters()
	if err == nil || !strings.Contains(err.Error(), "0000.eml") || !strings.Contains(err.Error(), "0003.eml: it lacks one of its twins") || strings.Contains(err.Error(), "part") {
		t.Errorf("%v", err)
	}
	if len(letters) != 1 || letters[0].News != Opened {
		t.Errorf("%+v", letters)
	}
}

func TestPages(t *testing.T) {
	o, box := open(t)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		o.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w
	}
	if w := get("/"); w.Code != 200 || !strings.Contains(w.Body.String(), "Belum ada surat") || !strings.Contains(w.Body.String(), "SIMULASI") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	m, err := view(mail.Opened, mail.Indonesian, true).Render()
	if err != nil {
		t.Fatal(err)
	}
	m.Subject += " <script>"
	send(t, o, box, "G-3310-261124-01/opened", m)
	send(t, o, box, "G-3310-261124-01/widened", m)
	var codes []int
	for _, path := range []string{"/0001", "/0001.html", "/0001.eml", "/0009", "/0001.exe", "/..%2f0001", "/0001/x", "/post_test"} {
		codes = append(codes, get(path).Code)
	}
	if diff := cmp.Diff([]int{200, 200, 200, 404, 404, 404, 404, 404}, codes); diff != "" {
		t.Error(diff)
	}
	list := get("/").Body.String()
	if strings.Contains(list, "<script") || strings.Index(list, `href="/0002"`) > strings.Index(list, `href="/0001"`) || !strings.Contains(list, "2 surat sejak") {
		t.Error(list)
	}
	if page := get("/0002").Body.String(); strings.Contains(page, "<script") || !strings.Contains(page, "G-3310-261124-01-opened.") || !strings.Contains(page, `src="/0002.html"`) {
		t.Error(page)
	}
	if w := get("/0001.html"); !strings.Contains(w.Header().Get("Content-Security-Policy"), "sandbox") || !strings.Contains(w.Body.String(), "O&#39;&lt;b&gt;Brien") {
		t.Error(w.Header(), w.Body)
	}
}

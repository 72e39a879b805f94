package alerts

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/configs/klaten"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const contacts = `email;role;region;name;language;min_villages;valid_from;valid_to
kominfo@klaten.example.id;dinas;33.10;Diskominfo Kabupaten Klaten;;;1990-01-01;
infra@klaten.example.id;dinas;33.10;Bidang Infrastruktur;en;;1990-01-01;
kominfo@jateng.example.id;province;33;Diskominfo Provinsi Jawa Tengah;;10;1990-01-01;
operasi@pantau.example.id;operations;;Operasi Pantau Desa;;;1990-01-01;
`

// network is an inventory of villages of Klaten, each with one site: the first 40
// below ODC-1, the next 8 below ODC-2, the rest below ODC-3.
func network(t testing.TB, villages int, contacts string) *inventory.Inventory {
	t.Helper()
	const since = "1990-01-01"
	rows := strings.Split(strings.TrimSpace(string(klaten.Regions())), "\n")
	regions := rows[0] + "\n"
	nodes := "node;type;parent;name;valid_from\nPOP-A;pop;;POP Contoh;" + since + "\nOLT-1;olt;POP-A;OLT Contoh;" + since + "\n"
	for k := range 3 {
		nodes += fmt.Sprintf("ODC-%d;odc;OLT-1;ODC Contoh %d;%s\n", k+1, k+1, since)
	}
	sites := "site;village;name;population;isp;access;odp;valid_from\n"
	probes := "probe;site;valid_from\n"
	n := 0
	for _, row := range rows[1:] {
		code, rest, _ := strings.Cut(row, ";")
		name, _, _ := strings.Cut(rest, ";")
		regions += strings.ReplaceAll(row, "2025-01-01", since) + "\n"
		if strings.Count(code, ".") != 3 || n == villages {
			continue
		}
		odc := 3
		if n < 40 {
			odc = 1
		} else if n < 48 {
			odc = 2
		}
		n++
		nodes += fmt.Sprintf("ODP-%d;odp;ODC-%d;depan balai %s;%s\n", n, odc, name, since)
		sites += fmt.Sprintf("s%d;%s;Kantor %s;%d;a;fiber;ODP-%d;%s\n", n, code, name, 1000+n, n, since)
		probes += fmt.Sprintf("p%d;s%d;%s\n", n, n, since)
	}
	inv, err := inventory.Parse(map[string][]byte{"regions.csv": []byte(regions), "nodes.csv": []byte(nodes), "sites.csv": []byte(sites), "probes.csv": []byte(probes),
		"isps.csv":     []byte("isp;name;noc_phone;noc_email;noc_hours;valid_from\na;Penyedia Contoh A;+62 21 0000 0000;noc@penyedia-a.example.id;24 jam;" + since + "\n"),
		"targets.csv":  []byte("target;method;address;valid_from\nix;icmp;192.0.2.1;" + since + "\n"),
		"plans.csv":    []byte("site;download_mbps;upload_mbps;source_document;valid_from\n"),
		"contacts.csv": []byte(contacts)})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// world is a real engine that sees a made-up network, and the service behind it.
// Its methods are called within a synctest bubble; its mail server is real, and
// outside.
type world struct {
	t       testing.TB
	dir     string
	server  *smtptest.Server
	inv     atomic.Pointer[inventory.Inventory]
	engine  *incident.Engine
	service *Service
	stop    func()
	uplink  wire.Tri
	cut     map[int]time.Time // number of a silent site: last heard
	change  func(*Options)
}

func newWorld(t *testing.T, server *smtptest.Server, inv *inventory.Inventory) *world {
	w := &world{t: t, dir: t.TempDir(), server: server, uplink: wire.Yes, cut: map[int]time.Time{}}
	w.inv.Store(inv)
	w.engine = w.openEngine()
	t.Cleanup(func() { _ = w.engine.Close() })
	return w
}

func (w *world) openEngine() *incident.Engine {
	w.t.Helper()
	e, err := incident.New(incident.Options{Path: filepath.Join(w.dir, "incidents.log"), Inventory: w.inv.Load, Notify: func(incident.Event) {
		if w.service != nil {
			w.service.Wake()
		}
	}})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) options() Options {
	o := Options{Dir: filepath.Join(w.dir, "alerts"), Inventory: w.inv.Load, Incidents: w.engine,
		States: func() state.Snapshot { return state.Snapshot{At: time.Now()} },
		Settings: Settings{From: "Pantau Desa <pantau@example.id>", PageURL: "https://pantau.example.id/",
			SMTP: outbox.SMTP{Host: w.server.Host(), Port: w.server.Port(), Encryption: outbox.Plain}}}
	if w.change != nil {
		w.change(&o)
	}
	return o
}

// start opens the service and runs it until stop.
func (w *world) start() {
	w.t.Helper()
	s, err := New(w.options())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.service = s
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("Run: %v", err)
		}
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
		w.service, w.stop = nil, nil
	}
	synctest.Wait()
}

// end stops the service if it runs.
func (w *world) end() {
	if w.stop != nil {
		w.stop()
	}
}

// pass lets time go by: every five seconds the engine looks.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	const step = 5 * time.Second
	for range d / step {
		time.Sleep(step)
		now := time.Now()
		v := incident.View{Uplink: w.uplink}
		for k, s := range w.inv.Load().Sites(now) {
			n := number(s.ID)
			x := incident.SiteView{Site: s.ID, State: state.Up, LastBeat: now.Add(-time.Duration(k%30) * time.Second), Since: now.Add(-time.Hour), Beyond: wire.Yes}
			if heard, ok := w.cut[n]; ok {
				x.LastBeat = heard
				if now.Sub(heard) > 170*time.Second {
					x.State, x.Since = state.Down, heard
				}
			}
			v.Sites = append(v.Sites, x)
		}
		if err := w.engine.Observe(now, v); err != nil {
			w.t.Fatal(err)
		}
	}
	synctest.Wait()
}

func number(id measure.SiteID) int {
	var n int
	_, _ = fmt.Sscanf(string(id), "s%d", &n)
	return n
}

func siteID(n int) measure.SiteID { return measure.SiteID(fmt.Sprintf("s%d", n)) }

// sever cuts the sites from..to off; heal brings all back.
func (w *world) sever(from, to int) {
	for n := from; n <= to; n++ {
		w.cut[n] = time.Now().Add(-time.Duration(n%10) * time.Second)
	}
}

func (w *world) heal() { clear(w.cut) }

// letters are the mails that arrived, by recipient, oldest first.
func (w *world) letters(to string) []arrived {
	w.t.Helper()
	var out []arrived
	for _, m := range w.server.Mails() {
		if slices.Contains(m.To, to) {
			out = append(out, parse(w.t, m))
		}
	}
	return out
}

func (w *world) subjects(to string) []string {
	var out []string
	for _, m := range w.letters(to) {
		out = append(out, m.subject)
	}
	return out
}

type arrived struct {
	subject, id, references, text, html string
	raw                                 []byte
}

func parse(t testing.TB, m smtptest.Mail) arrived {
	t.Helper()
	got, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatal(err)
	}
	a := arrived{raw: m.Data, id: got.Header.Get("Message-Id"), references: got.Header.Get("References")}
	if a.subject, err = new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(got.Body, params["boundary"])
	for {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			return a
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			a.html = string(b)
		} else {
			a.text = strings.ReplaceAll(string(b), "\r", "")
		}
	}
}

// outside returns a way to call functions outside of a synctest bubble, for what
// starts goroutines that wait for the network.
func outside(t *testing.T) func(func()) {
	calls, done := make(chan func()), make(chan struct{})
	t.Cleanup(func() { close(calls) })
	go func() {
		for f := range calls {
			f()
			done <- struct{}{}
		}
	}()
	return func(f func()) {
		calls <- f
		<-done
	}
}

func smtpServer(t *testing.T) *smtptest.Server {
	t.Helper()
	s, err := smtptest.Start(smtptest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// expect compares the beginnings of subjects.
func (w *world) expect(to string, beginnings ...string) {
	w.t.Helper()
	got := w.subjects(to)
	ok := len(got) == len(beginnings)
	for k := range min(len(got), len(beginnings)) {
		ok = ok && strings.HasPrefix(got[k], beginnings[k])
	}
	if !ok {
		w.t.Errorf("%s got\n  %s\nwant\n  %s", to, strings.Join(got, "\n  "), strings.Join(beginnings, "\n  "))
	}
}

const (
	dinas    = "kominfo@klaten.example.id"
	second   = "infra@klaten.example.id"
	province = "kominfo@jateng.example.id"
	ops      = "operasi@pantau.example.id"
)

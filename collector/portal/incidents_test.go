package portal

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// withIncidents gives an office a real engine, in whose last hour the hostile
// village was cut off for twenty minutes by a power cut, and Boto since 13.58.
func withIncidents(o *office) {
	t := o.t
	e, err := incident.New(incident.Options{Path: filepath.Join(t.TempDir(), "incidents.log"), Inventory: func() *inventory.Inventory { return o.inv }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	cuts := map[measure.SiteID][2]time.Duration{"s-evil": {60 * time.Minute, 40 * time.Minute}, "s-boto": {14 * time.Minute, -1}}
	for ago := 80 * time.Minute; ago >= 0; ago -= 5 * time.Second {
		now := noon.Add(-ago)
		v := incident.View{Uplink: wire.Yes, Listening: noon.Add(-2 * time.Hour)}
		for _, s := range klatenNow().Sites {
			if s.State == state.NeverSeen || s.State == state.NoCoverage {
				continue
			}
			x := incident.SiteView{Site: s.Site, State: state.Up, Since: noon.Add(-3 * time.Hour), LastBeat: now,
				Carrier: wire.Yes, LANGateway: wire.Yes, FirstHop: wire.Yes, Beyond: wire.Yes}
			if c, ok := cuts[s.Site]; ok && ago < c[0] && ago > c[1] {
				x.LastBeat = noon.Add(-c[0])
				if now.Sub(x.LastBeat) > 170*time.Second {
					x.State, x.Since = state.Down, x.LastBeat
				}
			}
			v.Sites = append(v.Sites, x)
		}
		if ago == 38*time.Minute {
			e.Evidence("s-evil", incident.Record{From: noon.Add(-60 * time.Minute), To: noon.Add(-40 * time.Minute), SameBoot: wire.No,
				Measured: incident.Answers{Asked: 20}})
		}
		if err := e.Observe(now, v); err != nil {
			t.Fatal(err)
		}
	}
	o.opt.Incidents = e
}

func TestIncidents(t *testing.T) {
	o := newOffice(t, withIncidents)
	all, err := o.opt.Incidents.Recent(noon.Add(-24 * time.Hour))
	if err != nil || len(all) != 2 {
		t.Fatalf("%d incidents, %v", len(all), err)
	}
	boto, evil := all[0], all[1]
	list := o.get("/gangguan", 200)
	if h := text(list.one("h1", "")); h != "1 gangguan berlangsung" {
		t.Errorf("heading %q", h)
	}
	for row, want := range map[*incident.Incident][]string{
		&boto: {"Putus", "Desa Boto", "ODP-WNS-07", "13.58", "listrik padam dugaan"},
		&evil: {"Pulih", "20 mnt", "listrik padam penyebab akhir"},
	} {
		s := text(list.row(string(row.ID)))
		for _, w := range want {
			if !strings.Contains(s, w) {
				t.Errorf("the row of %s lacks %q: %s", row.ID, w, s)
			}
		}
	}

	p := o.get("/gangguan/"+string(boto.ID), 200)
	body := text(p.one("main", ""))
	for _, w := range []string{"Desa Boto putus sejak 13.58 WIB", "Dugaan: listrik padam.", string(boto.ID), "Kabupaten Klaten", "4.126 jiwa",
		"menunggu catatan", "Jalur server Pantau Desa sendiri normal.", "Catatan alat diterima dari 0 dari 1 titik ukur.", "Dipastikan: 1 titik ukur diam."} {
		if !strings.Contains(body, w) {
			t.Errorf("%s lacks %q:\n%s", p.path, w, body)
		}
	}
	q := o.get("/gangguan/"+string(evil.ID), 200)
	body = text(q.one("main", ""))
	for _, w := range []string{"pulih setelah 20 menit", "Penyebab akhir: listrik padam.", "Dinyatakan pulih", hostileName} {
		if !strings.Contains(body, w) {
			t.Errorf("%s lacks %q:\n%s", q.path, w, body)
		}
	}
	if strings.Contains(q.raw, "<script") {
		t.Error("a name became markup")
	}
	// Every page says that something goes on.
	if s := text(o.get("/", 200).one("nav", "pages")); s != "Gangguan (1)Surat" {
		t.Errorf("navigation %q", s)
	}
	if s := text(o.get("/", 200).row(string(boto.ID))); !strings.Contains(s, "Desa Boto") {
		t.Errorf("the home page's row: %s", s)
	}
	village := o.get("/desa/"+villageDown, 200)
	if s := text(village.one("div", "banner")); !strings.Contains(s, "Gangguan "+string(boto.ID)) {
		t.Errorf("the village's page does not name its incident: %s", s)
	}
	village.row(string(boto.ID))
	if s := o.get("/desa/"+villageUp, 200).raw; strings.Contains(s, string(boto.ID)) {
		t.Error("another village's page names it")
	}
	o.get("/gangguan/G-3310-250721-99", 404)
	o.get("/gangguan/..%2f", 404)
}

func TestNoIncidents(t *testing.T) {
	o := newOffice(t, func(o *office) {
		e, err := incident.New(incident.Options{Path: filepath.Join(t.TempDir(), "incidents.log"), Inventory: func() *inventory.Inventory { return o.inv }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		o.opt.Incidents = e
	})
	p := o.get("/gangguan", 200)
	if s := text(p.one("main", "")); !strings.Contains(s, "Tidak ada gangguan yang berlangsung") || !strings.Contains(s, "Belum ada gangguan yang selesai") {
		t.Error(s)
	}
	newOffice(t).get("/gangguan", 404) // without incidents the page is not there
}

// Every fact, cause and step has words: the lists are closed.
func TestEverythingOfAnIncidentHasWords(t *testing.T) {
	for _, k := range []incident.FactKind{incident.FellTogether, incident.NeighboursUp, incident.NeighbourFailing, incident.OtherNetworks, incident.CarrierLost,
		incident.LANGatewayLost, incident.FirstHopLost, incident.BeyondLost, incident.FirstHopAnswered, incident.ProbeAiling, incident.Alone,
		incident.UplinkWorks, incident.UplinkFails, incident.UplinkUnknown, incident.Stalled} {
		if s := evidenceWords(incident.Fact{Kind: k, Node: "ODC-1", Count: 2, Of: 3}); s == "" || !strings.HasSuffix(s, ".") {
			t.Errorf("%s: %q", k, s)
		}
	}
	seen := map[string]incident.Cause{}
	for _, c := range incident.Causes() {
		s := causeWords(c, inventory.NodeODP)
		if other, taken := seen[s]; taken || s == "belum diketahui" && c != incident.CauseUnknown {
			t.Errorf("%s: %q, as %q", c, s, other)
		}
		seen[s] = c
	}
	for _, s := range []incident.Step{incident.StepFell, incident.StepReturning, incident.StepAllBack, incident.StepOpened, incident.StepWidened,
		incident.StepNarrowed, incident.StepUnstable, incident.StepRecovered, incident.StepMerged, incident.StepCauseKnown} {
		if w := stepWords(incident.Entry{Step: s, Sites: 1}, new(incident.Incident)); w == string(s) || !strings.HasSuffix(w, ".") {
			t.Errorf("%s: %q", s, w)
		}
	}
}

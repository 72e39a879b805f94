package incident

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// noon is 12:00 in Klaten.
var noon = time.Date(2026, 3, 14, 5, 0, 0, 0, time.UTC)

// Networks, as lines "site: way up from its ODP". Each site has a village of its
// own in the district 33.10.15, a probe, and 1000 people.
const (
	// sixVillages are the demo's: two ODCs of three, each on a PON port of its own.
	sixVillages = `
		a1: ODP-a1 ODC-1 PON-1 OLT-1 BNG-1
		a2: ODP-a2 ODC-1
		a3: ODP-a3 ODC-1
		b1: ODP-b1 ODC-2 PON-2 OLT-1
		b2: ODP-b2 ODC-2
		b3: ODP-b3 ODC-2`
	// wide has an ODC of five, one of four, a shared ODP, another provider's tree
	// and a mobile site.
	wide = `
		a1: ODP-a1 ODC-1 PON-1 OLT-1 BNG-1
		a2: ODP-a2 ODC-1
		a3: ODP-a3 ODC-1
		a4: ODP-a4 ODC-1
		a5: ODP-a5 ODC-1
		b1: ODP-b1 ODC-2 PON-2 OLT-1
		b2: ODP-b2 ODC-2
		b3: ODP-b3 ODC-2
		b4: ODP-b4 ODC-2
		s1: ODP-s ODC-3 PON-3 OLT-2 BNG-1
		s2: ODP-s
		s3: ODP-s3 ODC-3
		t1: ODP-t1 ODC-4 PON-4 OLT-2
		t2: ODP-t2 ODC-4
		x1: ODP-x1 ODC-9 PON-9 OLT-9 BNG-9
		x2: ODP-x2 ODC-9
		x3: ODP-x3 ODC-9
		x4: ODP-x4 ODC-9
		x5: ODP-x5 ODC-9
		m1:`
	// shared has all its sites on one ODP.
	shared = `
		u1: ODP-u ODC-5 PON-5 OLT-5 BNG-5
		u2: ODP-u
		u3: ODP-u`
)

func parseNetwork(t testing.TB, network string, more ...string) *inventory.Inventory {
	t.Helper()
	files := map[string]string{
		"regions.csv": "code;name;valid_from\n33;Jawa Tengah;2025-01-01\n33.10;Kabupaten Klaten;2025-01-01\n33.10.15;Wonosari;2025-01-01\n",
		"isps.csv":    "isp;name;valid_from\ncontoh;Penyedia Contoh;2025-01-01\n",
		"nodes.csv":   "node;type;parent;name;valid_from;valid_to\n",
		"targets.csv": "target;name;node;region;method;address;port;url;latency;valid_from\n",
		"sites.csv":   "site;village;name;population;isp;access;odp;valid_from;valid_to\n",
		"plans.csv":   "site;download_mbps;upload_mbps;source_document;valid_from\n",
		"probes.csv":  "probe;site;usage_interface;lan_gateway;first_hop;valid_from;valid_to\n",
	}
	nodes := map[string]bool{}
	n := 0
	for line := range strings.Lines(network) {
		site, way, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		n++
		ups := strings.Fields(way)
		odp, access := "", "4g"
		if len(ups) > 0 {
			odp, access = ups[0], "fiber"
		}
		for i, node := range ups {
			if nodes[node] {
				continue
			}
			nodes[node] = true
			parent := ""
			if i+1 < len(ups) {
				parent = ups[i+1]
			}
			kind, _, _ := strings.Cut(strings.ToLower(node), "-")
			files["nodes.csv"] += fmt.Sprintf("%s;%s;%s;%s contoh;2025-01-01;\n", node, kind, parent, node)
		}
		code := fmt.Sprintf("33.10.15.%d", 2000+n)
		files["regions.csv"] += fmt.Sprintf("%s;Desa %s;2025-01-01\n", code, site)
		files["sites.csv"] += fmt.Sprintf("%s;%s;Kantor %s;1000;contoh;%s;%s;2025-01-01;\n", site, code, site, access, odp)
		files["probes.csv"] += fmt.Sprintf("p-%s;%s;;;;2025-01-01;\n", site, site)
	}
	for i := 0; i+2 < len(more); i += 3 { // file, old, new
		if !strings.Contains(files[more[i]], more[i+1]) {
			t.Fatalf("%s has no %q", more[i], more[i+1])
		}
		files[more[i]] = strings.Replace(files[more[i]], more[i+1], more[i+2], 1)
	}
	raw := map[string][]byte{}
	for name, text := range files {
		raw[name] = []byte(text)
	}
	inv, err := inventory.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// world is a fleet of probes, second by second, before a real engine with its log
// on disk. Probes beat every 30 s, each at its own second.
type world struct {
	t      testing.TB
	inv    *inventory.Inventory
	path   string
	engine *Engine
	timers Timers
	now    time.Time
	uplink wire.Tri
	stall  bool // the next view says that we stalled

	sites   []measure.SiteID
	phase   map[measure.SiteID]time.Duration
	dark    map[measure.SiteID]bool // no beat arrives
	failing map[measure.SiteID]bool // beats arrive, nothing else does
	view    map[measure.SiteID]*SiteView
	events  []Event // as told
}

func newWorld(t testing.TB, network string, edit ...func(*world)) *world {
	t.Helper()
	w := &world{t: t, inv: parseNetwork(t, network), path: filepath.Join(t.TempDir(), "incidents.jsonl"), now: noon,
		uplink: wire.Yes, phase: map[measure.SiteID]time.Duration{}, dark: map[measure.SiteID]bool{},
		failing: map[measure.SiteID]bool{}, view: map[measure.SiteID]*SiteView{}}
	for _, e := range edit {
		e(w)
	}
	for i, s := range w.inv.Sites(noon) {
		w.sites = append(w.sites, s.ID)
		w.phase[s.ID] = time.Duration(i*7%30) * time.Second
		w.view[s.ID] = &SiteView{Site: s.ID, State: state.NeverSeen, Since: noon}
	}
	w.start()
	w.run(5 * time.Minute)
	return w
}

func (w *world) start() {
	w.t.Helper()
	e, err := New(Options{Path: w.path, Inventory: func() *inventory.Inventory { return w.inv }, Timers: w.timers,
		Notify: func(e Event) { w.events = append(w.events, e) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.engine = e
	w.t.Cleanup(func() { e.Close() })
}

// restart ends the engine without a word and starts another one after a while.
func (w *world) restart(away time.Duration) {
	w.t.Helper()
	if err := w.engine.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.now = w.now.Add(away)
	w.start()
}

// run lets time pass.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		w.now = w.now.Add(time.Second)
		w.tick()
	}
}

func (w *world) tick() {
	w.t.Helper()
	v := View{Uplink: w.uplink, Stalled: w.stall}
	w.stall = false
	for _, id := range w.sites {
		s := w.view[id]
		if !w.dark[id] && w.now.Sub(noon)%(30*time.Second) == w.phase[id] {
			s.LastBeat = w.now
		}
		next := s.State
		switch {
		case s.LastBeat.IsZero():
		case w.now.Sub(s.LastBeat) >= 170*time.Second:
			next = state.Down
		case w.failing[id]:
			next = state.Degraded
		case w.now.Equal(s.LastBeat):
			next = state.Up
		}
		if next != s.State {
			s.State, s.Since = next, w.now
		}
		v.Sites = append(v.Sites, *s)
	}
	if err := w.engine.Observe(w.now, v); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) cut(sites ...measure.SiteID) {
	for _, s := range sites {
		w.dark[s] = true
	}
}

func (w *world) mend(sites ...measure.SiteID) {
	for _, s := range sites {
		delete(w.dark, s)
	}
}

// record is what the probe of a site kept of a cut that begins now minus ago and
// ends now, if it ran on.
func (w *world) network(ago time.Duration) Record {
	n := int(ago / time.Minute)
	all, none := Answers{n, n}, Answers{n, 0}
	return Record{From: w.now.Add(-ago), To: w.now, SameBoot: wire.Yes, Measured: all, Carrier: all, LANGateway: all,
		FirstHop: none, Beyond: none}
}

func (w *world) power(ago time.Duration) Record {
	n := int(ago / time.Minute)
	return Record{From: w.now.Add(-ago), To: w.now, SameBoot: wire.No, Orderly: wire.No, Measured: Answers{n, 0}}
}

func (w *world) evidence(r Record, sites ...measure.SiteID) {
	w.t.Helper()
	for _, s := range sites {
		if !w.engine.Evidence(s, r) {
			w.t.Errorf("nobody waits for the record of %s", s)
		}
	}
}

// told renders all events so far, one a line: type, id, kind, place, sites that
// are silent of all, causes.
func (w *world) told() string {
	var b strings.Builder
	for _, e := range w.events {
		fmt.Fprintln(&b, e.String())
	}
	return strings.TrimSpace(b.String())
}

func (e Event) String() string {
	i := e.Incident
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s %d/%d guess=%s cause=%s", e.Type, i.ID, i.Kind, i.Place, i.Silent(), len(i.Sites), i.Guess, i.Cause)), " ")
}

func (p Place) String() string {
	out := string(p.Node)
	if !p.Separable {
		out = "<=" + out
	}
	if p.Top != p.Node {
		out += ".." + string(p.Top)
	}
	if p.Drop {
		out += "(drop)"
	}
	return out
}

func (w *world) wantTold(want string) {
	w.t.Helper()
	var lines []string
	for l := range strings.Lines(want) {
		if l = strings.TrimSpace(l); l != "" {
			lines = append(lines, l)
		}
	}
	if got := w.told(); got != strings.Join(lines, "\n") {
		w.t.Fatalf("told:\n%s\nwant:\n%s", got, strings.Join(lines, "\n"))
	}
}

func ids(sites []Site) string {
	m := map[string]bool{}
	for _, s := range sites {
		m[string(s.Site)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), " ")
}

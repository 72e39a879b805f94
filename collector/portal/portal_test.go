package portal

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/net/html"

	"github.com/pantau-desa/pantau/collector/query"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// store is a TSDB on disk with the collector's query engine in front.
type store struct {
	*query.Querier
	t     *testing.T
	db    *tsdb.DB
	fails func(expr string) error // nil: never
}

func newStore(t *testing.T) *store {
	t.Helper()
	o := tsdb.DefaultOptions()
	const days = 60 * 24 * 60 * 60 * 1000
	o.RetentionDuration, o.MinBlockDuration, o.MaxBlockDuration, o.OutOfOrderTimeWindow = days, days, days, days
	db, err := tsdb.Open(t.TempDir(), slog.New(slog.DiscardHandler), nil, o, nil)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := query.New(query.Options{Storage: db})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(engine.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return &store{Querier: engine, t: t, db: db}
}

func (s *store) Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	if s.fails != nil {
		if err := s.fails(expr); err != nil {
			return nil, err
		}
	}
	return s.Querier.Instant(ctx, expr, at)
}

func (s *store) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	if s.fails != nil {
		if err := s.fails(expr); err != nil {
			return nil, err
		}
	}
	return s.Querier.Range(ctx, expr, from, to, step)
}

// measured is a value at so long before now.
type measured struct {
	ago   time.Duration
	value float64
}

// put writes samples of one series; pairs are labels beside those of the place.
func (s *store) put(name, village string, points []measured, pairs ...string) {
	s.t.Helper()
	base := []string{model.MetricNameLabel, name, "province", village[:2], "regency", village[:5], "district", village[:8], "village", village}
	ls := labels.FromStrings(append(base, pairs...)...)
	app := s.db.Appender(context.Background())
	for _, p := range points {
		if _, err := app.Append(0, ls, noon.Add(-p.ago).UnixMilli(), p.value); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		s.t.Fatal(err)
	}
}

// each makes points every step from oldest to newest, both included.
func each(oldest, newest, step time.Duration, value func(ago time.Duration) float64) []measured {
	var out []measured
	for ago := oldest; ago >= newest; ago -= step {
		out = append(out, measured{ago, value(ago)})
	}
	return out
}

func always(v float64) func(time.Duration) float64 { return func(time.Duration) float64 { return v } }

var noon = time.Date(2025, 7, 21, 14, 12, 0, 0, time.FixedZone("WIB", 7*60*60))

const (
	hostileName = `"><script>alert(1)</script>{{.}}`
	villageDown = "33.10.15.2009"
	villageUp   = "33.10.15.2010"
	villageSlow = "33.10.04.2001"
	villageNew  = "33.10.04.2018" // never seen
	villageNone = "33.10.04.2013" // no coverage
	villageEvil = "33.10.04.2099" // its name is hostile
	villageTwo  = "33.10.26.1001" // a kelurahan with two sites
)

// klaten is a small regency with every sort of village.
func klaten(t *testing.T) *inventory.Inventory {
	t.Helper()
	regions := [][]string{{"33", "Jawa Tengah"}, {"33.10", "Kabupaten Klaten"}, {"33.10.04", "Bayat"}, {"33.10.15", "Wonosari"}, {"33.10.26", "Klaten Utara"},
		{villageDown, "Boto"}, {villageUp, "Sukorejo"}, {villageSlow, "Ngerangan"}, {villageNew, "Wiro"}, {villageNone, "Talang"}, {villageEvil, hostileName}, {villageTwo, "Gergunung"}}
	sites := [][]string{
		{"s-boto", villageDown, "Kantor Desa", "4126", "isp-a", "fiber", "ODP-WNS-07", "-7,60", "110,70"},
		{"s-suko", villageUp, "Kantor Desa", "3000", "isp-a", "fiber", "ODP-WNS-07", "-7,61", "110,71"},
		{"s-nger", villageSlow, "Kantor Desa", "3362", "isp-a", "fiber", "", "-7,80", "110,68"},
		{"s-wiro", villageNew, "Kantor Desa", "", "isp-a", "fiber", "", "-7,79", "110,66"},
		{"s-tala", villageNone, "Balai Desa", "1000", "", "none", "", "-7,78", "110,65"},
		{"s-evil", villageEvil, hostileName, "2000", "isp-a", "fiber", "", "-7,77", "110,66"},
		{"s-two-a", villageTwo, "Kelurahan", "5000", "isp-a", "fiber", "", "-7,68", "110,60"},
		{"s-two-b", villageTwo, "Koperasi", "1200", "isp-a", "4g", "", "-7,68", "110,60"},
	}
	plans := [][]string{{"s-boto", "50", "25", "Kontrak 7/2025"}, {"s-suko", "50", "25", "Kontrak 7/2025"}, {"s-nger", "100", "50", "Kontrak 8/2025"},
		{"s-evil", "30", "15", "<b>Kontrak</b>"}, {"s-two-a", "20,5", "10", "Kontrak 9/2025"}}
	probes := [][]string{{"p-boto", "s-boto"}, {"p-suko", "s-suko"}, {"p-nger", "s-nger"}, {"p-evil", "s-evil"}, {"p-two-a", "s-two-a"}}
	nodes := [][]string{{"POP-A", "pop", "", "POP Delanggu", "33.10"}, {"OLT-DLG-01", "olt", "POP-A", "OLT Delanggu", "33.10"}, {"ODP-WNS-07", "odp", "OLT-DLG-01", "ODP-WNS-07", "33.10"}}
	csv := func(header string, rows [][]string) []byte {
		var b strings.Builder
		b.WriteString(header + ";valid_from\n")
		for _, r := range rows {
			for _, c := range r {
				b.WriteString(`"` + strings.ReplaceAll(c, `"`, `""`) + `";`)
			}
			b.WriteString("2025-01-01\n")
		}
		return []byte(b.String())
	}
	inv, err := inventory.Parse(map[string][]byte{
		"regions.csv": csv("code;name", regions),
		"isps.csv":    csv("isp;name", [][]string{{"isp-a", "PT Contoh"}}),
		"nodes.csv":   csv("node;type;parent;name;region", nodes),
		"targets.csv": csv("target;method;address", nil),
		"sites.csv":   csv("site;village;name;population;isp;access;odp;lat;lon", sites),
		"plans.csv":   csv("site;download_mbps;upload_mbps;source_document", plans),
		"probes.csv":  csv("probe;site", probes),
	})
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func klatenNow() state.Snapshot {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	return state.Snapshot{At: ago(20 * time.Second), Sites: []state.SiteState{
		{Site: "s-boto", State: state.Down, Since: ago(10 * time.Minute), LastBeat: ago(13 * time.Minute)},
		{Site: "s-suko", State: state.Up, Since: ago(50 * time.Hour), LastBeat: ago(11 * time.Second)},
		{Site: "s-nger", State: state.Degraded, Since: ago(3 * time.Hour), LastBeat: ago(7 * time.Second)},
		{Site: "s-wiro", State: state.NeverSeen},
		{Site: "s-tala", State: state.NoCoverage},
		{Site: "s-evil", State: state.ProbeFault, Since: ago(time.Hour), LastBeat: ago(70 * time.Minute)},
		{Site: "s-two-a", State: state.Up, Since: ago(time.Hour), LastBeat: ago(30 * time.Second)},
		{Site: "s-two-b", State: state.Up, Since: ago(2 * time.Hour), LastBeat: ago(3 * time.Second)},
	}}
}

// fill writes a plausible day: Boto was cut ten minutes ago, Ngerangan is slow.
func (s *store) fill() {
	line := func(village, site string, speed float64, until time.Duration) {
		at := []string{"site", site, "probe", "p" + strings.TrimPrefix(site, "s")}
		s.put("pantau_download_bits_per_second", village, each(23*time.Hour, until+time.Hour, 3*time.Hour, always(speed)), append(at, "target", "ukur-1")...)
		s.put("pantau_upload_bits_per_second", village, each(23*time.Hour, until+time.Hour, 3*time.Hour, always(speed/2)), append(at, "target", "ukur-1")...)
		minute := func(name string, v float64, more ...string) {
			s.put(name, village, each(24*time.Hour, until+12*time.Second, time.Minute, always(v)), append(slices.Clone(at), more...)...)
		}
		minute("pantau_latency_seconds", 0.0084, "stat", "median", "target", "t")
		minute("pantau_latency_seconds", 0.0131, "stat", "p95", "target", "t")
		minute("pantau_jitter_seconds", 0.0011, "target", "t")
		minute("pantau_packet_loss_ratio", 0, "target", "t")
		minute("pantau_odp_reachable", 1)
		minute("pantau_lan_gateway_reachable", 1)
		minute("pantau_first_hop_reachable", 1)
		s.put("pantau_link_receive_bytes_total", village, each(24*time.Hour, until+12*time.Second, time.Minute,
			func(ago time.Duration) float64 { return (25*time.Hour - ago).Seconds() * 1e6 }), at...)
		s.put("pantau_village_state", village, each(24*time.Hour, 0, time.Minute, func(ago time.Duration) float64 {
			if ago < until {
				return float64(state.Down)
			}
			return float64(state.Up)
		}))
	}
	line(villageDown, "s-boto", 46.8e6, 10*time.Minute)
	line(villageUp, "s-suko", 47.5e6, 0)
	line(villageSlow, "s-nger", 55e6, 0)
}

// office is a portal with everything around it.
type office struct {
	*store
	http.Handler
	inv    *inventory.Inventory
	states state.Snapshot
	log    *strings.Builder
	opt    Options
}

func newOffice(t *testing.T, change ...func(*office)) *office {
	t.Helper()
	o := &office{store: newStore(t), inv: klaten(t), states: klatenNow(), log: new(strings.Builder)}
	o.opt = Options{
		Inventory: func() *inventory.Inventory { return o.inv },
		States:    func() state.Snapshot { return o.states },
		Query:     o.store,
		Now:       func() time.Time { return noon },
		Software:  func(p measure.ProbeID) (string, bool) { return "0.9.2", p == "p-boto" },
		Logger:    slog.New(slog.NewTextHandler(o.log, nil)),
	}
	for _, c := range change {
		c(o)
	}
	o.Handler = New(o.opt)
	return o
}

func (o *office) do(method, path string) *http.Response {
	w := httptest.NewRecorder()
	o.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

// answer is a parsed answer.
type answer struct {
	t    *testing.T
	path string
	root *html.Node
	raw  string
}

func (o *office) get(path string, status int) answer {
	o.t.Helper()
	r := o.do(http.MethodGet, path)
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	if r.StatusCode != status {
		o.t.Fatalf("GET %s: %d, want %d", path, r.StatusCode, status)
	}
	root, err := html.Parse(strings.NewReader(string(raw)))
	if err != nil {
		o.t.Fatal(err)
	}
	return answer{o.t, path, root, string(raw)}
}

// all lists the elements of a name (any, if empty) with a class (any, if empty).
func (p answer) all(name, class string) []*html.Node { return allIn(p.root, name, class) }

func allIn(root *html.Node, name, class string) []*html.Node {
	var out []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && (name == "" || n.Data == name) &&
			(class == "" || slices.Contains(strings.Fields(attr(n, "class")), class)) {
			out = append(out, n)
		}
	}
	return out
}

func (p answer) one(name, class string) *html.Node {
	p.t.Helper()
	ns := p.all(name, class)
	if len(ns) != 1 {
		p.t.Fatalf("%s has %d elements %s.%s, want 1", p.path, len(ns), name, class)
	}
	return ns[0]
}

// title is the page's own: drawings have titles too.
func (p answer) title() *html.Node { return allIn(p.one("head", ""), "title", "")[0] }

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// text is what a reader sees of n, with single spaces.
func text(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		if n.Type == html.ElementNode && n.Data != "b" && n.Data != "a" {
			b.WriteByte(' ')
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

func (p answer) row(code string) *html.Node {
	p.t.Helper()
	for _, tr := range p.all("tr", "") {
		for _, c := range allIn(tr, "", "code") {
			if text(c) == code {
				return tr
			}
		}
	}
	p.t.Fatalf("%s has no row of %s", p.path, code)
	return nil
}

func (p answer) codes() []string {
	var out []string
	for _, th := range p.all("th", "name") {
		out = append(out, text(allIn(th, "", "code")[0]))
	}
	return out
}

func TestEveryPageIsSound(t *testing.T) {
	o := newOffice(t, withIncidents)
	o.fill()
	paths := map[string]int{
		"/surat": 200, "/gangguan": 200, "/gangguan/G-0000-000000-01": 404,
		"/": 200, "/?urut=-unduh": 200, "/?keadaan=putus": 200, "/?q=tidakada": 200, "/?kec=33.10.15": 200,
		"/?urut=entah": 400, "/entah": 404, "/desa/33.10.99.2001": 404, "/desa/%3Cscript%3E": 404,
		"/desa/" + villageDown + "?rentang=abad": 400,
	}
	for _, v := range o.inv.Villages() {
		paths["/desa/"+v.Code] = 200
	}
	for _, s := range spans() {
		paths["/desa/"+villageDown+"?rentang="+s.Key] = 200
	}
	for _, i := range o.opt.Incidents.Open() {
		paths["/gangguan/"+string(i.ID)] = 200
	}
	local := make(map[string]bool)
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		p := o.get(path, paths[path])
		if got := attr(p.one("html", ""), "lang"); got != "id" {
			t.Errorf("%s: language %q", path, got)
		}
		p.one("h1", "")
		p.one("main", "")
		if text(p.title()) == "" {
			t.Errorf("%s has no title", path)
		}
		for _, th := range p.all("th", "") {
			if s := attr(th, "scope"); s != "col" && s != "row" {
				t.Errorf("%s: a th has scope %q", path, s)
			}
		}
		for _, svg := range p.all("svg", "") {
			if attr(svg, "aria-hidden") != "true" && (attr(svg, "role") != "img" || attr(svg, "aria-label") == "") {
				t.Errorf("%s: a drawing (%s) says nothing", path, attr(svg, "class"))
			}
		}
		for n := range p.root.Descendants() {
			if n.Data == "script" || n.Data == "style" || n.Data == "iframe" || n.Data == "object" {
				t.Errorf("%s has a <%s>", path, n.Data)
			}
			for _, a := range n.Attr {
				if a.Key == "style" || strings.HasPrefix(a.Key, "on") {
					t.Errorf("%s: attribute %s of <%s>", path, a.Key, n.Data)
				}
				if (a.Key == "href" || a.Key == "src" || a.Key == "action") && n.Data != "use" {
					switch {
					case strings.HasPrefix(a.Val, "/"):
						local[a.Val] = true
					case a.Val == "#isi", strings.HasPrefix(a.Val, "data:image/"):
					default:
						t.Errorf("%s links to %q", path, a.Val)
					}
				}
				if strings.Contains(a.Val, "NaN") || strings.Contains(a.Val, "Inf") || strings.Contains(a.Val, "%!") {
					t.Errorf("%s: %s=%q", path, a.Key, a.Val)
				}
			}
			if n.Data == "use" && !strings.Contains(p.raw, `id="`+strings.TrimPrefix(attr(n, "href"), "#")+`"`) {
				t.Errorf("%s uses the unknown drawing %s", path, attr(n, "href"))
			}
		}
		if s := text(p.one("body", "")); strings.Contains(s, "NaN") || strings.Contains(s, "%!") || strings.Contains(s, "Inf") || strings.Contains(s, "ZgotmplZ") {
			t.Errorf("%s shows what is no figure", path)
		}
	}
	for link := range local {
		if r := o.do(http.MethodGet, link); r.StatusCode != http.StatusOK {
			t.Errorf("the link %s leads to %d", link, r.StatusCode)
		}
	}
	if o.log.Len() > 0 {
		t.Errorf("logged: %s", o.log)
	}
}

func TestHome(t *testing.T) {
	o := newOffice(t)
	o.fill()
	p := o.get("/", 200)
	if got, want := text(p.one("h1", "")), "Klaten: 1 desa putus, 1 menurun, 2 tidak diketahui"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got, want := text(p.all("p", "lead")[0]), "Senin, 21 Juli 2025 14.12 WIB · Kabupaten Klaten (33.10) · 3 kecamatan, 7 desa/kelurahan"; got != want {
		t.Errorf("lead %q, want %q", got, want)
	}
	var cards []string
	for _, li := range allIn(p.one("ul", "tally"), "li", "") {
		cards = append(cards, text(li))
	}
	want := []string{"Putus1 4.126 jiwa", "Menurun1 3.362 jiwa", "Tidak diketahui2 1 alat bermasalah, 1 belum terpantau · 2.000 jiwa, 1 desa belum tercatat",
		"Tanpa jangkauan1 1.000 jiwa", "Normal2 28,6% dari 7"}
	if !slices.Equal(cards, want) {
		t.Errorf("cards\n%q, want\n%q", cards, want)
	}
	// Worst first.
	if got, want := p.codes(), []string{villageDown, villageSlow, villageEvil, villageNew, villageNone, villageUp, villageTwo}; !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
	for code, want := range map[string]string{
		villageDown: "Putus Boto 33.10.15.2009 Wonosari 46,8 94% dari 50 n = 8 · 2 j lalu 23,4 94% dari 25 n = 8 · 2 j lalu 8 ms 11 mnt lalu 13.59 13 mnt lalu",
		villageSlow: "Menurun Ngerangan 33.10.04.2001 Bayat 55,0 55% dari 100 n = 8 · 2 j lalu 27,5 55% dari 50 n = 8 · 2 j lalu 8 ms 1 mnt lalu 14.11 7 dtk lalu",
		villageNew:  "Belum terpantau Wiro 33.10.04.2018 Bayat belum ada belum ada belum ada belum pernah",
		villageNone: "Tanpa jangkauan Talang 33.10.04.2013 Bayat belum ada belum ada belum ada tidak dipasang",
	} {
		if got := text(p.row(code)); got != want {
			t.Errorf("row of %s\n%q, want\n%q", code, got, want)
		}
	}
	if !strings.Contains(attr(p.row(villageDown), "class"), "before") || strings.Contains(attr(p.row(villageSlow), "class"), "before") {
		t.Error("what was measured before a silence does not look so, or the other way round")
	}
	// The bar of a slow line is another, and as long as its share.
	if bar := allIn(p.row(villageSlow), "rect", "slow"); len(bar) != 2 || attr(bar[0], "width") != "35.2" {
		t.Errorf("the bar of 55%% of 64 is %q wide", attr(bar[0], "width"))
	}
}

func TestUnknownIsNeverZero(t *testing.T) {
	o := newOffice(t) // nothing was measured
	zero := regexp.MustCompile(`(^|[ (])0([,.]0+)?( ?(Mbps|ms|%)| dari )`)
	for _, v := range o.inv.Villages() {
		for _, s := range spans() {
			p := o.get("/desa/"+v.Code+"?rentang="+s.Key, 200)
			body := text(p.one("main", ""))
			if m := zero.FindString(body); m != "" {
				t.Errorf("%s shows %q", p.path, m)
			}
			for _, svg := range p.all("svg", "chart") {
				if m := zero.FindString(attr(svg, "aria-label")); m != "" {
					t.Errorf("%s: a chart says %q", p.path, m)
				}
			}
			if n := len(allIn(p.one("main", ""), "span", "none")); len(o.inv.SitesIn(v.Code, noon)) > 0 && n != 6 {
				t.Errorf("%s: %d figures are hatched, want 6", p.path, n)
			}
		}
	}
	p := o.get("/", 200)
	for _, code := range p.codes() {
		row := p.row(code)
		if n := len(allIn(row, "span", "none")); n != 3 || zero.MatchString(text(row)) {
			t.Errorf("row %q: %d figures are hatched, want 3", text(row), n)
		}
	}
}

func TestVillage(t *testing.T) {
	o := newOffice(t)
	o.fill()
	p := o.get("/desa/"+villageDown, 200)
	if got, want := text(p.title()), "Boto, Wonosari: putus sejak 14.02 WIB | Pantau Desa"; got != want {
		t.Errorf("title %q, want %q", got, want)
	}
	if got, want := text(p.one("h1", "")), "Desa Boto"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got, want := text(p.one("div", "banner")), "Putus sejak 14.02 WIB (10 menit). Angka di bawah ini diukur sebelum putus. Kabar terakhir dari alat ukur: 13.59, 13 mnt lalu."; got != want {
		t.Errorf("banner %q, want %q", got, want)
	}
	if got, want := text(p.one("div", "heading")), "Desa Boto 33.10.15.2009 · 4.126 jiwa · fiber, PT Contoh · paket 50/25 Mbps Senin, 21 Juli 2025 14.12 WIB"; got != want {
		t.Errorf("sub %q, want %q", got, want)
	}
	var figures []string
	for _, d := range p.all("div", "figure") {
		figures = append(figures, text(d))
	}
	want := []string{
		"Unduh, median 24 jam 46,80 Mbps 94% dari paket · 46,80 (selang 95%) n = 8 uji · terakhir 12.12, 2 j lalu",
		"Unggah, median 24 jam 23,40 Mbps 94% dari paket · 23,40 (selang 95%) n = 8 uji · terakhir 12.12, 2 j lalu",
		"Latensi, median 24 jam 8,4 ms 8,4 ms dalam 90% ukuran n = 1.429 ukuran · terakhir 14.01, 11 mnt lalu",
		"Variasi tunda, median 24 jam 1,1 ms 1,1 ms dalam 90% ukuran n = 1.429 ukuran · terakhir 14.01, 11 mnt lalu",
		"Kehilangan paket, rata-rata 24 jam 0,00 % 1.429 ukuran tanpa kehilangan n = 1.429 ukuran · terakhir 14.01, 11 mnt lalu",
		"ODP dapat dijangkau, 24 jam 100,00 % 1.429 dari 1.429 ukuran saat gerbang LAN menjawab n = 1.429 ukuran · terakhir 14.01, 11 mnt lalu",
	}
	for i := range want {
		if i >= len(figures) || figures[i] != want[i] {
			t.Errorf("figures\n%q, want\n%q", figures, want)
			break
		}
	}
	if strings.Contains(p.raw, "etersediaan") {
		t.Error("the page speaks of availability")
	}
	facts := text(p.one("dl", "facts"))
	for _, want := range []string{"ODP ODP-WNS-07", "OLT OLT-DLG-01, OLT Delanggu", "POP POP-A, POP Delanggu", "Alat ukur p-boto, versi 0.9.2",
		"Dasar paket Kontrak 7/2025", "Gerbang LAN menjawab, 11 mnt lalu"} {
		if !strings.Contains(facts, want) {
			t.Errorf("the facts %q lack %q", facts, want)
		}
	}
	label := func(start string) string {
		for _, svg := range p.all("svg", "chart") {
			if l := attr(svg, "aria-label"); strings.HasPrefix(l, start) {
				return l
			}
		}
		t.Errorf("no drawing says %q", start)
		return ""
	}
	for start, want := range map[string]string{
		"Keadaan 24 jam":       "Keadaan 24 jam terakhir: putus 9 menit, normal 23 jam 51 menit.",
		"ODP dapat":            "ODP dapat dijangkau, 24 jam terakhir: terjangkau 23 jam 51 menit, tidak diketahui 8 menit.",
		"Kecepatan unduh":      "Kecepatan unduh 24 jam terakhir: median 46,8 Mbps dari 8 uji, terendah 46,8, tertinggi 46,8. Paket 50 Mbps; 0 uji di bawah 80%. Tidak diketahui 8 menit.",
		"Latensi 24 jam":       "Latensi 24 jam terakhir: median 8,4 ms, terendah 8,4, tertinggi 8,4. Tidak diketahui 8 menit.",
		"Pemakaian jaringan 2": "Pemakaian jaringan 24 jam terakhir: unduh median 8,0 Mbps, tertinggi 8,0; unggah belum ada. Tidak diketahui 8 menit.",
	} {
		if got := label(start); got != want {
			t.Errorf("a drawing says\n%q, want\n%q", got, want)
		}
	}
}

// Ten minutes after the start a page shows the last fifteen, no calendar, and
// says that it is too early for a median.
func TestYoungDeployment(t *testing.T) {
	o := newOffice(t)
	at := []string{"site", "s-suko", "probe", "p-suko"}
	o.put("pantau_village_state", villageUp, each(10*time.Minute, 0, time.Minute, always(1)))
	o.put("pantau_download_bits_per_second", villageUp, each(9*time.Minute, time.Minute, 4*time.Minute, always(47e6)), append(at, "target", "ukur-1")...)
	o.put("pantau_odp_reachable", villageUp, each(10*time.Minute, 0, time.Minute, always(1)), at...)
	o.put("pantau_latency_seconds", villageUp, each(10*time.Minute, 0, time.Minute, always(0.01)), append(at, "stat", "median", "target", "t")...)
	// The collector has run for longer than the probe.
	o.put("pantau_village_state", villageUp, each(40*time.Hour, 11*time.Minute, time.Minute, always(float64(state.NeverSeen))))
	p := o.get("/desa/"+villageUp, 200)
	if got := text(p.all("strong", "")[0]); got != "15 menit" {
		t.Errorf("the charts go back %q", got)
	}
	const early = "Kalender 30 hari tampil setelah satu hari pemantauan."
	if s := text(p.one("main", "")); !strings.Contains(s, early) || strings.Contains(s, "Keadaan 30 hari") {
		t.Error("a calendar of ten minutes")
	}
	if got, want := text(p.all("div", "figure")[0]), "Unduh, median 24 jam data belum cukup uji terakhir 47,0 Mbps · perlu 6 uji n = 3 uji · terakhir 14.11, 1 mnt lalu"; got != want {
		t.Errorf("figure %q, want %q", got, want)
	}
	if got, want := text(p.all("div", "figure")[2]), "Latensi, median 24 jam 10,0 ms 10,0 ms dalam 90% ukuran n = 11 ukuran · terakhir 14.12, baru saja"; got != want {
		t.Errorf("figure %q, want %q", got, want)
	}
	for _, c := range []struct {
		watched  time.Duration
		span     string
		calendar bool
	}{{25 * time.Minute, "1 jam", false}, {9 * time.Hour, "24 jam", false}, {24 * time.Hour, "24 jam", true}} {
		o := newOffice(t)
		o.put("pantau_village_state", villageUp, each(c.watched, 0, time.Minute, always(1)))
		p := o.get("/desa/"+villageUp, 200)
		if got := text(p.all("strong", "")[0]); got != c.span {
			t.Errorf("watched for %v, the charts go back %q, want %q", c.watched, got, c.span)
		}
		s := text(p.one("main", ""))
		if got := strings.Contains(s, "Keadaan 30 hari"); got != c.calendar || strings.Contains(s, early) == c.calendar {
			t.Errorf("watched for %v: calendar %v, want %v", c.watched, got, c.calendar)
		}
	}
}

// A delay below a millisecond is one: it never reads as none.
func TestSmallLatencyIsNotZero(t *testing.T) {
	o := newOffice(t)
	minute := func(name string, v float64, more ...string) {
		o.put(name, villageUp, each(30*time.Minute, time.Minute, time.Minute, always(v)), append([]string{"site", "s-suko", "probe", "p-suko", "target", "t"}, more...)...)
	}
	minute("pantau_latency_seconds", 0.0002, "stat", "median")
	minute("pantau_latency_seconds", 0.0004, "stat", "p95")
	minute("pantau_jitter_seconds", 0.00003)
	if got := text(allIn(o.get("/", 200).row(villageUp), "td", "latency")[0]); got != "< 1 ms 1 mnt lalu" {
		t.Errorf("the list has %q", got)
	}
	p := o.get("/desa/"+villageUp+"?rentang=1jam", 200)
	for i, want := range map[int]string{
		2: "Latensi, median 24 jam 0,2 ms 0,2 ms dalam 90% ukuran n = 30 ukuran · terakhir 14.11, 1 mnt lalu",
		3: "Variasi tunda, median 24 jam < 0,1 ms < 0,1 ms dalam 90% ukuran n = 30 ukuran · terakhir 14.11, 1 mnt lalu",
	} {
		if got := text(p.all("div", "figure")[i]); got != want {
			t.Errorf("figure %q, want %q", got, want)
		}
	}
}

// Only a fibre has an ODP; of a mobile line the provider's network is reached.
func TestReachIsOfWhatTheLineHas(t *testing.T) {
	o := newOffice(t)
	at := []string{"site", "s-two-b", "probe", "p"}
	for _, name := range []string{"pantau_odp_reachable", "pantau_lan_gateway_reachable"} {
		o.put(name, villageTwo, each(20*time.Minute, 0, time.Minute, func(ago time.Duration) float64 {
			if name == "pantau_odp_reachable" && ago < 5*time.Minute {
				return 0
			}
			return 1
		}), at...)
	}
	o.put("pantau_latency_seconds", villageTwo, each(20*time.Minute, 5*time.Minute, time.Minute, always(0.03)), append(at, "stat", "median", "target", "t")...)
	p := o.get("/desa/"+villageTwo+"?titik=s-two-b&rentang=1jam", 200)
	if got, want := text(p.all("div", "figure")[5]), "Jaringan penyedia dapat dijangkau, 24 jam 76,19 % 16 dari 21 ukuran saat gerbang LAN menjawab n = 21 ukuran · terakhir 14.12, baru saja"; got != want {
		t.Errorf("figure %q, want %q", got, want)
	}
	if n := strings.Count(p.raw, "Jaringan penyedia tidak terjangkau 4 menit."); n != 1 {
		t.Errorf("%d charts tell of the outage", n)
	}
	if strings.Contains(p.raw, "ODP") {
		t.Error("a mobile line has an ODP")
	}
	p = o.get("/desa/"+villageTwo+"?titik=s-two-a", 200)
	if got := text(p.all("div", "figure")[5]); !strings.HasPrefix(got, "ODP dapat dijangkau") {
		t.Errorf("the fibre's figure is %q", got)
	}
}

func TestLongAnswersAreCompressed(t *testing.T) {
	o := newOffice(t)
	o.fill()
	server := httptest.NewServer(o)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	ask := func(method, path, accept string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequest(method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			req.Header.Set("Accept-Encoding", accept)
		}
		r, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Header.Values("Vary"); !slices.Equal(got, []string{"Accept-Encoding"}) {
			t.Errorf("%s %s (%s): Vary %q", method, path, accept, got)
		}
		return r, body
	}
	for _, path := range []string{"/", "/desa/" + villageDown, attr(o.get("/", 200).all("link", "")[1], "href")} {
		plain, want := ask("GET", path, "")
		if plain.Header.Get("Content-Encoding") != "" || len(want) < smallest {
			t.Errorf("%s: %d bytes, %v", path, len(want), plain.Header)
		}
		r, body := ask("GET", path, "zstd, br, gzip")
		if r.Header.Get("Content-Encoding") != "gzip" || len(body) > len(want)/2 || r.Header.Get("Content-Type") != plain.Header.Get("Content-Type") {
			t.Errorf("%s: %d of %d bytes, %v", path, len(body), len(want), r.Header)
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes after decompression, want %d: %v", path, len(got), len(want), err)
		}
		if r, _ := ask("GET", path, "gzip;q=0, identity"); r.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: compressed for one who refuses it", path)
		}
		if r, body := ask("HEAD", path, "gzip"); r.StatusCode != 200 || len(body) != 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, r.StatusCode, len(body))
		}
	}
	if r, body := ask("GET", "/entah", "gzip"); r.StatusCode != 404 || r.Header.Get("Content-Encoding") != "" || len(body) == 0 {
		t.Errorf("a short page: %d, %q", r.StatusCode, r.Header.Get("Content-Encoding"))
	}
}

// Two sites are two lines: their figures are never mixed.
func TestVillageWithTwoSites(t *testing.T) {
	o := newOffice(t)
	for site, speed := range map[string]float64{"s-two-a": 20e6, "s-two-b": 5e6} {
		o.put("pantau_download_bits_per_second", villageTwo, each(20*time.Hour, time.Hour, 2*time.Hour, always(speed)), "site", site, "probe", "p", "target", "ukur-1")
	}
	p := o.get("/desa/"+villageTwo, 200)
	if got, want := text(p.one("h1", "")), "Kelurahan Gergunung"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got, want := text(p.all("div", "figure")[0]), "Unduh, median 24 jam 20,00 Mbps 98% dari paket · 20,00 (selang 95%) n = 10 uji · terakhir 12.12, 2 j lalu"; got != want {
		t.Errorf("first site %q, want %q", got, want)
	}
	other := attr(allIn(p.all("nav", "tabs")[0], "a", "")[0], "href")
	p = o.get(other, 200)
	if got, want := text(p.all("div", "figure")[0]), "Unduh, median 24 jam 5,00 Mbps 5,00 (selang 95%) n = 10 uji · terakhir 12.12, 2 j lalu"; got != want {
		t.Errorf("second site %q, want %q", got, want)
	}
	if s := text(p.one("div", "heading")); !strings.Contains(s, "6.200 jiwa · 4G, PT Contoh · paket belum tercatat") {
		t.Errorf("the second site is %q", s)
	}
	o.get("/desa/"+villageTwo+"?titik=s-boto", 400)
}

func TestHostileNamesAreData(t *testing.T) {
	o := newOffice(t)
	o.fill()
	for _, path := range []string{"/", "/desa/" + villageEvil, "/?q=" + "%22%3E%3Cscript%3E"} {
		p := o.get(path, 200)
		if len(p.all("script", "")) > 0 || strings.Contains(p.raw, "<script") {
			t.Errorf("%s has a script", path)
		}
		if !strings.Contains(text(p.one("main", "")), hostileName) && !strings.Contains(p.path, "q=") {
			t.Errorf("%s does not show the name as it is", path)
		}
	}
	p := o.get("/?q=%22%3E%3Cscript%3E", 200)
	if got := p.codes(); !slices.Equal(got, []string{villageEvil}) {
		t.Errorf("found %v", got)
	}
	for _, in := range p.all("input", "") {
		if attr(in, "name") == "q" && attr(in, "value") != `"><script>` {
			t.Errorf("the search shows %q", attr(in, "value"))
		}
	}
}

func TestUnreadableFiguresAreNamed(t *testing.T) {
	o := newOffice(t)
	o.fill()
	o.fails = func(expr string) error {
		if strings.Contains(expr, "download") {
			return errors.New("the store is closed")
		}
		return nil
	}
	p := o.get("/", 200)
	if got := text(p.one("div", "notice")); !strings.Contains(got, "Sebagian angka tidak dapat dibaca saat ini: unduh.") {
		t.Errorf("notice %q", got)
	}
	if got := text(p.row(villageUp)); !strings.Contains(got, "tidak terbaca 23,8 95% dari 25") {
		t.Errorf("row %q", got)
	}
	p = o.get("/desa/"+villageUp+"?rentang=1jam", 200)
	if got := text(p.all("div", "notice")[1]); !strings.Contains(got, "tidak dapat dibaca saat ini: unduh, bagan unduh.") {
		t.Errorf("notice %q", got)
	}
	if got, want := text(p.all("div", "figure")[0]), "Unduh, median 24 jam tidak terbaca angka tidak dapat dibaca saat ini"; got != want {
		t.Errorf("figure %q, want %q", got, want)
	}
	if got := text(p.all("div", "figure")[2]); !strings.Contains(got, "8,4 ms") {
		t.Errorf("a figure that can be read is %q", got)
	}
	if n := strings.Count(o.log.String(), "level=ERROR"); n != 2 || !strings.Contains(o.log.String(), "the store is closed") {
		t.Errorf("%d errors logged, want 2: %s", n, o.log)
	}

	o.fails = func(string) error { return errors.New("closed") }
	for _, path := range []string{"/", "/?urut=unduh", "/desa/" + villageDown} {
		p := o.get(path, 200)
		if s := text(p.one("main", "")); !strings.Contains(s, "tidak dapat dibaca saat ini") || !strings.Contains(s, "Boto") {
			t.Errorf("%s without any figure: %q", path, s)
		}
	}
}

func TestFilterSortAndPages(t *testing.T) {
	o := newOffice(t)
	o.fill()
	for asked, want := range map[string][]string{
		"?q=bot":                      {villageDown},
		"?q=33.10.15":                 {villageDown, villageUp},
		"?q=%20SUKO%20%20":            {villageUp},
		"?kec=33.10.15":               {villageDown, villageUp},
		"?keadaan=tidak-diketahui":    {villageEvil, villageNew},
		"?kec=33.10.04&keadaan=putus": nil,
		"?urut=nama":                  {villageEvil, villageDown, villageTwo, villageSlow, villageUp, villageNone, villageNew},
		"?urut=-nama":                 {villageNew, villageNone, villageUp, villageSlow, villageTwo, villageDown, villageEvil},
		// What is not known comes last either way.
		"?urut=unduh":     {villageDown, villageUp, villageSlow, villageNone, villageNew, villageEvil, villageTwo},
		"?urut=-unduh":    {villageSlow, villageUp, villageDown, villageNone, villageNew, villageEvil, villageTwo},
		"?urut=terlihat":  {villageTwo, villageSlow, villageUp, villageDown, villageEvil, villageNone, villageNew},
		"?urut=kecamatan": {villageSlow, villageNone, villageNew, villageEvil, villageTwo, villageDown, villageUp},
		"?hal=9":          {villageDown, villageSlow, villageEvil, villageNew, villageNone, villageUp, villageTwo},
	} {
		if got := o.get("/"+asked, 200).codes(); !slices.Equal(got, want) {
			t.Errorf("%s\nlists %v\nwant  %v", asked, got, want)
		}
	}
	for _, asked := range []string{"?hal=0", "?hal=x", "?urut=harga", "?keadaan=baik", "?kab=99.01", "?kec=33.11.01", "?kec=x", "?q=" + strings.Repeat("a", 81)} {
		o.get("/"+asked, 400)
	}
	p := o.get("/?urut=-unduh&kec=33.10.15", 200)
	var kept []string
	for _, in := range p.all("input", "") {
		if attr(in, "type") == "hidden" {
			kept = append(kept, attr(in, "name")+"="+attr(in, "value"))
		}
	}
	if !slices.Equal(kept, []string{"urut=-unduh"}) {
		t.Errorf("the form keeps %v", kept)
	}
	for _, th := range p.all("th", "") {
		if attr(th, "aria-sort") != "" && (attr(th, "aria-sort") != "descending" || !strings.HasPrefix(text(th), "Unduh")) {
			t.Errorf("%q is %s", text(th), attr(th, "aria-sort"))
		}
	}
}

func TestSimulationIsMarkedEverywhere(t *testing.T) {
	real := newOffice(t)
	if p := real.get("/", 200); strings.Contains(p.raw, "SIMULASI") {
		t.Error("a real network is called a simulation")
	}
	o := newOffice(t, func(o *office) { o.opt.Simulation = true })
	for path, status := range map[string]int{"/": 200, "/desa/" + villageDown: 200, "/entah": 404, "/?hal=0": 400, "/desa/x": 404} {
		p := o.get(path, status)
		if !strings.HasPrefix(text(p.title()), "SIMULASI · ") {
			t.Errorf("%s: title %q", path, text(p.title()))
		}
		if got := text(p.one("div", "simulation")); !strings.HasPrefix(got, "SIMULASI") {
			t.Errorf("%s: banner %q", path, got)
		}
	}
}

func TestHeadersAndMethods(t *testing.T) {
	o := newOffice(t)
	for _, path := range []string{"/", "/desa/" + villageUp, "/entah", "/?hal=0"} {
		r := o.do(http.MethodGet, path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "same-origin",
			"Cache-Control":           "no-store",
			"Content-Type":            "text/html; charset=utf-8",
		} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
	}
	var style string
	for _, l := range o.get("/", 200).all("link", "") {
		if attr(l, "rel") == "stylesheet" {
			style = attr(l, "href")
		}
	}
	r := o.do(http.MethodGet, style)
	css, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 200 || r.Header.Get("Content-Type") != "text/css; charset=utf-8" || !strings.Contains(r.Header.Get("Cache-Control"), "immutable") || len(css) == 0 {
		t.Errorf("%s: %d, %v", style, r.StatusCode, r.Header)
	}
	if strings.Contains(string(css), "@import") || strings.Contains(string(css), "url(") {
		t.Error("the style sheet fetches something")
	}
	server := httptest.NewServer(o)
	defer server.Close()
	for method, want := range map[string]int{"HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405, "TRACE": 405} {
		req, err := http.NewRequest(method, server.URL+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != want || want == 405 && r.Header.Get("Allow") != "GET, HEAD" || method == "HEAD" && len(body) > 0 {
			t.Errorf("%s: %d, Allow %q, %d bytes", method, r.StatusCode, r.Header.Get("Allow"), len(body))
		}
	}
}

func TestSchematicMapSaysSo(t *testing.T) {
	const says = "letak titik bukan letak desa yang sebenarnya"
	if p := newOffice(t).get("/", 200); strings.Contains(p.raw, says) || len(p.all("g", "scale")) != 1 {
		t.Error("a true map is called schematic, or has no scale")
	}
	if p := newOffice(t, func(o *office) { o.opt.Schematic = true }).get("/", 200); !strings.Contains(p.raw, says) || len(p.all("g", "scale")) != 0 {
		t.Error("a schematic map is not called so, or has a scale")
	}
}

func TestMapHasOneDotForEachVillageTheWorstOnTop(t *testing.T) {
	p := newOffice(t).get("/", 200)
	var shapes []string
	for _, a := range allIn(p.one("svg", "map"), "a", "") {
		shapes = append(shapes, attr(allIn(a, "use", "")[0], "href"))
	}
	if want := []string{"#s-up", "#s-up", "#s-none", "#s-never", "#s-fault", "#s-degraded", "#s-down"}; !slices.Equal(shapes, want) {
		t.Errorf("dots %v, want %v", shapes, want)
	}
	if got, want := attr(p.one("svg", "map"), "aria-label"), "Peta 7 desa/kelurahan menurut keadaan: 1 putus, 1 menurun, 2 tidak diketahui, 1 tanpa jangkauan, 2 normal. Daftar lengkap ada di tabel."; got != want {
		t.Errorf("label %q, want %q", got, want)
	}
}

func TestStatesThatAreOldOrMissing(t *testing.T) {
	o := newOffice(t)
	o.states.At = noon.Add(-26 * time.Minute)
	p := o.get("/", 200)
	if got, want := text(p.one("h1", "")), "Klaten pada 13.46 WIB: 1 desa putus, 1 menurun, 2 tidak diketahui"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	const says = "Keadaan terakhir yang ditetapkan: 13.46 WIB, 26 menit lalu."
	for _, path := range []string{"/", "/desa/" + villageUp} {
		if s := text(o.get(path, 200).one("main", "")); !strings.Contains(s, says) {
			t.Errorf("%s does not say %q", path, says)
		}
	}
	o.states = state.Snapshot{}
	if got, want := text(o.get("/", 200).one("h1", "")), "Klaten: keadaan 7 desa/kelurahan belum diketahui"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got := text(o.get("/desa/"+villageUp, 200).one("div", "banner")); !strings.HasPrefix(got, "Tidak diketahui.") {
		t.Errorf("banner %q", got)
	}
	o.inv = nil
	o.get("/", 503)
	o.get("/desa/"+villageUp, 503)
}

func TestSentence(t *testing.T) {
	n := func(s state.State, kind inventory.Kind, n int) []place {
		out := make([]place, n)
		for i := range out {
			out[i] = place{Village: inventory.Village{Kind: kind}, State: s}
		}
		return out
	}
	for _, c := range []struct {
		of   [][]place
		want string
	}{
		{nil, "X: belum ada desa dalam daftar"},
		{[][]place{n(state.Up, inventory.Desa, 3)}, "X: 3 desa normal"},
		{[][]place{n(state.Up, inventory.Desa, 1200), n(state.Up, inventory.Kelurahan, 1)}, "X: 1.201 desa/kelurahan normal"},
		{[][]place{n(state.Up, inventory.Desa, 3), n(state.NoCoverage, inventory.Desa, 2)}, "X: 3 desa normal, 2 tanpa jangkauan"},
		{[][]place{n(state.NoCoverage, inventory.Desa, 2)}, "X: 0 desa/kelurahan putus, 0 menurun"},
		{[][]place{n(state.Up, inventory.Desa, 3), n(state.NeverSeen, inventory.Desa, 1)}, "X: 0 desa/kelurahan putus, 0 menurun, 1 tidak diketahui"},
		{[][]place{n(state.ProbeFault, inventory.Desa, 2), n(undecided, inventory.Desa, 1)}, "X: keadaan 3 desa belum diketahui"},
		{[][]place{n(state.Down, inventory.Kelurahan, 2), n(state.Up, inventory.Desa, 1)}, "X: 2 kelurahan putus, 0 menurun"},
		{[][]place{n(state.Degraded, inventory.Desa, 4), n(state.Up, inventory.Desa, 1)}, "X: 0 desa putus, 4 menurun"},
		{[][]place{n(state.Maintenance, inventory.Desa, 1), n(state.Up, inventory.Desa, 1)}, "X: 0 desa/kelurahan putus, 0 menurun"},
	} {
		var sum tally
		for _, p := range slices.Concat(c.of...) {
			sum.add(p)
		}
		if got := sentence("X", sum); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestPeopleAreCountedOrCalledUnknown(t *testing.T) {
	for want, c := range map[string]tally{
		"tidak ada":                         {},
		"jumlah jiwa belum tercatat":        {Villages: [6]int{2}, Unnumbered: [6]int{2}},
		"4.126 jiwa, 1 desa belum tercatat": {Villages: [6]int{2}, Unnumbered: [6]int{1}, People: [6]int{4126}},
		"0 jiwa":                            {Villages: [6]int{1}},
	} {
		if got := peopleText(c, groupDown); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestEveryStateIsInOneGroupAndHasItsOwnWordAndShape(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range state.States() {
		in := 0
		for _, g := range groups() {
			if g.has(s) {
				in++
			}
		}
		l := lookOf(s)
		if in != 1 || seen[l.Word] || seen[l.Shape] || l.Word == "Tidak diketahui" {
			t.Errorf("%v is in %d groups, %q, %q", s, in, l.Word, l.Shape)
		}
		seen[l.Word], seen[l.Shape] = true, true
	}
}

// The whole country: pages of regencies, and a search, with a handful of queries.
func TestCountry(t *testing.T) {
	var regions, sites strings.Builder
	regions.WriteString("code;name;valid_from\n33;Jawa Tengah;2025-01-01\n")
	sites.WriteString("site;village;name;access;valid_from\n")
	var snapshot state.Snapshot
	snapshot.At = noon
	villages := 0
	for r := 1; r <= 69; r++ {
		fmt.Fprintf(&regions, "33.%02d;Kabupaten R%02d;2025-01-01\n33.%02d.01;Kecamatan;2025-01-01\n", r, r, r)
		for v := 1; v <= 300; v++ {
			code := fmt.Sprintf("33.%02d.01.%d", r, 2000+v)
			fmt.Fprintf(&regions, "%s;Desa %d;2025-01-01\n", code, v)
			fmt.Fprintf(&sites, "s-%s;%s;Kantor;fiber;2025-01-01\n", code, code)
			s := state.SiteState{Site: measure.SiteID("s-" + code), State: state.Up, LastBeat: noon}
			if r == 42 && v == 7 {
				s.State = state.Down
			}
			snapshot.Sites = append(snapshot.Sites, s)
			villages++
		}
	}
	header := "valid_from\n"
	inv, err := inventory.Parse(map[string][]byte{"regions.csv": []byte(regions.String()), "sites.csv": []byte(sites.String()),
		"isps.csv": []byte("isp;name;" + header), "nodes.csv": []byte("node;type;name;" + header), "targets.csv": []byte("target;method;" + header),
		"plans.csv": []byte("site;download_mbps;upload_mbps;source_document;" + header), "probes.csv": []byte("probe;site;" + header)})
	if err != nil {
		t.Fatal(err)
	}
	queries := 0
	o := newOffice(t, func(o *office) { o.inv, o.states = inv, snapshot })
	o.fails = func(expr string) error {
		queries++
		if len(expr) > 8000 {
			t.Errorf("a query of %d bytes", len(expr))
		}
		return nil
	}
	p := o.get("/", 200)
	if got, want := text(p.one("h1", "")), "Jawa Tengah: 1 desa putus, 0 menurun"; got != want {
		t.Errorf("heading %q, want %q", got, want)
	}
	if got := p.codes(); len(got) != 50 || got[0] != "33.42" {
		t.Errorf("%d regencies, first %q", len(got), got[0])
	}
	if queries != 0 || len(p.all("svg", "map")) != 0 {
		t.Errorf("%d queries for a page without figures", queries)
	}
	if got := o.get("/?hal=2", 200).codes(); len(got) != 19 {
		t.Errorf("%d regencies on the second page", len(got))
	}
	for path, want := range map[string]int{"/?kab=33.42": 50, "/?kab=33.42&hal=6": 50, "/?keadaan=putus": 1, "/?q=desa+299": 50, "/?q=desa+299&hal=2": 19, "/?kab=33.42&urut=unduh": 50} {
		queries = 0
		p := o.get(path, 200)
		if got := len(p.codes()); got != want || queries > 9 {
			t.Errorf("%s: %d villages, want %d, with %d queries", path, got, want, queries)
		}
	}
	o.get("/?urut=unduh", 400) // would read the figures of the whole country
	if got := text(o.get("/?kab=33.42", 200).one("nav", "pager")); !strings.HasPrefix(got, "1 sampai 50 dari 300") {
		t.Errorf("pager %q", got)
	}
}

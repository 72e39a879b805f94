package portal

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/portal/rank"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

const (
	paramSpan = "rentang"
	paramSite = "titik"
)

// calendarFrom is how long a village must have been watched before thirty days
// of it are drawn.
const calendarFrom = 24 * time.Hour

// villagePage is the page "/desa/{code}".
type villagePage struct {
	frame
	look
	Heading   string
	Sub       string
	Code      string
	Crumbs    []link
	Banner    string // bold
	Detail    string
	Stale     string
	Sites     []link // to choose from, where there are several; Href is empty for the chosen one
	SiteName  string
	Before    bool
	Figures   []figure
	Spans     []link
	Span      string
	Calendar  []chart
	Early     bool // too early for a calendar
	Days      []legendItem
	Strips    []stripSet
	Charts    []chartCard
	Facts     []fact
	Incidents []incidentRow // of the last 30 days, the latest first
}

type link struct{ Text, Href string }

// figure is one statistic with what it rests on.
type figure struct {
	Name, Value, Unit string
	Short             bool // n is too small, or the series cannot be read: Value says so
	Lines             []string
}

type stripSet struct {
	Name, Note string
	Charts     []chart
	Legend     []legendItem
}

type legendItem struct {
	Class string // of the area; empty: hatched
	Line  string // class of a line instead
	Text  string
}

type chartCard struct {
	Name, Unit string
	Chart      *chart
	Empty      string // said instead of a chart
	Legend     []legendItem
}

type fact struct {
	Name  string
	Words string // before Text
	Text  string
	Code  bool // Text is not to be broken across lines
}

func (p *pages) village(w http.ResponseWriter, r *http.Request) {
	inv := p.Inventory()
	if inv == nil {
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Daftar desa belum terbaca", "Coba lagi sebentar lagi."))
		return
	}
	code := r.PathValue("code")
	now := p.Now().In(inv.Location(code))
	v, ok := inv.VillageAt(code, now)
	if !ok {
		p.send(w, http.StatusNotFound, "message", p.message("Desa tidak ditemukan",
			"Tidak ada desa atau kelurahan dengan kode ini dalam daftar yang berlaku sekarang."))
		return
	}
	q := r.URL.Query()
	known := listen(p.States())
	pl := placeOf(inv, v, known, now)
	site, ok := siteChosen(pl.Sites, q.Get(paramSite))
	sp, okSpan := spanChosen(q.Get(paramSpan))
	if !ok || !okSpan {
		p.send(w, http.StatusBadRequest, "message", p.message("Pilihan tidak dikenal", "Alamat ini meminta pilihan yang tidak ada."))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.Patience)
	defer cancel()
	p.send(w, http.StatusOK, "village", p.villagePage(ctx, inv, pl, known.at, site, sp, now))
}

// siteChosen is the site that an address names, else the first. Each has its own
// line and plan, so one page never mixes two. nil: the village has none.
func siteChosen(sites []inventory.Site, id string) (*inventory.Site, bool) {
	for i, s := range sites {
		if id == "" || string(s.ID) == id {
			return &sites[i], true
		}
	}
	return nil, id == ""
}

func spanChosen(key string) (span, bool) {
	if key == "" {
		return span{}, true
	}
	for _, s := range spans() {
		if s.Key == key {
			return s, true
		}
	}
	return span{}, false
}

func (p *pages) villagePage(ctx context.Context, inv *inventory.Inventory, v place, decided time.Time, site *inventory.Site, sp span, now time.Time) villagePage {
	page := villagePage{frame: p.frame(now), look: lookOf(v.State), Code: v.Code, Before: !current(v.State)}
	page.Heading = kindWord(v.Kind) + " " + v.Name
	page.Sub = subOf(v, site)
	page.Crumbs = crumbs(inv, v)
	page.Banner, page.Detail = banner(v, now)
	page.Title = fmt.Sprintf("%s, %s: %s", v.Name, v.District.Name, strings.ToLower(page.Word))
	if !v.Since.IsZero() && v.State != state.NeverSeen && v.State != state.NoCoverage {
		page.Title += " sejak " + bahasa.Moment(v.Since, now) + " " + bahasa.Zone(now)
	}
	page.Stale = staleText(decided, now)

	var missing gaps
	var err error
	page.Incidents, err = p.ofVillage(inv, v.Code, now)
	missing.note("gangguan", err)
	month, err := merged(seriesOf(ctx, p.Query, selector(seriesState, "village", v.Code), now.AddDate(0, 0, -30).Add(-hold), now, time.Minute))
	missing.note("keadaan 30 hari", err)
	watched := watchedFor(month, now)
	if sp.Key == "" {
		sp = spanFor(watched)
	}
	page.Span = sp.Word
	page.Refresh = p.villageHref(v, site, sp)
	for _, s := range spans() {
		l := link{s.Word, p.villageHref(v, site, s)}
		if s == sp {
			l.Href = ""
		}
		page.Spans = append(page.Spans, l)
	}
	if len(v.Sites) > 1 {
		for _, s := range v.Sites {
			l := link{s.Name, p.villageHref(v, &s, sp)}
			if s.ID == site.ID {
				l.Href, page.SiteName = "", s.Name
			}
			page.Sites = append(page.Sites, l)
		}
	}

	page.Early = err == nil && watched < calendarFrom
	if err == nil && !page.Early {
		days := segments(month, stateOf, midnight(now.AddDate(0, 0, -29)), now)
		label := "Keadaan 30 hari, tiap kolom satu hari dari jam 00 di atas sampai 24 di bawah: " + lastingText(lasting(days)) + "."
		page.Calendar = []chart{
			calendar(days, now.AddDate(0, 0, -29), now, 1118, 196, "roomy", label),
			calendar(days, now.AddDate(0, 0, -29), now, 366, 216, "narrow", label),
		}
		page.Days = lastingLegend(lasting(days))
	}
	page.Facts = p.facts(inv, v, site, now)
	if site == nil {
		page.Missing = missing.tell(ctx, p.Logger, "desa")
		return page
	}

	r := p.readSite(ctx, *site, sp, now, &missing)
	page.Figures = r.figures(inv, *site, now)
	from := now.Add(-sp.length)
	if err == nil {
		page.Strips = append(page.Strips, stripsOf(sp, "Keadaan", "seperti diketahui saat itu", segments(month, stateOf, from, now), from, now))
	}
	reach := segments(r.reach, reached, from, now)
	if !r.unread[readReach] {
		page.Strips = append(page.Strips, reachStrip(sp, r.beyond, reach, from, now))
	}
	page.Charts = []chartCard{r.speedChart(inv, *site, sp, reach, now), r.latencyChart(sp, reach, now), r.usageChart(sp, reach, now)}
	page.Facts = append(page.Facts, r.reachFacts(now)...)
	page.Missing = missing.tell(ctx, p.Logger, "desa")
	return page
}

// watchedFor is how long ago the first state that says something was decided, of
// those in samples; 0: none was. Before a probe is there its village is never
// seen, however long the collector has run.
func watchedFor(states []sample, now time.Time) time.Duration {
	for _, s := range states {
		if stateOf(s.Value) != undecided {
			return now.Sub(s.At)
		}
	}
	return 0
}

func (p *pages) villageHref(v place, site *inventory.Site, sp span) string {
	q := url.Values{paramSpan: {sp.Key}}
	if len(v.Sites) > 1 && site != nil {
		q.Set(paramSite, string(site.ID))
	}
	return "/desa/" + v.Code + "?" + q.Encode()
}

func crumbs(inv *inventory.Inventory, v place) []link {
	var out []link
	if len(inv.Regencies()) > 1 {
		out = append(out, link{"Indonesia", "/"})
	}
	top := filter{Regency: v.Regency.Code, Sort: "keadaan"}
	href := top.href()
	if len(inv.Regencies()) == 1 {
		href = "/"
	}
	return append(out, link{regencyShort(v.Regency), href},
		link{"Kecamatan " + v.District.Name, top.with(func(f *filter) { f.District = v.District.Code }).href()})
}

func subOf(v place, site *inventory.Site) string {
	parts := []string{v.Code}
	if v.Population.Known {
		parts = append(parts, bahasa.Count(v.Population.Number)+" jiwa")
	}
	if site == nil {
		return strings.Join(append(parts, "belum ada titik ukur"), " · ")
	}
	access := map[inventory.Access]string{inventory.AccessFiber: "fiber", inventory.Access4G: "4G", inventory.AccessVSAT: "VSAT",
		inventory.AccessOther: "akses lain", inventory.AccessNone: "tanpa akses"}[site.Access]
	if site.ISP.Name != "" {
		access += ", " + site.ISP.Name
	}
	parts = append(parts, access)
	if site.Plan != nil {
		parts = append(parts, fmt.Sprintf("paket %s/%s Mbps", planText(site.Plan.DownloadBPS), planText(site.Plan.UploadBPS)))
	} else if site.Access != inventory.AccessNone {
		parts = append(parts, "paket belum tercatat")
	}
	return strings.Join(parts, " · ")
}

// banner says the state, since when, and what that means for the figures below.
func banner(v place, now time.Time) (bold, detail string) {
	bold = lookOf(v.State).Word
	since := ""
	if !v.Since.IsZero() {
		since = fmt.Sprintf(" sejak %s %s (%s)", bahasa.Moment(v.Since, now), bahasa.Zone(now), bahasa.Duration(now.Sub(v.Since)))
	}
	heard := ""
	if !v.LastBeat.IsZero() {
		heard = fmt.Sprintf(" Kabar terakhir dari alat ukur: %s, %s.", bahasa.Moment(v.LastBeat, now), bahasa.Age(v.LastBeat, now))
	}
	switch v.State {
	case state.Down:
		return bold + since + ".", "Angka di bawah ini diukur sebelum putus." + heard
	case state.Degraded:
		return bold + since + ".", strings.TrimSpace(heard)
	case state.ProbeFault:
		return bold + since + ".", "Keadaan jaringan di desa ini tidak diketahui; ini bukan berarti putus." + heard
	case state.NeverSeen:
		return bold + ".", "Belum pernah ada kabar dari alat ukur di desa ini. Keadaan jaringan tidak diketahui."
	case state.NoCoverage:
		return bold + ".", "Belum ada jaringan yang tercatat untuk desa ini dan belum ada alat ukur yang dipasang."
	case state.Maintenance:
		return bold + since + ".", "Pemeliharaan yang diumumkan sedang berlangsung." + heard
	case state.Up:
		return bold + since + ".", strings.TrimSpace(heard)
	}
	return bold + ".", "Keadaan desa ini belum ditetapkan. Ini bukan berarti normal dan bukan berarti putus." + heard
}

// facts are what the inventory knows of the line.
func (p *pages) facts(inv *inventory.Inventory, v place, site *inventory.Site, now time.Time) []fact {
	if site == nil {
		return []fact{{Name: "Titik ukur", Text: bahasa.Unknown}}
	}
	out := []fact{{Name: "Titik ukur", Text: site.Name}}
	names := map[inventory.NodeType]string{inventory.NodePOP: "POP", inventory.NodeBNG: "BNG", inventory.NodeOLT: "OLT",
		inventory.NodePON: "Port PON", inventory.NodeODC: "ODC", inventory.NodeODP: "ODP"}
	for _, n := range inv.Path(site.ODP, now) {
		f := fact{Name: names[n.Type], Text: string(n.ID), Code: true}
		if n.Name != "" && n.Name != string(n.ID) {
			f = fact{Name: names[n.Type], Text: string(n.ID) + ", " + n.Name}
		}
		out = append(out, f)
	}
	if site.ODP == "" && site.Access == inventory.AccessFiber {
		out = append(out, fact{Name: "ODP", Text: "belum tercatat"})
	}
	probes := inv.ProbesAt(site.ID, now)
	for _, pr := range probes {
		text := string(pr.Probe)
		if version, known := p.Software(pr.Probe); known {
			text += ", versi " + version
		}
		out = append(out, fact{Name: "Alat ukur", Text: text})
	}
	if len(probes) == 0 {
		out = append(out, fact{Name: "Alat ukur", Text: "belum dipasang"})
	}
	if site.Plan != nil {
		out = append(out, fact{Name: "Dasar paket", Text: site.Plan.Document})
	}
	return out
}

// lastingText lists how long each state held, without the good one alone.
func lastingText(d map[state.State]time.Duration) string {
	var parts []string
	for _, s := range slices.Backward(drawn()) {
		if d[s] > 0 {
			parts = append(parts, strings.ToLower(lookOf(s).Word)+" "+bahasa.Duration(d[s]))
		}
	}
	return strings.Join(parts, ", ")
}

func lastingLegend(d map[state.State]time.Duration) []legendItem {
	var out []legendItem
	for _, s := range drawn() {
		if d[s] > 0 {
			out = append(out, legendItem{Class: lookOf(s).fill, Text: lookOf(s).Word + " " + bahasa.Duration(d[s])})
		}
	}
	return out
}

func stripsOf(sp span, name, note string, segs []segment, from, now time.Time) stripSet {
	d := lasting(segs)
	label := fmt.Sprintf("%s %s terakhir: %s.", name, sp.Word, lastingText(d))
	return stripSet{Name: name, Note: note, Legend: lastingLegend(d), Charts: []chart{
		strip(sp, segs, from, now, 1118, "roomy", label), strip(sp, segs, from, now, 366, "narrow", label)}}
}

func reachStrip(sp span, of beyond, segs []segment, from, now time.Time) stripSet {
	d := lasting(segs)
	words := map[state.State]string{state.Up: "Terjangkau", state.Down: "Tidak terjangkau", undecided: "Tidak diketahui"}
	s := stripSet{Name: of.first + " dapat dijangkau", Note: "menurut catatan alat ukur, termasuk yang datang terlambat"}
	var said []string
	for _, st := range drawn() {
		if d[st] > 0 {
			s.Legend = append(s.Legend, legendItem{Class: lookOf(st).fill, Text: words[st] + " " + bahasa.Duration(d[st])})
			said = append(said, strings.ToLower(words[st])+" "+bahasa.Duration(d[st]))
		}
	}
	label := fmt.Sprintf("%s, %s terakhir: %s.", s.Name, sp.Word, strings.Join(said, ", "))
	s.Charts = []chart{strip(sp, segs, from, now, 1118, "roomy", label), strip(sp, segs, from, now, 366, "narrow", label)}
	return s
}

// maxOf is the largest of the figures, and at least floor.
func maxOf(floor float64, sets ...[]sample) float64 {
	for _, ss := range sets {
		for _, s := range ss {
			floor = max(floor, s.Value)
		}
	}
	return floor
}

func scaled(ss []sample, by float64) []sample {
	out := make([]sample, len(ss))
	for i, s := range ss {
		out[i] = sample{s.At, s.Value * by}
	}
	return out
}

func medianOf(ss []sample) float64 {
	var xs []float64
	for _, s := range ss {
		xs = append(xs, s.Value)
	}
	if len(xs) == 0 {
		return math.NaN()
	}
	return rank.Quantile(rank.Sorted(xs), 0.5)
}

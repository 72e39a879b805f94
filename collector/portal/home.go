package portal

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// stale is the age at which states are no longer those of now: they are written
// each minute.
const stale = 5 * time.Minute

// The bars' width, and the share of the plan below which a line is slow.
const (
	barWidth = 64
	slow     = 0.8
)

// home is the page "/".
type home struct {
	frame
	Heading string
	Scope   string // what is shown, under the heading
	Stale   string // why the states are not those of now; empty: they are
	Cards   []card
	Share   []share
	ShareOf string // the bar, in words
	Map     *villageMap
	Going   []incidentRow // incidents that go on
	More    string        // how many of them are not shown; empty: none

	// Either the list of villages, or the regencies to choose from.
	Filter    filterForm
	Order     []heading
	Rows      []row
	Heads     []string // of the columns with counts
	Regencies []regencyRow
	Found     string
	Pager     pager
}

// card is one group's count.
type card struct {
	group
	Href    string
	Chosen  bool
	Count   string
	Comment string
}

// share is one piece of the proportional bar, in thousandths of its width.
type share struct {
	Class    string // empty: hatched
	X, Width string
}

type option struct {
	Value, Word string
	Chosen      bool
}

// filterForm is the form above the list; Kept are choices that it must not lose.
type filterForm struct {
	Query             string
	Districts, Groups []option
	Kept              []option // Word is the value, Value the parameter's name
	Clear             string   // address without it; empty: nothing is chosen
}

// heading is one column's head: a link that orders by it.
type heading struct {
	Word, Unit string
	Href       string // empty: not by this here
	Sort       string // aria-sort; empty: not by this
	Arrow      string
}

type pager struct {
	Text, Previous, Next string
}

// row is one village of the list.
type row struct {
	look
	Name, Code, Href string
	District         string
	Down, Up         rate
	Latency          cell
	Seen, SeenAge    string
	Before           bool // the figures are of before it fell silent
	Blank            bool // it has no figure at all
}

// cell is one figure of the list; empty Value: there is none, and None says why.
type cell struct {
	Value string
	None  string
	Note  string
	Title string
}

// rate is a speed beside its plan.
type rate struct {
	cell
	Of   string // "94% dari 50"
	Bar  string // width of the filled part; empty: no plan is known
	Slow bool
}

// groupCount is one group's number in the list of regencies.
type groupCount struct{ Name, Class, Count string }

// regencyRow is one line of the list of regencies.
type regencyRow struct {
	Name, Code, Href string
	Counts           []groupCount
	Total            string
	worst            [2]int // down, degraded
}

func (p *pages) home(w http.ResponseWriter, r *http.Request) {
	inv := p.Inventory()
	if inv == nil {
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Daftar desa belum terbaca", "Coba lagi sebentar lagi."))
		return
	}
	f, err := readFilter(r.URL.Query(), inv.Regencies())
	if err != nil {
		p.send(w, http.StatusBadRequest, "message", p.message("Pilihan tidak dikenal", "Alamat ini meminta pilihan yang tidak ada."))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), p.Patience)
	defer cancel()
	p.send(w, http.StatusOK, "home", p.homePage(ctx, inv, f))
}

func (p *pages) homePage(ctx context.Context, inv *inventory.Inventory, f filter) home {
	snapshot := p.States()
	now := p.Now().In(inv.Location(cmp.Or(f.Regency, firstProvince(inv))))
	all := places(inv, f.Regency, snapshot, now)
	var count tally
	for _, v := range all {
		count.add(v)
	}

	h := home{frame: p.frame(now)}
	name, scope := scopeOf(inv, f.Regency, all)
	h.Scope = scope
	h.Heading = sentence(name, count)
	if h.Stale = staleText(snapshot.At, now); h.Stale != "" {
		h.Heading = sentence(name+" pada "+bahasa.Moment(snapshot.At, now)+" "+bahasa.Zone(now), count)
	}
	h.Title = h.Heading
	h.Refresh = f.href()
	h.Cards, h.Share, h.ShareOf = cards(count, f)
	h.Filter = formOf(inv, f, count, all)

	var left int
	if h.Going, left = p.going(inv, f.Regency, now); left > 0 {
		h.More = fmt.Sprintf("%s gangguan lain berlangsung.", bahasa.Count(left))
	}
	var missing gaps
	if f.Regency == "" && !f.narrowed() {
		h.Regencies, h.Pager = regencyRows(all, f)
		for _, g := range groups() {
			h.Heads = append(h.Heads, g.Word)
		}
	} else {
		shown := slices.DeleteFunc(slices.Clone(all), func(v place) bool { return !f.matches(v) })
		h.Found = foundText(len(shown), len(all))
		h.Rows, h.Pager = p.list(ctx, inv, f, shown, now, &missing)
		h.Order = headings(f, now)
	}
	if f.Regency != "" {
		h.Map = p.maps.draw(inv, f.Regency, all, p.Schematic)
	}
	h.Missing = missing.tell(ctx, p.Logger, "beranda")
	return h
}

// staleText says that the states are not those of now; empty if they are.
func staleText(decided, now time.Time) string {
	age := now.Sub(decided)
	if decided.IsZero() || age <= stale {
		return ""
	}
	return fmt.Sprintf("Keadaan terakhir yang ditetapkan: %s %s, %s lalu. Keadaan sekarang belum diketahui.",
		bahasa.Moment(decided, now), bahasa.Zone(now), bahasa.Duration(age))
}

func firstProvince(inv *inventory.Inventory) string {
	if ps := inv.Provinces(); len(ps) > 0 {
		return ps[0].Code
	}
	return ""
}

// scopeOf names what is shown: short for the heading, and in full with counts.
func scopeOf(inv *inventory.Inventory, regency string, all []place) (name, scope string) {
	districts := make(map[string]bool)
	regencies := make(map[string]bool)
	for _, v := range all {
		districts[v.District.Code] = true
		regencies[v.Regency.Code] = true
	}
	villages := bahasa.Count(len(all)) + " desa/kelurahan"
	if regency == "" {
		name = "Indonesia"
		if ps := inv.Provinces(); len(ps) == 1 {
			name = ps[0].Name
		}
		return name, fmt.Sprintf("%s kabupaten/kota, %s", bahasa.Count(len(regencies)), villages)
	}
	r, _ := inv.Regency(regency)
	return regencyShort(r), fmt.Sprintf("%s (%s) · %s kecamatan, %s", regencyFull(r), r.Code, bahasa.Count(len(districts)), villages)
}

// sentence says it all. It never says that all is well while one is unknown.
func sentence(name string, t tally) string {
	down, degraded, unknown := t.Villages[groupDown], t.Villages[groupDegraded], t.Villages[groupUnknown]
	watched := t.total() - t.Villages[groupNoCoverage]
	tail := func(n int, word string) string { return ", " + bahasa.Count(n) + " " + word }
	switch {
	case t.total() == 0:
		return name + ": belum ada desa dalam daftar"
	case unknown == watched && watched > 0:
		return fmt.Sprintf("%s: keadaan %s %s belum diketahui", name, bahasa.Count(unknown), t.noun(groupUnknown))
	case down == 0 && degraded == 0 && unknown == 0 && t.Villages[groupMaintenance] == 0 && watched > 0:
		s := fmt.Sprintf("%s: %s %s normal", name, bahasa.Count(watched), t.noun(groupUp))
		if n := t.Villages[groupNoCoverage]; n > 0 {
			s += tail(n, "tanpa jangkauan")
		}
		return s
	}
	noun := t.noun(groupDown)
	if down == 0 {
		noun = t.noun(groupDegraded)
	}
	s := fmt.Sprintf("%s: %s %s putus%s", name, bahasa.Count(down), noun, tail(degraded, "menurun"))
	if unknown > 0 {
		s += tail(unknown, "tidak diketahui")
	}
	return s
}

func cards(t tally, f filter) (cs []card, bar []share, words string) {
	total := t.total()
	var said []string
	for i, g := range groups() {
		n := t.Villages[i]
		if i == groupMaintenance && n == 0 {
			continue
		}
		c := card{group: g, Count: bahasa.Count(n), Chosen: f.Group == g.Key, Comment: peopleText(t, i)}
		c.Href = f.with(func(f *filter) {
			if c.Chosen {
				f.Group = ""
			} else {
				f.Group = g.Key
			}
		}).href()
		if i == groupUnknown && n > 0 {
			c.Comment = unknownText(t)
		}
		if i == groupUp && n > 0 {
			c.Comment = bahasa.Percent(float64(n)/float64(total), 1) + " dari " + bahasa.Count(total)
		}
		cs = append(cs, c)
		said = append(said, strings.ToLower(g.Word)+" "+bahasa.Count(n))
	}
	return cs, shares(t), "Bagian desa menurut keadaan: " + strings.Join(said, ", ") + "."
}

func peopleText(t tally, g int) string {
	switch {
	case t.Villages[g] == 0:
		return "tidak ada"
	case t.Unnumbered[g] == t.Villages[g]:
		return "jumlah jiwa belum tercatat"
	case t.Unnumbered[g] > 0:
		return fmt.Sprintf("%s jiwa, %s desa belum tercatat", bahasa.Count(t.People[g]), bahasa.Count(t.Unnumbered[g]))
	}
	return bahasa.Count(t.People[g]) + " jiwa"
}

func unknownText(t tally) string {
	var parts []string
	for _, x := range []struct {
		n    int
		word string
	}{{t.Faulty, "alat bermasalah"}, {t.Unseen, "belum terpantau"}, {t.Villages[groupUnknown] - t.Faulty - t.Unseen, "belum ditetapkan"}} {
		if x.n > 0 {
			parts = append(parts, bahasa.Count(x.n)+" "+x.word)
		}
	}
	return strings.Join(parts, ", ") + " · " + peopleText(t, groupUnknown)
}

// shares cuts the bar; a group of one village among 84,000 can still be seen.
func shares(t tally) []share {
	const whole, gap, least = 1000.0, 2.0, 5.0
	total := t.total()
	if total == 0 {
		return nil
	}
	widths := make([]float64, len(t.Villages))
	scale, left := 0.0, whole
	for i, n := range t.Villages {
		if n == 0 {
			continue
		}
		left -= gap
		if w := float64(n) / float64(total) * whole; w < least {
			widths[i] = least
			left -= least
		} else {
			scale += w
		}
	}
	var out []share
	x := 0.0
	for i, g := range groups() {
		n := t.Villages[i]
		if n == 0 {
			continue
		}
		if widths[i] == 0 {
			widths[i] = float64(n) / float64(total) * whole * (left + gap) / scale
		}
		out = append(out, share{Class: g.fill, X: coordinate(x), Width: coordinate(widths[i])})
		x += widths[i] + gap
	}
	return out
}

func formOf(inv *inventory.Inventory, f filter, t tally, all []place) filterForm {
	form := filterForm{Query: f.Query}
	if f.Regency != "" {
		if len(inv.Regencies()) > 1 {
			form.Kept = append(form.Kept, option{Value: paramRegency, Word: f.Regency})
		}
		last := ""
		for _, v := range all {
			if v.District.Code != last {
				last = v.District.Code
				form.Districts = append(form.Districts, option{last, v.District.Name, last == f.District})
			}
		}
		slices.SortFunc(form.Districts, func(a, b option) int { return strings.Compare(a.Word, b.Word) })
	}
	for i, g := range groups() {
		if t.Villages[i] > 0 || g.Key == f.Group {
			form.Groups = append(form.Groups, option{g.Key, fmt.Sprintf("%s (%s)", g.Word, bahasa.Count(t.Villages[i])), g.Key == f.Group})
		}
	}
	if f.Sort != "keadaan" || f.Turned {
		sign := ""
		if f.Turned {
			sign = "-"
		}
		form.Kept = append(form.Kept, option{Value: paramSort, Word: sign + f.Sort})
	}
	if f.narrowed() {
		form.Clear = f.with(func(f *filter) { f.District, f.Query, f.Group = "", "", "" }).href()
	}
	return form
}

func foundText(n, of int) string {
	if n == of {
		return bahasa.Count(n)
	}
	return bahasa.Count(n) + " dari " + bahasa.Count(of)
}

// page cuts one page of n and describes it.
func page(n int, f filter) (from, to int, p pager) {
	last := max((n+perPage-1)/perPage, 1)
	f.Page = min(f.Page, last)
	from = (f.Page - 1) * perPage
	to = min(from+perPage, n)
	if n > 0 {
		p.Text = fmt.Sprintf("%s sampai %s dari %s", bahasa.Count(from+1), bahasa.Count(to), bahasa.Count(n))
	}
	at := func(page int) string { f := f; f.Page = page; return f.href() }
	if f.Page > 1 {
		p.Previous = at(f.Page - 1)
	}
	if f.Page < last {
		p.Next = at(f.Page + 1)
	}
	return from, to, p
}

// figures are those of one column: the latest of villages, by code; unread if they failed.
type figures struct {
	of     map[string]latest
	unread bool
}

// none is what stands in place of a figure.
func (f figures) none() cell {
	if f.unread {
		return cell{None: unreadable}
	}
	return cell{None: bahasa.Unknown}
}

// speeds are the figures of the list.
type speeds struct{ down, up, latency figures }

// list orders the villages and fills one page. Figures are read for that page
// only, unless the order itself depends on them.
func (p *pages) list(ctx context.Context, inv *inventory.Inventory, f filter, shown []place, now time.Time, missing *gaps) ([]row, pager) {
	by, _ := columnOf(f.Sort)
	from, to, pg := page(len(shown), f)
	var s speeds
	if by.figure {
		s = p.readSpeeds(ctx, shown, f.Regency, now, missing)
	}
	order(shown, f, s)
	shown = shown[from:to]
	if !by.figure {
		s = p.readSpeeds(ctx, shown, "", now, missing)
	}
	rows := make([]row, len(shown))
	for i, v := range shown {
		rows[i] = rowOf(inv, v, s, now)
	}
	return rows, pg
}

// readSpeeds reads the figures of a whole regency, or of the villages shown.
func (p *pages) readSpeeds(ctx context.Context, shown []place, regency string, now time.Time, missing *gaps) speeds {
	if len(shown) == 0 {
		return speeds{}
	}
	matcher := "regency=" + strconv.Quote(regency)
	if regency == "" {
		codes := make([]string, len(shown))
		for i, v := range shown {
			codes[i] = v.Code
		}
		matcher = anyVillage(codes)
	}
	read := func(name, series, more string) figures {
		m, err := latestByVillage(ctx, p.Query, series, matcher+more, now)
		missing.note(name, err)
		return figures{m, err != nil}
	}
	return speeds{
		down:    read("unduh", seriesDownload, ""),
		up:      read("unggah", seriesUpload, ""),
		latency: read("latensi", seriesLatency, `,stat="median"`),
	}
}

// order sorts the villages; what is not known comes last either way.
func order(vs []place, f filter, s speeds) {
	by, _ := columnOf(f.Sort)
	latest := map[string]figures{"unduh": s.down, "unggah": s.up, "latensi": s.latency}[by.Key].of
	key := func(v place) (float64, bool) {
		switch by.Key {
		case "terlihat":
			return float64(v.LastBeat.Unix()), !v.LastBeat.IsZero()
		case "unduh", "unggah", "latensi":
			l := latest[v.Code]
			return l.Value, l.known()
		}
		return 0, true
	}
	sign := 1
	if by.falling != f.Turned {
		sign = -1
	}
	slices.SortStableFunc(vs, func(a, b place) int {
		x, xKnown := key(a)
		y, yKnown := key(b)
		if xKnown != yKnown {
			if xKnown {
				return -1
			}
			return 1
		}
		c := cmp.Compare(x, y)
		switch by.Key {
		case "keadaan":
			c = cmp.Compare(lookOf(a.State).rank, lookOf(b.State).rank)
		case "nama":
			c = strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		case "kecamatan":
			c = strings.Compare(a.District.Name, b.District.Name)
		}
		if !xKnown {
			c = 0
		}
		return cmp.Or(sign*c, strings.Compare(a.Code, b.Code))
	})
}

func headings(f filter, now time.Time) []heading {
	var out []heading
	for _, c := range columns() {
		h := heading{Word: c.Word, Unit: c.Unit}
		if c.Key == "terlihat" {
			h.Unit = bahasa.Zone(now)
		}
		if c.figure && f.Regency == "" {
			out = append(out, h)
			continue
		}
		chosen := c.Key == f.Sort
		h.Href = f.with(func(f *filter) { f.Sort, f.Turned = c.Key, chosen && !f.Turned }).href()
		if chosen {
			h.Sort, h.Arrow = "ascending", "▲"
			if c.falling != f.Turned {
				h.Sort, h.Arrow = "descending", "▼"
			}
		}
		out = append(out, h)
	}
	return out
}

func rowOf(inv *inventory.Inventory, v place, s speeds, now time.Time) row {
	down, up, latency := s.down.of[v.Code], s.up.of[v.Code], s.latency.of[v.Code]
	r := row{
		look: lookOf(v.State), Name: v.Name, Code: v.Code, Href: "/desa/" + v.Code, District: v.District.Name,
		Down:    rateOf(inv, s.down, v.Code, now, func(p inventory.Plan) float64 { return p.DownloadBPS }),
		Up:      rateOf(inv, s.up, v.Code, now, func(p inventory.Plan) float64 { return p.UploadBPS }),
		Latency: s.latency.none(), Seen: "belum pernah",
		Before: !current(v.State),
		Blank:  !down.known() && !up.known() && !latency.known(),
	}
	if latency.known() {
		r.Latency = cell{Value: bahasa.Milliseconds(latency.Value, 0), Note: bahasa.Age(latency.At, now), Title: measuredAt(latency.At, now)}
	}
	switch {
	case !v.LastBeat.IsZero():
		r.Seen, r.SeenAge = bahasa.Moment(v.LastBeat, now), bahasa.Age(v.LastBeat, now)
	case v.State == state.NoCoverage:
		r.Seen = "tidak dipasang"
	case v.State == undecided:
		r.Seen = "tidak diketahui"
	}
	return r
}

func measuredAt(at, now time.Time) string {
	return "diukur " + bahasa.Moment(at, now) + " " + bahasa.Zone(now)
}

// rateOf compares a test with the plan of its day.
func rateOf(inv *inventory.Inventory, f figures, village string, now time.Time, promised func(inventory.Plan) float64) rate {
	l := f.of[village]
	if !l.known() {
		return rate{cell: f.none()}
	}
	r := rate{cell: cell{
		Value: bahasa.Mbps(l.Value, 1),
		Note:  fmt.Sprintf("n = %s · %s", bahasa.Count(l.N), bahasa.Age(l.At, now)),
		Title: measuredAt(l.At, now),
	}}
	if s, ok := inv.Site(l.Site, l.At); ok && s.Plan != nil {
		plan := promised(*s.Plan)
		part := l.Value / plan
		r.Of = fmt.Sprintf("%s dari %s", bahasa.Percent(part, 0), planText(plan))
		r.Bar = coordinate(min(part, 1) * barWidth)
		r.Slow = part < slow
	}
	return r
}

// planText is a promised rate in Mbps: whole, unless it is not.
func planText(bps float64) string {
	if whole := bahasa.Mbps(bps, 0); bahasa.Mbps(bps, 1) == whole+",0" {
		return whole
	}
	return bahasa.Mbps(bps, 1)
}

// regencyRows counts by regency, the worst first.
func regencyRows(all []place, f filter) ([]regencyRow, pager) {
	counts := make(map[string]*tally)
	named := make(map[string]inventory.Region)
	for _, v := range all {
		t := counts[v.Regency.Code]
		if t == nil {
			t = new(tally)
			counts[v.Regency.Code], named[v.Regency.Code] = t, v.Regency
		}
		t.add(v)
	}
	var rows []regencyRow
	for code, t := range counts {
		r := regencyRow{Name: regencyFull(named[code]), Code: code, Total: bahasa.Count(t.total()),
			Href:  filter{Regency: code, Sort: "keadaan"}.href(),
			worst: [2]int{t.Villages[groupDown], t.Villages[groupDegraded]}}
		for i, g := range groups() {
			c := groupCount{Name: g.Word, Count: bahasa.Count(t.Villages[i])}
			if t.Villages[i] > 0 {
				c.Class = g.Class + " state"
			}
			r.Counts = append(r.Counts, c)
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b regencyRow) int {
		return cmp.Or(cmp.Compare(b.worst[0], a.worst[0]), cmp.Compare(b.worst[1], a.worst[1]), strings.Compare(a.Code, b.Code))
	})
	from, to, pg := page(len(rows), f)
	return rows[from:to], pg
}

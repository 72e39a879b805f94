package portal

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Incidents knows what broke; *incident.Engine does.
type Incidents interface {
	// Open returns the incidents that go on, the oldest first.
	Open() []incident.Incident
	// Recent returns those that were open at any time after an instant.
	Recent(since time.Time) ([]incident.Incident, error)
	// ByID returns one; the error wraps incident.ErrNotFound if there is none.
	ByID(incident.ID) (incident.Incident, error)
}

// What the list of incidents shows.
const (
	recentDays = 30
	maxListed  = 300
)

// incidentRow is one incident of the list.
type incidentRow struct {
	look
	ID, Href       string
	What           string
	Place, Node    string
	Since          string
	Lasted, Ended  string
	Cause, Verdict string
	Going          bool
	at             time.Time
}

// incidentList is the page "/gangguan".
type incidentList struct {
	frame
	Heading string
	Going   []incidentRow
	Over    []incidentRow
	More    string
	Work    []work
}

// work is one line of announced maintenance.
type work struct{ At, Scope, Text string }

// incidentPage is the page "/gangguan/{id}".
type incidentPage struct {
	frame
	look
	ID, Heading, Sub string
	Banner, Detail   string
	Facts            []fact
	Villages         []affected
	HasPeople        bool
	Path             []pathNode
	Evidence, Doubts []string
	Timeline         []step
}

// affected is one village of an incident.
type affected struct {
	look
	Name, Code, Href string
	District         string
	People           string
	Since, Until     string
	Lasted           string
	Cause            string
}

// pathNode is a step of the way from the provider's centre down.
type pathNode struct {
	Type, ID, Name string
	Here           bool
}

// step is one line of a timeline.
type step struct{ At, Text string }

func (p *pages) incidents(w http.ResponseWriter, r *http.Request) {
	inv := p.Inventory()
	if inv == nil {
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Daftar desa belum terbaca", "Coba lagi sebentar lagi."))
		return
	}
	now := p.Now().In(inv.Location(firstProvince(inv)))
	l := incidentList{frame: p.frame(now)}
	l.Refresh = "/gangguan"
	all, err := p.Incidents.Recent(now.AddDate(0, 0, -recentDays))
	var missing gaps
	missing.note("gangguan yang sudah selesai", err)
	if err != nil {
		all = p.Incidents.Open()
	}
	for _, i := range all {
		if i.MergedInto != "" {
			continue
		}
		row := incidentLine(inv, &i, now)
		if row.Going {
			l.Going = append(l.Going, row)
		} else {
			l.Over = append(l.Over, row)
		}
	}
	slices.SortStableFunc(l.Going, func(a, b incidentRow) int { return a.at.Compare(b.at) })
	if n := len(l.Over); n > maxListed {
		l.More = fmt.Sprintf("%s yang lebih lama tidak ditampilkan.", bahasa.Count(n-maxListed))
		l.Over = l.Over[:maxListed]
	}
	if p.Maintenance != nil {
		for _, m := range p.Maintenance() {
			l.Work = append(l.Work, work{bahasa.Short(m.From.In(now.Location())) + " sampai " + bahasa.Short(m.To.In(now.Location())), m.Scope,
				m.Reason + " (" + m.Author + ")"})
		}
	}
	l.Heading = "Tidak ada gangguan yang berlangsung"
	if n := len(l.Going); n > 0 {
		l.Heading = bahasa.Count(n) + " gangguan berlangsung"
	}
	l.Title, l.Missing = l.Heading, missing.tell(r.Context(), p.Logger, "gangguan")
	p.send(w, http.StatusOK, "incidents", l)
}

// maxOnHome bounds the incidents that the home page shows.
const maxOnHome = 6

// going lists the incidents that go on in a region, the oldest first; an empty
// code is everywhere. more is how many were left out.
func (p *pages) going(inv *inventory.Inventory, regency string, now time.Time) (rows []incidentRow, more int) {
	if p.Incidents == nil {
		return nil, 0
	}
	for _, i := range p.Incidents.Open() {
		if regency != "" && i.Regency != regency {
			continue
		}
		if len(rows) == maxOnHome {
			more++
			continue
		}
		rows = append(rows, incidentLine(inv, &i, now))
	}
	return rows, more
}

// ofVillage lists the incidents that a village had lately, the latest first.
func (p *pages) ofVillage(inv *inventory.Inventory, code string, now time.Time) (rows []incidentRow, err error) {
	if p.Incidents == nil {
		return nil, nil
	}
	all, err := p.Incidents.Recent(now.AddDate(0, 0, -recentDays))
	for _, i := range all {
		if i.MergedInto == "" && slices.ContainsFunc(i.Sites, func(s incident.Site) bool { return s.Village == code }) {
			rows = append(rows, incidentLine(inv, &i, now))
		}
	}
	return rows, err
}

func (p *pages) incident(w http.ResponseWriter, r *http.Request) {
	inv := p.Inventory()
	if inv == nil {
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Daftar desa belum terbaca", "Coba lagi sebentar lagi."))
		return
	}
	i, err := p.Incidents.ByID(incident.ID(r.PathValue("id")))
	switch {
	case errors.Is(err, incident.ErrNotFound):
		p.send(w, http.StatusNotFound, "message", p.message("Gangguan tidak ditemukan", "Nomor gangguan ini tidak ada. Periksa kembali penulisannya."))
		return
	case err != nil:
		p.Logger.Error("an incident cannot be read", "incident", r.PathValue("id"), "error", err)
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Gangguan tidak dapat dibaca saat ini", "Coba lagi sebentar lagi."))
		return
	}
	p.send(w, http.StatusOK, "incident", p.incidentPage(inv, &i))
}

// incidentLine is an incident in one line.
func incidentLine(inv *inventory.Inventory, i *incident.Incident, now time.Time) incidentRow {
	local := now.In(inv.Location(i.Regency))
	row := incidentRow{ID: string(i.ID), Href: "/gangguan/" + string(i.ID), Going: i.Open(), at: i.Since, look: incidentLook(i)}
	row.What = whatOf(i)
	row.Place, row.Node = placeText(i.Place)
	row.Since = bahasa.Moment(i.Since.In(local.Location()), local)
	if row.Going {
		row.Lasted = bahasa.ShortDuration(now.Sub(i.Since))
		if i.Silent() == 0 && i.Kind != incident.Ours {
			row.Ended = "sudah terhubung, dipantau"
		}
	} else {
		row.Lasted = bahasa.ShortDuration(i.Until.Sub(i.Since))
		row.Ended = bahasa.Moment(i.Until.In(local.Location()), local)
	}
	row.Cause, row.Verdict = causeOf(i)
	return row
}

// incidentLook is how an incident is marked: as the worst of its villages.
func incidentLook(i *incident.Incident) look {
	l := look{Class: "is-down", Shape: "s-down", Word: "Putus"}
	switch {
	case !i.Open():
		l = look{Class: "is-up", Shape: "s-up", Word: "Pulih"}
	case i.Kind == incident.Ours:
		l = look{Class: "is-unknown", Shape: "s-fault", Word: "Pemantauan"}
	case i.Unstable:
		l = look{Class: "is-degraded", Shape: "s-degraded", Word: "Tidak stabil"}
	case i.Silent() == 0:
		l = look{Class: "is-up", Shape: "s-up", Word: "Terhubung"}
	case i.Kind != incident.Outage:
		l = look{Class: "is-degraded", Shape: "s-degraded", Word: "Menurun"}
	}
	return l
}

// whatOf counts the villages of an incident, or names the only one.
func whatOf(i *incident.Incident) string {
	vs := i.Villages()
	switch len(vs) {
	case 0:
		return "Pemantauan kami sendiri"
	case 1:
		return villageWord(vs[0].Code) + " " + vs[0].Name
	}
	return bahasa.Count(len(vs)) + " " + villageNoun(vs)
}

func villageNoun(vs []incident.Village) string {
	kinds := map[inventory.Kind]bool{}
	for _, v := range vs {
		kinds[inventory.KindOf(v.Code)] = true
	}
	if len(kinds) == 1 {
		return strings.ToLower(kindWord(inventory.KindOf(vs[0].Code)))
	}
	return "desa/kelurahan"
}

func villageWord(code string) string { return kindWord(inventory.KindOf(code)) }

// placeText says where it broke, as far as is known: words, then the node.
func placeText(p incident.Place) (words, node string) {
	switch {
	case p.Node == "":
		return "belum diketahui", ""
	case p.Separable:
		return "", string(p.Node)
	case p.Drop:
		return "di bawah ", string(p.Node)
	}
	return "pada atau di bawah ", string(p.Node)
}

// causeOf words a cause and how sure it is.
func causeOf(i *incident.Incident) (cause, verdict string) {
	if i.Cause != "" {
		return causeWords(i.Cause, i.Place.Type), "penyebab akhir"
	}
	if !i.Open() {
		return causeWords(i.Guess, i.Place.Type), "dugaan; catatan alat belum diterima"
	}
	return causeWords(i.Guess, i.Place.Type), "dugaan"
}

func causeWords(c incident.Cause, at inventory.NodeType) string {
	switch c {
	case incident.CausePower:
		return "listrik padam"
	case incident.CausePremises:
		return "ONT tanpa daya atau kabelnya lepas"
	case incident.CauseDropCable:
		return "kabel drop putus"
	case incident.CauseODPOrFeeder:
		if at == inventory.NodeODC {
			return "ODC atau kabel feeder putus"
		}
		return "ODP atau kabel feeder putus"
	case incident.CauseOLT:
		return "OLT tidak meneruskan"
	case incident.CauseUpstream:
		return "jalur di atas OLT putus"
	case incident.CauseTarget:
		return "server ukur kami"
	case incident.CauseProbe:
		return "alat ukur bermasalah"
	case incident.CauseCollector:
		return "server Pantau Desa"
	}
	return "belum diketahui"
}

func (p *pages) incidentPage(inv *inventory.Inventory, i *incident.Incident) incidentPage {
	zone := inv.Location(i.Regency)
	now := p.Now().In(zone)
	at := func(t time.Time) string { return bahasa.Moment(t.In(zone), now) }
	x := incidentPage{frame: p.frame(now), ID: string(i.ID), look: incidentLook(i)}
	x.Refresh = "/gangguan/" + x.ID
	verb := "putus"
	if i.Kind == incident.Quality {
		verb = "menurun"
	} else if i.Kind == incident.Ours {
		verb = "tidak terpantau"
	}
	what := whatOf(i)
	switch {
	case i.Open() && i.Silent() > 0, i.Kind == incident.Ours && i.Open():
		x.Heading = fmt.Sprintf("%s %s sejak %s %s", what, verb, at(i.Since), bahasa.Zone(now))
	case i.MergedInto != "":
		x.Heading = fmt.Sprintf("%s: bagian dari %s", what, i.MergedInto)
	case i.Open():
		x.Heading = fmt.Sprintf("%s terhubung kembali %s %s", what, at(i.Until), bahasa.Zone(now))
	default:
		x.Heading = fmt.Sprintf("%s pulih setelah %s", what, bahasa.Duration(i.Until.Sub(i.Since)))
	}
	x.Title = x.Heading
	if region, ok := inv.Regency(i.Regency); ok {
		x.Sub = regencyFull(region)
	}
	cause, verdict := causeOf(i)
	x.Banner, x.Detail = finding(i, cause, verdict)
	x.Facts = incidentFacts(inv, i, at, now)
	x.Villages, x.HasPeople = affectedBy(inv, i, at, now)
	x.Path = pathOf(inv, i)
	for _, f := range i.Evidence {
		if s := evidenceWords(f); s != "" && !slices.Contains(x.Evidence, s) {
			x.Evidence = append(x.Evidence, s)
		}
	}
	x.Doubts = doubtsOf(i)
	for _, e := range i.Timeline {
		x.Timeline = append(x.Timeline, step{bahasa.Short(e.At.In(zone)), stepWords(e, i)})
	}
	return x
}

// finding is the sentence under the heading.
func finding(i *incident.Incident, cause, verdict string) (bold, rest string) {
	bold = "Dugaan: " + cause + "."
	if verdict == "penyebab akhir" {
		bold = "Penyebab akhir: " + cause + "."
		if i.Guess != i.Cause {
			rest = "Dugaan pertama: " + causeWords(i.Guess, i.Place.Type) + "."
		}
		return bold, rest
	}
	if i.Open() {
		return bold, "Penyebab akhir baru pasti setelah jalur pulih, karena alat di desa tetap mengukur dan menyimpan hasilnya."
	}
	return bold, "Catatan alat di desa belum diterima; penyebab akhir menyusul di halaman ini."
}

func incidentFacts(inv *inventory.Inventory, i *incident.Incident, at func(time.Time) string, now time.Time) []fact {
	zone := " " + bahasa.Zone(now)
	facts := []fact{{Name: "Nomor gangguan", Text: string(i.ID), Code: true}, {Name: "Sejak", Text: at(i.Since) + zone},
		{Name: "Dipastikan", Text: at(i.OpenedAt) + zone}}
	switch {
	case !i.RecoveredAt.IsZero():
		facts = append(facts, fact{Name: "Terhubung kembali", Text: at(i.Until) + zone}, fact{Name: "Dinyatakan pulih", Text: at(i.RecoveredAt) + zone},
			fact{Name: "Lama", Text: bahasa.Duration(i.Until.Sub(i.Since))})
	case i.Open():
		facts = append(facts, fact{Name: "Lama sampai sekarang", Text: bahasa.Duration(now.Sub(i.Since))})
	}
	if i.Kind != incident.Ours {
		words, node := placeText(i.Place)
		facts = append(facts, fact{Name: "Letak", Words: words, Text: node, Code: true})
	}
	var providers []string
	for _, s := range i.Sites {
		if s.ISPName != "" && !slices.Contains(providers, s.ISPName) {
			providers = append(providers, s.ISPName)
		}
	}
	if len(providers) > 0 {
		facts = append(facts, fact{Name: "Penyedia", Text: strings.Join(providers, ", ")})
	}
	if n := i.Population(); n != nil {
		facts = append(facts, fact{Name: "Penduduk", Text: bahasa.Count(*n) + " jiwa"})
	} else if len(i.Sites) > 0 {
		facts = append(facts, fact{Name: "Penduduk", Text: "belum diketahui"})
	}
	if i.MergedInto != "" {
		facts = append(facts, fact{Name: "Digabung ke", Text: string(i.MergedInto), Code: true})
	}
	return facts
}

func affectedBy(inv *inventory.Inventory, i *incident.Incident, at func(time.Time) string, now time.Time) (out []affected, people bool) {
	causes := map[string]incident.Cause{}
	for _, s := range i.Sites {
		causes[s.Village] = cmp.Or(causes[s.Village], s.Cause)
	}
	for _, v := range i.Villages() {
		a := affected{Name: v.Name, Code: v.Code, Href: "/desa/" + v.Code, Since: at(v.Since), People: "belum diketahui"}
		a.look = look{Class: "is-down", Shape: "s-down", Word: "Putus"}
		if i.Kind != incident.Outage {
			a.look = look{Class: "is-degraded", Shape: "s-degraded", Word: "Menurun"}
		}
		end := now
		if !v.Until.IsZero() {
			a.look = look{Class: "is-up", Shape: "s-up", Word: "Terhubung"}
			a.Until, end = at(v.Until), v.Until
		}
		a.Lasted = bahasa.ShortDuration(end.Sub(v.Since))
		if v.Population != nil {
			a.People, people = bahasa.Count(*v.Population), true
		}
		if d, ok := inv.VillageAt(v.Code, i.Since); ok {
			a.District = d.District.Name
		}
		if c := causes[v.Code]; c != "" {
			a.Cause = causeWords(c, i.Place.Type)
		}
		out = append(out, a)
	}
	return out, people
}

func pathOf(inv *inventory.Inventory, i *incident.Incident) []pathNode {
	if i.Place.Node == "" {
		return nil
	}
	var out []pathNode
	for _, n := range inv.Path(i.Place.Node, i.Since) {
		x := pathNode{Type: strings.ToUpper(string(n.Type)), ID: string(n.ID), Here: n.ID == i.Place.Node}
		if n.Name != x.ID {
			x.Name = n.Name
		}
		out = append(out, x)
	}
	if len(out) > 1 && out[0].Here { // the room lists from below
		slices.Reverse(out)
	}
	return out
}

func points(n int) string { return bahasa.Count(n) + " titik ukur" }

// evidenceWords says one fact; empty: it says nothing to a reader.
func evidenceWords(f incident.Fact) string {
	switch f.Kind {
	case incident.FellTogether:
		within := "pada saat yang sama"
		if f.Spread >= time.Second {
			within = "dalam " + bahasa.Duration(f.Spread)
		}
		return fmt.Sprintf("%s dari %s di bawah %s berhenti %s.", bahasa.Count(f.Count), points(f.Of), f.Node, within)
	case incident.NeighboursUp:
		return fmt.Sprintf("%s dari %s lain di bawah %s tetap terdengar.", bahasa.Count(f.Count), points(f.Of), f.Node)
	case incident.NeighbourFailing:
		return fmt.Sprintf("%s di dekatnya terdengar, tetapi tidak menjangkau apa pun.", points(f.Count))
	case incident.OtherNetworks:
		return fmt.Sprintf("%s pada jaringan lain di kecamatan yang sama berhenti pada menit yang sama: tanda listrik padam.", points(f.Count))
	case incident.CarrierLost:
		return fmt.Sprintf("Pada kabar terakhir, kabel ke ONT mati di %s.", points(f.Count))
	case incident.LANGatewayLost:
		return fmt.Sprintf("Pada kabar terakhir, router atau ONT tidak menjawab di %s.", points(f.Count))
	case incident.FirstHopLost:
		return fmt.Sprintf("Pada kabar terakhir, titik pertama penyedia tidak menjawab di %s.", points(f.Count))
	case incident.BeyondLost:
		return fmt.Sprintf("Pada kabar terakhir, tidak ada yang menjawab di luar jaringan penyedia di %s.", points(f.Count))
	case incident.FirstHopAnswered:
		return fmt.Sprintf("Titik pertama penyedia masih menjawab di %s.", points(f.Count))
	case incident.ProbeAiling:
		return fmt.Sprintf("%s sudah melaporkan masalah pada alatnya sendiri.", points(f.Count))
	case incident.Alone:
		return "Hanya diamnya satu titik ukur ini yang diketahui."
	case incident.UplinkWorks:
		return "Jalur server Pantau Desa sendiri normal."
	case incident.UplinkFails:
		return "Jalur server Pantau Desa sendiri putus: keadaan desa tidak diketahui."
	case incident.UplinkUnknown:
		return "Jalur server Pantau Desa sendiri belum dapat diperiksa."
	case incident.Stalled:
		return "Server Pantau Desa sempat berhenti bekerja."
	}
	return ""
}

func doubtsOf(i *incident.Incident) []string {
	var out []string
	if i.Kind == incident.Ours {
		return []string{"Keadaan desa selama itu tidak diketahui sampai catatan alatnya diterima."}
	}
	if !i.Place.Separable && i.Place.Node != "" {
		words, node := placeText(i.Place)
		out = append(out, "Letaknya "+words+node+"; titik ukur yang ada belum dapat memisahkannya lebih jauh.")
	}
	if i.Cause == "" {
		have := 0
		for _, s := range i.Sites {
			if s.Record != nil {
				have++
			}
		}
		if i.Open() && i.Silent() > 0 && i.Guess != incident.CausePower {
			out = append(out, "Listrik padam serentak belum dapat dikesampingkan.")
		}
		out = append(out, fmt.Sprintf("Catatan alat diterima dari %s dari %s.", bahasa.Count(have), points(len(i.Sites))))
	}
	return out
}

func stepWords(e incident.Entry, i *incident.Incident) string {
	switch e.Step {
	case incident.StepFell:
		return "Kabar terakhir dari titik ukur pertama."
	case incident.StepOpened:
		return fmt.Sprintf("Dipastikan: %s diam.", points(e.Sites))
	case incident.StepWidened:
		return fmt.Sprintf("Meluas: %s diam.", points(e.Sites))
	case incident.StepNarrowed:
		return fmt.Sprintf("Sebagian pulih: %s masih diam.", points(e.Sites))
	case incident.StepReturning:
		return "Titik ukur pertama terdengar lagi."
	case incident.StepAllBack:
		return "Semua titik ukur terdengar lagi."
	case incident.StepUnstable:
		return "Tidak stabil: berulang kali putus dan terhubung."
	case incident.StepRecovered:
		return "Dinyatakan pulih."
	case incident.StepMerged:
		return "Digabung ke gangguan lain."
	case incident.StepCauseKnown:
		return "Penyebab akhir: " + causeWords(e.Cause, i.Place.Type) + "."
	}
	return string(e.Step)
}

package mail

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// Digest is a week of a regency, and its state on the morning after.
type Digest struct {
	Envelope
	First, Last time.Time // the first and the last day of the week, local
	At          time.Time // when States held
	Districts   int
	States      States
	Faulty      []Place // boxes at fault
	Unseen      []Place // installed, never heard of
	Cut         []Place // down now

	Incidents []Past // of the week, in the order to be shown
	Affected  int    // villages that had an outage, each counted once
	// Booked is how the week's outages are booked, in village minutes; nil if that
	// is not known yet.
	Booked *Minutes

	Availability     Bounds
	Download, Upload Estimate
	Coverage         float64 // ratio of the planned tests that were made; NaN if not known
	Watch            []DistrictSpeed
	Report           time.Time // when the month's audit appears; zero if not planned
}

// States counts villages by state.
type States struct {
	Up, Degraded, Down, ProbeFault, NeverSeen, NoCoverage, Maintenance int
}

func (s States) unknown() int { return s.ProbeFault + s.NeverSeen }

func (s States) all() int {
	return s.Up + s.Degraded + s.Down + s.unknown() + s.NoCoverage + s.Maintenance
}

// Place is a village by name.
type Place struct{ Name, District string }

// Past is an incident of the week.
type Past struct {
	ID        string
	Kind      Kind
	Since     time.Time
	Lasted    time.Duration
	Ongoing   bool
	District  string // empty: in several, Districts of them
	Districts int
	Villages  int
	Cause     Cause
	At        inventory.NodeType // where it broke
}

// Estimate is a median in bits per second, with its interval. N 0: not enough data.
type Estimate struct {
	Value, Low, High float64
	N, Villages      int
}

func (e Estimate) known() bool { return e.N > 0 && known(e.Value) }

// DistrictSpeed compares the download medians of two weeks. Changed says that
// the difference is more than chance.
type DistrictSpeed struct {
	Name        string
	Now, Before Estimate
	Changed     bool
}

// change is the relative change, NaN if not known.
func (s DistrictSpeed) change() float64 {
	if !s.Now.known() || !s.Before.known() || s.Before.Value <= 0 {
		return math.NaN()
	}
	return s.Now.Value/s.Before.Value - 1
}

// Render draws the mail.
func (g Digest) Render() (Message, error) { return g.document().message() }

func (g Digest) document() *document {
	v := g.voice()
	outages := 0
	for _, p := range g.Incidents {
		if p.Kind != UsePeak {
			outages++
		}
	}
	week := v.say("tidak ada gangguan", "no incident")
	if outages > 0 {
		week = v.plural(outages, "gangguan", "incident", "incidents") + ", " + v.plural(g.Affected, "desa", "village", "villages")
	}
	all := g.States.all()
	normal := v.sayf("%s dari %s desa normal", "%s of %s villages normal", v.count(g.States.Up), v.count(all))
	short := strings.TrimPrefix(g.Region.Name, "Kabupaten ")
	span := v.days(g.First, g.Last)
	d := &document{
		subject: fit([2]string{v.sayf("[Ringkasan pekan] %s: %s", "[Weekly summary] %s: %s", short, week), v.sayf("; kini %s, %s", "; now %s, %s", normal, span)},
			[2]string{v.sayf("[Ringkasan pekan] %s: %s", "[Weekly] %s: %s", short, week), v.sayf("; kini %s, %s", "; now %s, %s", normal, span)}),
		tag:     tag{up, v.say("RINGKASAN PEKAN", "WEEKLY SUMMARY")},
		tagNote: span,
	}
	if g.States.Down > 0 {
		d.tag.tone = down
	}
	first := v.say("Pekan lalu tidak ada gangguan.", "No incident last week.")
	if outages > 0 {
		first = v.sayf("Pekan lalu %s di %s.", "Last week: %s in %s.", v.plural(outages, "gangguan", "incident", "incidents"), v.plural(g.Affected, "desa", "village", "villages"))
	}
	cut := v.say("tidak ada desa putus", "no village is cut off")
	if g.States.Down > 0 {
		cut = v.plural(g.States.Down, "desa putus", "village is cut off", "villages are cut off")
	}
	unknown := ""
	if n := g.States.unknown(); n > 0 {
		unknown = v.sayf(", %s tidak diketahui", ", %s unknown", v.count(n))
	}
	d.headline = []string{first, v.say("Kini ", "Now ") + cut + "; " + normal + unknown + "."}
	d.preheader = v.digestPreheader(g)
	d.blocks = []block{v.states(g), v.tasks(g), v.open(g.Envelope, v.say("Buka dasbor", "Open the dashboard")), v.week(g), v.figures(g), v.watch(g)}
	d.footer = lines(v.say("Ringkasan ini dikirim tiap pekan.", "This summary is sent every week."))
	if !g.Report.IsZero() {
		d.footer = append(d.footer, ln(v.sayf("Laporan audit bulan %s terbit %s.", "The audit report of %s appears on %s.", v.month(g.Report.In(v.zone).AddDate(0, 0, -g.Report.In(v.zone).Day())), v.date(g.Report))))
	}
	v.dress(d, g.Envelope)
	return d
}

func (v voice) digestPreheader(g Digest) string {
	speed := v.say("data belum cukup", "not enough data")
	if g.Download.known() {
		speed = v.mbps(g.Download.Value, 2) + " Mbps"
	}
	return v.say("Unduh, median: ", "Download, median: ") + speed + v.say(". Ketersediaan: ", ". Availability: ") + v.bounds(g.Availability) + "."
}

func (v voice) states(g Digest) block {
	rows := []struct {
		tone  tone
		label string
		n     int
		quiet bool // left out when nobody is in it
	}{
		{up, "Normal", g.States.Up, false},
		{degraded, v.say("Menurun", "Degraded"), g.States.Degraded, false},
		{down, v.say("Putus", "Cut off"), g.States.Down, false},
		{unknown, v.say("Tidak diketahui", "Unknown"), g.States.unknown(), false},
		{nowhere, v.say("Tanpa jangkauan", "No coverage"), g.States.NoCoverage, false},
		{nowhere, v.say("Pemeliharaan", "Maintenance"), g.States.Maintenance, true},
	}
	b := block{}
	for _, r := range rows {
		if r.quiet && r.n == 0 {
			continue
		}
		b.Facts = append(b.Facts, fact{Label: r.label, Tone: r.tone, Value: ln(bold(v.count(r.n)))})
	}
	b.Note = ln(v.sayf("Keadaan %s, %s desa/kelurahan di %s.", "State on %s, %s villages in %s.", v.full(g.At), v.count(g.States.all()), v.plural(g.Districts, "kecamatan", "district", "districts")))
	return b
}

// places names the first few and counts the rest.
func (v voice) places(list []Place) string {
	const most = 6
	var names []string
	for _, p := range list[:min(len(list), most)] {
		s := p.Name
		if p.District != "" {
			s += " (" + p.District + ")"
		}
		names = append(names, s)
	}
	if rest := len(list) - most; rest > 0 {
		return strings.Join(names, ", ") + v.say(", dan ", ", and ") + v.count(rest) + v.say(" lain", " more")
	}
	return strings.Join(names, ", ")
}

func (v voice) tasks(g Digest) block {
	var steps []line
	add := func(list []Place, what, then string) {
		if len(list) > 0 {
			steps = append(steps, ln(bold(v.count(len(list))+" "+what), ": "+v.places(list)+". "+then))
		}
	}
	add(g.Cut, v.say("desa putus", "cut off"), v.say("Lihat gangguannya di dasbor.", "See the incident on the dashboard."))
	add(g.Faulty, v.say("alat bermasalah", "measuring boxes at fault"), v.say("Minta operator desa memeriksa alat.", "Have the village operator check the box."))
	add(g.Unseen, v.say("desa belum terpantau", "never heard of"), v.say("Alat terpasang, belum pernah mengirim kabar.", "The box is installed and has never reported."))
	slower := g.slower()
	for _, s := range slower[:min(len(slower), 4)] {
		steps = append(steps, ln(bold(s.Name), v.sayf(": kecepatan turun %s dari pekan sebelumnya. Tanyakan rencana penambahan kapasitas kepada penyedia.",
			": speed fell by %s against the week before. Ask the provider when capacity will be added.", v.percent(-s.change(), 0))))
	}
	if len(steps) == 0 {
		steps = lines(v.say("Tidak ada yang mendesak.", "Nothing urgent."))
	}
	return block{Do: &do{Heading: v.say("Yang perlu dikerjakan pekan ini", "To do this week"), Steps: steps}}
}

func (g Digest) slower() []DistrictSpeed {
	return slices.DeleteFunc(slices.Clone(g.Watch), func(s DistrictSpeed) bool { return !s.Changed || !(s.change() < 0) })
}

func (v voice) week(g Digest) block {
	b := block{Heading: v.say("Kejadian pekan lalu", "Last week's events")}
	if len(g.Incidents) == 0 {
		b.Text = ln(v.say("Tidak ada kejadian.", "None."))
		return b
	}
	rest := func(n int) string {
		return v.sayf("%s kejadian lain ada di dasbor.", "%s more are on the dashboard.", v.count(n))
	}
	t := &table{Rest: rest, Columns: []column{{Label: v.say("Mulai", "Began")}, {Label: v.say("nomor", "number"), Under: true}, {Label: v.say("Kecamatan", "District")}, {Label: v.say("desa", "villages"), Under: true},
		{Label: v.say("Lama", "Duration")}, {Label: v.say("Penyebab", "Cause")}}}
	for _, p := range g.Incidents {
		length := v.shortDuration(p.Lasted)
		if p.Ongoing {
			length = v.say("berlangsung", "ongoing")
		}
		what := upperFirst(v.cause(p.Cause, p.At).brief)
		if p.Kind != Outage {
			what = v.kind(p.Kind).word
		}
		where := p.District
		if where == "" {
			where = v.plural(p.Districts, "kecamatan", "district", "districts")
		}
		t.Rows = append(t.Rows, []cell{text(v.weekday(p.Since)), {Text: ln(span{Text: p.ID, Keep: true})}, text(where), text(v.plural(p.Villages, "desa", "village", "villages")), text(length), text(what)})
	}
	b.Table = t
	var note []string
	if g.Booked != nil {
		note = append(note, v.sayf("Penyedia: %s menit-desa. Tidak dibebankan kepada penyedia: %s. Tidak diketahui: %s.",
			"Provider: %s village minutes. Not booked to the provider: %s. Unknown: %s.", v.minutes(g.Booked.Provider), v.minutes(g.Booked.Elsewhere), v.minutes(g.Booked.Unknown)))
	} else {
		note = append(note, v.say("Pembebanan kepada penyedia belum dihitung.", "What is booked to the provider is not computed yet."))
	}
	b.Note = ln(strings.Join(note, " "))
	return b
}

func (v voice) estimate(e Estimate) (value, note line) {
	if !e.known() {
		return ln(v.say("data belum cukup", "not enough data")), nil
	}
	value = ln(bold(v.mbps(e.Value, 2) + " Mbps"))
	if known(e.Low) && known(e.High) {
		value = append(value, ln(" ("+v.between(v.mbps(e.Low, 2), v.mbps(e.High, 2))+")")...)
	}
	return value, ln(v.sayf("n = %s uji di %s", "n = %s tests in %s", v.count(e.N), v.plural(e.Villages, "desa", "village", "villages")))
}

func (v voice) figures(g Digest) block {
	down, downNote := v.estimate(g.Download)
	upward, upNote := v.estimate(g.Upload)
	available := fact{Label: v.say("Ketersediaan", "Availability"), Value: ln(v.bounds(g.Availability))}
	if a := g.Availability; a.Known && known(a.Low) && known(a.High) {
		available.Value = ln(bold(v.between(v.percent(a.Low, 2), v.percent(a.High, 2))))
		if a.High > a.Low {
			available.Note = ln(v.sayf("rentang karena %s waktu tidak diketahui", "a range because %s of the time is unknown", v.percent(a.High-a.Low, 2)))
		}
	}
	coverage := v.say("data belum cukup", "not enough data")
	if known(g.Coverage) {
		coverage = v.percent(g.Coverage, 1) + v.say(" dari uji yang direncanakan", " of the planned tests")
	}
	return block{Heading: v.say("Angka pekan lalu", "Last week's figures"), Facts: []fact{available,
		{Label: v.say("Unduh, median", "Download, median"), Value: down, Note: downNote},
		{Label: v.say("Unggah, median", "Upload, median"), Value: upward, Note: upNote},
		{Label: v.say("Cakupan ukur", "Coverage"), Value: ln(coverage)}}}
}

func (v voice) watch(g Digest) block {
	if len(g.Watch) == 0 {
		return block{}
	}
	t := &table{Columns: []column{{Label: v.say("Kecamatan", "District")}, {Label: v.say("perubahan", "change"), Under: true}, {Label: v.say("Unduh, median", "Download, median"), Right: true},
		{Label: v.say("Pekan sebelumnya", "Week before"), Right: true}, {Label: "n", Right: true}}}
	speed := func(e Estimate) string {
		if !e.known() {
			return v.say("data belum cukup", "not enough data")
		}
		return v.mbps(e.Value, 1) + " Mbps"
	}
	for _, s := range g.Watch[:min(len(g.Watch), 26)] {
		mark, word := tone(""), v.say("wajar", "within chance")
		switch c := s.change(); {
		case !known(c):
			word = v.say("data belum cukup", "not enough data")
		case s.Changed && c < 0:
			mark, word = degraded, v.say("turun ", "down ")+v.percent(-c, 0)
		case s.Changed:
			mark, word = up, v.say("naik ", "up ")+v.percent(c, 0)
		}
		t.Rows = append(t.Rows, []cell{{Tone: mark, Text: ln(s.Name)}, text(word), text(speed(s.Now)), text(speed(s.Before)), text(v.count(s.Now.N))})
	}
	return block{Heading: v.say("Kecamatan yang perlu diperhatikan", "Districts to watch"), Table: t, Note: ln(v.say("\"Wajar\": perubahan dalam batas kebetulan.", "\"Within chance\": the change may be accidental."))}
}

package mail

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Render draws the mail of an incident's event.
func (i Incident) Render() (Message, error) {
	switch i.Event {
	case Opened, Widened, Recovered, Unstable:
		return i.document().message()
	}
	return Message{}, fmt.Errorf("mail: no such event of an incident: %q", i.Event)
}

func (i Incident) document() *document {
	w := incidentWriter{voice: i.voice(), i: i, guess: i.Suspected, final: i.Final}
	// A cause without evidence is none.
	if len(i.Evidence) == 0 {
		w.guess, w.final = Unknown, Unknown
	}
	if i.Event == Recovered {
		w.guess = i.Suspected // what was said then, was said with its evidence
	}
	if i.Pending {
		w.final = Unknown
	}
	if n := len(i.Path); n > 0 {
		w.where = i.Path[n-1]
	}
	w.k = w.voice.kind(i.Kind)
	if i.Event == Unstable {
		w.k.tone, w.k.state = degraded, w.say("tidak stabil", "unstable")
	}
	var d *document
	switch i.Event {
	case Widened:
		d = w.widened()
	case Recovered:
		d = w.recovered()
	case Unstable:
		d = w.unstable()
	default:
		d = w.opened()
	}
	w.dress(d, i.Envelope)
	return d
}

type incidentWriter struct {
	voice
	i            Incident
	k            kind
	guess, final Cause
	where        Node
}

// dress adds what every mail has: language, region, mark of a simulation, footer.
func (v voice) dress(d *document, e Envelope) {
	d.lang = string(Indonesian)
	if v.english {
		d.lang = string(English)
	}
	d.region = e.Region.Name
	if e.Region.Code != "" {
		d.region += " (" + e.Region.Code + ")"
	}
	invented := v.say("Kejadian dan angka di email ini rekaan, untuk latihan atau uji. Tidak perlu bertindak.",
		"The events and figures in this mail are invented, for practice or a test. There is nothing to do.")
	if e.Simulation {
		word := v.say("SIMULASI", "SIMULATION")
		d.subject = strings.Replace(d.subject, "[", "["+word+" ", 1)
		d.preheader = word + ". " + d.preheader
		d.simulation = ln(bold(word+"."), " "+invented)
	}
	sent := ln(v.say("Dikirim ", "Sent ") + v.full(e.SentAt))
	if e.Recipient != "" {
		sent = ln(sent, v.say(" kepada ", " to ")+e.Recipient)
	}
	d.footer = append([]line{append(sent, ln(v.sayf(", penerima kabar untuk %s.", ", who receives the news of %s.", d.region))...)}, d.footer...)
	if page := safePage(e.Recipients); page != "" {
		d.footer = append(d.footer, ln(v.say("Terlalu banyak atau salah alamat? Atur penerima: ", "Too many, or not for you? Manage recipients: "), span{Text: page, Link: page}))
	}
	if e.Simulation {
		d.footer = append(d.footer, ln(invented))
	}
}

// open is the button to the page, if there is one.
func (v voice) open(e Envelope, label string) block {
	if page := safePage(e.Page); page != "" {
		return block{Button: &button{label, page}}
	}
	return block{}
}

// subject puts together what, where, state, and what follows; the first three
// fit a telephone's list, in the order that does.
func (w incidentWriter) subject(tag, state, rest string) string {
	which, where := w.brief(w.i.Villages, w.i.Region)
	in := ""
	if where != "" {
		in = w.say(" di ", " in ") + where
	}
	first := fmt.Sprintf("[%s] %s", tag, which)
	if len(w.i.Villages) == 1 && in != "" {
		return first + " " + state + " (" + where + ")" + rest
	}
	return fit([2]string{first + in + " " + state, rest}, [2]string{first + " " + state + in, rest})
}

// suspicion is the guess as the end of a subject.
func (w incidentWriter) suspicion() string {
	if w.i.Rule {
		return ""
	}
	if !w.guess.known() {
		return w.say(", penyebab belum diketahui", ", cause not known yet")
	}
	return w.say(", dugaan: ", ", suspected: ") + w.cause(w.guess, w.where.Type).brief
}

// guessed is the guess as a sentence.
func (w incidentWriter) guessed() string {
	if w.i.Rule {
		return w.say("Tidak ada yang putus.", "None is cut off.")
	}
	if !w.guess.known() {
		return w.say("Penyebab belum diketahui.", "The cause is not known yet.")
	}
	return w.say("Dugaan: ", "Suspected: ") + w.cause(w.guess, w.where.Type).full + "."
}

func (w incidentWriter) since() string { return w.zoned(w.i.Since) }

func (w incidentWriter) has() string {
	if len(w.i.Villages) == 1 {
		return "has"
	}
	return "have"
}

func (w incidentWriter) is() string {
	if len(w.i.Villages) == 1 {
		return "is"
	}
	return "are"
}

// which is the heading above the villages.
func (w incidentWriter) which() string {
	if w.i.Kind == UsePeak {
		return w.sayf("Desa %s", "Villages %s", w.k.state)
	}
	return w.sayf("Desa yang %s", "Villages that are %s", w.k.state)
}

// well is how villages are that recovered.
func (w incidentWriter) well() string {
	return w.say(w.thing("pulih", "kembali biasa"), w.thing("back", "usual again"))
}

func (w incidentWriter) first() string {
	if w.i.Rule {
		return w.say("email pertama", "first mail")
	}
	return w.say("email pertama, penyebab masih dugaan", "first mail, the cause is a guess")
}

func (w incidentWriter) again() string {
	if w.i.Rule {
		return w.say("kabar yang sama, kini lebih luas", "the same news, now wider")
	}
	return w.say("gangguan yang sama, penyebab masih dugaan", "the same incident, the cause is a guess")
}

// why is the heading above the evidence of what is going on.
func (w incidentWriter) why() string {
	if w.i.Rule {
		return w.say("Mengapa ini dilaporkan", "Why this is reported")
	}
	return w.say("Mengapa kami menduga ini", "Why we suspect this")
}

func (w incidentWriter) opened() *document {
	i := w.i
	d := &document{
		subject: w.subject(w.k.word, w.k.state, w.say(" sejak ", " since ")+w.since()+w.suspicion()),
		tag:     tag{w.k.tone, strings.ToUpper(w.k.word)},
		tagNote: w.first(),
		headline: []string{w.sayf("%[1]s %[2]s sejak %[3]s.", "%[1]s %[4]s been %[2]s since %[3]s.",
			w.who(i.Villages, i.Region), w.k.state, w.since(), w.has()), w.guessed()},
	}
	d.preheader = w.advice()
	d.blocks = []block{w.facts(), w.todo(), w.page(), w.affected(w.which()), w.tree(),
		w.reasons(w.why()), w.doubts()}
	d.footer = lines(w.say("Email berikutnya: satu saat pulih, atau satu bila "+w.thing("gangguan ", "")+"meluas.", "Next mail: one on recovery, or one if it widens."))
	return d
}

func (w incidentWriter) widened() *document {
	i := w.i
	before := w.plural(i.Before, "desa", "village", "villages")
	d := &document{
		subject: w.subject(w.say("Meluas", "Widened"), w.k.state, w.sayf(", semula %s, sejak %s%s", ", %s before, since %s%s", before, w.since(), w.suspicion())),
		tag:     tag{w.k.tone, w.say("MELUAS", "WIDENED")},
		tagNote: w.again(),
		headline: []string{w.sayf(w.thing("Gangguan meluas", "Meluas")+": kini %[1]s %[2]s, semula %[3]s.", w.thing("The incident widened", "Widened")+": now %[1]s %[4]s %[2]s, %[3]s before.",
			strings.TrimSuffix(w.who(i.Villages, i.Region), ","), w.k.state, before, w.is()), w.guessed()},
	}
	d.preheader = w.advice()
	facts := w.facts()
	var added []string
	for _, x := range i.Villages {
		if x.New {
			added = append(added, x.Name)
		}
	}
	more := fact{Label: w.say("Desa baru", "New"), Value: ln(bold(w.plural(len(added), "desa", "village", "villages")))}
	if n := len(added); n > 0 && n <= 8 {
		more.Value = append(more.Value, ln(": "+w.list(added))...)
	}
	facts.Facts = slices.Insert(facts.Facts, 1, fact{Label: w.say("Meluas", "Widened"), Value: ln(w.full(i.Widened))}, more)
	d.blocks = []block{facts, w.todo(), w.page(), w.affected(w.which()), w.tree(),
		w.reasons(w.why()), w.doubts()}
	d.footer = lines(w.say("Email berikutnya: satu saat pulih, atau satu bila "+w.thing("gangguan ", "")+"meluas lagi.", "Next mail: one on recovery, or one if it widens again."))
	return d
}

func (w incidentWriter) unstable() *document {
	i := w.i
	span := w.duration(i.SentAt.Sub(i.Since))
	times := w.plural(i.Changes, "peralihan", "change", "changes") // as many as were counted
	d := &document{
		subject: w.subject(w.say("Tidak stabil", "Unstable"), w.say("putus-sambung", "on and off"),
			w.sayf(", sedikitnya %s sejak %s", ", at least %s since %s", times, w.since())),
		tag:     tag{degraded, w.say("TIDAK STABIL", "UNSTABLE")},
		tagNote: w.say("satu email saja, sampai tenang", "one mail only, until it calms down"),
		headline: []string{w.sayf("%[1]s tidak stabil: putus-sambung sejak %[2]s.", "%[1]s %[3]s unstable: on and off since %[2]s.",
			w.who(i.Villages, i.Region), w.since(), w.is()), w.guessed()},
	}
	d.preheader = w.sayf("Sedikitnya %s dalam %s. ", "At least %s within %s. ", times, span) + w.advice()
	facts := w.facts()
	facts.Facts = slices.Insert(facts.Facts, 1, fact{Label: w.say("Peralihan", "Changes"),
		Value: ln(w.say("sedikitnya ", "at least "), bold(times), w.sayf(" antara putus dan tersambung, dalam %s", " between cut off and connected, within %s", span))})
	d.blocks = []block{facts, w.todo(), w.page(), w.affected(w.say("Desa yang tidak stabil", "Villages that are unstable")), w.tree(),
		w.reasons(w.say("Mengapa ini dilaporkan", "Why this is reported")), w.doubts()}
	d.footer = lines(w.say("Selama tidak stabil tidak ada email lain untuk gangguan ini. Email berikutnya: satu setelah tenang.",
		"While it is unstable there is no other mail about it. Next mail: one when it has calmed down."))
	return d
}

func (w incidentWriter) recovered() *document {
	i := w.i
	length := w.duration(i.Restored.Sub(i.Since))
	if i.Restored.IsZero() || i.Since.IsZero() {
		length = w.say("waktu yang belum diketahui", "a time not known yet")
	}
	end := w.cause(w.final, w.where.Type)
	causeNote := w.say("email terakhir, penyebab akhir", "last mail, the final cause")
	subjectCause := ": " + end.full
	switch {
	case i.Rule:
		subjectCause, causeNote = "", w.say("email terakhir", "last mail")
	case w.i.Pending || !w.final.known():
		subjectCause = w.say(": penyebab belum pasti", ": cause not certain yet")
		causeNote = w.say("email terakhir, penyebab belum pasti", "last mail, the cause is not certain yet")
	}
	d := &document{
		subject: w.subject(w.say("Pulih", "Recovered"), w.well(), " "+w.zoned(i.Restored)+w.say(" setelah ", " after ")+length+subjectCause),
		tag:     tag{up, w.say("PULIH", "RECOVERED")},
		tagNote: causeNote,
		headline: []string{w.sayf("%[1]s %[5]s pukul %[2]s, setelah %[3]s.", "%[1]s %[4]s %[5]s since %[2]s, after %[3]s.",
			w.who(i.Villages, i.Region), w.zoned(i.Restored), length, w.is(), w.well())},
	}
	var facts []fact
	switch {
	case i.Rule:
		d.preheader = w.say("Tidak ada tindakan.", "Nothing to do.")
	case i.Pending:
		facts = append(facts, fact{Label: w.say("Penyebab akhir", "Final cause"), Value: ln(bold(w.say("belum pasti", "not certain yet"))),
			Note: ln(w.say("Catatan alat di desa belum lengkap. Penyebab akhir akan tampil di halaman gangguan dan ringkasan pekan, tanpa email lagi.",
				"The records of the boxes in the villages are not complete. The final cause will be on the incident's page and in the weekly summary, without another mail."))})
		d.preheader = w.say("Penyebab akhir menunggu catatan alat di desa.", "The final cause waits for the records of the boxes in the villages.")
	case !w.final.known():
		facts = append(facts, fact{Label: w.say("Penyebab akhir", "Final cause"), Value: ln(bold(w.say("tidak diketahui", "unknown")))})
		d.preheader = w.say("Penyebab akhir tidak diketahui.", "The final cause is unknown.")
	default:
		facts = append(facts, fact{Label: w.say("Penyebab akhir", "Final cause"), Value: ln(bold(upperFirst(end.full)), " ("+end.booked+")")})
		d.preheader = w.say("Penyebab akhir: ", "Final cause: ") + end.booked + "."
	}
	if !i.Rule {
		facts = append(facts, fact{Label: w.say("Dugaan awal", "First guess"), Value: w.firstGuess()})
	}
	spanned := ln(bold(length))
	if !i.Since.IsZero() && !i.Restored.IsZero() {
		spanned = ln(bold(length), ", "+w.between(w.full(i.Since), w.until(i.Since, i.Restored)))
	}
	facts = append(facts, fact{Label: w.say("Lama", "Duration"), Value: spanned},
		fact{Label: w.say("Terdampak", "Affected"), Value: ln(w.villages(i.Villages) + ", " + w.people(i.Villages))})
	if i.Provider != "" {
		facts = append(facts, fact{Label: w.say("Penyedia", "Provider"), Value: ln(i.Provider)})
	}
	facts = append(facts, fact{Label: w.say(w.thing("Nomor gangguan", "Nomor"), w.thing("Incident", "Number")), Value: ln(name(i.ID))})

	var steps []line
	month := w.month(i.Since)
	switch {
	case i.Rule:
		steps = lines(w.say("Tidak ada tindakan.", "Nothing to do."))
	case i.Pending || !w.final.known():
		steps = lines(w.say("Tidak ada tindakan mendesak.", "Nothing urgent to do."),
			w.say("Simpan nomor tiket penyedia sampai penyebab akhir tampil.", "Keep the provider's ticket number until the final cause is shown."))
	case w.final.provider():
		steps = lines(w.say("Tidak ada tindakan mendesak.", "Nothing urgent to do."),
			w.sayf("Tutup tiket penyedia, lalu minta keterangan perbaikan untuk berita acara bulan %s.",
				"Close the provider's ticket and ask for a statement of the repair for the minutes of %s.", month))
	case w.final == Premises:
		steps = lines(w.say("Minta operator desa merapikan daya dan kabel ONT agar tidak terulang.", "Have the village operator secure the power and the cables of the ONT."))
	default:
		steps = lines(w.say("Tidak ada tindakan. Bila ada tiket pada penyedia, tutup tiket itu.", "Nothing to do. If there is a ticket with the provider, close it."))
	}
	d.blocks = append([]block{{Facts: facts}, {Do: &do{Heading: w.say("Yang perlu dilakukan", "What to do"), Steps: steps}}, w.page()}, w.booked()...)
	d.blocks = append(d.blocks, w.reasons(w.proof()), w.doubts(), w.timeline())
	d.footer = lines(w.say(w.thing("Ini email terakhir untuk gangguan ini.", "Ini email terakhir untuk kabar ini."), w.thing("This is the last mail about this incident.", "This is the last mail about this.")))
	return d
}

// thing picks the text about an incident, or the one about what a rule found.
func (w incidentWriter) thing(incident, rule string) string {
	if w.i.Rule {
		return rule
	}
	return incident
}

func (w incidentWriter) proof() string {
	if w.i.Rule {
		return w.say("Yang dilaporkan sebelumnya", "What was reported before")
	}
	return w.say("Bukti penyebab", "Evidence of the cause")
}

// until leaves out the day that from and to share.
func (w incidentWriter) until(from, to time.Time) string {
	a, b := from.In(w.zone), to.In(w.zone)
	if a.Year() == b.Year() && a.YearDay() == b.YearDay() {
		return w.clock(to) + " " + w.zoneName(to)
	}
	return w.full(to)
}

func (w incidentWriter) firstGuess() line {
	if !w.i.Suspected.known() {
		return ln(w.say("belum ada", "none"))
	}
	was := upperFirst(w.cause(w.i.Suspected, w.where.Type).brief)
	at := ""
	if w.where.ID != "" {
		at = ", "
	}
	verdict := ""
	switch {
	case w.i.Pending || !w.final.known():
	case w.final == w.i.Suspected:
		was = w.say("Sama: ", "The same: ") + was
	default:
		verdict = w.say("; ternyata keliru", "; it was wrong")
	}
	return ln(was+at, span{Text: w.where.ID, Keep: true}, verdict)
}

// advice is the preheader of a mail that asks for something: who lives there,
// where it broke, whom to call.
func (w incidentWriter) advice() string {
	parts := []string{upperFirst(w.people(w.i.Villages)) + "."}
	if len(w.i.Villages) == 0 {
		parts = nil
	}
	if w.where.ID != "" {
		label := w.say("Letak: ", "Place: ")
		if w.guess.known() {
			label = w.say("Dugaan letak: ", "Suspected place: ")
		}
		parts = append(parts, label+w.where.ID+".")
	}
	steps, _ := w.voice.steps(w.i, w.guess)
	return strings.Join(append(parts, steps[0].String()), " ")
}

func (w incidentWriter) facts() block {
	i := w.i
	facts := []fact{{Label: w.say("Sejak", "Since"), Value: ln(bold(w.full(i.Since)))}}
	if len(i.Villages) > 0 {
		facts = append(facts, fact{Label: w.say("Terdampak", "Affected"), Value: ln(bold(w.villages(i.Villages)), ", "+w.people(i.Villages))})
	}
	if in := districts(i.Villages); len(in) > 1 {
		facts = append(facts, fact{Label: w.say("Kecamatan", "Districts"), Value: ln(w.list(in))})
	}
	if w.where.ID != "" {
		label := w.say("Letak", "Place")
		if w.guess.known() {
			label = w.say("Dugaan letak", "Suspected place")
		}
		facts = append(facts, fact{Label: label, Value: w.at(w.where, i.AtOrBelow)})
	}
	provider := i.Provider
	if provider == "" {
		provider = w.say("belum tercatat", "not recorded yet")
	}
	if i.Kind != Ours {
		facts = append(facts, fact{Label: w.say("Penyedia", "Provider"), Value: ln(provider)})
	}
	facts = append(facts, fact{Label: w.say(w.thing("Nomor gangguan", "Nomor"), w.thing("Incident", "Number")), Value: ln(name(i.ID))})
	return block{Facts: facts}
}

func (w incidentWriter) todo() block {
	steps, call := w.voice.steps(w.i, w.guess)
	d := &do{Heading: w.say("Yang perlu dilakukan sekarang", "What to do now"), Steps: steps}
	if call {
		d.Contact = w.contact(w.i)
	}
	return block{Do: d}
}

func (w incidentWriter) page() block {
	return w.open(w.i.Envelope, w.say(w.thing("Buka gangguan di dasbor", "Buka dasbor"), w.thing("Open the incident's page", "Open the dashboard")))
}

// village is the first columns of every table of villages.
func (v voice) village(x Village, mark tone, district bool) []cell {
	title := x.Name
	if x.New {
		title += v.say(" (baru)", " (new)")
	}
	cells := []cell{{Tone: mark, Text: ln(title)}, {Text: ln(span{Text: x.Code, Keep: true})}}
	if district {
		cells = append(cells, text(x.District))
	}
	return cells
}

func (v voice) villageColumns(district bool) []column {
	cols := []column{{Label: v.say("Desa", "Village")}, {Label: v.say("kode", "code"), Under: true}}
	if district {
		cols = append(cols, column{Label: v.say("kecamatan", "district"), Under: true})
	}
	return cols
}

// rest says that so many villages are not in the mail.
func (v voice) rest(n int) string {
	return v.sayf("%s lain ada di halaman gangguan.", "%s more are on the incident's page.", v.plural(n, "desa", "village", "villages"))
}

func (w incidentWriter) affected(heading string) block {
	list := w.i.Villages
	if len(list) == 0 {
		return block{}
	}
	several := len(districts(list)) > 1
	heard := slices.ContainsFunc(list, func(x Village) bool { return !x.LastHeard.IsZero() })
	// Of a silence the two are one, which needs one column.
	one := heard && !slices.ContainsFunc(list, func(x Village) bool { return !x.LastHeard.Equal(x.Since) })
	t := &table{Rest: w.rest, Columns: append(w.villageColumns(several), column{Label: w.say("Penduduk", "People"), Right: true})}
	switch w.i.Event {
	case Unstable:
		t.Columns = append(t.Columns, column{Label: w.say("Peralihan", "Changes"), Right: true})
	default:
		if !one {
			t.Columns = append(t.Columns, column{Label: w.say("Sejak", "Since"), Right: true})
		}
		switch {
		case one:
			t.Columns = append(t.Columns, column{Label: w.say("Kabar terakhir", "Last heard"), Right: true})
		case heard:
			t.Columns = append(t.Columns, column{Label: w.say("kabar terakhir", "last heard"), Right: true, Under: true})
		}
	}
	sum, complete := 0, true
	for _, x := range list {
		people := w.say("belum ada", "not known")
		if x.Population.Known {
			people = w.count(x.Population.Number)
			sum += x.Population.Number
		} else {
			complete = false
		}
		row := append(w.village(x, w.k.tone, several), text(people))
		if w.i.Event == Unstable {
			row = append(row, text("≥ "+w.count(x.Changes)))
		} else {
			if !one {
				row = append(row, text(w.moment(x.Since)))
			}
			if heard {
				row = append(row, text(w.heardAt(x.LastHeard)))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	if len(list) > 1 {
		t.Total = make([]cell, len(t.Columns))
		t.Total[0] = text(w.say("Jumlah ", "Total ") + w.villages(list))
		people := 2
		if several {
			people = 3
		}
		switch {
		case complete:
			t.Total[people] = text(w.count(sum))
		case sum > 0:
			t.Total[people] = text("≥ " + w.count(sum))
		default:
			t.Total[people] = text(w.say("belum ada", "not known"))
		}
	}
	return block{Heading: heading, Table: t}
}

// heardAt is a time to the second on the mail's day, and with its date on another.
func (w incidentWriter) heardAt(t time.Time) string {
	if !t.IsZero() && t.In(w.zone).Format(time.DateOnly) != w.now.Format(time.DateOnly) {
		return w.moment(t)
	}
	return w.seconds(t)
}

func (w incidentWriter) tree() block {
	if len(w.i.Path) == 0 {
		return block{}
	}
	b := block{Heading: w.say("Letak di jaringan", "Place in the network")}
	for n, node := range w.i.Path {
		suspected := n == len(w.i.Path)-1 && w.guess.known()
		b.Tree = append(b.Tree, w.node(node, suspected))
	}
	if len(w.i.Villages) > 0 {
		who := w.villages(w.i.Villages)
		if len(w.i.Villages) <= 8 {
			var names []string
			for _, x := range w.i.Villages {
				names = append(names, x.Name)
			}
			who = w.list(names)
		}
		said := w.say("tidak ada kabar", "no sign of life")
		switch {
		case w.i.Event == Unstable:
			said = w.say("putus-sambung", "on and off")
		case w.i.Kind != Outage && w.i.Kind != Ours:
			said = w.k.state
		}
		b.Tree = append(b.Tree, branch{Tone: w.k.tone, Word: w.k.state, Text: ln(bold(who), ": "+said+".")})
	}
	return b
}

func (w incidentWriter) reasons(heading string) block {
	var texts []string
	for _, e := range w.i.Evidence {
		texts = append(texts, w.evidence(e))
	}
	if len(texts) == 0 {
		return block{}
	}
	return block{Heading: heading, List: lines(texts...)}
}

func (w incidentWriter) doubts() block {
	var texts []string
	for _, d := range w.i.Doubts {
		texts = append(texts, w.doubt(d))
	}
	if len(texts) == 0 {
		return block{}
	}
	return block{Heading: w.say("Yang belum diketahui", "What is not known yet"), List: lines(texts...)}
}

// booked says how long each village was affected, and to whom the time is booked
// where that is known already.
func (w incidentWriter) booked() []block {
	i, list := w.i, w.i.Villages
	if len(list) == 0 {
		return nil
	}
	several := len(districts(list)) > 1
	var sum Minutes
	booked, bounds := true, false
	for _, x := range list {
		if x.Minutes == nil {
			booked = false
			continue
		}
		sum.Provider += x.Minutes.Provider
		sum.Elsewhere += x.Minutes.Elsewhere
		sum.Unknown += x.Minutes.Unknown
		bounds = bounds || x.Available.Known
	}
	if !booked {
		return []block{w.lengths(several)}
	}
	all := sum.Provider + sum.Elsewhere + sum.Unknown
	b := block{Heading: w.say("Menit yang dicatat", "Minutes as booked"),
		Text: ln(w.sayf("Jumlah %s menit-desa: ", "%s village minutes in all: ", w.minutes(all)), bold(w.minutes(sum.Provider)+w.say(" menit", " minutes")),
			w.say(" tercatat pada penyedia, ", " booked to the provider, "), bold(w.minutes(sum.Elsewhere)+w.say(" menit", " minutes")), w.say(" tidak dibebankan, ", " not booked to it, "),
			bold(w.minutes(sum.Unknown)+w.say(" menit", " minutes")), w.say(" tidak diketahui.", " unknown."))}
	for _, s := range []struct {
		tone  tone
		d     time.Duration
		label string
	}{{down, sum.Provider, w.say("Penyedia", "Provider")}, {nowhere, sum.Elsewhere, w.say("Tidak dibebankan", "Not booked")}, {unknown, sum.Unknown, w.say("Tidak diketahui", "Unknown")}} {
		if s.d > 0 && all > 0 {
			part := float64(s.d) / float64(all)
			b.Share = append(b.Share, share{s.tone, max(int(part*100+0.5), 1), s.label + " " + w.percent(part, 1)})
		}
	}
	right := func(id, en string) column { return column{Label: w.say(id, en), Right: true} }
	t := &table{Rest: w.rest, Columns: append(w.villageColumns(several), right("Lama", "Total"), right("Penyedia", "Provider"), right("Lain", "Other"), right("Tak tahu", "Unknown"))}
	if bounds {
		t.Columns = append(t.Columns, right("Tersedia*", "Available*"))
	}
	for _, x := range list {
		m := *x.Minutes
		row := append(w.village(x, up, several), text(w.minutes(m.Provider+m.Elsewhere+m.Unknown)), text(w.minutes(m.Provider)), text(w.minutes(m.Elsewhere)), text(w.minutes(m.Unknown)))
		if bounds {
			row = append(row, text(w.bounds(x.Available)))
		}
		t.Rows = append(t.Rows, row)
	}
	if len(list) > 1 {
		t.Total = make([]cell, len(t.Columns))
		t.Total[0] = text(w.say("Jumlah, menit", "Total, minutes"))
		at := 2
		if several {
			at = 3
		}
		for n, d := range []time.Duration{all, sum.Provider, sum.Elsewhere, sum.Unknown} {
			t.Total[at+n] = text(w.minutes(d))
		}
	}
	b.Table = t
	if bounds {
		end := i.Restored.In(w.zone)
		b.Note = ln(w.sayf("* %s, sampai %s. Batas bawah menghitung waktu tidak diketahui sebagai putus, batas atas sebagai tersambung.",
			"* %s, until %s. The lower bound counts unknown time as cut off, the upper one as connected.",
			w.days(end.AddDate(0, 0, 1-end.Day()), end), w.clock(end)+" "+w.zoneName(end)))
	}
	return []block{b}
}

// bounds is a ratio between its ends; "data belum cukup" if there is none.
func (v voice) bounds(b Bounds) string {
	if !b.Known || !known(b.Low) || !known(b.High) {
		return v.say("data belum cukup", "not enough data")
	}
	low, high := v.percent(b.Low, 2), v.percent(b.High, 2)
	if low == high {
		return low
	}
	return strings.TrimSuffix(low, "%") + "–" + high
}

func (w incidentWriter) lengths(several bool) block {
	list := w.i.Villages
	t := &table{Rest: w.rest, Columns: append(w.villageColumns(several), column{Label: w.say(w.thing("Putus", "Sejak"), "From"), Right: true}, column{Label: w.say("Pulih", "Back"), Right: true}, column{Label: w.say("Lama", "Duration"), Right: true})}
	for _, x := range list {
		length := w.unknown()
		if !x.Since.IsZero() && !x.Restored.IsZero() {
			length = w.shortDuration(x.Restored.Sub(x.Since))
		}
		t.Rows = append(t.Rows, append(w.village(x, up, several), text(w.moment(x.Since)), text(w.moment(x.Restored)), text(length)))
	}
	return block{Heading: w.sayf("Desa yang %s", "Villages that are %s", w.well()), Table: t}
}

// timeline tells what happened when, from the times themselves.
func (w incidentWriter) timeline() block {
	type step struct {
		at   time.Time
		text string
	}
	var steps []step
	add := func(at time.Time, text string) {
		if !at.IsZero() {
			steps = append(steps, step{at, text})
		}
	}
	i := w.i
	add(i.Since, w.say("Mulai", "Began"))
	add(i.Confirmed, w.say("Dipastikan", "Confirmed"))
	add(i.FirstMail, w.say("Email pertama", "First mail"))
	add(i.Widened, w.say("Meluas", "Widened"))
	back := make(map[time.Time][]string)
	for _, x := range i.Villages {
		if !x.Restored.IsZero() {
			at := x.Restored.Truncate(time.Minute)
			back[at] = append(back[at], x.Name)
		}
	}
	if len(back) <= 5 {
		for at, names := range back {
			if !i.Restored.Truncate(time.Minute).Equal(at) {
				who := w.list(names)
				if len(names) > 4 {
					who = w.plural(len(names), "desa", "village", "villages")
				}
				add(at, who+w.say(" tersambung kembali", " connected again"))
			}
		}
	}
	add(i.Restored, w.say("Semua tersambung kembali", "All connected again"))
	add(i.Declared, w.sayf("Stabil %s, dinyatakan pulih", "Stable for %s, declared recovered", w.duration(i.Stable)))
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Or(a.at.Compare(b.at), strings.Compare(a.text, b.text)) })
	if len(steps) < 2 || i.Rule {
		return block{}
	}
	t := &table{Columns: []column{{Label: w.zoneName(i.Since)}, {Label: w.say("Kejadian", "Event")}}}
	for _, s := range steps {
		t.Rows = append(t.Rows, []cell{text(w.moment(s.at)), text(s.text)})
	}
	return block{Heading: w.say("Urutan waktu", "Sequence"), Table: t}
}

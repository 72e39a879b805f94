package mail

import (
	"slices"
	"strings"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// cause is how a cause reads.
type cause struct {
	brief  string // after "dugaan:": "ODP atau kabel feeder"
	full   string // as the end of a sentence: "ODP atau kabel feeder putus"
	booked string // to whom its time is booked
}

// provider says that a cause lies in the provider's network.
func (c Cause) provider() bool {
	return slices.Contains([]Cause{DropCable, ODPOrFeeder, OLT, Upstream}, c)
}

func (c Cause) known() bool { return c != "" && c != Unknown }

// cause words c; where is the type of the node that it is seen at.
func (v voice) cause(c Cause, where inventory.NodeType) cause {
	network := v.say("jaringan penyedia", "the provider's network")
	notProvider := v.say("tidak dibebankan kepada penyedia", "not booked to the provider")
	switch c {
	case Power:
		s := v.say("listrik padam", "power cut")
		return cause{s, s, notProvider}
	case Premises:
		return cause{v.say("ONT di lokasi", "ONT on the premises"), v.say("ONT tanpa daya atau kabelnya lepas", "ONT without power or unplugged"), notProvider}
	case DropCable:
		return cause{v.say("kabel drop", "drop cable"), v.say("kabel drop putus", "drop cable cut"), network}
	case ODPOrFeeder:
		box := "ODP"
		if where == inventory.NodeODC {
			box = "ODC"
		}
		return cause{box + v.say(" atau kabel feeder", " or feeder cable"), box + v.say(" atau kabel feeder putus", " or feeder cable cut"), network}
	case OLT:
		return cause{"OLT", v.say("OLT tidak meneruskan", "OLT does not forward"), network}
	case Upstream:
		return cause{v.say("jalur di atas OLT", "the line above the OLT"), v.say("jalur di atas OLT putus", "the line above the OLT cut"), network}
	case Target:
		s := v.say("server ukur kami", "our measurement server")
		return cause{s, s, notProvider}
	case Probe:
		s := v.say("alat ukur bermasalah", "measuring box at fault")
		return cause{s, s, notProvider}
	case Collector:
		s := v.say("server Pantau Desa", "the Pantau Desa server")
		return cause{s, s, notProvider}
	}
	s := v.say("belum diketahui", "not known yet")
	return cause{s, s, v.say("tidak diketahui", "unknown")}
}

// kind is how a kind of incident reads.
type kind struct {
	word  string // subject: "Gangguan"
	state string // of the villages: "putus"
	tone  tone
}

func (v voice) kind(k Kind) kind {
	switch k {
	case Quality:
		return kind{v.say("Mutu menurun", "Degraded"), v.say("menurun", "degraded"), degraded}
	case Capacity:
		return kind{v.say("Kapasitas", "Capacity"), v.say("hampir penuh", "nearly full"), degraded}
	case Optical:
		return kind{v.say("Sinyal optik", "Optical signal"), v.say("bersinyal optik lemah", "weak in optical signal"), degraded}
	case Ours:
		return kind{v.say("Pemantauan", "Monitoring"), v.say("tidak terpantau", "not monitored"), unknown}
	case UsePeak:
		return kind{v.say("Lonjakan", "Usage spike"), v.say("dengan lonjakan pemakaian", "with a usage spike"), degraded}
	}
	return kind{v.say("Gangguan", "Outage"), v.say("putus", "cut off"), down}
}

// villages counts villages with the noun that fits them all.
func (v voice) villages(list []Village) string {
	noun, one, many := v.noun(list)
	return v.plural(len(list), noun, one, many)
}

func (v voice) noun(list []Village) (indonesian, one, many string) {
	kinds := make(map[inventory.Kind]bool)
	for _, x := range list {
		k := x.Kind
		if k == "" {
			k = inventory.Desa
		}
		kinds[k] = true
	}
	indonesian = "desa/kelurahan"
	switch {
	case len(kinds) > 1:
	case kinds[inventory.Kelurahan]:
		indonesian = "kelurahan"
	case kinds[inventory.DesaAdat]:
		indonesian = "desa adat"
	default:
		indonesian = "desa"
	}
	return indonesian, "village", "villages"
}

// one names a single village with its sort.
func (v voice) one(x Village) string {
	if v.english {
		return x.Name
	}
	noun, _, _ := v.noun([]Village{x})
	return upperFirst(noun) + " " + x.Name
}

// districts lists the districts of villages, each once.
func districts(list []Village) []string {
	var out []string
	for _, x := range list {
		if x.District != "" && !slices.Contains(out, x.District) {
			out = append(out, x.District)
		}
	}
	return out
}

// who says which villages, in prose: "4 desa di Kecamatan Wonosari".
func (v voice) who(list []Village, region Region) string {
	in := districts(list)
	switch {
	case len(list) == 0:
		return region.Name
	case len(list) == 1 && len(in) == 1:
		return v.one(list[0]) + v.sayf(", Kecamatan %s,", ", %s district,", in[0])
	case len(list) == 1:
		return v.one(list[0])
	case len(in) == 1:
		return v.villages(list) + v.sayf(" di Kecamatan %s", " in %s district", in[0])
	case len(in) == 0:
		return v.villages(list) + v.say(" di ", " in ") + region.Name
	}
	return v.villages(list) + v.say(" di ", " in ") + v.plural(len(in), "kecamatan", "district", "districts")
}

// brief says which villages in as few letters as a telephone's list has: first
// the villages, then where they are.
func (v voice) brief(list []Village, region Region) (which, where string) {
	in := districts(list)
	switch {
	case len(list) == 0:
		return region.Name, ""
	case len(list) == 1 && len(in) == 1:
		return v.one(list[0]), v.sayf("Kec. %s", "%s district", in[0])
	case len(list) == 1:
		return v.one(list[0]), ""
	}
	noun, one, many := v.noun(list)
	if noun == "desa/kelurahan" {
		noun = "desa/kel."
	}
	which = v.plural(len(list), noun, one, many)
	switch len(in) {
	case 0:
		return which, region.Name
	case 1:
		return which, v.sayf("Kec. %s", "%s district", in[0])
	}
	return which, v.plural(len(in), "kec.", "district", "districts")
}

// head is how many characters of a subject a telephone is sure to show.
const head = 45

// fit gives the first candidate whose part that matters fits a telephone's list,
// or the last one. Each is that part and what follows it.
func fit(candidates ...[2]string) string {
	for _, c := range candidates {
		if width(c[0]) <= head {
			return c[0] + c[1]
		}
	}
	last := candidates[len(candidates)-1]
	return last[0] + last[1]
}

// people says how many live there; who was not counted is named, never zero.
func (v voice) people(list []Village) string {
	sum, missing := 0, 0
	for _, x := range list {
		if x.Population.Known {
			sum += x.Population.Number
		} else {
			missing++
		}
	}
	_, one, many := v.noun(list)
	switch missing {
	case 0:
		return v.inhabitants(sum)
	case len(list):
		return v.say("jumlah penduduk belum diketahui", "population not known yet")
	}
	return v.inhabitants(sum) + v.say(", belum termasuk ", ", without ") + v.plural(missing, "desa", one, many) +
		v.say(" yang penduduknya belum diketahui", " whose population is not known yet")
}

func (v voice) inhabitants(n int) string { return v.plural(n, "jiwa", "person", "people") }

// at says where it broke.
func (v voice) at(node Node, atOrBelow bool) line {
	out := ln(name(node.ID))
	if node.Place != "" {
		out = append(out, ln(", "+node.Place)...)
	}
	if atOrBelow {
		out = append(ln(v.say("pada atau di bawah ", "at or below ")), out...)
		out = append(out, ln(v.say("; belum dapat dipisahkan lebih jauh", "; cannot be told apart further yet"))...)
	}
	return out
}

// ofVillages is "di 3 dari 4 desa".
func (v voice) ofVillages(e Evidence) string {
	if e.Of == 0 {
		return v.say("di ", "in ") + v.plural(e.Count, "desa", "village", "villages")
	}
	return v.say("di ", "in ") + v.count(e.Count) + v.say(" dari ", " of ") + v.plural(e.Of, "desa", "village", "villages")
}

func (v voice) evidence(e Evidence) string {
	switch in := v.ofVillages(e); e.Kind {
	case FellTogether:
		when := v.sayf("antara %s dan %s", "between %s and %s", v.seconds(e.From), v.seconds(e.To))
		return v.plural(e.Count, "titik ukur", "measured point", "measured points") +
			v.sayf(" berhenti dalam %s, %s.", " fell silent within %s, %s.", v.duration(e.To.Sub(e.From)), when)
	case NodeAnswered:
		s := e.Node + v.say(" menjawab", " answers")
		if e.Count > 0 {
			s += v.say(", dan ", ", and ") + v.plural(e.Count, "titik ukur lain di bawahnya normal", "other point below it is normal", "other points below it are normal")
		}
		return s + "."
	case NoPowerSignal:
		return v.say("Tidak ada sinyal listrik padam dari perangkat mana pun.", "No device signalled that it was losing power.")
	case WeAreWell:
		s := v.say("Server Pantau Desa normal.", "The Pantau Desa server is well.")
		if !e.From.IsZero() {
			s += v.sayf(" Dipastikan pukul %s.", " Confirmed at %s.", v.clock(e.From))
		}
		return s
	case GatewayOnly:
		return v.sayf("Router atau ONT %s menjawab alat ukur, di luarnya tidak ada yang menjawab.", "The router or ONT %s answered the measuring box, nothing beyond it did.", in)
	case FirstHop:
		return v.sayf("OLT atau titik pertama penyedia menjawab %s.", "The OLT or the provider's first hop answered %s.", in)
	case MeasuredOn:
		return v.sayf("Alat %s tetap menyala dan terus mengukur selama putus.", "The measuring box %s stayed on and measured all the time.", in)
	case Rebooted:
		return v.sayf("Alat %s menyala ulang, dan tidak mengukur sebelum itu: listriknya padam.", "The measuring box %s started anew and had not measured before: its power was cut.", in)
	case CarrierLost:
		return v.sayf("Kabel dari alat ke ONT mati %s, sedangkan alat tetap menyala.", "The cable from the box to the ONT went dead %s, while the box stayed on.", in)
	case OpticalLost:
		s := v.say("Sinyal optik hilang pada ", "The optical signal was lost at ") + v.count(e.Count)
		if e.Of > 0 {
			s += v.say(" dari ", " of ") + v.count(e.Of)
		}
		s += v.say(" ONT", " ONTs")
		if !e.From.IsZero() {
			s += v.say(" mulai ", " from ") + v.clock(e.From)
		}
		return s + "."
	case DyingGasp:
		return v.sayf("OLT mencatat sinyal listrik padam dari %s ONT.", "The OLT recorded that power went at %s ONTs.", v.count(e.Count))
	case SiblingsFine:
		return v.plural(e.Count, "desa lain", "other village", "other villages") + v.sayf(" di bawah %s normal.", " below %s normal.", e.Node)
	case PointsFine:
		return v.ofPoints(e, v.say("titik ukur lain", "other measured points")) + v.sayf(" di bawah %s tetap tersambung.", " below %s are connected.", e.Node)
	case PointsFailing:
		return v.plural(e.Count, "titik ukur lain", "other measured point", "other measured points") +
			v.sayf(" di bawah %s masih memberi kabar, tetapi tidak menjangkau internet.", " below %s still reports, and does not reach the internet.", e.Node)
	case OtherNetworks:
		return v.plural(e.Count, "titik ukur", "measured point", "measured points") +
			v.say(" di kecamatan yang sama, pada jaringan lain, diam pada menit yang sama: ini petunjuk listrik padam.", " of the same districts on other networks fell silent in the same minutes, which points to power.")
	case LastCarrier:
		return v.lastWords(e) + v.say("kabel ke ONT sudah mati.", "the cable to the ONT was dead already.")
	case LastGateway:
		return v.lastWords(e) + v.say("router atau ONT sudah tidak menjawab.", "the router or ONT did not answer any more.")
	case LastHop:
		return v.lastWords(e) + v.say("titik pertama penyedia sudah tidak menjawab.", "the provider's first hop did not answer any more.")
	case LastBeyond:
		return v.lastWords(e) + v.say("internet sudah tidak terjangkau.", "the internet was not reachable any more.")
	case LastHopOnly:
		return v.lastWords(e) + v.say("titik pertama penyedia masih menjawab, internet tidak.", "the provider's first hop still answered, the internet did not.")
	case ProbesAiling:
		return v.plural(e.Count, "alat ukur", "measuring box", "measuring boxes") + v.say(" sudah melaporkan gangguan pada dirinya sebelum diam.", " had reported a fault of its own before.")
	case OnlySilence:
		return v.say("Belum ada petunjuk selain diamnya titik ukur. Pada satu titik ukur, penyebab tersering adalah listrik padam.",
			"Nothing but the silence speaks yet. At a single point the commonest cause is a power cut.")
	case WeAreCut:
		return v.say("Jalur internet server Pantau Desa sendiri tidak berfungsi.", "The uplink of the Pantau Desa server itself does not work.")
	case WeStalled:
		return v.say("Server Pantau Desa sendiri sempat tidak berjalan.", "The Pantau Desa server itself did not run for a while.")
	case OnlyUsCut:
		return v.sayf("Internet tetap terjangkau %s selama putus; hanya server Pantau Desa yang tidak.", "The internet stayed reachable %s; only the Pantau Desa server was not.", in)
	case RecordsArrived:
		return v.sayf("%s hasil ukur yang tersimpan di desa telah diterima.", "%s results stored in the villages were received.", v.count(e.Count))
	}
	return e.Text
}

// ofPoints is "9 titik ukur lain", or "7 dari 9 titik ukur lain".
func (v voice) ofPoints(e Evidence, noun string) string {
	if e.Of > e.Count {
		return v.count(e.Count) + v.say(" dari ", " of ") + v.count(e.Of) + " " + noun
	}
	return v.count(e.Count) + " " + noun
}

// lastWords begins a sentence about what points said last.
func (v voice) lastWords(e Evidence) string {
	if e.Of <= 1 {
		return v.say("Dalam kabar terakhirnya, ", "In its last sign of life ")
	}
	return v.say("Dalam kabar terakhir ", "In the last signs of life of ") + v.ofPoints(e, v.say("titik ukur", "measured points")) + ", "
}

func (v voice) doubt(d Doubt) string {
	switch d.Kind {
	case PowerPossible:
		return v.say("Listrik padam serentak belum dapat dikesampingkan. Penyebab akhir baru pasti setelah jalur pulih, karena alat di desa tetap mengukur dan menyimpan hasilnya.",
			"A power cut at the same time cannot be ruled out yet. The final cause is certain only once the line is back, because the boxes in the villages go on measuring and keep their results.")
	case NotSeparable:
		return v.sayf("Letaknya pada atau di bawah %s; titik ukur yang ada belum dapat memisahkannya lebih jauh.", "It lies at or below %s; the measured points there cannot tell it apart further.", d.Node)
	case RecordsMissing:
		return v.sayf("Catatan alat dari %s belum diterima.", "The records of the boxes of %s have not arrived yet.",
			v.ofAll(d.Count, d.Of))
	case FewPoints:
		return v.sayf("Di bawah %s hanya ada %s.", "Below %s there are only %s.", d.Node, v.plural(d.Count, "titik ukur", "measured point", "measured points"))
	}
	return d.Text
}

// ofAll is "3 dari 4 desa", or "4 desa" if it is all of them.
func (v voice) ofAll(n, all int) string {
	if n == all {
		return v.plural(all, "desa", "village", "villages")
	}
	return v.count(n) + v.say(" dari ", " of ") + v.plural(all, "desa", "village", "villages")
}

// node says what a node of the tree does.
func (v voice) node(n Node, suspected bool) branch {
	b := branch{Tone: unknown, Word: v.say("tidak diketahui", "unknown")}
	said := v.say("tidak diketahui", "not known")
	switch n.State {
	case NodeAnswers:
		b.Tone, b.Word, said = up, v.say("normal", "normal"), v.say("menjawab", "answers")
	case NodeSilent:
		b.Tone, b.Word, said = down, v.say("putus", "cut off"), v.say("diam", "silent")
	}
	switch {
	case n.Points > 0 && n.Silent > 0:
		said = v.sayf("%s dari %s titik ukur diam", "%s of %s measured points silent", v.count(n.Silent), v.count(n.Points))
	case n.Points > 0:
		said += v.sayf("; %s di bawahnya normal", "; %s below it normal", v.plural(n.Points, "titik ukur lain", "other point", "other points"))
	}
	place := ""
	if n.Place != "" {
		place = ", " + n.Place
	}
	b.Text = ln(name(n.ID), place+": "+said+".")
	if suspected {
		b.Text = append(b.Text, ln(" ", bold(v.say("Dugaan letak putus.", "Suspected place.")))...)
	}
	return b
}

// steps says what to do about a suspected cause, and whether the provider is to
// be called.
func (v voice) steps(i Incident, guess Cause) (steps []line, call bool) {
	id := name(i.ID)
	callNOC := ln(v.say("Hubungi NOC penyedia, sebut nomor ", "Call the provider's NOC, quote "), id, ".")
	if n := len(i.Path); n > 0 {
		callNOC = ln(v.say("Hubungi NOC penyedia, sebut ", "Call the provider's NOC, quote "), name(i.Path[n-1].ID), v.say(" dan nomor ", " and "), id, ".")
	}
	ask := ln(v.say("Tanya satu desa lewat telepon: apakah listrik menyala?", "Ask one village by telephone: is the power on?"))
	ticket := ln(v.say("Simpan nomor tiket penyedia. Tidak perlu membalas email ini.", "Keep the provider's ticket number. There is no need to answer this mail."))
	switch {
	case i.Kind == Ours && i.Operations:
		return lines(v.say("Periksa jalur internet dan daya server Pantau Desa.", "Check the uplink and the power of the Pantau Desa server."),
			v.say("Lihat catatannya: journalctl -u pantau --since -1h", "Read its log: journalctl -u pantau --since -1h"),
			v.say("Dinas belum dikabari apa pun. Keadaan desa tidak diketahui sampai server pulih.", "No office has been told anything. The state of the villages is not known until the server is back.")), false
	case i.Kind == Ours, guess == Collector, guess == Target:
		return lines(v.say("Tidak ada tindakan. Kami sedang memeriksa server kami sendiri.", "Nothing to do. We are checking our own servers."),
			v.say("Jangan menyimpulkan bahwa desa putus: keadaannya tidak diketahui.", "Do not conclude that villages are cut off: their state is not known.")), false
	case guess == Power:
		return lines(v.say("Tanya desa atau PLN: kapan listrik menyala kembali?", "Ask the village or the power company when power will be back."),
			v.say("Belum perlu menghubungi penyedia: jalur biasanya pulih sendiri setelah listrik menyala.", "No need to call the provider yet: the line usually recovers once power is back.")), false
	case guess == Premises:
		return lines(v.say("Telepon desa: minta periksa daya dan kabel ONT (kotak penyedia di lokasi).", "Call the village: have the power and the cables of the ONT (the provider's box) checked."),
			v.say("Hubungi penyedia hanya bila ONT menyala dan kabelnya terpasang.", "Call the provider only if the ONT is on and its cables are plugged in.")), true
	case guess == Probe:
		return lines(v.say("Minta operator desa memeriksa alat ukur: daya, kabel, lampu.", "Have the village operator check the measuring box: power, cable, lights."),
			v.say("Jaringan desa mungkin tetap lancar. Belum perlu menghubungi penyedia.", "The village's line may well be fine. No need to call the provider yet.")), false
	case i.Event == Unstable:
		return []line{callNOC, ln(v.say("Minta operator desa memeriksa daya dan kabel ONT.", "Have the village operator check the power and the cables of the ONT.")), ticket}, true
	case i.Kind == Quality:
		return []line{callNOC, ln(v.say("Tanyakan apakah ada gangguan atau pembatasan kecepatan.", "Ask whether there is a fault or a limit on speed.")), ticket}, true
	case i.Kind == Capacity:
		return lines(v.say("Tanyakan rencana penambahan kapasitas kepada penyedia.", "Ask the provider when capacity will be added."),
			v.say("Di atas 80% selama 15 menit, warga mulai merasa lambat.", "Above 80% for 15 minutes people begin to feel it.")), true
	case i.Kind == UsePeak:
		return lines(v.say("Ingat-ingat: adakah acara besar di sana? Bila ada, catat, agar pekan depan tidak mengherankan.", "Is there a big event? If so, note it, so that next week does not surprise."),
			v.say("Belum perlu menghubungi penyedia. Bila warga mengeluh lambat, tanyakan kapasitas kepada penyedia.", "No need to call the provider yet. If people complain, ask the provider about capacity.")), false
	case i.Kind == Optical:
		return []line{callNOC, ln(v.say("Minta penyedia memeriksa kabel dan sambungan sebelum putus.", "Ask the provider to check cable and splices before the line is cut.")), ticket}, true
	case guess.provider():
		return []line{callNOC, ask, ticket}, true
	}
	return []line{ask, append(ln(v.say("Bila listrik menyala: ", "If it is on: ")), callNOC...), ticket}, true
}

// contact is whom to call.
func (v voice) contact(i Incident) []line {
	c := i.Contact
	if c.Phone == "" && c.Email == "" {
		return []line{ln(bold(v.say("NOC penyedia", "Provider's NOC"))), ln(v.say("Telepon dan email belum tercatat.", "Neither telephone nor mail is recorded yet."))}
	}
	who := v.say("NOC penyedia", "Provider's NOC")
	if i.Provider != "" {
		who = "NOC " + i.Provider
	}
	if c.Hours != "" {
		who += " (" + c.Hours + ")"
	}
	out := []line{ln(bold(who))}
	if c.Phone != "" {
		note := ""
		if c.Note != "" {
			note = " (" + c.Note + ")"
		}
		out = append(out, ln(v.say("Telepon ", "Telephone "), phone(c.Phone), note))
	}
	if c.Email != "" {
		subject := i.ID
		if n := len(i.Path); n > 0 {
			subject = strings.TrimSpace(subject + " " + i.Path[n-1].ID)
		}
		out = append(out, ln(v.say("Email ", "Mail "), address(c.Email, subject)))
	}
	return out
}

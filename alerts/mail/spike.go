package mail

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Spike is usage far above the usual of a place, which is no outage. Rates are
// in bits per second, delays in seconds; NaN is not known.
type Spike struct {
	Envelope
	ID       string
	Place    string // "Prambanan", or the name of a village
	District bool   // Place is a district, its figures the sum of its villages

	Since, At time.Time // onset, and the time of Now
	Ended     time.Time // usage is usual again: the mail says so

	Now, Usual, UsualLow, UsualHigh float64
	Ratio                           float64 // Now over Usual, where neither is known; 0: not known
	Weeks                           int     // that the usual is made of
	Latency                         float64
	LatencyLow, LatencyHigh         float64 // the usual

	Villages, Normal, Down int // of the place; the rest is unknown or degraded
	Over, Of               int // how many of the last samples were above the threshold

	Series []UsagePoint // oldest first, evenly spaced
	Top    []UsageVillage
}

// UsagePoint is a sample of usage.
type UsagePoint struct {
	At         time.Time
	Now, Usual float64
}

// UsageVillage is a village's part of a spike. Line is the measured speed of its
// line; NaN if not known.
type UsageVillage struct {
	Code, Name       string
	Now, Usual, Line float64
}

// full is the utilisation from which people feel it.
const full = 0.8

// Render draws the mail.
func (s Spike) Render() (Message, error) { return s.document().message() }

func (s Spike) document() *document {
	v := s.voice()
	ratio := v.times(s.Now, s.Usual, 2)
	if ratio == v.unknown() && known(s.Ratio) && s.Ratio > 0 {
		ratio = v.times(s.Ratio, 1, 1)
	}
	place, brief := s.Place, s.Place
	if s.District {
		place = v.sayf("Kecamatan %s", "%s district", s.Place)
		brief = v.sayf("Kec. %s", "%s district", s.Place)
	}
	smooth, calm := v.smooth(s)
	d := &document{tag: tag{degraded, v.say("LONJAKAN PEMAKAIAN", "USAGE SPIKE")}, tagNote: v.say("bukan gangguan", "not an outage")}
	if s.Ended.IsZero() {
		much := v.sayf("%s biasanya", "%s the usual", ratio)
		if ratio == v.unknown() {
			much = v.say("jauh di atas biasanya", "far above the usual")
		}
		rest := v.say(" sejak ", " since ") + v.zoned(s.Since) + ", " + smooth
		word := v.say("Lonjakan", "Usage spike")
		d.subject = fmt.Sprintf("[%s] %s %s", word, brief, much) + rest
		if ratio != v.unknown() {
			d.subject = fit([2]string{fmt.Sprintf("[%s] %s%s %s", word, v.say("Pemakaian ", "Usage in "), brief, strings.TrimSuffix(ratio, v.say("", " times"))),
				strings.TrimPrefix(much, strings.TrimSuffix(ratio, v.say("", " times"))) + rest},
				[2]string{fmt.Sprintf("[%s] %s %s", word, brief, much), rest})
		}
		d.headline = []string{v.sayf("Pemakaian di %s %s sejak %s.", "Usage in %s is %s since %s.", place, much, v.zoned(s.Since)), upperFirst(smooth) + "."}
		d.preheader = v.say("Bukan gangguan.", "Not an outage.")
		if known(s.Now) && known(s.Usual) {
			d.preheader = v.sayf("Kini %s Mbps, biasanya %s Mbps.", "Now %s Mbps, usually %s Mbps.", v.mbps(s.Now, 0), v.mbps(s.Usual, 0))
		}
		d.footer = lines(v.say("Email berikutnya: satu saat pemakaian kembali biasa.", "Next mail: one when usage is usual again."))
	} else {
		length := v.duration(s.Ended.Sub(s.Since))
		d.tag = tag{up, v.say("PULIH", "RECOVERED")}
		d.tagNote = v.say("lonjakan pemakaian berakhir", "the usage spike is over")
		d.subject = fit([2]string{v.sayf("[Pulih] Pemakaian %s kembali biasa", "[Recovered] Usage in %s usual again", brief), " " + v.zoned(s.Ended) + v.say(" setelah ", " after ") + length},
			[2]string{v.sayf("[Pulih] %s kembali biasa", "[Recovered] %s usual again", brief), " " + v.zoned(s.Ended) + v.say(" setelah ", " after ") + length})
		d.headline = []string{v.sayf("Pemakaian di %s kembali biasa pukul %s, setelah %s.", "Usage in %s is usual again since %s, after %s.", place, v.zoned(s.Ended), length)}
		d.preheader = v.say("Tidak ada tindakan.", "Nothing to do.")
		if known(s.Now) {
			d.preheader = v.sayf("Kini %s Mbps.", "Now %s Mbps.", v.mbps(s.Now, 0))
		}
		d.footer = lines(v.say("Ini email terakhir untuk lonjakan ini.", "This is the last mail about this spike."))
	}
	d.blocks = []block{v.spikeFacts(s), v.spikeSteps(s, calm), v.open(s.Envelope, v.say("Buka pemakaian di dasbor", "Open the usage page")), v.usage(s), v.top(s), v.why(s)}
	v.dress(d, s.Envelope)
	return d
}

// times is a factor in words: "1,93 kali".
func (v voice) times(now, usual float64, decimals int) string {
	if !known(now) || !known(usual) || usual <= 0 {
		return v.unknown()
	}
	return v.decimal(now/usual, decimals) + v.say(" kali", " times")
}

// smooth says how the network bears it, and whether nothing speaks against that.
func (v voice) smooth(s Spike) (string, bool) {
	slow := known(s.Latency) && known(s.LatencyHigh) && s.Latency > s.LatencyHigh
	switch {
	case s.Down > 0:
		return v.sayf("%s putus", "%s cut off", v.plural(s.Down, "desa", "village", "villages")), false
	case slow:
		return v.say("latensi naik", "latency is up"), false
	case !known(s.Latency) || s.Villages == 0 || s.Normal < s.Villages:
		return v.say("keadaan jaringan belum pasti", "the network's state is not certain"), false
	}
	return v.say("jaringan masih lancar", "the network still runs smoothly"), true
}

func (v voice) spikeFacts(s Spike) block {
	mbps := func(x float64) string {
		if !known(x) {
			return v.unknown()
		}
		return v.mbps(x, 0) + " Mbps"
	}
	now := ln(bold(mbps(s.Now)))
	if s.District {
		now = append(now, ln(v.say(", jumlah unduh ", ", downloads of ")+v.plural(s.Villages, "desa", "village", "villages"))...)
	}
	usually := mbps(s.Usual)
	if known(s.UsualLow) && known(s.UsualHigh) {
		usually += " (" + v.between(v.mbps(s.UsualLow, 0), v.mbps(s.UsualHigh, 0)) + ")"
	}
	latency := v.unknown()
	if known(s.Latency) {
		latency = v.milliseconds(s.Latency, 0) + " ms"
		if known(s.LatencyLow) && known(s.LatencyHigh) {
			latency += v.say(", biasanya ", ", usually ") + v.between(v.milliseconds(s.LatencyLow, 0), v.milliseconds(s.LatencyHigh, 0)) + " ms: "
			if s.Latency > s.LatencyHigh {
				latency += v.say("di atas biasanya", "above the usual")
			} else {
				latency += "normal"
			}
		}
	}
	state := v.sayf("%s dari %s desa normal", "%s of %s villages normal", v.count(s.Normal), v.count(s.Villages))
	if s.Down == 0 {
		state += v.say(", tidak ada yang putus", ", none cut off")
	} else {
		state += v.sayf(", %s putus", ", %s cut off", v.count(s.Down))
	}
	if rest := s.Villages - s.Normal - s.Down; rest > 0 {
		state += v.sayf(", %s menurun atau tidak diketahui", ", %s degraded or unknown", v.count(rest))
	}
	if s.Villages == 0 {
		state = v.unknown()
	}
	b := block{Facts: []fact{
		{Label: v.say("Sejak", "Since"), Value: ln(bold(v.full(s.Since)))},
		{Label: v.sayf("Pukul %s", "At %s", v.clock(s.At)), Value: now},
		{Label: v.say("Biasanya", "Usually"), Value: ln(usually), Note: v.sameHours(s.Weeks)},
		{Label: v.say("Latensi", "Latency"), Value: ln(latency)},
		{Label: v.say("Keadaan desa", "Villages"), Value: ln(state)},
	}}
	if s.ID != "" {
		b.Facts = append(b.Facts, fact{Label: v.say("Nomor", "Number"), Value: ln(name(s.ID))})
	}
	return b
}

func (v voice) sameHours(weeks int) line {
	if weeks == 0 {
		return nil
	}
	return ln(v.sayf("jam dan hari yang sama, n = %s pekan", "same hour and day, n = %s weeks", v.count(weeks)))
}

// usage draws the series: columns in HTML, and the same figures as a table.
func (v voice) usage(s Spike) block {
	const most, height, drawn, rows = 25, 118, 32, 9
	points := s.Series
	if len(points) > most {
		points = points[len(points)-most:]
	}
	if len(points) < 2 {
		return block{}
	}
	first, last := points[0], points[len(points)-1]
	peak := 0.0
	for _, p := range points {
		if known(p.Now) {
			peak = max(peak, p.Now)
		}
	}
	b := block{Heading: v.sayf("Pemakaian, %s sampai %s", "Usage, %s to %s", v.clock(first.At), v.clock(last.At)),
		Bars: &bars{Peak: v.sayf("tertinggi %s Mbps", "highest %s Mbps", v.mbps(peak, 0)), From: v.clock(first.At), To: v.clock(last.At),
			Legend: []share{{Tone: usual, Label: v.say("pemakaian", "usage")}, {Tone: degraded, Label: v.say("di atas biasanya (lebih dari 1,25 kali)", "above the usual (more than 1.25 times)")}}},
		Table: &table{Columns: []column{{Label: v.zoneName(first.At)}, {Label: v.say("Pemakaian (Mbps)", "Usage (Mbps)"), Right: true}, {Label: v.say("Biasanya (Mbps)", "Usual (Mbps)"), Right: true}, {Plain: true}}},
	}
	for i, p := range points {
		part := 0.0
		if known(p.Now) && peak > 0 {
			part = max(p.Now, 0) / peak
		}
		all := int(part*height + 0.5)
		column := bar{Base: all}
		if known(p.Usual) && p.Usual > 0 && p.Now > 1.25*p.Usual {
			column.Base = min(int(p.Usual/peak*height+0.5), all)
			column.Above = all - column.Base
		}
		b.Bars.Bars = append(b.Bars.Bars, column)
		// Every step-th, counted from the newest, which is always there.
		if step := (len(points) + rows - 1) / rows; (len(points)-1-i)%step == 0 {
			b.Table.Rows = append(b.Table.Rows, []cell{text(v.clock(p.At)), text(v.mbps(p.Now, 0)), text(v.mbps(p.Usual, 0)), text(strings.Repeat("#", int(math.Round(part*drawn))))})
		}
	}
	return b
}

func (v voice) spikeSteps(s Spike, calm bool) block {
	var steps []line
	if !s.Ended.IsZero() {
		return block{Do: &do{Heading: v.say("Yang perlu dilakukan", "What to do"), Steps: lines(v.say("Tidak ada tindakan.", "Nothing to do."))}}
	}
	steps = append(steps, ln(v.sayf("Ingat-ingat: adakah acara besar di %s? Bila ada, catat, agar pekan depan tidak mengherankan.",
		"Is there a big event in %s? If so, note it, so that next week does not surprise.", s.Place)))
	for _, x := range s.Top {
		if known(x.Line) && x.Line > 0 && known(x.Now) && x.Now/x.Line > full {
			steps = append(steps, ln(v.say("Perhatikan ", "Watch "), bold(x.Name), v.sayf(": pemakaiannya %s dari kecepatan terukur (%s dari %s Mbps). Di atas 80%% selama 15 menit, warga mulai merasa lambat.",
				": its usage is %s of the measured speed (%s of %s Mbps). Above 80%% for 15 minutes people begin to feel it.", v.percent(x.Now/x.Line, 0), v.mbps(x.Now, 0), v.mbps(x.Line, 0))))
		}
		if len(steps) == 4 {
			break
		}
	}
	if calm {
		steps = append(steps, ln(v.say("Belum perlu menghubungi penyedia.", "No need to call the provider yet.")))
	} else {
		steps = append(steps, ln(v.say("Bila warga mengeluh lambat, hubungi NOC penyedia dan tanyakan kapasitas.", "If people complain, call the provider's NOC and ask about capacity.")))
	}
	return block{Do: &do{Heading: v.say("Yang perlu dilakukan", "What to do"), Steps: steps}}
}

func (v voice) top(s Spike) block {
	if len(s.Top) == 0 {
		return block{}
	}
	t := &table{Columns: append(v.villageColumns(false), column{Label: v.say("Kini (Mbps)", "Now (Mbps)"), Right: true},
		column{Label: v.say("Biasanya", "Usual"), Right: true}, column{Label: v.say("Kali", "Times"), Right: true})}
	factor := func(now, usual float64) string {
		return strings.TrimSuffix(v.times(now, usual, 1), v.say(" kali", " times"))
	}
	list := s.Top[:min(len(s.Top), 20)] // the largest; the others are one row
	var now, usual float64
	for _, x := range list {
		now += x.Now
		usual += x.Usual
		t.Rows = append(t.Rows, append(v.village(Village{Name: x.Name, Code: x.Code}, "", false), text(v.mbps(x.Now, 0)), text(v.mbps(x.Usual, 0)), text(factor(x.Now, x.Usual))))
	}
	if others := s.Villages - len(list); s.District && others > 0 && known(now) && known(s.Now) && s.Now >= now && s.Usual >= usual {
		t.Rows = append(t.Rows, []cell{text(v.plural(others, "desa lain", "other village", "other villages")), {}, text(v.mbps(s.Now-now, 0)), text(v.mbps(s.Usual-usual, 0)), text(factor(s.Now-now, s.Usual-usual))})
	}
	if s.District {
		t.Total = []cell{text(v.plural(s.Villages, "desa", "village", "villages")), {}, text(v.mbps(s.Now, 0)), text(v.mbps(s.Usual, 0)), text(factor(s.Now, s.Usual))}
	}
	return block{Heading: v.say("Desa dengan kenaikan terbesar", "Villages with the largest rise"), Table: t}
}

func (v voice) why(s Spike) block {
	if s.Of == 0 {
		return block{}
	}
	over := v.say("satu desa", "one village")
	if s.District {
		over = v.say("jumlah satu kecamatan", "the sum of one district")
	}
	return block{Heading: v.say("Mengapa ini dilaporkan", "Why this is reported"),
		Text: ln(v.sayf("%s dari %s hitungan terakhir melewati batas untuk %s. Angka ini tidak masuk ke patokan \"biasanya\".",
			"%s of the last %s samples were above the threshold for %s. These figures do not enter what is called usual.", v.count(s.Over), v.count(s.Of), over))}
}

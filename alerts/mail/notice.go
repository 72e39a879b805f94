package mail

import (
	"fmt"
	"strings"
	"time"
)

// Notice tells those who run the collector what is wrong with it.
type Notice struct {
	Envelope
	ID    string
	Event Event // Opened, Widened or Recovered
	Since time.Time
	Ended time.Time // Recovered
	Items []Item
}

// Item is one thing that is, or was, wrong.
type Item struct {
	Name     string // of the rule
	Text     string // in the mail's language
	Advice   string // in English: its reader runs the collector
	Since    time.Time
	Critical bool
	New      bool // Widened
}

// Render draws the mail.
func (n Notice) Render() (Message, error) {
	switch n.Event {
	case Opened, Widened, Recovered:
		return n.document().message()
	}
	return Message{}, fmt.Errorf("mail: no such event of a notice: %q", n.Event)
}

func (n Notice) document() *document {
	v := n.voice()
	things := v.plural(len(n.Items), "hal", "thing", "things")
	d := &document{tag: tag{degraded, v.say("SERVER", "SERVER")}, tagNote: v.say("untuk pengelola Pantau Desa", "for those who run Pantau Desa")}
	what := ""
	if len(n.Items) > 0 {
		what = n.Items[0].Text
	}
	switch n.Event {
	case Recovered:
		length := v.duration(n.Ended.Sub(n.Since))
		d.tag.tone = up
		d.subject = v.sayf("[Server pulih] %s selesai setelah %s", "[Server well] %s over after %s", things, length)
		d.headline = []string{v.sayf("Server Pantau Desa kembali wajar pukul %s, setelah %s.", "The Pantau Desa server is well again since %s, after %s.", v.zoned(n.Ended), length)}
		d.preheader = v.say("Tidak ada tindakan.", "Nothing to do.")
		d.footer = lines(v.say("Ini email terakhir untuk kabar ini.", "This is the last mail about this."))
	default:
		for _, i := range n.Items {
			if i.Critical {
				d.tag.tone = down
			}
		}
		word := v.say("Server", "Server")
		if n.Event == Widened {
			word = v.say("Server, bertambah", "Server, more")
		}
		d.subject = fmt.Sprintf("[%s] %s", word, strings.TrimSuffix(what, "."))
		if len(n.Items) > 1 {
			d.subject = fmt.Sprintf("[%s] %s: %s", word, things, strings.TrimSuffix(what, "."))
		}
		d.headline = []string{v.sayf("%s perlu diperiksa pada server Pantau Desa sejak %s.", "%s to check on the Pantau Desa server since %s.", things, v.zoned(n.Since))}
		d.preheader = v.say("Kabar ini tidak dikirim ke dinas mana pun.", "No office is sent this news.")
		d.footer = lines(v.say("Email berikutnya: satu bila bertambah, atau satu saat semuanya selesai.", "Next mail: one if there is more, or one when all is over."))
	}
	facts := []fact{{Label: v.say("Sejak", "Since"), Value: ln(bold(v.full(n.Since)))}}
	if !n.Ended.IsZero() {
		facts = append(facts, fact{Label: v.say("Sampai", "Until"), Value: ln(v.full(n.Ended))})
	}
	if n.ID != "" {
		facts = append(facts, fact{Label: v.say("Nomor", "Number"), Value: ln(name(n.ID))})
	}
	d.blocks = []block{{Facts: facts}}
	var steps, list []line
	const most = 30
	for k, i := range n.Items[:min(len(n.Items), most)] {
		text := ln(bold(i.Text))
		if i.New {
			text = append(text, ln(v.say(" (baru)", " (new)"))...)
		}
		text = append(text, ln(" "+i.Name+v.say(", sejak ", ", since ")+v.zoned(i.Since)+".")...)
		list = append(list, text)
		if i.Advice != "" && k < 5 {
			steps = append(steps, ln(i.Name+": "+i.Advice))
		}
	}
	if rest := len(n.Items) - most; rest > 0 {
		list = append(list, ln(v.sayf("%s lain lagi.", "%s more.", v.count(rest))))
	}
	if n.Event != Recovered && len(steps) > 0 {
		d.blocks = append(d.blocks, block{Do: &do{Heading: v.say("Yang perlu dilakukan", "What to do"), Steps: steps}})
	}
	heading := v.say("Yang tidak wajar", "What is wrong")
	if n.Event == Recovered {
		heading = v.say("Yang tidak wajar tadi", "What was wrong")
	}
	d.blocks = append(d.blocks, v.open(n.Envelope, v.say("Buka dasbor", "Open the dashboard")), block{Heading: heading, List: list})
	v.dress(d, n.Envelope)
	return d
}

package letter

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Finding is what one alert of a rule tells.
type Finding struct {
	Labels, Annotations map[string]string
	Since               time.Time
	Ended               time.Time // zero: it goes on
	New                 bool      // was not in the mail before
}

// Names of a rule's annotations.
const (
	NoteEnglish    = "summary"
	NoteIndonesian = "ringkasan"
	NoteAdvice     = "description"
	NoteSaran      = "saran" // the same in Indonesian, of what is ours
	NoteValue      = "value"
)

// village is the code of the village that a finding is about, empty if it is not
// about one alone.
func (f Finding) village() string { return f.Labels[LabelVillage] }

// place is the code of what a finding is about.
func (f Finding) place() string {
	return cmp.Or(f.Labels[LabelVillage], f.Labels[LabelDistrict], f.Labels[LabelRegency])
}

func (f Finding) text(english bool) string {
	if english {
		return cmp.Or(f.Annotations[NoteEnglish], f.Annotations[NoteIndonesian], f.Labels[LabelAlertName])
	}
	return cmp.Or(f.Annotations[NoteIndonesian], f.Annotations[NoteEnglish], f.Labels[LabelAlertName])
}

// advice says what to do.
func (f Finding) advice(english bool) string {
	if english {
		return f.Annotations[NoteAdvice]
	}
	return cmp.Or(f.Annotations[NoteSaran], f.Annotations[NoteAdvice])
}

// Group is what rules of one kind found in one regency, or about ourselves, and
// what is new about it.
type Group struct {
	ID       string
	Kind     mail.Kind
	Region   string // code of the regency; empty for what is ours
	Step     mail.Event
	Findings []Finding // all that go on; of a recovery, all that there were
	Before   int       // villages, of Widened
	// Usage adds the figures of a spike, if they are known.
	Usage *mail.Spike
}

// Since is when the first began; Ended when the last ended.
func (g Group) Since() time.Time {
	var first time.Time
	for _, f := range g.Findings {
		if first.IsZero() || f.Since.Before(first) {
			first = f.Since
		}
	}
	return first
}

// Ended is when the last ended.
func (g Group) Ended() time.Time {
	var last time.Time
	for _, f := range g.Findings {
		if f.Ended.After(last) {
			last = f.Ended
		}
	}
	return last
}

// Spot is the single place of a spike: a village, or a district with some of its
// villages. Without one it is empty.
func (g Group) Spot() string {
	if g.Kind != mail.UsePeak {
		return ""
	}
	spot := ""
	for _, f := range g.Findings {
		if p := f.place(); spot == "" || len(p) < len(spot) {
			spot = p
		}
	}
	for _, f := range g.Findings {
		if len(within([]string{f.place()}, spot)) == 0 {
			return ""
		}
	}
	if len(spot) < districtCode {
		return ""
	}
	return spot
}

// Render draws the mail of the group for a contact.
func (g Group) Render(inv *inventory.Inventory, c inventory.Contact, s Style, at time.Time) (mail.Message, error) {
	e := s.envelope(inv, c, cmp.Or(g.Region, c.Region), at)
	switch {
	case g.Kind == mail.Ours:
		return g.notice(e).Render()
	case g.Spot() != "" && g.Step != mail.Widened:
		return g.spike(inv, e, s).Render()
	}
	return g.incident(inv, e, s).Render()
}

func (g Group) notice(e mail.Envelope) mail.Notice {
	n := mail.Notice{Envelope: e, ID: g.ID, Event: g.Step, Since: g.Since()}
	if g.Step == mail.Recovered {
		n.Ended = g.Ended()
	}
	english := e.Language == mail.English
	for _, f := range g.Findings {
		n.Items = append(n.Items, mail.Item{Name: f.Labels[LabelAlertName], Text: f.text(english), Advice: f.advice(english),
			Since: f.Since, Critical: f.Labels["severity"] == "critical", New: f.New && g.Step == mail.Widened})
	}
	slices.SortStableFunc(n.Items, func(a, b mail.Item) int {
		return cmp.Or(order(!a.Critical, !b.Critical), order(!a.New, !b.New), a.Since.Compare(b.Since), cmp.Compare(a.Name, b.Name))
	})
	return n
}

func (g Group) spike(inv *inventory.Inventory, e mail.Envelope, s Style) mail.Spike {
	spot := g.Spot()
	nan := math.NaN()
	v := mail.Spike{Now: nan, Usual: nan, UsualLow: nan, UsualHigh: nan, Latency: nan, LatencyLow: nan, LatencyHigh: nan}
	if g.Usage != nil {
		v = *g.Usage
	}
	v.Envelope, v.ID, v.Since, v.Place, v.District = e, g.ID, g.Since(), placeName(inv, spot), len(spot) == districtCode
	if v.At.IsZero() {
		v.At = e.SentAt
	}
	if s.Page != "" && !v.District {
		v.Page = s.Page + "/desa/" + spot
	}
	if g.Step == mail.Recovered {
		v.Ended = g.Ended()
	}
	for _, f := range g.Findings {
		if f.place() == spot {
			v.Ratio, _ = strconv.ParseFloat(f.Annotations[NoteValue], 64)
		}
	}
	return v
}

func placeName(inv *inventory.Inventory, code string) string {
	if v, ok := inv.Village(code); ok {
		return v.Name
	}
	if d, ok := inv.District(code); ok {
		return d.Name
	}
	return cmp.Or(Region(inv, code).Name, code)
}

func (g Group) incident(inv *inventory.Inventory, e mail.Envelope, s Style) mail.Incident {
	v := mail.Incident{Envelope: e, Event: g.Step, Kind: g.Kind, ID: g.ID, Rule: true, Before: g.Before, Since: g.Since(), Widened: e.SentAt}
	if g.Step == mail.Recovered {
		v.Restored = g.Ended()
	}
	english := e.Language == mail.English
	byVillage := map[string]int{}
	providers := map[inventory.ISPID]bool{}
	for _, f := range g.Findings {
		code := f.village()
		if code == "" {
			continue
		}
		k, ok := byVillage[code]
		if !ok {
			k = len(v.Villages)
			byVillage[code] = k
			x := mail.Village{Code: code, Name: placeName(inv, code), Since: f.Since, New: g.Step == mail.Widened}
			if d, ok := inv.District(inventory.DistrictCode(code)); ok {
				x.District = d.Name
			}
			if known, ok := inv.Village(code); ok {
				x.Kind = known.Kind
			}
			for _, site := range inv.SitesIn(code, e.SentAt) {
				if site.Population.Known {
					x.Population.Known = true
					x.Population.Number += site.Population.Number
				}
				if site.ISP.ID != "" && !providers[site.ISP.ID] {
					providers[site.ISP.ID] = true
					if v.Provider != "" {
						v.Provider += ", "
					} else {
						v.Contact = mail.Contact{Hours: site.ISP.NOC.Hours, Phone: site.ISP.NOC.Phone, Email: site.ISP.NOC.Email}
					}
					v.Provider += cmp.Or(site.ISP.Name, string(site.ISP.ID))
				}
			}
			v.Villages = append(v.Villages, x)
		}
		x := &v.Villages[k]
		if f.Since.Before(x.Since) {
			x.Since = f.Since
		}
		x.New = x.New && f.New
		if f.Ended.After(x.Restored) {
			x.Restored = f.Ended
		}
	}
	slices.SortStableFunc(v.Villages, func(a, b mail.Village) int {
		return cmp.Or(order(a.New, b.New), cmp.Compare(a.District, b.District), cmp.Compare(a.Name, b.Name))
	})
	const most = 12
	for _, f := range g.Findings[:min(len(g.Findings), most)] {
		v.Evidence = append(v.Evidence, mail.Evidence{Kind: mail.Remark, Text: f.text(english)})
	}
	if rest := len(g.Findings) - most; rest > 0 {
		text := fmt.Sprintf("Dan %d temuan serupa.", rest)
		if english {
			text = fmt.Sprintf("And %d more like these.", rest)
		}
		v.Evidence = append(v.Evidence, mail.Evidence{Kind: mail.Remark, Text: text})
	}
	if len(v.Villages) == 1 && s.Page != "" {
		v.Page = s.Page + "/desa/" + v.Villages[0].Code
	}
	return v
}

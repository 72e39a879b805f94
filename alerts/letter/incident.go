package letter

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// For reports whether a contact is to be told: the news concerns it, is large
// enough for it, and is no end of something that it never heard of.
func (n News) For(c inventory.Contact, told Told) bool {
	i := n.Event.Incident
	switch {
	case c.Role != n.Role || c.Region != n.Region:
		return false
	case n.Event.Type == incident.Recovered:
		return told.Any
	case c.Role != inventory.RoleProvince:
		return true
	}
	villages := Villages(i)
	return told.Any || len(within(villages, n.Region)) >= c.MinVillages || len(prefixes(villages, regencyCode)) > 1
}

// View is the news as a contact reads it, sent at an instant.
func (n News) View(inv *inventory.Inventory, c inventory.Contact, told Told, s Style, at time.Time) mail.Incident {
	i, when := n.Event.Incident, n.Event.At
	v := mail.Incident{Envelope: s.envelope(inv, c, cmp.Or(n.Region, i.Regency), at), Kind: mail.Kind(i.Kind), ID: string(i.ID),
		Suspected: mail.Cause(i.Guess), Final: mail.Cause(i.Cause), Pending: i.Cause == "",
		Since: i.Since, Confirmed: i.OpenedAt, FirstMail: told.First, Operations: n.Role == inventory.RoleOperations}
	if s.Page != "" {
		v.Page = s.Page + "/gangguan/" + string(i.ID)
	}
	v.Event = n.step(told)
	for _, e := range i.Timeline {
		if e.Step == incident.StepWidened {
			v.Widened = e.At
		}
	}
	if v.Event == mail.Recovered {
		v.Restored, v.Declared = i.Until, i.RecoveredAt
		v.Stable = i.RecoveredAt.Sub(i.Until).Truncate(time.Minute)
	}
	n.villages(&v, inv)
	n.provider(&v, inv)
	n.path(&v, inv, when)
	v.Before = len(n.Before)
	v.AtOrBelow = i.Place.Node != "" && (!i.Place.Separable || i.Place.Drop)
	english := v.Language == mail.English
	v.Evidence = append(n.evidence(v.Event), n.context(english)...)
	v.Doubts = n.doubts(v.Event)
	return v
}

// step is how the event reads to somebody who was told so much.
func (n News) step(told Told) mail.Event {
	switch {
	case n.Event.Type == incident.Recovered:
		return mail.Recovered
	case n.Event.Type == incident.Unstable, n.Event.Incident.Unstable:
		return mail.Unstable
	case n.Event.Type == incident.Widened && told.Any:
		return mail.Widened
	}
	return mail.Opened
}

func (s Style) envelope(inv *inventory.Inventory, c inventory.Contact, region string, at time.Time) mail.Envelope {
	e := mail.Envelope{Language: cmp.Or(mail.Language(c.Language), s.Language), Zone: inv.Location(region), SentAt: at, Recipient: c.Name,
		Region: Region(inv, region), Simulation: s.Simulation}
	if s.Page != "" {
		e.Page, e.Recipients = s.Page+"/", s.Page+"/surat"
	}
	return e
}

// Region names a province or regency.
func Region(inv *inventory.Inventory, code string) mail.Region {
	r, ok := inv.Regency(code)
	if !ok {
		r, ok = inv.Province(code)
	}
	if !ok {
		r.Name = "server"
	}
	return mail.Region{Code: r.Code, Name: r.Name}
}

// villages fills in the villages of the news's region, the new ones last.
func (n News) villages(v *mail.Incident, inv *inventory.Inventory) {
	i := n.Event.Incident
	restless := map[string]float64{}
	for _, s := range i.Sites {
		restless[s.Village] += math.Ceil(s.Unrest - 1e-9)
	}
	for _, x := range i.Villages() {
		if len(within([]string{x.Code}, n.Region)) == 0 {
			continue
		}
		y := mail.Village{Code: x.Code, Name: x.Name, Since: x.Since, LastHeard: x.Since, Restored: x.Until, Changes: int(restless[x.Code]),
			New: v.Event == mail.Widened && !slices.Contains(n.Before, x.Code)}
		if i.Kind == incident.Quality {
			y.LastHeard = time.Time{}
		}
		if x.Population != nil {
			y.Population = inventory.Count{Number: *x.Population, Known: true}
		}
		if known, ok := inv.Village(x.Code); ok {
			y.Kind = known.Kind
		}
		if d, ok := inv.District(x.District); ok {
			y.District = d.Name
		}
		v.Villages = append(v.Villages, y)
		v.Changes += y.Changes
	}
	slices.SortStableFunc(v.Villages, func(a, b mail.Village) int {
		return cmp.Or(order(a.New, b.New), cmp.Compare(a.District, b.District), cmp.Compare(a.Name, b.Name))
	})
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// provider names who is to be called: the provider of most of the sites.
func (n News) provider(v *mail.Incident, inv *inventory.Inventory) {
	count, name := map[inventory.ISPID]int{}, map[inventory.ISPID]string{}
	for _, s := range n.Event.Incident.Sites {
		if s.ISP != "" && len(within([]string{s.Village}, n.Region)) > 0 {
			count[s.ISP]++
			name[s.ISP] = cmp.Or(s.ISPName, string(s.ISP))
		}
	}
	ids := slices.SortedFunc(maps.Keys(count), func(a, b inventory.ISPID) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) })
	if len(ids) == 0 {
		return
	}
	var names []string
	for _, id := range ids {
		names = append(names, name[id])
	}
	v.Provider = strings.Join(names, ", ")
	if isp, ok := inv.ISP(ids[0], n.Event.At); ok {
		v.Contact = mail.Contact{Hours: isp.NOC.Hours, Phone: isp.NOC.Phone, Email: isp.NOC.Email}
	}
}

// path is the way from the top to the suspected node. A node under which others
// are heard forwards, and so does all above it.
func (n News) path(v *mail.Incident, inv *inventory.Inventory, when time.Time) {
	i := n.Event.Incident
	way := inv.Path(i.Place.Node, when)
	slices.Reverse(way)
	fine, fell := map[inventory.NodeID]incident.Fact{}, map[inventory.NodeID]incident.Fact{}
	for _, f := range i.Evidence { // the latest of each
		switch f.Kind {
		case incident.NeighboursUp:
			fine[f.Node] = f
		case incident.FellTogether:
			fell[f.Node] = f
		}
	}
	lowest := -1
	for k, node := range way {
		if f, ok := fine[node.ID]; ok && f.Count > 0 {
			lowest = k
		}
	}
	for k, node := range way {
		x := mail.Node{ID: string(node.ID), Type: node.Type, State: mail.NodeUnknown}
		if node.Name != string(node.ID) {
			x.Place = node.Name
		}
		switch f, ok := fell[node.ID]; {
		case k <= lowest:
			x.State, x.Points = mail.NodeAnswers, fine[node.ID].Count
		case v.Event == mail.Recovered: // what it does now is not known from then
		case ok && k == len(way)-1:
			x.Silent, x.Points = f.Count, f.Of
			if f.Count == f.Of {
				x.State = mail.NodeSilent
			}
		}
		v.Path = append(v.Path, x)
	}
}

// evidence is what speaks for the cause: at the end what the probes kept, before
// that what was seen.
func (n News) evidence(step mail.Event) []mail.Evidence {
	i := n.Event.Incident
	var out []mail.Evidence
	if step == mail.Recovered && i.Kind != incident.Quality && i.Kind != incident.Ours {
		t := i.Testimony()
		add := func(kind mail.EvidenceKind, count int) {
			if count > 0 {
				out = append(out, mail.Evidence{Kind: kind, Count: count, Of: t.Sites})
			}
		}
		add(mail.DyingGasp, t.DyingGasp)
		add(mail.Rebooted, t.Rebooted)
		add(mail.MeasuredOn, t.MeasuredOn)
		add(mail.CarrierLost, t.CarrierLost)
		add(mail.GatewayOnly, t.GatewayOnly)
		add(mail.FirstHop, t.FirstHop)
		add(mail.OnlyUsCut, t.BeyondWell)
		add(mail.OpticalLost, t.OpticalLost)
		return out
	}
	sites := len(i.Sites)
	for _, f := range latest(i.Evidence) {
		e := mail.Evidence{Count: f.Count, Of: f.Of, Node: string(f.Node)}
		switch f.Kind {
		case incident.FellTogether:
			e.Kind, e.From, e.To = mail.FellTogether, i.Since, i.Since.Add(f.Spread)
		case incident.NeighboursUp:
			e.Kind = mail.PointsFine
			if f.Count == 0 {
				continue
			}
		case incident.NeighbourFailing:
			e.Kind = mail.PointsFailing
		case incident.OtherNetworks:
			e.Kind = mail.OtherNetworks
		case incident.CarrierLost:
			e.Kind, e.Of = mail.LastCarrier, sites
		case incident.LANGatewayLost:
			e.Kind, e.Of = mail.LastGateway, sites
		case incident.FirstHopLost:
			e.Kind, e.Of = mail.LastHop, sites
		case incident.BeyondLost:
			e.Kind, e.Of = mail.LastBeyond, sites
		case incident.FirstHopAnswered:
			e.Kind, e.Of = mail.LastHopOnly, sites
		case incident.ProbeAiling:
			e.Kind = mail.ProbesAiling
		case incident.Alone:
			e.Kind = mail.OnlySilence
		case incident.UplinkWorks:
			e.Kind, e.From = mail.WeAreWell, i.OpenedAt
		case incident.UplinkFails:
			e.Kind = mail.WeAreCut
		case incident.Stalled:
			e.Kind = mail.WeStalled
		default:
			continue
		}
		out = append(out, e)
	}
	return out
}

// latest keeps the last fact of each kind and node.
func latest(facts []incident.Fact) []incident.Fact {
	var out []incident.Fact
	for k, f := range facts {
		if !slices.ContainsFunc(facts[k+1:], func(g incident.Fact) bool { return g.Kind == f.Kind && g.Node == f.Node }) {
			out = append(out, f)
		}
	}
	return out
}

// context is what else the reader must know to place the news.
func (n News) context(english bool) []mail.Evidence {
	i := n.Event.Incident
	var out []mail.Evidence
	remark := func(id, en string) {
		text := id
		if english {
			text = en
		}
		out = append(out, mail.Evidence{Kind: mail.Remark, Text: text})
	}
	all := Villages(i)
	if here := within(all, n.Region); n.Role == inventory.RoleDinas && len(here) < len(all) {
		regencies := len(prefixes(all, regencyCode)) - 1
		rest := len(all) - len(here)
		remark(say("Gangguan yang sama mengenai %d desa lain di %d kabupaten/kota lain.", rest, regencies),
			say("The same incident concerns %d other villages in %d other regencies.", rest, regencies))
	}
	for _, id := range n.Joined {
		remark(say("Gangguan %s ternyata bagian dari gangguan ini; tidak ada email lain untuknya.", id),
			say("Incident %s turned out to be part of this one; there is no other mail about it.", id))
	}
	return out
}

// doubts is what is not known.
func (n News) doubts(step mail.Event) []mail.Doubt {
	i := n.Event.Incident
	var out []mail.Doubt
	node := string(i.Place.Node)
	if i.Place.Node != "" && !i.Place.Separable && i.Kind != incident.Ours {
		out = append(out, mail.Doubt{Kind: mail.NotSeparable, Node: node})
		for _, f := range i.Evidence {
			if f.Kind == incident.FellTogether && f.Node == i.Place.Node && f.Of < 3 {
				out = append(out, mail.Doubt{Kind: mail.FewPoints, Count: f.Of, Node: node})
				break
			}
		}
	}
	switch {
	case step == mail.Recovered:
		if t := i.Testimony(); i.Kind == incident.Outage && t.Records < t.Sites {
			out = append(out, mail.Doubt{Kind: mail.RecordsMissing, Count: t.Sites - t.Records, Of: t.Sites})
		}
	case i.Kind == incident.Outage && i.Guess != incident.CausePower:
		out = append(out, mail.Doubt{Kind: mail.PowerPossible})
	}
	return out
}

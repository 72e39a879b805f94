package letter

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/portal/rank"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Week is what is known of a regency's week.
type Week struct {
	Region    string
	Monday    time.Time // midnight, local: the week ends with it
	Incidents []incident.Incident
	States    state.Snapshot
	// Speeds by village, of the week and of the one before; availability. What is
	// not known is missing.
	Download, Upload, Before map[string]Speed
	Availability             mail.Bounds
	Planned                  float64 // download tests that were due; 0: not known
}

// Speed is what the tests of a village in a week say.
type Speed struct {
	Median float64 // bits per second
	Tests  int
}

// Digest is the week as a contact reads it.
func (w Week) Digest(inv *inventory.Inventory, c inventory.Contact, s Style, at time.Time) mail.Digest {
	from := w.Monday.AddDate(0, 0, -7)
	g := mail.Digest{Envelope: s.envelope(inv, c, w.Region, at), First: from, Last: w.Monday.AddDate(0, 0, -1), At: w.States.At,
		Availability: w.Availability, Download: estimate(w.Download), Upload: estimate(w.Upload), Coverage: math.NaN()}
	if w.Planned > 0 && g.Download.N > 0 {
		g.Coverage = min(1, float64(g.Download.N)/w.Planned)
	}
	w.states(&g, inv)
	affected := map[string]bool{}
	for _, i := range w.Incidents {
		if p, ok := w.past(inv, i, from); ok {
			g.Incidents = append(g.Incidents, p)
			for _, v := range within(Villages(i), w.Region) {
				affected[v] = true
			}
		}
	}
	slices.SortStableFunc(g.Incidents, func(a, b mail.Past) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID)) })
	g.Affected = len(affected)
	w.watch(&g, inv)
	return g
}

// past is an incident as a line of the week, if it is one.
func (w Week) past(inv *inventory.Inventory, i incident.Incident, from time.Time) (mail.Past, bool) {
	here := within(Villages(i), w.Region)
	end := i.Until
	if i.Open() {
		end = time.Time{}
	}
	if i.Kind == incident.Ours || i.MergedInto != "" || len(here) == 0 || !i.Since.Before(w.Monday) || !end.IsZero() && end.Before(from) {
		return mail.Past{}, false
	}
	p := mail.Past{ID: string(i.ID), Kind: mail.Kind(i.Kind), Since: i.Since, Ongoing: i.Open(), Villages: len(here), Cause: mail.Cause(i.Cause), At: i.Place.Type}
	if !p.Ongoing {
		p.Lasted = end.Sub(i.Since)
	}
	if in := prefixes(here, districtCode); len(in) == 1 {
		p.District = placeName(inv, in[0])
	} else {
		p.Districts = len(in)
	}
	return p, true
}

// states counts the villages, and names those that somebody must look after.
func (w Week) states(g *mail.Digest, inv *inventory.Inventory) {
	bySite := map[string]state.State{}
	for _, s := range w.States.Sites {
		bySite[string(s.Site)] = s.State
	}
	districts := map[string]bool{}
	for _, v := range inv.VillagesAt(w.States.At) {
		if v.Regency.Code != w.Region {
			continue
		}
		var known []state.State
		for _, s := range inv.SitesIn(v.Code, w.States.At) {
			if x, ok := bySite[string(s.ID)]; ok {
				known = append(known, x)
			}
		}
		if len(known) == 0 {
			continue // nothing stands there, or nothing was said of it yet
		}
		districts[v.District.Code] = true
		place := mail.Place{Name: v.Name, District: v.District.Name}
		switch state.OfVillage(known) {
		case state.Up:
			g.States.Up++
		case state.Degraded:
			g.States.Degraded++
		case state.Down:
			g.States.Down++
			g.Cut = append(g.Cut, place)
		case state.ProbeFault:
			g.States.ProbeFault++
			g.Faulty = append(g.Faulty, place)
		case state.NeverSeen:
			g.States.NeverSeen++
			g.Unseen = append(g.Unseen, place)
		case state.NoCoverage:
			g.States.NoCoverage++
		case state.Maintenance:
			g.States.Maintenance++
		}
	}
	g.Districts = len(districts)
}

// estimate is the median over villages of their medians, with the ranks that
// enclose it with 95%.
func estimate(speeds map[string]Speed) mail.Estimate {
	e := mail.Estimate{Value: math.NaN(), Low: math.NaN(), High: math.NaN()}
	var medians []float64
	tests := 0
	for _, s := range speeds {
		medians = append(medians, s.Median)
		tests += s.Tests
	}
	medians = rank.Sorted(medians)
	low, high, ok := rank.MedianRanks(len(medians))
	if !ok {
		return e
	}
	return mail.Estimate{Value: rank.Quantile(medians, 0.5), Low: medians[low-1], High: medians[high-1], N: tests, Villages: len(medians)}
}

// watch lists the districts whose speed changed, the worst first: by more than a
// tenth, and in more villages one way than chance would have (sign test, 5%).
func (w Week) watch(g *mail.Digest, inv *inventory.Inventory) {
	const most, least = 8, 0.1
	byDistrict := map[string][]string{}
	for v := range w.Download {
		if _, ok := w.Before[v]; ok && len(v) >= districtCode {
			byDistrict[v[:districtCode]] = append(byDistrict[v[:districtCode]], v)
		}
	}
	for code, villages := range byDistrict {
		now, before := map[string]Speed{}, map[string]Speed{}
		less, more := 0, 0
		for _, v := range villages {
			now[v], before[v] = w.Download[v], w.Before[v]
			switch {
			case now[v].Median < before[v].Median:
				less++
			case now[v].Median > before[v].Median:
				more++
			}
		}
		x := mail.DistrictSpeed{Name: placeName(inv, code), Now: estimate(now), Before: estimate(before)}
		change := x.Now.Value/x.Before.Value - 1 // NaN: not enough villages
		x.Changed = math.Abs(change) > least && beyondChance(less, more)
		if x.Changed {
			g.Watch = append(g.Watch, x)
		}
	}
	slices.SortFunc(g.Watch, func(a, b mail.DistrictSpeed) int {
		return cmp.Or(cmp.Compare(a.Now.Value/a.Before.Value, b.Now.Value/b.Before.Value), cmp.Compare(a.Name, b.Name))
	})
	g.Watch = g.Watch[:min(len(g.Watch), most)]
}

// beyondChance reports whether the smaller of two counts is so small that chance
// would make it so in less than 5% (two-sided sign test).
func beyondChance(a, b int) bool {
	low, _, ok := rank.MedianRanks(a + b)
	return ok && min(a, b) < low
}

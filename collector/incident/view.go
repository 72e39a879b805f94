package incident

import (
	"cmp"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// SiteView is what is known of one site at one instant.
type SiteView struct {
	Site  measure.SiteID
	State state.State
	Since time.Time // of the state
	// LastBeat is when its last fresh heartbeat arrived; zero: never.
	LastBeat time.Time
	// What its last heartbeat said. Where a site has several probes: the best of
	// each, since they watch one line.
	Carrier, LANGateway, FirstHop, Beyond wire.Tri
	Health                                wire.Health
}

// View is what is known of all sites, and of ourselves, at one instant.
type View struct {
	// Listening is since when the collector hears without a break; zero: as far as
	// the engine itself can tell.
	Listening time.Time
	// Uplink says whether the collector's own way to the world works. While more than
	// half of all probes vanish at once, Unknown delays everything by up to
	// [Timers.UplinkPatience]: check it before, or at once.
	Uplink wire.Tri
	// Stalled: the collector's own clock showed a stall since the last view.
	Stalled bool
	Sites   []SiteView
}

// Timers are all waiting times. A zero one takes its default.
type Timers struct {
	Suspect      time.Duration // silence after which a site may be part of an incident: 75 s
	Confirm      time.Duration // ... opens one, if something corroborates: 170 s
	ConfirmAlone time.Duration // ... opens one by itself: 230 s
	Listen       time.Duration // nothing opens within this of a start or stall of ours: 170 s
	Stall        time.Duration // between two views: we were away: 15 s
	Together     time.Duration // sites that fell within this fell together: 5 min
	Vanish       time.Duration // more than half within this: suspect ourselves: 60 s
	// UplinkPatience is how long such a vanishing is held while the state of our own
	// uplink is not known: 10 min.
	UplinkPatience time.Duration
	Hold           time.Duration // widenings and narrowings are gathered for this: 60 s
	Good           time.Duration // without silence, until a lone site has recovered: 3 min
	GoodGroup      time.Duration // ... several sites: 5 min
	Records        time.Duration // a recovery waits for the probes' records, at most: 10 min
	Calm           time.Duration // half-life of unrest: 15 min
	Note           time.Duration // between two notes of one incident in the log: 10 s
	// Remember is how long after its end an incident can still learn its cause: 7 days.
	Remember time.Duration
}

func (t Timers) withDefaults() Timers {
	return Timers{
		Suspect:        cmp.Or(t.Suspect, 75*time.Second),
		Confirm:        cmp.Or(t.Confirm, 170*time.Second),
		ConfirmAlone:   cmp.Or(t.ConfirmAlone, 230*time.Second),
		Listen:         cmp.Or(t.Listen, 170*time.Second),
		Stall:          cmp.Or(t.Stall, 15*time.Second),
		Together:       cmp.Or(t.Together, 5*time.Minute),
		Vanish:         cmp.Or(t.Vanish, time.Minute),
		UplinkPatience: cmp.Or(t.UplinkPatience, 10*time.Minute),
		Hold:           cmp.Or(t.Hold, time.Minute),
		Good:           cmp.Or(t.Good, 3*time.Minute),
		GoodGroup:      cmp.Or(t.GoodGroup, 5*time.Minute),
		Records:        cmp.Or(t.Records, 10*time.Minute),
		Calm:           cmp.Or(t.Calm, 15*time.Minute),
		Note:           cmp.Or(t.Note, 10*time.Second),
		Remember:       cmp.Or(t.Remember, 7*24*time.Hour),
	}
}

// fleet is a view laid over the inventory's trees.
type fleet struct {
	*forest
	timers    *Timers
	now       time.Time
	listening time.Time
	views     []*SiteView // by site of the forest; nil: not in the view
}

func newFleet(f *forest, t *Timers, now, listening time.Time, v *View) *fleet {
	out := &fleet{forest: f, timers: t, now: now, listening: listening, views: make([]*SiteView, len(f.sites))}
	for i := range v.Sites {
		if k, ok := f.bySite[v.Sites[i].Site]; ok {
			out.views[k] = &v.Sites[i]
		}
	}
	return out
}

// watched reports whether a site's silence means anything.
func (f *fleet) watched(i int) bool {
	v := f.views[i]
	if v == nil || v.LastBeat.IsZero() || !f.sites[i].placed {
		return false
	}
	switch v.State {
	case state.NeverSeen, state.NoCoverage, state.Maintenance:
		return false
	}
	return true
}

// plain is how long a site has been silent, whoever's fault it is.
func (f *fleet) plain(i int) time.Duration { return f.now.Sub(f.views[i].LastBeat) }

// heard reports whether a watched site is heard now.
func (f *fleet) heard(i int) bool { return f.plain(i) < f.timers.Suspect }

// silent is how long it has been silent while we listened.
func (f *fleet) silent(i int) time.Duration { return min(f.plain(i), f.now.Sub(f.listening)) }

// onset is since when a site is down in the sense of a kind; ok: it is.
func (f *fleet) onset(kind Kind, i int) (since time.Time, waited time.Duration, ok bool) {
	if !f.watched(i) {
		return time.Time{}, 0, false
	}
	v := f.views[i]
	if kind == Quality {
		waited = min(f.now.Sub(v.Since), f.now.Sub(f.listening))
		return v.Since, waited, v.State == state.Degraded && f.heard(i)
	}
	waited = f.silent(i)
	return v.LastBeat, waited, waited >= f.timers.Suspect
}

// marks says which sites fell together with one that fell at an instant.
func (f *fleet) marks(kind Kind, at time.Time) func(int) mark {
	return func(i int) mark {
		if !f.watched(i) {
			return unwatched
		}
		since, _, down := f.onset(kind, i)
		switch {
		case down && since.Before(at.Add(-f.timers.Together)):
			return unwatched
		case down && !since.After(at.Add(f.timers.Together)):
			return fell
		case !down && kind == Quality && !f.heard(i):
			return unwatched
		}
		return up
	}
}

// vanished is the largest set of sites that fell silent within a minute, out of
// those that free allows; most says that they are more than half of what was
// heard before.
func (f *fleet) vanished(free func(measure.SiteID) bool) (sites []int, most bool) {
	heard := 0
	var lost []int
	for i := range f.views {
		switch {
		case !f.watched(i):
		case f.heard(i):
			heard++
		case free(f.sites[i].id):
			lost = append(lost, i)
		}
	}
	slices.SortFunc(lost, func(a, b int) int { return f.views[a].LastBeat.Compare(f.views[b].LastBeat) })
	for lo, hi := 0, 0; hi < len(lost); hi++ {
		for f.views[lost[hi]].LastBeat.Sub(f.views[lost[lo]].LastBeat) > f.timers.Vanish {
			lo++
		}
		if hi+1-lo > len(sites) {
			sites = lost[lo : hi+1]
		}
	}
	return sites, len(sites) > heard
}

// around is where company of a finding is looked for: the lowest node with other
// sites, unless there are so many that some of them are always silent.
func (f *fleet) around(x finding) int {
	const most = 16 // a district, in facts of the field
	if x.near >= 0 && x.nearby.watched <= most {
		return x.near
	}
	return x.node
}

// failing counts the sites around a finding that are heard but reach nothing.
func (f *fleet) failing(x finding) int {
	n := 0
	if at := f.around(x); at >= 0 {
		f.each(at, func(i int) {
			if f.watched(i) && f.heard(i) && f.views[i].State == state.Degraded {
				n++
			}
		})
	}
	return n
}

// unsettled reports whether a site around a finding has missed a beat but is not
// suspect yet: it is about to fall as well, or to be heard.
func (f *fleet) unsettled(x finding) bool {
	late := false
	if at := f.around(x); at >= 0 {
		f.each(at, func(i int) {
			if f.watched(i) {
				s := f.silent(i)
				late = late || s > f.timers.Suspect*3/5 && s < f.timers.Suspect
			}
		})
	}
	return late
}

// trouble reports whether the last heartbeat of a site already told of some.
func (f *fleet) trouble(i int) bool {
	v := f.views[i]
	return v.Carrier == wire.No || v.LANGateway == wire.No || v.FirstHop == wire.No || v.Beyond == wire.No
}

// corroborated reports whether anything but silence speaks for what was found.
func (f *fleet) corroborated(kind Kind, x finding, seed int) bool {
	if len(x.sites) > 1 || kind != Quality && (f.trouble(seed) || f.failing(x) > 0) {
		return true
	}
	return x.near >= 0 && f.around(x) == x.near && x.nearby.fallen > len(x.sites)
}

// otherNetworks counts the sites of the same districts, on other trees, that fell
// at the same time.
func (f *fleet) otherNetworks(x finding, seed int, marks func(int) mark) int {
	districts := map[string]bool{}
	for _, i := range x.sites {
		districts[f.sites[i].district] = true
	}
	root, n := f.root(f.sites[seed].node), 0
	for i, s := range f.sites {
		if i == seed || !districts[s.district] || marks(i) != fell {
			continue
		}
		if r := f.root(s.node); r < 0 || r != root {
			n++
		}
	}
	return n
}

// signs gathers what is known of a finding, and the facts that say so.
func (f *fleet) signs(kind Kind, x finding, seed int, marks func(int) mark) (signs, []Fact) {
	s := signs{kind: kind, sites: len(x.sites), where: Where{Type: x.place.Type, Alone: len(x.sites) == 1, Drop: x.place.Drop}}
	var facts []Fact
	note := func(k FactKind, node int, count, of int) {
		if count == 0 && of == 0 {
			return
		}
		fact := Fact{At: f.now, Kind: k, Count: count, Of: of}
		if node >= 0 {
			fact.Node = f.nodes[node].ID
		}
		facts = append(facts, fact)
	}
	if len(x.sites) > 1 {
		note(FellTogether, x.node, x.tally.fallen, x.tally.watched)
		var first, last time.Time
		for _, i := range x.sites {
			at, _, _ := f.onset(kind, i)
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		facts[0].Spread = last.Sub(first)
	} else if !f.corroborated(kind, x, seed) {
		note(Alone, x.node, 1, 1)
	}
	if x.near >= 0 {
		note(NeighboursUp, x.near, x.nearby.watched-x.nearby.fallen, x.nearby.watched-len(x.sites))
	}
	hopLost, beyondLost := 0, 0
	for _, i := range x.sites {
		v := f.views[i]
		is := func(b bool, n *int) {
			if b {
				*n++
			}
		}
		is(v.Carrier == wire.No, &s.carrierLost)
		is(v.LANGateway == wire.No, &s.lanLost)
		is(v.FirstHop == wire.No, &hopLost)
		is(v.Beyond == wire.No, &beyondLost)
		is(v.FirstHop == wire.Yes && v.Beyond == wire.No, &s.hopAnswered)
		is(v.Health.Fault(), &s.ailing)
	}
	note(CarrierLost, -1, s.carrierLost, 0)
	note(LANGatewayLost, -1, s.lanLost, 0)
	note(FirstHopLost, -1, hopLost, 0)
	note(BeyondLost, -1, beyondLost, 0)
	note(FirstHopAnswered, -1, s.hopAnswered, 0)
	note(ProbeAiling, -1, s.ailing, 0)
	if kind == Outage {
		if n := f.failing(x); n > 0 {
			note(NeighbourFailing, f.around(x), n, 0)
		}
		s.otherNetworks = f.otherNetworks(x, seed, marks)
		note(OtherNetworks, -1, s.otherNetworks, 0)
	}
	return s, facts
}

// site is how a site enters an incident.
func (f *fleet) site(kind Kind, i int) Site {
	v := f.views[i]
	since, _, ok := f.onset(kind, i)
	if !ok {
		since = v.LastBeat
	}
	out := Site{Site: v.Site, Since: utc(since), Heard: utc(since)}
	s, _ := f.inv.Site(v.Site, f.at)
	out.Name, out.Village, out.Node = s.Name, s.Village, s.ODP
	out.ISP, out.ISPName = s.ISP.ID, s.ISP.Name
	out.District = inventory.DistrictCode(s.Village)
	if village, ok := f.inv.VillageAt(s.Village, f.at); ok {
		out.VillageName = village.Name
	}
	if s.Population.Known {
		n := s.Population.Number
		out.Population = &n
	}
	return out
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.Round(0).UTC()
}

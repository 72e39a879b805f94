package portal

import (
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// place is a village as it is now.
type place struct {
	inventory.Village
	Sites []inventory.Site
	State state.State
	// Since is when the last of its sites came into its state; zero: not known.
	Since time.Time
	// LastBeat is when it was last heard of; zero: never.
	LastBeat time.Time
	// Population is the sum of its sites', who divide the village's people; not
	// known if that of one is not.
	Population inventory.Count
}

// spoken is a snapshot, ready to be asked.
type spoken struct {
	at    time.Time // zero: the collector has not spoken yet
	sites map[measure.SiteID]state.SiteState
}

func listen(s state.Snapshot) spoken {
	out := spoken{s.At, make(map[measure.SiteID]state.SiteState, len(s.Sites))}
	for _, x := range s.Sites {
		out.sites[x.Site] = x
	}
	return out
}

// placeOf joins a village with what is known of its sites, in the way in which
// its state series is made: a site that the snapshot does not know was never
// seen, a village without a site has no coverage. Before the first snapshot
// nothing is decided.
func placeOf(inv *inventory.Inventory, v inventory.Village, known spoken, at time.Time) place {
	p := place{Village: v, Sites: inv.SitesIn(v.Code, at), State: undecided}
	p.Population.Known = len(p.Sites) > 0
	states := make([]state.State, 0, len(p.Sites))
	for _, s := range p.Sites {
		p.Population.Number += s.Population.Number
		p.Population.Known = p.Population.Known && s.Population.Known
		x, ok := known.sites[s.ID]
		if !ok {
			x.State = state.NeverSeen
			if s.Access == inventory.AccessNone {
				x.State = state.NoCoverage
			}
		}
		states = append(states, x.State)
		if x.Since.After(p.Since) {
			p.Since = x.Since
		}
		if x.LastBeat.After(p.LastBeat) {
			p.LastBeat = x.LastBeat
		}
	}
	if !known.at.IsZero() {
		p.State = state.OfVillage(states)
	}
	return p
}

// places lists the villages of a region (all, if code is empty) that exist now,
// by code.
func places(inv *inventory.Inventory, code string, snapshot state.Snapshot, at time.Time) []place {
	known := listen(snapshot)
	var out []place
	for _, v := range inv.Villages() {
		if !strings.HasPrefix(v.Code, code) {
			continue
		}
		if v, ok := inv.VillageAt(v.Code, at); ok {
			out = append(out, placeOf(inv, v, known, at))
		}
	}
	return out
}

// tally counts villages and people by group.
type tally struct {
	Villages   [6]int
	People     [6]int
	Unnumbered [6]int // villages whose population is not known
	Faulty     int    // of the unknown: with a faulty probe
	Unseen     int    // of the unknown: never seen
	Desa       [6]int // of the villages: not kelurahan
}

func (t *tally) add(p place) {
	g := groupOf(p.State)
	t.Villages[g]++
	if p.Population.Known {
		t.People[g] += p.Population.Number
	} else {
		t.Unnumbered[g]++
	}
	if p.Kind != inventory.Kelurahan {
		t.Desa[g]++
	}
	switch p.State {
	case state.ProbeFault:
		t.Faulty++
	case state.NeverSeen:
		t.Unseen++
	}
}

func (t *tally) total() int {
	n := 0
	for _, x := range t.Villages {
		n += x
	}
	return n
}

// noun says what is counted in the groups: desa, kelurahan or both.
func (t *tally) noun(in ...int) string {
	villages, desa := 0, 0
	for _, g := range in {
		villages += t.Villages[g]
		desa += t.Desa[g]
	}
	switch {
	case villages == desa && villages > 0:
		return "desa"
	case desa == 0 && villages > 0:
		return "kelurahan"
	}
	return "desa/kelurahan"
}

// kindWord is how a village is called.
func kindWord(k inventory.Kind) string {
	switch k {
	case inventory.Kelurahan:
		return "Kelurahan"
	case inventory.DesaAdat:
		return "Desa adat"
	}
	return "Desa"
}

// regencyFull is a regency's name with what it is; the inventory may have
// either form. A city's number is 71 or above.
func regencyFull(r inventory.Region) string {
	if strings.HasPrefix(r.Name, "Kabupaten ") || strings.HasPrefix(r.Name, "Kota ") {
		return r.Name
	}
	if len(r.Code) == 5 && r.Code[3:] >= "71" {
		return "Kota " + r.Name
	}
	return "Kabupaten " + r.Name
}

// regencyShort is its name as a title has it: "Klaten", "Kota Surakarta".
func regencyShort(r inventory.Region) string {
	return strings.TrimPrefix(regencyFull(r), "Kabupaten ")
}

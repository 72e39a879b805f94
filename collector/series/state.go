package series

import (
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// State appends the samples of one snapshot to dst: the state of every village
// of the inventory at the snapshot's instant, those without a site included,
// and once a minute, on the minute, the facts about every site (its info, and
// what its plan promises if that is known).
//
// A site that the snapshot does not know yet counts as never seen; one that the
// inventory does not know is held.
func (m *Mapper) State(dst []Sample, snap state.Snapshot, receivedAt time.Time, inv *inventory.Inventory) ([]Sample, Tally) {
	var tally Tally
	if why := within(snap.At, receivedAt); why != "" {
		tally.hold(why, max(len(snap.Sites), 1))
		return dst, tally
	}
	if m.picture == nil || !m.picture.shows(inv, snap.At) {
		m.picture = newPicture(inv, snap.At)
	}
	p := m.picture

	states := slices.Clone(p.unheard)
	for _, s := range snap.Sites {
		i, ok := p.index[s.Site]
		if !ok {
			tally.hold(HeldInventory, 1)
			continue
		}
		states[i] = s.State
	}
	t := snap.At.UnixMilli()
	for _, v := range p.villages {
		dst = append(dst, Sample{v.state, t, float64(state.OfVillage(states[v.lo:v.hi]))})
	}

	if minute := snap.At.Truncate(time.Minute).UnixMilli(); minute != m.factsAt {
		m.factsAt = minute
		for _, f := range p.facts {
			dst = append(dst, Sample{f.series, minute, f.value})
		}
	}
	return dst, tally
}

// picture is the inventory between two of its boundaries, as series.
type picture struct {
	inv      *inventory.Inventory
	from, to time.Time // to is exclusive; zero: open

	villages []villagePicture
	facts    []fact
	index    map[measure.SiteID]int // into unheard
	unheard  []state.State          // by site: its state if nobody tells
}

type villagePicture struct {
	state  *Series
	lo, hi int // its sites
}

type fact struct {
	series *Series
	value  float64
}

func (p *picture) shows(inv *inventory.Inventory, at time.Time) bool {
	return p.inv == inv && !at.Before(p.from) && (p.to.IsZero() || at.Before(p.to))
}

func newPicture(inv *inventory.Inventory, at time.Time) *picture {
	p := &picture{inv: inv, from: at, index: make(map[measure.SiteID]int)}
	const horizon = 10 * 365 * 24 * time.Hour
	p.to = at.Add(horizon)
	if next := inv.Boundaries(at, p.to); len(next) > 0 {
		p.to = next[0]
	}

	byVillage := make(map[string][]inventory.Site)
	for _, s := range inv.Sites(at) {
		byVillage[s.Village] = append(byVillage[s.Village], s)
	}
	for _, v := range inv.VillagesAt(at) {
		lo := len(p.unheard)
		for _, s := range byVillage[v.Code] {
			p.index[s.ID] = len(p.unheard)
			unheard := state.NeverSeen
			if s.Access == inventory.AccessNone {
				unheard = state.NoCoverage
			}
			p.unheard = append(p.unheard, unheard)
			p.facts = append(p.facts, factsOf(v, s)...)
		}
		p.villages = append(p.villages, villagePicture{newSeries(VillageState, villageLabels(v.Code)), lo, len(p.unheard)})
	}
	return p
}

func factsOf(v inventory.Village, s inventory.Site) []fact {
	base := append(villageLabels(v.Code), labels.Label{Name: "site", Value: string(s.ID)})
	base = slices.Clip(base)
	degrees := func(x float64) string {
		if !s.Position.Known {
			return ""
		}
		return strconv.FormatFloat(x, 'f', -1, 64)
	}
	var population string
	if s.Population.Known {
		population = strconv.Itoa(s.Population.Number)
	}
	out := []fact{{newSeries(SiteInfo, append(base, []labels.Label{
		{Name: "name", Value: s.Name}, {Name: "village_name", Value: v.Name}, {Name: "district_name", Value: v.District.Name},
		{Name: "regency_name", Value: v.Regency.Name}, {Name: "province_name", Value: v.Province.Name},
		{Name: "isp", Value: string(s.ISP.ID)}, {Name: "isp_name", Value: s.ISP.Name}, {Name: "access", Value: string(s.Access)},
		{Name: "odp", Value: string(s.ODP)}, {Name: "lat", Value: degrees(s.Lat)}, {Name: "lon", Value: degrees(s.Lon)},
		{Name: "population", Value: population},
	}...)), 1}}
	if s.Plan != nil {
		out = append(out, fact{newSeries(PlanDownload, base), s.Plan.DownloadBPS}, fact{newSeries(PlanUpload, base), s.Plan.UploadBPS})
	}
	return out
}

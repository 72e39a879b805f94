package state

import (
	"maps"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/wire"
)

// Signs is the state of one site with what its last heartbeats said. Where a site
// has several probes, which watch one line, it is the best that any of them said.
type Signs struct {
	SiteState
	Carrier, LANGateway, FirstHop, Beyond wire.Tri
	// Health is what ails the healthiest of its probes.
	Health wire.Health
}

// Signs returns what is known of every site now, by id, and since when the
// collector has listened without a break.
func (e *Engine) Signs() (listening time.Time, sites []Signs) {
	e.mu.Lock()
	defer e.mu.Unlock()
	sites = make([]Signs, 0, len(e.sites))
	for _, id := range slices.Sorted(maps.Keys(e.sites)) {
		x := e.sites[id]
		s := Signs{SiteState: SiteState{Site: id, State: x.state, Since: x.since, LastBeat: x.beat}}
		first := true
		for _, id := range x.Probes {
			p := e.probes[id]
			if p == nil || p.beat.IsZero() {
				continue
			}
			b := &p.said
			s.Carrier, s.LANGateway = max(s.Carrier, b.Carrier), max(s.LANGateway, b.LANGateway)
			s.FirstHop, s.Beyond = max(s.FirstHop, b.FirstHop), max(s.Beyond, b.Beyond)
			if first || s.Health.Fault() && !b.Health.Fault() {
				s.Health = b.Health
			}
			first = false
		}
		sites = append(sites, s)
	}
	return e.listening, sites
}

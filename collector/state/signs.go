package state

import (
	"maps"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
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

// Ailing are the probes that speak and say that something ails them.
func (e *Engine) Ailing() map[measure.ProbeID]wire.Health {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.opt.Now()
	out := map[measure.ProbeID]wire.Health{}
	for id, p := range e.probes {
		if p.said.Health != 0 && !p.beat.IsZero() && now.Sub(p.beat) < e.opt.DownAfter {
			out[id] = p.said.Health
		}
	}
	return out
}

// Listening is since when the collector has listened without a break.
func (e *Engine) Listening() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.listening
}

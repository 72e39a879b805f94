package series

import (
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Incidents appends the samples of one listing to dst: 1 for every incident that
// goes on, and 0, once, for what the listing before had and this one has not: it
// is over, or its place or cause is known better.
func (m *Mapper) Incidents(dst []Sample, l incident.Listing, receivedAt time.Time) ([]Sample, Tally) {
	var tally Tally
	if why := within(l.At, receivedAt); why != "" {
		tally.hold(why, max(len(l.Lines), 1))
		return dst, tally
	}
	t := l.At.UnixMilli()
	next := make(map[incident.Line]*Series, len(l.Lines))
	for _, x := range l.Lines {
		x.Sites = 0 // no label
		s := m.incidents[x]
		if s == nil {
			s = newSeries(IncidentOpen, []labels.Label{
				{Name: "province", Value: inventory.ProvinceCode(x.Regency)}, {Name: "regency", Value: x.Regency},
				{Name: "incident", Value: string(x.ID)}, {Name: "kind", Value: string(x.Kind)},
				{Name: "node", Value: string(x.Node)}, {Name: "cause", Value: string(x.Cause)},
			})
		}
		next[x] = s
		dst = append(dst, Sample{s, t, 1})
	}
	for x, s := range m.incidents {
		if next[x] == nil {
			dst = append(dst, Sample{s, t, 0})
		}
	}
	m.incidents = next
	return dst, tally
}

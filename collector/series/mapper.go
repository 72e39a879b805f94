package series

import (
	"slices"
	"strconv"
	"time"
	"unicode"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Bounds of a mapper's memory, against probes that misbehave.
const (
	maxPlaces    = 200_000 // remembered (probe, place) pairs
	maxTargets   = 64      // targets of one (probe, place)
	maxTargetLen = 64      // bytes of a target's id
)

// Mapper makes samples and remembers the series it made. It is not safe for
// concurrent use; each sink has its own.
type Mapper struct {
	shapes  map[measure.Metric]shape
	places  map[place]*placeSeries
	picture *picture
	// factsAt is the minute (Unix ms) that facts were last emitted for.
	factsAt int64
	// incidents are those of the latest listing.
	incidents map[incident.Line]*Series
}

// NewMapper returns a mapper that remembers nothing yet.
func NewMapper() *Mapper {
	return &Mapper{shapes: shapes(), places: make(map[place]*placeSeries)}
}

// place is all that a result's region, site and probe labels depend on.
type place struct {
	probe   measure.ProbeID
	site    measure.SiteID
	village string
}

type placeSeries struct {
	values   map[valueKey]*Series
	hops     map[hopKey]*Series
	targets  map[measure.TargetID]struct{}
	counters map[counterKey]*Series
	low      map[lowKey]*Series
	budget   [2]*Series // of the month, and spent of it; nil: none yet
}

type valueKey struct {
	metric    measure.Metric
	target    measure.TargetID
	direction measure.Kind
}

type lowKey struct {
	target    measure.TargetID
	direction measure.Kind
}

type hopKey struct {
	target measure.TargetID
	limit  int // 1 to measure.MaxHops
}

type counterKey struct {
	kind    measure.Kind
	outcome measure.Outcome
	reason  measure.Reason
}

// Batch appends the samples of one batch to dst: every value of its ok results,
// and its counters and the month's budget at the instant of sealing. Of two samples for one series and
// instant the first counts.
func (m *Mapper) Batch(dst []Sample, b *wire.Batch, sent wire.Sent, receivedAt time.Time, inv *inventory.Inventory) ([]Sample, Tally) {
	var tally Tally
	var where inventory.Labels
	var at *placeSeries
	// locate makes at the series of the probe's place at an instant.
	locate := func(t time.Time) bool {
		if at != nil && where.Covers(t) {
			return true
		}
		l, ok := inv.Labels(b.Probe, t)
		if ok {
			where, at = l, m.at(l)
		}
		return ok
	}

	dater := NewDater(b, sent, receivedAt)
	for i := range b.Results {
		r := &b.Results[i]
		if r.Outcome != measure.OK || !slices.ContainsFunc(r.Values, m.known) {
			continue
		}
		if !m.sound(r) {
			tally.hold(HeldInvalid, 1)
			continue
		}
		when, corrected, why := dater.Date(r.Boot, r.Monotonic, r.MeasuredAt)
		if why == "" {
			why = within(when, receivedAt)
		}
		if why == "" && !locate(when) {
			why = HeldInventory
		}
		if why == "" && !at.admit(r) {
			why = HeldTarget
		}
		if why != "" {
			tally.hold(why, 1)
			continue
		}
		if corrected {
			tally.Corrected++
		}
		t := when.UnixMilli()
		for _, v := range r.Values {
			if s := m.series(at, where, r, v); s != nil {
				dst = append(dst, Sample{s, t, v.Number})
			}
		}
		if confirmed, low := lowSpeed(r); low {
			dst = append(dst, Sample{at.lowSpeed(where, r), t, confirmed})
		}
		for _, h := range r.Hops {
			dst = append(dst, Sample{at.hop(where, r.Target, h.Limit), t, h.RoundTrip.Seconds()})
		}
	}

	// What cannot be written of the counters the next batch makes up for: they
	// are cumulative.
	when, _, why := dater.Date(b.Boot, b.SealedMono, b.SealedAt)
	if (len(b.Counters) > 0 || b.Budget > 0) && why == "" && within(when, receivedAt) == "" && locate(when) {
		dst = at.count(dst, where, b.Counters, when.UnixMilli())
		dst = at.quota(dst, where, b, when.UnixMilli())
	}
	return dst, tally
}

func (m *Mapper) known(v measure.Value) bool {
	_, ok := m.shapes[v.Metric]
	return ok
}

// sound validates what this version knows of a result: a newer probe may send
// figures with rules of their own beside it.
func (m *Mapper) sound(r *measure.Result) bool {
	known := *r
	if slices.ContainsFunc(r.Values, func(v measure.Value) bool { return !m.known(v) }) {
		known.Values = slices.DeleteFunc(slices.Clone(r.Values), func(v measure.Value) bool { return !m.known(v) })
	}
	return known.Validate() == nil
}

// at returns what is remembered of a place.
func (m *Mapper) at(l inventory.Labels) *placeSeries {
	key := place{l.Probe, l.Site, l.Village}
	p := m.places[key]
	if p == nil {
		if len(m.places) >= maxPlaces {
			clear(m.places)
		}
		p = &placeSeries{values: make(map[valueKey]*Series), hops: make(map[hopKey]*Series), low: make(map[lowKey]*Series), targets: make(map[measure.TargetID]struct{}),
			counters: make(map[counterKey]*Series)}
		m.places[key] = p
	}
	return p
}

// admit reports whether all targets that r names are well-formed and few.
func (p *placeSeries) admit(r *measure.Result) bool {
	if !p.admitTarget(r.Target) {
		return false
	}
	for _, v := range r.Values {
		if !p.admitTarget(v.Target) {
			return false
		}
	}
	return true
}

func (p *placeSeries) admitTarget(id measure.TargetID) bool {
	if id == "" {
		return true
	}
	if _, ok := p.targets[id]; ok {
		return true
	}
	if len(p.targets) >= maxTargets || len(id) > maxTargetLen {
		return false
	}
	for _, c := range id {
		if c <= ' ' || c > unicode.MaxASCII || c == 0x7f {
			return false
		}
	}
	p.targets[id] = struct{}{}
	return true
}

// series is the series of one value of r; nil if this version has none for it.
func (m *Mapper) series(p *placeSeries, l inventory.Labels, r *measure.Result, v measure.Value) *Series {
	form, ok := m.shapes[v.Metric]
	if !ok {
		return nil
	}
	key := valueKey{metric: v.Metric, direction: form.direction}
	if form.byKind {
		key.direction = r.Kind
	}
	if form.target {
		if key.target = v.Target; key.target == "" {
			key.target = r.Target
		}
	}
	s := p.values[key]
	if s == nil {
		s = newSeries(form.name, append(placeLabels(l),
			labels.Label{Name: "direction", Value: string(key.direction)}, labels.Label{Name: "stat", Value: form.stat}, labels.Label{Name: "target", Value: string(key.target)}))
		p.values[key] = s
	}
	return s
}

// lowSpeed reports whether a speed test was far below the plan, and whether another
// server confirmed it: 1 or 0.
func lowSpeed(r *measure.Result) (confirmed float64, low bool) {
	switch {
	case r.Kind != measure.KindDownload && r.Kind != measure.KindUpload:
		return 0, false
	case slices.Contains(r.Flags, measure.FlagLowUnconfirmed): // of both, what accuses nobody
		return 0, true
	}
	return 1, slices.Contains(r.Flags, measure.FlagLowConfirmed)
}

// lowSpeed is the series of what became of low results.
func (p *placeSeries) lowSpeed(l inventory.Labels, r *measure.Result) *Series {
	key := lowKey{r.Target, r.Kind}
	s := p.low[key]
	if s == nil {
		s = newSeries(lowConfirmed, append(placeLabels(l),
			labels.Label{Name: "direction", Value: string(r.Kind)}, labels.Label{Name: "target", Value: string(r.Target)}))
		p.low[key] = s
	}
	return s
}

// hop is the series of one hop on the way to a target.
func (p *placeSeries) hop(l inventory.Labels, target measure.TargetID, limit int) *Series {
	key := hopKey{target, limit}
	s := p.hops[key]
	if s == nil {
		s = newSeries(pathHopSeconds, append(placeLabels(l),
			labels.Label{Name: "hop", Value: strconv.Itoa(limit)}, labels.Label{Name: "target", Value: string(target)}))
		p.hops[key] = s
	}
	return s
}

// count appends the counters' samples. Sorts that this version reads as one
// ("other") are summed: the sum of counters is a counter.
func (p *placeSeries) count(dst []Sample, l inventory.Labels, counters []wire.Counter, t int64) []Sample {
	sums := make(map[counterKey]uint64, len(counters))
	for _, c := range counters {
		sums[counterKey{c.Kind, c.Outcome, c.Reason}] += c.Count
	}
	for _, c := range counters {
		key := counterKey{c.Kind, c.Outcome, c.Reason}
		n, ok := sums[key]
		if !ok {
			continue // summed already
		}
		delete(sums, key)
		s := p.counters[key]
		if s == nil {
			s = newSeries(ResultTotal, append(placeLabels(l), labels.Label{Name: "kind", Value: string(c.Kind)},
				labels.Label{Name: "outcome", Value: string(c.Outcome)}, labels.Label{Name: "reason", Value: string(c.Reason)}))
			p.counters[key] = s
		}
		dst = append(dst, Sample{s, t, float64(n)})
	}
	return dst
}

// quota appends what the probe may move in the month and what it has, if it says so.
func (p *placeSeries) quota(dst []Sample, l inventory.Labels, b *wire.Batch, t int64) []Sample {
	if b.Budget == 0 {
		return dst
	}
	if p.budget[0] == nil {
		p.budget = [2]*Series{newSeries(probeBudget, placeLabels(l)), newSeries(probeBudgetSpent, placeLabels(l))}
	}
	return append(dst, Sample{p.budget[0], t, float64(b.Budget)}, Sample{p.budget[1], t, float64(b.BudgetSpent)})
}

func placeLabels(l inventory.Labels) []labels.Label {
	return append(villageLabels(l.Village), labels.Label{Name: "site", Value: string(l.Site)},
		labels.Label{Name: "probe", Value: string(l.Probe)})
}

// villageLabels cuts the region labels from a village's code.
func villageLabels(code string) []labels.Label {
	return []labels.Label{
		{Name: "province", Value: inventory.ProvinceCode(code)}, {Name: "regency", Value: inventory.RegencyCode(code)},
		{Name: "district", Value: inventory.DistrictCode(code)}, {Name: "village", Value: code},
	}
}

// newSeries drops labels without a value: they are not known.
func newSeries(name string, ls []labels.Label) *Series {
	b := labels.NewBuilder(labels.EmptyLabels()).Set(model.MetricNameLabel, name)
	for _, l := range ls {
		b.Set(l.Name, l.Value) // an empty value deletes
	}
	return &Series{Labels: b.Labels()}
}

package incident

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Damping, after RFC 2439: each fall and each return of a site adds 1.
const (
	suppressAt = 4.0
	reuseBelow = 1.5
)

// maxEvidence bounds the facts of an incident; the first ones stay.
const maxEvidence = 60

// course is the whole course of all incidents: what is seen goes in, events come
// out. It knows no disk, and no clock but the one it is told.
type course struct {
	timers  Timers
	open    []*live // by opening
	closed  []*live // that may still learn their cause
	numbers map[string]int
	unrest  map[measure.SiteID]unrest
	woods   forests

	restored map[ID]*live // until resume

	last      time.Time // view
	listening time.Time
	stalled   time.Time

	// Of the present step.
	inv    *inventory.Inventory
	now    time.Time
	view   *View
	deaf   bool // it may be us who do not hear
	fleets map[*forest]*fleet
	out    []Event
}

type unrest struct {
	value float64
	at    time.Time
}

// live is an incident with what need not survive a restart.
type live struct {
	Incident
	told   map[measure.SiteID]bool      // that an event named; true: as back
	good   map[measure.SiteID]time.Time // since when it is heard without a break
	grown  time.Time                    // first growth that was not told
	shrunk time.Time                    // first site that is back for good and not told
	dirty  bool
	noted  time.Time
}

func newCourse(t Timers) *course {
	return &course{timers: t.withDefaults(), numbers: map[string]int{}, unrest: map[measure.SiteID]unrest{}, restored: map[ID]*live{}}
}

// restore takes an event of an earlier life, oldest first; resume follows the last.
func (c *course) restore(e Event) {
	i := e.Incident
	if prefix, n, ok := i.ID.split(); ok {
		c.numbers[prefix] = max(c.numbers[prefix], n)
	}
	for _, s := range i.Sites {
		if s.UnrestAt.After(c.unrest[s.Site].at) {
			c.unrest[s.Site] = unrest{s.Unrest, s.UnrestAt}
		}
	}
	l := c.restored[i.ID]
	if l == nil {
		l = &live{told: map[measure.SiteID]bool{}}
		c.restored[i.ID] = l
	}
	was := l.RecoveredAt
	l.Incident, l.good, l.noted, l.grown = i, map[measure.SiteID]time.Time{}, e.At, time.Time{}
	if e.Type != noted {
		l.tell()
	}
	for _, s := range i.Sites {
		if back, ok := l.told[s.Site]; !ok || back && s.Until.IsZero() {
			l.grown = e.At
		}
	}
	switch {
	case i.MergedInto != "":
		delete(c.restored, i.ID)
	case was.IsZero() && !i.Open():
		c.closed = append(c.closed, l)
	}
	for len(c.closed) > 0 && c.forgotten(c.closed[0], e.At) {
		delete(c.restored, c.closed[0].ID)
		c.closed = c.closed[1:]
	}
}

// resume ends the restoring.
func (c *course) resume() {
	for _, l := range c.restored {
		if l.Open() {
			c.open = append(c.open, l)
		}
	}
	slices.SortFunc(c.open, func(a, b *live) int { return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID)) })
	c.restored = nil
}

// forgotten reports whether nothing can be learnt of an incident any more.
func (c *course) forgotten(l *live, now time.Time) bool {
	return now.Sub(l.RecoveredAt) > c.timers.Remember
}

// step takes what is seen now and returns the events that follow.
func (c *course) step(inv *inventory.Inventory, now time.Time, v View) []Event {
	now = utc(now)
	c.inv, c.now, c.view, c.fleets, c.out = inv, now, &v, map[*forest]*fleet{}, nil
	c.listen()
	c.deaf = c.ourselves()
	for _, l := range c.open {
		c.follow(l)
	}
	if !c.deaf {
		for _, kind := range []Kind{Outage, Quality} {
			c.seek(kind)
		}
	}
	for _, l := range slices.Clone(c.open) {
		c.settle(l)
	}
	for _, l := range c.closed {
		c.reconsider(l)
	}
	c.open = slices.DeleteFunc(c.open, func(l *live) bool { return !l.Open() })
	c.closed = slices.DeleteFunc(c.closed, func(l *live) bool { return c.forgotten(l, now) })
	maps.DeleteFunc(c.unrest, func(_ measure.SiteID, u unrest) bool { return c.decayed(u) < 0.05 })
	return c.out
}

// listen notices when we were away.
func (c *course) listen() {
	gap := c.now.Sub(c.last)
	switch {
	case c.last.IsZero():
		c.listening = c.now
	case gap < 0 || gap > c.timers.Stall || c.view.Stalled:
		c.listening, c.stalled = c.now, c.now
	}
	if at := utc(c.view.Listening); at.After(c.listening) && !at.After(c.now) {
		c.listening = at
	}
	c.last = c.now
}

// fleet is the view over the inventory as it was at an instant.
func (c *course) fleet(at time.Time) *fleet {
	f := c.woods.at(c.inv, at)
	if c.fleets[f] == nil {
		c.fleets[f] = newFleet(f, &c.timers, c.now, c.listening, c.view)
	}
	return c.fleets[f]
}

// owners are the open incidents of a kind by their sites.
func (c *course) owners(kind Kind) map[measure.SiteID]*live {
	out := map[measure.SiteID]*live{}
	for _, l := range c.open {
		if l.Kind != kind || !l.Open() {
			continue
		}
		for _, s := range l.Sites {
			if !s.Withdrawn {
				out[s.Site] = l
			}
		}
	}
	return out
}

// follow notes which sites of an incident are heard again, or are silent again.
func (c *course) follow(l *live) {
	f := c.fleet(c.now)
	before := l.Silent()
	for k := range l.Sites {
		s := &l.Sites[k]
		i, ok := f.bySite[s.Site]
		switch {
		case s.Withdrawn:
		case !ok || f.released(i):
			if s.Until.IsZero() {
				s.Until, s.Withdrawn, l.dirty = c.now, true, true
			}
		case f.views[i] == nil || f.views[i].LastBeat.IsZero():
		case s.Until.IsZero():
			c.followSilent(l, s, f, i)
		default:
			c.followHeard(l, s, f, i)
		}
	}
	after := l.Silent()
	switch {
	case after == before:
	case after == 0:
		l.Until = slices.MaxFunc(l.Sites, func(a, b Site) int { return a.Until.Compare(b.Until) }).Until
		l.enter(StepAllBack, l.Until)
	case before == len(l.Sites):
		l.enter(StepReturning, c.now)
	}
	if after > 0 {
		l.Until = time.Time{}
	}
}

// released reports whether the inventory, or a person, says of a site that it is
// not watched any more.
func (f *fleet) released(i int) bool {
	v := f.views[i]
	return !f.sites[i].placed || v != nil && (v.State == state.NoCoverage || v.State == state.Maintenance)
}

func (c *course) followSilent(l *live, s *Site, f *fleet, i int) {
	v := f.views[i]
	back := utc(v.LastBeat)
	heard := back.After(s.Heard) && f.heard(i)
	if l.Kind == Quality {
		back, heard = utc(v.Since), v.State != state.Degraded
	}
	if !heard {
		return
	}
	if back.Before(s.Since) {
		back = s.Since
	}
	s.Until, l.good[s.Site], l.dirty = back, back, true
	c.stir(s)
}

func (c *course) followHeard(l *live, s *Site, f *fleet, i int) {
	v := f.views[i]
	heard := utc(v.LastBeat)
	again := f.silent(i) >= c.timers.Suspect
	if l.Kind == Quality {
		heard, again = utc(v.Since), v.State == state.Degraded
	}
	if !again {
		if _, ok := l.good[s.Site]; !ok && (l.Kind == Quality || f.heard(i)) {
			l.good[s.Site] = c.now // after a restart
		}
		return
	}
	s.Until, s.Heard, l.dirty = time.Time{}, heard, true
	delete(l.good, s.Site)
	c.stir(s)
	if l.told[s.Site] {
		l.told[s.Site] = false
		l.grow(c.now)
	}
}

func (c *course) decayed(u unrest) float64 {
	return u.value * math.Exp2(-float64(c.now.Sub(u.at))/float64(c.timers.Calm))
}

// stir counts a fall or a return of a site.
func (c *course) stir(s *Site) {
	u := unrest{c.decayed(c.unrest[s.Site]) + 1, c.now}
	c.unrest[s.Site] = u
	s.Unrest, s.UnrestAt = u.value, u.at
}

// stirred reports whether half of an incident's sites are as restless as limit.
func (c *course) stirred(l *live, limit float64) bool {
	n := 0
	for _, s := range l.Sites {
		if c.decayed(c.unrest[s.Site]) >= limit {
			n++
		}
	}
	return 2*n >= len(l.Sites)
}

// ourselves reports whether nothing may open now because it may be us who do not
// hear, and opens an incident of our own if it is.
func (c *course) ourselves() (hold bool) {
	f := c.fleet(c.now)
	owned := c.owners(Outage)
	lost, most := f.vanished(func(id measure.SiteID) bool { return owned[id] == nil })
	var own *live
	for _, l := range c.open {
		if l.Kind == Ours {
			own = l
		}
	}
	stalled := !c.stalled.IsZero() && c.now.Sub(c.stalled) < c.timers.Listen
	if most && (c.view.Uplink == wire.No || stalled) {
		if c.view.Uplink == wire.No {
			c.listening = c.now
			f.listening = c.now
		}
		if own == nil {
			c.openOurs(f, lost, stalled)
		} else {
			c.join(own, f, lost)
			own.tell() // nobody is to be told
			own.grown = time.Time{}
		}
	}
	switch {
	case c.now.Sub(c.listening) < c.timers.Listen:
		return true
	case most && c.view.Uplink == wire.Unknown:
		newest := f.views[lost[len(lost)-1]].LastBeat
		return min(c.now.Sub(newest), c.now.Sub(c.listening)) < c.timers.UplinkPatience
	}
	return false
}

func (c *course) openOurs(f *fleet, lost []int, stalled bool) {
	x := finding{sites: lost, node: -1, near: -1}
	facts := []Fact{{At: c.now, Kind: c.uplinkFact()}}
	if stalled {
		facts = append(facts, Fact{At: c.now, Kind: Stalled})
	}
	l := c.begin(Ours, f, x, signs{kind: Ours}, facts)
	l.Cause = CauseCollector
	c.emit(l, Opened)
}

func (c *course) uplinkFact() FactKind {
	switch c.view.Uplink {
	case wire.Yes:
		return UplinkWorks
	case wire.No:
		return UplinkFails
	}
	return UplinkUnknown
}

// seek looks for sites that fell and belong to no incident, earliest first.
func (c *course) seek(kind Kind) {
	f := c.fleet(c.now)
	owner := c.owners(kind)
	var seeds []int
	for i := range f.sites {
		if _, waited, down := f.onset(kind, i); down && waited >= c.timers.Confirm && owner[f.sites[i].id] == nil {
			seeds = append(seeds, i)
		}
	}
	slices.SortStableFunc(seeds, func(a, b int) int {
		x, _, _ := f.onset(kind, a)
		y, _, _ := f.onset(kind, b)
		return x.Compare(y)
	})
	for _, i := range seeds {
		if owner[f.sites[i].id] == nil && c.consider(kind, f.sites[i].id, owner) {
			owner = c.owners(kind)
		}
	}
}

// consider opens, widens or merges incidents for a site that fell. It reports
// whether it did.
func (c *course) consider(kind Kind, id measure.SiteID, owner map[measure.SiteID]*live) bool {
	f := c.fleet(c.now)
	since, waited, _ := f.onset(kind, f.bySite[id])
	if then := c.fleet(since); then != f { // the network as it was when the site fell
		if _, ok := then.bySite[id]; ok {
			f = then
		}
	}
	seed := f.bySite[id]
	marks := f.marks(kind, since)
	x := f.locate(seed, marks)
	if waited < c.timers.ConfirmAlone && (!f.corroborated(kind, x, seed) || f.unsettled(x)) {
		return false
	}
	s, facts := f.signs(kind, x, seed, marks)
	hosts := c.hosts(kind, f, x, owner)
	if len(hosts) == 0 {
		facts = append(facts, Fact{At: c.now, Kind: c.uplinkFact()})
		c.emit(c.begin(kind, f, x, s, facts), Opened)
		return true
	}
	host := hosts[0]
	joined := c.join(host, f, x.sites)
	moved := c.promote(host, f, x)
	if joined || moved {
		host.Evidence = append(host.Evidence, facts...)
		host.Evidence = host.Evidence[:min(len(host.Evidence), maxEvidence)]
	}
	if moved {
		host.Guess = s.guess()
	}
	c.merge(host, hosts[1:])
	host.conclude()
	return true
}

// hosts are the open incidents that a finding belongs to, the oldest first: those
// of the sites that fell with it, or else the one with the lowest named node that
// it stands below.
func (c *course) hosts(kind Kind, f *fleet, x finding, owner map[measure.SiteID]*live) []*live {
	var out []*live
	for _, l := range c.open {
		if slices.ContainsFunc(x.sites, func(i int) bool { return owner[f.sites[i].id] == l }) {
			out = append(out, l)
		}
	}
	if len(out) > 0 || x.node < 0 {
		return out
	}
	depth := -1
	for _, l := range c.open {
		if l.Kind != kind || !l.Open() || !l.Place.Separable || !f.below(x.node, l.Place.Node) {
			continue
		}
		if d := len(f.chain(f.byNode[l.Place.Node])); d > depth {
			out, depth = []*live{l}, d
		}
	}
	return out
}

// begin makes an incident of a finding.
func (c *course) begin(kind Kind, f *fleet, x finding, s signs, facts []Fact) *live {
	l := &live{told: map[measure.SiteID]bool{}, good: map[measure.SiteID]time.Time{}}
	l.Incident = Incident{Kind: kind, Place: x.place, OpenedAt: c.now, Guess: s.guess(), Evidence: facts}
	c.join(l, f, x.sites)
	l.grown = time.Time{}
	l.Regency = l.regency()
	l.ID = c.number(l.Regency, l.Since)
	l.enter(StepFell, l.Since)
	l.Unstable = kind != Ours && c.stirred(l, suppressAt)
	c.open = append(c.open, l)
	return l
}

// number gives the next id of a regency and day.
func (c *course) number(regency string, since time.Time) ID {
	prefix := fmt.Sprintf("G-%s-%s-", strings.ReplaceAll(regency, ".", ""), since.In(c.inv.Location(regency)).Format("060102"))
	c.numbers[prefix]++
	return ID(fmt.Sprintf("%s%02d", prefix, c.numbers[prefix]))
}

// split is the inverse of number.
func (id ID) split() (prefix string, n int, ok bool) {
	k := strings.LastIndexByte(string(id), '-') + 1
	_, err := fmt.Sscanf(string(id[k:]), "%d", &n)
	return string(id[:k]), n, k > 0 && err == nil && n > 0
}

// regency is the one of most sites; of equals, the lowest code.
func (i *Incident) regency() string {
	count := map[string]int{}
	for _, s := range i.Sites {
		count[inventory.RegencyCode(s.Village)]++
	}
	best := ""
	for _, r := range slices.Sorted(maps.Keys(count)) {
		if best == "" || count[r] > count[best] {
			best = r
		}
	}
	return best
}

// join adds sites that an incident does not have yet.
func (c *course) join(l *live, f *fleet, sites []int) (joined bool) {
	for _, i := range sites {
		id := f.sites[i].id
		if slices.ContainsFunc(l.Sites, func(s Site) bool { return s.Site == id && !s.Withdrawn }) {
			continue
		}
		l.Sites = slices.DeleteFunc(l.Sites, func(s Site) bool { return s.Site == id })
		s := f.site(l.Kind, i)
		if l.Kind != Ours {
			c.stir(&s)
		}
		l.Sites = append(l.Sites, s)
		joined = true
	}
	if joined {
		l.arrange()
		l.grow(c.now)
	}
	return joined
}

// promote moves an incident up to where the new finding is.
func (c *course) promote(l *live, f *fleet, x finding) (moved bool) {
	if x.node < 0 || len(x.sites) < 2 || x.place.Node == l.Place.Node && x.place.Separable == l.Place.Separable {
		return false
	}
	if l.Place.Separable && (!x.place.Separable || f.below(x.node, l.Place.Node)) {
		return false // it is that high already, on better evidence
	}
	l.Place, l.Remaining = x.place, nil
	l.grow(c.now)
	return true
}

// merge ends incidents as parts of another one, whose news goes first, so that
// no site is ever in none.
func (c *course) merge(host *live, others []*live) {
	if len(others) == 0 {
		return
	}
	for _, l := range others {
		for _, s := range l.Sites {
			if slices.ContainsFunc(host.Sites, func(h Site) bool { return h.Site == s.Site }) {
				continue
			}
			host.Sites = append(host.Sites, s)
			if at, ok := l.good[s.Site]; ok {
				host.good[s.Site] = at
			}
		}
	}
	host.arrange()
	c.emit(host, Widened)
	for _, l := range others {
		l.MergedInto = host.ID
		c.emit(l, Merged)
	}
}

// arrange orders the sites and finds the earliest.
func (l *live) arrange() {
	slices.SortFunc(l.Sites, func(a, b Site) int { return cmp.Compare(a.Site, b.Site) })
	l.Since = slices.MinFunc(l.Sites, func(a, b Site) int { return a.Since.Compare(b.Since) }).Since
	l.Until = time.Time{}
}

func (l *live) grow(now time.Time) {
	l.dirty = true
	if l.grown.IsZero() {
		l.grown = now
	}
}

// enter adds a line to the timeline, in the order of what it tells.
func (l *live) enter(step Step, at time.Time) {
	e := Entry{At: at, Step: step, Sites: l.Silent(), Node: l.Place.Node, Cause: l.Cause}
	k := len(l.Timeline)
	for k > 0 && l.Timeline[k-1].At.After(at) {
		k--
	}
	l.Timeline = slices.Insert(l.Timeline, k, e)
	if len(l.Timeline) > maxTimeline {
		l.Timeline = slices.Delete(l.Timeline, maxTimeline/2, maxTimeline/2+1)
	}
}

// tell notes that an event names every site as it is now.
func (l *live) tell() {
	for _, s := range l.Sites {
		l.told[s.Site] = !s.Until.IsZero()
	}
}

// emit makes an event of an incident as it is now.
func (c *course) emit(l *live, t EventType) {
	if t != noted {
		l.enter(Step(t), c.now)
		l.tell()
		l.grown, l.shrunk = time.Time{}, time.Time{}
	}
	l.dirty, l.noted = false, c.now
	c.out = append(c.out, Event{At: c.now, Type: t, Incident: l.Incident.clone()})
}

// settle tells what is due of an open incident.
func (c *course) settle(l *live) {
	switch {
	case !l.Open():
		return
	case l.Kind == Ours:
		c.settleOurs(l)
	case !l.Unstable && c.stirred(l, suppressAt):
		l.Unstable = true
		c.emit(l, Unstable)
	case l.Unstable && c.stirred(l, reuseBelow):
	case c.recovered(l):
		l.Unstable = false
		if cause, _, ok := l.verdict(); ok {
			l.Cause = cause
		} else if l.Kind == Quality {
			l.Cause = l.Guess // it was heard all along: nothing more will come
		}
		l.RecoveredAt, l.Remaining = c.now, nil
		c.emit(l, Recovered)
		c.closed = append(c.closed, l)
	case l.Silent() == 0:
		l.Unstable = false
	case c.deaf: // what seems to change may be us
	case !l.grown.IsZero() && c.now.Sub(l.grown) >= c.timers.Hold:
		l.Unstable = false
		c.emit(l, Widened)
	case c.narrowed(l):
		l.Unstable = false
		l.Remaining = c.remaining(l)
		c.emit(l, Narrowed)
	default:
		l.Unstable = false
	}
	c.note(l)
}

// note keeps what is nobody's news. A note is a whole incident: large ones are
// noted less often.
func (c *course) note(l *live) {
	if l.dirty && c.now.Sub(l.noted) >= c.timers.Note+time.Duration(len(l.Sites))*50*time.Millisecond {
		c.emit(l, noted)
	}
}

// goodFor is how long a site has been heard without a break; below 0: it is not.
func (c *course) goodFor(l *live, s Site) time.Duration {
	at, ok := l.good[s.Site]
	if !ok {
		return -1
	}
	if c.listening.After(at) { // what we did not hear was not good
		at = c.listening
	}
	return c.now.Sub(at)
}

// recovered reports whether an incident is over: nobody silent for long enough,
// and the records here or waited for.
func (c *course) recovered(l *live) bool {
	if l.Silent() > 0 {
		return false
	}
	need := c.timers.Good
	if l.Group() {
		need = c.timers.GoodGroup
	}
	for _, s := range l.Sites {
		if s.Withdrawn {
			continue
		}
		if c.goodFor(l, s) < need {
			return false
		}
	}
	_, all, _ := l.verdict()
	return all || l.Kind == Quality || c.now.Sub(l.Until) >= c.timers.Records || l.withdrawn()
}

// withdrawn reports whether none of its sites is watched any more.
func (i *Incident) withdrawn() bool {
	return !slices.ContainsFunc(i.Sites, func(s Site) bool { return !s.Withdrawn })
}

// narrowed reports whether it is time to tell that some are back for good.
func (c *course) narrowed(l *live) bool {
	news := false
	for _, s := range l.Sites {
		news = news || !l.told[s.Site] && c.goodFor(l, s) >= c.timers.Good
	}
	if news && l.shrunk.IsZero() {
		l.shrunk = c.now
	}
	return news && c.now.Sub(l.shrunk) >= c.timers.Hold
}

// remaining is the place of what is still silent.
func (c *course) remaining(l *live) *Place {
	f := c.fleet(c.now)
	still := map[int]bool{}
	seed := -1
	for _, s := range l.Sites {
		if i, ok := f.bySite[s.Site]; ok && s.Until.IsZero() {
			still[i] = true
			if seed < 0 {
				seed = i
			}
		}
	}
	if seed < 0 {
		return nil
	}
	x := f.locate(seed, func(i int) mark {
		switch {
		case still[i]:
			return fell
		case f.watched(i) && f.heard(i):
			return up
		}
		return unwatched
	})
	if len(x.sites) < len(still) { // no one node explains them: it is still the whole place, in part
		p := l.Place
		p.Separable = false
		return &p
	}
	return &x.place
}

// settleOurs ends an incident of our own once we have listened well for minutes.
// Sites that are silent all the same were not silent for our sake.
func (c *course) settleOurs(l *live) {
	if c.now.Sub(c.listening) < c.timers.GoodGroup {
		return
	}
	l.Sites = slices.DeleteFunc(l.Sites, func(s Site) bool { return s.Until.IsZero() })
	l.Until = c.listening
	for _, s := range l.Sites {
		if s.Until.After(l.Until) {
			l.Until = s.Until
		}
	}
	l.RecoveredAt = c.now
	c.emit(l, Recovered)
}

// learn takes what a probe kept of a cut. It reports whether an incident waits
// for it.
func (c *course) learn(site measure.SiteID, r Record) bool {
	r.From, r.To = utc(r.From), utc(r.To)
	for _, list := range [][]*live{c.open, c.closed} {
		for _, l := range slices.Backward(list) {
			if l.Kind != Outage {
				continue
			}
			for k := range l.Sites {
				s := &l.Sites[k]
				if s.Site != site || !s.meets(r) {
					continue
				}
				if s.Record != nil && *s.Record == r {
					return true
				}
				s.Record = &r
				l.conclude()
				l.dirty = true
				return true
			}
		}
	}
	return false
}

// meets reports whether a record speaks of the time in which a site was silent.
func (s Site) meets(r Record) bool {
	return r.To.After(s.Since) && (s.Until.IsZero() || r.From.Before(s.Until))
}

// reconsider tells the cause of an incident that is over, if its records came, or
// changed, since.
func (c *course) reconsider(l *live) {
	if !l.dirty {
		return
	}
	if cause, _, ok := l.verdict(); ok && cause != l.Cause {
		l.Cause = cause
		c.emit(l, CauseFound)
		return
	}
	c.note(l)
}

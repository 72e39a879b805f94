// Package evidence gathers what probes kept of a cut: once the line is back their
// batches tell whether the box ran, measured, had its LAN, and how far it reached.
// From that an incident learns its cause.
//
// It guarantees that a record is drawn from event time as every reader of the
// journal dates it, that results which arrive twice count once, and that what is
// not known stays unknown. It holds little: what arrived within the last hour,
// and the boots that each probe has had lately. What a restart forgets is read
// again from the journal, by the same method.
package evidence

import (
	"slices"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	// keep is for how long after its receipt a result is held.
	keep = time.Hour
	// maxSlots bounds the results of one probe: a week of minutes.
	maxSlots = 7 * 24 * 60
	// maxBoots bounds the boots that are remembered of a probe.
	maxBoots = 16
	// maxBatches bounds how many batches are counted: a week of one each 5 minutes,
	// and some.
	maxBatches = 4000
	// pause between two batches after which what follows is a catching up.
	pause = 2 * time.Minute
	// taking is how long after its slot a reach result may still be measuring.
	taking = 5 * time.Second
	// whole is how long nothing may have come of a cut, whose batches are all here,
	// before its record is drawn; quiet is the same where some may be missing.
	whole = 20 * time.Second
	quiet = 3 * time.Minute
)

// Options of a Gatherer. All are required.
type Options struct {
	Inventory func() *inventory.Inventory
	// Slot is the time between two light results of a probe, Beat between two of its
	// heartbeats.
	Slot, Beat time.Duration
}

// Gatherer holds the recent results of all probes. It is safe for concurrent use.
type Gatherer struct {
	opt Options

	mu     sync.Mutex
	trails map[measure.ProbeID]*trail
}

// trail is what is held of one probe.
type trail struct {
	slots []slot // by event time, each once
	boots []stay // by first
	// Batches of the present epoch: the numbers that arrived above base, up to which
	// all were here before the last pause.
	epoch      wire.Epoch
	base, high uint64
	since      map[uint64]struct{}
	last       time.Time // receipt of the latest batch
}

// slot is one reach result.
type slot struct {
	at, received                   time.Time
	boot                           measure.BootID
	carrier, lan, hop, olt, beyond wire.Tri
}

// stay is a boot, as far as results or seals show it.
type stay struct {
	boot        measure.BootID
	first, last time.Time
}

// New makes an empty gatherer.
func New(o Options) *Gatherer {
	return &Gatherer{opt: o, trails: map[measure.ProbeID]*trail{}}
}

// Batch takes a batch that is durable. It may be one that was taken before.
func (g *Gatherer) Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent) {
	inv := g.opt.Inventory()
	dater := series.NewDater(&b, sent, received)
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.trails[id]
	if t == nil {
		t = &trail{since: map[uint64]struct{}{}}
		g.trails[id] = t
	}
	t.number(b, received)
	if at, _, why := dater.Date(b.Boot, b.SealedMono, b.SealedAt); why == "" {
		t.boot(b.Boot, at)
	}
	for _, r := range b.Results {
		if r.Kind != measure.KindReach || r.Outcome == measure.Skipped {
			continue
		}
		at, _, why := dater.Date(r.Boot, r.Monotonic, r.MeasuredAt)
		if why != "" || at.After(received.Add(time.Minute)) {
			continue
		}
		t.boot(r.Boot, at)
		t.add(slotOf(r, at, received, inv))
	}
	t.forget(received)
}

// number notes which batches are here. A pause ends what is counted only once all
// of it is here: a catching up may be slowed down by ourselves.
func (t *trail) number(b wire.Batch, received time.Time) {
	switch {
	case b.Epoch != t.epoch:
		t.epoch = b.Epoch
		t.begin(b.Seq - 1)
	case received.Sub(t.last) > pause && t.complete(), len(t.since) >= maxBatches:
		t.begin(t.high)
	}
	if received.After(t.last) {
		t.last = received
	}
	t.high = max(t.high, b.Seq)
	if b.Seq > t.base {
		t.since[b.Seq] = struct{}{}
	}
}

// begin counts batches above base.
func (t *trail) begin(base uint64) {
	t.base, t.high = base, base
	clear(t.since)
}

// complete reports whether every batch that is counted is here.
func (t *trail) complete() bool { return uint64(len(t.since)) == t.high-t.base }

func (t *trail) boot(id measure.BootID, at time.Time) {
	if id == "" {
		return
	}
	for i := range t.boots {
		if s := &t.boots[i]; s.boot == id {
			if at.Before(s.first) {
				s.first = at
			}
			if at.After(s.last) {
				s.last = at
			}
			return
		}
	}
	t.boots = append(t.boots, stay{id, at, at})
	slices.SortFunc(t.boots, func(a, b stay) int { return a.first.Compare(b.first) })
	if n := len(t.boots); n > maxBoots {
		t.boots = slices.Clone(t.boots[n-maxBoots:])
	}
}

func (t *trail) add(s slot) {
	i, found := slices.BinarySearchFunc(t.slots, s.at, func(x slot, at time.Time) int { return x.at.Compare(at) })
	if !found {
		t.slots = slices.Insert(t.slots, i, s)
	}
}

// forget drops what came long ago, and the oldest of what is too much.
func (t *trail) forget(now time.Time) {
	t.slots = slices.DeleteFunc(t.slots, func(s slot) bool { return now.Sub(s.received) > keep })
	if n := len(t.slots); n > maxSlots {
		t.slots = slices.Clone(t.slots[n-maxSlots:])
	}
}

// slotOf is what one result says. Several targets of one sort: one answer is
// enough, for what lies between is the same.
func slotOf(r measure.Result, at, received time.Time, inv *inventory.Inventory) slot {
	s := slot{at: at, received: received, boot: r.Boot}
	for _, v := range r.Values {
		said := wire.TriOf(v.Number > 0)
		switch v.Metric {
		case measure.CarrierUp:
			s.carrier = said
		case measure.LANGatewayReachable:
			s.lan = said
		case measure.FirstHopReachable:
			s.hop = said
		case measure.TargetReachable:
			target, ok := inv.Target(v.Target, at)
			switch {
			case !ok:
			case target.Node == "":
				s.beyond = max(s.beyond, said)
			case upperNode(inv, target.Node, at):
				s.olt = max(s.olt, said)
			}
		}
	}
	return s
}

// upperNode reports whether a node is the OLT or above it.
func upperNode(inv *inventory.Inventory, id inventory.NodeID, at time.Time) bool {
	n, ok := inv.Node(id, at)
	return ok && (n.Type == inventory.NodeOLT || n.Type == inventory.NodeBNG || n.Type == inventory.NodePOP)
}

// Record is what the probes of one site kept of a cut, from the last heartbeat
// before it to the first after. ok is false while more of it may come.
//
// Of several probes at a site the one that tells most is heard.
func (g *Gatherer) Record(probes []measure.ProbeID, from, to, now time.Time) (r incident.Record, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	found := false
	for _, id := range probes {
		t := g.trails[id]
		if t == nil {
			continue
		}
		one, done := t.record(from, to, now, g.opt)
		if done && (!found || one.Measured.Answered > r.Measured.Answered) {
			r, found = one, true
		}
	}
	return r, found
}

func (t *trail) record(from, to, now time.Time, o Options) (incident.Record, bool) {
	r := incident.Record{From: from, To: to}
	r.Measured.Asked = int(to.Sub(from) / o.Slot)
	// The line broke at some time before the heartbeat that was missed first, and was
	// back some time before the one that was heard again: what was reached at these
	// ends tells nothing of the cut.
	begin, end := from.Add(o.Beat), to.Add(-o.Beat-taking)
	within := 0
	var latest time.Time
	for _, s := range t.slots {
		if s.at.Before(from) || s.at.After(to) {
			continue
		}
		r.Measured.Answered++
		if s.received.After(latest) {
			latest = s.received
		}
		if s.at.Before(begin) || s.at.After(end) {
			continue
		}
		within++
		count(&r.Carrier, s.carrier)
		count(&r.LANGateway, s.lan)
		count(&r.FirstHop, s.hop)
		count(&r.OLT, s.olt)
		count(&r.Beyond, s.beyond)
	}
	if !t.last.After(to) {
		return r, false // nothing was pushed since
	}
	r.SameBoot = t.sameBoot(from, to)
	waited := now.Sub(later(latest, to))
	all := r.Measured.Asked > 0 && r.Measured.Answered >= r.Measured.Asked-1 && within >= int(end.Sub(begin)/o.Slot)
	if !all && (!t.complete() || waited < whole) && waited < quiet {
		return r, false
	}
	// One slot at either end of a cut is not lost: it lies beside it.
	r.Measured.Answered = min(r.Measured.Answered, r.Measured.Asked)
	return r, true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count adds one answer to a tally.
func count(a *incident.Answers, t wire.Tri) {
	switch t {
	case wire.Yes:
		a.Asked++
		a.Answered++
	case wire.No:
		a.Asked++
	}
}

// sameBoot reports whether one boot spans a cut.
func (t *trail) sameBoot(from, to time.Time) wire.Tri {
	before, after := -1, -1
	for i, s := range t.boots {
		if !s.first.After(from) {
			before = i // the latest that had begun
		}
		if after < 0 && !s.last.Before(to) {
			after = i
		}
	}
	if before < 0 || after < 0 {
		return wire.Unknown
	}
	return wire.TriOf(before == after)
}

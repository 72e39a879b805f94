// Package ticket lets heavy tests begin: a probe asks before each, and gets a
// signed ticket or a time to come back.
//
// It guarantees that no measurement server has more tests under way than it may,
// nor all together; that no two probes of one site, which share a line, test at
// once; and that whoever has to wait gets a turn of its own: turns are handed out
// in the order of asking, a test's mean time apart, so that those who were refused
// together do not return together.
//
// What it knows is in memory. After a start of the collector tests that began
// before are not known for the at most three minutes ([wire.TicketLife]) that their
// tickets live: meanwhile a measurement server's own limit is what holds, and what
// it tells of a site's other tests marks a shared line.
package ticket

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Defaults of [Limits].
//
// PerTarget: 20 tests on lines of 38 Mbit/s, the mean of Klaten's villages, are
// three quarters of a server's 1 Gbit/s. With a test of 15 s every 6 h a server has
// room for 20 x 6 h / 15 s = 28,800 probes; only a crowd, as after a power cut, has to wait.
//
// Total: ten such servers, 7.6 Gbit/s of the exchange's.
const (
	DefaultPerTarget = 20
	DefaultTotal     = 200
)

// Limits are how many tests may be under way. Zero fields take their defaults.
type Limits struct {
	PerTarget int // against one measurement server
	Total     int
}

// Check returns what is wrong, by the name of the field.
func (l Limits) Check() map[string]string {
	wrong := map[string]string{}
	for name, n := range map[string]int{"per_target": l.PerTarget, "total": l.Total} {
		if n < 0 || n > 100_000 {
			wrong[name] = fmt.Sprintf("%d is not within 0 (the default) and 100000", n)
		}
	}
	return wrong
}

// Places knows where probes are and what they may test against.
type Places interface {
	// Place is the site of a probe at an instant; not ok if it has none.
	Place(id measure.ProbeID, at time.Time) (site measure.SiteID, ok bool)
	// Target reports whether a site may test against a server.
	Target(site measure.SiteID, target measure.TargetID, at time.Time) bool
}

// Options of a Desk. Key and Places are required.
type Options struct {
	Key    ed25519.PrivateKey
	Places Places
	Limits Limits
	Now    func() time.Time // default: time.Now
	// Rand spreads returns: uniform in [0,1). Default: math/rand's.
	Rand       func() float64
	Registerer prometheus.Registerer // default: none
}

// Reason is why there is no ticket now.
type Reason string

// The reasons.
const (
	SameLine  Reason = "same_line" // another probe of the site is testing
	Saturated Reason = "saturated" // as many tests as may be are under way, or others wait their turn
)

// Refusal is the error of a wish that has to wait.
type Refusal struct {
	Reason Reason
	After  time.Duration // when to ask again
}

func (r *Refusal) Error() string {
	if r.Reason == SameLine {
		return fmt.Sprintf("another probe of this site is testing its line: again in %v", r.After.Round(time.Second))
	}
	return fmt.Sprintf("as many tests are under way as may be: again in %v", r.After.Round(time.Second))
}

// Errors of wishes that waiting does not mend.
var (
	ErrNoPlace  = errors.New("the inventory places this probe nowhere")
	ErrNoTarget = errors.New("the inventory has no such measurement server for this probe's site")
)

// Desk gives tickets. It is safe for concurrent use.
type Desk struct {
	opt     Options
	metrics metrics

	mu    sync.Mutex
	held  map[measure.ProbeID]*holding
	lines map[measure.SiteID]*holding
	lanes map[measure.TargetID]*lane
	all   *lane
}

// holding is a ticket whose test may be under way.
type holding struct {
	wire.Ticket
	since time.Time
}

// New makes a desk.
func New(o Options) (*Desk, error) {
	if len(o.Key) != ed25519.PrivateKeySize || o.Places == nil {
		return nil, errors.New("ticket: Key and Places are required")
	}
	o.Limits.PerTarget = cmp.Or(o.Limits.PerTarget, DefaultPerTarget)
	o.Limits.Total = cmp.Or(o.Limits.Total, DefaultTotal)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = mathrand.Float64
	}
	d := &Desk{opt: o, held: map[measure.ProbeID]*holding{}, lines: map[measure.SiteID]*holding{},
		lanes: map[measure.TargetID]*lane{}, all: newLane(o.Limits.Total)}
	d.metrics = newMetrics(d)
	return d, d.metrics.register(o.Registerer)
}

// Ask gives a ticket and its token, or says when to come back ([Refusal]). Other
// errors: [ErrNoPlace], [ErrNoTarget]. A probe that asks while it has a ticket has
// lost the answer or was started anew: it gets another one in its place.
func (d *Desk) Ask(id measure.ProbeID, target measure.TargetID) (wire.Ticket, string, error) {
	now := d.opt.Now()
	site, ok := d.opt.Places.Place(id, now)
	if !ok {
		return wire.Ticket{}, "", ErrNoPlace
	}
	if !d.opt.Places.Target(site, target, now) {
		return wire.Ticket{}, "", ErrNoTarget
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lapse(now)
	if old := d.held[id]; old != nil {
		d.drop(old)
	}
	l := d.lane(target)
	if other := d.lines[site]; other != nil {
		after := max(other.since.Add(l.hold).Sub(now), 0) + d.spread(l.hold)
		return wire.Ticket{}, "", d.refuse(SameLine, after)
	}
	if after := max(l.wait(id, now), d.all.wait(id, now)); after > 0 {
		return wire.Ticket{}, "", d.refuse(Saturated, after+d.spread(l.hold/4))
	}
	t := wire.Ticket{Site: site, Probe: id, Target: target, Expires: now.Add(wire.TicketLife)}
	rand.Read(t.ID[:]) // never fails (crypto/rand since Go 1.24)
	token, err := t.Token(d.opt.Key)
	if err != nil {
		return wire.Ticket{}, "", err
	}
	h := &holding{t, now}
	d.held[id], d.lines[site] = h, h
	l.enter(id)
	d.all.enter(id)
	d.metrics.granted.Inc()
	return t, token, nil
}

// Finish says that a ticket's test has ended. One that is not known has lapsed.
func (d *Desk) Finish(id measure.ProbeID, ticket wire.TicketID) {
	now := d.opt.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lapse(now)
	h := d.held[id]
	if h == nil || h.ID != ticket {
		return
	}
	d.drop(h)
	took := now.Sub(h.since)
	d.lane(h.Target).took(took)
	d.all.took(took)
}

func (d *Desk) refuse(r Reason, after time.Duration) *Refusal {
	d.metrics.refused.WithLabelValues(string(r)).Inc()
	return &Refusal{r, max(after, time.Second)}
}

func (d *Desk) spread(most time.Duration) time.Duration {
	return time.Duration(d.opt.Rand() * float64(most))
}

func (d *Desk) lane(target measure.TargetID) *lane {
	l := d.lanes[target] // the inventory bounds them
	if l == nil {
		l = newLane(d.opt.Limits.PerTarget)
		d.lanes[target] = l
	}
	return l
}

// drop ends a holding. The caller holds mu.
func (d *Desk) drop(h *holding) {
	delete(d.held, h.Probe)
	if d.lines[h.Site] == h {
		delete(d.lines, h.Site)
	}
	d.lane(h.Target).under--
	d.all.under--
}

// lapse ends what was never handed back. The caller holds mu.
func (d *Desk) lapse(now time.Time) {
	for _, h := range d.held { // at most Limits.Total
		if !now.Before(h.Expires) {
			d.drop(h)
			d.metrics.lapsed.Inc()
		}
	}
}

package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/incident/linelog"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Options of an Engine. Path and Inventory are required.
type Options struct {
	// Path is the log's file; its directory exists.
	Path string
	// Inventory is the one that is valid now. It must not be nil at the first view.
	Inventory func() *inventory.Inventory
	// Notify is told of each event, once it is durable, in order. It must return
	// soon and must not call Observe. After a crash it may not have been told of the
	// last ones: see [Engine.EventsAfter]. nil: nobody is told.
	Notify     func(Event)
	Timers     Timers
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: none
}

// Engine keeps the incidents of all sites. It is safe for concurrent use. Nothing
// happens but in Observe, which the owner calls each second.
type Engine struct {
	opt     Options
	events  *prometheus.CounterVec
	log     *linelog.Log
	damaged int

	turn    sync.Mutex // one Observe at a time; held over the disk
	pending []Event    // that the disk did not take yet

	mu      sync.RWMutex // guards what follows; taken after turn
	course  *course
	seq     uint64
	offsets []entry // of the events that are told, by seq
	latest  map[ID]*latest
	order   []*latest // by opening
}

// entry is where an event stands in the log.
type entry struct {
	seq    uint64
	offset int64
}

// latest is where the last line about an incident stands.
type latest struct {
	id     ID
	offset int64
	ended  time.Time // zero: open
}

// ErrNotFound: there is no such incident.
var ErrNotFound = errors.New("incident: not found")

// New opens the log and restores every incident from it.
func New(o Options) (*Engine, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Engine{opt: o, course: newCourse(o.Timers), latest: map[ID]*latest{},
		events: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_collector_incident_events_total",
			Help: "Events of incidents since the start, by type."}, []string{"type"})}
	for _, t := range EventTypes() {
		e.events.WithLabelValues(string(t))
	}
	log, torn, err := linelog.Open(o.Path, e.restore)
	if err != nil {
		return nil, err
	}
	e.log = log
	e.course.resume()
	if torn > 0 {
		o.Logger.Warn("the incidents' log ended in half a line, left by a crash: cut", "file", o.Path, "bytes", torn)
	}
	if e.damaged > 0 {
		o.Logger.Error("the incidents' log has lines that cannot be read: they are kept and passed over", "file", o.Path, "lines", e.damaged)
	}
	if o.Registerer != nil {
		if err := errors.Join(o.Registerer.Register(e.events), o.Registerer.Register(gauge{e})); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	return e, nil
}

// restore takes one line of the log. One that cannot be read had a sequence
// number, which is never given again.
func (e *Engine) restore(offset int64, object []byte, err error) {
	var ev Event
	if err == nil {
		ev, err = decode(object)
	}
	if err == nil && ev.Seq <= e.seq {
		err = fmt.Errorf("%w: event %d after %d", linelog.ErrDamaged, ev.Seq, e.seq)
	}
	if err != nil {
		e.damaged++
		e.seq++
		e.opt.Logger.Warn("a line of the incidents' log cannot be read", "offset", offset, "err", err)
		return
	}
	e.seq = ev.Seq
	e.index(ev, offset)
	e.course.restore(ev)
}

// decode reads an event, and refuses one that no engine could have written.
func decode(object []byte) (Event, error) {
	var ev Event
	if err := json.Unmarshal(object, &ev); err != nil {
		return Event{}, fmt.Errorf("%w: %w", linelog.ErrDamaged, err)
	}
	if ev.Seq == 0 || ev.At.IsZero() || ev.Type != noted && !slices.Contains(EventTypes(), ev.Type) {
		return Event{}, fmt.Errorf("%w: no event", linelog.ErrDamaged)
	}
	if _, _, ok := ev.Incident.ID.split(); !ok || len(ev.Incident.Sites) == 0 && ev.Incident.Kind != Ours {
		return Event{}, fmt.Errorf("%w: no incident", linelog.ErrDamaged)
	}
	return ev, nil
}

// index notes where a durable event stands.
func (e *Engine) index(ev Event, offset int64) {
	if ev.Type != noted {
		e.offsets = append(e.offsets, entry{ev.Seq, offset})
	}
	l := e.latest[ev.Incident.ID]
	if l == nil {
		l = &latest{id: ev.Incident.ID}
		e.latest[l.id] = l
		e.order = append(e.order, l)
	}
	l.offset, l.ended = offset, time.Time{}
	if !ev.Incident.Open() {
		l.ended = ev.Incident.RecoveredAt
		if l.ended.IsZero() {
			l.ended = ev.At
		}
	}
}

// Observe takes what is known of all sites now, decides, makes what follows
// durable and tells it. After an error nothing was told: the next call tries the
// same events again before it decides anew. now must not be older than the last.
func (e *Engine) Observe(now time.Time, v View) error {
	e.turn.Lock()
	defer e.turn.Unlock()
	if len(e.pending) == 0 {
		e.decide(now, v)
	}
	if len(e.pending) == 0 {
		return nil
	}
	events := e.pending
	objects := make([][]byte, len(events))
	for i, ev := range events {
		var err error
		if objects[i], err = json.Marshal(ev); err != nil {
			return fmt.Errorf("incident: event %d: %w", ev.Seq, err)
		}
	}
	offsets, err := e.log.Append(objects...)
	if err != nil {
		return fmt.Errorf("incident: %d events cannot be kept: %w", len(events), err)
	}
	e.pending = nil
	e.mu.Lock()
	for i, ev := range events {
		e.index(ev, offsets[i])
	}
	e.mu.Unlock()
	for _, ev := range events {
		if ev.Type == noted {
			continue
		}
		e.events.WithLabelValues(string(ev.Type)).Inc()
		e.opt.Logger.Info("incident", "event", string(ev.Type), "incident", string(ev.Incident.ID), "kind", string(ev.Incident.Kind),
			"node", string(ev.Incident.Place.Node), "sites", len(ev.Incident.Sites), "silent", ev.Incident.Silent(),
			"guess", string(ev.Incident.Guess), "cause", string(ev.Incident.Cause))
		if e.opt.Notify != nil {
			e.opt.Notify(ev)
		}
	}
	return nil
}

func (e *Engine) decide(now time.Time, v View) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pending = e.course.step(e.opt.Inventory(), now, v)
	for i := range e.pending {
		e.seq++
		e.pending[i].Seq = e.seq
	}
}

// Evidence takes what a site's probe kept of a cut, once all of it is here; a
// later one about the same cut replaces it. It reports whether an incident of the
// last days knows that cut. What follows is told by the next Observe.
func (e *Engine) Evidence(site measure.SiteID, r Record) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.course.learn(site, r)
}

// Cut is a stretch in which a site of an incident was not heard, and is again.
type Cut struct {
	Site     measure.SiteID
	From, To time.Time // the last heartbeat before, the first after
	Record   *Record   // what is known of it; nil: nothing yet
}

// Cuts returns the cuts whose records may still be learnt: of the outages that go
// on, and of those that ended within Timers.Remember.
func (e *Engine) Cuts() []Cut {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []Cut
	for _, list := range [][]*live{e.course.open, e.course.closed} {
		for _, l := range list {
			if l.Kind != Outage {
				continue
			}
			for _, s := range l.Sites {
				if !s.Until.IsZero() && !s.Withdrawn {
					out = append(out, Cut{s.Site, s.Heard, s.Until, s.Record})
				}
			}
		}
	}
	return out
}

// Open returns the incidents that go on, the oldest first. One that opened in the
// present Observe may be shown a moment before its event is durable.
func (e *Engine) Open() []Incident {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]Incident, 0, len(e.course.open))
	for _, l := range e.course.open {
		out = append(out, l.clone())
	}
	return out
}

// ByID returns an incident, however old. The error wraps ErrNotFound if there is
// none.
func (e *Engine) ByID(id ID) (Incident, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, list := range [][]*live{e.course.open, e.course.closed} {
		for _, l := range list {
			if l.ID == id {
				return l.clone(), nil
			}
		}
	}
	l := e.latest[id]
	if l == nil {
		return Incident{}, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	ev, err := e.read(l.offset)
	return ev.Incident, err
}

// Recent returns the incidents that were open at any time after an instant, the
// latest opened first.
func (e *Engine) Recent(since time.Time) ([]Incident, error) {
	e.mu.RLock()
	var ids []ID
	for _, l := range slices.Backward(e.order) {
		if l.ended.IsZero() || l.ended.After(since) {
			ids = append(ids, l.id)
		}
	}
	e.mu.RUnlock()
	out := make([]Incident, 0, len(ids))
	for _, id := range ids {
		i, err := e.ByID(id)
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// EventsAfter returns up to limit events with a sequence number above seq, in
// order; all are durable. A consumer that was told of seq last begins here after
// a start.
func (e *Engine) EventsAfter(seq uint64, limit int) ([]Event, error) {
	e.mu.RLock()
	k, _ := slices.BinarySearchFunc(e.offsets, seq+1, func(x entry, seq uint64) int {
		switch {
		case x.seq < seq:
			return -1
		case x.seq > seq:
			return 1
		}
		return 0
	})
	todo := slices.Clone(e.offsets[k:min(len(e.offsets), k+max(limit, 0))])
	e.mu.RUnlock()
	out := make([]Event, 0, len(todo))
	for _, x := range todo {
		ev, err := e.read(x.offset)
		if err != nil {
			return nil, err
		}
		out = append(out, ev)
	}
	return out, nil
}

func (e *Engine) read(offset int64) (Event, error) {
	object, err := e.log.Read(offset)
	if err != nil {
		return Event{}, err
	}
	return decode(object)
}

// Damaged is how many lines of the log could not be read at the start.
func (e *Engine) Damaged() int { return e.damaged }

// Close gives the log back.
func (e *Engine) Close() error {
	e.turn.Lock()
	defer e.turn.Unlock()
	return e.log.Close()
}

// gauge shows how many incidents are open.
type gauge struct{ e *Engine }

var openDesc = prometheus.NewDesc("pantau_collector_incidents_open", "Incidents that go on, by kind.", []string{"kind"}, nil)

func (g gauge) Describe(ch chan<- *prometheus.Desc) { ch <- openDesc }

func (g gauge) Collect(ch chan<- prometheus.Metric) {
	count := map[Kind]int{Outage: 0, Quality: 0, Ours: 0}
	g.e.mu.RLock()
	for _, l := range g.e.course.open {
		count[l.Kind]++
	}
	g.e.mu.RUnlock()
	for kind, n := range count {
		ch <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(n), string(kind))
	}
}

package collector

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/incident/evidence"
	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/uplink"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	// listEvery is the time between two listings of open incidents.
	listEvery = time.Minute
	// learnFor is how long after a cut its record may still be drawn.
	learnFor = 2 * time.Hour
	// before a cut: enough of the journal to know the boot that it fell into.
	beforeCut = 15 * time.Minute
)

func (c *Collector) openIncidents(context.Context) (err error) {
	// Our own uplink is known well before a silence is suspect, or it would be blamed
	// on others.
	every := 10 * time.Second
	if suspect := c.opt.Incidents.Suspect; suspect > 0 {
		every = min(every, suspect/5)
	}
	c.uplink = uplink.New(uplink.Options{Every: every, Patience: min(4*time.Second, every), Addresses: c.uplinkAddresses, Dial: c.opt.UplinkDial, Logger: c.log, Registerer: c.reg})
	c.evidence = evidence.New(evidence.Options{Inventory: c.inventory, Slot: cmp.Or(c.opt.Schedule.Light, time.Minute),
		Beat: cmp.Or(c.opt.Schedule.Heartbeat, 30*time.Second)})
	c.incidents, err = incident.New(incident.Options{Path: c.path("incidents.log"), Inventory: c.inventory, Timers: c.opt.Incidents,
		Notify: c.tellIncident, Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.closeLater(c.incidents.Close)
	return nil
}

// uplinkAddresses are what our own uplink is tried with: the configured ones, or
// the measurement servers of the inventory.
func (c *Collector) uplinkAddresses() []string {
	if len(c.opt.Uplink) > 0 {
		return c.opt.Uplink
	}
	const most = 4
	var out []string
	for _, t := range c.inventory().Targets(time.Now()) {
		if t.Method != inventory.MethodSpeed || len(out) == most {
			continue
		}
		u, err := url.Parse(t.URL)
		if err != nil {
			continue
		}
		port := u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
		}
		if a := net.JoinHostPort(u.Hostname(), port); !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// hearers are told of every batch.
type hearers []interface {
	Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent)
}

// Batch implements ingest.Batches.
func (h hearers) Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent) {
	for _, x := range h {
		x.Batch(id, received, b, sent)
	}
}

func (c *Collector) tellIncident(incident.Event) {
	select {
	case c.news <- struct{}{}:
	default:
	}
	if c.alerts != nil {
		c.alerts.Wake()
	}
}

// runIncidents looks at all sites each second, until ctx ends.
func (c *Collector) runIncidents(ctx context.Context) error {
	if err := c.recall(ctx); err != nil && ctx.Err() == nil {
		c.log.Error("what probes kept of earlier cuts cannot be read again: their cause may stay unknown", "err", err)
	}
	t := time.NewTicker(time.Second)
	defer t.Stop()
	var listed time.Time
	due, failing := true, false
	for {
		now := time.Now()
		c.learn(now)
		err := c.incidents.Observe(now, c.view())
		if failing != (err != nil) {
			if failing = err != nil; failing {
				c.log.Error("incidents cannot be kept: nobody is told until they are", "err", err)
			}
		}
		due = due || now.Sub(listed) >= listEvery
		select {
		case <-c.news:
			due = true
		default:
		}
		if due && c.list(ctx, now) {
			listed, due = now, false
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// view is what the incident engine must know.
func (c *Collector) view() incident.View {
	listening, signs := c.states.Signs()
	v := incident.View{Listening: listening, Uplink: c.uplink.Works(), Sites: make([]incident.SiteView, len(signs))}
	for i, s := range signs {
		v.Sites[i] = incident.SiteView{Site: s.Site, State: s.State, Since: s.Since, LastBeat: s.LastBeat,
			Carrier: s.Carrier, LANGateway: s.LANGateway, FirstHop: s.FirstHop, Beyond: s.Beyond, Health: s.Health}
	}
	return v
}

// learn hands the incidents what the probes' records tell by now.
func (c *Collector) learn(now time.Time) {
	inv := c.inventory()
	for _, cut := range c.incidents.Cuts() {
		if now.Sub(cut.To) > learnFor {
			continue
		}
		var probes []measure.ProbeID
		for _, p := range inv.ProbesAt(cut.Site, cut.To) {
			probes = append(probes, p.Probe)
		}
		r, ok := c.evidence.Record(probes, cut.From, cut.To, now)
		if ok && (cut.Record == nil || *cut.Record != r) {
			c.incidents.Evidence(cut.Site, r)
		}
	}
}

// list writes which incidents go on into the journal, from which their series is
// made. It reports whether that worked.
func (c *Collector) list(ctx context.Context, now time.Time) bool {
	body, err := json.Marshal(c.incidents.Listing(now))
	if err == nil {
		_, err = c.journal.Append(ctx, journal.Record{Type: journal.Incidents, ReceivedAt: now, Body: body})
	}
	if err != nil && ctx.Err() == nil {
		c.log.Warn("the listing of incidents cannot be kept: trying again", "err", err)
	}
	return err == nil
}

// recall reads again, from the journal, what the probes sent about the cuts whose
// causes are still to be learnt.
func (c *Collector) recall(ctx context.Context) error {
	now := time.Now()
	from := now.Add(-beforeCut)
	for _, cut := range c.incidents.Cuts() {
		if now.Sub(cut.To) <= learnFor && cut.From.Add(-beforeCut).Before(from) {
			from = cut.From.Add(-beforeCut)
		}
	}
	for _, i := range c.incidents.Open() {
		if i.Kind != incident.Ours && i.Since.Add(-beforeCut).Before(from) {
			from = i.Since.Add(-beforeCut)
		}
	}
	from = later(from, now.Add(-7*24*time.Hour))
	end := c.journal.End()
	at, err := c.journal.Since(from)
	if err != nil {
		return err
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return err
	}
	r := c.journal.NewReader(at)
	defer r.Close()
	for ctx.Err() == nil && r.Position().Before(end) {
		rec, _, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if rec.Type != journal.Batch || rec.ReceivedAt.Before(from) {
			continue
		}
		b, err := codec.DecodeBatch(rec.Body)
		if err != nil {
			continue // the sinks count it
		}
		var sent wire.Sent
		if h, ok := rec.Header(wire.HeaderSent); ok {
			sent, _ = wire.ParseSent(h)
		}
		c.evidence.Batch(b.Probe, rec.ReceivedAt, b, sent)
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Incidents is the engine of incidents.
func (c *Collector) Incidents() *incident.Engine { return c.incidents }

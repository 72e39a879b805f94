// Package probe is the village side as a whole: it wires the instruments, the
// schedule, the spool and the push together, and owns every goroutine of them.
//
// It guarantees that whatever was measured is on disk before anything else
// happens to it, and that it goes on measuring while the collector, the line or
// the disk fails.
package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/probe/budget"
	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/spool"
	"github.com/pantau-desa/pantau/probe/ticket"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Options of a Probe.
type Options struct {
	// StateDir holds the identity and the spool; the box must be enrolled in it.
	StateDir string
	// Metrics is where /metrics is served; nil: nowhere.
	Metrics net.Listener
	// Local overrides what the collector's configuration says of this box's
	// surroundings; empty fields do not.
	Local    Local
	Software string
	// Built is when this program was built, if known: no clock is before it.
	Built  time.Time
	Logger *slog.Logger
}

// Local is what is known on the spot.
type Local struct {
	LANGateway     string
	FirstHop       string
	UsageInterface string
	// SpeedInstrument measures on schedule; empty: speed.Default.
	SpeedInstrument speed.Name
	// Router is asked for usage by SNMP, if it names an interface; then no interface
	// of the box is looked at.
	Router router.Options
	// ONT is asked for its light by SNMP, if it names a preset.
	ONT optics.Options
	// Modem is the mobile modem whose signal is read, see package signal; AnyModem is
	// the only one there is. Empty: that one, if the collector says that the site's
	// access is mobile, else none.
	Modem string
}

// AnyModem stands for the only mobile modem of the box.
const AnyModem = "any"

// Probe is one running probe. Make it with New, then Run it once.
type Probe struct {
	opt   Options
	log   *slog.Logger
	state enroll.State
	id    enroll.Identity
	time  *push.Timekeeper
	spool *spool.Spool
	line  *ledger.Ledger
	quota *budget.Account
	reg   *prometheus.Registry

	runner   *schedule.Runner
	uploader *push.Uploader
	heart    *push.Heart
	kit      *kit
	pulse    *pulse

	sealNow chan struct{} // something changed: seal soon

	mu         sync.Mutex
	config     *wirepb.ProbeConfig
	version    uint64
	seen       map[subject]bool // whether the last result about it worked
	reach      measure.Result   // the latest
	spoolFails bool
	sick       map[measure.Kind]measure.Reason // vital kinds that fail for the box's own reasons
}

// subject is what results speak of again and again.
type subject struct {
	kind   measure.Kind
	target measure.TargetID
}

// New reads the identity and opens the spool.
func New(o Options) (*Probe, error) {
	p := &Probe{opt: o, log: o.Logger, state: enroll.State{Dir: o.StateDir}, reg: prometheus.NewRegistry(),
		pulse: newPulse(), sealNow: make(chan struct{}, 1), seen: map[subject]bool{}, sick: map[measure.Kind]measure.Reason{}}
	var err error
	if p.id, err = p.state.Identity(); err != nil {
		return nil, err
	}
	clocks, err := clock.Open()
	if err != nil {
		return nil, err
	}
	p.line = ledger.New(ledger.Options{})
	p.quota = budget.Open(budget.Options{File: filepath.Join(o.StateDir, "budget.json"), Own: p.line.Own,
		Now: func() (time.Time, bool) { return p.time.Best() }, Logger: o.Logger})
	p.time = push.NewTimekeeper(clocks.Now, o.Built, p.state.LastSeen(), p.id.EnrolledAt, p.quota.Seen())
	p.config, err = p.state.Config()
	if err != nil {
		p.log.Error("the kept configuration is unreadable: the collector will send it again", "err", err)
	}
	if p.config == nil {
		p.config = &wirepb.ProbeConfig{} // version 0 makes the collector send one
	} else if p.version, err = wire.ConfigVersion(p.config); err != nil {
		return nil, err
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	if p.spool, err = spool.Open(spool.Options{Dir: filepath.Join(o.StateDir, "spool"), Codec: codec, Logger: o.Logger,
		NewEpoch: func() (e wire.Epoch) { rand.Read(e[:]); return e }}); err != nil {
		return nil, err
	}
	if err := p.assemble(); err != nil {
		return nil, errors.Join(err, p.spool.Close())
	}
	return p, nil
}

func (p *Probe) assemble() error {
	client := p.client()
	p.kit = newKit(p.id.Probe, p.line, p.quota, p.time.Floor, p.log)
	p.kit.office = ticket.New(ticket.Options{Probe: p.id.Probe, Key: p.id.Key, Collector: p.id.Collector, Client: client, Logger: p.log})
	p.runner = schedule.New(schedule.Options{Probe: p.id.Probe, Set: p.set, Now: p.time.Reading,
		LastSlot: p.spool.LastSlot, SinceTest: p.quota.SinceTest, Record: p.record, Logger: p.log})
	u, err := url.Parse(p.id.Collector)
	if err != nil {
		return fmt.Errorf("collector address: %w", err)
	}
	p.uploader = push.New(push.Options{Probe: p.id.Probe, Key: p.id.Key, Collector: p.id.Collector,
		Client: client, Store: p.spool, Time: p.time, ConfigVersion: p.configVersion, Config: p.configure,
		OnSuccess: func() {}, Logger: p.log, Registerer: p.reg})
	p.heart = push.NewHeart(push.HeartbeatOptions{Probe: p.id.Probe, Key: p.id.HeartbeatKey,
		Addr: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "7443")), Time: p.time, Interval: p.heartbeatInterval,
		Fill: p.fillBeat, Acked: p.acked, Dial: p.line.DialContext, Logger: p.log, Registerer: p.reg})
	p.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), own{p})
	return nil
}

// client is an HTTP client that trusts the pinned CA and whose bytes are counted.
func (p *Probe) client() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:           p.line.DialContext,
		TLSClientConfig:       pinned(p),
		ForceAttemptHTTP2:     false, // one connection, one batch at a time
		MaxIdleConns:          1,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   20 * time.Second,
		ResponseHeaderTimeout: 45 * time.Second,
	}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func pinned(p *Probe) *tls.Config { return push.PinnedTLS(p.id.CA, p.time.Floor) }

// farewell is how long the end waits for the collector to take what was sealed
// last. The box may be switched off for days; the results would be kept, but late.
const farewell = 3 * time.Second

// Run measures and pushes until ctx ends. What is pending is sealed at the end,
// and pushed if the collector takes it within [farewell].
func (p *Probe) Run(ctx context.Context) error {
	p.log.Info("probe runs", "probe", p.id.Probe, "site", p.id.Site, "collector", p.id.Collector, "version", p.opt.Software)
	p.quota.SetBudget(p.current().MonthBudgetBytes)
	p.quota.Keep() // before the first byte moves
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.quota.Run(ctx) })
	g.Go(func() error { return p.runner.Run(ctx) })
	g.Go(func() error { return p.uploader.Run(ctx) })
	g.Go(func() error { return p.heart.Run(ctx) })
	g.Go(func() error { return p.sealing(ctx) })
	g.Go(func() error { return p.remembering(ctx) })
	g.Go(func() error { return p.resting(ctx) })
	if p.opt.Metrics != nil {
		g.Go(func() error { return p.serveMetrics(ctx) })
	}
	err := g.Wait()
	p.seal() // everything that measured has ended
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	p.uploader.Flush(last)
	return errors.Join(err, p.quota.Close(), p.spool.Close())
}

// record keeps a result, and notices what it says.
func (p *Probe) record(r measure.Result) {
	err := p.spool.Append(r)
	if err != nil {
		p.log.Error("a result cannot be kept", "kind", r.Kind, "err", err)
	}
	p.mu.Lock()
	p.spoolFails = err != nil
	if r.Kind == measure.KindReach {
		p.reach = r
	}
	switch ails := r.Reason == measure.ReasonPermission || r.Reason == measure.ReasonInternal; {
	case ails && vital(r):
		p.sick[r.Kind] = r.Reason
	default:
		delete(p.sick, r.Kind)
	}
	about := subject{r.Kind, r.Target}
	if r.Kind == measure.KindDownload || r.Kind == measure.KindUpload {
		about.target = "" // drawn by lot
	}
	works, told := worked(r), r.Outcome != measure.Skipped
	before, known := p.seen[about]
	if told {
		p.seen[about] = works
	}
	p.mu.Unlock()
	if told && (!known || before != works) {
		p.soon()
	}
}

// vital reports whether a probe without this instrument is no probe of a line any
// more. What else a box may not do (ask the modem, the router or the ONT, open a
// raw socket for the path) shows in the results, and makes no faulty probe of it.
func vital(r measure.Result) bool {
	switch r.Kind {
	case measure.KindUsage:
		return r.Instrument != router.Method
	case measure.KindReach, measure.KindLatency, measure.KindDownload, measure.KindUpload:
		return true
	}
	return false
}

// worked reports whether the line did what the result asked of it.
func worked(r measure.Result) bool {
	if r.Outcome != measure.OK {
		return false
	}
	switch r.Kind {
	case measure.KindReach:
		v, ok := r.Value(measure.ODPReachable)
		return ok && v > 0
	case measure.KindLatency:
		v, ok := r.Value(measure.PacketLossRatio)
		return ok && v < 1
	case measure.KindPath:
		v, ok := r.Value(measure.PathReached)
		return ok && v > 0
	}
	return true
}

func (p *Probe) soon() {
	select {
	case p.sealNow <- struct{}{}:
	default:
	}
}

// sealing closes a batch every interval, and on a transition at most so often.
func (p *Probe) sealing(ctx context.Context) error {
	last := time.Now()
	for {
		every, least := p.sealIntervals()
		timer := time.NewTimer(time.Until(last.Add(every)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-p.sealNow:
			timer.Stop()
			// What belongs to the same slot arrives within seconds: one batch for all.
			wait := max(time.Until(last.Add(least)), min(transitionGather, least))
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
			select {
			case <-p.sealNow:
			default:
			}
		}
		p.seal()
		last = time.Now()
	}
}

// transitionGather is how long a transition waits for its neighbours.
const transitionGather = 3 * time.Second

func (p *Probe) seal() {
	r, quota := p.time.Reading(), p.quota.View()
	sealed, err := p.spool.Seal(spool.Seal{Probe: p.id.Probe, At: r.Wall, Mono: r.Mono, Boot: r.Boot, Quality: r.Quality, Software: p.opt.Software,
		Budget: quota.Budget, BudgetSpent: quota.Spent})
	if err != nil {
		p.log.Error("a batch cannot be sealed: the results stay", "err", err)
	}
	if sealed {
		p.uploader.Wake()
	}
}

// remembering keeps a time that has passed, for the next boot.
func (p *Probe) remembering(ctx context.Context) error {
	t := time.NewTicker(time.Hour)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			if p.time.Reading().Quality == measure.ClockUnknown {
				continue
			}
			if err := p.state.SaveLastSeen(p.time.Floor()); err != nil {
				p.log.Warn("the time cannot be kept for the next start", "err", err)
			}
		}
	}
}

func (p *Probe) fillBeat(b *wire.Heartbeat) {
	p.mu.Lock()
	defer p.mu.Unlock()
	tri := func(m measure.Metric) wire.Tri {
		v, ok := p.reach.Value(m)
		if !ok {
			return wire.Unknown
		}
		return wire.TriOf(v > 0)
	}
	b.Carrier, b.LANGateway = tri(measure.CarrierUp), tri(measure.LANGatewayReachable)
	b.FirstHop, b.Beyond = tri(measure.FirstHopReachable), tri(measure.ODPReachable)
	b.ConfigVersion = p.version
	if p.spoolFails {
		b.Health |= wire.HealthSpool
	}
	if p.time.Reading().Quality == measure.ClockUnknown {
		b.Health |= wire.HealthClock
	}
	for _, reason := range p.sick {
		if reason == measure.ReasonPermission {
			b.Health |= wire.HealthPermission
		} else {
			b.Health |= wire.HealthInstrument
		}
	}
}

// acked hears that the collector is there.
func (p *Probe) acked(afterSilence bool, version uint64) {
	p.pulse.heard()
	if afterSilence {
		p.uploader.Wake()
	}
	if afterSilence || version != p.configVersion() {
		p.soon() // a batch brings the newer configuration back with it
	}
}

func (p *Probe) configVersion() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.version
}

// configure takes a newer configuration; the next round measures by it.
func (p *Probe) configure(c *wirepb.ProbeConfig, version uint64) {
	p.mu.Lock()
	p.config, p.version = c, version
	p.mu.Unlock()
	p.log.Info("new configuration from the collector", "config", version,
		"reach_targets", len(c.ReachTargets), "speed_targets", len(c.SpeedTargets))
	if err := p.state.SaveConfig(c); err != nil {
		p.log.Error("the configuration cannot be kept for the next start", "err", err)
	}
}

func (p *Probe) current() *wirepb.ProbeConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

func (p *Probe) set() schedule.Set {
	p.pulse.turned()
	return p.kit.set(p.current(), p.opt.Local)
}

func (p *Probe) heartbeatInterval() time.Duration {
	return orDefault(p.current().HeartbeatIntervalNs, 30*time.Second)
}

func (p *Probe) sealIntervals() (every, transition time.Duration) {
	c := p.current()
	return orDefault(c.SealIntervalNs, 5*time.Minute), orDefault(c.TransitionSealMinNs, time.Minute)
}

// orDefault reads a duration of the configuration: at least a second, so that a
// wrong figure cannot make a probe spin.
func orDefault(ns int64, def time.Duration) time.Duration {
	if ns <= 0 {
		return def
	}
	return max(time.Duration(ns), time.Second)
}

func (p *Probe) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.reg, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(p.opt.Metrics); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

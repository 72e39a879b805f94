// Package collector is the office side as a whole: it wires ingest, journal,
// stores, states, queries and pages together, and owns every goroutine of them.
//
// It guarantees that what a probe was told is durable is in the journal before
// anything else is made of it, and that a store, a page or a query that fails
// delays nobody but itself.
package collector

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/prometheus/rules"
	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/collector/admin"
	"github.com/pantau-desa/pantau/collector/evaluator"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/incident/evidence"
	"github.com/pantau-desa/pantau/collector/ingest"
	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/journal/index"
	"github.com/pantau-desa/pantau/collector/maintenance"
	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/collector/query"
	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/collector/selfmetrics"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/collector/uplink"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Options of a Collector.
type Options struct {
	DataDir   string // everything is kept below it
	Inventory string // directory of CSV files
	Names     []string

	// Ingest listens for probes, TLS and datagrams, at an address or on the given
	// listeners.
	IngestAddr string
	Listeners  []net.Listener
	Packets    []*net.UDPConn
	// Office serves pages, PromQL and metrics. It is closed by the collector.
	Office net.Listener

	// Alerts say how people are mailed; nil: nobody is.
	Alerts *alerts.Settings

	Schedule  provision.Schedule
	Tickets   ticket.Limits // of heavy tests at once
	DownAfter time.Duration // silence of a site; 0: 170 s
	Incidents incident.Timers
	// Uplink is what the collector's own way to the world is tried with, HOST:PORT
	// by TCP; empty: the measurement servers of the inventory. UplinkDial opens such
	// a connection; nil: as any program does.
	Uplink     []string
	UplinkDial func(ctx context.Context, network, address string) (net.Conn, error)
	Retention  time.Duration // of the embedded store; 0: 400 days
	// Influx gets a copy of every sample; nil: there is none.
	Influx *influx.Options
	// RuleDir holds rule files beside, or instead of, the built-in ones; empty: none.
	// Notify is told of the alerts that rules find, beside the mails; nil: nobody. See
	// evaluator.Options.
	RuleDir string
	Notify  rules.NotifyFunc

	Simulation bool // marks every page
	Schematic  bool // the inventory's positions are not true ones
	Software   string
	Logger     *slog.Logger
}

// Collector is one running collector. Make it with New, then Run it once.
type Collector struct {
	opt Options
	log *slog.Logger
	reg *prometheus.Registry
	inv atomic.Pointer[inventory.Inventory]

	reloading sync.Mutex
	reloads   reloads
	notice    atomic.Pointer[string] // what every page must say; nil: nothing

	journal     *journal.Journal
	index       *index.Index
	registry    *registry.Registry
	store       *tsdb.DB
	runner      *sink.Runner
	copies      *sink.Runner // to InfluxDB; nil: none
	maintenance *maintenance.Calendar
	states      *state.Engine
	incidents   *incident.Engine
	evidence    *evidence.Gatherer
	uplink      *uplink.Monitor
	alerts      *alerts.Service // nil: nobody is mailed
	news        chan struct{}   // an incident changed
	ingest      *ingest.Server
	admin       *admin.Server
	engine      *query.Querier
	self        *selfmetrics.Writer
	rules       *evaluator.Evaluator
	office      *http.Server
	pulse       *pulse
	close       []func() error // of what is open, in order of opening
}

// New opens everything below the data directory and listens; nothing is answered
// before Run. What is wrong with the inventory is reported at once.
func New(ctx context.Context, o Options) (c *Collector, err error) {
	c = &Collector{opt: o, log: o.Logger, reg: prometheus.NewRegistry(), pulse: newPulse(), news: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.closeAll())
		}
	}()
	c.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	inv, err := inventory.Load(o.Inventory)
	if err != nil {
		return c, err
	}
	c.inv.Store(inv)
	c.reloads = newReloads(c.reg)
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return c, err
	}
	for _, step := range []func(context.Context) error{c.openJournal, c.openRegistry, c.openMaintenance, c.openStates, c.openIncidents, c.openStore,
		c.openQuery, c.openAlerts, c.openRules, c.openIngest, c.openOffice} {
		if err := step(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *Collector) closeLater(f func() error) { c.close = append(c.close, f) }

func (c *Collector) closeAll() error {
	var errs []error
	for _, f := range slices.Backward(c.close) {
		errs = append(errs, f())
	}
	c.close = nil
	return errors.Join(errs...)
}

func (c *Collector) path(name ...string) string {
	return filepath.Join(append([]string{c.opt.DataDir}, name...)...)
}

func (c *Collector) inventory() *inventory.Inventory { return c.inv.Load() }

func (c *Collector) openJournal(ctx context.Context) (err error) {
	c.journal, err = journal.Open(journal.Options{Dir: c.path("journal"), Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.closeLater(c.journal.Close)
	codec, err := wire.NewCodec()
	if err != nil {
		return err
	}
	c.index, err = index.Open(ctx, index.Options{Path: c.path("index.db"), Journal: c.journal, Logger: c.log, Registerer: c.reg,
		Key: func(r journal.Record) (index.Key, wire.Digest, bool) {
			b, err := codec.DecodeBatch(r.Body)
			return index.Key{Probe: b.Probe, Epoch: b.Epoch, Seq: b.Seq}, wire.DigestOf(r.Body), err == nil
		}})
	if err != nil {
		return err
	}
	c.closeLater(c.index.Close)
	if err := c.noteStart(ctx); err != nil {
		return err
	}
	return c.noteInventory(ctx)
}

// noteStart writes into the evidence that a collector began to listen.
func (c *Collector) noteStart(ctx context.Context) error {
	body, err := json.Marshal(map[string]any{"software": c.opt.Software, "go": runtime.Version(), "pid": os.Getpid()})
	if err != nil {
		return err
	}
	_, err = c.journal.Append(ctx, journal.Record{Type: journal.Start, ReceivedAt: time.Now(), Body: body})
	return err
}

// noteInventory keeps each revision of the inventory in the evidence: a figure is
// worth as much as the facts it is held against.
func (c *Collector) noteInventory(ctx context.Context) error {
	digest := c.inventory().Digest()
	sum := hex.EncodeToString(digest[:])
	file := c.path("inventory.sha256")
	old, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if string(old) == sum {
		return nil
	}
	raw, err := json.Marshal(c.inventory().Files()) // file name -> base64
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	body := enc.EncodeAll(raw, nil)
	if _, err := c.journal.Append(ctx, journal.Record{Type: journal.Inventory, ReceivedAt: time.Now(),
		Headers: []journal.Header{{Key: "Sha256", Value: sum}}, Body: body}); err != nil {
		return fmt.Errorf("the inventory's revision cannot be kept: %w", err)
	}
	return writeFile(file, []byte(sum))
}

func (c *Collector) openRegistry(context.Context) (err error) {
	c.registry, err = registry.Open(registry.Options{Dir: c.path("registry"), Names: c.opt.Names, Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.closeLater(c.registry.Close)
	return nil
}

func (c *Collector) openMaintenance(context.Context) (err error) {
	c.maintenance, err = maintenance.Open(c.path("maintenance.json"))
	return err
}

// calendar is announced work as an administrator sees it.
type calendar struct{ c *Collector }

func (k calendar) Add(w maintenance.Window) (maintenance.Window, error) {
	defer k.c.states.Refresh()
	return k.c.maintenance.Add(w, k.c.inventory(), time.Now())
}
func (k calendar) End(id int) error {
	defer k.c.states.Refresh()
	return k.c.maintenance.End(id, time.Now())
}
func (k calendar) List() []maintenance.Window { return k.c.maintenance.List(time.Now()) }

func (c *Collector) openStates(context.Context) error {
	file := c.path("states")
	var last state.Snapshot
	raw, err := os.ReadFile(file)
	if err == nil {
		err = last.UnmarshalBinary(raw)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.log.Error("the states of the last run are unreadable: they are learnt anew", "err", err)
	}
	c.states = state.New(state.Options{
		Sites:    c.sites,
		Enrolled: c.registry.Enrolled,
		Restored: last,
		Keep: func(ctx context.Context, s state.Snapshot) error {
			body, err := s.MarshalBinary()
			if err != nil {
				return err
			}
			if _, err := c.journal.Append(ctx, journal.Record{Type: journal.State, ReceivedAt: s.At, Body: body}); err != nil {
				return err
			}
			if err := writeFile(file, body); err != nil {
				return err
			}
			c.pulse.kept()
			return nil
		},
		Stalled: func(ctx context.Context, from, to time.Time) {
			body, err := json.Marshal(map[string]time.Time{"from": from.UTC(), "to": to.UTC()})
			if err == nil {
				_, err = c.journal.Append(ctx, journal.Record{Type: journal.Stall, ReceivedAt: to, Body: body})
			}
			if err != nil {
				c.log.Error("a stall cannot be kept", "err", err)
			}
		},
		DownAfter: c.opt.DownAfter, Logger: c.log, Registerer: c.reg,
	})
	return nil
}

// sites is the inventory as the states see it.
func (c *Collector) sites(at time.Time) []state.Site {
	c.pulse.beat()
	inv := c.inventory()
	all := inv.Sites(at)
	covered := c.maintenance.Covered(inv, at)
	out := make([]state.Site, 0, len(all))
	for _, s := range all {
		x := state.Site{ID: s.ID, Coverage: s.Access != inventory.AccessNone, Maintenance: covered(s)}
		for _, p := range inv.ProbesAt(s.ID, at) {
			x.Probes = append(x.Probes, p.Probe)
		}
		out = append(out, x)
	}
	return out
}

func (c *Collector) openStore(context.Context) (err error) {
	metrics, err := sink.NewMetrics(c.reg)
	if err != nil {
		return err
	}
	c.store, err = tsdb.Open(tsdb.Options{Dir: tsdbDir(c.opt.DataDir), Retention: c.opt.Retention, Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	if c.runner, err = c.carry(SinkTSDB, c.store, tsdbCursor(c.opt.DataDir), metrics); err != nil {
		return err
	}
	if c.opt.Influx == nil {
		return nil
	}
	o := *c.opt.Influx
	o.Logger = c.log
	cursor, err := influxCursor(c.opt.DataDir, o)
	if err != nil {
		return err
	}
	copies, err := influx.New(o)
	if err != nil {
		return err
	}
	c.copies, err = c.carry(SinkInflux, copies, cursor, metrics)
	return err
}

// carry makes the runner of a store, and has both closed later.
func (c *Collector) carry(name string, s sink.Sink, cursor *journal.Cursor, metrics *sink.Metrics) (*sink.Runner, error) {
	r, err := sink.NewRunner(sink.Options{Name: name, Sink: s, Journal: c.journal, Cursor: cursor, Inventory: c.inventory, Metrics: metrics, Logger: c.log})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	c.closeLater(r.Close)
	return r, nil
}

func (c *Collector) openQuery(context.Context) (err error) {
	c.engine, err = query.New(query.Options{Storage: c.store, Rules: found{c}, Logger: c.log, Registerer: c.reg, Version: c.opt.Software})
	if err != nil {
		return err
	}
	c.closeLater(c.engine.Close)
	return nil
}

func (c *Collector) openAlerts(context.Context) (err error) {
	if c.opt.Alerts == nil {
		c.log.Warn("no mail server is set (mail.host): nobody is told of incidents but on the pages")
		return nil
	}
	c.alerts, err = alerts.New(alerts.Options{Dir: c.path("alerts"), Settings: *c.opt.Alerts, Inventory: c.inventory, Incidents: c.incidents,
		States: c.states.Snapshot, Figures: c.engine, SpeedMean: cmp.Or(c.opt.Schedule.SpeedMean, 6*time.Hour), Simulation: c.opt.Simulation, Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.closeLater(c.alerts.Close)
	return nil
}

func (c *Collector) openIngest(context.Context) (err error) {
	provisioner := provision.New(c.inventory, c.opt.Schedule)
	desk, err := ticket.New(ticket.Options{Key: c.registry.TicketKey(), Places: provisioner, Limits: c.opt.Tickets, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.ingest, err = ingest.New(ingest.Options{Addr: c.opt.IngestAddr, Listeners: c.opt.Listeners, Packets: c.opt.Packets,
		Registry: c.registry, Journal: c.journal, Index: c.index, Configs: provisioner, Tickets: desk,
		Batches: hearers{c.states, c.evidence}, Beats: c.states, Logger: c.log, Registerer: c.reg})
	if err != nil {
		return err
	}
	c.closeLater(c.ingest.Close)
	c.admin, err = admin.New(admin.Options{DataDir: c.opt.DataDir, Registry: c.registry, Inventory: c.inventory,
		LastBeat: c.states.LastBeat, Maintenance: calendar{c}, Silences: c.silencer(), Reload: c.Reload, Logger: c.log})
	if err != nil {
		return err
	}
	c.closeLater(c.admin.Close)
	return nil
}

// Run serves until ctx ends, then closes everything.
func (c *Collector) Run(ctx context.Context) error {
	c.log.Info("collector runs", "ingest", c.ingest.Addr(), "office", c.OfficeAddr(),
		"villages", len(c.inventory().Villages()), "tickets", wire.TicketKeyText(c.TicketKey()), "version", c.opt.Software)
	g, gctx := errgroup.WithContext(ctx)
	all := []func(context.Context) error{c.index.Run, c.registry.Run, c.states.Run, c.uplink.Run, c.runIncidents, c.runner.Run,
		c.self.Run, c.rules.Run, c.ingest.Run, c.admin.Run, c.serveOffice}
	if c.copies != nil {
		all = append(all, c.copies.Run)
	}
	for _, run := range all {
		g.Go(func() error { return run(gctx) })
	}
	if c.alerts != nil {
		g.Go(func() error { return c.alerts.Run(gctx) })
	}
	err := g.Wait()
	return errors.Join(err, c.closeAll())
}

// IngestAddr is where probes reach this collector.
func (c *Collector) IngestAddr() net.Addr { return c.ingest.Addr() }

// OfficeAddr is where people and Grafana reach it.
func (c *Collector) OfficeAddr() net.Addr { return c.opt.Office.Addr() }

// Snapshot is the state of every site now.
func (c *Collector) Snapshot() state.Snapshot { return c.states.Snapshot() }

// Query reads the embedded store.
func (c *Collector) Query() *query.Querier { return c.engine }

// TicketKey is what measurement servers that demand tickets must trust.
func (c *Collector) TicketKey() ed25519.PublicKey {
	return c.registry.TicketKey().Public().(ed25519.PublicKey)
}

// CaughtUp reports whether the embedded store has all that the journal has.
func (c *Collector) CaughtUp() bool { return c.runner.CaughtUp() }

// TLS is the ingest listener's configuration, for tests that speak to it.
func (c *Collector) TLS() *tls.Config { return c.registry.TLS() }

// writeFile replaces a file so that it is whole or not there. What it holds can
// be learnt anew, so it is not synced.
func writeFile(name string, data []byte) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

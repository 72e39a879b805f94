// Package demo runs the whole of Pantau Desa on one machine, on real
// measurements: collector, measurement server, and a real pantau-probe process in
// each of some villages of Klaten, behind real, shaped lines where the system
// permits network namespaces.
//
// It guarantees that everything it makes is below its folder, and that nothing of
// it is left behind: not by an end, a signal, or, after the next start, a kill.
package demo

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/post"
	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/probe"
	"github.com/pantau-desa/pantau/probe/netlab"
	"github.com/pantau-desa/pantau/probe/target"
)

// Options of a run.
type Options struct {
	Dir      string // everything is written below it; it is made anew
	Villages int
	NoNetns  bool // loopback instead of shaped lines
	// For ends the run after a while, with a verdict. 0: it runs until ctx ends.
	For time.Duration
	// Story plays the story, checks it, and ends. It needs lines that can be cut.
	Story bool
	Seed  uint64
	// Out is where people read. Size is of the terminal that it is, in columns and
	// rows; nil: it is none, and stays quiet.
	Out    io.Writer
	Size   func() (columns, rows int)
	Colour bool
	Office string // address of the pages; a taken one gives way to any free port

	// For tests.
	pace      *provision.Schedule // nil: the demo's
	downAfter time.Duration       // silence of a village; 0: 170 s
	incidents *incident.Timers    // nil: the demo's
	standing  func(*run)          // called when everything stands, before it runs
}

// The demo's pace: faster than in the field, where a village's quota counts.
// noBudget is one that nothing here comes near: nobody's quota is used.
const noBudget = 100_000

func defaultPace(shaped bool) provision.Schedule {
	s := provision.Schedule{Light: 15 * time.Second, Seal: 15 * time.Second, Transition: 5 * time.Second,
		Heartbeat: 10 * time.Second, SpeedMean: 100 * time.Second, SpeedDuration: 6 * time.Second, BudgetFiberGB: noBudget,
		PeakShare: 5.0 / 24} // as many at any hour
	if !shaped { // a test costs this machine, not a line
		s.SpeedMean, s.SpeedDuration = 3*time.Minute, 2*time.Second
	}
	return s
}

// defaultTimers: confirmed as in the field, over sooner, for people who watch.
func defaultTimers() incident.Timers {
	return incident.Timers{Good: 3 * time.Minute, GoodGroup: 3 * time.Minute}
}

func (r *run) timers() incident.Timers {
	if r.opt.incidents != nil {
		return *r.opt.incidents
	}
	return defaultTimers()
}

// defaultDownAfter is the collector's own.
const defaultDownAfter = 170 * time.Second

const (
	ingestPort = "7443"
	targetPort = "7442"
	webPort    = "80"
	postPort   = "7483"

	grafanaPort = "3000" // its own default

	targetID = "server-ukur" // of the measurement server, in the inventory
)

type run struct {
	opt    Options
	log    *slog.Logger
	screen *screen
	pace   provision.Schedule
	places []place
	lines  []line
	world  *world.World // nil on loopback
	col    *collector.Collector
	target *target.Target // by ticket: the probes'
	hand   *target.Target // for people with their own tools
	post   *post.Office
	web    net.Listener
	open   []io.Closer // what teardown closes, in order of opening
	url    string      // collector, as the probes reach it
	bin    string      // pantau-probe
	began  time.Time
	first  time.Duration   // until every village had figures; 0: not yet
	final  []VillageReport // the last look at them
	story  *story          // nil: none is played
	spike  atomic.Pointer[spike]
}

// Run runs the demo until ctx or its time ends, and returns its report. The error
// is nil when it ran as intended; whether the figures hold is the report's matter.
func Run(ctx context.Context, o Options) (out Report, err error) {
	r := &run{opt: o, screen: &screen{out: o.Out, size: o.Size, colour: o.Colour}}
	folder, err := claim(o.Dir)
	if err != nil {
		return Report{}, err
	}
	defer folder.release()
	logs, err := os.Create(filepath.Join(folder.path, "collector.log"))
	if err != nil {
		return Report{}, err
	}
	defer logs.Close()
	r.log = slog.New(slog.NewTextHandler(logs, nil))
	defer func() {
		err = errors.Join(err, r.teardown())
		out.OK = out.OK && err == nil
		r.conclude(out, err)
	}()
	finder := probeFinder{own: probe.Version(), executable: os.Executable, say: r.say}
	if r.bin, err = finder.find(ctx, folder.path); err == nil {
		r.began = time.Now()
		err = r.build(ctx, folder.path)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = nil // ended while it was being built, as asked
		}
		return Report{}, err
	}
	if o.standing != nil {
		o.standing(r)
	}
	err = r.play(ctx, folder.path)
	return r.report(), err
}

// build makes the network, the inventory, the collector and the target. What it
// has opened when it fails is teardown's.
func (r *run) build(ctx context.Context, dir string) (err error) {
	if r.places, err = places(r.opt.Villages); err != nil {
		return err
	}
	if err := r.buildWorld(ctx); err != nil {
		return err
	}
	r.pace = defaultPace(r.world != nil)
	if r.opt.pace != nil {
		r.pace = *r.opt.pace
	}
	if r.opt.Story && r.world == nil {
		return errors.New("the story cuts lines, and here are none that can be cut: run it as root, without --no-netns")
	}
	if err := r.openPost(dir); err != nil {
		return fmt.Errorf("the post office: %w", err)
	}
	office, err := listenNear(r.opt.Office)
	if err := r.own(office, err); err != nil {
		return fmt.Errorf("the pages: %w", err)
	}
	o := collector.Options{DataDir: filepath.Join(dir, "collector"), Inventory: filepath.Join(dir, "inventory"),
		RuleDir: filepath.Join(dir, "rules"), Office: office,
		Schedule: r.pace, DownAfter: r.opt.downAfter, Incidents: r.timers(), Alerts: r.alerts(office.Addr()), Simulation: true, Schematic: true, Software: probe.Version(), Logger: r.log}
	hand, err := listenNear("127.0.0.1:" + targetPort)
	if err := r.own(hand, err); err != nil {
		return err
	}
	var measured net.Listener
	if r.world != nil {
		measured, err = r.inside(&o)
	} else {
		measured, err = r.onLoopback(&o)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(writeInventory(o.Inventory, r.lines), writeRules(o.RuleDir)); err != nil {
		return err
	}
	if r.hand, err = target.New(target.Options{Listeners: []net.Listener{hand}, Logger: r.log}); err != nil {
		return err
	}
	if r.col, err = collector.New(ctx, o); err != nil {
		return err
	}
	r.target, err = target.New(target.Options{Listeners: []net.Listener{measured}, Logger: r.log,
		Trust: []ed25519.PublicKey{r.col.TicketKey()}, ID: targetID})
	return err
}

// openPost opens the post office that the collector sends its mails to.
func (r *run) openPost(dir string) error {
	pages, err := listenNear("127.0.0.1:" + postPort)
	if err := r.own(pages, err); err != nil {
		return err
	}
	r.post, err = post.Open(post.Options{Dir: filepath.Join(dir, "surat"), Pages: pages, Logger: r.log})
	return r.own(r.post, err)
}

// alerts are how the collector mails: to the post office, with links to the pages.
func (r *run) alerts(office net.Addr) *alerts.Settings {
	s := r.post.SMTP()
	return &alerts.Settings{SMTP: outbox.SMTP{Host: s.Host(), Port: s.Port(), CA: s.CA()}, From: "Pantau Desa (demo) <pantau@pantau.example.id>",
		PageURL: "http://" + office.String(), Retry: 5 * time.Second}
}

// own notes what was opened, for teardown, and passes the error on.
func (r *run) own(c io.Closer, err error) error {
	if err == nil {
		r.open = append(r.open, c)
	}
	return err
}

// buildWorld makes the namespaces, or says why there are none.
func (r *run) buildWorld(ctx context.Context) (err error) {
	if r.opt.NoNetns {
		r.say("Without namespaces, as asked: everything is on loopback.\n%s", lost)
		return nil
	}
	var villages []world.Place
	for _, p := range r.places {
		villages = append(villages, world.Place{Code: p.Code, Name: p.Name})
	}
	r.world, err = world.Build(ctx, world.Options{Seed: r.opt.Seed, Villages: villages, Logger: r.log})
	if errors.Is(err, netlab.ErrNotPermitted) {
		r.say("Network namespaces are not permitted here (%v): everything is on loopback. Run as root for the real thing.\n%s", err, lost)
		return nil
	}
	return err
}

const lost = `Lost by that: no line has a rate of its own, so speeds are this machine's; no line can be cut;
reach, first hop and usage have nothing of a village in them.`

// inside puts collector and target into the data centre's namespace, and returns where
// the probes measure.
func (r *run) inside(o *collector.Options) (net.Listener, error) {
	pusat := r.world.PusatAddress.String()
	listen := func(port string) (net.Listener, error) {
		l, err := r.world.Pusat.Listen("tcp", net.JoinHostPort(pusat, port))
		return l, r.own(l, err)
	}
	tcp, err := listen(ingestPort)
	if err != nil {
		return nil, err
	}
	udp, err := r.world.Pusat.ListenPacket("udp", net.JoinHostPort(pusat, ingestPort))
	if err := r.own(udp, err); err != nil {
		return nil, err
	}
	packets, ok := udp.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("a datagram socket of type %T", udp)
	}
	measured, err := listen(targetPort)
	if err != nil {
		return nil, err
	}
	if r.web, err = listen(webPort); err != nil {
		return nil, err
	}
	// The world, as the collector's own uplink is tried with, is the BNG: its refusal
	// is an answer.
	o.Uplink, o.UplinkDial = []string{net.JoinHostPort(r.world.BNGAddress.String(), ingestPort)}, r.world.Pusat.DialContext
	o.Listeners, o.Packets, o.Names = []net.Listener{tcp}, []*net.UDPConn{packets}, []string{pusat}
	r.url = "https://" + net.JoinHostPort(pusat, ingestPort)
	for i, v := range r.world.Villages {
		r.lines = append(r.lines, line{place: r.places[i], ODC: slices.Index(r.world.ODCs, v.ODC), Down: v.Down, Up: v.Up,
			UsageInterface: v.Interface, LANGateway: v.LANGateway.String(), Latency: pusat,
			// In truth an ODC passes light on: the first that answers by address is the OLT.
			FirstHop: r.world.OLTAddress.String(),
			SpeedURL: "http://" + net.JoinHostPort(pusat, targetPort) + "/speedtest",
			Reach:    map[string]string{"olt-1": r.world.OLTAddress.String(), "bng-1": r.world.BNGAddress.String()},
			ReachTCP: net.JoinHostPort(pusat, targetPort)})
	}
	return measured, nil
}

func (r *run) onLoopback(o *collector.Options) (net.Listener, error) {
	o.IngestAddr, o.Names = "127.0.0.1:0", []string{"127.0.0.1"}
	measured, err := net.Listen("tcp", "127.0.0.1:0")
	if err := r.own(measured, err); err != nil {
		return nil, err
	}
	for i, p := range r.places {
		r.lines = append(r.lines, line{place: p, ODC: i / 3, Latency: "127.0.0.1",
			SpeedURL: "http://" + measured.Addr().String() + "/speedtest", ReachTCP: measured.Addr().String()})
	}
	return measured, nil
}

// listenNear listens where asked, or on any port of the same address if that one
// is taken.
func listenNear(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		return l, nil
	}
	host, _, split := net.SplitHostPort(addr)
	if split != nil {
		return nil, err
	}
	return net.Listen("tcp", net.JoinHostPort(host, "0"))
}

// play lets everything run until ctx or the time ends.
func (r *run) play(ctx context.Context, dir string) error {
	if r.opt.For > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.opt.For)
		defer stop()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// The probes end before the collector does, so that their last batches arrive.
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServers()
	var back errgroup.Group
	for _, serve := range []func(context.Context) error{r.col.Run, r.target.Run, r.hand.Run, r.post.Run, r.browseServer} {
		back.Go(func() error {
			defer cancel() // one that ends early ends the demo
			return serve(servers)
		})
	}
	if r.url == "" {
		r.url = "https://" + r.col.IngestAddr().String()
	}
	r.introduce()
	var front errgroup.Group
	for i := range r.lines {
		front.Go(func() error {
			err := r.village(ctx, i, dir)
			if err != nil {
				cancel()
			}
			return err
		})
	}
	front.Go(func() error { r.tell(ctx); return nil })
	front.Go(func() error { r.watch(ctx); return nil })
	front.Go(func() error { r.grafana(ctx, dir, strings.TrimSuffix(r.page(), "/")); return nil })
	if r.opt.Story {
		r.story = r.newStory()
		front.Go(func() error {
			defer cancel()
			r.story.play(ctx)
			return nil
		})
	}
	err := front.Wait()
	r.lastLook()
	stopServers()
	return errors.Join(err, back.Wait())
}

// teardown closes what build opened. Most of it is closed already by whoever
// served it.
func (r *run) teardown() error {
	var errs []error
	for _, c := range slices.Backward(r.open) {
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if r.world != nil {
		errs = append(errs, r.world.Close())
	}
	return errors.Join(errs...)
}

// say prints a line, above the table if there is one.
func (r *run) say(format string, args ...any) { r.screen.say(fmt.Sprintf(format, args...)) }

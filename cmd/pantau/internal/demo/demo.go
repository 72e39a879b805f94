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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector"
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
	For  time.Duration
	Seed uint64
	// Out is where people read; Terminal says that it is one that can be redrawn.
	Out      io.Writer
	Terminal bool
	Office   string // address of the pages; a taken one gives way to any free port
}

// The demo's pace: faster than in the field, where a village's quota counts.
var pace = provision.Schedule{Light: 15 * time.Second, Seal: 15 * time.Second, Transition: 5 * time.Second,
	Heartbeat: 10 * time.Second, SpeedMean: 100 * time.Second, SpeedDuration: 6 * time.Second}

const (
	ingestPort = "7443"
	targetPort = "7442"
	webPort    = "80"
)

type run struct {
	opt    Options
	log    *slog.Logger
	places []place
	lines  []line
	world  *world.World // nil on loopback
	col    *collector.Collector
	target *target.Target
	web    net.Listener
	url    string // collector, as the probes reach it
	bin    string // pantau-probe
	began  time.Time
	first  time.Duration   // until every village had figures; 0: not yet
	final  []VillageReport // the last look at them

	mu   sync.Mutex
	said map[string]bool
}

// Run runs the demo and returns its report. The error is nil when it ran as
// intended; whether the figures hold is the report's matter.
func Run(ctx context.Context, o Options) (Report, error) {
	r := &run{opt: o, said: map[string]bool{}}
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
	if r.bin, err = probeBinary(ctx, folder.path, o.Out); err != nil {
		return Report{}, err
	}
	r.began = time.Now()
	if err := r.build(ctx, folder.path); err != nil {
		return Report{}, errors.Join(err, r.teardown())
	}
	err = r.play(ctx, folder.path)
	return r.report(), errors.Join(err, r.teardown())
}

// build makes the network, the inventory, the collector and the target.
func (r *run) build(ctx context.Context, dir string) (err error) {
	if r.places, err = places(r.opt.Villages); err != nil {
		return err
	}
	if err := r.buildWorld(ctx); err != nil {
		return err
	}
	office, err := listenNear(r.opt.Office)
	if err != nil {
		return err
	}
	o := collector.Options{DataDir: filepath.Join(dir, "collector"), Inventory: filepath.Join(dir, "inventory"), Office: office,
		Schedule: pace, Simulation: true, Schematic: true, Software: probe.Version(), Logger: r.log}
	var targets []net.Listener
	if r.world != nil {
		targets, err = r.inside(&o)
	} else {
		targets, err = r.onLoopback(&o)
	}
	if err == nil {
		err = writeInventory(o.Inventory, r.lines)
	}
	if err == nil {
		r.target, err = target.New(target.Options{Listeners: targets, Logger: r.log})
	}
	if err == nil {
		r.col, err = collector.New(ctx, o)
	}
	if err != nil {
		return errors.Join(err, office.Close())
	}
	return nil
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

// inside puts collector and target into the data centre's namespace.
func (r *run) inside(o *collector.Options) ([]net.Listener, error) {
	pusat := r.world.PusatAddress.String()
	tcp, err := r.world.Pusat.Listen("tcp", net.JoinHostPort(pusat, ingestPort))
	if err != nil {
		return nil, err
	}
	udp, err := r.world.Pusat.ListenPacket("udp", net.JoinHostPort(pusat, ingestPort))
	if err != nil {
		return nil, err
	}
	packets, ok := udp.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("a datagram socket of type %T", udp)
	}
	o.Listeners, o.Packets, o.Names = []net.Listener{tcp}, []*net.UDPConn{packets}, []string{pusat}
	r.url = "https://" + net.JoinHostPort(pusat, ingestPort)
	measured, err := r.world.Pusat.Listen("tcp", net.JoinHostPort(pusat, targetPort))
	if err != nil {
		return nil, err
	}
	if r.web, err = r.world.Pusat.Listen("tcp", net.JoinHostPort(pusat, webPort)); err != nil {
		return nil, err
	}
	host, err := listenNear("127.0.0.1:" + targetPort)
	if err != nil {
		return nil, err
	}
	for i, v := range r.world.Villages {
		odc := i / 3
		r.lines = append(r.lines, line{place: r.places[i], ODC: odc, Down: v.Down, Up: v.Up, UsageInterface: v.Interface,
			LANGateway: v.LANGateway.String(), FirstHop: "", Latency: pusat,
			SpeedURL: "http://" + net.JoinHostPort(pusat, targetPort) + "/speedtest",
			Reach:    map[string]string{"olt-1": r.world.OLTAddress.String(), "bng-1": r.world.BNGAddress.String()},
			ReachTCP: net.JoinHostPort(pusat, targetPort)})
	}
	return []net.Listener{host, measured}, nil
}

func (r *run) onLoopback(o *collector.Options) ([]net.Listener, error) {
	o.IngestAddr, o.Names = "127.0.0.1:0", []string{"127.0.0.1"}
	host, err := listenNear("127.0.0.1:" + targetPort)
	if err != nil {
		return nil, err
	}
	o.Schedule.SpeedMean, o.Schedule.SpeedDuration = 3*time.Minute, 2*time.Second // it costs this machine, not a line
	for i, p := range r.places {
		r.lines = append(r.lines, line{place: p, ODC: i / 3, Latency: "127.0.0.1",
			SpeedURL: "http://" + host.Addr().String() + "/speedtest", ReachTCP: host.Addr().String()})
	}
	return []net.Listener{host}, nil
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
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.opt.For > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, r.opt.For)
		defer stop()
	}
	// The probes end before the collector does, so that their last batches arrive.
	servers, stopServers := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServers()
	var back errgroup.Group
	for _, serve := range []func(context.Context) error{r.col.Run, r.target.Run, r.browseServer} {
		back.Go(func() error {
			err := serve(servers)
			cancel() // one that ends early ends the demo
			return err
		})
	}
	if r.url == "" {
		r.url = "https://" + r.col.IngestAddr().String()
	}
	r.introduce()
	var front errgroup.Group
	for i := range r.lines {
		front.Go(func() error { return r.village(ctx, i, dir) })
	}
	front.Go(func() error { return r.table(ctx) })
	err := front.Wait()
	r.lastLook()
	stopServers()
	return errors.Join(err, back.Wait())
}

func (r *run) teardown() error {
	var errs []error
	if r.web != nil {
		errs = append(errs, ignoreClosed(r.web.Close()))
	}
	if r.world != nil {
		errs = append(errs, r.world.Close())
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.opt.Out, format+"\n", args...)
}

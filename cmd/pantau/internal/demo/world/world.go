// Package world builds the network of the demonstration: villages with a box
// and a router each, drop lines of known rate, the cabinets (ODC) that these
// lead to, an OLT, a BNG and the data centre (pusat), as namespaces of this
// machine.
//
//	box -- router -- drop line -- ODC -- OLT -- BNG -- pusat
//
// It guarantees that a village's only narrow place is its drop line, that every
// node answers ICMP and shows itself to a trace by TTL, and that a cut is a
// real one, an interface set down, by this program or from a shell: from beyond
// it nothing comes back, not even an error.
//
// An ODC and an OLT pass light or frames on, in truth; here they route, so that
// a cut can be made at either end of each line. The ODP between drop line and
// ODC is passive and has no address: it is not here.
package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"

	"github.com/pantau-desa/pantau/probe/netlab"
)

// The rates published as the averages of Klaten's villages: one village has
// exactly these, in bits per second.
const (
	PublishedDown = 38.16e6
	PublishedUp   = 19.03e6
)

// The bounds of the other villages' rates, in bits per second.
const (
	leastDown, mostDown = 10e6, 100e6
	leastUp, mostUp     = 5e6, 50e6
	rateStep            = 10e3
)

const (
	defaultName   = "pantau"
	defaultPerODC = 3
	mostVillages  = 240 // each has the third octet of its addresses
)

// congestionControl is TCP's at both ends of every measured connection.
const congestionControl = "cubic"

// Place is a village as it is called.
type Place struct{ Code, Name string }

// Options say what to build.
type Options struct {
	// Seed draws the rates: the same seed, the same rates.
	Seed uint64
	// Villages are the places, 1 to 240; each run of PerODC shares an ODC.
	Villages []Place
	// PerODC is how many villages an ODC serves. 0: 3.
	PerODC int
	// Name begins the namespaces' names. Empty: "pantau".
	Name   string
	Logger *slog.Logger // nil: none
}

// World is the network, standing.
type World struct {
	Villages []*Village
	ODCs     []*ODC

	OLT, BNG, Pusat *netlab.Node
	// Uplink is pusat's own, between BNG (A) and pusat (B).
	Uplink *netlab.Link
	// Addresses that answer by whatever way is left.
	OLTAddress, BNGAddress, PusatAddress netip.Addr

	lab *netlab.Lab
}

// Village is a village's end of the network.
type Village struct {
	Place
	ODC *ODC

	// Down and Up are what the drop line carries towards the village and from
	// it, in bits per second of Ethernet frames: see [netlab.PayloadRate].
	Down, Up float64

	Box, Router *netlab.Node
	// Interface is the box's only one. All the village's traffic passes it.
	Interface  string
	BoxAddress netip.Addr
	// LANGateway is the router, FirstHop the first address beyond the drop line.
	LANGateway, FirstHop netip.Addr
	// Path is what a trace by TTL from the box to pusat shows, in order.
	Path []netip.Addr

	// Drop is the line between ODC (A) and router (B).
	Drop *netlab.Link
	// Cut and Restore are the shell commands that set the drop line down and up
	// at the ODC's end.
	Cut, Restore string
}

// ODC is a cabinet that some villages' drop lines lead to.
type ODC struct {
	Node     *netlab.Node
	Address  netip.Addr
	Villages []*Village

	// Uplink is the line between OLT (A) and ODC (B).
	Uplink *netlab.Link
	// Cut and Restore are the shell commands that set the uplink down and up at
	// the ODC's end.
	Cut, Restore string
}

// Addresses are of the shared address space (RFC 6598).
func address(network, line, host byte) netip.Addr {
	return netip.AddrFrom4([4]byte{100, network, line, host})
}

// The second octet of an address says what it is of.
const (
	lanNet    = 64 // 100.64.village.0/24: router .1, box .2
	dropNet   = 65 // 100.65.village.0/30: ODC .1, router .2
	odcNet    = 66 // 100.66.odc.0/30: OLT .1, ODC .2
	trunkNet  = 67 // 100.67.0.0/30: BNG .1, OLT .2
	centreNet = 68 // 100.68.0.0/30: BNG .1, pusat .2
	ownNet    = 69 // 100.69.0.1 BNG, 100.69.0.2 OLT, 100.69.1.odc
)

var everywhere = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// Build builds the world, after clearing what killed ones of the same name left
// behind. It answers [netlab.ErrNotPermitted] where that is not allowed. The
// caller must call [World.Close].
func Build(ctx context.Context, o Options) (*World, error) {
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.PerODC == 0 {
		o.PerODC = defaultPerODC
	}
	if n := len(o.Villages); n < 1 || n > mostVillages {
		return nil, fmt.Errorf("world: %d villages: want 1 to %d", n, mostVillages)
	}
	if o.PerODC < 1 {
		return nil, fmt.Errorf("world: %d villages to an ODC: want at least 1", o.PerODC)
	}
	lab, err := netlab.New(netlab.Options{Name: o.Name, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	w := &World{lab: lab}
	s := site{ctx: ctx, lab: lab}
	w.buildCentre(&s)
	for i, rates := range draw(o.Seed, len(o.Villages)) {
		if i%o.PerODC == 0 {
			w.addODC(&s)
		}
		w.addVillage(&s, o.Villages[i], rates)
	}
	if s.err != nil {
		return nil, errors.Join(s.err, lab.Close())
	}
	return w, nil
}

// Close removes the world and kills whatever runs inside.
func (w *World) Close() error { return w.lab.Close() }

// rates are those of one drop line.
type rates struct{ down, up float64 }

// draw gives n villages their rates, and one of them the published ones.
func draw(seed uint64, n int) []rates {
	r := rand.New(rand.NewPCG(seed, 0))
	between := func(low, high float64) float64 {
		return math.Round((low+r.Float64()*(high-low))/rateStep) * rateStep
	}
	all := make([]rates, n)
	for i := range all {
		all[i].down = between(leastDown, mostDown)
		all[i].up = between(leastUp, min(mostUp, all[i].down))
	}
	all[r.IntN(n)] = rates{PublishedDown, PublishedUp}
	return all
}

// buildCentre builds OLT, BNG and pusat.
func (w *World) buildCentre(s *site) {
	w.OLT, w.BNG, w.Pusat = s.router("olt"), s.router("bng"), s.host("pusat")
	w.BNGAddress, w.OLTAddress = address(ownNet, 0, 1), address(ownNet, 0, 2)
	w.PusatAddress = address(centreNet, 0, 2)
	s.own(w.BNG, w.BNGAddress)
	s.own(w.OLT, w.OLTAddress)

	w.Uplink = s.line(w.BNG, w.Pusat, centreNet, 0, netlab.LinkOptions{NameA: "pusat", NameB: "eth0"})
	s.line(w.BNG, w.OLT, trunkNet, 0, netlab.LinkOptions{NameA: "olt", NameB: "uplink"})
	s.route(w.Pusat, everywhere, address(centreNet, 0, 1), congestionControl)
	s.route(w.OLT, everywhere, address(trunkNet, 0, 1), "")
	s.route(w.BNG, netip.PrefixFrom(w.OLTAddress, 32), address(trunkNet, 0, 2), "")
	for _, below := range []netip.Prefix{
		netip.PrefixFrom(address(lanNet, 0, 0), 16), netip.PrefixFrom(address(dropNet, 0, 0), 16),
		netip.PrefixFrom(address(odcNet, 0, 0), 16), netip.PrefixFrom(address(ownNet, 1, 0), 24),
	} {
		s.route(w.BNG, below, address(trunkNet, 0, 2), "")
		s.blackhole(w.OLT, below) // or what is behind a cut would go round in circles
	}
}

func (w *World) addODC(s *site) {
	k := byte(len(w.ODCs) + 1)
	o := &ODC{Node: s.router(fmt.Sprintf("odc%d", k)), Address: address(ownNet, 1, k)}
	s.own(o.Node, o.Address)
	o.Uplink = s.line(w.OLT, o.Node, odcNet, k, netlab.LinkOptions{NameA: fmt.Sprintf("odc-%d", k), NameB: "uplink"})
	s.route(w.OLT, netip.PrefixFrom(o.Address, 32), address(odcNet, k, 2), "")
	s.route(o.Node, everywhere, address(odcNet, k, 1), "")
	s.blackhole(o.Node, everywhere)
	if s.err == nil {
		o.Cut, o.Restore = commands(o.Uplink.B)
	}
	w.ODCs = append(w.ODCs, o)
}

func (w *World) addVillage(s *site, p Place, r rates) {
	o := w.ODCs[len(w.ODCs)-1]
	i, k := byte(len(w.Villages)+1), byte(len(w.ODCs))
	v := &Village{
		Place: p, ODC: o, Down: r.down, Up: r.up,
		Box: s.host(fmt.Sprintf("box%d", i)), Router: s.router(fmt.Sprintf("router%d", i)),
		Interface: "eth0", BoxAddress: address(lanNet, i, 2),
		LANGateway: address(lanNet, i, 1), FirstHop: address(dropNet, i, 1),
		Path: []netip.Addr{address(lanNet, i, 1), address(dropNet, i, 1), address(odcNet, k, 1), address(trunkNet, 0, 1), w.PusatAddress},
	}
	lan, drop := netip.PrefixFrom(address(lanNet, i, 0), 24), netip.PrefixFrom(address(dropNet, i, 0), 30)

	s.link(v.Router, v.Box, netlab.LinkOptions{
		NameA: "lan", AddrA: netip.PrefixFrom(v.LANGateway, 24), NameB: v.Interface, AddrB: netip.PrefixFrom(v.BoxAddress, 24)})
	v.Drop = s.line(o.Node, v.Router, dropNet, i, netlab.LinkOptions{
		NameA: fmt.Sprintf("drop-%d", i), NameB: "wan", RateAB: v.Down, RateBA: v.Up})

	s.route(v.Box, everywhere, v.LANGateway, congestionControl)
	s.route(v.Router, everywhere, v.FirstHop, "")
	s.route(o.Node, lan, address(dropNet, i, 2), "")
	s.blackhole(o.Node, lan)
	s.blackhole(o.Node, drop)
	for _, net := range []netip.Prefix{lan, drop} {
		s.route(w.OLT, net, address(odcNet, k, 2), "")
	}
	s.sysctl(v.Box, "net.ipv4.ping_group_range", "0 2147483647") // ICMP without privilege
	if s.err == nil {
		v.Cut, v.Restore = commands(v.Drop.A)
	}
	o.Villages = append(o.Villages, v)
	w.Villages = append(w.Villages, v)
}

// commands are what a shell, as root, sets the port down and up with.
func commands(p *netlab.Port) (cut, restore string) {
	set := fmt.Sprintf("ip -n %s link set %s ", p.Node.Namespace(), p.Name)
	return set + "down", set + "up"
}

// site is where the building is done: after the first error nothing more.
type site struct {
	ctx context.Context
	lab *netlab.Lab
	err error
}

func (s *site) do(f func() error) {
	if s.err == nil {
		s.err = s.ctx.Err()
	}
	if s.err == nil {
		s.err = f()
	}
}

func (s *site) host(name string) (n *netlab.Node) {
	s.do(func() (err error) { n, err = s.lab.Node(name); return err })
	return n
}

func (s *site) router(name string) *netlab.Node {
	n := s.host(name)
	s.do(func() error { return n.Forward(true) })
	return n
}

func (s *site) link(a, b *netlab.Node, o netlab.LinkOptions) (k *netlab.Link) {
	o.CongestionControl = congestionControl
	s.do(func() (err error) { k, err = s.lab.Link(a, b, o); return err })
	return k
}

// line links a at .1 and b at .2 of the small network of that line.
func (s *site) line(a, b *netlab.Node, network, line byte, o netlab.LinkOptions) *netlab.Link {
	o.AddrA = netip.PrefixFrom(address(network, line, 1), 30)
	o.AddrB = netip.PrefixFrom(address(network, line, 2), 30)
	return s.link(a, b, o)
}

func (s *site) own(n *netlab.Node, a netip.Addr) {
	s.do(func() error { return n.Address(netip.PrefixFrom(a, 32)) })
}

func (s *site) route(n *netlab.Node, dst netip.Prefix, via netip.Addr, cc string) {
	s.do(func() error { return n.Route(dst, via, cc) })
}

func (s *site) blackhole(n *netlab.Node, dst netip.Prefix) {
	s.do(func() error { return n.Blackhole(dst) })
}

func (s *site) sysctl(n *netlab.Node, key, value string) {
	s.do(func() error { return n.Sysctl(key, value) })
}

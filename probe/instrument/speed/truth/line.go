package truth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/netlab"
)

// Line is a cell that stands: a client, a server, and what lies between them.
type Line struct {
	Client, Server *netlab.Node
	// Address is where the client reaches the server's ports: behind a proxy, the
	// proxy's.
	Address netip.Addr

	cell     Cell
	lab      *netlab.Lab
	emulator *netlab.Emulator // nil: the kernel shapes
	shaped   []*netlab.Port   // towards the client, towards the server
	proxies  []net.Listener
	wait     sync.WaitGroup
}

// queue is that of every cell; police the bucket of a policer.
const (
	queue  = 200 * time.Millisecond
	police = 50 * time.Millisecond
)

var (
	clientAddr = netip.MustParsePrefix("198.18.1.2/24")
	gateInside = netip.MustParsePrefix("198.18.1.1/24")
	gateAddr   = netip.MustParsePrefix("198.18.2.1/24")
	serverAddr = netip.MustParsePrefix("198.18.2.2/24")
	everywhere = netip.MustParsePrefix("0.0.0.0/0")
)

// Ports are those that a proxy passes on.
var ports = []uint16{targetPort, iperfPort}

const (
	targetPort = 7442
	iperfPort  = 5201
)

// Build builds a cell's line. The caller must call Close.
func Build(c Cell) (*Line, error) {
	lab, err := netlab.New(netlab.Options{Name: "truth"})
	if err != nil {
		return nil, err
	}
	l := &Line{cell: c, lab: lab, Address: serverAddr.Addr()}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Line) build() (err error) {
	if l.Client, err = l.lab.Node("client"); err != nil {
		return err
	}
	if l.Server, err = l.lab.Node("server"); err != nil {
		return err
	}
	c := l.cell
	switch {
	case c.Shape == Proxy:
		gate, err := l.lab.Node("gate")
		if err != nil {
			return err
		}
		if _, err := l.lab.Link(gate, l.Client, netlab.LinkOptions{NameA: "inside", NameB: "eth0", AddrA: gateInside, AddrB: clientAddr}); err != nil {
			return err
		}
		if err := l.emulate(gate, gateAddr); err != nil {
			return err
		}
		l.Address = gateInside.Addr()
		return l.proxy(gate)
	case c.RTT == 0 && c.Loss == 0 && c.Shape == Plain:
		return l.shape()
	}
	return l.emulate(l.Client, netip.PrefixFrom(gateAddr.Addr(), 24))
}

// shape has the kernel of a router do it.
func (l *Line) shape() error {
	router, err := l.lab.Node("router")
	if err != nil {
		return err
	}
	if err := router.Forward(true); err != nil {
		return err
	}
	for _, side := range []struct {
		node          *netlab.Node
		name          string
		router, other netip.Prefix
		rate          float64
	}{{l.Client, "toclient", gateInside, clientAddr, l.cell.Down}, {l.Server, "toserver", gateAddr, serverAddr, l.cell.Up}} {
		k, err := l.lab.Link(router, side.node, netlab.LinkOptions{NameA: side.name, NameB: "eth0",
			AddrA: side.router, AddrB: side.other, RateAB: side.rate, Queue: queue})
		if err != nil {
			return err
		}
		if err := side.node.Route(everywhere, side.router.Addr(), "cubic"); err != nil {
			return err
		}
		l.shaped = append(l.shaped, k.A)
	}
	return nil
}

// emulate joins a node, at this address, with the server through the emulator.
func (l *Line) emulate(near *netlab.Node, at netip.Prefix) error {
	wire, err := l.lab.Node("wire")
	if err != nil {
		return err
	}
	name := "eth0"
	if near != l.Client {
		name = "outside"
	}
	left, err := l.lab.Link(wire, near, netlab.LinkOptions{NameA: "near", NameB: name, AddrB: at})
	if err != nil {
		return err
	}
	right, err := l.lab.Link(wire, l.Server, netlab.LinkOptions{NameA: "far", NameB: "eth0", AddrB: serverAddr})
	if err != nil {
		return err
	}
	c := l.cell
	path := netlab.Path{Queue: queue, Delay: c.RTT / 2, Loss: c.Loss}
	switch c.Shape {
	case Burst:
		path.BurstEnter, path.BurstLeave = burstEnter, burstLeave
	case Policer:
		path.Police, path.Queue = true, police
	}
	up, down := path, path
	up.Rate, down.Rate = c.Up, c.Down
	l.emulator, err = l.lab.Emulate(left.A, right.A, netlab.EmulatorOptions{AB: up, BA: down, Seed: 1})
	return err
}

// change gives a line whose rate changes its second rate.
func (l *Line) change() {
	switch l.cell.Shape {
	case Halved:
		l.emulator.SetRates(l.cell.Up/2, l.cell.Down/2)
	case Doubled:
		l.emulator.SetRates(l.cell.Up*2, l.cell.Down*2)
	}
}

// factor is what a change does to the rate.
func (c Cell) factor() float64 {
	switch c.Shape {
	case Halved:
		return 0.5
	case Doubled:
		return 2
	}
	return 1
}

// Close takes the line away.
func (l *Line) Close() error {
	for _, p := range l.proxies {
		p.Close()
	}
	err := l.lab.Close()
	l.wait.Wait()
	return err
}

// carried is what the client's interface has received and sent, in bytes.
func (l *Line) carried() (rx, tx uint64) {
	l.Client.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/dev")
		for line := range strings.Lines(string(b)) {
			name, counts, ok := strings.Cut(line, ":")
			f := strings.Fields(counts)
			if ok && strings.TrimSpace(name) == "eth0" && len(f) > 8 {
				fmt.Sscan(f[0], &rx)
				fmt.Sscan(f[8], &tx)
			}
		}
		return err
	})
	return rx, tx
}

// proxyBuffer is what a proxy takes in before it passes it on, all connections
// together and each direction for itself.
const proxyBuffer = 8 << 20

// proxy has a node split connections: it ends those that come from the client and
// opens others to the server.
func (l *Line) proxy(gate *netlab.Node) error {
	up, down := newPool(proxyBuffer), newPool(proxyBuffer)
	for _, port := range ports {
		ln, err := gate.Listen("tcp", netip.AddrPortFrom(gateInside.Addr(), port).String())
		if err != nil {
			return err
		}
		l.proxies = append(l.proxies, ln)
		to := netip.AddrPortFrom(serverAddr.Addr(), port).String()
		l.wait.Go(func() {
			for {
				near, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer near.Close()
					far, err := gate.DialContext(context.Background(), "tcp", to)
					if err != nil {
						return
					}
					defer far.Close()
					var both sync.WaitGroup
					both.Go(func() { up.pass(far, near) })
					both.Go(func() { down.pass(near, far) })
					both.Wait()
				}()
			}
		})
	}
	return nil
}

// pool is a buffer that many connections share.
type pool struct {
	mu   sync.Mutex
	room *sync.Cond
	free int
}

func newPool(size int) *pool {
	p := &pool{free: size}
	p.room = sync.NewCond(&p.mu)
	return p
}

// pass carries what comes from src to dst, and takes in as much as there is room.
func (p *pool) pass(dst, src net.Conn) {
	pieces := make(chan []byte, proxyBuffer/512)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 16<<10)
			n, err := src.Read(b)
			if n > 0 {
				p.mu.Lock()
				for p.free < n {
					p.room.Wait()
				}
				p.free -= n
				p.mu.Unlock()
				pieces <- b[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	broken := false
	for b := range pieces {
		if !broken {
			if _, err := dst.Write(b); err != nil {
				broken = true
				src.Close()
			}
		}
		p.mu.Lock()
		p.free += len(b)
		p.room.Broadcast()
		p.mu.Unlock()
	}
	if w, ok := dst.(interface{ CloseWrite() error }); ok {
		w.CloseWrite()
	}
	if broken {
		dst.Close()
	}
}

// Serve starts a measurement server behind the line: program with its command
// serve. It ends with ctx or the line.
func (l *Line) Serve(ctx context.Context, program string) error { return l.serve(ctx, program, Pantau) }

// Sound says nil, or why the line is not the one that was asked for. Of a line
// that the kernel shapes it knows nothing.
func (l *Line) Sound() error {
	if l.emulator == nil {
		return nil
	}
	return l.emulator.Report().Sound()
}

package target

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// overflow is how many connections above the limits are still told so; any
// further ones are closed unheard.
const overflow = 64

// door knows every connection there is and turns away those above the limits.
type door struct {
	limits  Limits
	metrics *metrics

	mu      sync.Mutex
	open    map[*conn]struct{}
	from    map[netip.Prefix]int // open connections per client, those turned away not counted
	serving int
	closed  bool
	gone    sync.WaitGroup
}

func newDoor(l Limits, m *metrics) *door {
	return &door{limits: l, metrics: m, open: make(map[*conn]struct{}), from: make(map[netip.Prefix]int)}
}

// enter counts nc in. It returns nil, and nc is closed, when not even a refusal
// can be afforded.
func (d *door) enter(nc net.Conn) *conn {
	c := &conn{Conn: nc, door: d, client: clientOf(nc.RemoteAddr())}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.serving >= d.limits.Connections:
		c.refused = limitConnections
	case d.from[c.client] >= d.limits.ConnectionsPerAddress:
		c.refused = limitAddress
	}
	if c.refused != "" {
		d.metrics.refused.WithLabelValues(c.refused).Inc()
	}
	if d.closed || c.refused != "" && len(d.open)-d.serving >= overflow {
		nc.Close()
		return nil
	}
	if c.refused == "" {
		d.serving++
		d.from[c.client]++
	}
	d.open[c] = struct{}{}
	d.gone.Add(1)
	d.metrics.connections.Set(float64(len(d.open)))
	return c
}

func (d *door) leave(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.refused == "" {
		d.serving--
		if d.from[c.client]--; d.from[c.client] == 0 {
			delete(d.from, c.client)
		}
	}
	delete(d.open, c)
	d.gone.Done()
	d.metrics.connections.Set(float64(len(d.open)))
}

// closeAll closes every connection and lets none in any more.
func (d *door) closeAll() {
	d.mu.Lock()
	d.closed = true
	cs := make([]*conn, 0, len(d.open))
	for c := range d.open {
		cs = append(cs, c)
	}
	d.mu.Unlock()
	for _, c := range cs {
		c.Close()
	}
}

func (d *door) wait() { d.gone.Wait() }

// clientOf is the address that counts as one client: all of an IPv4 address, a
// /64 of IPv6.
func clientOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// conn is one client's connection. Its first two bytes were looked at and are
// given to the reader again.
type conn struct {
	net.Conn
	door    *door
	client  netip.Prefix
	refused string // which limit it is above; empty if none

	first   [2]byte
	pending []byte // the part of first that is not yet read; only the reader's
	bytes   atomic.Int64
	came    ledger.Arrival // guarded by accounts.mu
	once    sync.Once
}

// peek reads the first two bytes.
func (c *conn) peek() error {
	for n := 0; n < len(c.first); {
		m, err := c.Conn.Read(c.first[n:])
		if n += m; err != nil && n < len(c.first) {
			return err
		}
	}
	c.pending = c.first[:]
	return nil
}

func (c *conn) Read(b []byte) (int, error) {
	if len(c.pending) > 0 && len(b) > 0 {
		n := copy(b, c.pending)
		c.pending = c.pending[n:]
		return n, nil
	}
	n, err := c.Conn.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}

// CloseWrite lets net/http end a connection without losing its last response.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { c.door.leave(c) })
	return err
}

// congestionControl is tcp(7) TCP_CONGESTION; empty where it cannot be read.
func (c *conn) congestionControl() string {
	var name string
	c.control(func(fd uintptr) {
		name, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	})
	return name
}

// control calls f with the socket, where there is one.
func (c *conn) control(f func(fd uintptr)) {
	if s, ok := c.Conn.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			raw.Control(f)
		}
	}
}

type connKey struct{}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, nc)
}

func connOf(ctx context.Context) *conn { return ctx.Value(connKey{}).(*conn) }

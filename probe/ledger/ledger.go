// Package ledger counts what the probe itself sends and receives, so that the
// village's traffic can be told from the probe's own and a byte budget can be
// kept.
//
// It guarantees that bytes moved by a connection which was dialled through it
// are counted as a network interface counts them (layer 2: payload with
// retransmissions, plus the headers of every segment), while the connection is
// open and after it is closed, and that a sum never falls. On Linux the kernel's
// own counters of the connection (TCP_INFO) are read, without privilege; where
// there are none the layer-2 figures are estimated from the payload.
//
// Of a dial that fails the SYNs that the kernel sent by then are estimated. It does
// not see ARP and neighbour discovery, which stay in the house, and what is still
// under way towards the probe when it resets a connection (at most one round trip's
// worth, queues included): who knows the rate enters it with [Ledger.AddPackets].
package ledger

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Options of a Ledger. The zero value is ready.
type Options struct {
	// Dial opens the connections. The default is a net.Dialer with a limit of
	// 30 s whose name look-ups are counted as well; with another one they are
	// not, unless it resolves through this ledger.
	Dial DialFunc
	// Interface is the one that the default Dial's connections leave by, such as
	// "eth0". Empty: as the routes say. Linux only.
	Interface string
}

// Ledger is the account of one probe. All its methods may be called at once
// from several goroutines.
type Ledger struct {
	dial  DialFunc
	conns tally

	mu     sync.Mutex // guards what AddPackets added
	rx, tx uint64     // layer-2 bytes
}

// New returns an empty account.
func New(o Options) *Ledger {
	l := &Ledger{dial: o.Dial}
	if l.dial == nil {
		plain := net.Dialer{Control: throughInterface(o.Interface)} // towards name servers: their addresses need no look-up
		d := net.Dialer{Timeout: 30 * time.Second, Control: plain.Control, Resolver: &net.Resolver{
			PreferGo: true,
			Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return l.open(ctx, plain.DialContext, network, addr, nil)
			},
		}}
		l.dial = d.DialContext
	}
	return l
}

// DialContext opens a counted connection. It fits http.Transport.DialContext.
// TCP and UDP are counted; for any other network the payload is, as if it were
// TCP.
func (l *Ledger) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return l.open(ctx, l.dial, network, addr, nil)
}

// DialTLS returns a function that opens counted connections and completes the
// TLS handshake on them. It fits http.Transport.DialTLSContext. The
// configuration is copied for each connection; without a ServerName the dialled
// host is taken.
func (l *Ledger) DialTLS(cfg *tls.Config) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c := cfg.Clone()
		if c == nil {
			c = new(tls.Config)
		}
		if c.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			c.ServerName = host
		}
		raw, err := l.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn := tls.Client(raw, c)
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return conn, nil
	}
}

// Packets is a number of IP packets and their bytes, IP header included, frame
// header not.
type Packets struct {
	Count, Bytes uint64
}

// AddPackets counts packets that no connection of this ledger carried, such as
// ICMP echoes. One Ethernet header is added for each.
func (l *Ledger) AddPackets(rx, tx Packets) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rx += rx.Bytes + ethernetHeader*rx.Count
	l.tx += tx.Bytes + ethernetHeader*tx.Count
}

// Own is what the probe has received and sent since New, in bytes of layer 2
// (frame check sequence not counted, as in /proc/net/dev). Neither ever falls.
func (l *Ledger) Own() (rx, tx uint64) {
	c := l.conns.sum()
	l.mu.Lock()
	defer l.mu.Unlock()
	return c.rx + l.rx, c.tx + l.tx
}

// open dials with dial and enters the connection into the ledger's tally and
// into that of its group, if it has one.
func (l *Ledger) open(ctx context.Context, dial DialFunc, network, addr string, group *tally) (net.Conn, error) {
	begin := time.Now()
	nc, err := dial(ctx, network, addr)
	if err != nil {
		rx, tx := inVain(err, time.Since(begin))
		l.AddPackets(rx, tx)
		if group != nil {
			group.charge(rx, tx)
		}
		return nil, err
	}
	c := wrap(nc)
	c.tallies = []*tally{&l.conns}
	if group != nil {
		c.resetOnClose()
		c.tallies = append(c.tallies, group)
	}
	for _, t := range c.tallies {
		t.add(c)
	}
	if p, ok := nc.(net.PacketConn); ok {
		return &packetConn{conn: c, packets: p}, nil
	}
	return c, nil
}

// inVain estimates what a dial that failed has moved: a SYN at once, four more each
// second (Linux since 6.5: tcp_syn_linear_timeouts), then at doubled intervals, and a
// reset if that was the answer. Older kernels send fewer. Nothing if it was not TCP, or
// did not come so far: no such name, no route, nobody on the wire.
func inVain(err error, after time.Duration) (rx, tx Packets) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		return rx, tx
	}
	to, ok := op.Addr.(*net.TCPAddr)
	if !ok {
		return rx, tx
	}
	ip := uint64(ipv4Header)
	if to.AddrPort().Addr().Unmap().Is6() {
		ip = ipv6Header
	}
	switch refused := errors.Is(err, syscall.ECONNREFUSED); {
	case refused:
		rx, tx = Packets{1, ip + tcpHeader}, Packets{1, 0}
	case op.Timeout() || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		tx.Count = 1 + min(uint64(after/time.Second), 4)
		for next := 6 * time.Second; next <= after; next = 2*next + time.Second { // 6, 13, 27 s
			tx.Count++
		}
	}
	tx.Bytes = tx.Count * (ip + tcpHeader + tcpTimestamps + synOptions)
	return rx, tx
}

// ErrClosed is returned by the dial of a group that was closed.
var ErrClosed = errors.New("ledger: the group of connections is closed")

// Group is the account of the connections of one transfer, and the means to end
// it: whatever code uses them, after [Group.CloseAll] it has none and gets none.
//
// Its connections end with a reset, whoever closes them: data that the kernel
// still holds for sending is dropped, instead of being sent after the transfer
// that it was meant to measure.
type Group struct {
	ledger *Ledger
	conns  tally
	life   context.Context // ends dials that are under way when the group is closed
	end    context.CancelFunc
}

// Group opens an account within the ledger's. It must be closed with CloseAll.
func (l *Ledger) Group() *Group {
	g := &Group{ledger: l}
	g.life, g.end = context.WithCancel(context.Background())
	return g
}

// DialContext opens a connection counted here and in the ledger. After CloseAll
// it returns [ErrClosed].
func (g *Group) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.life.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()
	nc, err := g.ledger.open(ctx, g.ledger.dial, network, addr, &g.conns)
	switch {
	case g.life.Err() != nil && err == nil:
		nc.Close() // CloseAll may have looked before this one was entered
		return nil, ErrClosed
	case g.life.Err() != nil:
		return nil, ErrClosed
	case err != nil:
		return nil, err
	}
	return nc, nil
}

// Received is the payload in bytes that was read from the group's connections,
// open and closed ones.
func (g *Group) Received() uint64 { return g.conns.sum().read }

// Written is the payload in bytes that was written to the group's connections.
// The kernel may hold megabytes of it: it is no measure of what was sent.
func (g *Group) Written() uint64 { return g.conns.sum().written }

// Acked is the payload in bytes that the other ends have acknowledged, from
// TCP_INFO: in order (RFC 4898 tcpEStatsAppHCThruOctetsAcked), and selectively
// (RFC 2018) what is beyond a loss, or else a loss being repaired would look
// like a pause and its end like a burst. ok is false if the kernel did not say
// so for every connection of the group; bytes is then too low.
func (g *Group) Acked() (bytes uint64, ok bool) {
	c := g.conns.sum()
	return c.acked, c.unknown == 0
}

// Arrived is the payload in bytes that has come: in order, whether or not it was
// read, and what waits behind a loss ([Arrival]). ok is false if the kernel did
// not say so for every connection of the group; bytes is then what was read of it.
func (g *Group) Arrived() (bytes uint64, ok bool) {
	c := g.conns.sum()
	return c.arrived, c.unknown == 0
}

// Path is what the kernel knows of the ways of a group's open connections.
type Path struct {
	Connections int // of which something is known
	// MinRTT is the shortest round trip that any of them has seen, RTT the mean of
	// their smoothed ones (RFC 6298). 0: none yet.
	MinRTT, RTT time.Duration
	// Segments with payload that were sent, and those of them that were sent again.
	Segments, Retransmitted uint64
	// SegmentsIn with payload that came, and those that came before one that
	// was still missing.
	SegmentsIn, OutOfOrder uint64
	// CongestionControl is that of the sending side here; empty if it is not the
	// same for all.
	CongestionControl string
}

// Path looks at the connections that are open now.
func (g *Group) Path() Path {
	var p Path
	var rtts time.Duration
	for _, c := range g.conns.list() {
		c.counts()
		c.mu.Lock()
		one := c.path
		c.mu.Unlock()
		if one.Connections == 0 {
			continue
		}
		cc := c.congestionControl()
		if p.Connections == 0 {
			p.CongestionControl = cc
		} else if cc != p.CongestionControl {
			p.CongestionControl = ""
		}
		p.Connections++
		p.Segments += one.Segments
		p.Retransmitted += one.Retransmitted
		p.SegmentsIn += one.SegmentsIn
		p.OutOfOrder += one.OutOfOrder
		rtts += one.RTT
		if one.MinRTT > 0 && (p.MinRTT == 0 || one.MinRTT < p.MinRTT) {
			p.MinRTT = one.MinRTT
		}
	}
	if p.Connections > 0 {
		p.RTT = rtts / time.Duration(p.Connections)
	}
	return p
}

// Own is what the group's connections have received and sent, in bytes of layer 2.
func (g *Group) Own() (rx, tx uint64) {
	c := g.conns.sum()
	return c.rx, c.tx
}

// CloseAll resets every connection of the group, ends dials under way and
// refuses further ones. The counts stay. It may be called more than once.
func (g *Group) CloseAll() {
	g.end()
	for _, c := range g.conns.list() {
		c.Close()
	}
}

// counts is what one connection, or many, have moved so far, in bytes.
type counts struct {
	read, written uint64 // payload, as the program sees it
	acked         uint64 // payload that the other end acknowledged
	arrived       uint64 // payload that has come
	unknown       uint64 // connections that do not tell acked and arrived
	rx, tx        uint64 // layer 2
}

func (a *counts) add(b counts) {
	a.read += b.read
	a.written += b.written
	a.acked += b.acked
	a.arrived += b.arrived
	a.unknown += b.unknown
	a.rx += b.rx
	a.tx += b.tx
}

// tally sums connections. Its lock is taken before that of a connection, never
// the other way round.
type tally struct {
	mu     sync.Mutex
	open   map[*conn]struct{}
	closed counts
}

func (t *tally) add(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = make(map[*conn]struct{})
	}
	t.open[c] = struct{}{}
}

func (t *tally) settle(c *conn, final counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.open[c]; ok {
		delete(t.open, c)
		t.closed.add(final)
	}
}

// charge counts packets that no connection of the tally carried.
func (t *tally) charge(rx, tx Packets) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed.add(counts{rx: rx.Bytes + ethernetHeader*rx.Count, tx: tx.Bytes + ethernetHeader*tx.Count})
}

func (t *tally) sum() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.closed
	for c := range t.open {
		s.add(c.counts())
	}
	return s
}

func (t *tally) list() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	cs := make([]*conn, 0, len(t.open))
	for c := range t.open {
		cs = append(cs, c)
	}
	return cs
}

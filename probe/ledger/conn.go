package ledger

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Header sizes in bytes. IEEE 802.3, RFC 791, RFC 8200, RFC 9293, RFC 7323
// (timestamps, padded), RFC 768.
const (
	ethernetHeader = 14
	ipv4Header     = 20
	ipv6Header     = 40
	tcpHeader      = 20
	tcpTimestamps  = 12
	synOptions     = 8 // what a SYN carries more than later segments
	udpHeader      = 8
	ethernetMTU    = 1500
)

// conn counts one connection.
type conn struct {
	net.Conn
	raw     syscall.RawConn // nil where the connection has no TCP_INFO
	frame   uint64          // bytes of frame and IP header
	udp     bool
	tallies []*tally
	reset   bool // Close sends a reset

	read, written     atomic.Uint64 // payload
	datagramsIn, sent atomic.Uint64 // UDP only

	mu     sync.Mutex // guards all below
	last   counts
	closed bool
	path   Path // as of the last look
	came   Arrival
}

func wrap(nc net.Conn) *conn {
	c := &conn{Conn: nc, frame: ethernetHeader + ipv4Header}
	switch a := nc.RemoteAddr().(type) {
	case *net.TCPAddr:
		c.setFamily(a.AddrPort().Addr())
		if s, ok := nc.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				c.raw = raw
			}
		}
	case *net.UDPAddr:
		c.setFamily(a.AddrPort().Addr())
		c.udp = true
	}
	return c
}

func (c *conn) setFamily(a netip.Addr) {
	if a.Unmap().Is6() {
		c.frame = ethernetHeader + ipv6Header
	}
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.got(n, err)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.put(n, err)
	return n, err
}

func (c *conn) got(n int, err error) {
	c.read.Add(uint64(n))
	if err == nil {
		c.datagramsIn.Add(1)
	}
}

func (c *conn) put(n int, err error) {
	c.written.Add(uint64(n))
	if err == nil {
		c.sent.Add(1)
	}
}

// resetOnClose makes Close send a reset and drop what is unsent.
func (c *conn) resetOnClose() {
	if l, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok && l.SetLinger(0) == nil {
		c.reset = true
	}
}

// CloseWrite ends the sending side, where the connection has sides.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return net.ErrClosed
}

// Close reads the kernel's counters for the last time and closes.
func (c *conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return c.Conn.Close() // with its own error for a second close
	}
	c.refresh(true)
	c.closed = true
	final := c.last
	err := c.Conn.Close()
	c.mu.Unlock()
	for _, t := range c.tallies {
		t.settle(c, final)
	}
	return err
}

// counts returns what has moved so far; after Close, what had.
func (c *conn) counts() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.refresh(false)
	}
	return c.last
}

// refresh brings last up to date. closing adds what Close itself is about to
// put on the line. The caller holds mu.
func (c *conn) refresh(closing bool) {
	read, written := c.read.Load(), c.written.Load()
	now := counts{read: read, written: written, arrived: read}
	switch info, ok := c.tcpInfo(); {
	case c.udp:
		now.unknown = 1
		now.rx = read + c.datagramsIn.Load()*(c.frame+udpHeader)
		now.tx = written + c.sent.Load()*(c.frame+udpHeader)
	case ok:
		header := c.frame + tcpHeader
		if info.timestamps {
			header += tcpTimestamps
		}
		c.path = info.path
		now.arrived = c.came.Look(time.Now(), info.received, info.path.SegmentsIn, info.path.OutOfOrder, info.receivedMSS)
		now.acked = max(info.acked, 1) - 1 + info.sacked // the kernel counts the SYN as one byte
		now.rx = now.arrived + info.segmentsIn*header + synOptions
		now.tx = info.sent + info.segmentsOut*header + synOptions
		switch {
		case !closing || info.over:
		case c.reset:
			now.tx += header
		default: // FIN and its acknowledgement, after what is still queued
			now.tx += info.unsent + (1+segments(info.unsent, info.mss))*header
			now.rx += header
			if !info.peerClosed { // it will, and that is acknowledged too
				now.tx += header
			}
		}
	default: // estimate: full segments, every second one acknowledged
		const header = ethernetHeader + ipv4Header + tcpHeader + tcpTimestamps
		const mss = ethernetMTU - ipv4Header - tcpHeader - tcpTimestamps
		in, out := segments(read, mss), segments(written, mss)
		now.unknown = 1
		now.rx = read + (in+out/2)*header
		now.tx = written + (out+in/2)*header
	}
	// A reading that failed half-way through must not take anything back.
	now.acked, now.arrived = max(now.acked, c.last.acked), max(now.arrived, c.last.arrived)
	now.rx, now.tx = max(now.rx, c.last.rx), max(now.tx, c.last.tx)
	c.last = now
}

func segments(n, mss uint64) uint64 {
	if mss == 0 {
		return 0
	}
	return (n + mss - 1) / mss
}

// tcpInfo is what the kernel knows of a connection; sizes in bytes.
type tcpInfo struct {
	received, sent          uint64 // payload; sent includes retransmissions
	acked, sacked, unsent   uint64 // sacked: beyond a hole, to a segment
	segmentsIn, segmentsOut uint64 // with and without payload
	mss, receivedMSS        uint64 // payload of a full segment, either way
	timestamps              bool
	peerClosed              bool // its FIN is here
	over                    bool // both sides are done, or there was a reset
	path                    Path
}

// packetConn is a conn for UDP, with the methods that a name resolver looks for.
type packetConn struct {
	*conn
	packets net.PacketConn
}

func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := c.packets.ReadFrom(b)
	c.got(n, err)
	return n, a, err
}

func (c *packetConn) WriteTo(b []byte, a net.Addr) (int, error) {
	n, err := c.packets.WriteTo(b, a)
	c.put(n, err)
	return n, err
}

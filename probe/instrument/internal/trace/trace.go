// Package trace asks the routers on the way to a destination for a sign of life:
// echo requests whose hop limit (TTL) ends on the way make a router say so (RFC
// 792 and RFC 4443, Time Exceeded). Routers that filter echoes to themselves still
// say this.
//
// It guarantees an end in bounded time, that only answers to its own requests
// count, and that a hop counts once. It needs a raw socket, and refuses to judge
// what an address or a silence means.
package trace

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// MaxLimit is the farthest hop limit that can be asked.
const MaxLimit = 255

// Trace is what to ask.
type Trace struct {
	To      netip.Addr
	Limits  []int         // hop limits, rising, 1 to MaxLimit; 1 is the LAN gateway
	Tries   int           // requests for each limit at most; at least 1
	Spacing time.Duration // between two tries
	Wait    time.Duration // for the answer to the last try
	// Refusals says that a router that has no way on (Destination Unreachable) is
	// heard too. Which limit it is at is then a guess: the least at which it refused.
	Refusals bool
	// Heard is told of each limit's first answer as it comes, from Run's own
	// goroutine; true ends the trace. nil: it ends when nothing is left to hear.
	Heard func(Answer) (enough bool)
}

// Answer is the first answer at one limit.
type Answer struct {
	Limit     int
	Address   netip.Addr // of who answered; no zone
	RoundTrip time.Duration
	Arrived   bool // the destination itself answered
	Refused   bool // a router has no way on
}

// Report is what a trace cost, and what the kernel did not take.
type Report struct {
	Received, Transmitted ledger.Packets
	SendError             error // why the last refused request was refused; nil if none was
}

// Run asks and hears. It returns within (Tries-1) times Spacing, plus Wait, or
// when ctx ends. The error says why no raw socket could be opened.
func (t Trace) Run(ctx context.Context) (Report, error) {
	network, local := "ip4:icmp", "0.0.0.0"
	if t.To.Is6() {
		network, local = "ip6:ipv6-icmp", "::"
	}
	conn, err := icmp.ListenPacket(network, local)
	if err != nil {
		return Report{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(t.Tries-1)*t.Spacing+t.Wait)
	defer cancel()
	unblock := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer unblock()

	s := &sender{trace: t, conn: conn, id: int(rand.Uint32() & 0xffff), heard: make(map[int]bool), sent: make(map[int]time.Time)}
	done := make(chan struct{})
	go func() { defer close(done); s.run(ctx) }()
	received := s.hear()
	cancel()
	<-done
	return Report{Received: received, Transmitted: s.transmitted, SendError: s.failed}, nil
}

// sender is one trace under way.
type sender struct {
	trace Trace
	conn  *icmp.PacketConn
	id    int

	transmitted ledger.Packets // run's own, as is failed
	failed      error

	mu    sync.Mutex // guards what follows
	heard map[int]bool
	end   int // the least limit at which the way ended, well or not; 0: none
	sent  map[int]time.Time
}

// run makes the requests, one for each limit that is still silent in each round.
// The sequence number carries limit and round.
func (s *sender) run(ctx context.Context) {
	for round := range s.trace.Tries {
		for _, limit := range s.trace.Limits {
			seq := limit<<8 | round
			if !s.wanted(limit, seq) {
				continue
			}
			if err := s.write(seq, limit); err != nil {
				s.failed = err
				continue
			}
			s.transmitted.Count++
			s.transmitted.Bytes += s.trace.header() + 8 + uint64(len(payload))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.trace.Spacing):
		}
	}
}

// wanted reports whether a limit is still to be asked, and notes when it was.
func (s *sender) wanted(limit, seq int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard[limit] || s.end != 0 && limit > s.end {
		return false
	}
	s.sent[seq] = time.Now()
	return true
}

// hear takes answers until it has enough or the connection's deadline is over.
func (s *sender) hear() (received ledger.Packets) {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return received
		}
		now := time.Now()
		addr, ok := address(from)
		if !ok {
			continue
		}
		seq, what, ok := match(buf[:n], s.trace.To, s.id)
		if !ok || what == arrived && addr != s.trace.To.WithZone("") || what == refused && !s.trace.Refusals {
			continue
		}
		a, first, left := s.take(seq, what, now)
		if a.Limit == 0 {
			continue // of no request of ours
		}
		received.Count++
		received.Bytes += uint64(n) + s.trace.header()
		a.Address = addr
		if first && s.trace.Heard != nil && s.trace.Heard(a) || left == 0 {
			return received
		}
	}
}

// take enters an answer. left is how many limits may still be heard of.
func (s *sender) take(seq int, what meaning, now time.Time) (a Answer, first bool, left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, asked := s.sent[seq]
	if !asked {
		return Answer{}, false, 0
	}
	a = Answer{Limit: seq >> 8, RoundTrip: now.Sub(at), Arrived: what == arrived, Refused: what == refused}
	first = !s.heard[a.Limit]
	s.heard[a.Limit] = true
	if what != passed && (s.end == 0 || a.Limit < s.end) {
		s.end = a.Limit
	}
	for _, l := range s.trace.Limits {
		if !s.heard[l] && (s.end == 0 || l < s.end) {
			left++
		}
	}
	return a, first, left
}

const payload = "pantau-desa trace" // so that an operator who sees it knows whose it is

func (s *sender) write(seq, limit int) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: s.id, Seq: seq, Data: []byte(payload)}}
	var err error
	to := s.trace.To
	if to.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
		err = s.conn.IPv6PacketConn().SetHopLimit(limit)
	} else {
		err = s.conn.IPv4PacketConn().SetTTL(limit)
	}
	if err != nil {
		return err
	}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = s.conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()})
	return err
}

func (t Trace) header() uint64 {
	if t.To.Is6() {
		return ipv6.HeaderLen
	}
	return ipv4.HeaderLen
}

func address(a net.Addr) (netip.Addr, bool) {
	ip, ok := a.(*net.IPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(ip.IP)
	return addr.Unmap(), ok
}

// meaning is what an answer says.
type meaning int

const (
	passed  meaning = iota // the hop limit ended at a router
	arrived                // the destination answered
	refused                // a router has no way on
)

// match reads a received ICMP message: is it about one of the requests to dst
// under this id, with which sequence number, and what does it say? Every ICMP
// message that reaches the box comes here, from whomever.
func match(b []byte, dst netip.Addr, id int) (seq int, what meaning, ok bool) {
	protocol, echo := 1, byte(ipv4.ICMPTypeEcho)
	if dst.Is6() {
		protocol, echo = 58, byte(ipv6.ICMPTypeEchoRequest)
	}
	m, err := icmp.ParseMessage(protocol, b)
	if err != nil {
		return 0, 0, false
	}
	var quote []byte
	switch body := m.Body.(type) {
	case *icmp.Echo:
		if body.ID != id || m.Type != ipv4.ICMPTypeEchoReply && m.Type != ipv6.ICMPTypeEchoReply {
			return 0, 0, false
		}
		return body.Seq, arrived, true
	case *icmp.TimeExceeded:
		quote = body.Data
	case *icmp.DstUnreach:
		quote, what = body.Data, refused
	default:
		return 0, 0, false
	}
	q, ok := quoted(quote, dst)
	if !ok || q[0] != echo || int(binary.BigEndian.Uint16(q[4:])) != id {
		return 0, 0, false
	}
	return int(binary.BigEndian.Uint16(q[6:])), what, true
}

// quoted returns the first eight bytes of the ICMP message to dst that an error
// message quotes.
func quoted(packet []byte, dst netip.Addr) ([]byte, bool) {
	var at, length int
	var next byte
	if dst.Is6() {
		if len(packet) < ipv6.HeaderLen {
			return nil, false
		}
		at, length, next = 24, ipv6.HeaderLen, packet[6]
	} else {
		if len(packet) < ipv4.HeaderLen {
			return nil, false
		}
		at, length, next = 16, int(packet[0]&0x0f)<<2, packet[9]
	}
	to, ok := netip.AddrFromSlice(packet[at : at+dst.BitLen()/8])
	icmpNumber := byte(1)
	if dst.Is6() {
		icmpNumber = 58
	}
	if !ok || to != dst.WithZone("") || next != icmpNumber || length < ipv4.HeaderLen || len(packet) < length+8 {
		return nil, false
	}
	return packet[length : length+8], true
}

package reach

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// hop is a router on the way: the address it answers with, and at which hop
// limit (1 is the LAN gateway).
type hop struct {
	addr   netip.Addr
	limit  int
	missed int // slots in which it was silent although something beyond answered
}

// searched are the hop limits at which the first hop is searched. The gateway is
// left out; some providers' first routers say nothing, so a few more are asked.
var searched = []int{2, 3, 4, 5, 6, 7, 8}

// trace sends echo requests whose hop limit (TTL) ends on the way, and hears
// which router says so (RFC 792 and RFC 4443, Time Exceeded). It needs a raw
// socket.
//
// A known first hop is asked in this way too, not by echo: routers that filter
// echoes to themselves still say this, and when the way changes, so does the
// answer.
type trace struct {
	dst    netip.Addr
	limits []int         // rising
	wait   time.Duration // for the last answer
	// counts says whether a router with this address may be the first hop.
	counts func(netip.Addr) bool

	rx, tx ledger.Packets
}

// run returns the first hop that counts, zero if none answered; the destination
// itself counts in any case. The error says why nothing could be asked.
func (t *trace) run(ctx context.Context) (hop, error) {
	network, local := "ip4:icmp", "0.0.0.0"
	if t.dst.Is6() {
		network, local = "ip6:ipv6-icmp", "::"
	}
	conn, err := icmp.ListenPacket(network, local)
	if err != nil {
		return hop{}, err
	}
	defer conn.Close()
	id := int(rand.Uint32() & 0xffff)
	ctx, cancel := context.WithTimeout(ctx, (tries-1)*spacing+t.wait)
	defer cancel()
	unblock := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })
	defer unblock()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { t.send(ctx, conn, id) })

	var best hop
	heard := make(map[int]bool)
	buf := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return best, nil
		}
		addr, ok := address(from)
		if !ok {
			continue
		}
		limit, arrived, ok := match(buf[:n], t.dst, id)
		if !ok {
			continue
		}
		if arrived && addr != t.dst.WithZone("") || !slices.Contains(t.limits, limit) {
			continue
		}
		t.rx.Count++
		t.rx.Bytes += uint64(n) + t.header()
		heard[limit] = true
		if (arrived || t.counts(addr)) && (best.limit == 0 || limit < best.limit) {
			best = hop{addr: addr, limit: limit}
		}
		if best.limit != 0 && t.allBefore(best.limit, heard) {
			return best, nil
		}
	}
}

// allBefore reports whether every limit below was answered: none nearer is to
// be waited for.
func (t *trace) allBefore(limit int, heard map[int]bool) bool {
	for _, l := range t.limits {
		if l < limit && !heard[l] {
			return false
		}
	}
	return true
}

// send makes the requests, one for each limit in each round. The sequence number
// carries the limit.
func (t *trace) send(ctx context.Context, conn *icmp.PacketConn, id int) {
	for round := range tries {
		for _, limit := range t.limits {
			if t.write(conn, id, limit<<8|round, limit) == nil {
				t.tx.Count++
				t.tx.Bytes += t.header() + 8 + uint64(len(payload))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(spacing):
		}
	}
}

const payload = "pantau-desa reach" // so that an operator who sees it knows whose it is

func (t *trace) write(conn *icmp.PacketConn, id, seq, limit int) error {
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq, Data: []byte(payload)}}
	var err error
	if t.dst.Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
		err = conn.IPv6PacketConn().SetHopLimit(limit)
	} else {
		err = conn.IPv4PacketConn().SetTTL(limit)
	}
	if err != nil {
		return err
	}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(b, &net.IPAddr{IP: t.dst.AsSlice(), Zone: t.dst.Zone()})
	return err
}

func (t *trace) header() uint64 {
	if t.dst.Is6() {
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

// match reads a received ICMP message: is it about one of the requests to dst
// under this id, at which hop limit was that sent, and did it arrive? Every ICMP
// message that reaches the box comes here, from whomever.
func match(b []byte, dst netip.Addr, id int) (limit int, arrived, ok bool) {
	protocol, echo := 1, byte(ipv4.ICMPTypeEcho)
	if dst.Is6() {
		protocol, echo = 58, byte(ipv6.ICMPTypeEchoRequest)
	}
	m, err := icmp.ParseMessage(protocol, b)
	if err != nil {
		return 0, false, false
	}
	switch m.Type {
	case ipv4.ICMPTypeEchoReply, ipv6.ICMPTypeEchoReply:
		e, isEcho := m.Body.(*icmp.Echo)
		if !isEcho || e.ID != id {
			return 0, false, false
		}
		return e.Seq >> 8, true, true
	case ipv4.ICMPTypeTimeExceeded, ipv6.ICMPTypeTimeExceeded:
		body, isTime := m.Body.(*icmp.TimeExceeded)
		if !isTime {
			return 0, false, false
		}
		q, ok := quoted(body.Data, dst)
		if !ok || q[0] != echo || int(binary.BigEndian.Uint16(q[4:])) != id {
			return 0, false, false
		}
		return int(q[6]), false, true
	}
	return 0, false, false
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

package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/wire"
)

// receiveBuffer is asked of the kernel, in bytes: some seconds of a country's
// beats (84,000 every 30 s). The kernel gives at most net.core.rmem_max.
const receiveBuffer = 8 << 20

// ignorable lists why a datagram is dropped.
func ignorable() []reason {
	return []reason{malformed, unknownProbe, revoked, badSignature, replayed, internalFault}
}

// datagrams answers heartbeats on one prepared socket until ctx ends. One goroutine reads,
// judges and answers: a country's beats take a few per cent of a core.
func (s *Server) datagrams(ctx context.Context, c *net.UDPConn) {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	// One byte more than a beat, so that a longer datagram does not look like one.
	buf := make([]byte, wire.HeartbeatSize+1)
	oob := make([]byte, 256)
	var lost uint32
	for {
		n, oobn, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			// Errors of single datagrams, or of memory: the socket goes on.
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
			continue
		}
		in := parseControl(oob[:oobn])
		if in.lost != lost {
			s.metrics.overflow.Add(float64(in.lost - lost)) // modulo 2^32, as the kernel counts
			lost = in.lost
		}
		var age time.Duration
		if !in.arrived.IsZero() {
			// Both by the kernel's clock. A clock set back makes a beat young, no older
			// than now.
			age = max(time.Since(in.arrived), 0)
		}
		ack, no := s.beat(buf[:n], age)
		if no != nil {
			s.metrics.ignored.WithLabelValues(string(no.reason)).Inc()
			continue
		}
		if ack == nil {
			continue
		}
		if len(ack) > n {
			s.metrics.unsent.Inc() // never more than was received, whatever the format becomes
			continue
		}
		if _, _, err := c.WriteMsgUDPAddrPort(ack, in.reply, from); err != nil {
			s.metrics.unsent.Inc()
		}
	}
}

// prepare asks for the time of arrival, for the count of what was lost, and for
// the address that a datagram was sent to: a probe hears only answers that come
// from there, also if this machine has several addresses.
func prepare(c *net.UDPConn) error {
	_ = c.SetReadBuffer(receiveBuffer) // less does as well
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		s := int(fd)
		domain, err := unix.GetsockoptInt(s, unix.SOL_SOCKET, unix.SO_DOMAIN)
		info, level := unix.IP_PKTINFO, unix.IPPROTO_IP
		if domain == unix.AF_INET6 {
			info, level = unix.IPV6_RECVPKTINFO, unix.IPPROTO_IPV6
		}
		set = errors.Join(err,
			unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1),
			unix.SetsockoptInt(s, level, info, 1))
	})
	return errors.Join(err, set)
}

// control is what the kernel says of a datagram.
type control struct {
	arrived time.Time // zero if it does not say
	lost    uint32    // datagrams dropped on this socket so far
	reply   []byte    // control message that makes the answer come from the right address
}

func parseControl(oob []byte) (c control) {
	for len(oob) >= unix.SizeofCmsghdr {
		head, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return c
		}
		oob = rest
		switch {
		case head.Level == unix.SOL_SOCKET && head.Type == unix.SO_TIMESTAMPNS && len(data) >= 16: // two 64-bit words
			c.arrived = time.Unix(int64(binary.NativeEndian.Uint64(data)), int64(binary.NativeEndian.Uint64(data[8:])))
		case head.Level == unix.SOL_SOCKET && head.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			c.lost = binary.NativeEndian.Uint32(data)
		case head.Level == unix.IPPROTO_IP && head.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			// struct in_pktinfo: interface, local address, header's destination. The
			// interface is left to the routes.
			c.reply = unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(data[4:8])})
		case head.Level == unix.IPPROTO_IPV6 && head.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			out := unix.Inet6Pktinfo{Addr: [16]byte(data[:16])} // struct in6_pktinfo: address, interface
			if netip.AddrFrom16(out.Addr).IsLinkLocalUnicast() {
				out.Ifindex = binary.NativeEndian.Uint32(data[16:])
			}
			c.reply = unix.PktInfo6(&out)
		}
	}
	return c
}

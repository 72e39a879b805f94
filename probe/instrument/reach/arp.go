package reach

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// arpQuestion asks one interface who has an IPv4 address (RFC 826). The kernel
// asks by itself only for addresses it does not know, and checks a known one
// after 5 s at the earliest, too late for a slot.
type arpQuestion struct {
	index       int
	hardware    net.HardwareAddr // the interface's, 6 bytes
	own, wanted netip.Addr
}

const (
	arpLength  = 28
	arpFrame   = 46 // what an Ethernet frame carries at least: padding included
	arpRequest = 1
	arpReply   = 2
)

func (q arpQuestion) packet() []byte {
	p := make([]byte, 0, arpLength)
	p = binary.BigEndian.AppendUint16(p, 1)             // Ethernet
	p = binary.BigEndian.AppendUint16(p, unix.ETH_P_IP) // IPv4
	p = append(p, 6, 4)                                 // lengths of the two sorts of address
	p = binary.BigEndian.AppendUint16(p, arpRequest)
	p = append(p, q.hardware...)
	p = append(p, q.own.AsSlice()...)
	p = append(p, 0, 0, 0, 0, 0, 0)
	return append(p, q.wanted.AsSlice()...)
}

// answeredBy reports whether p is the wanted address's answer to this box.
func (q arpQuestion) answeredBy(p []byte) bool {
	return len(p) >= arpLength &&
		bytes.Equal(p[:6], q.packet()[:6]) &&
		binary.BigEndian.Uint16(p[6:]) == arpReply &&
		bytes.Equal(p[14:18], q.wanted.AsSlice()) &&
		bytes.Equal(p[18:24], q.hardware)
}

// ask asks up to three times within 0.9 s. It is unasked where raw sockets are
// not permitted.
func (q arpQuestion) ask(ctx context.Context) (rx, tx ledger.Packets, a answer) {
	protocol := htons(unix.ETH_P_ARP)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(protocol))
	if err != nil {
		return rx, tx, unasked
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: q.index}); err != nil {
		return rx, tx, unasked
	}
	all := unix.SockaddrLinklayer{Protocol: protocol, Ifindex: q.index, Halen: 6}
	copy(all.Addr[:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	buf := make([]byte, 128)
	for range tries {
		if unix.Sendto(fd, q.packet(), 0, &all) == nil {
			tx.Count++
			tx.Bytes += arpFrame
		}
		for until := time.Now().Add(spacing); ctx.Err() == nil; {
			left := time.Until(until)
			if left <= 0 {
				break
			}
			timeout := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
			if unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout) != nil {
				return rx, tx, silent
			}
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err != nil && err != unix.EINTR {
				if err != unix.EAGAIN { // the interface went down
					time.Sleep(min(time.Until(until), spacing))
				}
				break
			}
			if err == nil && q.answeredBy(buf[:n]) {
				rx.Count++
				rx.Bytes += arpFrame
				return rx, tx, answered
			}
		}
	}
	return rx, tx, silent
}

// htons puts v into network byte order.
func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

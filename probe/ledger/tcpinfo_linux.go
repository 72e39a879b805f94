package ledger

import (
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpInfo reads tcp(7) TCP_INFO. bytes_sent needs Linux 4.19.
func (c *conn) tcpInfo() (tcpInfo, bool) {
	if c.raw == nil {
		return tcpInfo{}, false
	}
	var (
		ti     *unix.TCPInfo
		sysErr error
	)
	err := c.raw.Control(func(fd uintptr) {
		ti, sysErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	if err != nil || sysErr != nil {
		return tcpInfo{}, false
	}
	// include/uapi/linux/tcp.h, include/net/tcp_states.h
	const (
		tsFlag    = 1 // TCPI_OPT_TIMESTAMPS
		closed    = 7 // TCP_CLOSE
		closeWait = 8 // TCP_CLOSE_WAIT
	)
	path := Path{Connections: 1, Segments: uint64(ti.Data_segs_out), Retransmitted: uint64(ti.Total_retrans),
		SegmentsIn: uint64(ti.Data_segs_in), OutOfOrder: uint64(ti.Rcv_ooopack)}
	if ti.Min_rtt != math.MaxUint32 { // not known yet
		path.MinRTT = time.Duration(ti.Min_rtt) * time.Microsecond
	}
	path.RTT = time.Duration(ti.Rtt) * time.Microsecond
	return tcpInfo{
		path:     path,
		received: ti.Bytes_received, sent: ti.Bytes_sent,
		acked: ti.Bytes_acked, sacked: uint64(ti.Sacked) * uint64(ti.Snd_mss), unsent: uint64(ti.Notsent_bytes),
		segmentsIn: uint64(ti.Segs_in), segmentsOut: uint64(ti.Segs_out),
		mss: uint64(ti.Snd_mss), receivedMSS: uint64(ti.Rcv_mss), timestamps: ti.Options&tsFlag != 0,
		peerClosed: ti.State == closeWait, over: ti.State == closed,
	}, true
}

// congestionControl is tcp(7) TCP_CONGESTION; empty where it cannot be read.
func (c *conn) congestionControl() (name string) {
	if c.raw != nil {
		c.raw.Control(func(fd uintptr) {
			name, _ = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		})
	}
	return name
}

// throughInterface makes a dialer's sockets leave by an interface (socket(7)
// SO_BINDTODEVICE).
func throughInterface(name string) func(network, address string, c syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if failed := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); failed != nil {
			return failed
		}
		return err
	}
}

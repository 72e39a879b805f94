package engine

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// nic is the interface that a test leaves by, and what it had carried when the
// transfer began. Where nothing can be learnt of it, no flag is set.
type nic struct {
	name   string
	at     time.Time
	rx, tx uint64 // all that passed, bytes of layer 2
	own    struct{ rx, tx uint64 }
}

// otherTraffic is what others may move in a direction without being mentioned:
// 64 kbit/s, the threshold above which the FCC's measurements wait, or this share
// of the figure, if that is more.
const (
	otherTraffic      = 64e3
	otherTrafficShare = 0.05
)

// findNIC finds the interface that has this address, in the calling process's
// namespace.
func findNIC(local net.Addr) (string, bool) {
	a, ok := local.(*net.TCPAddr)
	if !ok {
		return "", false
	}
	all, err := net.Interfaces()
	if err != nil {
		return "", false
	}
	for _, i := range all {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil && p.Addr().Unmap() == a.AddrPort().Addr().Unmap().WithZone("") {
				return i.Name, true
			}
		}
	}
	return "", false
}

// read takes a reading; ok is false if there is none.
func (n *nic) read(l *ledger.Ledger) bool {
	// Own bytes first: what moves in between counts as others', which is at most a
	// packet or two.
	n.own.rx, n.own.tx = l.Own()
	link, err := netlink.LinkByName(n.name)
	if err != nil || link.Attrs().Statistics == nil {
		return false
	}
	n.at, n.rx, n.tx = time.Now(), link.Attrs().Statistics.RxBytes, link.Attrs().Statistics.TxBytes
	return true
}

// others is what others have moved since an earlier reading, in bits per second.
func (n nic) others(since nic) (rx, tx float64) {
	rate := func(all, before, own, ownBefore uint64) float64 {
		if all < before || own < ownBefore {
			return 0 // a counter wrapped
		}
		return max(float64(all-before)-float64(own-ownBefore), 0) * 8 / n.at.Sub(since.at).Seconds()
	}
	return rate(n.rx, since.rx, n.own.rx, since.own.rx), rate(n.tx, since.tx, n.own.tx, since.own.tx)
}

// speed is the interface's own rate in bits per second; 0 if it does not say.
// sysfs shows the interfaces of the namespace that it was mounted in.
func (n nic) speed() float64 {
	b, err := os.ReadFile(filepath.Join("/sys/class/net", n.name, "speed"))
	if err != nil {
		return 0
	}
	v, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
	if err != nil || v <= 0 { // -1: unknown
		return 0
	}
	return v * 1e6
}

// radio reports whether the interface is Wi-Fi.
func (n nic) radio() bool {
	_, err := os.Stat(filepath.Join("/sys/class/net", n.name, "wireless"))
	return err == nil
}

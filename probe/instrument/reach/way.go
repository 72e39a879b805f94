package reach

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/instrument/internal/names"
	"github.com/pantau-desa/pantau/probe/ledger"
)

// way is how packets leave the box, as the kernel has it. Netlink is asked,
// since /sys/class/net may show another network namespace's interfaces.
type way struct {
	index   int        // of the interface; 0: none is known
	name    string     // of the interface
	gateway netip.Addr // zero: none is known

	// carrier says that the interface has a signal (for Ethernet: a cable with
	// something alive at its other end).
	carrier, carrierKnown bool

	hardware net.HardwareAddr
	prefixes []netip.Prefix // on all interfaces of the box but loopback
}

// findWay finds the default route's interface and gateway, those configured
// taking precedence. A cut may have taken the default route away: then the ones
// of last are looked at. The way is as complete as the kernel made it, also with
// an error.
func findWay(name string, gateway netip.Addr, last way) (way, error) {
	w, err := defaultRoute(name)
	if w.index == 0 {
		w.index, w.gateway = last.index, last.gateway
	}
	if gateway.IsValid() {
		w.gateway = gateway.Unmap()
	}
	addrs, errAddrs := netlink.AddrList(nil, netlink.FAMILY_ALL)
	for _, a := range addrs {
		if p, ok := prefix(a.IPNet); ok && !p.Addr().IsLoopback() {
			w.prefixes = append(w.prefixes, p)
		}
	}
	return w, errors.Join(err, errAddrs, w.look(name))
}

// look fills in the interface's state. Of an unknown one it can be said only that
// it has no carrier, if none but loopback has.
func (w *way) look(name string) error {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	var live bool
	for _, l := range links {
		a := l.Attrs()
		up := a.RawFlags&unix.IFF_LOWER_UP != 0
		live = live || up && a.Flags&net.FlagLoopback == 0
		if a.Name == name || name == "" && a.Index == w.index {
			w.index, w.name, w.hardware = a.Index, a.Name, a.HardwareAddr
			w.carrier, w.carrierKnown = up, true
		}
	}
	if w.carrierKnown {
		return nil
	}
	if w.index != 0 || name != "" { // it was there: pulled out
		w.carrierKnown = true
		return nil
	}
	w.carrierKnown = !live
	return nil
}

// defaultRoute is the interface and gateway of the default route with the least
// metric, IPv4 before IPv6, over the named interface if there is a name.
func defaultRoute(name string) (way, error) {
	var only int
	if name != "" {
		l, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return way{}, nil
		}
		if err != nil {
			return way{}, err
		}
		only = l.Attrs().Index
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return way{}, err
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
		for _, r := range routes {
			if w, ok := asDefault(r); ok && (only == 0 || w.index == only) {
				return w, nil
			}
		}
	}
	return way{index: only}, nil
}

func asDefault(r netlink.Route) (way, bool) {
	if r.Type != unix.RTN_UNICAST {
		return way{}, false
	}
	if p, ok := prefix(r.Dst); ok && p.Bits() != 0 {
		return way{}, false
	}
	w := way{index: r.LinkIndex}
	gw := r.Gw
	if len(r.MultiPath) > 0 {
		w.index, gw = r.MultiPath[0].LinkIndex, r.MultiPath[0].Gw
	}
	if a, ok := netip.AddrFromSlice(gw); ok {
		w.gateway = a.Unmap()
		if w.gateway.IsLinkLocalUnicast() && w.gateway.Is6() {
			if ifc, err := net.InterfaceByIndex(w.index); err == nil {
				w.gateway = w.gateway.WithZone(ifc.Name)
			}
		}
	}
	return w, w.index != 0
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits).Masked(), true
}

// onLAN reports whether a is reached without any router, or is the gateway's.
func (w way) onLAN(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a == w.gateway.WithZone("") || a.IsLoopback() || a.IsLinkLocalUnicast() ||
		slices.ContainsFunc(w.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// beyond reports whether a router with this address can be the provider's. A
// second router in the house, such as an ONT that routes behind the village's own,
// would answer also in a cut.
func (w way) beyond(a netip.Addr) bool {
	a = a.Unmap()
	return !w.onLAN(a) && !names.Home(a)
}

// confirmed reports whether the kernel has heard the gateway at layer 2 (ARP or
// NDP) within its reachable time, some 15 to 45 s (RFC 4861 section 6.3.2).
func (w way) confirmed() bool {
	family := netlink.FAMILY_V4
	if w.gateway.Is6() {
		family = netlink.FAMILY_V6
	}
	neighbours, err := netlink.NeighList(w.index, family)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
		a, _ := netip.AddrFromSlice(n.IP)
		return a.Unmap() == w.gateway.WithZone("") && n.State&netlink.NUD_REACHABLE != 0
	})
}

// own is the box's own address in the gateway's prefix.
func (w way) own() (netip.Addr, error) {
	l, err := netlink.LinkByIndex(w.index)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	for _, a := range addrs {
		if p, ok := prefix(a.IPNet); ok && p.Contains(w.gateway) {
			own, _ := netip.AddrFromSlice(a.IP)
			return own.Unmap(), nil
		}
	}
	return netip.Addr{}, errors.Join(errors.New("no address in the gateway's prefix"), err)
}

// arp asks for the gateway by ARP (RFC 826).
func (w way) arp(ctx context.Context) (rx, tx ledger.Packets, a answer) {
	if !w.gateway.Is4() || len(w.hardware) != 6 {
		return rx, tx, unasked
	}
	own, err := w.own()
	if err != nil {
		return rx, tx, unasked
	}
	q := arpQuestion{index: w.index, hardware: w.hardware, own: own, wanted: w.gateway}
	return q.ask(ctx)
}

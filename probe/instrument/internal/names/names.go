// Package names resolves the names of what is measured, and tells an address of
// the world from one of the house: a router that shows a page of its own during a
// cut answers every name with itself.
package names

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// ErrHome says that a name stands for an address of the house.
var ErrHome = errors.New("an address of a home network")

// Lookup returns the addresses that host stands for: itself if it is one,
// whatever it is, else what the box's resolver says within timeout. Questions go
// out by dial. A name with an address of a home network is refused: [ErrHome].
func Lookup(ctx context.Context, dial ledger.DialFunc, host string, timeout time.Duration) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &net.Resolver{PreferGo: true, Dial: dial}
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
		if Home(a) {
			return nil, fmt.Errorf("%s resolves to %v: %w", host, addrs[i], ErrHome)
		}
	}
	return addrs, nil
}

// Home reports whether an address is the box's own, its link's, or one that ONTs
// and village routers number their own networks with. The provider's side uses
// 10.0.0.0/8, 172.16.0.0/12 (RFC 1918) and 100.64.0.0/10 (RFC 6598) as well as
// public addresses, and hardly ever these.
func Home(a netip.Addr) bool {
	a = a.Unmap()
	home := [...]netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168}), 16),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfc}), 7)}
	return a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() ||
		slices.ContainsFunc(home[:], func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

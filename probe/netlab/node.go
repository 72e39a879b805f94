package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// blackholePriority is the metric of the routes that only swallow: above
// every real route's.
const blackholePriority = 4096

// settings are the sysctls of every node, in this order. The buffer sizes are
// those of an ordinary host; metrics of past connections are not kept, so that
// one test does not teach the next; nothing limits or filters what a lab is
// there to show.
var settings = [...]struct{ key, value string }{
	{"net.ipv6.conf.all.disable_ipv6", "1"},
	{"net.ipv6.conf.default.disable_ipv6", "1"},
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.default.rp_filter", "0"},
	{"net.ipv4.icmp_ratelimit", "0"},
	{"net.ipv4.tcp_rmem", "4096 131072 6291456"},
	{"net.ipv4.tcp_wmem", "4096 16384 4194304"},
	{"net.ipv4.tcp_no_metrics_save", "1"},
}

// Node is a host or a router of a lab: a named network namespace. Its methods
// may be called at the same time.
type Node struct {
	lab  *Lab
	name string
	ns   *namespace

	unwatch chan struct{} // closed: the watcher ends
	watched chan struct{} // closed: the watcher has ended

	mu     sync.Mutex
	nl     *netlink.Handle // nil once closed
	routes []netlink.Route // to be there whenever their interface is up
}

// Node makes a node: loopback up, IPv6 off, forwarding off, no links. The name
// is a lower case letter, then at most 31 letters and digits.
func (l *Lab) Node(name string) (*Node, error) {
	if !nodeName.MatchString(name) {
		return nil, fmt.Errorf("netlab: node name %q: want a lower case letter, then at most 31 letters and digits", name)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	ns, err := newNamespace(l.label+"-"+name, l.label)
	if err != nil {
		return nil, refusal(fmt.Errorf("netlab: %w", err))
	}
	return l.addNode(name, ns)
}

// addNode makes the namespace a node. The caller holds l.mu.
func (l *Lab) addNode(name string, ns *namespace) (*Node, error) {
	n := &Node{lab: l, name: name, ns: ns, unwatch: make(chan struct{}), watched: make(chan struct{})}
	if err := n.setUp(); err != nil {
		return nil, errors.Join(refusal(fmt.Errorf("netlab: node %s: %w", name, err)), n.close())
	}
	l.nodes = append(l.nodes, n)
	return n, nil
}

func (n *Node) setUp() (err error) {
	if n.nl, err = netlink.NewHandleAt(n.ns.fd, unix.NETLINK_ROUTE); err != nil {
		close(n.watched)
		return err
	}
	if err := n.watch(); err != nil {
		close(n.watched)
		return err
	}
	return n.ns.do(func() error {
		for _, s := range settings {
			err := writeSysctl(s.key, s.value)
			if strings.Contains(s.key, "ipv6") {
				err = ignoring(err, os.ErrNotExist) // a kernel without IPv6
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// close ends the watcher and removes the namespace.
func (n *Node) close() error {
	close(n.unwatch)
	<-n.watched
	n.mu.Lock()
	if n.nl != nil {
		n.nl.Close()
		n.nl = nil
	}
	n.mu.Unlock()
	return n.ns.remove()
}

// netlink talks to the node's kernel side, one at a time. A closed handle must
// never be used: it would silently speak to the host's own network.
func (n *Node) netlink(f func(*netlink.Handle) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nl == nil {
		return ErrClosed
	}
	return f(n.nl)
}

// Name is the node's name in its lab.
func (n *Node) Name() string { return n.name }

// Namespace is the name by which "ip -n" knows the node.
func (n *Node) Namespace() string { return n.ns.name }

// Do runs f inside the node's namespace, on a goroutine locked to its thread,
// and returns its error. Sockets and processes that f makes itself belong to
// the node; those of goroutines that f starts do not.
func (n *Node) Do(f func() error) error { return n.ns.do(f) }

// Sysctl sets a kernel setting of the node's namespace, such as
// "net.ipv4.ping_group_range". Keys must begin with "net.", as no other
// belongs to a network namespace.
func (n *Node) Sysctl(key, value string) error {
	if !strings.HasPrefix(key, "net.") || strings.ContainsAny(key, "/") || strings.Contains(key, "..") {
		return fmt.Errorf("netlab: %q is no setting of a network namespace", key)
	}
	if err := n.Do(func() error { return writeSysctl(key, value) }); err != nil {
		return refusal(fmt.Errorf("netlab: node %s: %w", n.name, err))
	}
	return nil
}

// writeSysctl needs a thread inside the namespace: the kernel shows each
// thread its own /proc/sys/net.
func writeSysctl(key, value string) error {
	f, err := os.OpenFile("/proc/sys/"+strings.ReplaceAll(key, ".", "/"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(value); err != nil {
		return fmt.Errorf("set %s to %q: %w", key, value, err)
	}
	return nil
}

// Forward makes the node a router, or a host again.
func (n *Node) Forward(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	return n.Sysctl("net.ipv4.ip_forward", value)
}

// Address gives the node an address of its own, on the loopback interface: it
// answers as long as any way leads to the node.
func (n *Node) Address(p netip.Prefix) error {
	err := n.netlink(func(nl *netlink.Handle) error {
		lo, err := nl.LinkByName("lo")
		if err != nil {
			return err
		}
		return nl.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(p)})
	})
	if err != nil {
		return refusal(fmt.Errorf("netlab: node %s: address %s: %w", n.name, p, err))
	}
	return nil
}

// Route sends what is for dst by way of the neighbour via. cc names the
// congestion control of TCP connections that begin or end at this node and use
// the route, such as "cubic"; empty leaves the namespace's default, which is
// the host's.
//
// The kernel forgets the routes of an interface that is set down. The node
// puts them back when it is set up again, by whomever.
func (n *Node) Route(dst netip.Prefix, via netip.Addr, cc string) error {
	return n.addRoute(netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice(), Congctl: cc})
}

// Blackhole swallows without a word what is for dst and has no other route: as
// behind a cut line, nothing comes back.
func (n *Node) Blackhole(dst netip.Prefix) error {
	return n.addRoute(netlink.Route{Dst: ipNet(dst.Masked()), Type: unix.RTN_BLACKHOLE, Priority: blackholePriority})
}

func (n *Node) addRoute(r netlink.Route) error {
	err := n.netlink(func(nl *netlink.Handle) error {
		if err := nl.RouteReplace(&r); err != nil {
			return err
		}
		n.routes = slices.DeleteFunc(n.routes, func(old netlink.Route) bool {
			return old.Priority == r.Priority && old.Dst.String() == r.Dst.String()
		})
		n.routes = append(n.routes, r)
		return nil
	})
	if err != nil {
		return refusal(fmt.Errorf("netlab: node %s: route to %s: %w", n.name, r.Dst, err))
	}
	return nil
}

// restoreRoutes puts back the routes whose interface is up.
func (n *Node) restoreRoutes() error {
	return n.netlink(func(nl *netlink.Handle) error {
		var errs []error
		for _, r := range n.routes {
			// Those whose interface is down come back with it.
			err := ignoring(nl.RouteReplace(&r), unix.ENETUNREACH, unix.ENETDOWN, unix.EHOSTUNREACH, unix.ENODEV)
			if err != nil {
				errs = append(errs, fmt.Errorf("route to %s: %w", r.Dst, err))
			}
		}
		return errors.Join(errs...)
	})
}

// watch puts the node's routes back whenever an interface of it comes up, so
// that a link restored by hand, from a shell, works as before. The watcher ends
// in close.
func (n *Node) watch() error {
	log := n.lab.log.With("namespace", n.ns.name)
	updates := make(chan netlink.LinkUpdate)
	err := netlink.LinkSubscribeWithOptions(updates, n.unwatch, netlink.LinkSubscribeOptions{
		Namespace: &n.ns.fd,
		ErrorCallback: func(err error) {
			select {
			case <-n.unwatch: // the end of the subscription, as asked
			default:
				log.Warn("the watch on interfaces failed: routes may not come back by themselves", "error", err)
			}
		},
	})
	if err != nil {
		return err
	}
	go func() {
		defer close(n.watched)
		up := map[int32]bool{}
		for u := range updates {
			isUp := u.IfInfomsg.Flags&unix.IFF_UP != 0
			if isUp && !up[u.Index] {
				if err := n.restoreRoutes(); err != nil {
					log.Warn("routes did not come back", "error", err)
				}
			}
			up[u.Index] = isUp
		}
	}()
	return nil
}

// Listen is net.Listen inside the node. The listener may be used anywhere and
// stays in the node's namespace, as do the connections it accepts. The network
// is "tcp"; the address needs an IPv4 literal.
func (n *Node) Listen(network, address string) (net.Listener, error) {
	network, err := fourth(network, address, "tcp")
	if err != nil {
		return nil, err
	}
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	var ln net.Listener
	err = n.Do(func() (err error) {
		ln, err = c.Listen(context.Background(), network, address)
		return err
	})
	return ln, err
}

// ListenPacket is net.ListenPacket inside the node, as [Node.Listen]. The
// network is "udp".
func (n *Node) ListenPacket(network, address string) (net.PacketConn, error) {
	network, err := fourth(network, address, "udp")
	if err != nil {
		return nil, err
	}
	var pc net.PacketConn
	err = n.Do(func() (err error) {
		pc, err = net.ListenPacket(network, address)
		return err
	})
	return pc, err
}

// DialContext connects from inside the node, and fits http.Transport. The
// network is "tcp" or "udp"; a lab has no names, so the address needs an IPv4
// literal.
func (n *Node) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	network, err := fourth(network, address, "tcp", "udp")
	if err != nil {
		return nil, err
	}
	var conn net.Conn
	err = n.Do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// fourth checks that the socket can be made on the calling thread alone, which
// is so for IPv4 literals, and names the network's IPv4 form.
func fourth(network, address string, allowed ...string) (string, error) {
	for _, a := range allowed {
		if network != a && network != a+"4" {
			continue
		}
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !ap.Addr().Is4() {
			return "", fmt.Errorf("netlab: address %q: want an IPv4 address and port", address)
		}
		return a + "4", nil
	}
	return "", fmt.Errorf("netlab: network %q: want %s", network, strings.Join(allowed, " or "))
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

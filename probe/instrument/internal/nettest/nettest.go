// Package nettest gives a test a network of its own: the test runs again in a
// child process whose network namespace is empty, and may join further
// namespaces to it. All of them end with the child.
//
// Unlike a lab whose nodes are far away, the test itself stands inside, on every
// thread: code that opens its own sockets is measured unchanged.
package nettest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const inside = "PANTAU_NETTEST_INSIDE"

// Private runs the calling test again in a process with a network namespace of
// its own, with loopback up. It reports true in that process, where the test goes
// on, and false in the outer one, where it is over and runs in parallel with others.
// Without root the test is skipped, or fails if the environment has CI=true.
func Private(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		Here(t).settle()
		return true
	}
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root to make network namespaces, and CI may not skip it")
		}
		t.Skip("needs root to make network namespaces")
	}
	t.Parallel() // nothing is shared
	var steps []string
	for s := range strings.SplitSeq(t.Name(), "/") {
		steps = append(steps, "^"+s+"$")
	}
	cmd := exec.Command(os.Args[0], "-test.run="+strings.Join(steps, "/"), "-test.v", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), inside+"="+t.Name(),
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // the detector else waits a second at the end
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig is about the thread that forks
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in a network of its own: %v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in a network of its own it did not run:\n%s", out)
	}
	if testing.Verbose() {
		t.Logf("%s", out)
	}
	return false
}

// Host is one namespace.
type Host struct {
	t  *testing.T
	ns netns.NsHandle
	nl *netlink.Handle
}

// Here is the namespace that the test itself is in.
func Here(t *testing.T) *Host {
	t.Helper()
	ns, err := netns.Get()
	return open(t, ns, err)
}

// New makes another namespace, with loopback up.
func New(t *testing.T) *Host {
	t.Helper()
	var ns netns.NsHandle
	var err error
	aside(func() { ns, err = netns.New() })
	h := open(t, ns, err)
	h.settle()
	return h
}

// settle readies a new namespace: loopback is up, and IPv6 addresses are usable
// at once, without the second or two of duplicate address detection.
func (h *Host) settle() {
	h.t.Helper()
	h.Up("lo")
	h.Sysctl("ipv6/conf/default/accept_dad", "0")
}

func open(t *testing.T, ns netns.NsHandle, err error) *Host {
	t.Helper()
	check(t, err, "namespace")
	nl, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	check(t, err, "netlink")
	t.Cleanup(func() { nl.Close(); ns.Close() })
	return &Host{t: t, ns: ns, nl: nl}
}

// Do runs f inside the namespace, on a thread of its own.
func (h *Host) Do(f func()) {
	h.t.Helper()
	var err error
	aside(func() {
		if err = netns.Set(h.ns); err == nil {
			f()
		}
	})
	check(h.t, err, "enter namespace")
}

// aside runs f on a thread that is thrown away afterwards.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		f()
	}()
	<-done
}

// Row puts the test's own place at the end of a row of routers with a server
// behind them, joined by networks with these prefixes: in each the near end has
// the first address and the far one the second.
func Row(t *testing.T, prefixes ...string) (server *Host, routers []*Host) {
	t.Helper()
	last := Here(t)
	for i, p := range prefixes {
		prefix := netip.MustParsePrefix(p)
		near := prefix.Addr().Next()
		far := near.Next()
		next := New(t)
		last.Cable("down", next, "up")
		last.Address("down", netip.PrefixFrom(near, prefix.Bits()).String())
		next.Address("up", netip.PrefixFrom(far, prefix.Bits()).String())
		last.Route("default", far.String())
		for j := range i { // the way back
			next.Route(prefixes[j], near.String())
		}
		if i < len(prefixes)-1 {
			next.Forward()
			routers = append(routers, next)
		}
		last = next
	}
	return last, routers
}

// Cable joins h's new interface name to peer's new interface far, both up.
func (h *Host) Cable(name string, peer *Host, far string) {
	h.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	check(h.t, h.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: far, PeerNamespace: netlink.NsFd(peer.ns)}), "cable")
	h.Up(name)
	peer.Up(far)
}

// Unplug removes the interface (and with it the other end of its cable).
func (h *Host) Unplug(name string) {
	h.t.Helper()
	check(h.t, h.nl.LinkDel(h.link(name)), "unplug "+name)
}

// Up sets the interface up.
func (h *Host) Up(name string) {
	h.t.Helper()
	check(h.t, h.nl.LinkSetUp(h.link(name)), name+" up")
}

// Down sets the interface down: the other end of its cable loses the carrier.
func (h *Host) Down(name string) {
	h.t.Helper()
	check(h.t, h.nl.LinkSetDown(h.link(name)), name+" down")
}

// Address gives the interface an address with its prefix, usable at once.
func (h *Host) Address(name, prefix string) {
	h.t.Helper()
	a, err := netlink.ParseAddr(prefix)
	check(h.t, err, "address")
	a.Flags = unix.IFA_F_NODAD
	check(h.t, h.nl.AddrAdd(h.link(name), a), "address "+prefix)
}

// Route sends dst ("default" for all) by way of the gateway.
func (h *Host) Route(dst, via string) {
	h.t.Helper()
	gw := netip.MustParseAddr(via)
	if dst == "default" {
		dst = "0.0.0.0/0"
		if gw.Is6() {
			dst = "::/0"
		}
	}
	check(h.t, h.nl.RouteReplace(&netlink.Route{Dst: ipNet(dst), Gw: gw.AsSlice()}), "route to "+dst)
}

// Refuse makes a route without a way: unix.RTN_BLACKHOLE, RTN_PROHIBIT or
// RTN_UNREACHABLE.
func (h *Host) Refuse(dst string, kind int) {
	h.t.Helper()
	check(h.t, h.nl.RouteReplace(&netlink.Route{Dst: ipNet(dst), Type: kind}), "refuse "+dst)
}

// Sysctl sets net/... of the namespace.
func (h *Host) Sysctl(name, value string) {
	h.t.Helper()
	var err error
	h.Do(func() { err = os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
	check(h.t, err, fmt.Sprintf("sysctl %s = %s", name, value))
}

// Forward makes the host a router.
func (h *Host) Forward() {
	h.t.Helper()
	h.Sysctl("ipv4/ip_forward", "1")
	h.Sysctl("ipv6/conf/all/forwarding", "1")
	h.Sysctl("ipv4/icmp_ratelimit", "0") // a test asks more often than a probe does
	h.Sysctl("ipv6/icmp/ratelimit", "0")
}

// Listen listens inside the namespace until the test ends.
func (h *Host) Listen(network, address string) net.Listener {
	h.t.Helper()
	var ln net.Listener
	var err error
	h.Do(func() { ln, err = net.Listen(network, address) })
	check(h.t, err, "listen on "+address)
	h.t.Cleanup(func() { ln.Close() })
	return ln
}

// Drop gives up root and every capability on all threads of this process, for
// good: only a process made by [Private] may do that.
func Drop(t *testing.T) {
	t.Helper()
	const nobody = 65534
	check(t, syscall.Setgroups(nil), "setgroups")
	check(t, syscall.Setresgid(nobody, nobody, nobody), "setresgid")
	check(t, syscall.Setresuid(nobody, nobody, nobody), "setresuid")
}

func (h *Host) link(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	check(h.t, err, "interface "+name)
	return l
}

func ipNet(prefix string) *net.IPNet {
	p := netip.MustParsePrefix(prefix)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func check(t *testing.T, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Steady runs f again and again and fails if that leaves goroutines, open files or
// much memory behind.
func Steady(t *testing.T, times int, f func()) {
	t.Helper()
	count := func() (goroutines, files int, heap uint64) {
		entries, err := os.ReadDir("/proc/self/fd")
		check(t, err, "open files")
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), len(entries), m.HeapAlloc
	}
	for range times / 10 { // what is made once is made
		f()
	}
	goroutines, files, heap := count()
	for range times {
		f()
	}
	const slack, heapSlack = 3, 2 << 20
	var g, n int
	var h uint64
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		g, n, h = count()
		if g <= goroutines+slack && n <= files+slack && h <= heap+heapSlack {
			return
		}
		if time.Now().After(until) {
			break
		}
	}
	t.Errorf("after %d times: %d goroutines (before %d), %d files (%d), %d bytes (%d)", times, g, goroutines, n, files, h, heap)
}

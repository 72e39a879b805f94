package netlab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/netlab"
)

// role makes the test binary play a part of TestClearsAfterKill.
const role = "NETLAB_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "owner":
		own()
	case "child":
		bear()
	case "grandchild":
		select {}
	case "nobody":
		ask()
	default:
		os.Exit(m.Run())
	}
}

func open(t *testing.T, name string) *netlab.Lab {
	t.Helper()
	lab, err := netlab.New(netlab.Options{Name: name})
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

func node(t *testing.T, lab *netlab.Lab, name string) *netlab.Node {
	t.Helper()
	n, err := lab.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// pair is two nodes at 198.18.0.1 (a) and 198.18.0.2 (b).
func pair(t *testing.T, lab *netlab.Lab, o netlab.LinkOptions) (a, b *netlab.Node, link *netlab.Link) {
	t.Helper()
	a, b = node(t, lab, "a"), node(t, lab, "b")
	o.NameA, o.NameB = "eth0", "eth0"
	o.AddrA, o.AddrB = netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("198.18.0.2/24")
	link, err := lab.Link(a, b, o)
	if err != nil {
		t.Fatal(err)
	}
	return a, b, link
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connect returns both ends of a TCP connection dialled at from to to.
func connect(t *testing.T, from, to *netlab.Node, address string) (dialled, accepted net.Conn) {
	t.Helper()
	ln, err := to.Listen("tcp", "0.0.0.0:0")
	must(t, err)
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	dialled, err = from.DialContext(ctx, "tcp", net.JoinHostPort(address, port))
	must(t, err)
	accepted, err = ln.Accept()
	must(t, err)
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
	return dialled, accepted
}

// goodput is what arrives, in bits per second: bytes at the receiver over
// monotonic time, from the first quarter of the time to its end.
func goodput(t *testing.T, sender, receiver net.Conn, whole time.Duration) float64 {
	t.Helper()
	go func() {
		block := make([]byte, 64<<10)
		for {
			if _, err := sender.Write(block); err != nil {
				return // the receiver has seen enough
			}
		}
	}()
	defer sender.Close()
	defer receiver.Close()
	block := make([]byte, 64<<10)
	start := time.Now()
	var from time.Time
	var bytes int
	must(t, receiver.SetReadDeadline(start.Add(whole+5*time.Second)))
	for {
		n, err := receiver.Read(block)
		now := time.Now()
		must(t, err)
		if from.IsZero() {
			if now.Sub(start) >= whole/4 {
				from = now // what is read from here on arrived since
			}
			continue
		}
		bytes += n
		if now.Sub(start) >= whole {
			return float64(bytes) * 8 / now.Sub(from).Seconds()
		}
	}
}

// line is a - r - b, with a at 198.18.1.2, b at 198.18.2.2, and the router's
// two ports shaped to the given rates from a to b and back.
func line(t *testing.T, lab *netlab.Lab, rateAB, rateBA float64) (a, b *netlab.Node, toA, toB *netlab.Link) {
	t.Helper()
	r := node(t, lab, "r")
	must(t, r.Forward(true))
	join := func(name, net string, rate float64) (*netlab.Node, *netlab.Link) {
		x := node(t, lab, name)
		link, err := lab.Link(r, x, netlab.LinkOptions{NameA: "to" + name, NameB: "eth0", RateAB: rate,
			AddrA: netip.MustParsePrefix(net + ".1/30"), AddrB: netip.MustParsePrefix(net + ".2/30")})
		must(t, err)
		must(t, x.Route(netip.MustParsePrefix("0.0.0.0/0"), link.A.Addr.Addr(), "cubic"))
		return x, link
	}
	a, toA = join("a", "198.18.1", rateBA)
	b, toB = join("b", "198.18.2", rateAB)
	return a, b, toA, toB
}

// deviation is how far a transfer is off the truth of a link of so many bits
// per second, as a ratio. A machine that stands still for a moment spoils a
// transfer: up to four are made, until one is within tolerance.
func deviation(t *testing.T, rate, tolerance float64, whole time.Duration, transfer func() (sender, receiver net.Conn)) (off float64) {
	t.Helper()
	for range 4 {
		sender, receiver := transfer()
		got, want := goodput(t, sender, receiver, whole), netlab.PayloadRate(rate)
		if off = got/want - 1; math.Abs(off) <= tolerance {
			break
		}
		t.Logf("%.3f Mbit/s, truth %.3f, %+.2f%%", got/1e6, want/1e6, off*100)
	}
	return off
}

func TestShapedLinkCarriesPayloadRate(t *testing.T) {
	for _, c := range []struct{ down, up float64 }{{10e6, 10e6}, {38.16e6, 19.03e6}} {
		t.Run(fmt.Sprintf("%g/%g", c.down/1e6, c.up/1e6), func(t *testing.T) {
			t.Parallel()
			lab := open(t, "netlab-test")
			a, b, _, _ := line(t, lab, c.up, c.down)
			check := func(direction string, rate float64, dialledSends bool) {
				off := deviation(t, rate, 0.02, 3*time.Second, func() (sender, receiver net.Conn) {
					dialled, accepted := connect(t, a, b, "198.18.2.2")
					if dialledSends {
						return dialled, accepted
					}
					return accepted, dialled
				})
				t.Logf("%s: %+.2f%%", direction, off*100)
				if math.Abs(off) > 0.02 {
					t.Errorf("%s: off by %+.2f%%, want within 2%%", direction, off*100)
				}
			}
			check("up", c.up, true)
			check("down", c.down, false)
		})
	}
}

func TestSetRate(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, _, link := line(t, lab, 2e6, 0)
	for _, rate := range []float64{20e6, 0} {
		must(t, link.A.SetRate(rate))
		transfer := func() (sender, receiver net.Conn) { return connect(t, a, b, "198.18.2.2") }
		if rate > 0 {
			if off := deviation(t, rate, 0.05, time.Second, transfer); math.Abs(off) > 0.05 {
				t.Errorf("shaped to %g bit/s: off by %+.2f%%", rate, off*100)
			}
			continue
		}
		if off := deviation(t, 100e6, math.Inf(1), time.Second, transfer); off < 0 {
			t.Errorf("unshaped: %+.2f%% of 100 Mbit/s, want more", off*100)
		}
	}
	for _, bad := range []float64{-1, 1, 1e12, math.NaN(), math.Inf(1)} {
		if err := link.A.SetRate(bad); err == nil {
			t.Errorf("rate %g accepted", bad)
		}
	}
}

// Without offload each frame is one frame: what the receiving interface counts
// is payload plus 66 bytes of headers a segment of 1448.
func TestInterfaceCountsWholeFrames(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, link := pair(t, lab, netlab.LinkOptions{RateAB: 50e6})
	sender, receiver := connect(t, a, b, "198.18.0.2")
	const payload = 4 << 20
	go func() { sender.Write(make([]byte, payload)); sender.Close() }()
	n, err := io.Copy(io.Discard, receiver)
	if n != payload || err != nil {
		t.Fatalf("received %d bytes, %v", n, err)
	}
	got, want := received(t, b, "eth0"), float64(payload)*1514/1448
	if math.Abs(got/want-1) > 0.005 {
		t.Errorf("interface counted %.0f bytes for %d of payload, want about %.0f", got, payload, want)
	}
	in, _, err := link.B.Counters()
	must(t, err)
	_, out, err := link.A.Counters()
	must(t, err)
	const parting = 1000 // bytes: what ends the connection may still be on its way
	if d := float64(in) - got; d < 0 || d > parting || out != in {
		t.Errorf("the ends say that %d bytes were received and %d sent, the interface %.0f", in, out, got)
	}
}

func received(t *testing.T, n *netlab.Node, device string) float64 {
	t.Helper()
	var text []byte
	must(t, n.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/dev")
		return err
	}))
	for line := range strings.Lines(string(text)) {
		name, counts, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == device {
			v, err := strconv.ParseFloat(strings.Fields(counts)[0], 64)
			must(t, err)
			return v
		}
	}
	t.Fatalf("no %s in %s", device, text)
	return 0
}

func congestionControl(t *testing.T, c net.Conn) string {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	must(t, err)
	var name string
	must(t, raw.Control(func(fd uintptr) {
		name, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
	}))
	must(t, err)
	return strings.TrimRight(name, "\x00")
}

func TestCongestionControl(t *testing.T) {
	t.Run("of the link", func(t *testing.T) {
		lab := open(t, "netlab-test")
		a, b, _ := pair(t, lab, netlab.LinkOptions{})
		x, y := connect(t, a, b, "198.18.0.2")
		if gx, gy := congestionControl(t, x), congestionControl(t, y); gx != "cubic" || gy != "cubic" {
			t.Errorf("dialled %s, accepted %s; want cubic", gx, gy)
		}
	})
	t.Run("of a route", func(t *testing.T) {
		// Reno from a and cubic from b: neither may come from a default.
		lab := open(t, "netlab-test")
		a, b, linkA, _ := line(t, lab, 0, 0)
		must(t, a.Route(netip.MustParsePrefix("0.0.0.0/0"), linkA.A.Addr.Addr(), "reno"))
		check := func() {
			x, y := connect(t, a, b, "198.18.2.2")
			if gx, gy := congestionControl(t, x), congestionControl(t, y); gx != "reno" || gy != "cubic" {
				t.Errorf("dialled %s, accepted %s; want reno, cubic", gx, gy)
			}
		}
		check()
		must(t, linkA.B.Down()) // a's default route goes with it
		must(t, linkA.B.Up())
		check()
	})
}

// echo sends one ICMP echo from n and reports whether the answer came in time.
func echo(t *testing.T, n *netlab.Node, to string, patience time.Duration) bool {
	t.Helper()
	var pc *icmp.PacketConn
	must(t, n.Do(func() (err error) {
		pc, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}))
	defer pc.Close()
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 7, Seq: 1}}
	request, err := m.Marshal(nil)
	must(t, err)
	must(t, pc.SetDeadline(time.Now().Add(patience)))
	if _, err := pc.WriteTo(request, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		return false
	}
	b := make([]byte, 1500)
	for {
		k, from, err := pc.ReadFrom(b)
		if err != nil {
			return false
		}
		reply, err := icmp.ParseMessage(1, b[:k])
		must(t, err)
		if reply.Type == ipv4.ICMPTypeEchoReply && from.String() == to {
			return true
		}
	}
}

func TestLinkDownAndUp(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, link := pair(t, lab, netlab.LinkOptions{})
	ln, err := b.Listen("tcp", "198.18.0.2:80")
	must(t, err)
	defer ln.Close()
	reaches := func(patience time.Duration) (ping, tcp bool) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, err := a.DialContext(ctx, "tcp", "198.18.0.2:80")
		if err == nil {
			c.Close()
		}
		return echo(t, a, "198.18.0.2", patience), err == nil
	}
	for _, end := range []*netlab.Port{link.A, link.B} {
		if up, err := link.IsUp(); !up || err != nil {
			t.Fatalf("IsUp = %t, %v before", up, err)
		}
		if ping, tcp := reaches(3 * time.Second); !ping || !tcp {
			t.Fatalf("up: ping %t, tcp %t", ping, tcp)
		}
		must(t, end.Down())
		if up, _ := link.IsUp(); up {
			t.Error("IsUp after Down")
		}
		if ping, tcp := reaches(150 * time.Millisecond); ping || tcp {
			t.Errorf("down at %s: ping %t, tcp %t", end.Node.Name(), ping, tcp)
		}
		must(t, end.Up())
	}
	if ping, tcp := reaches(3 * time.Second); !ping || !tcp {
		t.Errorf("up again: ping %t, tcp %t", ping, tcp)
	}
}

// A link set down and up by another program, as the user is told to, must work
// as before, with the routes that the kernel forgot.
func TestRoutesComeBackAfterForeignHand(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, link := pair(t, lab, netlab.LinkOptions{})
	must(t, b.Address(netip.MustParsePrefix("198.18.9.9/32")))
	must(t, a.Route(netip.MustParsePrefix("198.18.9.9/32"), link.B.Addr.Addr(), "cubic"))
	if !echo(t, a, "198.18.9.9", 3*time.Second) {
		t.Fatal("no answer before")
	}
	setFlag(t, a, "eth0", false)
	if echo(t, a, "198.18.9.9", 100*time.Millisecond) {
		t.Fatal("answer through a link that is down")
	}
	setFlag(t, a, "eth0", true)
	for deadline := time.Now().Add(5 * time.Second); !echo(t, a, "198.18.9.9", 200*time.Millisecond); {
		if time.Now().After(deadline) {
			t.Fatal("the route did not come back")
		}
	}
	x, _ := connect(t, a, b, "198.18.9.9")
	if got := congestionControl(t, x); got != "cubic" {
		t.Errorf("congestion control %s after coming back, want cubic", got)
	}
}

// setFlag sets IFF_UP by ioctl, behind the lab's back.
func setFlag(t *testing.T, n *netlab.Node, device string, up bool) {
	t.Helper()
	must(t, n.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		r, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		if up {
			r.SetUint16(unix.IFF_UP)
		}
		return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
	}))
}

func TestBlackholeIsSilent(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, link := pair(t, lab, netlab.LinkOptions{})
	must(t, b.Forward(true))
	lost := netip.MustParsePrefix("198.18.7.0/24")
	must(t, a.Route(lost, link.B.Addr.Addr(), ""))
	must(t, b.Blackhole(lost))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := a.DialContext(ctx, "tcp", "198.18.7.1:80")
	if ne, ok := errors.AsType[net.Error](err); !ok || !ne.Timeout() {
		t.Errorf("err = %v, want a timeout: no message may come back", err)
	}
}

func TestSocketsStayInside(t *testing.T) {
	lab := open(t, "netlab-test")
	a, b, _ := pair(t, lab, netlab.LinkOptions{})
	pc, err := b.ListenPacket("udp", "198.18.0.2:53")
	must(t, err)
	defer pc.Close()
	c, err := a.DialContext(t.Context(), "udp", "198.18.0.2:53")
	must(t, err)
	defer c.Close()
	_, err = c.Write([]byte("selamat"))
	must(t, err)
	must(t, pc.SetReadDeadline(time.Now().Add(3*time.Second)))
	buf := make([]byte, 16)
	k, from, err := pc.ReadFrom(buf)
	must(t, err)
	if string(buf[:k]) != "selamat" || from.(*net.UDPAddr).IP.String() != "198.18.0.1" {
		t.Errorf("got %q from %v", buf[:k], from)
	}
	for _, bad := range []struct{ network, address string }{
		{"tcp", "localhost:80"}, {"tcp", "[::1]:80"}, {"tcp6", "198.18.0.2:80"}, {"unix", "/tmp/x"}, {"tcp", "198.18.0.2"},
	} {
		if _, err := a.DialContext(t.Context(), bad.network, bad.address); err == nil {
			t.Errorf("dialled %s %s", bad.network, bad.address)
		}
	}
}

func TestDoKeepsThreadsHome(t *testing.T) {
	lab := open(t, "netlab-test")
	n := node(t, lab, "a")
	home := namespaceOf(t, "/proc/self/ns/net")
	want := namespaceOf(t, "/run/netns/"+n.Namespace())
	must(t, n.Do(func() error {
		if got := namespaceOf(t, "/proc/thread-self/ns/net"); got != want || got == home {
			return fmt.Errorf("inside %d, want %d", got, want)
		}
		return nil
	}))
	sentinel := errors.New("sentinel")
	if err := n.Do(func() error { return sentinel }); !errors.Is(err, sentinel) {
		t.Errorf("err = %v", err)
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error from a function that ended its goroutine")
	}
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	must(t, err)
	for _, task := range tasks {
		if st, err := os.Stat(task); err == nil && st.Sys().(*syscall.Stat_t).Ino != home {
			t.Errorf("%s stayed in another namespace", task)
		}
	}
}

func namespaceOf(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Stat(path)
	must(t, err)
	return st.Sys().(*syscall.Stat_t).Ino
}

func TestSysctl(t *testing.T) {
	lab := open(t, "netlab-test")
	n := node(t, lab, "a")
	must(t, n.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	must(t, n.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		if err == nil {
			unix.Close(s)
		}
		return err
	}))
	for _, key := range []string{"kernel.panic", "net.ipv4/../../kernel.panic", "net...x", "net.ipv4.no_such"} {
		if err := n.Sysctl(key, "0"); err == nil {
			t.Errorf("set %s", key)
		}
	}
}

func TestNamesAreChecked(t *testing.T) {
	for _, name := range []string{"", "A", "1a", "a/b", "../x", strings.Repeat("a", 33)} {
		if _, err := netlab.New(netlab.Options{Name: name}); err == nil || errors.Is(err, netlab.ErrNotPermitted) {
			t.Errorf("lab %q: %v", name, err)
		}
	}
	lab := open(t, "netlab-test")
	for _, name := range []string{"", "a-b", "A", "a/b", "9"} {
		if _, err := lab.Node(name); err == nil {
			t.Errorf("node %q made", name)
		}
	}
	a := node(t, lab, "a")
	if _, err := lab.Node("a"); err == nil {
		t.Error("node made twice")
	}
	if _, err := lab.Link(a, a, netlab.LinkOptions{NameA: "x", NameB: "0123456789abcdef"}); err == nil {
		t.Error("long interface name accepted")
	}
}

func TestTwoLabsSideBySide(t *testing.T) {
	one, two := open(t, "netlab-test"), open(t, "netlab-test")
	a, b, _ := pair(t, one, netlab.LinkOptions{})
	pair(t, two, netlab.LinkOptions{})
	if one.Label() == two.Label() {
		t.Fatalf("both are %s", one.Label())
	}
	must(t, two.Close())
	connect(t, a, b, "198.18.0.2") // the first one lives on
	if left := named(two.Label()); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// named lists the namespaces of the lab with this label.
func named(label string) []string {
	entries, _ := os.ReadDir("/run/netns")
	var names []string
	for _, e := range entries {
		if e.Name() == label || strings.HasPrefix(e.Name(), label+"-") {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCommandRunsInsideAndDiesWithLab(t *testing.T) {
	lab := open(t, "netlab-test")
	n := node(t, lab, "a")
	self, err := os.Executable()
	must(t, err)
	c := n.Command(t.Context(), self)
	c.Env = append(os.Environ(), role+"=child")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	grandchild := atoi(t, readLine(t, bufio.NewReader(out)))
	want := namespaceOf(t, "/run/netns/"+n.Namespace())
	for _, pid := range []int{c.Process.Pid, grandchild} {
		if got := namespaceOf(t, fmt.Sprintf("/proc/%d/ns/net", pid)); got != want {
			t.Errorf("process %d is in %d, want %d", pid, got, want)
		}
	}
	must(t, lab.Close())
	if err := c.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Wait = %v, want killed", err)
	}
	waitGone(t, grandchild)
	if err := n.Command(t.Context(), self).Start(); !errors.Is(err, netlab.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
}

// A closed handle of the netlink library speaks to the host's network; none of
// ours may.
func TestClosedLabRefuses(t *testing.T) {
	lab := open(t, "netlab-test")
	a, _, link := pair(t, lab, netlab.LinkOptions{})
	must(t, lab.Close())
	must(t, lab.Close())
	anywhere := netip.MustParsePrefix("198.18.0.0/24")
	_, errNode := lab.Node("c")
	_, errLink := lab.Link(a, a, netlab.LinkOptions{NameA: "x", NameB: "y"})
	_, errListen := a.Listen("tcp", "0.0.0.0:0")
	_, errIsUp := link.IsUp()
	for i, err := range []error{
		errNode, errLink, errListen, errIsUp, link.Up(), link.Down(), link.A.SetRate(1e6), link.A.SetRate(0),
		a.Route(anywhere, netip.MustParseAddr("198.18.0.2"), ""), a.Blackhole(anywhere), a.Address(anywhere),
		a.Forward(true), a.Do(func() error { return nil }),
	} {
		if !errors.Is(err, netlab.ErrClosed) {
			t.Errorf("%d: %v, want ErrClosed", i, err)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	open(t, "netlab-test") // skips where not permitted
	cycle := func() string {
		lab, err := netlab.New(netlab.Options{Name: "netlab-test"})
		must(t, err)
		a, b, _ := pair(t, lab, netlab.LinkOptions{RateAB: 10e6})
		x, y := connect(t, a, b, "198.18.0.2")
		x.Close()
		y.Close()
		must(t, lab.Close())
		return lab.Label()
	}
	cycle() // what the runtime opens once
	count := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(fds)
	}
	files, goroutines := count(), runtime.NumGoroutine()
	for range 5 {
		if left := named(cycle()); len(left) > 0 {
			t.Errorf("namespaces left: %v", left)
		}
	}
	for deadline := time.Now().Add(3 * time.Second); count() > files || runtime.NumGoroutine() > goroutines; {
		if time.Now().After(deadline) {
			t.Fatalf("descriptors %d -> %d, goroutines %d -> %d", files, count(), goroutines, runtime.NumGoroutine())
		}
		time.Sleep(time.Millisecond)
	}
}

// own is the owner that TestClearsAfterKill kills: a lab, a link, a process
// inside that starts another. It prints its label and their ids.
func own() {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	lab, err := netlab.New(netlab.Options{Name: "netlab-kill"})
	fail(err)
	a, err := lab.Node("a")
	fail(err)
	b, err := lab.Node("b")
	fail(err)
	_, err = lab.Link(a, b, netlab.LinkOptions{NameA: "eth0", NameB: "eth0"})
	fail(err)
	self, err := os.Executable()
	fail(err)
	c := a.Command(context.Background(), self)
	c.Env = append(os.Environ(), role+"=child")
	out, err := c.StdoutPipe()
	fail(err)
	fail(c.Start())
	grandchild, err := bufio.NewReader(out).ReadString('\n')
	fail(err)
	fmt.Printf("%s\n%d\n%s", lab.Label(), c.Process.Pid, grandchild)
	select {}
}

// bear starts a grandchild, prints its id and waits to be killed.
func bear() {
	self, _ := os.Executable()
	c := exec.Command(self)
	c.Env = append(os.Environ(), role+"=grandchild")
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(c.Process.Pid)
	select {}
}

func TestClearsAfterKill(t *testing.T) {
	alive := open(t, "netlab-kill")
	node(t, alive, "stays")
	kept := named(alive.Label())

	self, err := os.Executable()
	must(t, err)
	owner := exec.CommandContext(t.Context(), self)
	owner.Env = append(os.Environ(), role+"=owner")
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	in := bufio.NewReader(out)
	label, child, grandchild := readLine(t, in), atoi(t, readLine(t, in)), atoi(t, readLine(t, in))
	t.Cleanup(func() { syscall.Kill(grandchild, syscall.SIGKILL) })

	// Its owner lives: nobody may touch it.
	open(t, "netlab-kill")
	if got := named(label); len(got) != 3 {
		t.Fatalf("namespaces of a living owner: %v, want 3", got)
	}

	must(t, owner.Process.Kill())
	owner.Wait()
	waitGone(t, child) // by the signal of its parent's death
	if got := named(label); len(got) != 3 || !running(grandchild) {
		t.Fatalf("after the kill: namespaces %v, grandchild running %t; the test proves nothing", got, running(grandchild))
	}

	open(t, "netlab-kill")
	if got := named(label); len(got) != 0 {
		t.Errorf("not cleared: %v", got)
	}
	waitGone(t, grandchild)
	if got := named(alive.Label()); !slices.Equal(got, kept) {
		t.Errorf("the living lab has %v, want %v", got, kept)
	}
}

// A namespace that others named like ours is not ours to clear; an empty file
// of an owner killed while naming is.
func TestClearsOnlyItsOwn(t *testing.T) {
	lab := open(t, "netlab-test")
	n := node(t, lab, "a")
	dead := exec.Command("/proc/self/exe", "-test.run=^$")
	must(t, dead.Run())
	foreign := fmt.Sprintf("/run/netns/netlab-test-%d-foreign", dead.Process.Pid)
	must(t, os.WriteFile(foreign, nil, 0o444))
	must(t, n.Do(func() error { // an unmarked namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", foreign, "none", unix.MS_BIND, "")
	}))
	defer os.Remove(foreign)
	defer unix.Unmount(foreign, unix.MNT_DETACH)
	half := fmt.Sprintf("/run/netns/netlab-test-%d-half", dead.Process.Pid)
	must(t, os.WriteFile(half, nil, 0o444))
	defer os.Remove(half)

	open(t, "netlab-test")
	if _, err := os.Stat(foreign); err != nil {
		t.Error("cleared a namespace of others: ", err)
	}
	if _, err := os.Stat(half); err == nil {
		t.Error("an empty file stayed")
	}
}

// ask opens a lab and exits 0 if that is not permitted.
func ask() {
	_, err := netlab.New(netlab.Options{Name: "netlab-test"})
	fmt.Println(err)
	if !errors.Is(err, netlab.ErrNotPermitted) {
		os.Exit(1)
	}
}

func TestNotPermitted(t *testing.T) {
	c := exec.CommandContext(t.Context(), "/proc/self/exe")
	c.Env = append(os.Environ(), role+"=nobody")
	c.Dir = "/"
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func readLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	must(t, err)
	return strings.TrimSpace(s)
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	must(t, err)
	return n
}

// running reports whether the process exists and is no zombie.
func running(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil
}

func waitGone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); running(pid); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d still runs", pid)
		}
		time.Sleep(time.Millisecond)
	}
}

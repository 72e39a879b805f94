package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// cable is two network namespaces joined by a pair of virtual Ethernet devices
// whose frames are counted one by one (no segmentation offload).
type cable struct {
	near, far netns.NsHandle
}

const (
	near4, far4 = "10.77.0.1", "10.77.0.2"
	near6, far6 = "fd77::1", "fd77::2"
)

func newCable(t *testing.T) *cable {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	c := new(cable)
	for _, h := range []*netns.NsHandle{&c.near, &c.far} {
		err := onThread(func() (err error) {
			*h, err = netns.New()
			return err
		})
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
			t.Skipf("no network namespaces here: %v", err)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.in(c.near, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "line"
		attrs.GSOMaxSegs, attrs.GSOMaxSize = 1, 1514
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "line", PeerNamespace: netlink.NsFd(int(c.far))})
	}))
	up := func(ns netns.NsHandle, addrs ...string) {
		t.Helper()
		must(c.in(ns, func() error {
			l, err := netlink.LinkByName("line")
			if err != nil {
				return err
			}
			for _, a := range addrs {
				addr, err := netlink.ParseAddr(a)
				if err != nil {
					return err
				}
				addr.Flags = 0x02 // IFA_F_NODAD: usable at once
				if err := netlink.AddrAdd(l, addr); err != nil {
					return err
				}
			}
			return errors.Join(netlink.LinkSetGSOMaxSegs(l, 1), netlink.LinkSetUp(l))
		}))
	}
	up(c.near, near4+"/24", near6+"/64")
	up(c.far, far4+"/24", far6+"/64")
	return c
}

// onThread runs f on a thread that dies with it: its namespace goes with it.
func onThread(f func() error) error {
	err := make(chan error)
	go func() {
		runtime.LockOSThread()
		err <- f()
	}()
	return <-err
}

func (c *cable) in(ns netns.NsHandle, f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns); err != nil {
			return err
		}
		return f()
	})
}

// counters reads the near device, as /proc/net/dev would show it.
func (c *cable) counters(t *testing.T) (rx, tx uint64) {
	t.Helper()
	err := c.in(c.near, func() error {
		l, err := netlink.LinkByName("line")
		if err != nil {
			return err
		}
		rx, tx = l.Attrs().Statistics.RxBytes, l.Attrs().Statistics.TxBytes
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rx, tx
}

// repeats sums what the far ends have sent again, in bytes of layer 2: if the
// first copy had arrived after all, as it does when a busy machine is slow to
// acknowledge, the interface has counted both, and TCP_INFO of the near end one.
type repeats struct {
	mu    sync.Mutex
	conns []*conn
	done  uint64
}

// echo answers with what it gets.
func (r *repeats) echo(nc net.Conn) {
	c := wrap(nc)
	r.mu.Lock()
	r.conns = append(r.conns, c)
	r.mu.Unlock()
	io.Copy(nc, nc)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = slices.DeleteFunc(r.conns, func(x *conn) bool { return x == c })
	r.done += repeated(c)
}

func (r *repeats) sum() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.done
	for _, c := range r.conns {
		n += repeated(c)
	}
	return n
}

func repeated(c *conn) (bytes uint64) {
	c.raw.Control(func(fd uintptr) {
		if ti, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			bytes = ti.Bytes_retrans + uint64(ti.Total_retrans)*(c.frame+tcpHeader+tcpTimestamps)
		}
	})
	return bytes
}

// The ledger's figures are those of the interface, for both families and both
// directions, with connections open and after they are closed. What may remain is
// payload that arrived twice, which TCP_INFO does not count: no more than the far
// end says it has sent again.
func TestOwnIsWhatTheInterfaceCounts(t *testing.T) {
	for _, family := range []struct{ name, host string }{{"ipv4", far4}, {"ipv6", far6}} {
		t.Run(family.name, func(t *testing.T) {
			c := newCable(t)
			var ln net.Listener
			if err := c.in(c.far, func() (err error) {
				ln, err = net.Listen("tcp", net.JoinHostPort(family.host, "0"))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			var far repeats
			serveOn(t, ln, far.echo)

			l := New(Options{})
			const conns, size = 4, 1 << 20
			open := make([]net.Conn, conns)
			for i := range open {
				if err := c.in(c.near, func() (err error) {
					open[i], err = l.DialContext(t.Context(), "tcp", ln.Addr().String())
					return err
				}); err != nil {
					t.Fatal(err)
				}
				defer open[i].Close()
				exchange(t, open[i], make([]byte, size))
			}
			var rx0, tx0, irx0, itx0, again0 uint64
			same := func(when string, tolerance float64) {
				t.Helper()
				var report string
				defer func() { t.Log(report) }()
				eventually(t, when, func() bool {
					rx, tx := l.Own()
					irx, itx := c.counters(t)
					again := far.sum() - again0
					rx, tx, irx, itx = rx-rx0, tx-tx0, irx-irx0, itx-itx0
					report = fmt.Sprintf("%s: ledger %d/%d, interface %d/%d, sent again by the far end %d", when, rx, tx, irx, itx, again)
					within := func(low, v, high uint64) bool {
						return float64(v) > float64(low)*(1-tolerance) && float64(v) < float64(high)*(1+tolerance)
					}
					return within(rx, irx, rx+again) && within(tx, itx, tx)
				})
			}
			same("open", 0.02)
			for _, c := range open {
				c.Close()
			}
			same("closed", 0.02)

			// Many small connections by themselves: here headers are most of it.
			rx0, tx0 = l.Own()
			irx0, itx0 = c.counters(t)
			again0 = far.sum()
			for range 50 {
				var nc net.Conn
				if err := c.in(c.near, func() (err error) {
					nc, err = l.DialContext(t.Context(), "tcp", ln.Addr().String())
					return err
				}); err != nil {
					t.Fatal(err)
				}
				nc.SetDeadline(time.Now().Add(5 * time.Second))
				exchange(t, nc, make([]byte, 100))
				nc.Close()
			}
			same("50 small ones", 0.05)
		})
	}
}

// A dial in vain costs the line something too: the resets of refusals, and the SYNs
// that nobody answers.
func TestDialsInVainAreCounted(t *testing.T) {
	c := newCable(t)
	l := New(Options{})
	if err := c.in(c.near, func() error { // beyond the far end, which forwards nothing
		_, beyond, err := net.ParseCIDR("192.0.2.0/24")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{Dst: beyond, Gw: net.ParseIP(far4)})
	}); err != nil {
		t.Fatal(err)
	}
	dial := func(addr string, patience time.Duration) error {
		return c.in(c.near, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := l.DialContext(ctx, "tcp", addr)
			return err
		})
	}
	for _, far := range []string{far4, far6} {
		eventually(t, "the addresses of the Ethernet are known", func() bool {
			return errors.Is(dial(net.JoinHostPort(far, "9"), time.Second), syscall.ECONNREFUSED)
		})
	}
	for _, tt := range []struct {
		name, addr string
		times      int
		patience   time.Duration
	}{
		{"refused", net.JoinHostPort(far4, "9"), 20, time.Second},
		{"refused by IPv6", net.JoinHostPort(far6, "9"), 20, time.Second},
		{"unanswered", "192.0.2.1:9", 1, 2500 * time.Millisecond},
	} {
		rx0, tx0 := l.Own()
		irx0, itx0 := c.counters(t)
		for range tt.times {
			if err := dial(tt.addr, tt.patience); err == nil {
				t.Fatal("somebody answered")
			}
		}
		rx, tx := l.Own()
		irx, itx := c.counters(t)
		rx, tx, irx, itx = rx-rx0, tx-tx0, irx-irx0, itx-itx0
		t.Logf("%s: ledger %d/%d, interface %d/%d", tt.name, rx, tx, irx, itx)
		// Neighbours may be looked for meanwhile: some 800 bytes. Old kernels send fewer SYNs.
		if irx > rx+800 || itx > tx+800 || rx > irx || tx > itx*2 {
			t.Errorf("%s: ledger %d/%d, interface %d/%d", tt.name, rx, tx, irx, itx)
		}
	}
}

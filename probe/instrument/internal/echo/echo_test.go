package echo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
)

func burst(addr string, count int) Burst {
	return Burst{Address: netip.MustParseAddr(addr), Count: count, Interval: 50 * time.Millisecond, Wait: 300 * time.Millisecond}
}

func run(t *testing.T, b Burst) Report {
	t.Helper()
	start := time.Now()
	r, err := b.Run(t.Context())
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	limit := time.Duration(b.Count-1)*b.Interval + b.Wait + slack + grace
	if took := time.Since(start); took > limit+200*time.Millisecond {
		t.Errorf("took %v, its limit is %v", took, limit)
	}
	return r
}

func TestLoopback(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	for _, addr := range []string{"127.0.0.1", "::1"} {
		r := run(t, burst(addr, 10))
		if r.Sent != 10 || r.Failed != 0 || len(r.RTTs) != 10 {
			t.Fatalf("%s: sent %d, failed %d, answered %d; want 10, 0, 10", addr, r.Sent, r.Failed, len(r.RTTs))
		}
		below := 0
		for _, rtt := range r.RTTs {
			if rtt <= 0 {
				t.Errorf("%s: RTT %v", addr, rtt)
			}
			if rtt < time.Millisecond {
				below++
			}
		}
		if below < 5 { // the machine may be busy, but not all the time
			t.Errorf("%s: %d of 10 RTTs below 1 ms: %v", addr, below, r.RTTs)
		}
		ip := uint64(52) // 20 + 8 + 24
		if netip.MustParseAddr(addr).Is6() {
			ip = 72
		}
		if r.Transmitted.Bytes != 10*ip || r.Transmitted.Count != 10 || r.Received != r.Transmitted {
			t.Errorf("%s: cost %+v received, %+v sent; want 10 packets of %d bytes", addr, r.Received, r.Transmitted, ip)
		}
	}
}

func TestEnoughEndsEarly(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	b := burst("127.0.0.1", 20)
	b.Enough = 1
	start := time.Now()
	r := run(t, b)
	if len(r.RTTs) != 1 || r.Sent > 3 {
		t.Errorf("sent %d, answered %d; want to end with the first answer", r.Sent, len(r.RTTs))
	}
	if took := time.Since(start); took > 500*time.Millisecond {
		t.Errorf("took %v", took)
	}
}

func TestRoutesWithoutAWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here := nettest.Here(t)
	for _, c := range []struct {
		name, dst, addr string
		kind            int
		want            error
	}{
		{"no route at all", "", "10.9.0.1", 0, syscall.ENETUNREACH},
		{"unreachable", "10.9.1.0/24", "10.9.1.1", unix.RTN_UNREACHABLE, syscall.EHOSTUNREACH},
		{"blackhole", "10.9.2.0/24", "10.9.2.1", unix.RTN_BLACKHOLE, syscall.EINVAL},
		{"prohibited", "10.9.3.0/24", "10.9.3.1", unix.RTN_PROHIBIT, syscall.EACCES},
		{"prohibited, IPv6", "fd09::/64", "fd09::1", unix.RTN_PROHIBIT, syscall.EACCES},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.dst != "" {
				here.Refuse(c.dst, c.kind)
			}
			before := runtime.NumGoroutine()
			r := run(t, burst(c.addr, 5))
			if r.Sent != 0 || r.Failed != 5 || len(r.RTTs) != 0 {
				t.Errorf("sent %d, failed %d, answered %d; want 0, 5, 0", r.Sent, r.Failed, len(r.RTTs))
			}
			if !errors.Is(r.SendError, c.want) {
				t.Errorf("send error %v, want %v", r.SendError, c.want)
			}
			noneLeft(t, before)
		})
	}
}

// noneLeft waits for the goroutines to be as many as before: a loop that nothing
// ends would be one more, for ever.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestRouteProhibitedMidRun(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, peer := pair(t)
	before := runtime.NumGoroutine()
	r := interrupted(t, 10, func() { here.Refuse("10.1.0.2/32", unix.RTN_PROHIBIT) })
	_ = peer
	if r.Sent+r.Failed != 10 || r.Failed < 3 || len(r.RTTs) != r.Sent {
		t.Errorf("sent %d, failed %d, answered %d; want 10 in all, the first ones answered", r.Sent, r.Failed, len(r.RTTs))
	}
	noneLeft(t, before)
}

func TestLinkDownMidRun(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, _ := pair(t)
	r := interrupted(t, 10, func() { here.Down("eth0") })
	if r.Sent+r.Failed != 10 || r.Failed < 3 || len(r.RTTs) < 2 || len(r.RTTs) > r.Sent {
		t.Errorf("sent %d, failed %d, answered %d; want 10 in all, some answered, the rest failed", r.Sent, r.Failed, len(r.RTTs))
	}
}

func TestFarEndDownMidRun(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	_, peer := pair(t)
	r := interrupted(t, 10, func() { peer.Down("eth0") })
	if r.Sent+r.Failed != 10 || len(r.RTTs) < 2 || len(r.RTTs) > 6 {
		t.Errorf("sent %d, failed %d, answered %d; want 10 in all, some answered", r.Sent, r.Failed, len(r.RTTs))
	}
}

func TestLinkComesBackMidRun(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, _ := pair(t)
	here.Down("eth0")
	b := burst("10.1.0.2", 20)
	time.AfterFunc(300*time.Millisecond, func() { here.Up("eth0") })
	r := run(t, b)
	if r.Failed < 3 || len(r.RTTs) < 5 || r.Sent+r.Failed != 20 {
		t.Errorf("sent %d, failed %d, answered %d; want the first refused, the later answered", r.Sent, r.Failed, len(r.RTTs))
	}
}

// pair is this namespace at 10.1.0.1 and another at 10.1.0.2, each by its eth0.
func pair(t *testing.T) (here, peer *nettest.Host) {
	here, peer = nettest.Here(t), nettest.New(t)
	here.Cable("eth0", peer, "eth0")
	here.Address("eth0", "10.1.0.1/24")
	peer.Address("eth0", "10.1.0.2/24")
	return here, peer
}

// interrupted runs a burst to 10.1.0.2 and calls f when a quarter of it is over.
func interrupted(t *testing.T, count int, f func()) Report {
	t.Helper()
	b := burst("10.1.0.2", count)
	b.Interval = 100 * time.Millisecond
	at := time.AfterFunc(time.Duration(count)*b.Interval*3/8, f)
	defer at.Stop()
	return run(t, b)
}

func TestNothingAnswers(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	_, peer := pair(t)
	peer.Sysctl("ipv4/icmp_echo_ignore_all", "1")
	r := run(t, burst("10.1.0.2", 5))
	if r.Sent != 5 || r.Failed != 0 || len(r.RTTs) != 0 || r.Received.Count != 0 {
		t.Errorf("%+v; want 5 sent, none answered", r)
	}
}

// TestDuplicatesAndLateAnswers answers by hand: every request twice, the third
// after the burst's Wait, the fourth never.
func TestDuplicatesAndLateAnswers(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	_, peer := pair(t)
	peer.Sysctl("ipv4/icmp_echo_ignore_all", "1")
	var conn *icmp.PacketConn
	var err error
	peer.Do(func() { conn, err = icmp.ListenPacket("ip4:icmp", "10.1.0.2") })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			m, err := icmp.ParseMessage(1, buf[:n])
			if err != nil || m.Type != ipv4.ICMPTypeEcho {
				continue
			}
			m.Type = ipv4.ICMPTypeEchoReply
			answer, _ := m.Marshal(nil)
			send := func() { conn.WriteTo(answer, from); conn.WriteTo(answer, from) }
			switch m.Body.(*icmp.Echo).Seq {
			case 2:
				time.AfterFunc(400*time.Millisecond, send)
			case 3:
			default:
				send()
			}
		}
	}()
	b := burst("10.1.0.2", 8)
	b.Interval = 100 * time.Millisecond
	r := run(t, b)
	if r.Sent != 8 || len(r.RTTs) != 6 {
		t.Errorf("sent %d, answered %d; want 8, 6 (one late, one lost)", r.Sent, len(r.RTTs))
	}
	for _, rtt := range r.RTTs {
		if rtt > b.Wait {
			t.Errorf("RTT %v is above Wait", rtt)
		}
	}
	if r.Received.Count < 13 {
		t.Errorf("%d packets received: duplicates and late answers are bytes too", r.Received.Count)
	}
}

func TestUnprivileged(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here := nettest.Here(t)
	here.Sysctl("ipv4/ping_group_range", "0 2147483647")
	nettest.Drop(t)
	for _, addr := range []string{"127.0.0.1", "::1"} {
		if r := run(t, burst(addr, 3)); r.Sent != 3 || len(r.RTTs) != 3 {
			t.Errorf("%s: sent %d, answered %d; want 3, 3", addr, r.Sent, len(r.RTTs))
		}
	}
}

func TestNoPermission(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	nettest.Here(t).Sysctl("ipv4/ping_group_range", "1 0")
	nettest.Drop(t)
	start := time.Now()
	r, err := burst("127.0.0.1", 10).Run(t.Context())
	if !errors.Is(err, ErrPermission) || r.Sent+r.Failed != 0 {
		t.Errorf("error %v, report %+v; want ErrPermission and nothing asked", err, r)
	}
	if took := time.Since(start); took > 200*time.Millisecond {
		t.Errorf("took %v to say so", took)
	}
	for _, way := range []string{"setcap", "ping_group_range"} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("%q does not name %s", err, way)
		}
	}
}

func TestContextEnds(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	_, peer := pair(t)
	peer.Sysctl("ipv4/icmp_echo_ignore_all", "1")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	before := runtime.NumGoroutine()
	start := time.Now()
	_, err := burst("10.1.0.2", 100).Run(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	if took := time.Since(start); took > 100*time.Millisecond+grace+100*time.Millisecond {
		t.Errorf("took %v", took)
	}
	noneLeft(t, before)
}

// TestHangingLibrary holds the library inside a call of its own, as if it were
// stuck in the kernel: the burst returns all the same, with what it has.
func TestHangingLibrary(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, _ := pair(t)
	time.AfterFunc(250*time.Millisecond, func() { here.Down("eth0") })
	stuck := make(chan struct{})
	b := burst("10.1.0.2", 10)
	b.Interval = 100 * time.Millisecond
	b.Logger = slog.New(blocking{stuck}) // the library reports the refused request
	before := runtime.NumGoroutine()
	r := run(t, b)
	if r.Failed != 1 || r.Sent != len(r.RTTs) || r.Sent < 2 {
		t.Errorf("%+v; want some answered, then the one that was refused", r)
	}
	close(stuck)
	noneLeft(t, before)
}

// blocking is a log handler that blocks.
type blocking struct{ until chan struct{} }

func (b blocking) Enabled(context.Context, slog.Level) bool  { <-b.until; return false }
func (b blocking) Handle(context.Context, slog.Record) error { return nil }
func (b blocking) WithAttrs([]slog.Attr) slog.Handler        { return b }
func (b blocking) WithGroup(string) slog.Handler             { return b }

func TestNoBurst(t *testing.T) {
	for _, b := range []Burst{{}, burst("127.0.0.1", 0), {Address: netip.MustParseAddr("::1"), Count: 1, Interval: time.Second}} {
		if _, err := b.Run(t.Context()); err == nil {
			t.Errorf("%+v ran", b)
		}
	}
}

func TestRoundTripWithoutStep(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name                       string
		reported, wall, mono, want time.Duration
	}{
		{"no step", 20 * ms, 21 * ms, 21 * ms, 20 * ms},
		{"wall clock forward an hour", 20*ms + time.Hour, 21*ms + time.Hour, 21 * ms, 20 * ms},
		{"wall clock back an hour", 20*ms - time.Hour, 21*ms - time.Hour, 21 * ms, 20 * ms},
		{"a small step back", 20*ms - 15*ms, 21*ms - 15*ms, 21 * ms, 20 * ms},
		{"a step before the reading", 20*ms + time.Hour, 21 * ms, 21 * ms, 21 * ms},
		{"never negative", 0, 10 * time.Microsecond, 5 * time.Microsecond, 0},
	} {
		if got := roundTrip(c.reported, c.wall, c.mono); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestResolve(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	for _, literal := range []string{"192.0.2.1", "2001:db8::1", "fe80::1%eth0"} {
		if a, err := Resolve(t.Context(), r, literal, time.Second); err != nil || a.String() != literal {
			t.Errorf("%s: %v, %v", literal, a, err)
		}
	}
	start := time.Now()
	_, err = Resolve(t.Context(), r, "ukur.example", 300*time.Millisecond)
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		t.Errorf("a silent name server: %v, want a DNS error", err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

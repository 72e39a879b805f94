package latency

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

func options(host string) Options {
	return Options{Target: "jkt-ix-1", Host: host, Interval: 50 * time.Millisecond, Wait: 300 * time.Millisecond}
}

func measured(t *testing.T, o Options) measure.Result {
	t.Helper()
	res := New(o).Measure(t.Context())
	if err := res.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	if res.Kind != measure.KindLatency || res.Target != o.Target || res.Instrument != "pro-bing" || res.MethodVersion == "" {
		t.Errorf("the result does not say what it is: %+v", res)
	}
	return res
}

func wantOutcome(t *testing.T, res measure.Result, outcome measure.Outcome, reason measure.Reason) {
	t.Helper()
	if res.Outcome != outcome || res.Reason != reason {
		t.Fatalf("%s/%s (%s), want %s/%s", res.Outcome, res.Reason, res.Detail, outcome, reason)
	}
}

// wantOnlyLoss checks for a result that knows the loss and no round-trip time.
func wantOnlyLoss(t *testing.T, res measure.Result) {
	t.Helper()
	wantOutcome(t, res, measure.OK, measure.ReasonNone)
	if loss, ok := res.Value(measure.PacketLossRatio); !ok || loss != 1 || len(res.Values) != 1 {
		t.Errorf("values %v, want packet_loss_ratio 1 alone", res.Values)
	}
}

func TestLoopback(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	account := ledger.New(ledger.Options{})
	o := options("127.0.0.1")
	o.Ledger = account
	res := measured(t, o)
	wantOutcome(t, res, measure.OK, measure.ReasonNone)
	get := func(m measure.Metric) float64 {
		n, ok := res.Value(m)
		if !ok {
			t.Fatalf("no %s in %v", m, res.Values)
		}
		return n
	}
	least, median, p95 := get(measure.LatencySecondsMin), get(measure.LatencySecondsMedian), get(measure.LatencySecondsP95)
	if get(measure.PacketLossRatio) != 0 || !(0 < least && least <= median && median <= p95) || least > 1e-3 {
		t.Errorf("%v: want no loss, 0 < min <= median <= p95, min below 1 ms", res.Values)
	}
	if j := get(measure.JitterSeconds); j > p95-least {
		t.Errorf("jitter %v above the range %v", j, p95-least)
	}
	if res.BytesSent != 660 || res.BytesReceived != 660 {
		t.Errorf("cost %d sent, %d received; want 10 frames of 66 bytes each way", res.BytesSent, res.BytesReceived)
	}
	if rx, tx := account.Own(); rx != 660 || tx != 660 {
		t.Errorf("entered %d, %d bytes in the ledger", rx, tx)
	}
	if res.Duration < 450*time.Millisecond || res.Duration > 2*time.Second {
		t.Errorf("duration %v of nine intervals of 50 ms", res.Duration)
	}
}

// TestCut cuts the line in each of the ways it is cut.
func TestCut(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, router := nettest.Here(t), nettest.New(t)
	here.Cable("eth0", router, "lan0")
	here.Address("eth0", "10.1.0.2/24")
	router.Address("lan0", "10.1.0.1/24")
	here.Route("default", "10.1.0.1")
	router.Forward()
	router.Refuse("10.7.0.0/24", unix.RTN_BLACKHOLE)
	router.Refuse("10.8.0.0/24", unix.RTN_UNREACHABLE)

	t.Run("swallowed beyond the router", func(t *testing.T) {
		wantOnlyLoss(t, measured(t, options("10.7.0.1")))
	})
	t.Run("the router says unreachable", func(t *testing.T) {
		wantOnlyLoss(t, measured(t, options("10.8.0.1")))
	})
	t.Run("link down mid-run", func(t *testing.T) {
		o := options("10.1.0.1")
		o.Interval = 100 * time.Millisecond
		time.AfterFunc(350*time.Millisecond, func() { here.Down("eth0") })
		res := measured(t, o)
		wantOutcome(t, res, measure.OK, measure.ReasonNone)
		if loss, _ := res.Value(measure.PacketLossRatio); loss < 0.3 || loss > 0.8 {
			t.Errorf("loss %v, want that of some six requests in ten", loss)
		}
		if _, ok := res.Value(measure.LatencySecondsMedian); !ok {
			t.Errorf("%v: the answered requests have a latency", res.Values)
		}
	})
	for name, kind := range map[string]int{"blackhole": unix.RTN_BLACKHOLE, "prohibited": unix.RTN_PROHIBIT, "unreachable": unix.RTN_UNREACHABLE} {
		t.Run(name+" on the box itself", func(t *testing.T) {
			here.Refuse("10.9.0.0/24", kind)
			start := time.Now()
			wantOutcome(t, measured(t, options("10.9.0.1")), measure.Failed, measure.ReasonUnreachable)
			if took := time.Since(start); took > 2500*time.Millisecond {
				t.Errorf("took %v", took)
			}
		})
	}
	t.Run("link down", func(t *testing.T) {
		wantOutcome(t, measured(t, options("10.1.0.1")), measure.Failed, measure.ReasonUnreachable)
	})
}

func TestNoPermission(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	nettest.Here(t).Sysctl("ipv4/ping_group_range", "1 0")
	nettest.Drop(t)
	res := measured(t, options("127.0.0.1"))
	wantOutcome(t, res, measure.Failed, measure.ReasonPermission)
	if len(res.Detail) == measure.MaxDetail {
		t.Errorf("the detail is cut: %q", res.Detail)
	}
}

func TestNoTarget(t *testing.T) {
	wantOutcome(t, measured(t, Options{}), measure.Skipped, measure.ReasonNoTarget)
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, host := range []string{"127.0.0.1", "ukur.example"} {
		wantOutcome(t, New(options(host)).Measure(ctx), measure.Failed, measure.ReasonCancelled)
	}
}

func TestSilentNameServer(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	in := New(options("ukur.example"))
	in.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", silent.LocalAddr().String())
	}}
	t.Parallel()
	start := time.Now()
	res := in.Measure(t.Context())
	wantOutcome(t, res, measure.Failed, measure.ReasonDNS)
	if took := time.Since(start); took > lookupLimit+time.Second {
		t.Errorf("took %v", took)
	}
}

func TestQuantile(t *testing.T) {
	var ten []time.Duration
	for i := 1; i <= 10; i++ {
		ten = append(ten, time.Duration(i))
	}
	for _, c := range []struct {
		n    int
		q    float64
		want time.Duration
	}{
		{1, 0.5, 1}, {1, 0.95, 1}, {2, 0.5, 1}, {3, 0.5, 2}, {10, 0.5, 5}, {10, 0.9, 9}, {10, 0.95, 10}, {10, 0, 1}, {10, 1, 10},
	} {
		if got := quantile(ten[:c.n], c.q); got != c.want {
			t.Errorf("quantile %v of %d: %d, want %d", c.q, c.n, got, c.want)
		}
	}
}

func TestJitter(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		rtts []time.Duration
		want time.Duration
		ok   bool
	}{
		{"none", nil, 0, false},
		{"one", []time.Duration{20 * ms}, 0, false},
		{"steady", []time.Duration{20 * ms, 20 * ms, 20 * ms}, 0, true},
		{"down and up", []time.Duration{20 * ms, 10 * ms, 40 * ms}, 20 * ms, true}, // (10+30)/2
		{"in the order of sending", []time.Duration{10 * ms, 40 * ms, 20 * ms}, 25 * ms, true},
	} {
		if got, ok := jitter(c.rtts); got != c.want || ok != c.ok {
			t.Errorf("%s: %v, %v; want %v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

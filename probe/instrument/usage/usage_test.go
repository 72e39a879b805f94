package usage

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/measure"
)

type account struct{ rx, tx uint64 }

func (a *account) Own() (rx, tx uint64) { return a.rx, a.tx }

func totals(t *testing.T, res measure.Result) (rx, tx float64) {
	t.Helper()
	if err := res.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	rx, okRX := res.Value(measure.LinkReceiveBytesTotal)
	tx, okTX := res.Value(measure.LinkTransmitBytesTotal)
	if res.Outcome != measure.OK || !okRX || !okTX || len(res.Values) != 2 {
		t.Fatalf("%s/%s (%s) %v, want two totals", res.Outcome, res.Reason, res.Detail, res.Values)
	}
	return rx, tx
}

func wantOutcome(t *testing.T, res measure.Result, outcome measure.Outcome, reason measure.Reason) {
	t.Helper()
	if err := res.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	if res.Outcome != outcome || res.Reason != reason {
		t.Fatalf("%s/%s (%s), want %s/%s", res.Outcome, res.Reason, res.Detail, outcome, reason)
	}
}

// TestReadings plays a sequence of readings, one a minute.
func TestReadings(t *testing.T) {
	const M = 1 << 20
	type step struct {
		index  int
		rx     uint64 // the interface's; the same for tx
		own    uint64 // the probe's, cumulative
		want   float64
		broken error
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"begins at 0, whatever was before", []step{{1, 50 * M, 7 * M, 0, nil}, {1, 51 * M, 7 * M, M, nil}, {1, 51 * M, 7 * M, M, nil}}},
		{"own bytes are taken off", []step{{1, 0, 0, 0, nil}, {1, 10 * M, 4 * M, 6 * M, nil}, {1, 20 * M, 14 * M, 6 * M, nil}}},
		{"own bytes above the interface's", []step{{1, 0, 0, 0, nil}, {1, 10 * M, 11 * M, 0, nil}, {1, 20 * M, 11 * M, 10 * M, nil}}},
		{"32 bits wrap", []step{{1, 1<<32 - 3*M, 0, 0, nil}, {1, 2 * M, 0, 5 * M, nil}, {1, 3 * M, 0, 6 * M, nil}}},
		{"wrap with own bytes", []step{{1, 1<<32 - 3*M, 0, 0, nil}, {1, 2 * M, M, 4 * M, nil}}},
		{"a 64-bit counter starts again", []step{{1, 1 << 40, 0, 0, nil}, {1, 2 * M, 0, 0, nil}, {1, 3 * M, 0, M, nil}}},
		{"a small counter starts again", []step{{1, 900 * M, 0, 0, nil}, {1, 2 * M, 0, 0, nil}, {1, 3 * M, 0, M, nil}}},
		{"made again under its name, counting higher", []step{{1, M, 0, 0, nil}, {2, 500 * M, 0, 0, nil}, {2, 501 * M, 0, M, nil}}},
		{"an impossible jump", []step{{1, M, 0, 0, nil}, {1, 1 << 62, 0, 0, nil}, {1, 1<<62 + M, 0, M, nil}}},
		{"beyond 32 bits a minute", []step{{1, 0, 0, 0, nil}, {1, 7 << 30, 0, 7 << 30, nil}}},
		{"away for a while", []step{{1, M, 0, 0, nil}, {0, 0, 0, 0, errNoInterface}, {1, 3 * M, 0, 2 * M, nil}}},
		{"away from the start", []step{{0, 0, 0, 0, errNoInterface}, {1, 3 * M, 0, 0, nil}, {1, 4 * M, 0, M, nil}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := new(account)
			in := New(Options{Interface: "wan0", Own: own})
			var now time.Duration
			for i, s := range c.steps {
				now += time.Minute
				in.now = func() time.Duration { return now }
				in.read = func(string) (reading, error) { return reading{s.index, pair{s.rx, s.rx}}, s.broken }
				own.rx, own.tx = s.own, s.own
				res := in.Measure(t.Context())
				if s.broken != nil {
					wantOutcome(t, res, measure.Failed, measure.ReasonNoTarget)
					continue
				}
				if rx, tx := totals(t, res); rx != s.want || tx != s.want {
					t.Errorf("reading %d: totals %v and %v, want %v", i+1, rx, tx, s.want)
				}
			}
		})
	}
}

func TestDirectionsAreApart(t *testing.T) {
	own := new(account)
	in := New(Options{Interface: "wan0", Own: own})
	next := reading{1, pair{100, 1000}}
	in.read = func(string) (reading, error) { return next, nil }
	in.Measure(t.Context())
	next, *own = reading{1, pair{180, 1500}}, account{rx: 30, tx: 200}
	if rx, tx := totals(t, in.Measure(t.Context())); rx != 50 || tx != 300 {
		t.Errorf("totals %v, %v; want 50, 300", rx, tx)
	}
}

func TestNotMeasured(t *testing.T) {
	wantOutcome(t, New(Options{}).Measure(t.Context()), measure.Skipped, measure.ReasonNoTarget)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantOutcome(t, New(Options{Interface: "lo"}).Measure(ctx), measure.Failed, measure.ReasonCancelled)

	in := New(Options{Interface: "wan0"})
	in.read = func(string) (reading, error) { return reading{}, errors.New("no counters") }
	wantOutcome(t, in.Measure(t.Context()), measure.Failed, measure.ReasonInternal)
}

// TestInterface follows a real interface over real traffic, its disappearance
// and its return.
func TestInterface(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, peer := nettest.Here(t), nettest.New(t)
	here.Sysctl("ipv6/conf/default/disable_ipv6", "1") // no traffic but the test's
	peer.Sysctl("ipv6/conf/default/disable_ipv6", "1")
	plug := func() {
		here.Cable("wan0", peer, "eth0")
		here.Address("wan0", "10.1.0.1/24")
		peer.Address("eth0", "10.1.0.2/24")
	}
	plug()
	conn, err := net.ListenPacket("udp", "10.1.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const payload, frame = 1000, 1042
	send := func(n int) {
		for range n {
			if _, err := conn.WriteTo(make([]byte, payload), &net.UDPAddr{IP: net.IPv4(10, 1, 0, 2), Port: 9}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(1) // so that the neighbour is known

	own := new(account)
	in := New(Options{Interface: "wan0", Own: own})
	if rx, tx := totals(t, in.Measure(t.Context())); rx != 0 || tx != 0 {
		t.Errorf("first reading %v, %v", rx, tx)
	}
	send(50)
	own.tx = 10 * frame
	// ARP may ask again in between: 42 bytes a frame.
	if _, tx := totals(t, in.Measure(t.Context())); tx < 40*frame || tx > 40*frame+200 {
		t.Errorf("sent %v bytes, want the frames of 40 datagrams, %d", tx, 40*frame)
	}
	_, before := totals(t, in.Measure(t.Context()))

	here.Unplug("wan0")
	wantOutcome(t, in.Measure(t.Context()), measure.Failed, measure.ReasonNoTarget)
	plug()
	send(5)
	if _, tx := totals(t, in.Measure(t.Context())); tx != before {
		t.Errorf("total %v after the interface was made again, want %v", tx, before)
	}
	send(5)
	if _, tx := totals(t, in.Measure(t.Context())); tx < before+5*frame || tx > before+5*frame+200 {
		t.Errorf("total %v, want %v", tx, before+5*frame)
	}
}

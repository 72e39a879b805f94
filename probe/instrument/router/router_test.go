package router

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/instrument/snmp/snmpdtest"
	"github.com/pantau-desa/pantau/probe/ledger"
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

func wantReason(t *testing.T, res measure.Result, reason measure.Reason) {
	t.Helper()
	if err := res.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	if res.Outcome == measure.OK || res.Reason != reason {
		t.Errorf("%s/%s (%s), want %s", res.Outcome, res.Reason, res.Detail, reason)
	}
}

const M = 1 << 20

// TestReadings plays readings of a router whose clock has run for an hour.
func TestReadings(t *testing.T) {
	type step struct {
		after time.Duration // since the reading before
		r     reading
		own   uint64 // the probe's, cumulative
		want  float64
		fails bool
	}
	const minute = time.Minute
	var up time.Duration
	at := func(rx uint64) reading { return reading{index: "3", wide: true, pair: pair{rx, rx}} }
	at32 := func(rx uint64) reading { return reading{index: "3", pair: pair{rx, 5 * M}} } // one direction moves
	with := func(r reading, change func(*reading)) reading { change(&r); return r }
	speed := func(bps float64) func(*reading) { return func(r *reading) { r.speed = bps } }
	restarted := func(r *reading) { r.clocked, r.uptime = true, 500 }
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"begins at 0, whatever was before", []step{{minute, at(50 * M), 7 * M, 0, false}, {minute, at(51 * M), 7 * M, M, false}, {minute, at(51 * M), 7 * M, M, false}}},
		{"own bytes are taken off", []step{{minute, at(0), 0, 0, false}, {minute, at(10 * M), 4 * M, 6 * M, false}, {minute, at(20 * M), 14 * M, 6 * M, false}}},
		{"own bytes that the counters show a reading late", []step{{minute, at(0), 0, 0, false}, {minute, at(M), 9 * M, 0, false}, {minute, at(10 * M), 9 * M, M, false}}},
		{"own bytes of another way do not eat the village's for ever", []step{{minute, at(0), 0, 0, false}, {minute, at(0), 50 * M, 0, false}, {minute, at(0), 50 * M, 0, false}, {minute, at(60 * M), 50 * M, 60 * M, false}}},
		{"more than 32 bits a minute", []step{{minute, at(0), 0, 0, false}, {minute, at(7 << 30), 0, 7 << 30, false}}},
		{"32 bits wrap", []step{{minute, at32(1<<32 - 3*M), 0, 0, false}, {minute, at32(2 * M), 0, 5 * M, false}, {minute, at32(3 * M), 0, 6 * M, false}}},
		{"32 bits wrap, past half their range", []step{{minute, at32(3 << 30), 0, 0, false}, {minute, at32(1 << 30), 0, 2 << 30, false}}},
		{"32 bits may have wrapped twice", []step{{minute, at32(1 << 30), 0, 0, false}, {3 * minute, at32(2 << 30), 0, 0, false}, {minute, at32(2<<30 + M), 0, M, false}}},
		{"a slow interface cannot have wrapped twice", []step{{minute, with(at32(1<<30), speed(20e6)), 0, 0, false}, {3 * minute, with(at32(1<<30+M), speed(20e6)), 0, M, false}}},
		{"32 bits of an interface that cannot have moved so much", []step{{minute, with(at32(2*M), speed(20e6)), 0, 0, false}, {minute, with(at32(M), speed(20e6)), 0, 0, false}, {minute, with(at32(2*M), speed(20e6)), 0, M, false}}},
		{"both fell: dialled anew", []step{{minute, with(at32(3<<30), func(r *reading) { r.tx = 1 << 30 }), 0, 0, false}, {minute, with(at32(M), func(r *reading) { r.tx = M }), 0, 0, false}, {minute, with(at32(2*M), func(r *reading) { r.tx = M }), 0, M, false}}},
		{"64 bits never wrap", []step{{minute, at(900 * M), 0, 0, false}, {minute, with(at(2*M), func(r *reading) { r.tx = 901 * M }), 0, 0, false}, {minute, with(at(3*M), func(r *reading) { r.tx = 901 * M }), 0, M, false}}},
		{"the router restarts and counts on higher", []step{{minute, at(M), 0, 0, false}, {minute, with(at(500*M), restarted), 0, 0, false}, {minute, with(at(501*M), func(r *reading) { r.clocked, r.uptime = true, 6500 }), 0, M, false}}},
		{"the interface's counters were set anew", []step{{minute, with(at(M), func(r *reading) { r.marked = true }), 0, 0, false}, {minute, with(at(9*M), func(r *reading) { r.marked, r.discontinuity = true, 77 }), 0, 0, false}}},
		{"another index", []step{{minute, at(M), 0, 0, false}, {minute, with(at(9*M), func(r *reading) { r.index = "4" }), 0, 0, false}}},
		{"other counters", []step{{minute, at(M), 0, 0, false}, {minute, at32(9 * M), 0, 0, false}}},
		{"an impossible jump", []step{{minute, at(M), 0, 0, false}, {minute, at(1 << 62), 0, 0, false}, {minute, at(1<<62 + M), 0, M, false}}},
		{"faster than the interface", []step{{minute, with(at(M), speed(100e6)), 0, 0, false}, {minute, with(at(9<<30), speed(100e6)), 0, 0, false}}},
		{"an interface that says it is slow is not believed", []step{{minute, with(at(M), speed(56e3)), 0, 0, false}, {minute, with(at(90*M), speed(56e3)), 0, 89 * M, false}}},
		{"away for a while", []step{{minute, at(M), 0, 0, false}, {minute, reading{}, 0, 0, true}, {minute, at(3 * M), 0, 2 * M, false}}},
		{"not looked at before they can have moved", []step{{minute, at(0), 0, 0, false}, {10 * time.Second, at(M), M, 0, false}, {10 * time.Second, at(5 * M), M, 0, false}, {10 * time.Second, at(6 * M), M, 5 * M, false}}},
		{"a clock that begins again after 497 days", []step{{minute, with(at(0), func(r *reading) { r.clocked, r.uptime = true, 1<<32-3000 }), 0, 0, false}, {minute, with(at(M), func(r *reading) { r.clocked, r.uptime = true, 3000 }), 0, M, false}}},
		{"a clock that stands still", []step{{minute, with(at(0), restarted), 0, 0, false}, {minute, with(at(M), restarted), 0, M, false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := new(account)
			in := New(Options{Interface: "wan", Own: own})
			var now time.Duration
			up = time.Hour
			in.now = func() time.Duration { return now }
			for i, s := range c.steps {
				now += s.after
				up += s.after
				in.read = func(_ context.Context, index string) (reading, cost, error) {
					if s.fails {
						return reading{}, cost{}, &snmp.Failure{Reason: measure.ReasonTimeout, What: "silence"}
					}
					if i > 0 && index != c.steps[0].r.index && c.name != "another index" {
						t.Errorf("reading %d looks at %q", i+1, index)
					}
					if !s.r.clocked && s.r.wide {
						s.r.clocked, s.r.uptime = true, uint32(up/(10*time.Millisecond))
					}
					return s.r, cost{}, nil
				}
				own.rx, own.tx = s.own, s.own
				res := in.Measure(t.Context())
				if s.fails {
					wantReason(t, res, measure.ReasonTimeout)
					continue
				}
				if rx, _ := totals(t, res); rx != s.want {
					t.Errorf("reading %d: total %v, want %v", i+1, rx, s.want)
				}
				if (len(res.Flags) == 1) == s.r.wide {
					t.Errorf("reading %d: flags %v", i+1, res.Flags)
				}
			}
		})
	}
}

// iface is a made-up interface of a router.
type iface struct {
	index       int
	name        string
	rx, tx      uint64
	narrow      bool // counts in 32 bits only
	mbps        int
	descrOnly   bool // has no ifName
	notCounting bool
}

func rows(ifaces ...iface) (objects []snmpdtest.Object) {
	add := func(column string, i iface, sort, value string) {
		objects = append(objects, snmpdtest.Object{OID: fmt.Sprintf("%s.%d", column, i.index), Sort: sort, Value: value})
	}
	for _, i := range ifaces {
		add(ifDescr, i, "string", i.name)
		if !i.descrOnly {
			add(ifName, i, "string", i.name)
		}
		if i.notCounting {
			continue
		}
		add(ifInOctets, i, "counter", fmt.Sprint(uint32(i.rx)))
		add(ifOutOctets, i, "counter", fmt.Sprint(uint32(i.tx)))
		if !i.narrow {
			add(ifHCInOctets, i, "counter64", fmt.Sprint(i.rx))
			add(ifHCOutOctets, i, "counter64", fmt.Sprint(i.tx))
		}
		if i.mbps > 0 {
			add(ifHighSpeed, i, "gauge", fmt.Sprint(i.mbps))
		}
	}
	return objects
}

// A real agent, on tables that the test makes up.
var tables = []string{"1.3.6.1.2.1.2.2", "1.3.6.1.2.1.31.1.1"}

func access(a *snmpdtest.Agent) snmp.Access {
	return snmp.Access{Address: a.Address, Community: snmpdtest.Community}
}

// minutely makes the instrument believe that a minute passes between readings on
// the probe; the agent's own clock is left out of it, since it goes in real time.
func minutely(in *Instrument) {
	var now time.Duration
	in.now = func() time.Duration { now += time.Minute; return now }
	ask := in.read
	in.read = func(ctx context.Context, index string) (reading, cost, error) {
		r, c, err := ask(ctx, index)
		r.clocked = false
		return r, c, err
	}
}

func TestRealAgent(t *testing.T) {
	agent := snmpdtest.Start(t, tables)
	line := ledger.New(ledger.Options{})
	in := New(Options{Access: access(agent), Interface: "pppoe-wan", Ledger: line})
	minutely(in)
	lan := iface{index: 1, name: "br-lan", rx: 9, tx: 9}
	step := func(want float64, ifaces ...iface) measure.Result {
		t.Helper()
		agent.Set(rows(append(ifaces, lan)...)...)
		res := in.Measure(t.Context())
		if rx, tx := totals(t, res); rx != want || tx != 2*want {
			t.Errorf("totals %v and %v, want %v and %v", rx, tx, want, 2*want)
		}
		return res
	}
	wan := func(index int, rx uint64) iface {
		return iface{index: index, name: "pppoe-wan", rx: rx, tx: 2 * rx, mbps: 1000}
	}
	step(0, wan(12, 5<<40))
	res := step(M, wan(12, 5<<40+M))
	rx, tx := line.Own()
	if res.BytesReceived < 200 || res.BytesSent < 200 || res.BytesReceived+res.BytesSent > 1500 || rx <= res.BytesReceived || tx <= res.BytesSent {
		t.Errorf("a reading costs %d and %d bytes, the ledger has %d and %d", res.BytesReceived, res.BytesSent, rx, tx)
	}
	// The index now is another interface's: the name counts.
	step(M, wan(13, 77), iface{index: 12, name: "eth0", rx: 6 << 40, tx: 1})
	step(2*M, wan(13, 77+M), iface{index: 12, name: "eth0", rx: 6 << 40, tx: 1})

	agent.Set(rows(lan)...)
	res = in.Measure(t.Context())
	wantReason(t, res, measure.ReasonNoTarget)
	if !strings.Contains(res.Detail, "pppoe-wan") || !strings.Contains(res.Detail, "br-lan") {
		t.Errorf("does not name what there is: %s", res.Detail)
	}
	agent.Set(rows(iface{index: 13, name: "pppoe-wan", notCounting: true})...)
	wantReason(t, in.Measure(t.Context()), measure.ReasonMalformed)

	agent.Stop()
	wantReason(t, in.Measure(t.Context()), measure.ReasonRefused)
}

func TestRealAgentOf32Bits(t *testing.T) {
	agent := snmpdtest.Start(t, tables)
	in := New(Options{Access: access(agent), Interface: "WAN", Ledger: nil})
	minutely(in)
	step := func(rx uint64, want float64) {
		t.Helper()
		agent.Set(rows(iface{index: 2, name: "WAN", rx: rx, tx: 4, narrow: true, descrOnly: true, mbps: 100})...)
		res := in.Measure(t.Context())
		if got, _ := totals(t, res); got != want || len(res.Flags) != 1 || res.Flags[0] != FlagCounter32 {
			t.Errorf("total %v, want %v; flags %v", got, want, res.Flags)
		}
	}
	step(1<<32-M, 0)
	step(1<<32+2*M, 3*M)
	step(1<<32+3*M, 4*M)
}

// The agent's clock tells a restart although the counters go on higher.
func TestRealRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until a restart can be told")
	}
	agent := snmpdtest.Start(t, tables)
	wan := func(rx uint64) { agent.Set(rows(iface{index: 2, name: "wan", rx: rx, tx: rx})...) }
	in := New(Options{Access: access(agent), Interface: "wan", Refresh: time.Nanosecond})
	begun := time.Now()
	in.now = func() time.Duration { return time.Since(begun) }
	step := func(rx uint64, want float64) {
		t.Helper()
		wan(rx)
		if got, _ := totals(t, in.Measure(t.Context())); got != want {
			t.Errorf("total %v at %v, want %v", got, rx, want)
		}
	}
	// A probe that has waited long enough for a restart to be told from a clock that
	// goes a little wrong.
	time.Sleep(7 * time.Second)
	step(1000, 0)
	step(3000, 2000)
	agent.Stop()
	agent.Run()
	step(9000, 2000)
	step(9500, 2500)
}

// TestRealCounters follows what passes through an interface of this machine, as
// snmpd counts it, in a network of the test's own. net-snmp looks at the
// interfaces every 15 s: counters that lag.
func TestRealCounters(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the agent's look at the interfaces")
	}
	if !nettest.Private(t) {
		return
	}
	here, peer := nettest.Here(t), nettest.New(t)
	const datagrams, payload, frame = 2000, 1000, 1042
	for _, h := range []*nettest.Host{here, peer} {
		h.Sysctl("ipv6/conf/default/disable_ipv6", "1") // no traffic but the test's
	}
	here.Cable("wan0", peer, "eth0")
	here.Address("wan0", "10.1.0.1/24")
	peer.Address("eth0", "10.1.0.2/24")
	conn, err := net.ListenPacket("udp", "10.1.0.1:0") // not connected: nobody listens there, and it need not know
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	send := func(n int) {
		for range n {
			if _, err := conn.WriteTo(make([]byte, payload), &net.UDPAddr{IP: net.IPv4(10, 1, 0, 2), Port: 9}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(1) // so that the neighbour is known
	agent := snmpdtest.Start(t, nil)
	own := new(account)
	in := New(Options{Access: access(agent), Interface: "wan0", Refresh: time.Second, Own: own})
	if rx, tx := totals(t, in.Measure(t.Context())); rx != 0 || tx != 0 {
		t.Errorf("first reading %v, %v", rx, tx)
	}
	send(datagrams)
	own.tx = datagrams / 4 * frame
	const want = datagrams * 3 / 4 * frame
	var tx float64
	for deadline := time.Now().Add(45 * time.Second); tx == 0 && time.Now().Before(deadline); {
		time.Sleep(2 * time.Second)
		_, tx = totals(t, in.Measure(t.Context()))
	}
	if tx < want || tx > want+500 { // ARP
		t.Errorf("%v bytes, want %v", tx, want)
	}
}

func TestNotMeasured(t *testing.T) {
	wantReason(t, New(Options{}).Measure(t.Context()), measure.ReasonNoTarget)
	wantReason(t, New(Options{Interface: "wan"}).Measure(t.Context()), measure.ReasonNoTarget)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantReason(t, New(Options{Interface: "wan", Access: snmp.Access{Address: "192.0.2.1", Community: "x"}}).Measure(ctx), measure.ReasonCancelled)
}

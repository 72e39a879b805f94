package reach

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// village is the test's own place behind two routers:
//
//	here 192.168.1.2 - .1 router 10.20.0.2 - .1 provider 203.0.113.1 - .2 server
type village struct{ here, router, provider, server *nettest.Host }

func newVillage(t *testing.T) village {
	t.Helper()
	v := village{nettest.Here(t), nettest.New(t), nettest.New(t), nettest.New(t)}
	join := func(a *nettest.Host, nameA, addrA string, b *nettest.Host, nameB, addrB string) {
		a.Cable(nameA, b, nameB)
		a.Address(nameA, addrA)
		b.Address(nameB, addrB)
	}
	join(v.here, "eth0", "192.168.1.2/24", v.router, "lan0", "192.168.1.1/24")
	join(v.router, "wan0", "10.20.0.2/30", v.provider, "access0", "10.20.0.1/30")
	join(v.provider, "core0", "203.0.113.1/24", v.server, "eth0", "203.0.113.2/24")
	v.here.Route("default", "192.168.1.1")
	v.router.Route("default", "10.20.0.1")
	v.provider.Route("192.168.0.0/16", "10.20.0.2")
	v.server.Route("default", "203.0.113.1")
	v.router.Forward()
	v.provider.Forward()
	return v
}

var (
	byEcho = Target{ID: "server", Host: "203.0.113.2"}
	byTCP  = Target{ID: "web", Host: "203.0.113.2", Port: 443}
)

func open(t *testing.T, o Options) *Instrument {
	t.Helper()
	if o.Wait == 0 {
		o.Wait = 500 * time.Millisecond
	}
	in, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func measured(t *testing.T, in *Instrument) measure.Result {
	t.Helper()
	start := time.Now()
	res := in.Measure(t.Context())
	if took := time.Since(start); took > Limit {
		t.Errorf("took %v, its limit is %v", took, Limit)
	}
	if err := res.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	return res
}

// want compares outcome and values with lines such as "odp_reachable 1" and
// "target_reachable server 0".
func want(t *testing.T, res measure.Result, lines ...string) {
	t.Helper()
	got := []string{strings.TrimSpace(fmt.Sprintf("%s %s", res.Outcome, res.Reason))}
	for _, v := range res.Values {
		target := string(v.Target)
		if target != "" {
			target += " "
		}
		got = append(got, fmt.Sprintf("%s %s%v", v.Metric, target, v.Number))
	}
	if g, w := strings.Join(got, ", "), strings.Join(lines, ", "); g != w {
		t.Errorf("got  %s (%s)\nwant %s", g, res.Detail, w)
	}
}

func TestWholeAndCut(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	v.server.Listen("tcp", "203.0.113.2:443")
	account := ledger.New(ledger.Options{})
	targets := []Target{byEcho, byTCP,
		{ID: "refuses", Host: "203.0.113.2", Port: 81},
		{ID: "nobody", Host: "203.0.113.77", Port: 443}, // an address that nobody has
	}
	in := open(t, Options{Targets: targets, Ledger: account, Wait: DefaultWait})
	res := measured(t, in)
	want(t, res, "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1",
		"target_reachable server 1", "target_reachable web 1", "target_reachable refuses 1", "target_reachable nobody 0",
		"odp_reachable 1")
	if in.hop.addr != netip.MustParseAddr("10.20.0.1") || in.hop.limit != 2 {
		t.Errorf("first hop %+v, want 10.20.0.1 at 2", in.hop)
	}
	if res.BytesSent == 0 || res.BytesReceived == 0 || res.BytesSent > 5000 {
		t.Errorf("cost %d sent, %d received", res.BytesSent, res.BytesReceived)
	}
	if rx, tx := account.Own(); rx != res.BytesReceived || tx != res.BytesSent {
		t.Errorf("ledger has %d, %d; the result %d, %d", rx, tx, res.BytesReceived, res.BytesSent)
	}

	// The line beyond the router is cut. A box that starts during the cut knows no
	// first hop.
	v.router.Down("wan0")
	in.opt.Targets = targets[:2]
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 0",
		"target_reachable server 0", "target_reachable web 0", "odp_reachable 0")
	want(t, measured(t, open(t, Options{Targets: targets[:1]})), "ok", "carrier_up 1", "lan_gateway_reachable 1",
		"target_reachable server 0", "odp_reachable 0")
}

func TestCableOut(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	other := nettest.New(t)
	v.here.Cable("usb0", other, "eth0") // alive, but not the way to the ONT
	in := open(t, Options{Targets: []Target{byEcho}, TraceTo: "203.0.113.2"})
	whole := []string{"ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1", "target_reachable server 1", "odp_reachable 1"}
	cut := []string{"ok", "carrier_up 0", "lan_gateway_reachable 0", "first_hop_reachable 0", "target_reachable server 0", "odp_reachable 0"}
	want(t, measured(t, in), whole...)

	v.router.Down("lan0") // the far end loses power: the cable is in, the carrier gone
	want(t, measured(t, in), cut...)

	v.router.Up("lan0")
	v.here.Down("eth0") // the default route goes too, and stays in memory
	want(t, measured(t, in), cut...)

	v.here.Up("eth0")
	v.here.Route("default", "192.168.1.1")
	want(t, measured(t, in), whole...)

	v.here.Unplug("eth0")
	want(t, measured(t, in), cut...)

	v.here.Unplug("usb0")
	// What starts without a cable has nothing but that to say.
	want(t, measured(t, open(t, Options{})), "ok", "carrier_up 0", "lan_gateway_reachable 0", "odp_reachable 0")
	want(t, measured(t, open(t, Options{Interface: "eth0", Targets: []Target{byTCP}})),
		"ok", "carrier_up 0", "lan_gateway_reachable 0", "target_reachable web 0", "odp_reachable 0")
}

// TestRefusedOnLAN: what refuses on this side of the ODP proves nothing.
func TestRefusedOnLAN(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	newVillage(t)
	in := open(t, Options{Targets: []Target{{ID: "ont", Host: "192.168.1.1", Port: 81}}})
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "target_reachable ont 0", "odp_reachable 0")
}

func TestGatewayThatFiltersICMP(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	v.router.Sysctl("ipv4/icmp_echo_ignore_all", "1")
	v.here.Sysctl("ipv4/neigh/eth0/base_reachable_time_ms", "1") // the kernel's own knowledge is never fresh
	in := open(t, Options{Targets: []Target{byEcho}, FirstHop: netip.MustParseAddr("10.20.0.1")})
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1",
		"target_reachable server 1", "odp_reachable 1")

	v.router.Down("wan0")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 0",
		"target_reachable server 0", "odp_reachable 0")
	w, err := findWay("", netip.Addr{}, way{})
	if err != nil {
		t.Fatal(err)
	}
	if rx, tx, a := w.arp(t.Context()); a != answered || rx.Count != 1 || tx.Count != 1 {
		t.Errorf("by ARP: answer %v, %+v received, %+v sent", a, rx, tx)
	}

	v.here.Sysctl("ipv4/neigh/eth0/base_reachable_time_ms", "30000")
	v.here.Down("eth0") // forgets its neighbours
	v.here.Up("eth0")
	v.here.Route("default", "192.168.1.1")
	measured(t, in) // a request makes the kernel ask
	if w, _ := findWay("", netip.Addr{}, way{}); !w.confirmed() {
		t.Error("the kernel has just heard the gateway, and is not asked")
	}

	// It is there, but says nothing at all: as good as gone.
	v.router.Sysctl("ipv4/conf/all/arp_ignore", "8")
	v.here.Down("eth0") // forgets its neighbours
	v.here.Up("eth0")
	v.here.Route("default", "192.168.1.1")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 0", "first_hop_reachable 0",
		"target_reachable server 0", "odp_reachable 0")
}

// TestSecondRouterInTheHouse has an ONT that routes, behind the village's router.
func TestSecondRouterInTheHouse(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	ont := nettest.New(t)
	v.router.Down("wan0")
	v.router.Cable("ont0", ont, "lan0")
	v.router.Address("ont0", "192.168.100.2/24")
	ont.Address("lan0", "192.168.100.1/24")
	v.router.Route("default", "192.168.100.1")
	ont.Cable("pon0", v.provider, "access1")
	ont.Address("pon0", "100.64.0.2/30")
	v.provider.Address("access1", "100.64.0.1/30")
	ont.Route("default", "100.64.0.1")
	ont.Route("192.168.1.0/24", "192.168.100.2")
	v.provider.Route("192.168.0.0/16", "100.64.0.2")
	ont.Forward()

	in := open(t, Options{TraceTo: "203.0.113.2"})
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1", "odp_reachable 1")
	if in.hop.addr != netip.MustParseAddr("100.64.0.1") || in.hop.limit != 3 {
		t.Errorf("first hop %+v, want the provider's 100.64.0.1 at 3, not the ONT", in.hop)
	}
	ont.Down("pon0")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 0", "odp_reachable 0")
}

func TestIPv6(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, router, provider := nettest.Here(t), nettest.New(t), nettest.New(t)
	here.Cable("eth0", router, "lan0")
	here.Address("eth0", "2001:db8:1::2/64")
	router.Address("lan0", "2001:db8:1::1/64")
	router.Cable("wan0", provider, "access0")
	router.Address("wan0", "2001:db8:2::2/64")
	provider.Address("access0", "2001:db8:2::1/64")
	provider.Address("lo", "2001:db8:3::1/128")
	here.Route("default", "2001:db8:1::1")
	router.Route("default", "2001:db8:2::1")
	provider.Route("2001:db8:1::/64", "2001:db8:2::2")
	router.Sysctl("ipv6/conf/all/forwarding", "1")
	in := open(t, Options{Targets: []Target{{ID: "six", Host: "2001:db8:3::1"}, {ID: "refuses", Host: "2001:db8:3::1", Port: 81}}})
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1",
		"target_reachable six 1", "target_reachable refuses 1", "odp_reachable 1")
	if in.hop.limit != 2 {
		t.Errorf("first hop %+v", in.hop)
	}
}

func TestNoPermission(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	v.server.Listen("tcp", "203.0.113.2:443")
	v.here.Sysctl("ipv4/ping_group_range", "1 0")
	nettest.Drop(t)

	want(t, measured(t, open(t, Options{Targets: []Target{byEcho}})), "failed permission")

	res := measured(t, open(t, Options{Targets: []Target{byEcho, byTCP}}))
	want(t, res, "ok", "carrier_up 1", "lan_gateway_reachable 1", "target_reachable web 1", "odp_reachable 1")
	if len(res.Flags) != 1 || res.Flags[0] != FlagNoICMP {
		t.Errorf("flags %v, want %s", res.Flags, FlagNoICMP)
	}
}

func TestNothingToAsk(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	want(t, measured(t, open(t, Options{})), "skipped no_target")
	v.router.Down("wan0")
	want(t, measured(t, open(t, Options{TraceTo: "203.0.113.2"})), "skipped no_target") // none was found
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, open(t, Options{Targets: []Target{byEcho}}).Measure(ctx), "failed cancelled")
}

// TestNames asks a target by its name, then has the name server answer with the
// router's address, as routers do that show a page of their own during a cut.
func TestNames(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	v := newVillage(t)
	v.server.Listen("tcp", "203.0.113.2:443")
	v.router.Listen("tcp", "192.168.1.1:443")
	server := nameServer(t)
	account := ledger.New(ledger.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(network, "udp") {
			addr = server.addr
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	named := []Target{{ID: "web", Host: "ukur.example", Port: 443}}
	in := open(t, Options{Targets: named, Ledger: account})
	server.answer <- netip.MustParseAddr("203.0.113.2")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1", "target_reachable web 1", "odp_reachable 1")

	<-server.answer
	server.answer <- netip.MustParseAddr("192.168.1.1")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 1", "target_reachable web 1", "odp_reachable 1")
	v.router.Down("wan0")
	want(t, measured(t, in), "ok", "carrier_up 1", "lan_gateway_reachable 1", "first_hop_reachable 0", "target_reachable web 0", "odp_reachable 0")
	want(t, measured(t, open(t, Options{Targets: named, Ledger: account})), "ok", "carrier_up 1", "lan_gateway_reachable 1", "target_reachable web 0", "odp_reachable 0")
}

type answering struct {
	addr   string
	answer chan netip.Addr // holds what every name stands for
}

// nameServer answers on loopback until the test ends.
func nameServer(t *testing.T) answering {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := answering{conn.LocalAddr().String(), make(chan netip.Addr, 1)}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 {
				continue
			}
			m.Response, m.Additionals = true, nil
			a := <-n.answer
			n.answer <- a
			if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1},
					Body: &dnsmessage.AResource{A: a.As4()}}}
			}
			if reply, err := m.Pack(); err == nil {
				conn.WriteTo(reply, from)
			}
		}
	}()
	return n
}

// TestHopIsGivenUp follows a found first hop through slots in which it is silent.
func TestHopIsGivenUp(t *testing.T) {
	in := open(t, Options{Targets: []Target{byEcho}})
	in.hop = hop{addr: netip.MustParseAddr("10.20.0.1"), limit: 2}
	slotOf := func(first, target answer) {
		in.learn(&slot{hop: in.hop, first: first, targets: []answer{target}})
	}
	for range 10 * hopPatience {
		slotOf(silent, silent)
	}
	if in.hop.limit != 2 {
		t.Fatal("given up during a cut")
	}
	slotOf(silent, answered)
	slotOf(silent, answered)
	slotOf(answered, answered)
	slotOf(silent, answered)
	slotOf(silent, answered)
	if in.hop.limit != 2 || in.hop.missed != 2 {
		t.Fatalf("%+v, want it kept: it answered in between", in.hop)
	}
	slotOf(silent, answered)
	if in.hop != (hop{}) || !in.slot().search {
		t.Errorf("%+v, search %v; want it given up and searched anew", in.hop, in.slot().search)
	}
}

func TestOptions(t *testing.T) {
	many := make([]Target, MaxTargets+1)
	for i := range many {
		many[i] = Target{ID: measure.TargetID(fmt.Sprint(i)), Host: "203.0.113.2"}
	}
	for name, c := range map[string]struct {
		targets []Target
		wait    time.Duration
		want    string
	}{
		"good":       {many[1:], 0, ""},
		"long wait":  {nil, time.Minute, "wait 1m0s"},
		"too many":   {many, 0, "at most 16"},
		"no id":      {[]Target{{Host: "a"}}, 0, `target 1 (""): an id`},
		"same id":    {[]Target{byEcho, byEcho}, 0, `target 2 ("server"): an id`},
		"no host":    {[]Target{{ID: "a"}}, 0, "host"},
		"a URL":      {[]Target{{ID: "a", Host: "https://a/"}}, 0, "host"},
		"wrong port": {[]Target{{ID: "a", Host: "a", Port: 65536}}, 0, "port 65536"},
	} {
		_, err := New(Options{Targets: c.targets, Wait: c.wait})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

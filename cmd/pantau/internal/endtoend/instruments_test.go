package endtoend

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/probe/instrument/snmp/snmpdtest"
)

// What the inventory and the box's own settings name is measured by a running
// probe and stands in the store: a resolver, a page, the path, the router's usage,
// the ONT's light.
func TestInstruments(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, strings.Replace(pace, "speed_mean: 30s", "speed_mean: 10m, rare: 30s", 1))
	if os.Geteuid() != 0 {
		t.Skip("the path needs raw sockets")
	}
	resolver, err := net.ListenPacket("udp", net.JoinHostPort(w.host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	go answer(resolver)
	_, port, _ := net.SplitHostPort(resolver.LocalAddr().String())
	w.write("inventory/targets.csv", strings.Join([]string{"target;method;address;port;url;question;latency;valid_from",
		"echo;icmp;" + w.host + ";;;;yes;2025-01-01", "server;speed;;;http://" + w.target + "/speedtest;;;2025-01-01",
		"page;http;;;http://" + w.target + "/speedtest/latency.txt;;;2025-01-01", "gone;http;;;http://" + w.target + "/gone;;;2025-01-01",
		"dns;dns;" + w.host + ";" + port + ";;*.ukur.example.id;;2025-01-01"}, "\n")+"\n")
	agent := snmpdtest.Start(t, []string{"1.3.6.1.2.1.31.1.1", "1.3.6.1.2.1.2.2", "1.3.6.1.4.1.14988.1.1.19"})
	object := func(oid, sort, value string) snmpdtest.Object {
		return snmpdtest.Object{OID: oid, Sort: sort, Value: value}
	}
	agent.Set(object("1.3.6.1.2.1.31.1.1.1.1.4", "string", "wan"), object("1.3.6.1.2.1.31.1.1.1.6.4", "counter64", "70000"),
		object("1.3.6.1.2.1.31.1.1.1.10.4", "counter64", "60000"), object("1.3.6.1.4.1.14988.1.1.19.1.1.2.1", "string", "sfp1"),
		object("1.3.6.1.4.1.14988.1.1.19.1.1.3.1", "integer", "0"), object("1.3.6.1.4.1.14988.1.1.19.1.1.10.1", "integer", "-21340"))
	w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	snmp := fmt.Sprintf("snmp: {address: %q, community: %s}", agent.Address, snmpdtest.Community)
	settings := w.write("site-1/house.yaml", fmt.Sprintf("state_dir: %q\nmetrics: {listen: \"\"}\nrouter: {interface: wan, %s}\nont: {preset: mikrotik, %s}\n",
		w.path("site-1/state"), snmp, snmp))
	start(t, w.path("site-1/log"), nil, "pantau-probe", "run", "--config", settings)

	// The first of the rare ones comes within a minute of the start.
	deadline := time.Now().Add(3 * time.Minute)
	value := func(selector string) (v float64) {
		t.Helper()
		for {
			if s := w.stored(selector); len(s) > 0 {
				return s[len(s)-1].v
			}
			if time.Now().After(deadline) {
				t.Fatalf("there is no %s\n%s\n%s", selector, tail(w.path("serve.log")), tail(w.path("site-1/log")))
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	if v := value(`pantau_dns_answer_seconds{target="dns",site="site-1",village="` + village + `"}`); v <= 0 || v > 5 {
		t.Errorf("answered after %v s", v)
	}
	if v := value(`pantau_http_first_byte_seconds{target="page",probe="box-1"}`); v <= 0 || v > 5 {
		t.Errorf("first byte after %v s", v)
	}
	if v := value(`pantau_result_total{kind="http",outcome="failed",reason="http_status"}`); v < 1 {
		t.Errorf("%v failures", v)
	}
	if s := w.stored(`pantau_http_first_byte_seconds{target="gone"}`); len(s) > 0 {
		t.Errorf("a page that is not there has a figure: %v", s)
	}
	if v := value(`pantau_path_reached{target="echo"}`); v != 1 {
		t.Errorf("the target was reached: %v", v)
	}
	if v := value(`pantau_path_hop_seconds{target="echo",hop="1"}`); v <= 0 || v > 1 {
		t.Errorf("the first hop is %v s away", v)
	}
	if v := value(`pantau_link_receive_bytes_total{probe="box-1"}`); v != 0 {
		t.Errorf("the totals begin at %v", v)
	}
	if v := value(`pantau_optical_receive_power_dbm{probe="box-1"}`); v != -21.34 {
		t.Errorf("light of %v dBm", v)
	}
}

// answer answers every question with an address of the world.
func answer(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response = true
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}}}}
		if p, err := m.Pack(); err == nil {
			conn.WriteTo(p, from)
		}
	}
}

package ingest

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPace(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := newPace[string](time.Second, 3, 10)
	took := func(k string) bool { _, ok := p.take(k, now); return ok }
	for i := range 3 {
		if !took("a") {
			t.Fatalf("the burst ends after %d", i)
		}
	}
	wait, ok := p.take("a", now)
	if ok || wait != time.Second {
		t.Fatalf("%v, wait %v", ok, wait)
	}
	if !took("b") {
		t.Fatal("one pays for another")
	}
	now = now.Add(wait)
	if _, ok := p.look("a", now); !ok || !took("a") || took("a") {
		t.Fatal("after the wait there is one, and one only")
	}
	now = now.Add(time.Hour)
	for i := range 3 {
		if !took("a") {
			t.Fatalf("rest does not restore the burst: %d", i)
		}
	}
	if took("a") {
		t.Fatal("rest makes the burst larger")
	}
}

func TestPaceIsBounded(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := newPace[int](time.Second, 2, 100)
	for k := range 100 {
		p.take(k+1, now)
	}
	// More share one allowance, and do not take others' away.
	got := 0
	for k := range 1000 {
		if _, ok := p.take(k+1000, now); ok {
			got++
		}
	}
	if got != 2 || len(p.next) > 101 {
		t.Fatalf("%d of the crowd got through, %d kept", got, len(p.next))
	}
	if _, ok := p.take(1, now); !ok {
		t.Fatal("the crowd took another's allowance")
	}
	// Who is whole again is forgotten.
	now = now.Add(time.Minute)
	if _, ok := p.take(5000, now); !ok || len(p.next) != 1 {
		t.Fatalf("%v, %d kept", ok, len(p.next))
	}
}

func TestSparse(t *testing.T) {
	var s sparse
	now := time.Unix(1_700_000_000, 0)
	if !s.due(now) || s.due(now.Add(59*time.Second)) || !s.due(now.Add(time.Minute)) {
		t.Fatal("not once a minute")
	}
}

func TestNetworkOfAnAddress(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7:1":                "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":       "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":           "fe80::/64",
	} {
		if got := network(addr); got != netip.MustParsePrefix(want) {
			t.Errorf("%s is in %v, want %s", addr, got, want)
		}
	}
	if network("@").IsValid() {
		t.Error("no address has a network")
	}
}

func FuzzControl(f *testing.F) {
	stamp := make([]byte, 32)
	binary.NativeEndian.PutUint64(stamp, 32)
	binary.NativeEndian.PutUint32(stamp[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(stamp[12:], unix.SO_TIMESTAMPNS)
	binary.NativeEndian.PutUint64(stamp[16:], 1_700_000_000)
	if c := parseControl(stamp); c.arrived.Unix() != 1_700_000_000 {
		f.Fatalf("%v", c.arrived)
	}
	f.Add(stamp)
	f.Add(unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte{127, 0, 0, 1}}))
	f.Add(unix.PktInfo6(&unix.Inet6Pktinfo{Ifindex: 3}))
	f.Fuzz(func(t *testing.T, oob []byte) { parseControl(oob) })
}

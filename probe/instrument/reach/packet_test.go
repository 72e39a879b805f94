package reach

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	// Time Exceeded that quotes an echo request to 203.0.113.2, id 0x1234, sequence
	// 0x0301: hop limit 3, second round.
	exceeded = "0b00000000000000" + quotedIP + quotedEcho
	quotedIP = "4500002d00004000010100000a140002cb007102"
	// type 8, code 0, checksum, id, sequence
	quotedEcho = "0800000012340301"
	reply      = "0000000012340301" + "7061"
)

func TestMatch(t *testing.T) {
	dst := netip.MustParseAddr("203.0.113.2")
	for _, c := range []struct {
		name    string
		message string
		id      int
		limit   int
		arrived bool
		ok      bool
	}{
		{"time exceeded", exceeded, 0x1234, 3, false, true},
		{"of another's request", exceeded, 0x1235, 0, false, false},
		{"arrived", reply, 0x1234, 3, true, true},
		{"another's echo", reply, 0x1235, 0, false, false},
		{"to another destination", "0b00000000000000" + "4500002d00004000010100000a140002cb007103" + quotedEcho, 0x1234, 0, false, false},
		{"of a datagram", "0b00000000000000" + "4500002d00004000011100000a140002cb007102" + quotedEcho, 0x1234, 0, false, false},
		{"of an echo reply", "0b00000000000000" + quotedIP + "0000000012340301", 0x1234, 0, false, false},
		{"quotes too little", "0b00000000000000" + quotedIP + "08000000", 0x1234, 0, false, false},
		{"header length beyond the end", "0b00000000000000" + "4f" + quotedIP[2:] + quotedEcho, 0x1234, 0, false, false},
		{"header length below a header", "0b00000000000000" + "41" + quotedIP[2:] + quotedEcho, 0x1234, 0, false, false},
		{"unreachable", "03" + exceeded[2:], 0x1234, 0, false, false},
		{"nothing", "", 0x1234, 0, false, false},
	} {
		limit, arrived, ok := match(unhex(t, c.message), dst, c.id)
		if limit != c.limit || arrived != c.arrived || ok != c.ok {
			t.Errorf("%s: %v, %v, %v; want %v, %v, %v", c.name, limit, arrived, ok, c.limit, c.arrived, c.ok)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(unhex(f, exceeded), true)
	f.Add(unhex(f, reply), true)
	f.Add(slices.Concat([]byte{3, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 60)), false)
	f.Fuzz(func(t *testing.T, b []byte, four bool) {
		dst := netip.MustParseAddr("2001:db8::1")
		if four {
			dst = netip.MustParseAddr("203.0.113.2")
		}
		limit, _, ok := match(b, dst, 0x1234)
		if !ok && limit != 0 || limit < 0 || limit > 255 {
			t.Errorf("limit %d, %v", limit, ok)
		}
	})
}

func TestARP(t *testing.T) {
	q := arpQuestion{hardware: unhex(t, "020000000001"), own: netip.MustParseAddr("192.168.1.2"), wanted: netip.MustParseAddr("192.168.1.1")}
	if got, want := hex.EncodeToString(q.packet()), "0001080006040001"+"020000000001"+"c0a80102"+"000000000000"+"c0a80101"; got != want {
		t.Errorf("asks %s\nwant %s", got, want)
	}
	const good = "0001080006040002" + "0200000000fe" + "c0a80101" + "020000000001" + "c0a80102"
	for name, c := range map[string]struct {
		packet string
		want   bool
	}{
		"answer":              {good, true},
		"answer with padding": {good + "000000000000000000000000000000000000", true},
		"another's address":   {good[:28] + "c0a80103" + good[36:], false},
		"to another box":      {good[:36] + "020000000009" + good[48:], false},
		"a request":           {"0001080006040001" + good[16:], false},
		"not of IPv4":         {"0001080106040002" + good[16:], false},
		"cut short":           {good[:50], false},
		"nothing":             {"", false},
	} {
		if got := q.answeredBy(unhex(t, c.packet)); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestBeyond(t *testing.T) {
	w := way{gateway: netip.MustParseAddr("10.0.0.1"), prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fe80::/64")}}
	for addr, want := range map[string]bool{
		"10.0.0.1": false, "10.0.0.77": false, "192.168.100.1": false, "169.254.1.1": false, "127.0.0.1": false, "fe80::1": false, "fd00::1": false,
		"10.0.1.1": true, "172.16.0.1": true, "100.64.0.1": true, "203.0.113.1": true, "2001:db8::1": true,
	} {
		if got := w.beyond(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

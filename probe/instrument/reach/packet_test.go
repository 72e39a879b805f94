package reach

import (
	"encoding/hex"
	"net/netip"
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

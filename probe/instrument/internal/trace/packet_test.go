package trace

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
		seq     int
		what    meaning
		ok      bool
	}{
		{"time exceeded", exceeded, 0x1234, 0x301, passed, true},
		{"of another's request", exceeded, 0x1235, 0, passed, false},
		{"arrived", reply, 0x1234, 0x301, arrived, true},
		{"another's echo", reply, 0x1235, 0, passed, false},
		{"to another destination", "0b00000000000000" + "4500002d00004000010100000a140002cb007103" + quotedEcho, 0x1234, 0, passed, false},
		{"of a datagram", "0b00000000000000" + "4500002d00004000011100000a140002cb007102" + quotedEcho, 0x1234, 0, passed, false},
		{"of an echo reply", "0b00000000000000" + quotedIP + "0000000012340301", 0x1234, 0, passed, false},
		{"quotes too little", "0b00000000000000" + quotedIP + "08000000", 0x1234, 0, passed, false},
		{"header length beyond the end", "0b00000000000000" + "4f" + quotedIP[2:] + quotedEcho, 0x1234, 0, passed, false},
		{"header length below a header", "0b00000000000000" + "41" + quotedIP[2:] + quotedEcho, 0x1234, 0, passed, false},
		{"unreachable", "03" + exceeded[2:], 0x1234, 0x301, refused, true},
		{"nothing", "", 0x1234, 0, passed, false},
	} {
		seq, what, ok := match(unhex(t, c.message), dst, c.id)
		if seq != c.seq || what != c.what || ok != c.ok {
			t.Errorf("%s: %v, %v, %v; want %v, %v, %v", c.name, seq, what, ok, c.seq, c.what, c.ok)
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
		seq, _, ok := match(b, dst, 0x1234)
		if !ok && seq != 0 || seq < 0 || seq > 0xffff {
			t.Errorf("sequence number %d, %v", seq, ok)
		}
	})
}

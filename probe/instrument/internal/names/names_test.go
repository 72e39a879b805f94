package names

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestHome(t *testing.T) {
	for addr, want := range map[string]bool{
		"192.168.1.1": true, "127.0.0.53": true, "169.254.1.1": true, "0.0.0.0": true, "::": true, "::1": true, "fe80::1%eth0": true,
		"fd00::1": true, "::ffff:192.168.1.1": true,
		"10.0.0.1": false, "172.16.0.1": false, "100.64.0.1": false, "203.0.113.1": false, "2001:db8::1": false, "192.169.0.1": false,
	} {
		if got := Home(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

func TestLookup(t *testing.T) {
	none := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nobody is asked") }
	for _, addr := range []string{"192.168.1.1", "2001:db8::1"} { // an address may be anything
		if got, err := Lookup(t.Context(), none, addr, time.Second); err != nil || len(got) != 1 || got[0].String() != addr {
			t.Errorf("%v, %v", got, err)
		}
	}
	if got, err := Lookup(t.Context(), none, "localhost", time.Second); !errors.Is(err, ErrHome) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Lookup(t.Context(), none, "www.example.id", time.Second); err == nil || errors.Is(err, ErrHome) {
		t.Errorf("%v, %v", got, err)
	}
}

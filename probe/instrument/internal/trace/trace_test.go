package trace

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
)

func collect(t *testing.T, tr Trace) (answers []Answer, r Report) {
	t.Helper()
	tr.Tries, tr.Spacing, tr.Wait = 2, 100*time.Millisecond, time.Second
	tr.Heard = func(a Answer) bool { answers = append(answers, a); return false }
	r, err := tr.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for _, a := range answers {
		if seen[a.Limit] || a.RoundTrip <= 0 || a.RoundTrip > time.Second {
			t.Errorf("answer %+v", a)
		}
		seen[a.Limit] = true
	}
	return answers, r
}

func at(answers []Answer, limit int) (addr string, arrived bool) {
	for _, a := range answers {
		if a.Limit == limit {
			return a.Address.String(), a.Arrived
		}
	}
	return "", false
}

func TestWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	for name, c := range map[string]struct {
		prefixes []string
		to       string
		want     []string // by limit, from 1
	}{
		"IPv4": {[]string{"192.168.1.0/24", "10.20.0.0/24", "203.0.113.0/24"}, "203.0.113.2", []string{"192.168.1.2", "10.20.0.2", "203.0.113.2"}},
		"IPv6": {[]string{"2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:3::/64"}, "2001:db8:3::2", []string{"2001:db8:1::2", "2001:db8:2::2", "2001:db8:3::2"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, routers := nettest.Row(t, c.prefixes...)
			to := netip.MustParseAddr(c.to)
			answers, r := collect(t, Trace{To: to, Limits: []int{1, 2, 3, 4, 5}})
			for i, want := range c.want {
				addr, arrived := at(answers, i+1)
				if addr != want || arrived != (i == len(c.want)-1) {
					t.Errorf("at %d: %q, arrived %v; want %s", i+1, addr, arrived, want)
				}
			}
			// A round has five requests; the next one asks nobody who answered.
			if r.Transmitted.Count < 3 || r.Transmitted.Count > 5 || r.Received.Count < 3 {
				t.Errorf("%d requests, %d answers", r.Transmitted.Count, r.Received.Count)
			}

			// Cut behind the first router: it says so (unreachable), or nothing. Either is
			// no hop. The first one still is.
			routers[1].Down("up")
			answers, r = collect(t, Trace{To: to, Limits: []int{1, 2, 3}})
			if addr, _ := at(answers, 1); addr != c.want[0] || len(answers) != 1 {
				t.Errorf("in a cut: %+v", answers)
			}
			if r.Transmitted.Count != 5 {
				t.Errorf("in a cut: %d requests, want 3 and then 2", r.Transmitted.Count)
			}
			nettest.Here(t).Unplug("down")
		})
	}
}

func TestEnough(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	nettest.Row(t, "192.168.1.0/24", "203.0.113.0/24")
	begun := time.Now()
	n := 0
	_, err := Trace{To: netip.MustParseAddr("203.0.113.77"), Limits: []int{1, 2}, Tries: 3, Spacing: time.Second, Wait: 20 * time.Second,
		Heard: func(Answer) bool { n++; return true }}.Run(t.Context())
	if err != nil || n != 1 || time.Since(begun) > 10*time.Second {
		t.Errorf("%v, %d answers, after %v", err, n, time.Since(begun))
	}
}

func TestNoWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	r, err := Trace{To: netip.MustParseAddr("203.0.113.77"), Limits: []int{1}, Tries: 1, Wait: 200 * time.Millisecond}.Run(t.Context())
	if err != nil || r.SendError == nil || r.Transmitted.Count != 0 {
		t.Errorf("%v, %+v", err, r)
	}
	nettest.Drop(t)
	if _, err := (Trace{To: netip.MustParseAddr("203.0.113.77"), Limits: []int{1}, Tries: 1}).Run(t.Context()); err == nil {
		t.Error("a raw socket without permission")
	}
}

package path

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

func networks(n int) (prefixes []string) {
	for i := range n {
		prefixes = append(prefixes, fmt.Sprintf("10.20.%d.0/24", i))
	}
	return prefixes
}

func measured(t *testing.T, o Options) measure.Result {
	t.Helper()
	o.Target = "ukur-1"
	if o.Wait == 0 {
		o.Wait = 500 * time.Millisecond
	}
	r := New(o).Measure(t.Context())
	if err := r.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	return r
}

func listed(r measure.Result) string {
	var s []string
	for _, h := range r.Hops {
		s = append(s, fmt.Sprintf("%d %v", h.Limit, h.Address))
	}
	return strings.Join(s, ", ")
}

// Twelve hops, so that one stretch does not do.
func TestTheWholeWayAndHalfOfIt(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	const hops = 12
	prefixes := networks(hops)
	_, routers := nettest.Row(t, prefixes...)
	var want []string
	for i := range hops {
		want = append(want, fmt.Sprintf("%d 10.20.%d.2", i+1, i))
	}
	target := fmt.Sprintf("10.20.%d.2", hops-1)
	account := ledger.New(ledger.Options{})
	r := measured(t, Options{Host: target, Ledger: account})
	reached, _ := r.Value(measure.PathReached)
	n, _ := r.Value(measure.PathHops)
	if r.Outcome != measure.OK || reached != 1 || n != hops || listed(r) != strings.Join(want, ", ") || r.Target != "ukur-1" {
		t.Errorf("%s/%s %v %s", r.Outcome, r.Reason, r.Values, listed(r))
	}
	if rx, tx := account.Own(); rx != r.BytesReceived || tx != r.BytesSent || tx < hops*59 || tx > 3000 {
		t.Errorf("ledger has %d and %d bytes, the result %d and %d", rx, tx, r.BytesReceived, r.BytesSent)
	}

	// One router says nothing, and lets everything pass.
	routers[3].Sysctl("ipv4/icmp_ratelimit", "100000")
	routers[3].Sysctl("ipv4/icmp_ratemask", "2048") // time exceeded
	routers[3].Sysctl("ipv4/icmp_msgs_per_sec", "0")
	r = measured(t, Options{Host: target})
	if !slices.ContainsFunc(r.Hops, func(h measure.Hop) bool { return h.Limit == 5 }) {
		t.Errorf("beyond a silent hop: %s", listed(r))
	}

	routers[8].Down("down")
	r = measured(t, Options{Host: target})
	if _, ok := r.Value(measure.PathHops); ok || r.Outcome != measure.OK || len(r.Hops) == 0 || r.Hops[len(r.Hops)-1].Limit != 9 {
		t.Errorf("%s/%s %v %s", r.Outcome, r.Reason, r.Values, listed(r))
	}
	if reached, ok := r.Value(measure.PathReached); !ok || reached != 0 {
		t.Errorf("reached %v, %v", reached, ok)
	}

	// The village's own router is switched off.
	nettest.Here(t).Down("down")
	nettest.Here(t).Up("down")
	nettest.Here(t).Route("default", "10.20.0.2")
	routers[0].Down("up")
	if r = measured(t, Options{Host: target}); r.Reason != measure.ReasonUnreachable {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, listed(r))
	}
}

func TestNotMeasured(t *testing.T) {
	if r := measured(t, Options{}); r.Outcome != measure.Skipped || r.Reason != measure.ReasonNoTarget {
		t.Errorf("%s/%s", r.Outcome, r.Reason)
	}
	if r := measured(t, Options{Host: "localhost"}); r.Reason != measure.ReasonRedirect {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := New(Options{Host: "192.0.2.1"}).Measure(ctx); r.Reason != measure.ReasonCancelled {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
	}
}

func TestNoWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	if r := measured(t, Options{Host: "192.0.2.1"}); r.Reason != measure.ReasonUnreachable || !strings.Contains(r.Detail, "could be sent") {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
	}
	if r := measured(t, Options{Host: "ukur.example.id"}); r.Reason != measure.ReasonDNS {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
	}
	nettest.Drop(t)
	if r := measured(t, Options{Host: "127.0.0.1"}); r.Reason != measure.ReasonPermission || !strings.Contains(r.Detail, "CAP_NET_RAW") {
		t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	nettest.Row(t, networks(2)...)
	in := New(Options{Host: "10.20.1.2", Wait: 500 * time.Millisecond})
	nettest.Steady(t, 300, func() {
		if r := in.Measure(t.Context()); r.Outcome != measure.OK {
			t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
		}
	})
}

package reference_test

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
	"github.com/pantau-desa/pantau/probe/target"
)

// village is a probe and a server, joined by a router that shapes both ways.
func village(t *testing.T, down, up float64) (probe, server *netlab.Node, line *netlab.Link) {
	t.Helper()
	lab, err := netlab.New(netlab.Options{Name: "speed-test"})
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	olt, err := lab.Node("olt")
	must(err)
	must(olt.Forward(true))
	join := func(name, subnet string, rate float64) (*netlab.Node, *netlab.Link) {
		n, err := lab.Node(name)
		must(err)
		k, err := lab.Link(olt, n, netlab.LinkOptions{NameA: "to" + name, NameB: "eth0", RateAB: rate,
			AddrA: netip.MustParsePrefix(subnet + ".1/30"), AddrB: netip.MustParsePrefix(subnet + ".2/30")})
		must(err)
		must(n.Route(netip.MustParsePrefix("0.0.0.0/0"), k.A.Addr.Addr(), "cubic"))
		return n, k
	}
	probe, line = join("probe", "198.18.1", down)
	server, _ = join("server", "198.18.2", up)
	return probe, server, line
}

// Klaten's published averages, through real queues: within 3% of the payload
// that the shaped link carries.
func TestExactOnShapedLine(t *testing.T) {
	if testing.Short() {
		t.Skip("two transfers in real time")
	}
	t.Parallel()
	const down, up = 38.16e6, 19.03e6
	probe, server, _ := village(t, down, up)
	ln, err := server.Listen("tcp", "198.18.2.2:7442")
	if err != nil {
		t.Fatal(err)
	}
	url := servertest.Target(t, target.Options{Listeners: []net.Listener{ln}})
	i := newInstrument(t, reference.Options{Duration: 6 * time.Second, Ledger: ledger.New(ledger.Options{Dial: probe.DialContext})})
	for kind, rate := range map[measure.Kind]float64{measure.KindDownload: down, measure.KindUpload: up} {
		truth := netlab.PayloadRate(rate)
		var r measure.Result
		// A machine that is busy with other tests keeps the shaper itself waiting: a
		// wrong way of counting fails every time, a busy moment does not.
		for range 4 {
			r = i.Measure(t.Context(), "t1", url, kind)
			if len(r.Values) == 1 && math.Abs(r.Values[0].Number/truth-1) <= 0.03 {
				break
			}
		}
		check(t, r, kind, truth, 0.03)
	}
}

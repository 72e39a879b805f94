package netlab_test

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/netlab"
)

// emulated is a - wire - b with a at 198.18.0.1, b at 198.18.0.2, and an
// emulated link in the middle.
func emulated(t *testing.T, lab *netlab.Lab, o netlab.EmulatorOptions) (a, b *netlab.Node, e *netlab.Emulator) {
	t.Helper()
	wire := node(t, lab, "wire")
	a, b = node(t, lab, "a"), node(t, lab, "b")
	left, err := lab.Link(wire, a, netlab.LinkOptions{NameA: "toa", NameB: "eth0", AddrB: netip.MustParsePrefix("198.18.0.1/24")})
	must(t, err)
	right, err := lab.Link(wire, b, netlab.LinkOptions{NameA: "tob", NameB: "eth0", AddrB: netip.MustParsePrefix("198.18.0.2/24")})
	must(t, err)
	e, err = lab.Emulate(left.A, right.A, o)
	must(t, err)
	return a, b, e
}

// TCP through the emulator carries what a shaped link does, whatever is lost
// before its bottleneck.
func TestEmulatorCarriesPayloadRate(t *testing.T) {
	const rate = 10e6
	for _, loss := range []float64{0, 0.001} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			path := netlab.Path{Rate: rate, Delay: 10 * time.Millisecond, Loss: loss}
			a, b, e := emulated(t, open(t, "netlab-test"), netlab.EmulatorOptions{AB: path, BA: path})
			off := deviation(t, rate, 0.03, 3*time.Second, func() (sender, receiver net.Conn) { return connect(t, a, b, "198.18.0.2") })
			r := e.Report()
			t.Logf("%+.2f%%; %+v", off*100, r)
			if err := r.Sound(); err != nil {
				t.Log("this machine is busy: ", err)
			} else if math.Abs(off) > 0.03 {
				t.Errorf("off by %+.2f%%", off*100)
			}
			if r.AB.Passed < 1000 || (r.AB.Lost > 0) != (loss > 0) || r.AB.Missed > 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestEmulatorDelays(t *testing.T) {
	path := netlab.Path{Delay: 30 * time.Millisecond}
	a, b, _ := emulated(t, open(t, "netlab-test"), netlab.EmulatorOptions{AB: path, BA: path})
	dialled, accepted := connect(t, a, b, "198.18.0.2")
	go io.Copy(accepted, accepted)
	var rtts []time.Duration
	for range 20 {
		start := time.Now()
		_, err := dialled.Write([]byte{1})
		must(t, err)
		_, err = io.ReadFull(dialled, make([]byte, 1))
		must(t, err)
		rtts = append(rtts, time.Since(start))
	}
	slices.Sort(rtts)
	if rtts[0] < 59*time.Millisecond || rtts[0] > 65*time.Millisecond {
		t.Errorf("round trips from %v to %v, want 60 ms", rtts[0], rtts[len(rtts)-1])
	}
}

func TestEmulatorRefusesWrongPorts(t *testing.T) {
	lab := open(t, "netlab-test")
	_, _, link := pair(t, lab, netlab.LinkOptions{})
	for _, p := range [][2]*netlab.Port{{link.A, link.A}, {link.A, link.B}} {
		if _, err := lab.Emulate(p[0], p[1], netlab.EmulatorOptions{}); err == nil {
			t.Errorf("joins %s and %s", p[0].Name, p[1].Name)
		}
	}
}

func TestEmulatorEndsWithTheLab(t *testing.T) {
	lab := open(t, "netlab-test")
	_, _, e := emulated(t, lab, netlab.EmulatorOptions{})
	must(t, lab.Close())
	must(t, e.Close())
	if _, err := lab.Emulate(&netlab.Port{}, &netlab.Port{}, netlab.EmulatorOptions{}); err == nil {
		t.Error("a closed lab emulates")
	}
}

package incident

import (
	"math"
	"testing"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

func TestConclude(t *testing.T) {
	yes, no, never := Answers{30, 30}, Answers{30, 0}, Answers{}
	alone := Where{Type: inventory.NodeODP, Alone: true}
	odc := Where{Type: inventory.NodeODC}
	// ran is a probe that measured on with its LAN, and reached nothing beyond.
	ran := func(edit func(*Record)) Record {
		r := Record{SameBoot: wire.Yes, Measured: yes, Carrier: yes, LANGateway: yes, FirstHop: no, Beyond: no}
		if edit != nil {
			edit(&r)
		}
		return r
	}
	for _, c := range []struct {
		name   string
		record Record
		where  Where
		want   Cause
	}{
		{"unbroken, LAN answered, nothing beyond: the node's cable", ran(nil), odc, CauseODPOrFeeder},
		{"... a lone site", ran(nil), alone, CauseDropCable},
		{"... a sibling on the ODP works", ran(nil), Where{Type: inventory.NodeODP, Drop: true}, CauseDropCable},
		{"... an ODP with several", ran(nil), Where{Type: inventory.NodeODP}, CauseODPOrFeeder},
		{"... a PON port", ran(nil), Where{Type: inventory.NodePON}, CauseODPOrFeeder},
		{"... an OLT", ran(nil), Where{Type: inventory.NodeOLT}, CauseOLT},
		{"... a BNG", ran(nil), Where{Type: inventory.NodeBNG}, CauseUpstream},
		{"... one site alone on an OLT", ran(nil), Where{Type: inventory.NodeOLT, Alone: true}, CauseUnknown},
		{"... mobile", ran(nil), Where{Alone: true}, CauseUpstream},
		{"... and no first hop is known, targets did not answer", ran(func(r *Record) { r.FirstHop = never }), odc, CauseODPOrFeeder},
		{"the first hop answered", ran(func(r *Record) { r.FirstHop = yes }), odc, CauseUpstream},
		{"the OLT answered", ran(func(r *Record) { r.FirstHop, r.OLT = never, yes }), odc, CauseUpstream},
		{"optical loss, siblings fine", ran(func(r *Record) { r.OpticalLoss = wire.Yes }), alone, CauseDropCable},
		{"optical loss of several", ran(func(r *Record) { r.OpticalLoss = wire.Yes }), odc, CauseODPOrFeeder},
		{"carrier lost while it ran on", ran(func(r *Record) { r.Carrier, r.LANGateway = no, no }), alone, CausePremises},
		{"carrier lost, even of several", ran(func(r *Record) { r.Carrier, r.LANGateway = no, no }), odc, CausePremises},
		{"the gateway did not answer", ran(func(r *Record) { r.LANGateway = no }), odc, CausePremises},
		{"new boot and a gap", Record{SameBoot: wire.No, Measured: no}, odc, CausePower},
		{"... of which a few slots were measured", Record{SameBoot: wire.No, Measured: Answers{30, 10}}, odc, CausePower},
		{"... after an orderly shutdown", Record{SameBoot: wire.No, Orderly: wire.Yes, Measured: no}, odc, CauseProbe},
		{"dying gasp", Record{DyingGasp: wire.Yes}, odc, CausePower},
		{"same boot and a gap: the program did not run", Record{SameBoot: wire.Yes, Measured: no}, odc, CauseProbe},
		{"internet fine, only we were not reached", ran(func(r *Record) { r.FirstHop, r.Beyond = yes, yes }), odc, CauseCollector},
		{"nothing was asked beyond", ran(func(r *Record) { r.FirstHop, r.Beyond = never, never }), odc, CauseUnknown},
		{"nobody asked the gateway", ran(func(r *Record) { r.LANGateway = never }), odc, CauseUnknown},
		{"boot not known", ran(func(r *Record) { r.SameBoot = wire.Unknown }), odc, CauseUnknown},
		{"new boot, yet measured on", ran(func(r *Record) { r.SameBoot = wire.No }), odc, CauseUnknown},
		{"two thirds measured", ran(func(r *Record) { r.Measured = Answers{30, 20} }), odc, CauseUnknown},
		{"two slots lost at the ends of a short cut", ran(func(r *Record) { r.Measured = Answers{4, 3} }), odc, CauseODPOrFeeder},
		{"no record at all", Record{}, odc, CauseUnknown},
		{"no slot in the cut", Record{SameBoot: wire.No}, odc, CauseUnknown},
	} {
		if got := Conclude(c.record, c.where); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Power, the premises, the probe and we ourselves are never charged to a
// provider, whatever else a record says.
func TestConcludeNeverChargesTheProviderWithoutProof(t *testing.T) {
	levels := []Answers{{}, {10, 0}, {10, 10}}
	tris := []wire.Tri{wire.Unknown, wire.No, wire.Yes}
	wheres := []Where{{}, {Alone: true}, {Type: inventory.NodeODP, Alone: true}, {Type: inventory.NodeODC}, {Type: inventory.NodeOLT}, {Type: inventory.NodePOP}}
	charged := 0
	for n := range 3 * 3 * 3 * 3 * 3 * 3 * 3 * len(wheres) {
		pick := func(of int) int { k := n % of; n /= of; return k }
		r := Record{SameBoot: tris[pick(3)], Measured: levels[pick(3)], Carrier: levels[pick(3)], LANGateway: levels[pick(3)],
			FirstHop: levels[pick(3)], Beyond: levels[pick(3)], OpticalLoss: tris[pick(3)]}
		got := Conclude(r, wheres[pick(len(wheres))])
		if !got.Provider() {
			continue
		}
		charged++
		if r.SameBoot != wire.Yes || r.Measured.tri() != wire.Yes || r.Carrier.tri() == wire.No || r.Beyond.tri() == wire.Yes {
			t.Fatalf("%s for %+v", got, r)
		}
	}
	if charged == 0 {
		t.Error("nothing is ever charged")
	}
}

func TestVerdictIsWhatMostRecordsTell(t *testing.T) {
	for _, c := range []struct {
		name  string
		tells []Cause // of each site; "": no record
		want  Cause
		all   bool
		ok    bool
	}{
		{"none", []Cause{"", ""}, "", false, false},
		{"one of three", []Cause{CausePower, "", ""}, "", false, false},
		{"half", []Cause{CausePower, ""}, CausePower, false, true},
		{"all", []Cause{CausePower, CausePower}, CausePower, true, true},
		{"most", []Cause{CauseODPOrFeeder, CauseODPOrFeeder, CausePower}, CauseODPOrFeeder, true, true},
		{"no majority", []Cause{CauseODPOrFeeder, CausePower}, CauseUnknown, true, true},
	} {
		i := Incident{Kind: Outage}
		for _, cause := range c.tells {
			s := Site{Cause: cause}
			if cause != "" {
				s.Record = &Record{}
			}
			i.Sites = append(i.Sites, s)
		}
		got, all, ok := i.verdict()
		if got != c.want || all != c.all || ok != c.ok {
			t.Errorf("%s: %q %v %v, want %q %v %v", c.name, got, all, ok, c.want, c.all, c.ok)
		}
	}
}

func TestChance(t *testing.T) {
	const u = unavailable
	for _, c := range []struct {
		n, k int
		want float64
	}{
		{1, 1, u},
		{2, 2, u * u},
		{3, 3, u * u * u},
		{4, 3, 4*u*u*u*(1-u) + u*u*u*u},
		{5, 0, 1},
	} {
		if got := chance(c.n, c.k); math.Abs(got/c.want-1) > 1e-9 {
			t.Errorf("%d of %d: %g, want %g", c.k, c.n, got, c.want)
		}
	}
	for _, c := range []struct {
		n, k  int
		named bool
	}{{1, 1, false}, {2, 2, false}, {3, 2, false}, {3, 3, true}, {4, 3, true}, {5, 3, true}, {16, 3, false}, {401, 5, false}, {50000, 30000, true}} {
		if got := chance(c.n, c.k) < chanceLimit; got != c.named {
			t.Errorf("%d of %d: %g", c.k, c.n, chance(c.n, c.k))
		}
	}
}

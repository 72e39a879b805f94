package incident

import "github.com/pantau-desa/pantau/probe/wire"

// Testimony counts the sites of an incident by what their probes' records tell of
// the cut. A site may count in several.
type Testimony struct {
	Sites       int // of the incident, but those that were withdrawn without a record
	Records     int // that have one
	MeasuredOn  int // the same boot, and measurements all through
	Rebooted    int // another boot, a gap before, no orderly shutdown
	CarrierLost int // no carrier to the ONT while it measured
	GatewayOnly int // the LAN gateway answered, nothing beyond the provider did
	FirstHop    int // the first hop or an OLT answered, nothing beyond the provider did
	BeyondWell  int // all was well but the way to us
	OpticalLost int
	DyingGasp   int
}

// Testimony says what the records tell that are here.
func (i *Incident) Testimony() Testimony {
	var t Testimony
	is := func(b bool, n *int) {
		if b {
			*n++
		}
	}
	for _, s := range i.Sites {
		if s.Record == nil {
			is(!s.Withdrawn, &t.Sites)
			continue
		}
		r := *s.Record
		on := r.SameBoot == wire.Yes && r.unbroken()
		lan, hop, olt, beyond := r.LANGateway.tri(), r.FirstHop.tri(), r.OLT.tri(), r.Beyond.tri()
		t.Sites++
		t.Records++
		is(on, &t.MeasuredOn)
		is(r.broken() && r.SameBoot == wire.No && r.Orderly != wire.Yes, &t.Rebooted)
		is(on && r.Carrier.tri() == wire.No, &t.CarrierLost)
		is(on && lan == wire.Yes && beyond == wire.No && hop != wire.Yes && olt != wire.Yes, &t.GatewayOnly)
		is(on && beyond == wire.No && (hop == wire.Yes || olt == wire.Yes), &t.FirstHop)
		is(on && beyond == wire.Yes, &t.BeyondWell)
		is(r.OpticalLoss == wire.Yes, &t.OpticalLost)
		is(r.DyingGasp == wire.Yes, &t.DyingGasp)
	}
	return t
}

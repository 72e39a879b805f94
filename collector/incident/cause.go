package incident

import (
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Answers counts how something behaved over a stretch of time: how often it was
// asked, in slots, and in how many of them it answered.
type Answers struct {
	Asked    int `json:"asked"`
	Answered int `json:"answered"`
}

// tri is whether it answered most of the time; unknown if it was never asked.
func (a Answers) tri() wire.Tri {
	if a.Asked <= 0 {
		return wire.Unknown
	}
	return wire.TriOf(2*a.Answered > a.Asked)
}

// Record is what a site's probe kept of a cut while nobody heard it.
type Record struct {
	// From and To bound the cut: the last heartbeat before it and the first after.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// SameBoot: the boot id after is that from before, so that the monotonic clock
	// spans the cut.
	SameBoot wire.Tri `json:"same_boot"`
	// Orderly: the probe recorded a shutdown or an update of its own.
	Orderly wire.Tri `json:"orderly"`
	// Measured counts the slots of the cut (Asked) and those that have a reach
	// result of any outcome but skipped (Answered).
	Measured Answers `json:"measured"`
	// What the reach results within the cut saw.
	Carrier    Answers `json:"carrier"`
	LANGateway Answers `json:"lan_gateway"`
	FirstHop   Answers `json:"first_hop"`
	OLT        Answers `json:"olt"`    // targets that stand on the OLT or above it, within the provider's network
	Beyond     Answers `json:"beyond"` // targets beyond the provider's network
	// OpticalLoss: the ONT reported loss of signal.
	OpticalLoss wire.Tri `json:"optical_loss"`
	// DyingGasp: the OLT heard the ONT's last message on losing power, by an
	// operator's feed.
	DyingGasp wire.Tri `json:"dying_gasp"`
}

// unbroken and broken say how much of a cut has measurements: all but a little,
// or at most half. In between, nothing follows. Two slots may be lost at the ends.
func (r Record) unbroken() bool {
	return r.Measured.Asked > 0 && 10*(r.Measured.Answered+2) >= 8*r.Measured.Asked && 2*r.Measured.Answered > r.Measured.Asked
}

func (r Record) broken() bool {
	return r.Measured.Asked > 0 && 2*r.Measured.Answered <= r.Measured.Asked
}

// Where is what a cause must know of the place.
type Where struct {
	Type  inventory.NodeType // of the node; empty: none is known
	Alone bool               // no other site fell with it
	Drop  bool               // another site on the same node works
}

// Conclude says what the record of one site tells. The provider is charged only
// where the probe ran, measured, had its LAN, and reached nothing beyond.
func Conclude(r Record, w Where) Cause {
	switch {
	case r.DyingGasp == wire.Yes:
		return CausePower
	case r.SameBoot == wire.Unknown:
		return CauseUnknown
	case r.broken() && r.SameBoot == wire.No && r.Orderly != wire.Yes:
		return CausePower
	case r.broken():
		return CauseProbe // it was shut down in order, or the box ran on without it
	case r.SameBoot == wire.No || !r.unbroken():
		return CauseUnknown
	}
	lan, hop, olt, beyond := r.LANGateway.tri(), r.FirstHop.tri(), r.OLT.tri(), r.Beyond.tri()
	switch {
	case r.Carrier.tri() == wire.No:
		return CausePremises
	case beyond == wire.Yes:
		return CauseCollector
	case r.OpticalLoss == wire.Yes && w.Alone:
		return CauseDropCable
	case r.OpticalLoss == wire.Yes:
		return CauseODPOrFeeder
	case hop == wire.Yes || olt == wire.Yes:
		return CauseUpstream
	case lan == wire.No:
		return CausePremises
	case lan == wire.Yes && (hop == wire.No || olt == wire.No || beyond == wire.No):
		return w.network()
	}
	return CauseUnknown
}

// network is the cause for a place in the provider's network. A lone site on an
// ODP is its drop cable more often than anything above; that nothing separates
// the two, [Place.Separable] says.
func (w Where) network() Cause {
	switch w.Type {
	case inventory.NodeODP:
		if w.Alone || w.Drop {
			return CauseDropCable
		}
		return CauseODPOrFeeder
	case inventory.NodeODC, inventory.NodePON:
		return CauseODPOrFeeder
	case inventory.NodeOLT:
		if w.Alone {
			return CauseUnknown // anything from the OLT down to the ONT
		}
		return CauseOLT
	}
	if w.Alone && w.Type != "" {
		return CauseUnknown
	}
	return CauseUpstream // POP, BNG, or a mobile or satellite provider
}

// signs is what is known of an incident when it opens.
type signs struct {
	kind  Kind
	where Where
	sites int
	// Of the sites' last heartbeats, how many had ...
	carrierLost, lanLost, hopAnswered, ailing int
	otherNetworks                             int // sites on other networks in the same districts that fell too
}

// guess is the suspected cause (dugaan). For a lone site without any sign it is
// power, by far the commonest cause of one, which also accuses nobody.
func (s signs) guess() Cause {
	most := func(n int) bool { return 2*n > s.sites }
	switch {
	case s.kind == Ours:
		return CauseCollector
	case s.kind == Quality:
		return CauseTarget
	case most(s.carrierLost), most(s.lanLost):
		return CausePremises
	case most(s.hopAnswered):
		return CauseUpstream
	case s.otherNetworks > 0:
		return CausePower
	case s.where.Alone && s.ailing > 0:
		return CauseProbe
	case s.where.Alone:
		return CausePower
	}
	return s.where.network()
}

// verdict is the cause of an incident from the records that are here: what more
// than half of them tell. ok is false while less than half of the sites have one.
func (i *Incident) verdict() (c Cause, all, ok bool) {
	if i.Kind == Ours {
		return CauseCollector, true, true
	}
	have, due := 0, 0
	count := map[Cause]int{}
	for _, s := range i.Sites {
		switch {
		case s.Record != nil:
			have++
			count[s.Cause]++
		case s.Withdrawn:
			continue
		}
		due++
	}
	if have == 0 || 2*have < due {
		return "", false, false
	}
	for c, n := range count {
		if 2*n > have {
			return c, have == due, true
		}
	}
	return CauseUnknown, have == due, true
}

// where describes its place to a cause.
func (i *Incident) where() Where {
	return Where{Type: i.Place.Type, Alone: !i.Group(), Drop: i.Place.Drop}
}

// conclude judges every record again: the place may have moved.
func (i *Incident) conclude() {
	w := i.where()
	for k := range i.Sites {
		if r := i.Sites[k].Record; r != nil {
			i.Sites[k].Cause = Conclude(*r, w)
		}
	}
}

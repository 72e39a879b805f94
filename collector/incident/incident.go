// Package incident turns the silence of sites into incidents: one for each thing
// that broke, at the lowest point of the network that explains it, with a first
// guess of the cause and, once the probes' own records are here, the cause.
//
// It guarantees:
//
//   - One incident for sites that fell together, however many they are; its
//     events (opened, widened, recovered, ...) are on stable storage before anyone
//     is told of them, and are the same after any crash.
//   - Where the evidence ends the verdict says so: "at or below", not separable
//     further. Power and our own failures are never charged to a provider.
//   - Nothing opens in the first 170 s in which the collector listens after a start
//     or a stall, nor while its own uplink does not work. Late results can change a
//     cause; they never open, widen or reopen anything.
//
// It refuses to judge single sites: what state a site or a village is in is for
// collector/state. It sends no mail: alerts does, from [Event].
//
// The decisions are pure functions of what was seen and when: chance and place
// (place.go), cause (cause.go), course (course.go). [Engine] adds the log.
package incident

import (
	"cmp"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// ID names an incident: G-3310-YYMMDD-NN is the NN-th, from 01, that began in the
// regency 33.10 on that day, by the regency's own time.
type ID string

// Kind says what sort of incident it is.
type Kind string

// The kinds. This room opens those of outage, quality and ours; the others are
// of the same closed list and for other finders.
const (
	Outage   Kind = "outage"   // silent: no heartbeat
	Quality  Kind = "quality"  // heartbeats arrive, nothing else is reachable
	Spike    Kind = "spike"    //
	Capacity Kind = "capacity" //
	Optical  Kind = "optical"  //
	Ours     Kind = "ours"     // the collector itself or its uplink: nobody is to be mailed
)

// Cause says what broke. The empty cause is "not known yet": the records of the
// probes are still awaited. CauseUnknown is final: they came and do not tell.
type Cause string

// The causes.
const (
	CausePower       Cause = "power"
	CausePremises    Cause = "premises" // ONT or router unpowered, unplugged or dead
	CauseDropCable   Cause = "drop_cable"
	CauseODPOrFeeder Cause = "odp_or_feeder"
	CauseOLT         Cause = "olt"
	CauseUpstream    Cause = "upstream"
	CauseTarget      Cause = "target" // what is measured against, not the line
	CauseProbe       Cause = "probe"
	CauseCollector   Cause = "collector"
	CauseUnknown     Cause = "unknown"
)

// Causes lists every cause, in the contract's order.
func Causes() []Cause {
	return []Cause{CausePower, CausePremises, CauseDropCable, CauseODPOrFeeder, CauseOLT, CauseUpstream,
		CauseTarget, CauseProbe, CauseCollector, CauseUnknown}
}

// Provider reports whether the cause lies in the provider's network.
func (c Cause) Provider() bool {
	switch c {
	case CauseDropCable, CauseODPOrFeeder, CauseOLT, CauseUpstream:
		return true
	}
	return false
}

// Place is where in the network it broke, as far as the evidence goes.
type Place struct {
	// Node is the lowest node that explains what fell; empty where the sites stand
	// on no known node (4G, VSAT).
	Node inventory.NodeID   `json:"node,omitempty"`
	Type inventory.NodeType `json:"type,omitempty"`
	Name string             `json:"name,omitempty"`
	// Top is the highest node with the same watched sites below it: between Node and
	// Top nothing that was seen chooses. It equals Node if the node above Node has
	// other watched sites, and with Drop.
	Top inventory.NodeID `json:"top,omitempty"`
	// Separable: so many fell together that Node itself is named. Else the verdict is
	// "at or below Node, not separable further".
	Separable bool `json:"separable"`
	// Drop: another site on the same Node works, so what broke lies below it.
	Drop bool `json:"drop,omitempty"`
}

// Site is one site of an incident.
type Site struct {
	Site        measure.SiteID   `json:"site"`
	Name        string           `json:"name"`
	Village     string           `json:"village"` // code
	VillageName string           `json:"village_name"`
	District    string           `json:"district"` // code
	Node        inventory.NodeID `json:"node,omitempty"`
	ISP         inventory.ISPID  `json:"isp,omitempty"`
	ISPName     string           `json:"isp_name,omitempty"`
	// Population is the number of people that the inventory has for the site; nil:
	// not known.
	Population *int `json:"population,omitempty"`
	// Since is when it was last heard before it fell (quality: when it began to
	// fail). Until is when it was heard again; zero: not yet. A site that came and
	// went has the whole stretch: minutes of an audit are counted elsewhere.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
	// Heard is when it was last heard before its present, or last, silence.
	Heard time.Time `json:"heard"`
	// Withdrawn: the inventory says since Until that it is not watched any more.
	Withdrawn bool `json:"withdrawn,omitempty"`
	// Record is what its probe kept of the cut, and Cause what it tells of this site;
	// nil and empty: not here yet.
	Record *Record `json:"record,omitempty"`
	Cause  Cause   `json:"cause,omitempty"`
	// Unrest is the damping figure at UnrestAt: +1 for each time it fell or came
	// back, halved every 15 minutes.
	Unrest   float64   `json:"unrest,omitempty"`
	UnrestAt time.Time `json:"unrest_at,omitzero"`
}

// FactKind says what sort of thing was seen: a closed list, for which pages and
// mails have the words.
type FactKind string

// The facts.
const (
	// FellTogether: Count of the Of watched sites below Node fell within Spread.
	FellTogether FactKind = "fell_together"
	// NeighboursUp: Count of the Of other watched sites below Node, which is above
	// the place, are still heard.
	NeighboursUp FactKind = "neighbours_up"
	// NeighbourFailing: Count of the Of watched sites below Node are heard, but what
	// is beyond does not answer them.
	NeighbourFailing FactKind = "neighbour_failing"
	// OtherNetworks: Count sites of the same districts on other networks fell in the
	// same minutes, which speaks for power.
	OtherNetworks FactKind = "other_networks"
	// In the last heartbeat of Count sites this did not answer any more.
	CarrierLost    FactKind = "carrier_lost"
	LANGatewayLost FactKind = "lan_gateway_lost"
	FirstHopLost   FactKind = "first_hop_lost"
	BeyondLost     FactKind = "beyond_lost"
	// FirstHopAnswered: the last heartbeat of Count sites had the first hop and
	// nothing beyond.
	FirstHopAnswered FactKind = "first_hop_answered"
	// ProbeAiling: Count probes had reported a fault of their own before.
	ProbeAiling FactKind = "probe_ailing"
	// Alone: nothing but the silence speaks for it.
	Alone FactKind = "alone"
	// Our own uplink, when it opened.
	UplinkWorks   FactKind = "uplink_works"
	UplinkFails   FactKind = "uplink_fails"
	UplinkUnknown FactKind = "uplink_unknown"
	// Stalled: the collector itself did not run.
	Stalled FactKind = "stalled"
)

// Fact is one piece of what an incident rests on.
type Fact struct {
	At    time.Time        `json:"at"`
	Kind  FactKind         `json:"kind"`
	Node  inventory.NodeID `json:"node,omitempty"`
	Count int              `json:"count,omitempty"`
	Of    int              `json:"of,omitempty"`
	// Spread is the time between the first and the last to fall, in nanoseconds in
	// JSON; of FellTogether.
	Spread time.Duration `json:"spread,omitempty"`
}

// Step says what an entry of a timeline tells.
type Step string

// The steps. All but the first three are also events.
const (
	StepFell       Step = "fell"     // the first was last heard
	StepReturning  Step = "back"     // the first is heard again
	StepAllBack    Step = "all_back" // all are heard again
	StepOpened     Step = Step(Opened)
	StepWidened    Step = Step(Widened)
	StepNarrowed   Step = Step(Narrowed)
	StepUnstable   Step = Step(Unstable)
	StepRecovered  Step = Step(Recovered)
	StepMerged     Step = Step(Merged)
	StepCauseKnown Step = Step(CauseFound)
)

// Entry is one line of an incident's timeline.
type Entry struct {
	At    time.Time        `json:"at"`
	Step  Step             `json:"step"`
	Sites int              `json:"sites"` // silent then
	Node  inventory.NodeID `json:"node,omitempty"`
	Cause Cause            `json:"cause,omitempty"`
}

// maxTimeline bounds a timeline; what is beyond is left out from the middle.
const maxTimeline = 100

// Incident is one incident as it was known at one instant. Times are UTC, by the
// collector's clock.
type Incident struct {
	ID      ID     `json:"id"`
	Kind    Kind   `json:"kind"`
	Regency string `json:"regency"` // code; the one with the most sites
	// Place is where it broke at its widest. Remaining is the place of what is still
	// silent, once some are back for good; nil else.
	Place     Place  `json:"place"`
	Remaining *Place `json:"remaining,omitempty"`
	// Since is when the first site was last heard, OpenedAt when it was confirmed.
	// Until is when the last site was heard again, RecoveredAt when it had been good
	// for long enough to be over; both zero before. Any of them may be hours before
	// now.
	Since       time.Time `json:"since"`
	OpenedAt    time.Time `json:"opened_at"`
	Until       time.Time `json:"until,omitzero"`
	RecoveredAt time.Time `json:"recovered_at,omitzero"`
	// MergedInto is the incident that this one turned out to be a part of. It has
	// ended without a recovery.
	MergedInto ID     `json:"merged_into,omitempty"`
	Sites      []Site `json:"sites"` // by id; all that it ever had
	// Guess is the suspected cause (dugaan), never empty. Cause is the final one,
	// empty while the probes' records are awaited.
	Guess Cause `json:"guess"`
	Cause Cause `json:"cause,omitempty"`
	// Unstable: it comes and goes so often that neither is told any more.
	Unstable bool    `json:"unstable,omitempty"`
	Evidence []Fact  `json:"evidence"`
	Timeline []Entry `json:"timeline"` // by time of what it tells
}

// Open reports whether it still goes on.
func (i *Incident) Open() bool { return i.RecoveredAt.IsZero() && i.MergedInto == "" }

// Group reports whether it has several sites.
func (i *Incident) Group() bool { return len(i.Sites) > 1 }

// Silent is the number of sites that are not heard again yet.
func (i *Incident) Silent() int {
	n := 0
	for _, s := range i.Sites {
		if s.Until.IsZero() {
			n++
		}
	}
	return n
}

// Village is what an incident is to one village.
type Village struct {
	Code     string // PP.RR.KK.VVVV
	Name     string
	District string // code
	Sites    int
	Silent   int       // of Sites, not heard again yet
	Since    time.Time // the first site
	Until    time.Time // the last site; zero: not yet
	// Population is the sum of its sites' in this incident; nil: not known of any.
	Population *int
}

// Villages returns the villages of an incident by code.
func (i *Incident) Villages() []Village {
	byCode := map[string]*Village{}
	for _, s := range i.Sites {
		v := byCode[s.Village]
		if v == nil {
			v = &Village{Code: s.Village, Name: s.VillageName, District: s.District, Since: s.Since}
			byCode[s.Village] = v
		}
		v.Sites++
		if s.Until.IsZero() {
			v.Silent++
		}
		if s.Since.Before(v.Since) {
			v.Since = s.Since
		}
		if s.Until.After(v.Until) {
			v.Until = s.Until
		}
		v.Population = addKnown(v.Population, s.Population)
	}
	out := make([]Village, 0, len(byCode))
	for _, v := range byCode {
		if v.Silent > 0 {
			v.Until = time.Time{}
		}
		out = append(out, *v)
	}
	slices.SortFunc(out, func(a, b Village) int { return cmp.Compare(a.Code, b.Code) })
	return out
}

// Population is the number of people at all its sites that is known; nil: none is.
func (i *Incident) Population() *int {
	var sum *int
	for _, s := range i.Sites {
		sum = addKnown(sum, s.Population)
	}
	return sum
}

// addKnown adds two numbers of which either may not be known.
func addKnown(sum, n *int) *int {
	switch {
	case n == nil:
		return sum
	case sum == nil:
		sum = new(int)
	}
	total := *sum + *n
	return &total
}

// clone shares nothing with i that may still change. Records and populations are
// never changed in place.
func (i *Incident) clone() Incident {
	out := *i
	out.Sites = slices.Clone(i.Sites)
	out.Evidence = slices.Clone(i.Evidence)
	out.Timeline = slices.Clone(i.Timeline)
	if i.Remaining != nil {
		r := *i.Remaining
		out.Remaining = &r
	}
	return out
}

// EventType says what is new about an incident: a closed list.
type EventType string

// The events. The first of every incident is Opened, the last Recovered or
// Merged, save that CauseFound may follow Recovered.
const (
	// Opened: it is confirmed.
	Opened EventType = "opened"
	// Widened: sites joined, or the place moved up.
	Widened EventType = "widened"
	// Narrowed: some sites are back for good, others are not.
	Narrowed EventType = "narrowed"
	// Unstable: it comes and goes; nothing is told until it is calm, when at last
	// Recovered is. An incident that opens while its sites are in such unrest has
	// Unstable set in Opened, and no event of its own for it.
	Unstable EventType = "unstable"
	// Recovered: over, after minutes without a silence, and, for up to ten minutes,
	// with the records of the probes. An empty Cause: they have not come.
	Recovered EventType = "recovered"
	// Merged: part of MergedInto, whose Widened goes before. Nothing recovered.
	Merged EventType = "merged"
	// CauseFound: the final cause came, or changed, after the recovery. It never
	// mails.
	CauseFound EventType = "cause"
	// noted is a change that is nobody's news. It is in the log only, so that a
	// restart loses nothing.
	noted EventType = "noted"
)

// EventTypes lists every type of event that is told.
func EventTypes() []EventType {
	return []EventType{Opened, Widened, Narrowed, Unstable, Recovered, Merged, CauseFound}
}

// Event is one piece of news about an incident, with the whole of it as it was
// known then.
type Event struct {
	// Seq rises from event to event, with gaps, and is never used twice.
	Seq      uint64    `json:"seq"`
	At       time.Time `json:"at"`
	Type     EventType `json:"type"`
	Incident Incident  `json:"incident"`
}

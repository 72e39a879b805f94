// Package mail turns what is known of an incident, a usage spike or a week into
// the mail that an officer reads on a telephone: subject, preheader, HTML and a
// plain-text twin, in Indonesian or English.
//
// It guarantees that both twins are drawn from one document, so that they say
// the same in the same order; that names are data, whatever they contain; that
// no fact needs an image, a style or a script; that the HTML stays below
// MaxHTML; and that what is not known says so and is never a zero. A cause that
// comes without evidence is written as unknown.
//
// It knows no incident engine, no recipient list and no SMTP, and reads no clock:
// SentAt is given.
package mail

import (
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// MaxHTML is the bound of the HTML twin in bytes: Gmail cuts at 102 KB.
const MaxHTML = 100_000

// Message is a rendered mail. Subject and Preheader are one line without control
// characters, not yet encoded for a header.
type Message struct {
	Subject, Preheader string
	HTML               string // UTF-8, a whole document
	Text               string // UTF-8, at most 80 columns but for a lone address of a page
}

// Envelope is what every mail has.
type Envelope struct {
	Language   Language       // Indonesian if empty
	Zone       *time.Location // WIB, WITA or WIT; every time is written in it; UTC if nil
	SentAt     time.Time
	Region     Region // whom the mail is about: a regency as a rule
	Recipient  string // an office, as people say it: "Diskominfo Kabupaten Klaten"
	Page       string // http(s) address behind the button; anything else is left out
	Recipients string // http(s) address where recipients are managed
	Simulation bool   // the events are invented: every part of the mail says so
}

// Region is a regency or city.
type Region struct{ Code, Name string }

// Event says which mail of an incident this is.
type Event string

// The events of an incident.
const (
	Opened    Event = "opened"
	Widened   Event = "widened"
	Recovered Event = "recovered"
	Unstable  Event = "unstable"
)

// Kind is the kind of an incident.
type Kind string

// The kinds that have an Incident mail. A spike of one place has a view of its own.
const (
	Outage   Kind = "outage"
	Quality  Kind = "quality"
	Capacity Kind = "capacity"
	Optical  Kind = "optical"
	Ours     Kind = "ours"
	UsePeak  Kind = "spike"
)

// Cause is a cause from the closed list. The empty one is unknown.
type Cause string

// The causes.
const (
	Power       Cause = "power"
	Premises    Cause = "premises" // ONT unpowered or unplugged
	DropCable   Cause = "drop_cable"
	ODPOrFeeder Cause = "odp_or_feeder"
	OLT         Cause = "olt"
	Upstream    Cause = "upstream"
	Target      Cause = "target"
	Probe       Cause = "probe"
	Collector   Cause = "collector"
	Unknown     Cause = "unknown"
)

// Incident is what is known of an incident at one of its events.
type Incident struct {
	Envelope
	Event Event
	Kind  Kind
	ID    string // G-3310-250721-04
	// Operations: the reader runs the collector, and is told what to do about Ours.
	Operations bool
	// Rule: a rule found it. Nothing is suspected and nothing was cut.
	Rule bool

	Villages []Village // all that are affected, in the order to be shown
	Before   int       // Widened: how many there were before
	Path     []Node    // from the top of the tree down to the suspected node; may be empty
	// AtOrBelow: the evidence ends at the last node of Path; what lies below it
	// cannot be told apart.
	AtOrBelow bool
	Provider  string
	Contact   Contact

	Suspected Cause
	// Final is the cause once the probes' own records are in. With Pending the
	// records are still missing, and Final is not read.
	Final   Cause
	Pending bool

	Since     time.Time // event time
	Widened   time.Time // when it widened last
	Confirmed time.Time
	FirstMail time.Time
	Restored  time.Time     // the last village was connected again
	Declared  time.Time     // stable long enough to say so
	Stable    time.Duration // how long that was
	Changes   int           // Unstable: transitions since Since, at least

	Evidence []Evidence
	Doubts   []Doubt
}

// Village is an affected village.
type Village struct {
	Code, Name, District string
	Kind                 inventory.Kind
	Population           inventory.Count // people
	Since                time.Time       // when its state began
	LastHeard            time.Time       // the last sign of life before it
	New                  bool            // Widened: was not in the mail before
	Restored             time.Time       // Recovered: connected again
	Changes              int             // Unstable: transitions, at least
	Minutes              *Minutes        // Recovered: as booked, if it is known already
	Available            Bounds          // Recovered: this month so far
}

// Minutes says to whom the time of an outage is booked.
type Minutes struct{ Provider, Elsewhere, Unknown time.Duration }

// Bounds is a ratio (1 is 100%) that lies between two ends, if Known.
type Bounds struct {
	Low, High float64
	Known     bool
}

// NodeState is what a node of the tree does now.
type NodeState string

// The states of a node. Anything else reads as unknown.
const (
	NodeAnswers NodeState = "answers"
	NodeSilent  NodeState = "silent"
	NodeUnknown NodeState = "unknown"
)

// Node is a step of the way from the provider's centre to the villages.
type Node struct {
	ID    string
	Type  inventory.NodeType
	Place string // "depan Balai Desa Boto"
	State NodeState
	// Of the measured points below it, how many are silent, and how many there
	// are. Points 0: not counted.
	Silent, Points int
}

// Contact is whom to call.
type Contact struct {
	Hours        string // "24 jam"
	Phone, Email string
	Note         string // "contoh"
}

// EvidenceKind names one line of evidence.
type EvidenceKind string

// What speaks for a cause. Count and Of are villages unless said otherwise.
const (
	FellTogether   EvidenceKind = "fell_together"   // Count fell between From and To
	NodeAnswered   EvidenceKind = "node_answered"   // Node answers; Count other points (or nodes) below it are normal
	NoPowerSignal  EvidenceKind = "no_power_signal" // no device reported losing its power
	WeAreWell      EvidenceKind = "we_are_well"     // our own uplink was checked; confirmed at From
	GatewayOnly    EvidenceKind = "gateway_only"    // in Count of Of the LAN gateway answered, and nothing beyond
	FirstHop       EvidenceKind = "first_hop"       // in Count of Of the OLT or first hop answered
	MeasuredOn     EvidenceKind = "measured_on"     // in Count of Of the probe ran and measured all the time
	Rebooted       EvidenceKind = "rebooted"        // in Count of Of the probe started anew, with a gap before
	CarrierLost    EvidenceKind = "carrier_lost"    // in Count of Of the cable to the ONT went dead while the probe ran on
	OpticalLost    EvidenceKind = "optical_lost"    // at Count of Of ONTs the optical signal was lost, from From
	DyingGasp      EvidenceKind = "dying_gasp"      // at Count ONTs the OLT saw power go
	SiblingsFine   EvidenceKind = "siblings_fine"   // Count other villages below Node are normal
	RecordsArrived EvidenceKind = "records_arrived" // Count stored results were received
	PointsFine     EvidenceKind = "points_fine"     // Count of Of other points below Node are heard
	PointsFailing  EvidenceKind = "points_failing"  // Count other points below Node are heard, and reach nothing
	OtherNetworks  EvidenceKind = "other_networks"  // Count points of the same districts on other networks fell too
	LastCarrier    EvidenceKind = "last_carrier"    // the last sign of life of Count of Of points had no carrier to the ONT
	LastGateway    EvidenceKind = "last_gateway"    // ... no answer of the LAN gateway
	LastHop        EvidenceKind = "last_hop"        // ... no answer of the provider's first hop
	LastBeyond     EvidenceKind = "last_beyond"     // ... no answer from beyond the provider
	LastHopOnly    EvidenceKind = "last_hop_only"   // ... an answer of the first hop, and none from beyond
	ProbesAiling   EvidenceKind = "probes_ailing"   // Count boxes had reported a fault of their own before
	OnlySilence    EvidenceKind = "only_silence"    // nothing but the silence speaks for it
	WeAreCut       EvidenceKind = "we_are_cut"      // our own uplink does not work
	WeStalled      EvidenceKind = "we_stalled"      // our own server did not run for a while
	OnlyUsCut      EvidenceKind = "only_us_cut"     // in Count of Of the internet was reachable all the time
	Remark         EvidenceKind = "remark"          // Text, in the mail's language
)

// Evidence is one reason for the cause.
type Evidence struct {
	Kind      EvidenceKind
	Count, Of int
	Node      string
	From, To  time.Time
	Text      string
}

// DoubtKind names one thing that is not known yet.
type DoubtKind string

// What may be unknown.
const (
	PowerPossible  DoubtKind = "power_possible"  // a simultaneous power cut cannot be ruled out
	NotSeparable   DoubtKind = "not_separable"   // at or below Node, no further
	RecordsMissing DoubtKind = "records_missing" // records of Count of Of villages have not arrived
	FewPoints      DoubtKind = "few_points"      // only Count points were below Node
	DoubtRemark    DoubtKind = "remark"          // Text, in the mail's language
)

// Doubt is one thing that is not known yet.
type Doubt struct {
	Kind      DoubtKind
	Count, Of int
	Node      string
	Text      string
}

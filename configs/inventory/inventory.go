// Package inventory holds the dated facts that measurements are judged by:
// regions, providers, the network's tree, targets, sites, plans, the places of
// probes and who is to be told, read from CSV files that a person keeps in a
// spreadsheet.
//
// It guarantees that everything wrong is reported at once, with file, row and
// remedy; that an Inventory without problems has no dangling reference at any
// instant; and that what holds at an instant depends on the files and that
// instant alone, so that March is judged by March's facts whenever it is asked.
//
// It refuses whatever it would have to guess: an unknown column, a code that a
// spreadsheet turned into a number, a figure that reads in two ways, two rows
// about one thing for one time. README.md says what each file and column holds.
package inventory

import (
	"cmp"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Identities. All are opaque.
type (
	// ISPID names a provider.
	ISPID string
	// NodeID names a point of a provider's network.
	NodeID string
)

// Kind says what sort of village one is. It is read from the code.
type Kind string

// The kinds of villages.
const (
	Desa      Kind = "desa"
	Kelurahan Kind = "kelurahan"
	DesaAdat  Kind = "desa_adat"
)

// Access says how a site is connected.
type Access string

// The kinds of access.
const (
	AccessFiber Access = "fiber"
	Access4G    Access = "4g"
	AccessVSAT  Access = "vsat"
	AccessOther Access = "other"
	// AccessNone is a known blankspot: no provider, no plan, no probe.
	AccessNone Access = "none"
)

// NodeType says what a node is. The tree goes down in this order; a level may
// be left out, and only a pop may stand below its like.
type NodeType string

// The types of nodes, from the top.
const (
	NodePOP NodeType = "pop" // point of presence
	NodeBNG NodeType = "bng" // broadband network gateway
	NodeOLT NodeType = "olt" // optical line terminal
	NodePON NodeType = "pon" // one port of an OLT
	NodeODC NodeType = "odc" // optical distribution cabinet
	NodeODP NodeType = "odp" // optical distribution point: passive, has no address
)

// Method says how a target is asked.
type Method string

// The methods.
const (
	MethodICMP  Method = "icmp"
	MethodTCP   Method = "tcp"   // connect
	MethodSpeed Method = "speed" // a measurement server
	MethodDNS   Method = "dns"   // a question to a resolver
	MethodHTTP  Method = "http"  // a page
)

// Region is a province, regency or district. Its code is Kemendagri's: PP,
// PP.RR or PP.RR.KK.
type Region struct {
	Code, Name string
}

// Village is a desa, kelurahan or desa adat; its code is PP.RR.KK.VVVV.
type Village struct {
	Code, Name                  string
	Kind                        Kind
	District, Regency, Province Region
	Validity
}

// Position is a place in degrees (WGS 84), or none if it is not Known.
type Position struct {
	Lat, Lon float64
	Known    bool
}

// Count is a number of people, or none if it is not Known.
type Count struct {
	Number int
	Known  bool
}

// ISP is a provider; its ID is empty where the provider is not known.
type ISP struct {
	ID   ISPID
	Name string
	NOC  NOC
}

// NOC is where a provider is told of a fault; what is empty is not known.
type NOC struct {
	Phone, Email string
	Hours        string // in words: "24 jam"
}

// Role says what a contact is told.
type Role string

// The roles.
const (
	RoleDinas      Role = "dinas"      // all that concerns one regency
	RoleProvince   Role = "province"   // what is large in one province
	RoleOperations Role = "operations" // what is wrong with ourselves
)

// DefaultMinVillages is from how many villages an incident is large enough for a
// province whose contact says nothing else. One in several regencies always is.
const DefaultMinVillages = 10

// Contact is an office that is told by mail.
type Contact struct {
	Email    string // a bare address, its domain in lower case
	Role     Role
	Region   string // code of the regency or province; empty for operations
	Name     string // the office, as people say it
	Language string // id or en; empty: the collector's
	// MinVillages is from how many villages an incident is told; above 0 for a
	// province alone.
	MinVillages int
	Validity
}

// Plan is what a contract promises a site. Its document says which contract.
type Plan struct {
	DownloadBPS, UploadBPS float64 // bits per second, above 0
	Document               string
	Validity
}

// Site is a measured place, as it is at one instant. Its Validity is that of
// its row in sites.csv; the plan and the provider's name have their own.
type Site struct {
	ID      measure.SiteID
	Village string // code
	Name    string
	ISP     ISP
	Access  Access
	ODP     NodeID // empty: none, or not known
	Position
	Population Count
	// BudgetBytes is what the site's probes may move in a calendar month, all together;
	// 0: what the collector's settings say for its access.
	BudgetBytes uint64
	Plan        *Plan // nil: not known
	Validity
}

// Placement says where a probe stands.
type Placement struct {
	Probe measure.ProbeID
	Site  measure.SiteID
	// UsageInterface is the interface that carries the village's traffic; empty
	// if the box is not the village's router.
	UsageInterface string
	LANGateway     string // IP address of the ONT or router; empty: the default route's
	FirstHop       string // IP address of the first ISP hop; empty: found by TTL
	Validity
}

// Node is a point of a provider's network.
type Node struct {
	ID     NodeID
	Type   NodeType
	Name   string
	Parent NodeID // empty: the top, or not known
	Position
	Validity
}

// Target is something that answers.
type Target struct {
	ID     measure.TargetID
	Name   string
	Node   NodeID // where it stands; empty: beyond the provider's network
	Region string // only for sites in this region; empty: for all
	Method Method
	// Address is the host of icmp and tcp; of dns the resolver's IP address, empty
	// for the probe's own resolver.
	Address string
	Port    uint16 // of tcp and dns, else 0; of dns 0 is 53
	// URL is the base of speed, without a slash at its end, or a page of http.
	URL      string
	Question string // the name that dns asks for; a first label * is a random one
	Latency  bool   // latency may be measured to it; icmp only
	Validity
}

// Labels are what identifies the series of a probe's results.
type Labels struct {
	Province, Regency, District, Village string // full codes
	Site                                 measure.SiteID
	Probe                                measure.ProbeID
	// Validity is the time in which these labels do not change.
	Validity
}

// Inventory is an immutable set of dated facts, safe for concurrent use.
//
// A question with an instant is answered by the row that is valid then. Before
// the first row, after the last and in a gap between, the answer is "not found".
type Inventory struct {
	files  map[string]string
	digest [32]byte

	regions  timeline[string, string] // code: name
	isps     timeline[ISPID, ISP]
	nodes    timeline[NodeID, nodeRow]
	targets  timeline[measure.TargetID, Target]
	sites    timeline[measure.SiteID, siteRow]
	plans    timeline[measure.SiteID, Plan]
	probes   timeline[measure.ProbeID, Placement]
	contacts timeline[contactKey, Contact]

	villages   []Village // by code, as last known
	village    map[string]int32
	sitesOf    map[string][]measure.SiteID // village: sites that ever stood there
	probesOf   map[measure.SiteID][]measure.ProbeID
	targetsOf  map[NodeID][]measure.TargetID
	boundaries []time.Time
}

// Digest is the SHA-256 of all files; equal digests are equal inventories.
func (inv *Inventory) Digest() [32]byte { return inv.digest }

// Files returns a copy of the files as they were read: Parse makes the same
// inventory of them.
func (inv *Inventory) Files() map[string][]byte {
	out := make(map[string][]byte, len(inv.files))
	for name, text := range inv.files {
		out[name] = []byte(text)
	}
	return out
}

// Boundaries returns the instants after from, up to and including to, at which
// any fact begins or ends. Between two of them no answer changes.
func (inv *Inventory) Boundaries(from, to time.Time) []time.Time {
	after := func(t, limit time.Time) int {
		if t.After(limit) {
			return 1
		}
		return -1
	}
	lo, _ := slices.BinarySearchFunc(inv.boundaries, from, after)
	hi, _ := slices.BinarySearchFunc(inv.boundaries, to, after)
	if hi < lo {
		return nil
	}
	return slices.Clone(inv.boundaries[lo:hi])
}

// Location is the time zone (WIB, WITA or WIT) of a region by its code, of any
// level. It is UTC for a code that is none of Indonesia's, which no inventory
// holds.
func (inv *Inventory) Location(code string) *time.Location {
	if zone := zoneOf(code); zone != nil {
		return zone
	}
	return time.UTC
}

// Villages returns every village that ever was, by code, as last known. The
// caller must not change the slice. See [Village] for its Validity, and
// VillagesAt.
func (inv *Inventory) Villages() []Village { return slices.Clip(inv.villages) }

// VillagesAt returns the villages that exist at an instant, by code, with the
// names of that time.
func (inv *Inventory) VillagesAt(at time.Time) []Village {
	out := make([]Village, 0, len(inv.villages))
	for _, v := range inv.villages {
		if v, ok := inv.VillageAt(v.Code, at); ok {
			out = append(out, v)
		}
	}
	return out
}

// Village returns a village as last known.
func (inv *Inventory) Village(code string) (Village, bool) {
	i, ok := inv.village[code]
	if !ok {
		return Village{}, false
	}
	return inv.villages[i], true
}

// VillageAt returns a village as it is at an instant.
func (inv *Inventory) VillageAt(code string, at time.Time) (Village, bool) {
	if level(len(code)) != village {
		return Village{}, false
	}
	e := inv.regions.at(code, at)
	if e == nil {
		return Village{}, false
	}
	return inv.villageOf(e, func(code string) string {
		if e := inv.regions.at(code, at); e != nil {
			return e.value
		}
		return ""
	}), true
}

func (inv *Inventory) villageOf(e *entry[string, string], name func(code string) string) Village {
	region := func(code string) Region { return Region{Code: code, Name: name(code)} }
	return Village{Code: e.key, Name: e.value, Kind: KindOf(e.key), Validity: e.valid,
		District: region(e.key[:district]), Regency: region(e.key[:regency]), Province: region(e.key[:province])}
}

// Province returns a province as last known, by its code PP.
func (inv *Inventory) Province(code string) (Region, bool) { return inv.region(code, province) }

// Regency returns a regency or city as last known, by its code PP.RR.
func (inv *Inventory) Regency(code string) (Region, bool) { return inv.region(code, regency) }

// District returns a district as last known, by its code PP.RR.KK.
func (inv *Inventory) District(code string) (Region, bool) { return inv.region(code, district) }

func (inv *Inventory) region(code string, l level) (Region, bool) {
	es := inv.regions.of(code)
	if len(es) == 0 || level(len(code)) != l {
		return Region{}, false
	}
	return Region{Code: code, Name: es[len(es)-1].value}, true
}

// Provinces returns all provinces by code, as last known.
func (inv *Inventory) Provinces() []Region { return inv.regionsOf(province) }

// Regencies returns all regencies and cities by code, as last known.
func (inv *Inventory) Regencies() []Region { return inv.regionsOf(regency) }

// Districts returns all districts by code, as last known.
func (inv *Inventory) Districts() []Region { return inv.regionsOf(district) }

func (inv *Inventory) regionsOf(l level) []Region {
	var out []Region
	for _, e := range inv.regions.entries {
		if level(len(e.key)) != l {
			continue
		}
		if n := len(out); n > 0 && out[n-1].Code == e.key {
			out[n-1].Name = e.value
			continue
		}
		out = append(out, Region{Code: e.key, Name: e.value})
	}
	return out
}

// ISP returns a provider as it is at an instant.
func (inv *Inventory) ISP(id ISPID, at time.Time) (ISP, bool) {
	e := inv.isps.at(id, at)
	if e == nil {
		return ISP{}, false
	}
	return e.value, true
}

// Site returns a site as it is at an instant.
func (inv *Inventory) Site(id measure.SiteID, at time.Time) (Site, bool) {
	e := inv.sites.at(id, at)
	if e == nil {
		return Site{}, false
	}
	row := e.value
	s := Site{ID: id, Village: row.village, Name: row.name, Access: row.access, ODP: row.odp,
		Position: row.position, Population: row.population, BudgetBytes: row.budget, Validity: e.valid, ISP: ISP{ID: row.isp}}
	if isp, ok := inv.ISP(row.isp, at); ok {
		s.ISP = isp
	}
	if p := inv.plans.at(id, at); p != nil {
		plan := p.value
		plan.Validity = p.valid
		s.Plan = &plan
	}
	return s, true
}

// Sites returns every site that exists at an instant, by id.
func (inv *Inventory) Sites(at time.Time) []Site {
	return collect(&inv.sites, at, inv.Site)
}

// SitesIn returns the sites that stand in a village at an instant, by id.
func (inv *Inventory) SitesIn(villageCode string, at time.Time) []Site {
	var out []Site
	for _, id := range inv.sitesOf[villageCode] {
		if s, ok := inv.Site(id, at); ok && s.Village == villageCode {
			out = append(out, s)
		}
	}
	return out
}

// Probe returns where a probe stands at an instant.
func (inv *Inventory) Probe(id measure.ProbeID, at time.Time) (Placement, bool) {
	e := inv.probes.at(id, at)
	if e == nil {
		return Placement{}, false
	}
	p := e.value
	p.Validity = e.valid
	return p, true
}

// Probes returns every probe that is placed at an instant, by id.
func (inv *Inventory) Probes(at time.Time) []Placement {
	return collect(&inv.probes, at, inv.Probe)
}

// ProbesAt returns the probes that stand at a site at an instant, by id.
func (inv *Inventory) ProbesAt(site measure.SiteID, at time.Time) []Placement {
	var out []Placement
	for _, id := range inv.probesOf[site] {
		if p, ok := inv.Probe(id, at); ok && p.Site == site {
			out = append(out, p)
		}
	}
	return out
}

// Labels returns the labels of a result that a probe measured at an instant.
func (inv *Inventory) Labels(probe measure.ProbeID, at time.Time) (Labels, bool) {
	p := inv.probes.at(probe, at)
	if p == nil {
		return Labels{}, false
	}
	s := inv.sites.at(p.value.Site, at)
	if s == nil {
		return Labels{}, false
	}
	code := s.value.village
	return Labels{Province: code[:province], Regency: code[:regency], District: code[:district], Village: code,
		Site: p.value.Site, Probe: probe, Validity: p.valid.overlap(s.valid)}, true
}

// Node returns a node as it is at an instant.
func (inv *Inventory) Node(id NodeID, at time.Time) (Node, bool) {
	e := inv.nodes.at(id, at)
	if e == nil {
		return Node{}, false
	}
	n := e.value.Node
	n.Validity = e.valid
	return n, true
}

// Nodes returns every node that exists at an instant, by id.
func (inv *Inventory) Nodes(at time.Time) []Node {
	return collect(&inv.nodes, at, inv.Node)
}

// Path returns the nodes from the given one up to the top, nil if it does not
// exist at that instant.
func (inv *Inventory) Path(node NodeID, at time.Time) []Node {
	var out []Node
	for len(out) < maxDepth {
		n, ok := inv.Node(node, at)
		if !ok {
			break
		}
		out = append(out, n)
		node = n.Parent
	}
	return out
}

// Target returns a target as it is at an instant.
func (inv *Inventory) Target(id measure.TargetID, at time.Time) (Target, bool) {
	e := inv.targets.at(id, at)
	if e == nil {
		return Target{}, false
	}
	t := e.value
	t.Validity = e.valid
	return t, true
}

// Targets returns every target that exists at an instant, by id.
func (inv *Inventory) Targets(at time.Time) []Target {
	return collect(&inv.targets, at, inv.Target)
}

// ReachTargets returns the icmp and tcp targets of a site, nearest first: those
// on the way from its ODP to the top, then those beyond, of the narrowest region
// first.
func (inv *Inventory) ReachTargets(site measure.SiteID, at time.Time) []Target {
	return inv.targetsFor(site, at, func(t Target) bool { return t.Method == MethodICMP || t.Method == MethodTCP })
}

// DNSTargets returns the questions that a site's probes ask resolvers, in the
// order of ReachTargets.
func (inv *Inventory) DNSTargets(site measure.SiteID, at time.Time) []Target {
	return inv.targetsFor(site, at, func(t Target) bool { return t.Method == MethodDNS })
}

// PageTargets returns the pages that a site's probes ask for, in the order of
// ReachTargets.
func (inv *Inventory) PageTargets(site measure.SiteID, at time.Time) []Target {
	return inv.targetsFor(site, at, func(t Target) bool { return t.Method == MethodHTTP })
}

// SpeedTargets returns the measurement servers of a site in the order in which
// they are to be tried: as for ReachTargets.
func (inv *Inventory) SpeedTargets(site measure.SiteID, at time.Time) []Target {
	return inv.targetsFor(site, at, func(t Target) bool { return t.Method == MethodSpeed })
}

// Contacts returns who is to be told at an instant, by address, role and region.
func (inv *Inventory) Contacts(at time.Time) []Contact {
	var out []Contact
	for _, e := range inv.contacts.entries {
		if e.valid.Covers(at) {
			c := e.value
			c.Validity = e.valid
			out = append(out, c)
		}
	}
	return out
}

// LatencyTarget returns what a site's latency is measured to: the nearest of
// the targets that are marked for it.
func (inv *Inventory) LatencyTarget(site measure.SiteID, at time.Time) (Target, bool) {
	ts := inv.targetsFor(site, at, func(t Target) bool { return t.Latency })
	if len(ts) == 0 {
		return Target{}, false
	}
	return ts[0], true
}

func (inv *Inventory) targetsFor(site measure.SiteID, at time.Time, wanted func(Target) bool) []Target {
	s := inv.sites.at(site, at)
	if s == nil {
		return nil
	}
	var out []Target
	from := func(node NodeID) {
		start := len(out)
		for _, id := range inv.targetsOf[node] {
			if t, ok := inv.Target(id, at); ok && t.Node == node && within(s.value.village, t.Region) && wanted(t) {
				out = append(out, t)
			}
		}
		slices.SortStableFunc(out[start:], func(a, b Target) int { // ids are in order already
			return cmp.Compare(len(b.Region), len(a.Region))
		})
	}
	for _, n := range inv.Path(s.value.odp, at) {
		from(n.ID)
	}
	from("")
	return out
}

// collect asks get for every key of a timeline.
func collect[K cmp.Ordered, V, T any](t *timeline[K, V], at time.Time, get func(K, time.Time) (T, bool)) []T {
	out := make([]T, 0, len(t.index))
	for i, e := range t.entries {
		if i > 0 && t.entries[i-1].key == e.key {
			continue
		}
		if v, ok := get(e.key, at); ok {
			out = append(out, v)
		}
	}
	return out
}

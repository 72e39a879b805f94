package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// maxID is the longest id in bytes, but for probes: see [measure.MaxProbeID].
const maxID = 64

// maxDepth is the deepest tree of nodes.
const maxDepth = 32

// maxGB is more than any site's boxes need in a month: 300 Mbit/s day and night.
const maxGB = 100_000

// maxMbps is more than any plan promises: 100 Gbit/s.
const maxMbps = 100_000

type nodeRow struct {
	Node
	region string // whose time zone its dates are in; empty: its parent's
}

// contactKey is what two rows of contacts may not share: address, role and region.
type contactKey string

type siteRow struct {
	village, name string
	isp           ISPID
	access        Access
	odp           NodeID
	position      Position
	population    Count
	budget        uint64 // bytes a month; 0: by access
}

// columnsOf says which columns a file has.
func columnsOf(file string) []column {
	dated := func(cs ...column) []column {
		return append(cs, column{"valid_from", true}, column{"valid_to", false}, column{"note", false})
	}
	switch file {
	case fileRegions:
		return dated(column{"code", true}, column{"name", true})
	case fileISPs:
		return dated(column{"isp", true}, column{"name", true}, column{"noc_phone", false}, column{"noc_email", false}, column{"noc_hours", false})
	case fileNodes:
		return dated(column{"node", true}, column{"type", true}, column{"parent", false}, column{"name", true},
			column{"lat", false}, column{"lon", false}, column{"region", false})
	case fileTargets:
		return dated(column{"target", true}, column{"name", false}, column{"node", false}, column{"region", false},
			column{"method", true}, column{"address", false}, column{"port", false}, column{"url", false}, column{"question", false}, column{"latency", false})
	case fileSites:
		return dated(column{"site", true}, column{"village", true}, column{"name", true}, column{"population", false},
			column{"isp", false}, column{"access", true}, column{"odp", false}, column{"lat", false}, column{"lon", false},
			column{"budget_gb", false})
	case filePlans:
		return dated(column{"site", true}, column{"download_mbps", true}, column{"upload_mbps", true}, column{"source_document", true})
	case fileProbes:
		return dated(column{"probe", true}, column{"site", true}, column{"usage_interface", false},
			column{"lan_gateway", false}, column{"first_hop", false})
	case fileContacts:
		return dated(column{"email", true}, column{"role", true}, column{"region", false}, column{"name", true},
			column{"language", false}, column{"min_villages", false})
	}
	return nil
}

// builder reads the files into an inventory and gathers the problems.
type builder struct {
	files    map[string]string
	problems ledger
	// holes names the files of which rows could not be read at all: that
	// something is missing there is no problem of who refers to it.
	holes map[string]bool
	// damaged holds, by file, the keys of rows that have a problem of their own.
	damaged map[string]map[string]bool
	inv     *Inventory
}

func (b *builder) read() {
	inv := b.inv
	inv.regions = readFileRows(b, fileRegions, func(r *record) (string, string) {
		return r.code("code", 0), r.cell("name")
	})
	inv.isps = readFileRows(b, fileISPs, readISP)
	inv.nodes = readFileRows(b, fileNodes, readNode)
	inv.targets = readFileRows(b, fileTargets, readTarget)
	inv.sites = readFileRows(b, fileSites, readSite)
	inv.plans = readFileRows(b, filePlans, readPlan)
	inv.probes = readFileRows(b, fileProbes, readProbe)
	if _, there := b.files[fileContacts]; there {
		inv.contacts = readFileRows(b, fileContacts, readContact)
	}

	b.checkRegions()
	b.checkNodes()
	b.checkTargets()
	b.checkSites()
	b.checkPlans()
	b.checkProbes()
	b.checkContacts()
}

// readFileRows reads one file; one gives a row's key and value. Rows with
// problems are left out.
func readFileRows[K ~string, V any](b *builder, file string, one func(*record) (K, V)) timeline[K, V] {
	columns := columnsOf(file)
	text, there := b.files[file]
	if !there {
		b.problems.add(file, 0, "the file is missing", "Create it, at least with the header line: "+names(columns, ";"))
		b.holes[file] = true
		return timeline[K, V]{}
	}
	t := openTable(file, text, columns, &b.problems)
	if t == nil {
		b.holes[file] = true
		return timeline[K, V]{}
	}
	b.damaged[file] = make(map[string]bool)
	var entries []entry[K, V]
	t.each(func(r *record) {
		e := entry[K, V]{line: r.line}
		if r.cells != nil {
			e.key, e.value = one(r)
			e.dates = r.span()
		}
		if !r.bad {
			entries = append(entries, e)
			return
		}
		if e.key != "" {
			b.damaged[file][string(e.key)] = true
		} else {
			b.holes[file] = true
		}
	})
	tl := newTimeline(entries)
	checkOverlaps(b, file, columns[0].name, &tl)
	return tl
}

func readISP(r *record) (ISPID, ISP) {
	isp := ISP{ID: ISPID(r.id("isp", maxID)), Name: r.cell("name"),
		NOC: NOC{Phone: r.phone("noc_phone"), Email: r.email("noc_email"), Hours: r.cell("noc_hours")}}
	return isp.ID, isp
}

func readContact(r *record) (contactKey, Contact) {
	c := Contact{
		Email:    r.email("email"),
		Role:     Role(r.choice("role", []string{string(RoleDinas), string(RoleProvince), string(RoleOperations)})),
		Name:     r.cell("name"),
		Language: r.choice("language", []string{"id", "en"}),
	}
	switch c.Role {
	case RoleDinas:
		c.Region = r.region(regency)
	case RoleProvince:
		c.Region = r.region(province)
		if c.MinVillages = r.atLeastOne("min_villages"); c.MinVillages == 0 {
			c.MinVillages = DefaultMinVillages
		}
	case RoleOperations:
		if r.cell("region") != "" {
			r.fail("a contact of role operations has a region", "Leave region empty: operations are told of the collector, wherever it stands")
		}
	}
	if c.Role != "" && c.Role != RoleProvince && r.cell("min_villages") != "" {
		r.fail(fmt.Sprintf("a contact of role %s has min_villages", c.Role), "Leave min_villages empty, or correct role: only a province is spared small incidents")
	}
	if c.Email == "" {
		return "", c
	}
	key := strings.ToLower(c.Email) + ", " + string(c.Role) // nobody has two offices that differ in case
	if c.Region != "" {
		key += " " + c.Region
	}
	return contactKey(key), c
}

func readNode(r *record) (NodeID, nodeRow) {
	n := nodeRow{region: r.code("region", 0), Node: Node{
		ID:       NodeID(r.id("node", maxID)),
		Type:     NodeType(r.choice("type", nodeOrder())),
		Name:     r.cell("name"),
		Parent:   NodeID(r.id("parent", maxID)),
		Position: r.position(),
	}}
	return n.ID, n
}

func readTarget(r *record) (measure.TargetID, Target) {
	methods := []Method{MethodICMP, MethodTCP, MethodSpeed, MethodDNS, MethodHTTP}
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = string(m)
	}
	t := Target{
		ID:       measure.TargetID(r.id("target", maxID)),
		Name:     r.cell("name"),
		Node:     NodeID(r.id("node", maxID)),
		Region:   r.code("region", 0),
		Method:   Method(r.choice("method", names)),
		Port:     r.port("port"),
		Question: r.question("question"),
		Latency:  r.yes("latency"),
	}
	switch t.Method {
	case MethodDNS:
		t.Address = r.ip("address")
	default:
		t.Address = r.host("address")
	}
	switch t.Method {
	case MethodHTTP:
		t.URL = r.page("url")
	default:
		t.URL = r.baseURL("url")
	}
	needs := map[Method][]string{MethodICMP: {"address"}, MethodTCP: {"address", "port"}, MethodSpeed: {"url"},
		MethodDNS: {"question"}, MethodHTTP: {"url"}}[t.Method]
	takes := map[Method][]string{MethodDNS: {"address", "port"}}[t.Method]
	if needs == nil {
		return t.ID, t
	}
	for _, c := range []string{"address", "port", "url", "question"} {
		switch filled := r.cell(c) != ""; {
		case slices.Contains(needs, c) && !filled:
			r.fail(fmt.Sprintf("method %s needs the column %s", t.Method, c), "Fill in the cell, or correct the method")
		case !slices.Contains(needs, c) && !slices.Contains(takes, c) && filled:
			r.fail(fmt.Sprintf("method %s takes nothing in the column %s", t.Method, c), "Leave the cell empty, or correct the method")
		}
	}
	if t.Method == MethodDNS && t.Port != 0 && t.Address == "" {
		r.fail("a port without an address", "Write the resolver's IP address too, or leave both empty for the probe's own resolver")
	}
	if t.Latency && t.Method != MethodICMP {
		r.fail(fmt.Sprintf("latency is not measured by method %s", t.Method), "Mark a target of method icmp instead")
	}
	return t.ID, t
}

func readSite(r *record) (measure.SiteID, siteRow) {
	s := siteRow{
		village:    r.code("village", village),
		name:       r.cell("name"),
		population: r.population("population"),
		isp:        ISPID(r.id("isp", maxID)),
		access: Access(r.choice("access", []string{string(AccessFiber), string(Access4G), string(AccessVSAT),
			string(AccessOther), string(AccessNone)})),
		odp:      NodeID(r.id("odp", maxID)),
		position: r.position(),
		budget:   r.gigabytes("budget_gb"),
	}
	if s.access == AccessNone && s.budget > 0 {
		r.fail("a site without access has a budget", "Leave budget_gb empty, or correct access")
	}
	if s.access == AccessNone && s.isp != "" {
		r.fail("a site without access has a provider", "Leave isp empty, or correct access")
	}
	if s.access != "" && s.access != AccessFiber && s.odp != "" {
		r.fail(fmt.Sprintf("a site with access %s has an ODP", s.access), "Leave odp empty, or correct access: only fiber ends at an ODP")
	}
	return measure.SiteID(r.id("site", maxID)), s
}

func readPlan(r *record) (measure.SiteID, Plan) {
	rate := func(name string) float64 {
		mbps, ok := r.decimal(name, true)
		if ok && (mbps <= 0 || mbps > maxMbps) {
			r.fail(fmt.Sprintf("%s %s is not above 0 and up to %d", name, quote(r.cell(name)), maxMbps), "Write the promised rate in Mbit/s")
		}
		return mbps * 1e6
	}
	return measure.SiteID(r.id("site", maxID)),
		Plan{DownloadBPS: rate("download_mbps"), UploadBPS: rate("upload_mbps"), Document: r.cell("source_document")}
}

func readProbe(r *record) (measure.ProbeID, Placement) {
	p := Placement{
		Probe:          measure.ProbeID(r.id("probe", measure.MaxProbeID)),
		Site:           measure.SiteID(r.id("site", maxID)),
		UsageInterface: r.interfaceName("usage_interface"),
		LANGateway:     r.ip("lan_gateway"),
		FirstHop:       r.ip("first_hop"),
	}
	return p.Probe, p
}

// checkOverlaps refuses two rows about one thing for one time.
func checkOverlaps[K ~string, V any](b *builder, file, what string, tl *timeline[K, V]) {
	es := tl.entries
	widest := 0 // of this key, the entry that reaches furthest
	for i := 1; i < len(es); i++ {
		if es[i].key != es[widest].key {
			widest = i
			continue
		}
		if w := es[widest]; es[i].dates.meets(w.dates) {
			first, second := w, es[i]
			if first.line > second.line {
				first, second = second, first
			}
			b.problems.add(file, second.line,
				fmt.Sprintf("%s %s is in row %d too for some of the same time (%s; here %s)", what, quote(string(second.key)), first.line, first.dates, second.dates),
				"Delete one row, or end one with valid_to on the day the other begins")
		}
		if es[i].dates.to > es[widest].dates.to {
			widest = i
		}
	}
}

// refer reports whether key is known to tl for all of dates, and the problem if
// not. in is tl's file.
func refer[K ~string, V any](b *builder, file string, line int, dates span, what string, key K, tl *timeline[K, V], in string) {
	if b.holes[in] || b.damaged[in][string(key)] {
		return
	}
	if len(tl.of(key)) == 0 {
		b.problems.add(file, line, fmt.Sprintf("%s %s is not in %s", what, quote(string(key)), in), "Correct it, or add a row for it there")
		return
	}
	if gap, found := tl.gap(key, dates); found {
		b.problems.add(file, line, fmt.Sprintf("%s %s has no row in %s for %s, but this row holds then", what, quote(string(key)), in, gap),
			"Make the dates of the two files agree")
	}
}

func (b *builder) checkRegions() {
	for _, e := range b.inv.regions.entries {
		if up := parent(e.key); up != "" {
			refer(b, fileRegions, e.line, e.dates, level(len(up)).String(), up, &b.inv.regions, fileRegions)
		}
	}
}

// nodeOrder lists the types from the top.
func nodeOrder() []string {
	return []string{string(NodePOP), string(NodeBNG), string(NodeOLT), string(NodePON), string(NodeODC), string(NodeODP)}
}

func mayStandBelow(child, parent NodeType) bool {
	order := nodeOrder()
	return slices.Index(order, string(parent)) < slices.Index(order, string(child)) || child == NodePOP && parent == NodePOP
}

func (b *builder) checkNodes() {
	nodes := &b.inv.nodes
	for i := range nodes.entries {
		e := &nodes.entries[i]
		if e.value.region != "" {
			refer(b, fileNodes, e.line, e.dates, "region", e.value.region, &b.inv.regions, fileRegions)
		}
		if e.value.Parent == "" {
			continue
		}
		refer(b, fileNodes, e.line, e.dates, "parent", e.value.Parent, nodes, fileNodes)
		for _, up := range nodes.of(e.value.Parent) {
			if up.dates.meets(e.dates) && !mayStandBelow(e.value.Type, up.value.Type) {
				b.problems.add(fileNodes, e.line,
					fmt.Sprintf("%s %s stands below %s %s", e.value.Type, quote(string(e.key)), up.value.Type, quote(string(up.key))),
					"Correct parent or type: the order is "+strings.Join(nodeOrder(), " > ")+", and a level may be left out")
			}
		}
		b.checkAncestors(e)
	}
	b.checkZones(fileNodes, "node", func(yield func(id string, line int, region string)) {
		for _, e := range nodes.entries {
			if e.value.region != "" {
				yield(string(e.key), e.line, e.value.region)
			}
		}
	})
}

// checkAncestors finds a cycle from the entry that closed it, and a tree that is
// too deep. Whatever the cycle, it exists on the first day of one of its rows.
func (b *builder) checkAncestors(e *entry[NodeID, nodeRow]) {
	on := e.dates.from
	way := []*entry[NodeID, nodeRow]{e}
	for {
		up := b.inv.nodes.on(way[len(way)-1].value.Parent, on)
		switch {
		case up == nil:
			return
		case up == e:
			for _, other := range way {
				if other.dates.from == on && other.key < e.key {
					return // reported there
				}
			}
			ids := make([]string, 0, len(way)+1)
			for _, w := range append(way, e) {
				ids = append(ids, string(w.key))
			}
			b.problems.add(fileNodes, e.line, "the tree goes in a circle: "+quoteWay(ids), "Correct the parent of one of them")
			return
		case slices.Contains(way, up):
			return // a circle above this node
		case len(way) == maxDepth:
			b.problems.add(fileNodes, e.line, fmt.Sprintf("node %s has more than %d nodes above it", quote(string(e.key)), maxDepth-1), "Leave levels out")
			return
		}
		way = append(way, up)
	}
}

func quoteWay(ids []string) string {
	for i, id := range ids {
		ids[i] = quote(id)
	}
	return strings.Join(ids, " below ")
}

// checkZones refuses a thing whose rows lie in different time zones: its dates
// would mean two things.
func (b *builder) checkZones(file, what string, rows func(yield func(id string, line int, region string))) {
	first := make(map[string]string)
	rows(func(id string, line int, region string) {
		was, seen := first[id]
		if !seen {
			first[id] = region
			return
		}
		if zoneOf(was) != zoneOf(region) {
			b.problems.add(file, line, fmt.Sprintf("%s %s moves from %s to %s, across time zones", what, quote(id), was, region),
				"End its rows, and go on with a new id")
		}
	})
}

func (b *builder) checkTargets() {
	for _, e := range b.inv.targets.entries {
		if e.value.Node != "" {
			refer(b, fileTargets, e.line, e.dates, "node", e.value.Node, &b.inv.nodes, fileNodes)
		}
		if e.value.Region != "" {
			refer(b, fileTargets, e.line, e.dates, "region", e.value.Region, &b.inv.regions, fileRegions)
		}
	}
}

func (b *builder) checkSites() {
	inv := b.inv
	for _, e := range inv.sites.entries {
		s := e.value
		refer(b, fileSites, e.line, e.dates, "village", s.village, &inv.regions, fileRegions)
		if s.isp != "" {
			refer(b, fileSites, e.line, e.dates, "isp", s.isp, &inv.isps, fileISPs)
		}
		if s.odp == "" {
			continue
		}
		refer(b, fileSites, e.line, e.dates, "odp", s.odp, &inv.nodes, fileNodes)
		for _, n := range inv.nodes.of(s.odp) {
			if n.dates.meets(e.dates) && n.value.Type != NodeODP {
				b.problems.add(fileSites, e.line, fmt.Sprintf("odp %s is of type %s in nodes.csv", quote(string(s.odp)), n.value.Type),
					"Name the ODP at which the site's line ends, or leave the cell empty if it is not known")
			}
		}
	}
	b.checkZones(fileSites, "site", func(yield func(id string, line int, region string)) {
		for _, e := range inv.sites.entries {
			yield(string(e.key), e.line, e.value.village)
		}
	})
}

func (b *builder) checkPlans() {
	for _, e := range b.inv.plans.entries {
		b.referSite(filePlans, e.line, e.dates, e.key, "a plan")
	}
}

func (b *builder) checkProbes() {
	for _, e := range b.inv.probes.entries {
		b.referSite(fileProbes, e.line, e.dates, e.value.Site, "a probe")
	}
}

func (b *builder) checkContacts() {
	for _, e := range b.inv.contacts.entries {
		if e.value.Region != "" {
			refer(b, fileContacts, e.line, e.dates, "region", e.value.Region, &b.inv.regions, fileRegions)
		}
	}
}

// referSite checks that a site is there for all of dates, and has access.
func (b *builder) referSite(file string, line int, dates span, id measure.SiteID, what string) {
	refer(b, file, line, dates, "site", id, &b.inv.sites, fileSites)
	for _, s := range b.inv.sites.of(id) {
		if s.dates.meets(dates) && s.value.access == AccessNone {
			b.problems.add(file, line, fmt.Sprintf("site %s has %s but no access (none) in row %d of %s", quote(string(id)), what, s.line, fileSites),
				"Delete this row, or correct access there")
		}
	}
}

// nodeZone is the time zone of a node's dates: of the first region that it, or
// the nearest node above it, names; else WIB. Called without problems only.
func (b *builder) nodeZone(id NodeID) *time.Location {
	for range maxDepth {
		es := b.inv.nodes.of(id)
		if len(es) == 0 {
			break
		}
		for _, e := range es {
			if zone := zoneOf(e.value.region); zone != nil {
				return zone
			}
		}
		id = es[0].value.Parent
	}
	return wib
}

// siteZone is the time zone of all of a site's rows.
func (b *builder) siteZone(id measure.SiteID) *time.Location {
	es := b.inv.sites.of(id)
	if len(es) == 0 {
		return wib
	}
	return cmp.Or(zoneOf(es[0].value.village), wib)
}

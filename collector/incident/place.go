package incident

import (
	"math"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// How likely silence is by accident. A probe is taken to be disrupted four times
// in 30 days, for half an hour in the mean; the limit is the chance at one instant.
// With these, two of two name no node and three of three do, and so do three of
// four.
const (
	unavailable = 4 * 30.0 / (30 * 24 * 60)
	chanceLimit = 1e-6
	// A node is down if this share of its children is, in percent.
	shareDown = 60
)

// chance is the probability that k or more of n sites are silent at one instant
// without a common cause: the upper tail of a binomial distribution.
func chance(n, k int) float64 {
	if k <= 0 {
		return 1
	}
	lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	sum := 0.0
	for i := k; i <= n; i++ {
		term := math.Exp(lg(n) - lg(i) - lg(n-i) + float64(i)*math.Log(unavailable) + float64(n-i)*math.Log1p(-unavailable))
		sum += term
		if term < sum*1e-9 {
			break
		}
	}
	return sum
}

// mark is what a site says of one question: which fell together with a given one.
type mark uint8

const (
	unwatched mark = iota // says nothing: never seen, or silent since long before
	up
	fell
)

// forest is the inventory's typed trees at one instant, with the sites as leaves.
type forest struct {
	inv    *inventory.Inventory
	at     time.Time
	nodes  []branch
	sites  []leaf
	byNode map[inventory.NodeID]int
	bySite map[measure.SiteID]int
}

type branch struct {
	inventory.Node
	parent   int // -1: none
	children []int
	sites    []int
}

type leaf struct {
	id       measure.SiteID
	district string
	node     int  // -1: on no known node
	placed   bool // a probe stands there
}

func newForest(inv *inventory.Inventory, at time.Time) *forest {
	all := inv.Sites(at)
	f := &forest{inv: inv, at: at, byNode: map[inventory.NodeID]int{}, bySite: make(map[measure.SiteID]int, len(all)),
		sites: make([]leaf, 0, len(all))}
	for i, s := range all {
		f.bySite[s.ID] = i
		l := leaf{id: s.ID, district: inventory.DistrictCode(s.Village), node: f.plant(s.ODP), placed: len(inv.ProbesAt(s.ID, at)) > 0}
		if l.node >= 0 {
			f.nodes[l.node].sites = append(f.nodes[l.node].sites, i)
		}
		f.sites = append(f.sites, l)
	}
	return f
}

// plant makes sure that a node and all above it are in the forest.
func (f *forest) plant(id inventory.NodeID) int {
	if i, ok := f.byNode[id]; ok {
		return i
	}
	n, ok := f.inv.Node(id, f.at)
	if !ok {
		return -1
	}
	parent := f.plant(n.Parent)
	i := len(f.nodes)
	f.nodes = append(f.nodes, branch{Node: n, parent: parent})
	f.byNode[id] = i
	if parent >= 0 {
		f.nodes[parent].children = append(f.nodes[parent].children, i)
	}
	return i
}

// holds reports whether f is the inventory at an instant.
func (f *forest) holds(inv *inventory.Inventory, at time.Time) bool {
	if f.inv != inv {
		return false
	}
	from, to := f.at, at
	if to.Before(from) {
		from, to = to, from
	}
	return len(inv.Boundaries(from, to)) == 0
}

// forests keeps the few that are in use.
type forests []*forest

const maxForests = 4

func (fs *forests) at(inv *inventory.Inventory, at time.Time) *forest {
	for _, f := range *fs {
		if f.holds(inv, at) {
			return f
		}
	}
	f := newForest(inv, at)
	*fs = append(*fs, f)
	if len(*fs) > maxForests {
		*fs = append(forests{}, (*fs)[1:]...)
	}
	return f
}

// chain is the way from a node (-1: none) up to its root.
func (f *forest) chain(node int) []int {
	var out []int
	for ; node >= 0; node = f.nodes[node].parent {
		out = append(out, node)
	}
	return out
}

func (f *forest) root(node int) int {
	c := f.chain(node)
	if len(c) == 0 {
		return -1
	}
	return c[len(c)-1]
}

// below reports whether a node is another or stands below it.
func (f *forest) below(node int, id inventory.NodeID) bool {
	for ; node >= 0; node = f.nodes[node].parent {
		if f.nodes[node].ID == id {
			return true
		}
	}
	return false
}

// tally is what the sites below a node say together.
type tally struct {
	watched, fallen int // sites
	kids, kidsDown  int // children that have watched sites; a site counts as a child of its node
}

func (t tally) down() bool { return t.kids > 0 && 100*t.kidsDown >= shareDown*t.kids }

// named reports whether so many fell that the node itself is to be named.
func (t tally) named() bool {
	return t.fallen > 1 && t.down() && chance(t.watched, t.fallen) < chanceLimit
}

// count fills in the tallies of a node and all below it.
func (f *forest) count(node int, marks func(site int) mark, into map[int]tally) tally {
	var t tally
	for _, s := range f.nodes[node].sites {
		switch marks(s) {
		case fell:
			t.fallen++
			t.kidsDown++
			fallthrough
		case up:
			t.watched++
			t.kids++
		}
	}
	for _, c := range f.nodes[node].children {
		k := f.count(c, marks, into)
		if k.watched == 0 {
			continue
		}
		t.watched += k.watched
		t.fallen += k.fallen
		t.kids++
		if k.down() {
			t.kidsDown++
		}
	}
	into[node] = t
	return t
}

// finding is which sites fell together with one, and where.
type finding struct {
	place Place
	sites []int
	node  int // -1: none
	tally tally
	// near is the lowest node above that has other watched sites than those that
	// fell; -1: none. Its tally is nearby.
	near   int
	nearby tally
}

// locate finds the lowest node that explains why a site fell, with all that fell
// below it. Of the nodes above the site that can be named, the highest explains
// most; of those that explain the same, the lowest is named. If none can be named
// but both of the only two sites below a node fell, they are one finding, not
// separable; else the site is alone, at or below the highest node that has no
// other watched site.
func (f *forest) locate(seed int, marks func(site int) mark) finding {
	out := finding{node: -1, near: -1, sites: []int{seed}}
	chain := f.chain(f.sites[seed].node)
	if len(chain) == 0 {
		return out
	}
	tallies := map[int]tally{}
	f.count(chain[len(chain)-1], marks, tallies)

	at := -1 // in the chain
	for i := len(chain) - 1; i >= 0 && at < 0; i-- {
		if tallies[chain[i]].named() {
			at = i
		}
	}
	if at >= 0 {
		for at > 0 && tallies[chain[at-1]].fallen == tallies[chain[at]].fallen && tallies[chain[at-1]].named() {
			at--
		}
		out.place.Separable = true
	} else {
		at = f.unnamed(chain, tallies)
		out.place.Drop = tallies[chain[at]].watched > tallies[chain[at]].fallen
	}
	out.node, out.tally = chain[at], tallies[chain[at]]
	if out.place.Separable || !out.place.Drop && out.tally.fallen > 1 {
		out.sites = nil
		f.each(out.node, func(s int) {
			if marks(s) == fell {
				out.sites = append(out.sites, s)
			}
		})
	}
	n := f.nodes[out.node]
	out.place.Node, out.place.Type, out.place.Name = n.ID, n.Type, n.Name
	top := at
	for !out.place.Drop && top+1 < len(chain) && tallies[chain[top+1]].watched == out.tally.watched {
		top++
	}
	out.place.Top = f.nodes[chain[top]].ID
	for i := at; i < len(chain) && out.near < 0; i++ {
		if t := tallies[chain[i]]; t.watched > len(out.sites) {
			out.near, out.nearby = chain[i], t
		}
	}
	return out
}

// unnamed is where in the chain the evidence ends, for a site that fell without
// enough company to name a node.
func (f *forest) unnamed(chain []int, tallies map[int]tally) int {
	rise := func(at int) int {
		for at+1 < len(chain) && tallies[chain[at+1]].watched == tallies[chain[at]].watched {
			at++
		}
		return at
	}
	at := rise(0)
	switch t := tallies[chain[at]]; {
	case t.fallen < t.watched:
		return 0 // others on its own node work
	case t.watched > 1 || at+1 == len(chain):
		return at
	}
	if t := tallies[chain[at+1]]; t.fallen < t.watched {
		return at
	}
	return rise(at + 1)
}

// each calls do for every site below a node.
func (f *forest) each(node int, do func(site int)) {
	for _, s := range f.nodes[node].sites {
		do(s)
	}
	for _, c := range f.nodes[node].children {
		f.each(c, do)
	}
}

package portal

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/portal/rank"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// The map's size in its own units, which are pixels on a wide screen.
const (
	mapWidth     = 787.0
	mapMaxHeight = 620.0 // of many villages: see tallest
	mapMargin    = 46.0
	// maxOnMap is above the largest regency.
	maxOnMap = 1500
)

// villageMap is the drawing of one regency: land, district borders, one dot for
// each village, the worst on top.
type villageMap struct {
	Width, Height string
	Label         string
	Coast, Land   string // path data
	CoastWidth    string
	LandWidth     string
	Border        string
	Dots          []dot
	Labels        []mapLabel
	Scale         *scaleBar
	Note          string
}

type dot struct {
	look
	X, Y, Size  string // Size scales the shape
	Radius      string // of what can be clicked
	Href, Title string
}

type mapLabel struct {
	X, Y, Text string
	Troubled   bool
}

type scaleBar struct{ Path, X, Y, Text string }

// land is what of a map does not change while the inventory does not.
type land struct {
	height float64
	at     map[string]point // by village code
	scale  float64          // units per km
	reach  float64          // how far the land goes beyond a village
	path   string
	border string
}

// mapCache keeps the land of the regencies that were asked for, of one
// inventory. It is safe for concurrent use.
type mapCache struct {
	mu    sync.Mutex
	of    *inventory.Inventory
	lands map[string]*land
}

// mostLands bounds the cache's memory: some 100 KB each.
const mostLands = 64

// draw makes the map of a regency, or nil if the position of a village is not
// known: a map with holes would look complete.
func (c *mapCache) draw(inv *inventory.Inventory, regency string, vs []place, schematic bool) *villageMap {
	if len(vs) == 0 || len(vs) > maxOnMap {
		return nil
	}
	for _, v := range vs {
		if _, ok := positionOf(v); !ok {
			return nil
		}
	}
	return c.land(inv, regency, vs).draw(vs, schematic)
}

func (c *mapCache) land(inv *inventory.Inventory, regency string, vs []place) *land {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of != inv || len(c.lands) >= mostLands {
		c.of, c.lands = inv, make(map[string]*land)
	}
	l := c.lands[regency]
	if l == nil || !l.has(vs) { // facts are dated: villages come and go within one inventory
		l = survey(vs)
		c.lands[regency] = l
	}
	return l
}

func (l *land) has(vs []place) bool {
	for _, v := range vs {
		if _, ok := l.at[v.Code]; !ok {
			return false
		}
	}
	return len(vs) == len(l.at)
}

func positionOf(v place) (inventory.Position, bool) {
	for _, s := range v.Sites {
		if s.Known {
			return s.Position, true
		}
	}
	return inventory.Position{}, false
}

const kmPerDegree = 111.2 // of latitude, on a sphere of the Earth's mean radius

// tallest is the height that a map of n villages may have: a third of its width
// up to 20, from there in step with the distance between neighbours.
func tallest(n int) float64 {
	return min(mapWidth/3*math.Sqrt(max(float64(n)/20, 1)), mapMaxHeight)
}

// survey projects the villages (equirectangular, true at their mean latitude: a
// regency is small) and guesses land and borders from them.
func survey(vs []place) *land {
	km := make([]point, len(vs))
	lat := 0.0
	for _, v := range vs {
		p, _ := positionOf(v)
		lat += p.Lat / float64(len(vs))
	}
	squeeze := math.Cos(lat * math.Pi / 180)
	low := point{math.Inf(1), math.Inf(1)}
	high := point{math.Inf(-1), math.Inf(-1)}
	for i, v := range vs {
		p, _ := positionOf(v)
		km[i] = point{p.Lon * kmPerDegree * squeeze, -p.Lat * kmPerDegree}
		low = point{min(low.X, km[i].X), min(low.Y, km[i].Y)}
		high = point{max(high.X, km[i].X), max(high.Y, km[i].Y)}
	}
	const narrowest = 2.0 // km: a single village is not blown up to a continent
	wide, tall := max(high.X-low.X, narrowest), max(high.Y-low.Y, narrowest)
	scale := min((mapWidth-2*mapMargin)/wide, (tallest(len(vs))-2*mapMargin)/tall)
	l := &land{height: min(tall*scale+2*mapMargin, tallest(len(vs))), at: make(map[string]point), scale: scale}
	center := middle(low, high)
	ps := make([]point, len(vs))
	for i, v := range vs {
		ps[i] = km[i].minus(center).times(scale).plus(point{mapWidth / 2, l.height / 2})
		l.at[v.Code] = ps[i]
	}
	l.shape(ps, func(i int) string { return vs[i].District.Code })
	return l
}

// shape joins neighbouring villages to land and draws a border between those of
// two districts.
func (l *land) shape(ps []point, district func(int) string) {
	type edge [2]int
	triangles := delaunay(ps)
	var lengths []float64
	nearest := make([]float64, len(ps))
	for i := range nearest {
		nearest[i] = math.Inf(1)
	}
	for _, t := range triangles {
		for k := range 3 {
			a, b := t[k], t[(k+1)%3]
			d := ps[a].distance(ps[b])
			lengths = append(lengths, d)
			nearest[a], nearest[b] = min(nearest[a], d), min(nearest[b], d)
		}
	}
	slices.Sort(lengths)
	longest := 3.2 * rank.Quantile(lengths, 0.5) // NaN without triangles: none is used
	slices.Sort(nearest)
	l.reach = 26
	if len(triangles) > 0 {
		l.reach = min(max(0.9*rank.Quantile(nearest, 0.5), 16), 40)
	}

	inside := make(map[edge]point) // edge, as its triangle goes round: the triangle's middle
	used := make([]bool, len(ps))
	for _, t := range triangles {
		if max(ps[t[0]].distance(ps[t[1]]), ps[t[1]].distance(ps[t[2]]), ps[t[2]].distance(ps[t[0]])) > longest {
			continue
		}
		c := centroid(ps[t[0]], ps[t[1]], ps[t[2]])
		for k := range 3 {
			inside[edge{t[k], t[(k+1)%3]}] = c
			used[t[k]] = true
		}
	}

	var border strings.Builder
	way := func(from, to point) {
		fmt.Fprintf(&border, "M%s %sL%s %s", coordinate(from.X), coordinate(from.Y), coordinate(to.X), coordinate(to.Y))
	}
	// Within a triangle a border runs from the middle of one side to that of
	// another; where three districts meet, all three go to the triangle's middle.
	for _, t := range triangles {
		c, used := inside[edge{t[0], t[1]}]
		if !used {
			continue
		}
		var crossed []point
		for k := range 3 {
			a, b := t[k], t[(k+1)%3]
			if district(a) != district(b) {
				crossed = append(crossed, middle(ps[a], ps[b]))
			}
		}
		switch len(crossed) {
		case 2:
			way(crossed[0], crossed[1])
		case 3:
			for _, p := range crossed {
				way(p, c)
			}
		}
	}
	outline := make(map[int][]int) // along the rim: from, to
	edges := make([]edge, 0, len(inside))
	for e := range inside {
		edges = append(edges, e)
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	for _, e := range edges {
		if _, inner := inside[edge{e[1], e[0]}]; inner {
			continue
		}
		outline[e[0]] = append(outline[e[0]], e[1])
		if district(e[0]) != district(e[1]) { // on to the coast
			along, mid := ps[e[1]].minus(ps[e[0]]), middle(ps[e[0]], ps[e[1]])
			way(mid, mid.plus(point{along.Y, -along.X}.times(l.reach/max(along.length(), 1e-9))))
		}
	}
	l.border = border.String()

	var path strings.Builder
	for i, p := range ps {
		if !used[i] {
			fmt.Fprintf(&path, "M%s %sh0", coordinate(p.X), coordinate(p.Y))
		}
	}
	for start := range ps {
		for len(outline[start]) > 0 {
			ring := []point{ps[start]}
			for at := start; len(outline[at]) > 0; {
				next := outline[at][0]
				outline[at] = outline[at][1:]
				at = next
				ring = append(ring, ps[at])
			}
			if area(ring) < 0 {
				continue // a gap within: no lake is known of
			}
			fmt.Fprintf(&path, "M%s %s", coordinate(ring[0].X), coordinate(ring[0].Y))
			for _, p := range ring[1:] {
				fmt.Fprintf(&path, "L%s %s", coordinate(p.X), coordinate(p.Y))
			}
			path.WriteByte('Z')
		}
	}
	l.path = path.String()
}

// draw puts the villages as they are now onto the land.
func (l *land) draw(vs []place, schematic bool) *villageMap {
	m := &villageMap{
		Width: coordinate(mapWidth), Height: coordinate(l.height),
		Coast: l.path, Land: l.path, Border: l.border,
		LandWidth: coordinate(2 * l.reach), CoastWidth: coordinate(2*l.reach + 3),
	}
	ordered := slices.Clone(vs)
	slices.SortStableFunc(ordered, func(a, b place) int {
		return cmp.Compare(lookOf(b.State).rank, lookOf(a.State).rank)
	})
	// Where villages are few, the small dot need not be so small.
	small := 0.45
	if len(vs) < 60 {
		small = 0.7
	}
	for _, v := range ordered {
		p := l.at[v.Code]
		d := dot{look: lookOf(v.State), X: coordinate(p.X), Y: coordinate(p.Y), Size: "0.85", Radius: "12",
			Href: "/desa/" + v.Code, Title: fmt.Sprintf("%s (%s), Kec. %s: %s", v.Name, v.Code, v.District.Name, lookOf(v.State).Word)}
		if groupOf(v.State) == groupUp {
			d.Size, d.Radius = strconv.FormatFloat(small, 'f', -1, 64), "8"
		}
		m.Dots = append(m.Dots, d)
	}
	m.Labels = l.labels(vs)
	m.Label = mapText(vs)
	m.Note = "Satu titik satu desa/kelurahan. Garis kecamatan diperkirakan dari titik desa, bukan batas resmi."
	if schematic {
		m.Note = "Peta skematis: letak titik bukan letak desa yang sebenarnya. " + m.Note
	} else {
		m.Scale = l.scaleBar()
	}
	return m
}

func mapText(vs []place) string {
	var t tally
	for _, v := range vs {
		t.add(v)
	}
	var parts []string
	for i, g := range groups() {
		if n := t.Villages[i]; n > 0 {
			parts = append(parts, bahasa.Count(n)+" "+strings.ToLower(g.Word))
		}
	}
	return fmt.Sprintf("Peta %s desa/kelurahan menurut keadaan: %s. Daftar lengkap ada di tabel.", bahasa.Count(len(vs)), strings.Join(parts, ", "))
}

type box struct{ x0, y0, x1, y1 float64 }

func (b box) overlap(c box) float64 {
	w := min(b.x1, c.x1) - max(b.x0, c.x0)
	h := min(b.y1, c.y1) - max(b.y0, c.y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h
}

func around(p point, half float64) box {
	return box{p.X - half, p.Y - half, p.X + half, p.Y + half}
}

// labels names the districts, each near its middle where it covers least;
// troubled ones choose first.
func (l *land) labels(vs []place) []mapLabel {
	type district struct {
		name     string
		sum      point
		n        int
		troubled bool
	}
	byCode := make(map[string]*district)
	var codes []string
	var marks []box
	for _, v := range vs {
		d := byCode[v.District.Code]
		if d == nil {
			d = &district{name: v.District.Name}
			byCode[v.District.Code] = d
			codes = append(codes, v.District.Code)
		}
		p := l.at[v.Code]
		d.sum, d.n = d.sum.plus(p), d.n+1
		half := 5.0
		if g := groupOf(v.State); g != groupUp {
			half = 13
			d.troubled = d.troubled || g == groupDown || g == groupDegraded
		}
		marks = append(marks, around(p, half))
	}
	slices.SortStableFunc(codes, func(a, b string) int {
		return cmp.Compare(btoi(byCode[b].troubled), btoi(byCode[a].troubled))
	})

	var out []mapLabel
	var placed []box
	for _, code := range codes {
		d := byCode[code]
		middle := d.sum.times(1 / float64(d.n))
		// On a phone only the troubled are named, and twice as large.
		size := 1.0
		if d.troubled {
			size = 2
		}
		half := size * (3.9*float64(len([]rune(d.name))) + 3)
		best, bestCost := middle, math.Inf(1)
		var bestBox box
		for dy := -84.0; dy <= 84; dy += 6 {
			for dx := -72.0; dx <= 72; dx += 8 {
				c := point{middle.X + dx, middle.Y + dy}
				b := box{c.X - half, c.Y - 11*size, c.X + half, c.Y + 4*size}
				if b.x0 < 2 || b.x1 > mapWidth-2 || b.y0 < 2 || b.y1 > l.height-2 {
					continue
				}
				cost := math.Hypot(dx, dy)
				for _, m := range marks {
					cost += 3 * b.overlap(m)
				}
				for _, o := range placed {
					cost += 20 * b.overlap(o)
				}
				if cost < bestCost {
					best, bestCost, bestBox = c, cost, b
				}
			}
		}
		placed = append(placed, bestBox)
		out = append(out, mapLabel{coordinate(best.X), coordinate(best.Y), d.name, d.troubled})
	}
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// scaleBar is a round length of about a tenth of the width.
func (l *land) scaleBar() *scaleBar {
	length := 1.0
	for _, km := range []float64{1, 2, 5, 10, 20, 50, 100, 200} {
		if km*l.scale <= 130 {
			length = km
		}
	}
	x1, y := mapWidth-24, l.height-10
	x0 := x1 - length*l.scale
	return &scaleBar{
		Path: fmt.Sprintf("M%s %sv5H%sv-5", coordinate(x0), coordinate(y-5), coordinate(x1)),
		X:    coordinate((x0 + x1) / 2), Y: coordinate(y - 9), Text: bahasa.Number(length, 0) + " km",
	}
}

// coordinate writes a length in a drawing: to a tenth.
func coordinate(x float64) string {
	return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64)
}

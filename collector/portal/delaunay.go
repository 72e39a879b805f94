package portal

import "math"

type point struct{ X, Y float64 }

func (p point) minus(q point) point      { return point{p.X - q.X, p.Y - q.Y} }
func (p point) plus(q point) point       { return point{p.X + q.X, p.Y + q.Y} }
func (p point) times(f float64) point    { return point{p.X * f, p.Y * f} }
func (p point) length() float64          { return math.Hypot(p.X, p.Y) }
func (p point) distance(q point) float64 { return p.minus(q).length() }
func middle(a, b point) point            { return a.plus(b).times(0.5) }
func cross(a, b, c point) float64        { u, v := b.minus(a), c.minus(a); return u.X*v.Y - u.Y*v.X }
func centroid(a, b, c point) point       { return a.plus(b).plus(c).times(1.0 / 3) }

// nudged moves p by less than a hundredth, the i-th always the same way.
func nudged(p point, i int) point { return point{p.X + jitter(2*i), p.Y + jitter(2*i+1)} }
func jitter(i int) float64        { _, f := math.Modf(float64(i+1) * math.Phi); return (f - 0.5) * 0.02 }

// circle is the one through three points; of infinite radius if they lie in line.
func circle(t [3]point) (c point, r float64) {
	a, b, d := t[0], t[1], t[2]
	ab, ad := b.minus(a), d.minus(a)
	det := 2 * (ab.X*ad.Y - ab.Y*ad.X)
	if det == 0 {
		return a, math.Inf(1)
	}
	b2, d2 := ab.X*ab.X+ab.Y*ab.Y, ad.X*ad.X+ad.Y*ad.Y
	u := point{(ad.Y*b2 - ab.Y*d2) / det, (ab.X*d2 - ad.X*b2) / det}
	return a.plus(u), u.length()
}

// delaunay triangulates points (Bowyer and Watson, 1981), in O(n²): a regency
// has some hundreds of villages. Points are nudged by less than a hundredth, so
// that neither a grid nor two at one place is a special case. Triangles are
// indices into ps, counterclockwise; fewer than three points give none.
func delaunay(ps []point) [][3]int {
	n := len(ps)
	if n < 3 {
		return nil
	}
	all := make([]point, n, n+3)
	low, high := ps[0], ps[0]
	for i, p := range ps {
		all[i] = nudged(p, i)
		low = point{min(low.X, p.X), min(low.Y, p.Y)}
		high = point{max(high.X, p.X), max(high.Y, p.Y)}
	}
	span := max(high.X-low.X, high.Y-low.Y, 1) * 50
	c := middle(low, high)
	all = append(all, point{c.X - span, c.Y - span}, point{c.X + span, c.Y - span}, point{c.X, c.Y + span})

	type triangle struct {
		at     [3]int
		center point
		radius float64
	}
	make3 := func(a, b, d int) triangle {
		if cross(all[a], all[b], all[d]) < 0 {
			b, d = d, b
		}
		t := triangle{at: [3]int{a, b, d}}
		t.center, t.radius = circle([3]point{all[a], all[b], all[d]})
		return t
	}
	ts := []triangle{make3(n, n+1, n+2)}
	for i := range n {
		rim := make(map[[2]int]bool) // edges of the hole that the point makes
		kept := ts[:0]
		for _, t := range ts {
			if all[i].distance(t.center) >= t.radius {
				kept = append(kept, t)
				continue
			}
			for k := range 3 {
				a, b := t.at[k], t.at[(k+1)%3]
				if rim[[2]int{b, a}] {
					delete(rim, [2]int{b, a})
				} else {
					rim[[2]int{a, b}] = true
				}
			}
		}
		ts = kept
		for e := range rim {
			ts = append(ts, make3(e[0], e[1], i))
		}
	}
	var out [][3]int
	for _, t := range ts {
		if t.at[0] < n && t.at[1] < n && t.at[2] < n {
			out = append(out, t.at)
		}
	}
	return out
}

// area is that of a closed ring; negative if it goes round clockwise as
// [delaunay] means it.
func area(ring []point) float64 {
	sum := 0.0
	for i, p := range ring {
		q := ring[(i+1)%len(ring)]
		sum += p.X*q.Y - q.X*p.Y
	}
	return sum / 2
}

package demo

import (
	"math"
	"slices"
	"testing"
)

func linesOn(odcs ...int) (out []line) {
	for _, k := range odcs {
		out = append(out, line{ODC: k})
	}
	return out
}

func odcsOf(n int) []line {
	out := make([]line, n)
	for i := range out {
		out[i].ODC = i / 3
	}
	return out
}

func TestScatter(t *testing.T) {
	lines := odcsOf(40)
	spots := scatter(lines)
	if !slices.Equal(spots, scatter(lines)) {
		t.Error("the same lines lie otherwise")
	}
	if !slices.Equal(spots[:6], scatter(lines[:6])) {
		t.Error("villages that come after move those before")
	}
	middles := map[int]spot{}
	for i, s := range spots {
		n := 0.0
		for _, l := range lines {
			if l.ODC == lines[i].ODC {
				n++
			}
		}
		m := middles[lines[i].ODC]
		middles[lines[i].ODC] = spot{m.east + s.east/n, m.north + s.north/n}
	}
	apartEnough, together := math.Inf(1), 0
	for i, s := range spots {
		nearest, best := -1, math.Inf(1)
		for k, m := range middles {
			if d := s.distance(m); d < best {
				nearest, best = k, d
			}
		}
		if nearest == lines[i].ODC {
			together++
		}
		for _, o := range spots[:i] {
			apartEnough = min(apartEnough, s.distance(o))
		}
	}
	if together < 38 {
		t.Errorf("only %d of 40 villages are nearest to those of their own ODC", together)
	}
	if apartEnough < 0.3 {
		t.Errorf("two villages are %.2f km apart: their dots would cover each other", apartEnough)
	}
	if same := scatter(linesOn(0, 1)); same[0].distance(same[1]) < 1 {
		t.Errorf("two ODCs of one village each lie at %v", same)
	}
}

// A ring, or a line, would look drawn.
func TestScatterIsNoFigure(t *testing.T) {
	for _, n := range []int{6, 12, 40} {
		spots := scatter(odcsOf(n))
		var middle spot
		for _, s := range spots {
			middle = spot{middle.east + s.east/float64(n), middle.north + s.north/float64(n)}
		}
		least, most := math.Inf(1), 0.0
		var ee, nn, en float64
		for _, s := range spots {
			d := s.distance(middle)
			least, most = min(least, d), max(most, d)
			e, n := s.east-middle.east, s.north-middle.north
			ee, nn, en = ee+e*e, nn+n*n, en+e*n
		}
		if least > most/2 {
			t.Errorf("%d villages: %.1f to %.1f km from their middle: a ring", n, least, most)
		}
		if r := math.Abs(en) / math.Sqrt(ee*nn); r > 0.9 {
			t.Errorf("%d villages: correlation %.2f: a line", n, r)
		}
		for _, s := range spots {
			if math.Abs(s.east) > 25 || math.Abs(s.north) > 25 {
				t.Errorf("%d villages: %v is out of the regency", n, s)
			}
		}
	}
}

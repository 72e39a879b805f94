package demo

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// spot is a schematic position, in km east and north of the middle: the villages'
// true places are not ours to say.
type spot struct{ east, north float64 }

// The middle of the drawing, in degrees, and what a km is there.
const (
	middleLat, middleLon = -7.68, 110.73
	kmPerDegree          = 111.2
)

// cells is the position as the inventory has it.
func (s spot) cells() (lat, lon string) {
	squeeze := math.Cos(middleLat * math.Pi / 180)
	return fmt.Sprintf("%.4f", middleLat+s.north/kmPerDegree), fmt.Sprintf("%.4f", middleLon+s.east/(kmPerDegree*squeeze))
}

func (s spot) distance(t spot) float64 { return math.Hypot(s.east-t.east, s.north-t.north) }

// The scatter's measures, in km.
const (
	odcSpacing    = 3.4 // of the spiral on which the ODCs lie
	odcJitter     = 0.7
	villageRadius = 1.9 // around its ODC, at most
)

// scatter lays the villages so that those of one ODC stand together. The same
// lines lie always the same, and those that come after change nothing.
func scatter(lines []line) []spot {
	rnd := rand.New(rand.NewPCG(3310, 15))
	centres := []spot{}
	out := make([]spot, len(lines))
	for i, l := range lines {
		for len(centres) <= l.ODC {
			centres = append(centres, centre(len(centres), rnd))
		}
		out[i] = apart(centres[l.ODC], out[:i], rnd)
	}
	return out
}

// goldenAngle spreads points on a spiral evenly, however many they are (Vogel 1979).
func goldenAngle() float64 { return math.Pi * (3 - math.Sqrt(5)) }

// centre is where the k-th ODC stands: on a spiral, and a little beside it.
func centre(k int, rnd *rand.Rand) spot {
	a, d := goldenAngle()*float64(k), odcSpacing*math.Sqrt(float64(k)+0.4)
	return spot{d*math.Cos(a) + odcJitter*(2*rnd.Float64()-1), d*math.Sin(a) + odcJitter*(2*rnd.Float64()-1)}
}

// apart draws a few places around the ODC and takes the one that is farthest from
// its neighbours (Mitchell's best candidate): as people settle, near, but not on
// top of each other.
func apart(around spot, taken []spot, rnd *rand.Rand) (best spot) {
	const candidates = 12
	farthest := -1.0
	for range candidates {
		a, d := 2*math.Pi*rnd.Float64(), villageRadius*math.Sqrt(rnd.Float64())
		s := spot{around.east + d*math.Cos(a), around.north + d*math.Sin(a)}
		nearest := math.Inf(1)
		for _, t := range taken {
			nearest = min(nearest, s.distance(t))
		}
		if nearest > farthest {
			best, farthest = s, nearest
		}
	}
	return best
}

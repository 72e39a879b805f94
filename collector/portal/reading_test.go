package portal

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// A sample comes back with the instant it was measured at, once, whatever the
// grid, and from whichever probe and target.
func TestSamplesAreTheirOwn(t *testing.T) {
	s := newStore(t)
	odd := 17*time.Second + 123*time.Millisecond
	first := each(20*time.Hour+odd, 4*time.Hour+odd, 97*time.Minute, func(ago time.Duration) float64 { return ago.Hours() })
	second := each(3*time.Hour+odd, odd, 31*time.Minute, func(ago time.Duration) float64 { return ago.Hours() })
	s.put("x", villageUp, first, "site", "a", "probe", "old", "target", "t")
	s.put("x", villageUp, second, "site", "a", "probe", "new", "target", "u")
	s.put("x", villageUp, second, "site", "b", "probe", "other", "target", "t")
	got, err := samples(context.Background(), s, selector("x", "site", "a"), noon.Add(-counted), noon)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(first, second)
	if len(got) != len(want) {
		t.Fatalf("%d samples, want %d", len(got), len(want))
	}
	for i, w := range want {
		if !got[i].At.Equal(noon.Add(-w.ago)) || got[i].Value != w.value {
			t.Errorf("sample %d is %v of %v, want %v of %v", i, got[i].Value, got[i].At, w.value, noon.Add(-w.ago))
		}
	}
	// The time is open at its beginning, closed at its end.
	edge, err := samples(context.Background(), s, selector("x", "site", "b"), noon.Add(-second[0].ago), noon.Add(-second[len(second)-1].ago))
	if err != nil || len(edge) != len(second)-1 {
		t.Errorf("%d samples between the first and the last of %d, %v", len(edge), len(second), err)
	}
}

func TestLatestByVillage(t *testing.T) {
	s := newStore(t)
	put := func(village, site, target string, points ...measured) {
		s.put(seriesDownload, village, points, "site", site, "probe", "p", "target", target)
	}
	h := time.Hour
	put(villageUp, "a", "t", measured{9 * h, 1}, measured{3*h + 7*time.Second, 2}) // by the subquery
	put(villageUp, "a", "u", measured{20 * h, 3})                                  // older: another server
	put(villageDown, "b", "t", measured{90 * time.Second, 4})                      // within the look-back
	put(villageSlow, "c", "t", measured{6 * 24 * h, 5})                            // not of today
	put(villageEvil, "d", "t", measured{8 * 24 * h, 6})                            // forgotten
	put("34.01.01.2001", "e", "t", measured{time.Minute, 7})                       // elsewhere
	for _, matcher := range []string{`regency="33.10"`, anyVillage([]string{villageUp, villageDown, villageSlow, villageEvil})} {
		got, err := latestByVillage(context.Background(), s, seriesDownload, matcher, noon)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]latest{
			villageUp:   {2, noon.Add(-3*h - 7*time.Second), "a", 3},
			villageDown: {4, noon.Add(-90 * time.Second), "b", 1},
			villageSlow: {5, noon.Add(-6 * 24 * h), "c", 0},
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d villages, want %d", matcher, len(got), len(want))
		}
		for code, w := range want {
			if g := got[code]; g.Value != w.Value || !g.At.Equal(w.At) || g.Site != w.Site || g.N != w.N {
				t.Errorf("%s: %s is %+v, want %+v", matcher, code, g, w)
			}
		}
	}
}

func minutes(values ...float64) []sample {
	var out []sample
	for i, v := range values {
		if !math.IsNaN(v) {
			out = append(out, sample{noon.Add(time.Duration(i) * time.Minute), v})
		}
	}
	return out
}

func TestSegmentsLeaveUnknownWhatNoSampleSpeaksOf(t *testing.T) {
	at := func(m float64) time.Time {
		return noon.Add(time.Duration(m * float64(time.Minute)).Round(time.Millisecond))
	}
	none := math.NaN()
	hold := hold.Minutes()
	for name, c := range map[string]struct {
		of   []sample
		want []segment
	}{
		"nothing":              {nil, []segment{{at(0), at(10), undecided}}},
		"one missed is no gap": {minutes(1, 1, none, 1, 1, 1, 1, 1, 1, 1, 1), []segment{{at(0), at(10), state.Up}}},
		"two are":              {minutes(1, none, none, none, 1, 1, 1, 1, 1, 1, 1), []segment{{at(0), at(hold), state.Up}, {at(hold), at(4), undecided}, {at(4), at(10), state.Up}}},
		"late beginning":       {minutes(none, none, 3, 3, 3, 3, 3, 3, 3, 3, 3), []segment{{at(0), at(2), undecided}, {at(2), at(10), state.Down}}},
		"early end":            {minutes(2), []segment{{at(0), at(hold), state.Degraded}, {at(hold), at(10), undecided}}},
		"unknown states merge": {minutes(4, 5, 99, 0.5, 4, 4, 4, 4, 4, 4), []segment{{at(0), at(10), undecided}}},
		"a change within":      {[]sample{{at(-1), 1}, {at(0.25), 3}, {at(1), 1}, {at(2), 7}, {at(4), 7}, {at(6), 7}, {at(8), 7}, {at(11), 1}}, []segment{{at(0), at(0.25), state.Up}, {at(0.25), at(1), state.Down}, {at(1), at(2), state.Up}, {at(2), at(10), state.Maintenance}}},
	} {
		got := segments(c.of, stateOf, at(0), at(10))
		if !slices.EqualFunc(got, c.want, func(a, b segment) bool { return a.From.Equal(b.From) && a.To.Equal(b.To) && a.State == b.State }) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLineBreaksWhereAStepIsMissing(t *testing.T) {
	p := newPlot(spans()[0], noon, noon.Add(time.Hour), 10, nil)
	p.line("first", minutes(1, 2, math.NaN(), 3, math.NaN(), math.NaN(), 4, 5, 6), time.Minute)
	path := p.Marks[len(p.Marks)-1].Path
	if moves, lines, lone := strings.Count(path, "M"), strings.Count(path, "L"), strings.Count(path, "h1.5"); moves != 3 || lines != 3 || lone != 1 {
		t.Errorf("path %q has %d pieces, %d joints, %d lone points; want 3, 3, 1", path, moves, lines, lone)
	}
}

// A name covers no line, no dot and no other name, and is next to what it names.
func TestNamesCoverNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 11))
	written := 0
	for round := range 200 {
		p := newPlot(spans()[round%len(spans())], noon, noon.Add(time.Hour), 10, nil)
		base, gap := r.Float64()*9, r.Float64()*r.Float64()*3
		noise := r.Float64() * r.Float64() * 4
		if round%4 == 0 { // as close to each other as an idle line's two directions
			base, gap, noise = 1, 0.15+r.Float64()*0.4, 0
		}
		var low, high []sample
		for m := range 1 + r.IntN(60) {
			at := noon.Add(time.Duration(m) * time.Minute)
			x := min(base+noise*r.Float64(), 10)
			low = append(low, sample{at, x})
			high = append(high, sample{at, min(x+gap, 10)})
		}
		p.line("first", low, time.Minute)
		p.line("second", high, time.Minute)
		drawn := slices.Clone(p.taken)
		p.nameLine(high, "P95")
		p.nameLine(low, "median")
		var names []box
		for _, text := range p.Texts {
			if text.Class != "named name" {
				continue
			}
			x, errX := strconv.ParseFloat(text.X, 64)
			y, errY := strconv.ParseFloat(text.Y, 64)
			if errX != nil || errY != nil {
				t.Fatal(errX, errY)
			}
			half := 4.0 * float64(len(text.Text)) // as wide as on a large screen
			b := box{x - half, y - 10, x + half, y + 3}
			if b.x0 < p.x0 || b.x1 > p.x1+2 || b.y0 < 0 || b.y1 > chartBottom {
				t.Errorf("round %d: %s leaves the chart: %v", round, text.Text, b)
			}
			for _, o := range slices.Concat(drawn, names) {
				if b.overlap(o) > 0 {
					t.Errorf("round %d: %s covers %v", round, text.Text, o)
				}
			}
			names = append(names, b)
			// Between the median's name and its line there is not the other line.
			if text.Text == "median" && noise == 0 && b.y1 < p.y(high[0].Value) {
				t.Errorf("round %d: the median's name lies above the other line", round)
			}
		}
		written += len(names)
	}
	if written < 200 {
		t.Errorf("only %d of 400 names are written", written)
	}
}

func TestSpanFor(t *testing.T) {
	for watched, want := range map[time.Duration]string{0: "24jam", time.Second: "15menit", 19 * time.Minute: "15menit", 20 * time.Minute: "1jam",
		7 * time.Hour: "1jam", 8 * time.Hour: "24jam", 30 * 24 * time.Hour: "24jam"} {
		if got := spanFor(watched).Key; got != want {
			t.Errorf("watched for %v: %s, want %s", watched, got, want)
		}
	}
}

func TestAxisText(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.6: "0,6", 0.3: "0,3", 0.05: "0,05", 1.5: "1,5", 0.0025: "0,0025", 40: "40", 2000: "2.000"} {
		if got := axisText(v); got != want {
			t.Errorf("axisText(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestFewVillagesMakeALowMap(t *testing.T) {
	before := 0.0
	for _, n := range []int{1, 6, 20, 60, 112, 401, maxOnMap} {
		h := tallest(n)
		if h < before || n < 20 && h > mapWidth/3 || n >= 150 && h != mapMaxHeight {
			t.Errorf("a map of %d villages may be %v high, one of fewer %v", n, h, before)
		}
		before = h
	}
	var ring []place
	for i := range 6 {
		sin, cos := math.Sincos(float64(i) * math.Pi / 3)
		ring = append(ring, place{Village: inventory.Village{Code: "33.10.15." + strconv.Itoa(i)},
			Sites: []inventory.Site{{Position: inventory.Position{Lat: -7.6 + sin/50, Lon: 110.7 + cos/50, Known: true}}}})
	}
	if l := survey(ring); l.height > mapWidth/3 {
		t.Errorf("a map of six is %v high", l.height)
	}
}

func TestThroughputIsOverCoveredTimeOnly(t *testing.T) {
	const step = 10 * time.Minute
	counter := func(from, to int, start, perSecond float64) []sample {
		var out []sample
		for m := from; m <= to; m++ {
			out = append(out, sample{noon.Add(time.Duration(m) * time.Minute), start + perSecond*60*float64(m-from)})
		}
		return out
	}
	readings := slices.Concat(counter(0, 16, 0, 100), counter(35, 47, 5, 300), counter(48, 60, 0, 300)) // a gap; then a restart
	got := throughput([][]sample{readings}, noon, noon.Add(time.Hour), step, 3*time.Minute)
	want := map[time.Duration]float64{5: 100, 15: 100, 35: 0, 45: 300, 55: 300}
	delete(want, 35) // four of its ten minutes are covered: too little to tell
	for _, s := range got {
		m := s.At.Sub(noon) / time.Minute
		if w, ok := want[m]; !ok || math.Abs(w-s.Value) > 1e-6 {
			t.Errorf("minute %d: %v, want %v", m, s.Value, want[m])
		}
		delete(want, m)
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
	two := throughput([][]sample{readings[:17], readings[:17]}, noon, noon.Add(time.Hour), step, 3*time.Minute)
	if len(two) == 0 || math.Abs(two[0].Value-200) > 1e-6 {
		t.Errorf("two counters give %v, want 200", two)
	}
}

func TestCalendarShowsEveryEvent(t *testing.T) {
	day := midnight(noon)
	segs := []segment{{day.AddDate(0, 0, -29), day.Add(-time.Minute), state.Up}, {day.Add(-time.Minute), day.Add(time.Minute), state.Down}, {day.Add(time.Minute), noon, state.Up}}
	c := calendar(segs, noon.AddDate(0, 0, -29), noon, 1118, 190, "roomy", "x")
	last := c.Marks[len(c.Marks)-1]
	if last.Class != "down" || strings.Count(last.Path, "M") != 2 || strings.Count(last.Path, "v4h") != 2 {
		t.Errorf("two minutes around midnight are drawn as %+v", last)
	}
	if up := c.Marks[0]; up.Class != "up" || strings.Count(up.Path, "M") != 30 {
		t.Errorf("%d columns are up, want 30", strings.Count(up.Path, "M"))
	}
}

func TestRoundUp(t *testing.T) {
	for x, want := range map[float64]float64{0: 1, -3: 1, math.NaN(): 1, math.Inf(1): 1, 0.013: 0.02, 1: 1, 1.1: 2, 55: 60, 60: 60, 61: 80, 99: 100, 101: 200} {
		if got := roundUp(x); math.Abs(got-want) > 1e-9 {
			t.Errorf("roundUp(%v) = %v, want %v", x, got, want)
		}
	}
}

// No point lies within the circle of a triangle, and the triangles fill the
// hull: a grid and twins are no special case.
func TestDelaunay(t *testing.T) {
	var grid []point
	for x := range 7 {
		for y := range 5 {
			grid = append(grid, point{float64(x) * 10, float64(y) * 10})
		}
	}
	triangles := delaunay(append(grid, grid[8]))
	sum := 0.0
	for _, tr := range triangles {
		ring := make([]point, 3)
		for k, i := range tr {
			ring[k] = grid[i%35]
		}
		sum += area(ring)
	}
	if math.Abs(sum-60*40) > 5 {
		t.Errorf("the triangles cover %v, want 2400", sum)
	}
	ps := []point{{0, 0}, {10, 1}, {4, 8}, {6, 3}, {2, 4}, {9, 9}}
	for _, tr := range delaunay(ps) {
		c, r := circle([3]point{ps[tr[0]], ps[tr[1]], ps[tr[2]]})
		for i, p := range ps {
			if !slices.Contains(tr[:], i) && p.distance(c) < r-0.1 {
				t.Errorf("point %d lies in the circle of %v", i, tr)
			}
		}
	}
	if got := delaunay([]point{{0, 0}, {1, 1}}); got != nil {
		t.Errorf("two points make %v", got)
	}
}

// However villages lie, the map stays within its frame and has its dots.
func TestSurveyOfOddPlaces(t *testing.T) {
	at := func(i int, lat, lon float64) place {
		return place{Village: inventory.Village{Code: "33.10.04." + string(rune('A'+i))},
			Sites: []inventory.Site{{Position: inventory.Position{Lat: lat, Lon: lon, Known: true}}}}
	}
	for name, vs := range map[string][]place{
		"one":         {at(0, -7.6, 110.7)},
		"two":         {at(0, -7.6, 110.7), at(1, -7.5, 110.7)},
		"all at once": {at(0, -7.6, 110.7), at(1, -7.6, 110.7), at(2, -7.6, 110.7), at(3, -7.6, 110.7)},
		"in a line":   {at(0, 1, 101), at(1, 1, 102), at(2, 1, 103), at(3, 1, 104)},
		"far isle":    {at(0, 1, 101), at(1, 1.01, 101), at(2, 1, 101.01), at(3, 3, 103)},
	} {
		l := survey(vs)
		if l.path == "" || strings.Contains(l.path+l.border, "NaN") || !(l.height > 0 && l.height <= mapMaxHeight) {
			t.Errorf("%s: land %q, height %v", name, l.path, l.height)
		}
		for code, p := range l.at {
			if !(p.X >= 0 && p.X <= mapWidth && p.Y >= 0 && p.Y <= l.height) {
				t.Errorf("%s: %s lies at %v", name, code, p)
			}
		}
	}
}

func TestMapIsLeftOutWhereAPositionIsNotKnown(t *testing.T) {
	inv := klaten(t)
	vs := places(inv, "33.10", klatenNow(), noon)
	if new(mapCache).draw(inv, "33.10", vs, false) == nil {
		t.Fatal("no map although all positions are known")
	}
	vs[3].Sites = slices.Clone(vs[3].Sites)
	vs[3].Sites[0].Known = false
	if new(mapCache).draw(inv, "33.10", vs, false) != nil {
		t.Error("a map with a hole")
	}
}

func TestSharesFillTheBar(t *testing.T) {
	for _, villages := range [][6]int{{1, 0, 0, 0, 0, 84275}, {6, 9, 4, 5, 0, 377}, {1, 1, 1, 1, 1, 1}, {0, 0, 0, 0, 0, 9}} {
		total := 0.0
		pieces := shares(tally{Villages: villages})
		for i, s := range pieces {
			w, err := strconv.ParseFloat(s.Width, 64)
			if err != nil {
				t.Fatal(err)
			}
			if w < 5 {
				t.Errorf("%v: a piece is %v wide", villages, w)
			}
			total += w
			if i > 0 {
				total += 2
			}
		}
		if math.Abs(total-1000) > 1 {
			t.Errorf("%v: the bar is %v long", villages, total)
		}
	}
}

package portal

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/state"
)

// chart is a drawing, ready for the template: marks from back to front.
type chart struct {
	Class         string
	Width, Height int
	Label         string // the finding, as one sentence
	Marks         []mark
	Texts         []chartText
}

// mark is a path; without a class it is hatched.
type mark struct{ Class, Path string }

type chartText struct {
	Class, X, Y, Text string
}

func (c *chart) mark(class, path string) {
	if path != "" {
		c.Marks = append(c.Marks, mark{class, path})
	}
}

func (c *chart) text(class string, x, y float64, s string) {
	c.Texts = append(c.Texts, chartText{class, coordinate(x), coordinate(y), s})
}

func rect(x, y, w, h float64) string {
	return fmt.Sprintf("M%s %sh%sv%sh%sz", coordinate(x), coordinate(y), coordinate(w), coordinate(h), coordinate(-w))
}

// segment is a time in which one state held; undecided is unknown.
type segment struct {
	From, To time.Time
	State    state.State
}

// hold is how long a sample of once a minute speaks for the time after it: a
// single missed one does not show, two do.
const hold = 130 * time.Second

// segments turns samples into what held from from to to, without a gap: where no
// sample speaks, it is unknown.
func segments(ss []sample, of func(float64) state.State, from, to time.Time) []segment {
	var out []segment
	add := func(until time.Time, s state.State) {
		start := from
		if n := len(out); n > 0 {
			start = out[n-1].To
		}
		if until.After(to) {
			until = to
		}
		if !until.After(start) {
			return
		}
		if n := len(out); n > 0 && out[n-1].State == s {
			out[n-1].To = until
			return
		}
		out = append(out, segment{start, until, s})
	}
	for i, s := range ss {
		if s.At.After(to) {
			break
		}
		add(s.At, undecided)
		until := s.At.Add(hold)
		if i+1 < len(ss) && ss[i+1].At.Before(until) {
			until = ss[i+1].At
		}
		add(until, of(s.Value))
	}
	add(to, undecided)
	return out
}

// stateOf reads the code of a state; the unknown ones are one in a chart.
func stateOf(code float64) state.State {
	s := state.State(code)
	if code != math.Trunc(code) || !s.Valid() || s == state.ProbeFault || s == state.NeverSeen {
		return undecided
	}
	return s
}

// reached reads a yes-or-no figure.
func reached(x float64) state.State {
	if x > 0 {
		return state.Up
	}
	return state.Down
}

// lasting sums how long each state held.
func lasting(segs []segment) map[state.State]time.Duration {
	out := make(map[state.State]time.Duration)
	for _, s := range segs {
		out[s.State] += s.To.Sub(s.From)
	}
	return out
}

// The order in which states are drawn: the worst last, so that it is on top.
func drawn() []state.State {
	return []state.State{state.Up, undecided, state.NoCoverage, state.Maintenance, state.Degraded, state.Down}
}

// axis maps times to the width of a chart.
type axis struct {
	from, to time.Time
	x0, x1   float64
}

func (a axis) x(t time.Time) float64 {
	return a.x0 + (a.x1-a.x0)*float64(t.Sub(a.from))/float64(a.to.Sub(a.from))
}

// columnsFor draws segments of one state as columns; none is narrower than least.
func (a axis) columnsFor(segs []segment, of state.State, y, h, least float64) string {
	var b strings.Builder
	for _, s := range segs {
		if s.State != of {
			continue
		}
		x0, x1 := a.x(s.From), a.x(s.To)
		if x1-x0 < least {
			x0 = max(a.x0, min((x0+x1-least)/2, a.x1-least))
			x1 = x0 + least
		}
		b.WriteString(rect(x0, y, x1-x0, h))
	}
	return b.String()
}

// span is a choice of how far back the charts go.
type span struct {
	Key, Word string
	length    time.Duration
	step      time.Duration // of lines
	tick      time.Duration // between labels, from a local midnight
	sparse    time.Duration // the same, where the chart is small
}

func spans() []span {
	const day = 24 * time.Hour
	return []span{
		{"15menit", "15 menit", 15 * time.Minute, time.Minute, 5 * time.Minute, 5 * time.Minute},
		{"1jam", "1 jam", time.Hour, time.Minute, 15 * time.Minute, 15 * time.Minute},
		{"24jam", "24 jam", day, 10 * time.Minute, 6 * time.Hour, 6 * time.Hour},
		{"7hari", "7 hari", 7 * day, time.Hour, day, 2 * day},
		{"30hari", "30 hari", 30 * day, 6 * time.Hour, 5 * day, 10 * day},
	}
}

// spanFor is the longest span up to a day of which at least a third has been
// watched: a chart that is all but hatched tells nothing. Of a village that was
// never watched it is a day.
func spanFor(watched time.Duration) span {
	var out span
	for _, s := range spans() {
		if s.length <= 24*time.Hour && (out.Key == "" || watched == 0 || s.length <= 3*watched) {
			out = s
		}
	}
	return out
}

// ticks are the labelled times of an axis, not so near its ends that they would
// run into what stands there; fewer, where the chart is small.
func (s span) ticks(small bool, from, to time.Time) []time.Time {
	every, begin, end := s.tick, s.length/24, s.length/9
	if small {
		every, begin, end = s.sparse, s.length/10, s.length*3/10
	}
	var out []time.Time
	for t := midnight(from); t.Before(to); t = t.Add(every) {
		if !t.Before(from.Add(begin)) && !t.After(to.Add(-end)) {
			out = append(out, t)
		}
	}
	return out
}

func (s span) tickText(t time.Time) string {
	if s.length > 24*time.Hour || t.Hour() == 0 && t.Minute() == 0 {
		return bahasa.Day(t)
	}
	return bahasa.Clock(t)
}

func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, t.Location())
}

// Measures of the small charts, two beside each other.
const (
	chartWidth  = 540
	chartHeight = 240
	chartTop    = 16.0
	chartBottom = 206.0
	chartLeft   = 50.0
)

// plot is a chart of quantities over time, from zero.
type plot struct {
	*chart
	axis
	top   float64 // the value at chartTop
	taken []box   // where a name would cover something
}

// newPlot draws axes for values up to most, unknown times as hatched columns and
// those without a connection as pale ones.
func newPlot(s span, from, to time.Time, most float64, segs []segment) *plot {
	p := &plot{
		chart: &chart{Width: chartWidth, Height: chartHeight},
		axis:  axis{from, to, chartLeft, chartWidth - 6},
		top:   roundUp(most),
	}
	p.mark("outage", p.columnsFor(segs, state.Down, chartTop, chartBottom-chartTop, 2))
	p.mark("", p.columnsFor(segs, undecided, chartTop, chartBottom-chartTop, 2))
	for i := range 5 {
		v := p.top * float64(i) / 4
		p.mark("grid", fmt.Sprintf("M%s %sH%s", coordinate(p.x0), coordinate(p.y(v)), coordinate(p.x1)))
		if i%2 == 0 {
			p.text("end", chartLeft-6, p.y(v)+4, axisText(v))
		}
	}
	for _, t := range s.ticks(true, from, to) {
		p.mark("grid", fmt.Sprintf("M%s %sv5", coordinate(p.x(t)), coordinate(chartBottom)))
		p.text("mid", p.x(t), chartBottom+24, s.tickText(t))
	}
	p.text("named end", p.x1, chartBottom+24, nowText(s, to))
	return p
}

func nowText(s span, to time.Time) string {
	if s.length > 24*time.Hour {
		return bahasa.Day(to)
	}
	return bahasa.Clock(to)
}

// axisText writes v, which is round, with no more decimals than it has.
func axisText(v float64) string {
	decimals := 0
	for unit := 1.0; decimals < 4 && math.Abs(v*unit-math.Round(v*unit)) > 1e-6; unit *= 10 {
		decimals++
	}
	return bahasa.Number(v, decimals)
}

// roundUp is the next of 1, 2, 4, 6, 8 times a power of ten: a quarter and a half
// of it read well.
func roundUp(x float64) float64 {
	if !(x > 0) || math.IsInf(x, 0) {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 4, 6, 8, 10} {
		if x <= m*unit*(1+1e-9) {
			return m * unit
		}
	}
	return 10 * unit
}

func (p *plot) y(v float64) float64 {
	return chartBottom - (chartBottom-chartTop)*min(v, p.top*1.05)/p.top
}

// line draws points that are step apart; it breaks where one is missing.
func (p *plot) line(class string, ss []sample, step time.Duration) {
	var b strings.Builder
	var before point
	for i, s := range ss {
		x, y := p.x(s.At), p.y(s.Value)
		joined := i > 0 && s.At.Sub(ss[i-1].At) <= step*3/2
		if joined {
			p.take(before, point{x, y})
		} else {
			p.take(point{x, y}, point{x, y})
		}
		before = point{x, y}
		switch {
		case joined:
			fmt.Fprintf(&b, "L%s %s", coordinate(x), coordinate(y))
		case i+1 < len(ss) && ss[i+1].At.Sub(s.At) <= step*3/2:
			fmt.Fprintf(&b, "M%s %s", coordinate(x), coordinate(y))
		default:
			fmt.Fprintf(&b, "M%s %sh1.5", coordinate(x-0.7), coordinate(y))
		}
	}
	p.mark(class, b.String())
}

// dots draws single tests; nothing is joined between them.
func (p *plot) dots(ss []sample) {
	var b strings.Builder
	for _, s := range ss {
		p.taken = append(p.taken, around(point{p.x(s.At), p.y(s.Value)}, 4))
		fmt.Fprintf(&b, "M%s %sh0", coordinate(p.x(s.At)), coordinate(p.y(s.Value)))
	}
	p.mark("dots", b.String())
}

// take keeps names off the way from a to b.
func (p *plot) take(a, b point) {
	n := math.Ceil(a.distance(b)/3) + 1
	for i := range int(n) {
		p.taken = append(p.taken, around(a.plus(b.minus(a).times(float64(i)/n)), 1.5))
	}
	p.taken = append(p.taken, around(b, 1.5))
}

// The size of a name as a phone shows it, where the chart is smallest beside it.
const (
	nameAscent  = 15.0
	nameDescent = 5.0
	nameLetter  = 13.0
)

// name writes a text beside one of the points, the first being the best, where it
// covers nothing and nothing lies between the two. Where there is no such place
// it is left out: the key under the chart has it too.
func (p *plot) name(text string, at []point) {
	half := nameLetter * float64(len([]rune(text))) / 2
	best, bestCost := point{}, math.Inf(1)
	var bestBox box
	for i, a := range at {
		for _, dy := range []float64{-6, -11, -17, nameAscent + 5, nameAscent + 10, nameAscent + 16} {
			c := point{min(max(a.X, p.x0+half+2), p.x1-half), a.Y + dy}
			b := box{c.X - half, c.Y - nameAscent, c.X + half, c.Y + nameDescent}
			// From just off the point itself to the text.
			way := box{a.X - 1, b.y1, a.X + 1, a.Y - 4}
			if dy > 0 {
				way = box{a.X - 1, a.Y + 4, a.X + 1, b.y0}
			}
			cost := math.Abs(dy) + math.Abs(c.X-a.X) + at[0].distance(point{a.X, at[0].Y})/8 + float64(i)*1e-3
			if cost < bestCost && b.y0 >= 0 && b.y1 <= chartBottom-2 && p.free(b) && p.free(way) {
				best, bestCost, bestBox = c, cost, b
			}
		}
	}
	if math.IsInf(bestCost, 1) {
		return
	}
	p.taken = append(p.taken, bestBox)
	p.text("named name", best.X, best.Y, text)
}

func (p *plot) free(b box) bool {
	for _, t := range p.taken {
		if b.overlap(t) > 0 {
			return false
		}
	}
	return true
}

// nameLine writes a line's name beside it, best at its last third.
func (p *plot) nameLine(ss []sample, name string) {
	if len(ss) == 0 {
		return
	}
	var at []point
	for _, s := range ss {
		at = append(at, point{p.x(s.At), p.y(s.Value)})
	}
	at = append([]point{at[len(at)*2/3]}, at...)
	p.name(name, at)
}

// strip draws what held as a band over the axis's time.
func strip(s span, segs []segment, from, to time.Time, width int, class, label string) chart {
	const height, top = 22.0, 2.0
	c := chart{Class: class, Width: width, Height: 46, Label: label}
	a := axis{from, to, 0, float64(width)}
	for _, st := range drawn() {
		least := 0.5
		if st == state.Down || st == state.Degraded {
			least = 4
		}
		c.mark(lookOf(st).fill, a.columnsFor(segs, st, top, height, least))
	}
	for _, t := range s.ticks(width < 700, from, to) {
		c.mark("grid", fmt.Sprintf("M%s %sv5", coordinate(a.x(t)), coordinate(top+height)))
		c.text("mid", a.x(t), 42, s.tickText(t))
	}
	c.text("named end", float64(width), 42, nowText(s, to))
	return c
}

// calendar draws days as columns and hours as rows, the first at the top; no
// event is less than 4 high.
func calendar(segs []segment, from, now time.Time, width, height int, class, label string) chart {
	const left, top, bottom, least = 34.0, 14.0, 22.0, 4.0
	c := chart{Class: class, Width: width, Height: height, Label: label}
	high := float64(height) - top - bottom
	first := midnight(from)
	days := int(midnight(now).Sub(first)/(24*time.Hour)) + 1
	wide := (float64(width) - left) / float64(days)
	gap := max(1, wide/12)

	for _, h := range []int{0, 6, 12, 18, 24} {
		c.text("end", left-6, top+high*float64(h)/24+4, fmt.Sprintf("%02d", h))
	}
	for _, st := range drawn() {
		var b strings.Builder
		for d := range days {
			begin := first.AddDate(0, 0, d)
			end := begin.AddDate(0, 0, 1)
			for _, s := range segs {
				if s.State != st || !s.To.After(begin) || !s.From.Before(end) {
					continue
				}
				y0 := high * max(s.From.Sub(begin), 0).Hours() / 24
				y1 := high * min(s.To.Sub(begin), 24*time.Hour).Hours() / 24
				if y1-y0 < least && st != state.Up && st != undecided {
					y0 = max(0, min((y0+y1-least)/2, high-least))
					y1 = y0 + least
				}
				b.WriteString(rect(left+float64(d)*wide, top+y0, wide-gap, y1-y0))
			}
		}
		c.mark(lookOf(st).fill, b.String())
	}
	for d := 0; d < days-1; d++ {
		if t := first.AddDate(0, 0, d); d%7 == 0 && left+float64(d)*wide < float64(width)-100 {
			c.text("", left+float64(d)*wide, float64(height)-5, bahasa.Day(t))
		}
	}
	c.text("named end", float64(width), float64(height)-5, bahasa.Day(now))
	return c
}

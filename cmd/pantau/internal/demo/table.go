package demo

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/netlab"
)

// introduce says where to look and what to try. The first two lines are for
// scripts as well.
func (r *run) introduce() {
	r.say("halaman: %s", r.page())
	r.say("target: %s", r.targetURL())
	r.say("surat: %s", r.postURL())
	r.say("folder: %s", r.opt.Dir)
	if r.world == nil {
		return
	}
	if r.opt.Story {
		r.say(`
SIMULASI: %d villages, each a box and a router in namespaces of their own, behind
a line that is shaped in both directions. The story plays by itself and ends within
%.0f minutes; watch the pages meanwhile, and cut nothing yourself. Ctrl-C ends it.
`, len(r.lines), storyWithin.Minutes())
		return
	}
	v, odc := r.world.Villages[0], r.world.ODCs[0]
	down := r.opt.downAfter
	if down == 0 {
		down = defaultDownAfter
	}
	r.say(`
SIMULASI: %d villages, each a box and a router in namespaces of their own, behind
a line that is shaped in both directions. From another shell, as root, cut
  the line of %s:
    %s
  the cable of its ODC, which serves %d:
    %s
and mend it with "up" instead of "down". A village is down after %.0f s of
silence. What its box measures meanwhile comes when the line is back.
Ctrl-C ends the demo.
`, len(r.lines), v.Name, v.Cut, len(odc.Villages), odc.Cut, down.Seconds())
}

// tell says what changes until ctx ends. A state lasts for one turn of the
// collector's engine, a second, at least: looked at as often as here, none is
// missed, whatever the table costs.
func (r *run) tell(ctx context.Context) {
	var heard teller
	for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		for _, line := range heard.changes(r.states()) {
			r.say("%s", line)
		}
	}
}

// watch reads the figures until ctx ends: for the table on a terminal; in a pipe,
// which stays quiet, until every village had its first.
func (r *run) watch(ctx context.Context) {
	for ; ctx.Err() == nil; pause(ctx, time.Second) {
		if r.first > 0 && !r.screen.terminal() {
			return
		}
		figures := r.look(ctx)
		if ctx.Err() != nil {
			break
		}
		r.noticeFirst(figures)
		r.show(figures)
	}
	if r.screen.terminal() {
		r.say("Ending: the probes push what they have ...")
	}
}

// noticeFirst notes when every village had a first figure on the page.
func (r *run) noticeFirst(figures []VillageReport) {
	if r.first > 0 {
		return
	}
	for _, v := range figures {
		if !v.latency || !v.reach {
			return
		}
	}
	r.first = time.Since(r.began)
	r.say("%s  every village has its first figures after %.0f s", clockTime(time.Now()), r.first.Seconds())
}

// teller turns states into lines that say what changed.
type teller struct{ last map[string]state.State }

// changes tells of each village whose state is not what it was. That one was heard
// for the first time is no change.
func (t *teller) changes(now []villageState) (lines []string) {
	next := map[string]state.State{}
	for _, v := range now {
		next[v.Code] = v.State
		before, known := t.last[v.Code]
		if !known || before == v.State || before == state.NeverSeen && v.State == state.Up {
			continue
		}
		said := fmt.Sprintf("%s  %s is %s, was %s", clockTime(v.At), v.Name, v.State, before)
		if v.State == state.Down {
			said += ": silent since " + clockTime(v.Since)
		}
		lines = append(lines, said)
	}
	t.last = next
	return lines
}

// clockTime is the time of day as a person at this machine reads it.
func clockTime(t time.Time) string { return t.Local().Format(time.TimeOnly) }

// show draws the table, on a terminal.
func (r *run) show(figures []VillageReport) {
	if !r.screen.terminal() {
		return
	}
	columns, rows := r.screen.size()
	if r.opt.Story {
		rows-- // for how far it is
	}
	t := table{elapsed: time.Since(r.began), now: time.Now(), villages: figures, silent: 3 * r.pace.Heartbeat}
	if r.world != nil {
		t.cut = pattern(r.world)
	}
	r.screen.show(t.draw(columns, rows))
}

// pattern is the command that cuts a drop line, with K for the number of the ODC
// and # for that of the village.
func pattern(w *world.World) string {
	v := w.Villages[0]
	ns, port := w.ODCs[0].Node.Namespace(), v.Drop.A.Name
	each := strings.TrimSuffix(ns, "1") + "K"
	return strings.NewReplacer(" "+ns+" ", " "+each+" ", " "+port+" ", " "+strings.TrimSuffix(port, "1")+"# ").Replace(v.Cut)
}

// table is what is drawn over and over.
type table struct {
	elapsed  time.Duration
	now      time.Time
	villages []VillageReport
	cut      string        // empty: no line can be cut
	silent   time.Duration // from when a silence is marked
}

// column is one of the table. Where the terminal is too narrow, columns are left
// out, the greatest rank first.
type column struct {
	head  string
	rank  int
	left  bool // aligned to the left
	width int
	cell  func(VillageReport) string
}

func (t table) columns() []column {
	cs := []column{
		{head: "#", cell: func(v VillageReport) string { return strconv.Itoa(v.number) }},
		{head: "ODC", rank: 2, cell: func(v VillageReport) string { return strconv.Itoa(v.odc + 1) }},
		{head: "VILLAGE", left: true, cell: func(v VillageReport) string { return cut(v.Name, 14) }},
		{head: "STATE", left: true, cell: func(v VillageReport) string { return v.State }},
		{head: "SINCE", rank: 1, cell: func(v VillageReport) string { return clockTime(v.state.Since) }},
		{head: "HEARD", cell: func(v VillageReport) string { return ago(t.now, v.state.Beat) }},
		{head: "DOWNLOAD", cell: func(v VillageReport) string { return against(v.MedianDownload, v.ShapedDownload) }},
		{head: "UPLOAD", cell: func(v VillageReport) string { return against(v.MedianUpload, v.ShapedUpload) }},
		{head: "TESTS", rank: 3, cell: func(v VillageReport) string { return strconv.Itoa(v.Tests) }},
		{head: "LATENCY", rank: 5, cell: func(v VillageReport) string { return known(v.latency, "%.1f ms", v.LatencySeconds*1e3) }},
		{head: "USED", rank: 6, cell: func(v VillageReport) string { return known(v.usage, "%.1f MB", v.UsageBytesReceived/1e6) }},
		{head: "REACH", rank: 4, cell: func(v VillageReport) string { return ofSlots(v) }},
	}
	if t.cut == "" { // an ODC and usage of its own has a village only on lines
		cs = slices.DeleteFunc(cs, func(c column) bool { return c.head == "ODC" || c.head == "USED" })
	}
	return cs
}

const gap = 2 // columns between two columns

// fit leaves out columns until the rest is not wider than the terminal.
func (t table) fit(wide int) []column {
	cs := t.columns()
	total := -gap
	for i := range cs {
		c := &cs[i]
		c.width = len(c.head)
		for _, v := range t.villages {
			c.width = max(c.width, len([]rune(c.cell(v))))
		}
		total += c.width + gap
	}
	for total > wide {
		worst := slices.MaxFunc(cs, func(a, b column) int { return a.rank - b.rank })
		if worst.rank == 0 {
			break
		}
		total -= worst.width + gap
		cs = slices.DeleteFunc(cs, func(c column) bool { return c.head == worst.head })
	}
	return cs
}

// draw is the table for a terminal of that size. If it has too few rows, the
// villages that are up are left out first.
func (t table) draw(wide, high int) []text {
	cs := t.fit(wide)
	line := func(cell func(column) string) string {
		var b strings.Builder
		for i, c := range cs {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			w := c.width
			if c.left {
				w = -w
			}
			fmt.Fprintf(&b, "%*s", w, cell(c))
		}
		return strings.TrimRight(b.String(), " ")
	}
	out := []text{{string: t.title(), style: "1"}, {string: line(func(c column) string { return c.head }), style: "2"}}
	foot := t.foot()
	shown, hidden := t.choose(max(high-len(out)-len(foot)-2, 1))
	for _, v := range shown {
		out = append(out, text{line(func(c column) string { return c.cell(v) }), t.style(v)})
	}
	if hidden > 0 {
		out = append(out, text{fmt.Sprintf("and %d more: see the page", hidden), "2"})
	}
	return append(out, foot...)
}

// title counts the villages by state.
func (t table) title() string {
	n := map[string]int{}
	for _, v := range t.villages {
		n[v.State]++
	}
	counts := []string{"after " + t.elapsed.Round(time.Second).String()}
	for _, s := range state.States() {
		if n[s.String()] > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n[s.String()], s))
		}
	}
	return strings.Join(counts, "   ")
}

func (t table) foot() []text {
	if t.cut == "" {
		return []text{{"Median of the tests in Mbit/s. Ctrl-C ends.", "2"}}
	}
	return []text{
		{"Mbit/s: median measured / payload that the line carries. Ctrl-C ends.", "2"},
		{"cut  " + t.cut, "2"},
		{"     #: village, K: its ODC. Mend: up. Whole ODC: uplink for drop-#.", "2"},
	}
}

// choose takes at most so many villages, those in trouble first, in their order.
func (t table) choose(most int) (shown []VillageReport, hidden int) {
	if len(t.villages) <= most {
		return t.villages, 0
	}
	all := slices.Clone(t.villages)
	slices.SortStableFunc(all, func(a, b VillageReport) int { return trouble(b) - trouble(a) })
	all = all[:most]
	slices.SortFunc(all, func(a, b VillageReport) int { return a.number - b.number })
	return all, len(t.villages) - most
}

func trouble(v VillageReport) int {
	if v.State == state.Up.String() {
		return 0
	}
	return 1
}

// style marks a row; one that is up but was not heard of lately, too.
func (t table) style(v VillageReport) string {
	switch v.State {
	case state.Up.String():
		if t.silent > 0 && t.now.Sub(v.state.Beat) > t.silent {
			return "33"
		}
		return ""
	case state.Down.String():
		return "1;31"
	case state.NeverSeen.String():
		return "2"
	}
	return "33"
}

// ago is how long a sign of life is past.
func ago(now, beat time.Time) string {
	if beat.IsZero() {
		return "-"
	}
	d := now.Sub(beat).Round(time.Second)
	if d < 10*time.Minute {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f min", d.Minutes())
}

func known(known bool, format string, v float64) string {
	if !known {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

// ofSlots is how many slots of reach have a result, and how many lack one.
func ofSlots(v VillageReport) string {
	if !v.reach {
		return "-"
	}
	if v.ReachMissing > 0 {
		return fmt.Sprintf("%d, %d missing", v.ReachResults, v.ReachMissing)
	}
	return strconv.Itoa(v.ReachResults)
}

func against(median, shaped float64) string {
	m := "-"
	if median > 0 {
		m = fmt.Sprintf("%.1f", median/1e6)
	}
	if shaped == 0 {
		return m
	}
	return fmt.Sprintf("%s / %.1f", m, netlab.PayloadRate(shaped)/1e6)
}

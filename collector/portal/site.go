package portal

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/portal/rank"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// reading names one thing that is read of a site.
type reading int

const (
	readDownload reading = iota
	readUpload
	readLatency
	readJitter
	readLoss
	readReach
	readUsage
	readHops
	readChart
)

// unreadable is what a reader sees in place of a figure whose series failed.
const unreadable = "tidak terbaca"

// siteReadings is what was measured at one site, on one line.
type siteReadings struct {
	beyond beyond
	unread map[reading]bool

	// Of the last 24 hours.
	download, upload      []sample // one per test
	latency, jitter, loss []sample // one per minute
	odp, lan              []sample
	lastFirstHop          []sample
	// Of the span of the charts.
	tests       []sample // download
	reach       []sample
	median, p95 []sample
	receive     []sample
	transmit    []sample
}

func (p *pages) readSite(ctx context.Context, site inventory.Site, sp span, now time.Time, missing *gaps) siteReadings {
	r := siteReadings{beyond: beyondOf(site), unread: make(map[reading]bool)}
	of := func(series string, more ...string) string {
		return selector(series, append([]string{"site", string(site.ID)}, more...)...)
	}
	note := func(what reading, name string, err error) {
		missing.note(name, err)
		if err != nil {
			r.unread[what] = true
		}
	}
	raw := func(what reading, name, sel string, length time.Duration) []sample {
		ss, err := samples(ctx, p.Query, sel, now.Add(-length), now)
		note(what, name, err)
		return ss
	}
	r.download = raw(readDownload, "unduh", of(seriesDownload), counted)
	r.upload = raw(readUpload, "unggah", of(seriesUpload), counted)
	r.latency = raw(readLatency, "latensi", of(seriesLatency, "stat", "median"), counted)
	r.jitter = raw(readJitter, "variasi tunda", of(seriesJitter), counted)
	r.loss = raw(readLoss, "kehilangan paket", of(seriesLoss), counted)
	r.odp = raw(readReach, r.beyond.within+" dapat dijangkau", of(seriesODP), counted)
	r.lan = raw(readHops, "gerbang LAN", of(seriesLAN), counted)
	r.lastFirstHop = raw(readHops, "lompatan pertama", of(seriesFirstHop), counted)

	from := now.Add(-sp.length)
	r.tests = r.download
	if sp.length != counted {
		r.tests = raw(readChart, "bagan unduh", of(seriesDownload), sp.length)
	}
	// A sample from just before the first instant speaks of it.
	reach, err := merged(seriesOf(ctx, p.Query, of(seriesODP), from.Add(-hold), now, min(time.Minute, gridOf(sp.length))))
	note(readReach, "pita jangkauan", err)
	r.reach = reach
	w := window(sp.step)
	medianLine := func(stat string) []sample {
		ss, err := line(ctx, p.Query, fmt.Sprintf("quantile(0.5, quantile_over_time(0.5, %s[%s]))", of(seriesLatency, "stat", stat), w), from, now, sp.step)
		note(readChart, "bagan latensi", err)
		return scaled(ss, 1000)
	}
	r.median, r.p95 = medianLine("median"), medianLine("p95")
	rate := func(series string) []sample {
		grid := min(gridOf(sp.length), sp.step)
		counters, err := seriesOf(ctx, p.Query, of(series), from, now, grid)
		note(readUsage, "pemakaian jaringan", err)
		return scaled(throughput(counters, from, now, sp.step, hold+grid), 8e-6)
	}
	r.receive, r.transmit = rate(seriesReceive), rate(seriesTransmit)
	return r
}

// figures are the tiles: each with n and age, or with why there is none.
func (r *siteReadings) figures(inv *inventory.Inventory, site inventory.Site, now time.Time) []figure {
	return []figure{
		r.speedFigure("Unduh, median 24 jam", readDownload, r.download, inv, site, now, func(p inventory.Plan) float64 { return p.DownloadBPS }),
		r.speedFigure("Unggah, median 24 jam", readUpload, r.upload, inv, site, now, func(p inventory.Plan) float64 { return p.UploadBPS }),
		r.minuteFigure("Latensi, median 24 jam", readLatency, r.latency, now),
		r.minuteFigure("Variasi tunda, median 24 jam", readJitter, r.jitter, now),
		r.lossFigure(now),
		r.reachFigure(now),
	}
}

func last(ss []sample) sample {
	if len(ss) == 0 {
		return sample{}
	}
	return ss[len(ss)-1]
}

// basis says how many measurements a figure rests on and how old the last is.
func basis(n int, what string, at, now time.Time) string {
	s := fmt.Sprintf("n = %s %s", bahasa.Count(n), what)
	if at.IsZero() {
		return s
	}
	return s + " · terakhir " + bahasa.Moment(at, now) + ", " + bahasa.Age(at, now)
}

// without is the tile of a figure that cannot be told; ok is false if it can.
func (r *siteReadings) without(name string, what reading, ss []sample, of string, now time.Time) (figure, bool) {
	switch {
	case r.unread[what]:
		return figure{Name: name, Value: unreadable, Short: true, Lines: []string{"angka tidak dapat dibaca saat ini"}}, true
	case len(ss) == 0:
		return figure{Name: name, Lines: []string{"n = 0 " + of + " dalam 24 jam"}}, true
	case len(ss) < rank.Enough:
		return figure{Name: name, Value: "data belum cukup", Short: true,
			Lines: []string{fmt.Sprintf("perlu %d %s", rank.Enough, of), basis(len(ss), of, last(ss).At, now)}}, true
	}
	return figure{}, false
}

func (r *siteReadings) speedFigure(name string, what reading, ss []sample, inv *inventory.Inventory, site inventory.Site, now time.Time, promised func(inventory.Plan) float64) figure {
	f, none := r.without(name, what, ss, "uji", now)
	newest := last(ss)
	if none {
		if f.Short && len(ss) > 0 {
			f.Lines[0] = fmt.Sprintf("uji terakhir %s Mbps · perlu %d uji", bahasa.Mbps(newest.Value, 1), rank.Enough)
		}
		return f
	}
	xs := rank.Sorted(values(ss, time.Time{}))
	median := rank.Quantile(xs, 0.5)
	f = figure{Name: name, Value: bahasa.Mbps(median, 2), Unit: "Mbps"}
	var parts []string
	// The plan of the newest test: a median over a change of plan is of the new one's days too.
	if s, ok := inv.Site(site.ID, newest.At); ok && s.Plan != nil {
		parts = append(parts, bahasa.Percent(median/promised(*s.Plan), 0)+" dari paket")
	}
	if low, high, ok := rank.MedianRanks(len(xs)); ok {
		parts = append(parts, bahasa.Between(bahasa.Mbps(xs[low-1], 2), bahasa.Mbps(xs[high-1], 2))+" (selang 95%)")
	}
	f.Lines = []string{strings.Join(parts, " · "), basis(len(ss), "uji", newest.At, now)}
	return f
}

func (r *siteReadings) minuteFigure(name string, what reading, ss []sample, now time.Time) figure {
	if f, none := r.without(name, what, ss, "ukuran", now); none {
		return f
	}
	xs := rank.Sorted(values(ss, time.Time{}))
	ms := func(q float64) string { return bahasa.Milliseconds(rank.Quantile(xs, q), 1) }
	return figure{Name: name, Value: ms(0.5), Unit: "ms",
		Lines: []string{bahasa.Between(ms(0.05), ms(0.95)) + " ms dalam 90% ukuran", basis(len(ss), "ukuran", last(ss).At, now)}}
}

// lossFigure is of the minutes in which something answered: a minute without
// any answer is an outage, and counted apart.
func (r *siteReadings) lossFigure(now time.Time) figure {
	const name = "Kehilangan paket, rata-rata 24 jam"
	var answered []sample
	silent, clean, sum := 0, 0, 0.0
	for _, s := range r.loss {
		if s.Value >= 1 {
			silent++
			continue
		}
		if s.Value == 0 {
			clean++
		}
		answered = append(answered, s)
		sum += s.Value
	}
	f, none := r.without(name, readLoss, answered, "ukuran", now)
	if !none {
		f = figure{Name: name, Value: bahasa.Number(sum/float64(len(answered))*100, 2), Unit: "%", Lines: []string{
			fmt.Sprintf("%s ukuran tanpa kehilangan", bahasa.Count(clean)),
			basis(len(answered), "ukuran", last(answered).At, now)}}
	}
	if silent > 0 {
		f.Lines = append(f.Lines, fmt.Sprintf("%s ukuran tanpa jawaban tidak dihitung", bahasa.Count(silent)))
	}
	return f
}

// beyond is what reach is of, as a sentence begins with it and within one.
type beyond struct{ first, within string }

// beyondOf: only a fibre has an ODP on its way.
func beyondOf(site inventory.Site) beyond {
	if site.Access == inventory.AccessFiber {
		return beyond{"ODP", "ODP"}
	}
	return beyond{"Jaringan penyedia", "jaringan penyedia"}
}

// reachFigure is the share of the minutes in which something beyond the ODP, or
// in the provider's network where there is none, answered, among those in which
// the LAN gateway did: a house without power says nothing about the ODP.
func (r *siteReadings) reachFigure(now time.Time) figure {
	name := r.beyond.first + " dapat dijangkau, 24 jam"
	gate := make(map[int64]float64, len(r.lan))
	for _, s := range r.lan {
		gate[s.At.UnixMilli()] = s.Value
	}
	var tries []sample
	good, checked := 0, 0
	for _, s := range r.odp {
		answer, known := gate[s.At.UnixMilli()]
		if known && answer == 0 {
			continue
		}
		if known {
			checked++
		}
		if s.Value > 0 {
			good++
		}
		tries = append(tries, s)
	}
	f, none := r.without(name, readReach, tries, "ukuran", now)
	if !none {
		f = figure{Name: name, Value: bahasa.Number(float64(good)/float64(len(tries))*100, 2), Unit: "%", Lines: []string{
			fmt.Sprintf("%s dari %s ukuran%s", bahasa.Count(good), bahasa.Count(len(tries)), gateText(checked, len(tries))),
			basis(len(tries), "ukuran", last(tries).At, now)}}
	}
	return f
}

func gateText(checked, tries int) string {
	switch checked {
	case tries:
		return " saat gerbang LAN menjawab"
	case 0:
		return "; gerbang LAN tidak diperiksa"
	}
	return fmt.Sprintf("; gerbang LAN diperiksa %s kali", bahasa.Count(checked))
}

// reachFacts are the last answers of what lies between the probe and the
// provider.
func (r *siteReadings) reachFacts(now time.Time) []fact {
	one := func(name string, ss []sample) fact {
		if r.unread[readHops] {
			return fact{Name: name, Text: unreadable}
		}
		if len(ss) == 0 {
			return fact{Name: name, Text: bahasa.Unknown}
		}
		word := "menjawab"
		if last(ss).Value == 0 {
			word = "tidak menjawab"
		}
		return fact{Name: name, Text: word + ", " + bahasa.Age(last(ss).At, now)}
	}
	return []fact{one("Gerbang LAN", r.lan), one("Lompatan pertama", r.lastFirstHop)}
}

func (r *siteReadings) areaLegend(segs []segment) []legendItem {
	d := lasting(segs)
	var out []legendItem
	if d[state.Down] > 0 {
		out = append(out, legendItem{Class: "outage", Text: r.beyond.within + " tidak terjangkau"})
	}
	if d[undecided] > 0 {
		out = append(out, legendItem{Text: "tidak diketahui"})
	}
	return out
}

// missingAlso adds to a finding what must be said with it.
func (r *siteReadings) missingAlso(segs []segment) string {
	d := lasting(segs)
	var out string
	if d[state.Down] > 0 {
		out += " " + r.beyond.first + " tidak terjangkau " + bahasa.Duration(d[state.Down]) + "."
	}
	if d[undecided] > 0 {
		out += " Tidak diketahui " + bahasa.Duration(d[undecided]) + "."
	}
	return out
}

func (r *siteReadings) speedChart(inv *inventory.Inventory, site inventory.Site, sp span, segs []segment, now time.Time) chartCard {
	card := chartCard{Name: "Unduh terhadap paket", Unit: "Mbps"}
	if r.unread[readChart] || r.unread[readDownload] {
		card.Empty = "Angka tidak dapat dibaca saat ini."
		return card
	}
	if len(r.tests) == 0 {
		card.Empty = fmt.Sprintf("Belum ada uji kecepatan dalam %s terakhir.", sp.Word)
		return card
	}
	tests := scaled(r.tests, 1e-6)
	from := now.Add(-sp.length)
	plan := 0.0
	if site.Plan != nil {
		plan = site.Plan.DownloadBPS / 1e6
	}
	p := newPlot(sp, from, now, maxOf(plan*1.1, tests), segs)
	legend := []legendItem{{Line: "dots", Text: "satu uji"}}
	xs := rank.Sorted(values(tests, time.Time{}))
	card.Chart = p.chart
	p.Label = fmt.Sprintf("Kecepatan unduh %s terakhir: median %s Mbps dari %s uji, terendah %s, tertinggi %s.", sp.Word,
		bahasa.Number(rank.Quantile(xs, 0.5), 1), bahasa.Count(len(xs)), bahasa.Number(xs[0], 1), bahasa.Number(xs[len(xs)-1], 1))
	if sp.length > 7*24*time.Hour {
		p.daily(tests, from, now)
		legend = []legendItem{{Line: "dots", Text: "median sehari"}, {Line: "spread", Text: "P20 sampai P95"}}
	} else {
		p.dots(tests)
	}
	if plan > 0 {
		below := 0
		for _, x := range xs {
			if x < slow*plan {
				below++
			}
		}
		p.Label += fmt.Sprintf(" Paket %s Mbps; %s uji di bawah 80%%.", planText(site.Plan.DownloadBPS), bahasa.Count(below))
		p.planLevels(inv, site, from, now)
		legend = append(legend, legendItem{Line: "plan", Text: "paket " + planText(site.Plan.DownloadBPS) + " Mbps"}, legendItem{Line: "eighty", Text: "80% paket"})
	}
	p.Label += r.missingAlso(segs)
	card.Legend = append(legend, r.areaLegend(segs)...)
	return card
}

// planLevels draws the plan, and its change where one lies in the chart's time.
func (p *plot) planLevels(inv *inventory.Inventory, site inventory.Site, from, now time.Time) {
	cuts := append([]time.Time{from}, append(inv.Boundaries(from, now), now)...)
	var plan, eighty strings.Builder
	for i := range len(cuts) - 1 {
		s, ok := inv.Site(site.ID, cuts[i])
		if !ok || s.Plan == nil {
			continue
		}
		v := s.Plan.DownloadBPS / 1e6
		x0, x1 := p.x(cuts[i]), p.x(cuts[i+1])
		for level, b := range map[float64]*strings.Builder{v: &plan, v * slow: &eighty} {
			y := p.y(level)
			fmt.Fprintf(b, "M%s %sH%s", coordinate(x0), coordinate(y), coordinate(x1))
			p.take(point{x0, y}, point{x1, y})
		}
	}
	p.mark("plan", plan.String())
	p.mark("eighty", eighty.String())
	nameLevel := func(v float64, name string) {
		var at []point
		for x := p.x1; x > p.x0; x -= 6 {
			at = append(at, point{x, p.y(v)})
		}
		p.name(name, at)
	}
	v := site.Plan.DownloadBPS / 1e6
	nameLevel(v, "paket "+planText(site.Plan.DownloadBPS))
	nameLevel(v*slow, "80%")
}

// daily draws each day's median and the range from P20 to P95.
func (p *plot) daily(tests []sample, from, now time.Time) {
	var spread strings.Builder
	var medians []sample
	for day := midnight(from); day.Before(now); day = day.AddDate(0, 0, 1) {
		var xs []float64
		for _, t := range tests {
			if !t.At.Before(day) && t.At.Before(day.AddDate(0, 0, 1)) {
				xs = append(xs, t.Value)
			}
		}
		if len(xs) == 0 {
			continue
		}
		slices.Sort(xs)
		at := day.Add(12 * time.Hour)
		if at.Before(from) {
			at = from
		}
		if at.After(now) {
			at = now
		}
		medians = append(medians, sample{at, rank.Quantile(xs, 0.5)})
		low, high := point{p.x(at), p.y(rank.Quantile(xs, 0.2))}, point{p.x(at), p.y(rank.Quantile(xs, 0.95))}
		fmt.Fprintf(&spread, "M%s %sV%s", coordinate(low.X), coordinate(low.Y), coordinate(high.Y))
		p.take(low, high)
	}
	p.mark("spread", spread.String())
	p.dots(medians)
}

func (r *siteReadings) latencyChart(sp span, segs []segment, now time.Time) chartCard {
	card := chartCard{Name: "Latensi", Unit: "ms"}
	if r.unread[readChart] {
		card.Empty = "Angka tidak dapat dibaca saat ini."
		return card
	}
	if len(r.median) == 0 {
		card.Empty = fmt.Sprintf("Belum ada ukuran latensi dalam %s terakhir.", sp.Word)
		return card
	}
	p := newPlot(sp, now.Add(-sp.length), now, maxOf(0, r.median, r.p95)*1.15, segs)
	p.line("second", r.p95, sp.step)
	p.line("first", r.median, sp.step)
	p.nameLine(r.p95, "P95")
	p.nameLine(r.median, "median")
	low, high := extremes(r.median)
	ms := func(x float64) string { return bahasa.Milliseconds(x/1000, 1) }
	p.Label = fmt.Sprintf("Latensi %s terakhir: median %s ms, terendah %s, tertinggi %s.", sp.Word, ms(medianOf(r.median)), ms(low), ms(high)) + r.missingAlso(segs)
	card.Chart = p.chart
	card.Legend = append([]legendItem{{Line: "first", Text: "median tiap " + bahasa.Duration(sp.step)}, {Line: "second", Text: "P95"}}, r.areaLegend(segs)...)
	return card
}

func (r *siteReadings) usageChart(sp span, segs []segment, now time.Time) chartCard {
	card := chartCard{Name: "Pemakaian jaringan", Unit: "Mbps, tanpa uji"}
	if r.unread[readUsage] {
		card.Empty = "Angka tidak dapat dibaca saat ini."
		return card
	}
	if len(r.receive) == 0 && len(r.transmit) == 0 {
		card.Empty = "Pemakaian tidak diukur di titik ini, atau belum ada dua bacaan."
		return card
	}
	p := newPlot(sp, now.Add(-sp.length), now, maxOf(0, r.receive, r.transmit)*1.1, segs)
	p.line("second", r.transmit, sp.step)
	p.line("first ink", r.receive, sp.step)
	p.nameLine(r.receive, "unduh")
	p.nameLine(r.transmit, "unggah")
	p.Label = fmt.Sprintf("Pemakaian jaringan %s terakhir: unduh %s; unggah %s.", sp.Word, usageText(r.receive), usageText(r.transmit)) + r.missingAlso(segs)
	card.Chart = p.chart
	card.Legend = append([]legendItem{{Line: "first ink", Text: "unduh"}, {Line: "second", Text: "unggah"}}, r.areaLegend(segs)...)
	return card
}

func usageText(ss []sample) string {
	if len(ss) == 0 {
		return bahasa.Unknown
	}
	_, high := extremes(ss)
	return fmt.Sprintf("median %s Mbps, tertinggi %s", bahasa.Number(medianOf(ss), 1), bahasa.Number(high, 1))
}

func extremes(ss []sample) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range ss {
		low, high = min(low, s.Value), max(high, s.Value)
	}
	return low, high
}

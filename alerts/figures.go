package alerts

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Figures reads the stored series with PromQL.
type Figures interface {
	Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error)
}

// usage is what the series tell of the usage of a village or district now, by the
// names that the rules of usage record. What is not known is NaN.
func (s *Service) usage(ctx context.Context, inv *inventory.Inventory, spot string, now time.Time) *mail.Spike {
	const (
		patience = 15 * time.Second
		shown    = 2 * time.Hour
		step     = 5 * time.Minute
		most     = 5 // villages of a district that are listed
	)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	level := "district"
	if inventory.DistrictCode(spot) != spot {
		level = "village"
	}
	of := fmt.Sprintf("{%s=%q}", level, spot)
	rate, usual := level+":pantau_link_receive_bits_per_second:rate5m"+of, level+":pantau_link_receive_bits_per_second:usual"+of
	one := func(expr string) float64 {
		v, err := s.opt.Figures.Instant(ctx, expr, now)
		if err != nil {
			s.log.Warn("figures of a surge cannot be read", "query", expr, "error", err)
		}
		if err != nil || len(v) == 0 {
			return math.NaN()
		}
		return v[0].F
	}
	recent := func(expr string) float64 { return one(fmt.Sprintf("last_over_time(%s[15m])", expr)) }
	latency := "pantau_latency_seconds" + strings.TrimSuffix(of, "}") + `, stat="median"}`
	x := &mail.Spike{At: now, Now: recent(rate), Usual: recent(usual), UsualLow: math.NaN(), UsualHigh: math.NaN(),
		Latency:    one(fmt.Sprintf("quantile(0.5, quantile_over_time(0.5, %s[15m]))", latency)),
		LatencyLow: one(fmt.Sprintf("quantile(0.5, quantile_over_time(0.1, %s[7d]))", latency)), LatencyHigh: one(fmt.Sprintf("quantile(0.5, quantile_over_time(0.9, %s[7d]))", latency))}
	if weeks := one(fmt.Sprintf("count(%s:pantau_link_receive_bits_per_second:weeks_ago%s)", level, of)); !math.IsNaN(weeks) {
		x.Weeks = int(weeks)
	}
	if over := one(fmt.Sprintf("sum_over_time(%s:pantau_link_receive_bits_per_second:surge%s[15m])", level, of)); !math.IsNaN(over) {
		x.Over, x.Of = int(over), int(shown/step)
		if n := one(fmt.Sprintf("count_over_time(%s:pantau_link_receive_bits_per_second:surge%s[15m])", level, of)); !math.IsNaN(n) {
			x.Of = int(n)
		}
	}
	x.Series = s.series(ctx, rate, usual, now.Add(-shown), now, step)
	x.Villages, x.Normal, x.Down = s.count(inv, spot, now)
	if level == "district" {
		rates := s.byVillage(ctx, "last_over_time(village:pantau_link_receive_bits_per_second:rate5m"+of+"[15m])", now)
		usuals := s.byVillage(ctx, "last_over_time(village:pantau_link_receive_bits_per_second:usual"+of+"[15m])", now)
		lines := s.byVillage(ctx, "max by (village) (site:pantau_download_bits_per_second:measured"+of+")", now)
		for code, r := range rates {
			u, ok := usuals[code]
			if !ok || r <= u {
				continue
			}
			v := mail.UsageVillage{Code: code, Name: code, Now: r, Usual: u, Line: math.NaN()}
			if known, ok := inv.Village(code); ok {
				v.Name = known.Name
			}
			if line, ok := lines[code]; ok {
				v.Line = line
			}
			x.Top = append(x.Top, v)
		}
		slices.SortFunc(x.Top, func(a, b mail.UsageVillage) int {
			return cmp.Or(cmp.Compare(b.Now-b.Usual, a.Now-a.Usual), cmp.Compare(a.Code, b.Code))
		})
		x.Top = x.Top[:min(len(x.Top), most)]
	}
	return x
}

// series is usage beside its usual over time; points without a figure are left out.
func (s *Service) series(ctx context.Context, rate, usual string, from, to time.Time, step time.Duration) []mail.UsagePoint {
	at := func(expr string) map[int64]float64 {
		out := map[int64]float64{}
		m, err := s.opt.Figures.Range(ctx, expr, from, to, step)
		if err != nil {
			s.log.Warn("figures of a surge cannot be read", "query", expr, "error", err)
			return out
		}
		for _, line := range m {
			for _, p := range line.Floats {
				out[p.T] = p.F
			}
		}
		return out
	}
	now, before := at(rate), at(usual)
	var out []mail.UsagePoint
	for t := from; !t.After(to); t = t.Add(step) {
		n, ok := now[t.UnixMilli()]
		if !ok {
			continue
		}
		u, ok := before[t.UnixMilli()]
		if !ok {
			u = math.NaN()
		}
		out = append(out, mail.UsagePoint{At: t, Now: n, Usual: u})
	}
	return out
}

// count says how many villages a place has, and how many are up and down.
func (s *Service) count(inv *inventory.Inventory, spot string, now time.Time) (all, up, down int) {
	known := map[string][]state.State{}
	for _, x := range s.opt.States().Sites {
		if site, ok := inv.Site(x.Site, now); ok && (site.Village == spot || strings.HasPrefix(site.Village, spot+".")) {
			known[site.Village] = append(known[site.Village], x.State)
		}
	}
	for _, states := range known {
		switch state.OfVillage(states) {
		case state.Up:
			up++
		case state.Down:
			down++
		case state.NoCoverage, state.NeverSeen:
			continue
		}
		all++
	}
	return all, up, down
}

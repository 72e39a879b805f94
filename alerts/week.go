package alerts

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// A week is summed up on Monday at 07.00 by the regency's time. One that could not
// be by Wednesday is left out.
const (
	sumUpHour  = 7
	sumUpUntil = 48 * time.Hour
)

// sumUp sends what a week brought to each regency whose Monday has come.
func (s *Service) sumUp(ctx context.Context, now time.Time) {
	inv := s.opt.Inventory()
	if inv == nil {
		return
	}
	done := map[string]bool{}
	for _, c := range inv.Contacts(now) {
		if c.Role != inventory.RoleDinas || done[c.Region] {
			continue
		}
		done[c.Region] = true
		if err := s.sumUpRegency(ctx, inv, c.Region, now); err != nil && ctx.Err() == nil {
			s.log.Error("the week cannot be summed up: it will be tried again", "region", c.Region, "error", err)
		}
	}
}

func (s *Service) sumUpRegency(ctx context.Context, inv *inventory.Inventory, region string, now time.Time) error {
	monday := mondayOf(now.In(inv.Location(region)))
	week := monday.Format(time.DateOnly)
	last, err := s.ledger.Week(region)
	switch {
	case err != nil || last == week:
		return err
	case last == "": // nobody waits for a week that was before our time
		return s.ledger.SumUp(region, week)
	}
	due := monday.Add(sumUpHour * time.Hour)
	if now.Before(due) {
		return nil
	}
	if now.Before(due.Add(sumUpUntil)) {
		if err := s.sendWeek(ctx, inv, region, monday, now); err != nil {
			return err
		}
	}
	return s.ledger.SumUp(region, week)
}

// mondayOf is the midnight with which the week of an instant began.
func mondayOf(local time.Time) time.Time {
	y, m, d := local.Date()
	back := (int(local.Weekday()) + 6) % 7
	return time.Date(y, m, d-back, 0, 0, 0, 0, local.Location())
}

func (s *Service) sendWeek(ctx context.Context, inv *inventory.Inventory, region string, monday, now time.Time) error {
	incidents, err := s.opt.Incidents.Recent(monday.AddDate(0, 0, -7))
	if err != nil {
		return err
	}
	w := s.weekOf(ctx, region, monday)
	w.Incidents = incidents
	told := 0
	for _, c := range inv.Contacts(now) {
		if c.Role != inventory.RoleDinas || c.Region != region {
			continue
		}
		event := fmt.Sprintf("R-%s-%s/ringkasan", strings.ReplaceAll(region, ".", ""), monday.Format("060102"))
		m, err := w.Digest(inv, c, s.style, now).Render()
		if err := s.post(ctx, outbox.Mail{Event: event, Recipient: c.Email, Message: s.written(m, err, event)}); err != nil {
			return err
		}
		told++
	}
	s.log.Info("week summed up", "region", region, "week", monday.Format(time.DateOnly), "contacts", told)
	return nil
}

// weekOf reads what states and series tell of a week. What cannot be read is
// missing.
func (s *Service) weekOf(ctx context.Context, region string, monday time.Time) letter.Week {
	from := monday.AddDate(0, 0, -7)
	w := letter.Week{Region: region, Monday: monday, States: s.opt.States()}
	if s.opt.Figures == nil {
		return w
	}
	const patience = time.Minute // the count of states looks at every minute of every village
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	speeds := func(series string, end time.Time) map[string]letter.Speed {
		of := fmt.Sprintf(`%s{regency=%q}[7d]`, series, w.Region)
		medians := s.byVillage(ctx, fmt.Sprintf("max by (village) (quantile_over_time(0.5, %s))", of), end)
		tests := s.byVillage(ctx, fmt.Sprintf("sum by (village) (count_over_time(%s))", of), end)
		out := map[string]letter.Speed{}
		for v, m := range medians {
			out[v] = letter.Speed{Median: m, Tests: int(tests[v])}
		}
		return out
	}
	w.Download, w.Upload = speeds("pantau_download_bits_per_second", w.Monday), speeds("pantau_upload_bits_per_second", w.Monday)
	w.Before = speeds("pantau_download_bits_per_second", from)
	if s.opt.SpeedMean > 0 {
		w.Planned = float64(len(w.Download)) * float64(w.Monday.Sub(from)) / float64(s.opt.SpeedMean)
	}
	w.Availability = s.availability(ctx, w.Region, w.Monday)
	return w
}

// availability is the share of the week's minutes in which watched villages were
// connected: at least, if every minute that is not known was an outage, and at
// most, if none was. Villages that were never seen, have no coverage or were under
// maintenance do not count.
func (s *Service) availability(ctx context.Context, region string, end time.Time) mail.Bounds {
	const minutes = 7 * 24 * 60
	states := fmt.Sprintf(`pantau_village_state{regency=%q}`, region)
	count := func(condition string) (map[string]float64, bool) {
		v, err := s.opt.Figures.Instant(ctx, fmt.Sprintf("sum by (village) (count_over_time((%s %s)[7d:1m]))", states, condition), end)
		if err != nil {
			s.log.Warn("figures of the week cannot be read", "error", err)
			return nil, false
		}
		out := map[string]float64{}
		for _, x := range v {
			out[x.Metric.Get("village")] = x.F
		}
		return out, true
	}
	up, ok1 := count("<= 2")
	down, ok2 := count("== 3")
	aside, ok3 := count(">= 5")
	if !ok1 || !ok2 || !ok3 {
		return mail.Bounds{}
	}
	var connected, cut, all float64
	for v := range merge(up, down) {
		connected += up[v]
		cut += down[v]
		all += max(up[v]+down[v], minutes-aside[v])
	}
	if all == 0 {
		return mail.Bounds{}
	}
	return mail.Bounds{Low: connected / all, High: (all - cut) / all, Known: true}
}

func merge(a, b map[string]float64) map[string]bool {
	out := map[string]bool{}
	for k := range a {
		out[k] = true
	}
	for k := range b {
		out[k] = true
	}
	return out
}

// byVillage asks for one figure for each village; none on an error.
func (s *Service) byVillage(ctx context.Context, expr string, at time.Time) map[string]float64 {
	out := map[string]float64{}
	v, err := s.opt.Figures.Instant(ctx, expr, at)
	if err != nil {
		s.log.Warn("figures cannot be read", "query", expr, "error", err)
		return out
	}
	for _, x := range v {
		if village := x.Metric.Get("village"); village != "" && !math.IsNaN(x.F) {
			out[village] = x.F
		}
	}
	return out
}

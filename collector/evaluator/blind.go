package evaluator

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	prules "github.com/prometheus/prometheus/rules"
)

const (
	// blindEvery is the time between two looks at whether rules see anything.
	blindEvery = 15 * time.Second
	// blindAfter is how many looks in a row must find that they do not. Looks, not
	// minutes: a process that was stopped has not looked.
	blindAfter = 20
)

// blindness is whether the rules about the collector see it: a store that fails
// takes the metrics with it that would say so.
type blindness struct {
	looks   int
	written time.Time
	alert   *prules.Alert // firing, or ended not long ago
	told    time.Time
}

// look counts, and tells.
func (b *blindness) look(ctx context.Context, e *Evaluator) {
	why := b.why(e)
	if why == "" {
		b.looks = 0
	} else {
		b.looks++
	}
	now := time.Now()
	switch firing := b.alert != nil && b.alert.ResolvedAt.IsZero(); {
	case !firing && b.looks >= blindAfter:
		e.opt.Logger.Error("rules about the collector cannot be evaluated", "why", why)
		b.alert = blind(now, why)
	case firing && b.looks == 0:
		b.alert.ResolvedAt, b.alert.State = now, prules.StateInactive
	case b.alert == nil || now.Sub(b.told) < resend:
		return
	case !firing && now.Sub(b.alert.ResolvedAt) > 15*time.Minute: // as Prometheus does
		b.alert = nil
		return
	}
	b.told = now
	said := *b.alert
	e.notify(ctx, "", &said)
}

// why says what cannot be seen; empty: all can.
func (b *blindness) why(e *Evaluator) string {
	if e.opt.Written != nil {
		last := b.written
		if b.written = e.opt.Written(); b.written.Equal(last) && time.Since(b.written) > 2*time.Minute {
			return "the collector's own metrics cannot be stored"
		}
	}
	for _, g := range e.own.RuleGroups() {
		for _, r := range g.Rules() {
			if r.Health() == prules.HealthBad {
				return fmt.Sprintf("%s: %v", r.Name(), r.LastError())
			}
		}
	}
	return ""
}

func blind(now time.Time, why string) *prules.Alert {
	return &prules.Alert{State: prules.StateFiring, ActiveAt: now, FiredAt: now, Value: 1,
		Labels: labels.FromStrings(labels.AlertName, "CollectorBlind", "kind", "ours", "severity", "critical"),
		Annotations: labels.FromStrings(
			"summary", "The collector cannot see itself: its store fails. Figures, rules and alerts about quality have stopped.",
			"ringkasan", "Server pemantau tidak dapat memeriksa dirinya sendiri: penyimpan angkanya bermasalah. Peringatan mutu terhenti.",
			"description", "See the log of the collector and its disk. Outages are still noticed: they do not need the store. Cause: "+why+".",
			"value", "1")}
}

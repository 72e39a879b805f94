package alerts

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"

	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/router"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// noteSince carries the instant from which a rule's condition holds.
const noteSince = "pantau_since"

// Notify takes the alerts of rules: it is a rules.NotifyFunc. What rules of one
// kind find in one regency is told together, however much it is.
func (s *Service) Notify(ctx context.Context, _ string, alerts ...*rules.Alert) {
	now := time.Now()
	out := make([]router.Alert, 0, len(alerts))
	for _, a := range alerts {
		// A group whose first alert fired long ago would be told at once, half of it.
		x := router.Alert{Labels: plain(a.Labels), Annotations: plain(a.Annotations), StartsAt: now, EndsAt: a.ValidUntil}
		x.Labels[letter.LabelSource] = letter.SourceRule
		x.Annotations[noteSince] = a.ActiveAt.UTC().Format(time.RFC3339Nano)
		if !a.ResolvedAt.IsZero() {
			x.StartsAt, x.EndsAt = a.FiredAt, a.ResolvedAt
		}
		out = append(out, x)
	}
	if err := s.router.Put(ctx, out...); err != nil {
		s.log.Error("alerts of rules cannot be routed", "error", err)
	}
}

func plain(ls labels.Labels) map[string]string {
	out := ls.Map()
	for name, value := range out {
		if value == "" {
			delete(out, name)
		}
	}
	return out
}

// episodes is what rules were told of. The ledger has it; seen is when the router
// last spoke of each.
type episodes struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

// recall brings what was told, and not recalled, before the router again: rules
// that still find it put it again, and what ceased while we were away ends.
func (s *Service) recall(ctx context.Context, now time.Time) error {
	open, err := s.ledger.Episodes()
	if err != nil {
		return err
	}
	s.episodes.mu.Lock()
	defer s.episodes.mu.Unlock()
	var list []router.Alert
	for _, e := range open {
		s.episodes.seen[e.Key] = now
		for _, f := range e.Findings {
			if f.Ended.IsZero() {
				list = append(list, router.Alert{Labels: f.Labels, Annotations: f.Annotations, StartsAt: now, EndsAt: now.Add(rulesAgain)})
			}
		}
	}
	return s.router.Put(ctx, list...)
}

// closeUnseen ends what the router has not spoken of for long: it was muted until
// it ceased. Nobody is told.
func (s *Service) closeUnseen(now time.Time) {
	s.episodes.mu.Lock()
	defer s.episodes.mu.Unlock()
	for key, at := range s.episodes.seen {
		if now.Sub(at) <= 4*rulesEvery+s.opt.Settings.Gather {
			continue
		}
		if err := s.ledger.End(key); err != nil {
			s.log.Error("what rules found cannot be ended", "key", key, "error", err)
			continue
		}
		delete(s.episodes.seen, key)
		s.log.Info("what rules found was muted until it ceased", "key", key)
	}
}

// deliverRules tells of a group of alerts of rules what is new about it.
func (s *Service) deliverRules(ctx context.Context, alerts []router.Alert, now time.Time) error {
	if len(alerts) == 0 {
		return nil
	}
	kind, region := alerts[0].Labels[letter.LabelKind], alerts[0].Labels[letter.LabelRegency]
	if kind == string(incident.Ours) {
		region = ""
	}
	s.episodes.mu.Lock() // one at a time: the ledger is read and then written
	defer s.episodes.mu.Unlock()
	key := strings.TrimSpace(kind + " " + region)
	e, open, err := s.ledger.Episode(key)
	if err != nil {
		return err
	}
	firing := findings(alerts)
	if !open {
		if len(firing) == 0 {
			return nil
		}
		inv := s.opt.Inventory()
		prefix := fmt.Sprintf("A-%s-%s-", cmp.Or(strings.ReplaceAll(region, ".", ""), "server"), now.In(inv.Location(region)).Format("060102"))
		if e, err = s.ledger.Begin(ledger.Episode{Key: key, Kind: kind, Region: region, Opened: now.UTC(), Findings: firing}, prefix); err != nil {
			return err
		}
	}
	s.episodes.seen[key] = now
	changed := note(&e, alerts)
	switch {
	case e.Step == 0 && len(firing) == 0: // a crash came before the first mail
		delete(s.episodes.seen, key)
		return s.ledger.End(key)
	case e.Step == 0:
		for _, f := range firing {
			if !knows(e.Findings, f) {
				e.Findings = append(e.Findings, f)
			}
		}
		return s.advance(ctx, e, nil, mail.Opened, "opened", now)
	case len(firing) == 0:
		if err := s.tellRules(ctx, e, nil, mail.Recovered, "recovered", now); err != nil {
			return err
		}
		delete(s.episodes.seen, key)
		return s.ledger.End(key)
	}
	fresh := slices.DeleteFunc(firing, func(f ledger.Finding) bool { return knows(e.Findings, f) })
	if len(fresh) > 0 && now.Sub(e.StepAt) >= s.opt.Settings.Wider {
		old := e.Findings
		e.Findings = append(slices.Clone(old), fresh...)
		return s.advance(ctx, e, old, mail.Widened, fmt.Sprintf("widened-%d", e.Step+1), now)
	}
	if changed {
		return s.ledger.Keep(e)
	}
	return nil
}

// advance tells of a step and notes that it is told.
func (s *Service) advance(ctx context.Context, e ledger.Episode, old []ledger.Finding, step mail.Event, name string, now time.Time) error {
	if err := s.tellRules(ctx, e, old, step, name, now); err != nil {
		return err
	}
	e.Step, e.StepAt = e.Step+1, now.UTC()
	return s.ledger.Keep(e)
}

// findings are the alerts of a group that fire.
func findings(alerts []router.Alert) []ledger.Finding {
	var out []ledger.Finding
	for _, a := range alerts {
		if a.EndsAt.IsZero() {
			out = append(out, ledger.Finding{Labels: a.Labels, Annotations: a.Annotations, Since: since(a)})
		}
	}
	slices.SortFunc(out, func(a, b ledger.Finding) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Labels[letter.LabelVillage], b.Labels[letter.LabelVillage]), cmp.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)))
	})
	return out
}

func since(a router.Alert) time.Time {
	if at, err := time.Parse(time.RFC3339Nano, a.Annotations[noteSince]); err == nil && !at.IsZero() {
		return at
	}
	return a.StartsAt.UTC()
}

func knows(list []ledger.Finding, f ledger.Finding) bool {
	return slices.ContainsFunc(list, func(x ledger.Finding) bool { return maps.Equal(x.Labels, f.Labels) })
}

// note keeps which of the known findings ended, or began again.
func note(e *ledger.Episode, alerts []router.Alert) (changed bool) {
	e.Findings = slices.Clone(e.Findings)
	for k := range e.Findings {
		f := &e.Findings[k]
		for _, a := range alerts {
			if maps.Equal(a.Labels, f.Labels) && !f.Ended.Equal(a.EndsAt) {
				f.Ended, changed = a.EndsAt, true
			}
		}
	}
	return changed
}

// tellRules writes a step of an episode to everybody whom it concerns. old are the
// findings that were told before.
func (s *Service) tellRules(ctx context.Context, e ledger.Episode, old []ledger.Finding, step mail.Event, name string, now time.Time) error {
	inv := s.opt.Inventory()
	g := letter.Group{ID: e.ID, Kind: mail.Kind(e.Kind), Region: e.Region, Step: step}
	before := map[string]bool{}
	for _, f := range e.Findings {
		fresh := old != nil && !knows(old, f)
		switch {
		case step != mail.Recovered:
			f.Ended = time.Time{}
		case f.Ended.IsZero():
			f.Ended = now
		}
		g.Findings = append(g.Findings, letter.Finding{Labels: f.Labels, Annotations: f.Annotations, Since: f.Since, Ended: f.Ended, New: fresh})
		if v := f.Labels[letter.LabelVillage]; !fresh && v != "" {
			before[v] = true
		}
	}
	g.Before = len(before)
	if spot := g.Spot(); spot != "" && s.opt.Figures != nil {
		g.Usage = s.usage(ctx, inv, spot, now)
	}
	role := inventory.RoleDinas
	if e.Region == "" {
		role = inventory.RoleOperations
	}
	told := 0
	for _, c := range inv.Contacts(now) {
		if c.Role != role || c.Region != e.Region {
			continue
		}
		event := e.ID + "/" + name
		m, err := g.Render(inv, c, s.style, now)
		if err := s.post(ctx, outbox.Mail{Event: event, Thread: e.ID, Recipient: c.Email, Message: s.written(m, err, event)}); err != nil {
			return err
		}
		told++
	}
	s.fates.WithLabelValues(fateTold).Add(float64(told))
	return nil
}

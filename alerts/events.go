package alerts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/router"
	"github.com/pantau-desa/pantau/collector/incident"
)

// flight is news on its way through the router.
type flight struct {
	news      letter.News
	delivered bool
	silenced  []string      // ids of silences
	done      chan struct{} // closed when it is delivered or muted
}

// begin finds out from where events are to be followed: after a first start, from
// now on.
func (s *Service) begin() error {
	_, ok, err := s.ledger.Seq()
	if err != nil || ok {
		return err
	}
	var seq uint64
	for {
		events, err := s.opt.Incidents.EventsAfter(seq, 1000)
		if err != nil {
			return fmt.Errorf("alerts: %w", err)
		}
		if len(events) == 0 {
			return s.ledger.Start(seq)
		}
		seq = events[len(events)-1].Seq
	}
}

// follow settles the events of incidents one after the other.
func (s *Service) follow(ctx context.Context) error {
	const patience = 30 * time.Second // between two looks that nobody asked for
	for ctx.Err() == nil {
		some, err := s.next(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("an event cannot be settled: it will be tried again", "error", err)
		}
		if some && err == nil {
			continue
		}
		t := time.NewTimer(patience)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// next settles the events that are there; some: there were.
func (s *Service) next(ctx context.Context) (some bool, err error) {
	seq, _, err := s.ledger.Seq()
	if err != nil {
		return false, err
	}
	// Mergers stand right behind the widening that they explain: in the same batch
	// of the engine, which is on disk as a whole.
	const batch, look = 64, 32
	events, err := s.opt.Incidents.EventsAfter(seq, batch+look)
	if err != nil {
		return false, err
	}
	for k, ev := range events[:min(len(events), batch)] {
		if err := s.settle(ctx, ev, joined(ev, events[k+1:])); err != nil {
			return true, err
		}
	}
	return len(events) > 0, nil
}

// joined are the incidents that ev made parts of its own.
func joined(ev incident.Event, later []incident.Event) []incident.ID {
	if ev.Type != incident.Widened {
		return nil
	}
	var out []incident.ID
	for _, x := range later {
		if !x.At.Equal(ev.At) {
			break
		}
		if x.Type == incident.Merged && x.Incident.MergedInto == ev.Incident.ID {
			out = append(out, x.Incident.ID)
		}
	}
	return out
}

// settle has an event told, or muted, and notes that it is.
func (s *Service) settle(ctx context.Context, ev incident.Event, parts []incident.ID) error {
	id := string(ev.Incident.ID)
	before, err := s.ledger.Villages(id)
	if err != nil {
		return err
	}
	settled := ledger.Settled{Seq: ev.Seq, At: ev.At, Incident: id, Villages: letter.Villages(ev.Incident)}
	news := letter.Of(ev, before, parts)
	switch {
	case len(news) == 0:
		// What is nobody's news does not change what was told.
		settled.Villages = before
	case time.Since(ev.At) > s.opt.Settings.GiveUp:
		s.fates.WithLabelValues(fateOld).Add(float64(len(news)))
		s.log.Warn("an event is too old to be told", "incident", id, "event", string(ev.Type), "at", ev.At)
	default:
		if settled.Muted, err = s.tell(ctx, news); err != nil {
			return err
		}
	}
	return s.ledger.Settle(settled)
}

// tell brings news through the router, until all of it is delivered or muted.
func (s *Service) tell(ctx context.Context, news []letter.News) (muted []ledger.Muted, err error) {
	const again = 30 * time.Second // an alert that is put again is the same alert
	inv := s.opt.Inventory()
	flights := make([]*flight, len(news))
	labels := make([]map[string]string, len(news))
	began := time.Now()
	s.mu.Lock()
	for k, n := range news {
		flights[k] = &flight{news: n, done: make(chan struct{})}
		labels[k] = n.Labels(inv)
		s.flights[n.Key()] = flights[k]
	}
	s.mu.Unlock()
	defer func() {
		now := time.Now()
		var over []router.Alert
		s.mu.Lock()
		for k, f := range flights {
			delete(s.flights, f.news.Key())
			over = append(over, router.Alert{Labels: labels[k], StartsAt: began, EndsAt: now})
		}
		s.mu.Unlock()
		err = errors.Join(err, s.router.Put(context.WithoutCancel(ctx), over...))
	}()
	for k := 0; k < len(flights); {
		var open []router.Alert
		for j := k; j < len(flights); j++ {
			open = append(open, router.Alert{Labels: labels[j], StartsAt: began, EndsAt: time.Now().Add(time.Hour)})
		}
		if err := s.router.Put(ctx, open...); err != nil {
			return nil, err
		}
		t := time.NewTimer(again)
	waiting:
		for k < len(flights) {
			select {
			case <-ctx.Done():
				t.Stop()
				return nil, ctx.Err()
			case <-flights[k].done:
				k++
			case <-t.C:
				break waiting
			}
		}
		t.Stop()
	}
	for _, f := range flights {
		if len(f.silenced) == 0 {
			if !f.delivered {
				s.fates.WithLabelValues(fateNobody).Inc()
				s.log.Warn("nobody is to be told: there is no contact", "event", f.news.Key())
			}
			continue
		}
		s.fates.WithLabelValues(fateMuted).Inc()
		s.log.Info("muted by a silence", "event", f.news.Key(), "silences", f.silenced)
		muted = append(muted, ledger.Muted{Event: f.news.Key(), Incident: f.news.Thread(), Region: f.news.Region, At: time.Now().UTC(), Silences: f.silenced})
	}
	return muted, nil
}

// flushed implements router.Options.Flushed.
func (s *Service) flushed(a router.Alert, silencedBy []string) {
	if a.Labels[letter.LabelSource] != letter.SourceIncident {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.flights[a.Labels[letter.LabelEvent]]
	if f == nil {
		return // over
	}
	select {
	case <-f.done:
	default:
		if !f.delivered {
			f.silenced = slices.Clone(silencedBy)
		}
		close(f.done)
	}
}

// deliverNews writes to the contacts of news.
func (s *Service) deliverNews(ctx context.Context, alerts []router.Alert) error {
	var errs []error
	for _, a := range alerts {
		s.mu.Lock()
		f := s.flights[a.Labels[letter.LabelEvent]]
		s.mu.Unlock()
		if f == nil {
			continue // over: it was delivered before
		}
		n, err := s.write(ctx, f.news)
		errs = append(errs, err)
		if err == nil {
			s.mu.Lock()
			f.delivered = true
			s.mu.Unlock()
			s.fates.WithLabelValues(fateTold).Add(float64(n))
		}
	}
	return errors.Join(errs...)
}

// write writes news to everybody whom it concerns; n of them.
func (s *Service) write(ctx context.Context, news letter.News) (n int, err error) {
	now := time.Now()
	inv := s.opt.Inventory()
	for _, c := range inv.Contacts(now) {
		first, any, err := s.outbox.Thread(news.Thread(), c.Email)
		if err != nil {
			return n, err
		}
		told := letter.Told{Any: any, First: first}
		if !news.For(c, told) {
			continue
		}
		m, err := news.View(inv, c, told, s.style, now).Render()
		if err := s.post(ctx, outbox.Mail{Event: news.Key(), Thread: news.Thread(), Recipient: c.Email, Message: s.written(m, err, news.Key())}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// Package alerts tells people. It follows the events of incidents and what rules
// find, lets the router decide who is to be told and silences speak, has letters
// written, and hands them to the outbox; once a week it sums up a regency.
//
// It guarantees:
//
//   - One mail for each event, contact and role; forty villages behind one node are
//     one mail. What is wrong with ourselves goes to operations alone. A cause that
//     is found late, and a merger, mail nobody.
//   - An event that the engine has made durable is told, or muted by a silence that
//     was in force when it was its turn, whatever crashes in between; a repetition
//     has the same Message-ID. What was muted is never told later.
//   - Events of one incident are told in their order.
//   - Nothing that happened before the first start, or longer ago than a day, is
//     told: news of yesterday is no news.
//
// It decides neither what an incident is nor how bad a line: collector/incident
// and the rules do.
package alerts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/router"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Incidents is what this room must know of the engine.
type Incidents interface {
	// EventsAfter returns durable events above a sequence number, in order.
	EventsAfter(seq uint64, limit int) ([]incident.Event, error)
	Open() []incident.Incident
	// Recent returns the incidents that were open at any time after an instant.
	Recent(since time.Time) ([]incident.Incident, error)
}

// Settings say through which server, as whom, and how mails are sent.
type Settings struct {
	SMTP     outbox.SMTP
	From     string // "Pantau Desa <pantau@example.org>"
	PageURL  string // address under which people open the office side; empty: mails have no links
	Language mail.Language
	// GiveUp is how long a mail is tried, and how old news may be; 24 hours if 0.
	GiveUp time.Duration
	// Retry is the least time between two attempts; 1 minute if 0.
	Retry time.Duration
	// Gather is how long what rules find is gathered before it is told; 1 minute if 0.
	Gather time.Duration
	// Wider is the least time between two mails about what rules find more of; 6
	// hours if 0.
	Wider time.Duration
}

// Check says what is wrong with s, by the name of the field in settings.
func (s Settings) Check() map[string]string {
	wrong := s.SMTP.Check()
	if what := outbox.CheckSender(s.From); what != "" {
		wrong["from"] = what
	}
	if s.PageURL != "" {
		u, err := url.Parse(s.PageURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			wrong["page_url"] = "is not an address such as https://pantau.klaten.example.id"
		}
	}
	if s.Language != "" && s.Language != mail.Indonesian && s.Language != mail.English {
		wrong["language"] = "is neither id nor en"
	}
	for key, d := range map[string]time.Duration{"give_up": s.GiveUp, "retry": s.Retry, "gather": s.Gather, "wider": s.Wider} {
		if d < 0 {
			wrong[key] = "is below 0"
		}
	}
	return wrong
}

// Options of a Service. Dir, Inventory, Incidents and States are required.
type Options struct {
	Dir      string // everything is kept below it; created
	Settings Settings

	Inventory func() *inventory.Inventory
	Incidents Incidents
	// States is what is known now of every site, for the week's summary.
	States func() state.Snapshot
	// Figures reads the stored series, for the week's summary and for surges; nil:
	// figures are not known.
	Figures Figures
	// SpeedMean is the mean time between two speed tests of a site, from which it
	// follows how many were due; 0: that is not known.
	SpeedMean time.Duration

	Simulation bool
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: none
}

// Service tells people. Make it with New, then Run it once.
type Service struct {
	opt    Options
	log    *slog.Logger
	style  letter.Style
	outbox *outbox.Outbox
	router *router.Router
	ledger *ledger.Ledger
	fates  *prometheus.CounterVec
	wake   chan struct{}

	mu      sync.Mutex
	flights map[string]*flight // news that the router has, by key

	applied  []inventory.Contact // that the routes are made of; of Run alone
	episodes episodes
}

// New opens what is kept. Nothing is sent before Run.
func New(opt Options) (s *Service, err error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	set := func(d *time.Duration, to time.Duration) { *d = cmp.Or(*d, to) }
	set(&opt.Settings.GiveUp, 24*time.Hour)
	set(&opt.Settings.Retry, time.Minute)
	set(&opt.Settings.Gather, time.Minute)
	set(&opt.Settings.Wider, 6*time.Hour)
	for key, what := range opt.Settings.Check() {
		return nil, fmt.Errorf("alerts: %s %s", key, what)
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	s = &Service{opt: opt, log: opt.Logger, wake: make(chan struct{}, 1), flights: map[string]*flight{},
		style: letter.Style{Page: strings.TrimRight(opt.Settings.PageURL, "/"), Language: cmp.Or(opt.Settings.Language, mail.Indonesian), Simulation: opt.Simulation},
		fates: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_alerts_news_total", Help: "News by what became of it: told, muted by a silence, with nobody to tell, or too old."}, []string{"fate"})}
	s.episodes.seen = map[string]time.Time{}
	for _, f := range fates() {
		s.fates.WithLabelValues(f)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.ledger, err = ledger.Open(filepath.Join(opt.Dir, "told.db")); err != nil {
		return s, err
	}
	if s.outbox, err = outbox.Open(outbox.Options{File: filepath.Join(opt.Dir, "outbox.db"), SMTP: opt.Settings.SMTP, From: opt.Settings.From,
		MinRetry: opt.Settings.Retry, GiveUp: opt.Settings.GiveUp, Logger: opt.Logger, Registerer: opt.Registerer}); err != nil {
		return s, err
	}
	if s.router, err = router.New(router.Options{SilenceFile: filepath.Join(opt.Dir, "silences"), Deliver: s.deliver, Flushed: s.flushed,
		Logger: opt.Logger, Registerer: opt.Registerer}); err != nil {
		return s, err
	}
	if err := s.begin(); err != nil {
		return s, err
	}
	if opt.Registerer != nil {
		err = opt.Registerer.Register(s.fates)
	}
	return s, err
}

// Close gives back what New opened. Run has ended before, or was never called.
func (s *Service) Close() error {
	var errs []error
	if s.router != nil {
		s.router.Close()
	}
	if s.outbox != nil {
		errs = append(errs, s.outbox.Close())
	}
	if s.ledger != nil {
		errs = append(errs, s.ledger.Close())
	}
	s.router, s.outbox, s.ledger = nil, nil, nil
	return errors.Join(errs...)
}

// Wake says that there may be a new event.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run tells until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	if err := s.route(time.Now()); err != nil {
		return err
	}
	if err := s.recall(ctx, time.Now()); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.outbox.Run(ctx) })
	g.Go(func() error { return s.follow(ctx) })
	g.Go(func() error { return s.turn(ctx) })
	err := g.Wait()
	s.router.Close() // no delivery runs once the files are closed
	return err
}

// turn does what is due by the clock.
func (s *Service) turn(ctx context.Context) error {
	const every = 30 * time.Second
	t := time.NewTicker(every)
	defer t.Stop()
	var forgotten time.Time
	for {
		now := time.Now()
		if err := s.route(now); err != nil {
			s.log.Error("who is told cannot be changed: the contacts of before hold", "error", err)
		}
		s.mark(ctx, now)
		s.closeUnseen(now)
		s.sumUp(ctx, now)
		if now.Sub(forgotten) >= 24*time.Hour {
			if err := s.ledger.Forget(now); err != nil {
				s.log.Error("old incidents cannot be forgotten", "error", err)
			}
			forgotten = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Receivers' names begin with one of these.
const (
	receiveIncident = "incident "
	receiveRules    = "rules "
	receiveOpen     = "open"
)

// Of Alertmanager's times: a flush that failed is repeated, and what a rule still
// finds is told of again, at this interval.
const (
	incidentEvery = time.Minute
	rulesEvery    = 5 * time.Minute
	never         = 1000 * time.Hour
)

// rulesAgain is how long after a start a rule may take to find again what it found
// before: the probes deliver first, and a usage rule needs two looks, 5 minutes
// apart. Until then what was told counts as going on.
const rulesAgain = 30 * time.Minute

// route makes receivers of the contacts that are valid now, if they have changed.
func (s *Service) route(now time.Time) error {
	inv := s.opt.Inventory()
	if inv == nil {
		return nil
	}
	contacts := inv.Contacts(now)
	if s.applied != nil && slices.Equal(contacts, s.applied) {
		return nil
	}
	if err := s.router.Apply(routes(contacts, s.opt.Settings.Gather)); err != nil {
		return err
	}
	s.applied = append([]inventory.Contact{}, contacts...) // never nil from now on
	s.log.Info("contacts", "count", len(contacts))
	if len(contacts) == 0 {
		s.log.Warn("the inventory has no contacts (contacts.csv): nobody is told of anything")
	}
	return nil
}

func routes(contacts []inventory.Contact, gather time.Duration) router.Routes {
	equal := func(label, value string) router.Matcher { return router.Matcher{Label: label, Value: value} }
	about := router.Matcher{Label: letter.LabelKind, Value: "quality|capacity|spike|optical", Regexp: true}
	out := router.Routes{Receivers: []router.Receiver{{Name: receiveOpen, Match: []router.Matcher{equal(letter.LabelSource, letter.SourceOpen)},
		GroupBy: []string{letter.LabelSource}, Interval: time.Hour, Again: never}}}
	seen := map[string]bool{}
	for _, c := range contacts {
		name := string(c.Role) + " " + c.Region
		if seen[name] {
			continue
		}
		seen[name] = true
		out.Receivers = append(out.Receivers, router.Receiver{Name: receiveIncident + name, GroupBy: []string{letter.LabelEvent}, Interval: incidentEvery, Again: never,
			Match: []router.Matcher{equal(letter.LabelSource, letter.SourceIncident), equal(letter.LabelRole, string(c.Role)), equal(letter.LabelRegion, c.Region)}})
		rules := router.Receiver{Name: receiveRules + name, GroupBy: []string{letter.LabelKind, letter.LabelRegency}, Wait: gather, Interval: rulesEvery, Again: rulesEvery / 2, Resolved: true,
			Match: []router.Matcher{equal(letter.LabelSource, letter.SourceRule)}}
		switch c.Role {
		case inventory.RoleDinas:
			rules.Match = append(rules.Match, about, equal(letter.LabelRegency, c.Region))
		case inventory.RoleOperations:
			rules.Match = append(rules.Match, equal(letter.LabelKind, string(incident.Ours)))
			rules.GroupBy = []string{letter.LabelKind}
		default:
			continue
		}
		out.Receivers = append(out.Receivers, rules)
	}
	out.Inhibitions = []router.Inhibition{
		{Source: []router.Matcher{equal(letter.LabelSource, letter.SourceOpen)}, Target: []router.Matcher{equal(letter.LabelSource, letter.SourceRule), about}, Equal: []string{letter.LabelVillage}},
		{Source: []router.Matcher{equal(letter.LabelSource, letter.SourceOpen), equal(letter.LabelKind, string(incident.Ours))}, Target: []router.Matcher{equal(letter.LabelSource, letter.SourceRule), about}},
	}
	return out
}

// mark shows the router which incidents go on, so that rules about the same
// villages are quiet.
func (s *Service) mark(ctx context.Context, now time.Time) {
	var list []router.Alert
	seen := map[string]bool{}
	for _, i := range s.opt.Incidents.Open() {
		mark := func(kind incident.Kind, village string) {
			if key := string(kind) + village; !seen[key] {
				seen[key] = true
				labels := map[string]string{letter.LabelAlertName: "Open", letter.LabelSource: letter.SourceOpen, letter.LabelKind: string(kind)}
				if village != "" {
					labels[letter.LabelVillage] = village
				}
				list = append(list, router.Alert{Labels: labels, StartsAt: now, EndsAt: now.Add(90 * time.Second)})
			}
		}
		if i.Kind == incident.Ours {
			mark(i.Kind, "")
			continue
		}
		for _, v := range i.Villages() {
			mark(i.Kind, v.Code)
		}
	}
	if err := s.router.Put(ctx, list...); err != nil {
		s.log.Error("open incidents cannot be shown to the router", "error", err)
	}
}

// What may become of news.
const (
	fateTold   = "told"
	fateMuted  = "muted"
	fateNobody = "nobody"
	fateOld    = "old"
)

func fates() []string { return []string{fateTold, fateMuted, fateNobody, fateOld} }

// deliver implements router.Options.Deliver.
func (s *Service) deliver(ctx context.Context, receiver string, alerts []router.Alert) error {
	switch {
	case strings.HasPrefix(receiver, receiveIncident):
		return s.deliverNews(ctx, alerts)
	case strings.HasPrefix(receiver, receiveRules):
		return s.deliverRules(ctx, alerts, time.Now())
	}
	return nil
}

// post hands a mail to the outbox. What can never be a mail is logged and let go:
// repeating it would hold up all that follows.
func (s *Service) post(ctx context.Context, m outbox.Mail) error {
	_, err := s.outbox.Enqueue(ctx, m)
	if errors.Is(err, outbox.ErrInvalid) {
		s.log.Error("a mail cannot be sent to this contact", "event", m.Event, "recipient", m.Recipient, "error", err)
		return nil
	}
	return err
}

// written is a rendered mail, or the little that can be said if it cannot be.
func (s *Service) written(m mail.Message, err error, event string) outbox.Message {
	if err != nil {
		s.log.Error("a mail cannot be rendered: its bare news is sent", "event", event, "error", err)
		text := "Kabar dari Pantau Desa: " + event
		if s.style.Page != "" {
			text += "\n" + s.style.Page + "/"
		}
		return outbox.Message{Subject: "[Pantau Desa] " + event, Text: text + "\n"}
	}
	return outbox.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML}
}

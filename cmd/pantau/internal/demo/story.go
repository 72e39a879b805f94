package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/state"
)

// The story that the demo plays, checks and ends with: a full line is noticed, a
// cut is told once, its end is told once, and what was measured meanwhile comes
// without another word.

// StoryReport is what a played story amounts to. What did not come to be known is
// null.
type StoryReport struct {
	SpikeVillage    string           `json:"spike_village"` // code of the one whose line was filled
	SpikeToNotice   *float64         `json:"spike_to_notice_seconds"`
	CutNode         string           `json:"cut_node"`
	CutVillages     []string         `json:"cut_villages"`
	Incident        string           `json:"incident"`
	Cause           string           `json:"cause"` // as the recovery's mail has it; empty: pending, or no such mail
	CutToMail       *float64         `json:"cut_to_mail_seconds"`
	RestoredToMail  *float64         `json:"restored_to_mail_seconds"`
	MailsFiring     int              `json:"mails_firing"` // of the cut alone, to the recipient who got most
	MailsRecovery   int              `json:"mails_recovery"`
	MailsLate       int              `json:"mails_late"`
	NamedExactly    bool             `json:"villages_named_exactly"`
	MissingMinutes  *int             `json:"missing_minutes"` // of all villages, from the cut to the recovery, in which any slot of reach has no result
	MailsByOffice   map[string]count `json:"mails_by_recipient"`
	Steps           []StepReport     `json:"steps"`
	DurationSeconds float64          `json:"story_seconds"`
}

// StepReport is one step of the story.
type StepReport struct {
	Name    string  `json:"name"`
	OK      bool    `json:"ok"`
	Seconds float64 `json:"seconds"`
	Within  float64 `json:"within_seconds"`
	Said    string  `json:"said"`
}

// step is one thing that must come to be.
type step struct {
	name   string
	within time.Duration
	begin  func(context.Context) error // nil: nothing is done
	// look says how far it is. done ends the step; an error ends the story, for it
	// can hold no more.
	look func(context.Context) (said string, done bool, err error)
}

// errLate: a step did not come to be in time.
var errLate = errors.New("not in time")

// lookEvery is how often a step is looked at.
const lookEvery = time.Second

// take takes one step. The error says why it failed.
func (s step) take(ctx context.Context, heard func(said string)) (r StepReport, err error) {
	began := time.Now()
	r = StepReport{Name: s.name, Within: s.within.Seconds()}
	defer func() {
		r.OK, r.Seconds = err == nil, time.Since(began).Seconds()
	}()
	if s.begin != nil {
		if err := s.begin(ctx); err != nil {
			return r, err
		}
	}
	for {
		said, done, err := s.look(ctx)
		switch {
		case ctx.Err() != nil:
			return r, context.Cause(ctx)
		case err != nil:
			return r, err
		case done:
			r.Said = said
			return r, nil
		case time.Since(began) > s.within:
			r.Said = said
			return r, fmt.Errorf("%w, within %v: %s", errLate, s.within, said)
		}
		heard(said)
		pause(ctx, lookEvery)
	}
}

// Times of the story.
const (
	storyWithin   = 15 * time.Minute
	reportsWithin = 4 * time.Minute
	noticeWithin  = 5 * time.Minute
	mailWithin    = 4 * time.Minute // where siblings corroborate
	mailAlone     = 5 * time.Minute
	upWithin      = time.Minute
	recoverySlack = 2 * time.Minute // beyond the time that it must have been good for
	filledWithin  = time.Minute
	storyQuiet    = 75 * time.Second
	// durationSlack is how far a mail's duration may be off: it counts from the last
	// beat before the cut to the first after it, and whole minutes.
	durationSlack = 90 * time.Second
)

// LeastForStory is how many villages a story needs: with one ODC nobody would be
// left to say that the collector works.
const LeastForStory = 4

// story is one that is being played.
type story struct {
	*run
	rnd    *rand.Rand
	quiet  time.Duration // after the recovery was told, in which nothing may come
	report StoryReport
	failed error // why it does not hold; nil: it does

	spiked   int // index of the village whose line is filled
	odc      *world.ODC
	filling  time.Time // when the line began to be filled
	cut      time.Time
	restored time.Time
	over     time.Time // the recovery was told to everybody
	endFill  func() error
}

func (r *run) newStory() *story {
	s := &story{run: r, rnd: rand.New(rand.NewPCG(r.opt.Seed, 4)), quiet: storyQuiet}
	s.spiked = s.rnd.IntN(len(r.lines))
	s.odc = r.world.ODCs[s.rnd.IntN(len(r.world.ODCs))]
	s.report.SpikeVillage = r.lines[s.spiked].Code
	s.report.CutNode = odcID(slices.Index(r.world.ODCs, s.odc))
	for _, v := range s.odc.Villages {
		s.report.CutVillages = append(s.report.CutVillages, v.Code)
	}
	return s
}

// steps are the story.
func (s *story) steps() []step {
	spiked, cable := s.lines[s.spiked], fmt.Sprintf("the cable of %s, which serves %s", s.report.CutNode, s.names(s.odc))
	mail := mailAlone
	if len(s.odc.Villages) > 1 {
		mail = mailWithin
	}
	over := s.timers().GoodGroup + recoverySlack
	return []step{
		{name: "every village reports speed, latency, reach and usage", within: reportsWithin, look: s.everyReports},
		{name: fmt.Sprintf("the line of %s is filled, and that is noticed", spiked.Name), within: noticeWithin, begin: s.fill, look: s.noticed},
		{name: "cut: " + cable + "; one mail names exactly these", within: mail, begin: s.sever, look: s.told},
		{name: "mended: its villages are up", within: upWithin, begin: s.mend, look: s.up},
		{name: "one mail says that it is over, how long it was, and why", within: over, look: s.toldOver},
		{name: "what was measured in the cut has come: no minute is missing", within: filledWithin, look: s.filled},
		{name: "and no late mail follows", within: s.quiet + 10*time.Second, look: s.nothingMore},
	}
}

// play plays the story to its end, or to the first step that fails.
func (s *story) play(ctx context.Context) {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, storyWithin, fmt.Errorf("the story takes longer than %v", storyWithin))
	defer cancel()
	steps := s.steps()
	for i, st := range steps {
		mark := fmt.Sprintf("story %d/%d", i+1, len(steps))
		s.say("%s  %s: %s", clockTime(time.Now()), mark, st.name)
		done, err := st.take(ctx, func(said string) {
			s.screen.note(fmt.Sprintf("%s: %s", mark, said))
		})
		s.screen.note("")
		s.report.Steps = append(s.report.Steps, done)
		if errors.Is(err, context.Canceled) {
			err = errors.New("it was ended before that came to be")
		}
		if err != nil {
			s.failed = fmt.Errorf("%s: %s: %w", mark, st.name, err)
			break
		}
		s.say("%s  %s: yes, after %.0f s. %s", clockTime(time.Now()), mark, done.Seconds, done.Said)
	}
	if s.endFill != nil {
		s.failed = errors.Join(s.failed, s.endFill())
	}
	s.report.DurationSeconds = time.Since(began).Seconds()
}

// conclusion says what the story amounts to.
func (s *story) conclusion() string {
	if s.failed != nil {
		return "The story does not hold. " + s.failed.Error()
	}
	return fmt.Sprintf("The story holds: told %.0f s after the cut, told of the end %.0f s after the repair, %d minutes missing, %d late mails.",
		*s.report.CutToMail, *s.report.RestoredToMail, *s.report.MissingMinutes, s.report.MailsLate)
}

// everyReports waits for figures that hold.
func (s *story) everyReports(ctx context.Context) (string, bool, error) {
	var wait []string
	for _, v := range s.look(ctx) {
		switch {
		case v.State != state.Up.String():
			wait = append(wait, v.Name+" is "+v.State)
		case len(v.Problems) > 0:
			wait = append(wait, v.Name+": "+strings.Join(v.Problems, ", "))
		}
	}
	if len(wait) > 0 {
		return fmt.Sprintf("%d of %d do; %s", len(s.lines)-len(wait), len(s.lines), strings.Join(wait, "; ")), false, nil
	}
	return fmt.Sprintf("All %d are up, with figures that their lines carry.", len(s.lines)), true, nil
}

// fill begins the spike: real traffic from pusat into the village.
func (s *story) fill(ctx context.Context) error {
	// What the first step has seen was measured before: a test begins at its time.
	pause(ctx, s.pace.SpeedDuration)
	s.filling = time.Now()
	s.spike.Store(&spike{village: s.lines[s.spiked].Code, from: s.filling.Add(-s.pace.SpeedDuration)})
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := s.world.Fill(ctx, s.world.Villages[s.spiked])
		ended <- err
	}()
	s.endFill = func() error {
		cancel()
		s.endFill = nil
		err := <-ended
		over := *s.spike.Load()
		over.to = time.Now()
		s.spike.Store(&over)
		return err
	}
	return nil
}

// noticed waits until the capacity rule speaks of that line, and of no other.
func (s *story) noticed(ctx context.Context) (string, bool, error) {
	full, err := s.fullLines(ctx)
	if err != nil {
		return "the rules cannot be asked: " + err.Error(), false, nil
	}
	mine := s.lines[s.spiked].Code
	for _, l := range s.lines {
		if full[l.Code].firing && l.Code != mine {
			return "", false, fmt.Errorf("%s is said to be full: its line was left alone", l.Name)
		}
	}
	said := fmt.Sprintf("used %s of the measured speed", full[mine])
	if !full[mine].firing {
		return said, false, nil
	}
	after := time.Since(s.filling).Seconds()
	s.report.SpikeToNotice = &after
	return strings.ToUpper(said[:1]) + said[1:] + ".", true, s.endFill()
}

// sever sets the ODC's uplink down.
func (s *story) sever(context.Context) error {
	s.cut = time.Now()
	return s.odc.Uplink.B.Down()
}

// told waits until every office has a mail about the cut.
func (s *story) told(context.Context) (string, bool, error) {
	if err := s.othersUp(); err != nil {
		return "", false, err
	}
	t, err := s.tally()
	if err != nil {
		return "", false, err
	}
	if waiting := t.without(func(c count) int { return c.Firing }); len(waiting) > 0 {
		return fmt.Sprintf("%.0f s after the cut; not told: %s", time.Since(s.cut).Seconds(), strings.Join(waiting, ", ")), false, nil
	}
	after := t.firstFiring.Sub(s.cut).Seconds()
	s.report.CutToMail = &after
	s.report.Incident = strings.Join(t.incidents, ", ")
	if err := t.namesExactly(s.namesOf(s.odc), s.otherNames(s.odc)); err != nil {
		return "", false, err
	}
	s.report.NamedExactly = true
	return fmt.Sprintf("%.0f s after the cut: %q", after, t.firing[0].Subject), true, nil
}

// mend sets the uplink up again.
func (s *story) mend(context.Context) error {
	s.restored = time.Now()
	return s.odc.Uplink.B.Up()
}

func (s *story) up(context.Context) (string, bool, error) {
	n := 0
	for _, v := range s.states() {
		if v.State == state.Up {
			n++
		}
	}
	return fmt.Sprintf("%d of %d villages are up.", n, len(s.lines)), n == len(s.lines), nil
}

// toldOver waits until every office has a mail that says that the cut is over.
func (s *story) toldOver(context.Context) (string, bool, error) {
	t, err := s.tally()
	if err != nil {
		return "", false, err
	}
	if waiting := t.without(func(c count) int { return c.Recovery }); len(waiting) > 0 {
		return fmt.Sprintf("%.0f s after the repair; not told: %s", time.Since(s.restored).Seconds(), strings.Join(waiting, ", ")), false, nil
	}
	s.over = time.Now()
	after := t.firstRecovery.Sub(s.restored).Seconds()
	s.report.RestoredToMail = &after
	if err := t.saysHowLongAndWhy(s.restored.Sub(s.cut)); err != nil {
		return "", false, err
	}
	s.report.Cause = string(t.cause)
	cause := "cause: " + s.report.Cause
	if s.report.Cause == "" {
		cause = "cause pending"
	}
	return fmt.Sprintf("%.0f s after the repair, %s: %q", after, cause, t.recovery[0].Subject), true, nil
}

// filled waits until every slot from the cut to the recovery has a result, and
// checks that those of the cut say "not reachable".
func (s *story) filled(ctx context.Context) (string, bool, error) {
	slots, err := s.reachSlots(ctx, s.cut, s.over)
	if err != nil {
		return "", false, err
	}
	missing := 0
	for _, l := range s.lines {
		missing += slots.missingMinutes(l.Code)
	}
	s.report.MissingMinutes = &missing
	if missing > 0 {
		return fmt.Sprintf("%d village minutes of reach are missing", missing), false, nil
	}
	for i, l := range s.lines {
		severed := s.world.Villages[i].ODC == s.odc
		// One slot may have been under way at the cut, one at the repair.
		reached, cutOff := slots.count(l.Code, s.cut.Add(2*s.pace.Light), s.restored.Add(-s.pace.Light))
		if severed && reached > 0 {
			return "", false, fmt.Errorf("%s: %d slots of the cut say that its ODP was reached", l.Name, reached)
		}
		if !severed && cutOff > 0 {
			return "", false, fmt.Errorf("%s: %d slots say that its ODP was not reached: its line was not cut", l.Name, cutOff)
		}
	}
	return fmt.Sprintf("All %d slots of reach are there; those of the cut say \"not reachable\".", len(slots.ends)*len(s.lines)), true, nil
}

// nothingMore waits, and counts at last.
func (s *story) nothingMore(context.Context) (string, bool, error) {
	t, err := s.tally()
	if err != nil {
		return "", false, err
	}
	if t.late > 0 {
		return "", false, fmt.Errorf("%d late mails", t.late)
	}
	if left := s.quiet - time.Since(s.over); left > 0 {
		return fmt.Sprintf("quiet for %.0f more seconds", left.Seconds()), false, nil
	}
	for office, c := range t.byOffice {
		if c.Firing != 1 || c.Recovery != 1 {
			return "", false, fmt.Errorf("%s has %d mails about the cut and %d about its end: want one of each", office, c.Firing, c.Recovery)
		}
	}
	return "Each office had one mail about the cut and one about its end.", true, nil
}

// othersUp checks that no village is down but those of the cut.
func (s *story) othersUp() error {
	for i, v := range s.states() {
		if v.State == state.Down && s.world.Villages[i].ODC != s.odc {
			return fmt.Errorf("%s is down: its line was not cut", v.Name)
		}
	}
	return nil
}

// tally reads the mails as they are now, and keeps the figures.
func (s *story) tally() (tally, error) {
	letters, err := s.post.Letters()
	if err != nil {
		return tally{}, err
	}
	var ids []string
	var cause incident.Cause
	recent, err := s.col.Incidents().Recent(s.cut)
	if err != nil {
		return tally{}, err
	}
	for _, i := range recent {
		if i.OpenedAt.Before(s.cut) || i.Kind != incident.Outage && i.Kind != incident.Quality && i.Kind != incident.Ours {
			continue
		}
		ids, cause = append(ids, string(i.ID)), i.Cause
	}
	t := tallyOf(letters, ids, toldOfIncidents(), s.restored)
	t.cause = cause
	s.report.MailsByOffice = t.byOffice
	s.report.MailsFiring, s.report.MailsRecovery, s.report.MailsLate = t.most(func(c count) int { return c.Firing }),
		t.most(func(c count) int { return c.Recovery }), t.late
	return t, nil
}

// names lists an ODC's villages for people.
func (s *story) names(o *world.ODC) string {
	var out []string
	for _, v := range o.Villages {
		out = append(out, v.Name)
	}
	return strings.Join(out, ", ")
}

// namesOf are names and codes of an ODC's villages, otherNames those of the rest.
func (s *story) namesOf(o *world.ODC) (out []string) {
	for _, v := range o.Villages {
		out = append(out, v.Name, v.Code)
	}
	return out
}

func (s *story) otherNames(o *world.ODC) (out []string) {
	for _, v := range s.world.Villages {
		if v.ODC != o {
			out = append(out, v.Name, v.Code)
		}
	}
	return out
}

// fullness is what is known of how full a village's line is.
type fullness struct {
	ratio  float64 // of the measured speed, in the fuller direction; NaN: not known
	firing bool    // the capacity rule speaks of it
}

func (f fullness) String() string {
	if math.IsNaN(f.ratio) {
		return "an unknown share"
	}
	return fmt.Sprintf("%.0f%%", f.ratio*100)
}

// fullLines asks the rules' own series, by village.
func (r *run) fullLines(ctx context.Context) (map[string]fullness, error) {
	out := map[string]fullness{}
	for _, l := range r.lines {
		out[l.Code] = fullness{ratio: math.NaN()}
	}
	now := time.Now()
	ratios, err := r.col.Query().Instant(ctx, "max by (village) (pantau_link_utilisation_ratio)", now)
	if err != nil {
		return nil, err
	}
	for _, v := range ratios {
		out[v.Metric.Get("village")] = fullness{ratio: v.F}
	}
	alerts, err := r.col.Query().Instant(ctx, `max by (village) (ALERTS{kind="capacity", alertstate="firing"})`, now)
	for _, v := range alerts {
		f := out[v.Metric.Get("village")]
		f.firing = true
		out[v.Metric.Get("village")] = f
	}
	return out, err
}

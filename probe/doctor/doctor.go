// Package doctor looks at a box as an installer would, and says what is missing
// for it to be a probe, and what to do about it.
//
// It guarantees that it changes nothing (a file that tries whether the disk can be
// written is removed again), that it ends in bounded time, and that what it says
// works was tried, by the same rooms that the running probe uses. It may run
// beside the running probe: it does not touch the spool, and its heartbeat is one
// more of this box.
//
// It refuses to guess. What cannot be looked at, such as a collector before the
// box is enrolled, is skipped, and a skipped check is not a good one.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/url"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/signal"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Text is one text in both languages.
type Text struct{ ID, EN string }

// say formats both languages with the same arguments.
func say(id, en string, args ...any) Text {
	return Text{ID: fmt.Sprintf(id, args...), EN: fmt.Sprintf(en, args...)}
}

// Verdict is what a check came to.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "ok"
	Problem Verdict = "problem"
	Skipped Verdict = "skipped"
)

// Check names what was looked at.
type Check string

// The checks, in the order in which they are made.
const (
	Identity  Check = "identity"
	Disk      Check = "disk"
	ICMP      Check = "icmp"
	Usage     Check = "usage"
	DNS       Check = "dns"
	Collector Check = "collector"
	Heartbeat Check = "heartbeat"
	Clock     Check = "clock"
	Target    Check = "target" // one finding for each measurement server
	// Of what few boxes have: looked at only where it is settled.
	Secrets Check = "secrets"
	Optics  Check = "optics"
	Signal  Check = "signal"
)

// Finding is what one check came to.
type Finding struct {
	Check   Check
	Verdict Verdict
	Seen    Text
	Do      Text // what to do about a problem
}

// Options say what to look at.
type Options struct {
	StateDir string
	// UsageInterface overrides what the collector's configuration says; empty: it
	// does not.
	UsageInterface string
	// Router and ONT are asked by SNMP where they are settled.
	Router router.Options
	ONT    optics.Options
	// Signal is read if there is to be a Modem, or the collector says so.
	Signal signal.Options
	Modem  bool
	// SettingsFile is looked at if it holds Secrets.
	SettingsFile string
	Secrets      bool
	// Built is when this program was built, if known: no clock is before it.
	Built time.Time
	// Patience bounds each wait for the network. 0: 20 s, which is what a heartbeat
	// with all its tries takes.
	Patience time.Duration
}

// patient is the identity and what is known of the box so far.
type patient struct {
	opt    Options
	state  enroll.State
	clocks *clock.System
	id     *enroll.Identity // nil: not enrolled
	config *wirepb.ProbeConfig
	time   *push.Timekeeper
	told   bool // the collector told its time
	// refused says that the collector answered and does not want this probe.
	refused bool
	health  wire.Health
}

// Examine makes all checks, one after the other, as the findings are asked for.
// Together they take at most four times the patience and a few seconds more.
func Examine(ctx context.Context, o Options) (iter.Seq[Finding], error) {
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	clocks, err := clock.Open()
	if err != nil {
		return nil, err
	}
	p := &patient{opt: o, state: enroll.State{Dir: o.StateDir}, clocks: clocks}
	return func(yield func(Finding) bool) {
		for _, look := range []func(context.Context) []Finding{one(p.identity), one(p.disk), one(p.icmp), one(p.usage),
			one(p.dns), one(p.collector), one(p.heartbeat), one(p.clock), p.targets, p.secrets, p.optics, p.signal} {
			for _, f := range look(ctx) {
				if ctx.Err() != nil || !yield(f) {
					return
				}
			}
		}
	}, nil
}

func one(look func(context.Context) Finding) func(context.Context) []Finding {
	return func(ctx context.Context) []Finding { return []Finding{look(ctx)} }
}

func good(c Check, seen Text) Finding { return Finding{Check: c, Verdict: OK, Seen: seen} }
func bad(c Check, seen, do Text) Finding {
	return Finding{Check: c, Verdict: Problem, Seen: seen, Do: do}
}
func skipped(c Check, because Text) Finding {
	return Finding{Check: c, Verdict: Skipped, Seen: because}
}
func (p *patient) unknown(c Check) Finding {
	return skipped(c, say("belum terdaftar", "not enrolled yet"))
}
func (p *patient) address() (*url.URL, bool) { return collectorAddress(p.id) }

// collectorAddress is where the collector was at the enrolment.
func collectorAddress(id *enroll.Identity) (*url.URL, bool) {
	if id == nil {
		return nil, false
	}
	u, err := url.Parse(id.Collector)
	if err != nil || u.Hostname() == "" {
		return nil, false
	}
	return u, true
}

// isTimeout tells silence from a refusal.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}

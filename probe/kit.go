package probe

import (
	"cmp"
	"context"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/budget"
	"github.com/pantau-desa/pantau/probe/instrument/dns"
	"github.com/pantau-desa/pantau/probe/instrument/latency"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/page"
	"github.com/pantau-desa/pantau/probe/instrument/path"
	"github.com/pantau-desa/pantau/probe/instrument/reach"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/signal"
	"github.com/pantau-desa/pantau/probe/instrument/usage"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/ticket"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// kit is the instruments of a configuration and of what is known on the spot,
// which stays. It makes them anew when the configuration changes, except usage,
// whose totals must go on while its interface stays.
type kit struct {
	probe  measure.ProbeID
	line   *ledger.Ledger
	budget *budget.Account
	office *ticket.Office   // nil: tests are made without asking
	put    putOff           // only the heavy test's, of which there is one at a time
	now    func() time.Time // judges certificates
	log    *slog.Logger

	mu      sync.Mutex
	of      *wirepb.ProbeConfig
	current schedule.Set
	usage   meter
	usageOf string
}

// meter counts what the village moves.
type meter interface {
	Measure(context.Context) measure.Result
}

func newKit(probe measure.ProbeID, line *ledger.Ledger, account *budget.Account, now func() time.Time, log *slog.Logger) *kit {
	return &kit{probe: probe, line: line, budget: account, now: now, log: log}
}

// Mean times between two measurements of the rare instruments.
const (
	rareInterval   = time.Hour        // resolvers, pages, path, if the collector does not say
	opticsInterval = 15 * time.Minute // 1.4 kB by version 3, in the house
	signalInterval = 5 * time.Minute  // nothing at all, on the box
)

// wib is the local time of a probe that is told none: UTC+7, in minutes.
const wib = 7 * 60

// set is what a configuration has the probe measure.
func (k *kit) set(c *wirepb.ProbeConfig, local Local) schedule.Set {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || !proto.Equal(k.of, c) {
		k.of, k.current = c, k.build(c, local)
		k.budget.SetBudget(c.MonthBudgetBytes)
	}
	s := k.current
	s.Pace.Mean = k.budget.Mean(s.Pace.Mean)
	return s
}

func (k *kit) build(c *wirepb.ProbeConfig, local Local) schedule.Set {
	s := schedule.Set{
		Interval: max(orDefault(c.LightIntervalNs, time.Minute), 10*time.Second), // a burst takes up to six
		Pace: schedule.Pace{Mean: orDefault(c.SpeedMeanIntervalNs, meanInterval), Peak: c.PeakShare,
			Offset: time.Duration(cmp.Or(c.UtcOffsetMinutes, wib)) * time.Minute},
		Metered: local.Router.Interface != "" || or(local.UsageInterface, c.UsageInterface) != "",
	}
	lat := latency.New(latency.Options{Target: measure.TargetID(c.LatencyTarget), Host: c.LatencyAddress, Ledger: k.line, Logger: k.log})
	r, err := reach.New(k.reachOptions(c, local))
	if err != nil {
		// Nothing of a configuration may stop the rest of it.
		k.log.Error("reach cannot be measured with this configuration", "err", err)
	}
	switch name := or(local.UsageInterface, c.UsageInterface); {
	case k.usage != nil && (name == k.usageOf || local.Router.Interface != ""):
	case local.Router.Interface != "":
		o := local.Router
		o.Own, o.Ledger = k.line, k.line
		k.usage = router.New(o)
	default:
		k.usage, k.usageOf = usage.New(usage.Options{Interface: name, Own: k.line}), name
	}
	s.Light = []schedule.Light{
		{Kind: measure.KindReach, Measure: func(ctx context.Context) measure.Result {
			if err != nil {
				return measure.Result{Kind: measure.KindReach, Instrument: reach.Method, MethodVersion: reach.MethodVersion}.
					Skip(measure.ReasonNoTarget, err.Error())
			}
			return r.Measure(ctx)
		}},
		{Kind: measure.KindLatency, Measure: lat.Measure, Idle: true},
		{Kind: measure.KindUsage, Measure: k.usage.Measure},
	}
	s.Rare = append(k.rare(c), k.house(c, local)...)
	s.Heavy = k.heavy(c, local.SpeedInstrument)
	s.Postponed = func() time.Duration { return k.put.wait }
	return s
}

// rare is what tells a bad line from a bad resolver, service or upstream.
func (k *kit) rare(c *wirepb.ProbeConfig) (all []schedule.Rare) {
	every := max(orDefault(c.RareIntervalNs, rareInterval), 10*time.Second)
	add := func(kind measure.Kind, measurement func(context.Context) []measure.Result, err error) {
		if err != nil {
			k.log.Error("not measured with this configuration", "kind", kind, "err", err)
			return
		}
		all = append(all, schedule.Rare{Kind: kind, Every: every, Idle: true, Measure: measurement})
	}
	if len(c.DnsTargets) > 0 {
		o := dns.Options{Ledger: k.line}
		for _, t := range c.DnsTargets[:min(len(c.DnsTargets), dns.MaxQuestions)] {
			o.Questions = append(o.Questions, dns.Question{ID: measure.TargetID(t.Id), Name: t.Name,
				Resolver: k.address("dns_targets.resolver", t.Resolver), Port: uint16(min(t.Port, math.MaxUint16))})
		}
		in, err := dns.New(o)
		add(measure.KindDNS, in.Measure, err)
	}
	if len(c.PageTargets) > 0 {
		o := page.Options{Ledger: k.line, Now: k.now}
		for _, t := range c.PageTargets[:min(len(c.PageTargets), page.MaxPages)] {
			o.Pages = append(o.Pages, page.Page{ID: measure.TargetID(t.Id), URL: t.Url})
		}
		in, err := page.New(o)
		add(measure.KindHTTP, in.Measure, err)
	}
	if c.LatencyAddress != "" {
		in := path.New(path.Options{Target: measure.TargetID(c.LatencyTarget), Host: c.LatencyAddress, Ledger: k.line})
		add(measure.KindPath, one(in.Measure), nil)
	}
	return all
}

// house is what the devices of the house tell of the line. The line is not used
// for it, so a speed test does no harm to it.
func (k *kit) house(c *wirepb.ProbeConfig, local Local) (all []schedule.Rare) {
	if local.ONT.Preset != "" {
		o := local.ONT
		o.Ledger = k.line
		in := optics.New(o)
		all = append(all, schedule.Rare{Kind: measure.KindOptics, Every: opticsInterval, Measure: one(in.Measure)})
	}
	if local.Modem != "" || c.Mobile {
		in := signal.New(local.Signal())
		all = append(all, schedule.Rare{Kind: measure.KindSignal, Every: signalInterval, Measure: one(in.Measure)})
	}
	return all
}

// Signal is how the modem is asked.
func (l Local) Signal() signal.Options {
	if l.Modem == AnyModem {
		return signal.Options{}
	}
	return signal.Options{Modem: l.Modem}
}

// one makes a list of an instrument's only result.
func one(measurement func(context.Context) measure.Result) func(context.Context) []measure.Result {
	return func(ctx context.Context) []measure.Result { return []measure.Result{measurement(ctx)} }
}

func (k *kit) reachOptions(c *wirepb.ProbeConfig, local Local) reach.Options {
	o := reach.Options{Ledger: k.line, Logger: k.log, FirstHop: k.address("first_hop", or(local.FirstHop, c.FirstHop)),
		Gateway: k.address("lan_gateway", or(local.LANGateway, c.LanGateway))}
	for _, t := range c.ReachTargets {
		if t.Port > 65535 {
			k.log.Error("a reach target's port is out of range: it is left out", "target", t.Id, "port", t.Port)
			continue
		}
		o.Targets = append(o.Targets, reach.Target{ID: measure.TargetID(t.Id), Host: t.Address, Port: int(t.Port)})
	}
	return o
}

// address reads an optional address. A wrong one is said and then found by the
// instrument itself.
func (k *kit) address(what, s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		k.log.Error("not an IP address: it is found by itself instead", "setting", what, "value", s)
	}
	return a
}

func or(local, told string) string {
	if local != "" {
		return local
	}
	return told
}

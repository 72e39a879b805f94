// Package provision tells each probe what to measure: a function of the inventory
// at an instant and of the fleet's schedule, so that two collectors tell a probe
// the same.
package provision

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Schedule is how often probes measure and speak. A zero duration leaves it to
// the probe's default.
type Schedule struct {
	Light         time.Duration // between two slots of latency, reach and usage; 60 s
	Seal          time.Duration // between two batches; 5 min
	Transition    time.Duration // least time between two batches when something changes; 60 s
	Heartbeat     time.Duration // 30 s
	SpeedMean     time.Duration // mean time between two speed tests; 6 h
	SpeedDuration time.Duration // of one direction, at most; 15 s
	Rare          time.Duration // mean time between two of dns, http or path; 1 h
	// PeakShare is the share of speed tests within 18 and 23 local; 0: the probe's
	// default, a third.
	PeakShare float64
	// What the probes of a site may move in a month, in GB (10^9 bytes), by its access,
	// where the inventory names no budget; 0: see budgets.
	BudgetFiberGB, BudgetOtherGB, BudgetMobileGB, BudgetVSATGB float64
}

// budgets are the defaults in GB a month and site: 0.2 to 0.4 for what is measured each
// minute and hour, and as many early-ended speed tests as tell something, at the rates that are
// usual there (both directions, measured: 50 MB at 20 Mbit/s, 93 at 38, 240 at 100),
// the week's test of full length, four times as much, included where there is one.
var budgets = map[inventory.Access]float64{
	inventory.AccessFiber: 30,  // nearly four a day at 100 Mbit/s
	inventory.AccessOther: 10,  // three a day at 38 Mbit/s
	inventory.Access4G:    3,   // one a day at 20 Mbit/s
	inventory.AccessVSAT:  1.5, // two in three days at 20 Mbit/s, none of full length
}

// maxBudgetGB is more than any line's probes need: 300 Mbit/s day and night.
const maxBudgetGB = 100_000

// budget is what the probes of a site may move in a month, in bytes.
func (s Schedule) budget(site inventory.Site) uint64 {
	if site.BudgetBytes > 0 {
		return site.BudgetBytes
	}
	told := map[inventory.Access]float64{inventory.AccessFiber: s.BudgetFiberGB, inventory.AccessOther: s.BudgetOtherGB,
		inventory.Access4G: s.BudgetMobileGB, inventory.AccessVSAT: s.BudgetVSATGB}
	return uint64(cmp.Or(told[site.Access], budgets[site.Access], budgets[inventory.AccessVSAT]) * 1e9)
}

// LowShare is the share of the plan below which the rules of alerts/rules begin to find
// fault: what is lower a probe measures again at another server.
const LowShare = 0.5

// Most is how many questions, and how many pages, a probe is given: the nearest.
const Most = 8

// Check returns what is wrong with the schedule, by the name of the field.
func (s Schedule) Check() map[string]string {
	wrong := map[string]string{}
	bounds := func(name string, d, least, most time.Duration) {
		if d != 0 && (d < least || d > most) {
			wrong[name] = fmt.Sprintf("%v is not within %v and %v", d, least, most)
		}
	}
	bounds("light", s.Light, 10*time.Second, 5*time.Minute)
	bounds("seal", s.Seal, time.Second, time.Hour)
	bounds("transition", s.Transition, time.Second, time.Hour)
	bounds("heartbeat", s.Heartbeat, 5*time.Second, 55*time.Second) // three of them fit the 170 s of silence
	bounds("speed_mean", s.SpeedMean, 30*time.Second, 31*24*time.Hour)
	bounds("speed_duration", s.SpeedDuration, 2*time.Second, 60*time.Second)
	bounds("rare", s.Rare, 30*time.Second, 7*24*time.Hour)
	if p := s.PeakShare; p != 0 && !(p >= 0.05 && p <= 0.95) {
		wrong["peak_share"] = fmt.Sprintf("%v is not within 0.05 and 0.95", p)
	}
	for name, gb := range map[string]float64{"budget_fiber_gb": s.BudgetFiberGB, "budget_other_gb": s.BudgetOtherGB,
		"budget_mobile_gb": s.BudgetMobileGB, "budget_vsat_gb": s.BudgetVSATGB} {
		if gb != 0 && !(gb*1e9 >= 1 && gb <= maxBudgetGB) {
			wrong[name] = fmt.Sprintf("%v is not above 0 and up to %d", gb, maxBudgetGB)
		}
	}
	return wrong
}

// Provisioner makes configurations. It is safe for concurrent use.
type Provisioner struct {
	inventory func() *inventory.Inventory
	schedule  Schedule

	mu   sync.Mutex
	made map[measure.ProbeID]made
}

// made is an answer that holds for a while: it is asked for with every heartbeat,
// and facts change at midnight.
type made struct {
	of      *inventory.Inventory
	minute  int64
	config  *wirepb.ProbeConfig
	version uint64
}

// New makes a provisioner on the inventory of the moment.
func New(inv func() *inventory.Inventory, s Schedule) *Provisioner {
	return &Provisioner{inventory: inv, schedule: s, made: map[measure.ProbeID]made{}}
}

// Config is what a probe measures at an instant, to the minute, with its version.
// A probe that the inventory places nowhere is an error. The configuration must
// not be changed.
func (p *Provisioner) Config(id measure.ProbeID, at time.Time) (*wirepb.ProbeConfig, uint64, error) {
	inv, minute := p.inventory(), at.Unix()/60
	p.mu.Lock()
	m, ok := p.made[id]
	p.mu.Unlock()
	if ok && m.of == inv && m.minute == minute {
		return m.config, m.version, nil
	}
	config, version, err := p.make(inv, id, at)
	if err != nil {
		return nil, 0, err
	}
	p.mu.Lock()
	p.made[id] = made{inv, minute, config, version}
	p.mu.Unlock()
	return config, version, nil
}

func (p *Provisioner) make(inv *inventory.Inventory, id measure.ProbeID, at time.Time) (*wirepb.ProbeConfig, uint64, error) {
	place, ok := inv.Probe(id, at)
	if !ok {
		return nil, 0, fmt.Errorf("the inventory places probe %s nowhere on %s", id, at.Format(time.DateOnly))
	}
	c := &wirepb.ProbeConfig{
		LanGateway: place.LANGateway, FirstHop: place.FirstHop, UsageInterface: place.UsageInterface,
		LightIntervalNs: int64(p.schedule.Light), SealIntervalNs: int64(p.schedule.Seal),
		TransitionSealMinNs: int64(p.schedule.Transition), HeartbeatIntervalNs: int64(p.schedule.Heartbeat),
		SpeedMeanIntervalNs: int64(p.schedule.SpeedMean), SpeedDurationNs: int64(p.schedule.SpeedDuration),
		RareIntervalNs: int64(p.schedule.Rare), PeakShare: p.schedule.PeakShare,
	}
	for _, t := range inv.ReachTargets(place.Site, at) {
		c.ReachTargets = append(c.ReachTargets, &wirepb.ReachTarget{Id: string(t.ID), Address: t.Address, Port: uint32(t.Port)})
	}
	for _, t := range inv.SpeedTargets(place.Site, at) {
		c.SpeedTargets = append(c.SpeedTargets, &wirepb.SpeedTarget{Id: string(t.ID), Url: t.URL})
	}
	for _, t := range nearest(inv.DNSTargets(place.Site, at)) {
		c.DnsTargets = append(c.DnsTargets, &wirepb.DNSTarget{Id: string(t.ID), Name: t.Question, Resolver: t.Address, Port: uint32(t.Port)})
	}
	for _, t := range nearest(inv.PageTargets(place.Site, at)) {
		c.PageTargets = append(c.PageTargets, &wirepb.PageTarget{Id: string(t.ID), Url: t.URL})
	}
	if s, ok := inv.Site(place.Site, at); ok {
		c.Mobile = s.Access == inventory.Access4G
		if s.Plan != nil {
			c.LowDownloadBps, c.LowUploadBps = LowShare*s.Plan.DownloadBPS, LowShare*s.Plan.UploadBPS
		}
		// The site's probes share its quota. One that is placed later in a month finds what
		// the others have spent by then gone beyond its share.
		c.MonthBudgetBytes = p.schedule.budget(s) / uint64(max(len(inv.ProbesAt(place.Site, at)), 1))
		_, offset := at.In(inv.Location(s.Village)).Zone()
		c.UtcOffsetMinutes = int32(offset / 60)
	}
	if t, ok := inv.LatencyTarget(place.Site, at); ok {
		c.LatencyTarget, c.LatencyAddress = string(t.ID), t.Address
	}
	version, err := wire.ConfigVersion(c)
	return c, version, err
}

// Place is the site of a probe at an instant; not ok if the inventory has none.
func (p *Provisioner) Place(id measure.ProbeID, at time.Time) (site measure.SiteID, ok bool) {
	place, ok := p.inventory().Probe(id, at)
	return place.Site, ok
}

// Target reports whether a site's probes may test against a measurement server.
func (p *Provisioner) Target(site measure.SiteID, target measure.TargetID, at time.Time) bool {
	return slices.ContainsFunc(p.inventory().SpeedTargets(site, at), func(t inventory.Target) bool { return t.ID == target })
}

func nearest(ts []inventory.Target) []inventory.Target { return ts[:min(len(ts), Most)] }

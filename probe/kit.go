package probe

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/instrument/latency"
	"github.com/pantau-desa/pantau/probe/instrument/reach"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/instrument/usage"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// kit is the instruments of a configuration. It makes them anew when the
// configuration changes, except usage, whose totals must go on while its
// interface stays.
type kit struct {
	line *ledger.Ledger
	log  *slog.Logger

	mu      sync.Mutex
	of      *wirepb.ProbeConfig
	current schedule.Set
	usage   *usage.Instrument
	usageOf string
}

func newKit(line *ledger.Ledger, log *slog.Logger) *kit { return &kit{line: line, log: log} }

// set is what a configuration has the probe measure.
func (k *kit) set(c *wirepb.ProbeConfig, local Local) schedule.Set {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.of == nil || !proto.Equal(k.of, c) {
		k.of, k.current = c, k.build(c, local)
	}
	return k.current
}

func (k *kit) build(c *wirepb.ProbeConfig, local Local) schedule.Set {
	s := schedule.Set{
		Interval: max(orDefault(c.LightIntervalNs, time.Minute), 10*time.Second), // a burst takes up to six
		Pace:     schedule.Pace{Mean: orDefault(c.SpeedMeanIntervalNs, 6*time.Hour)},
	}
	lat := latency.New(latency.Options{Target: measure.TargetID(c.LatencyTarget), Host: c.LatencyAddress, Ledger: k.line, Logger: k.log})
	r, err := reach.New(k.reachOptions(c, local))
	if err != nil {
		// Nothing of a configuration may stop the rest of it.
		k.log.Error("reach cannot be measured with this configuration", "err", err)
	}
	if name := or(local.UsageInterface, c.UsageInterface); k.usage == nil || name != k.usageOf {
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
	s.Heavy = k.heavy(c)
	return s
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

// heavy is one speed test, both directions against one of the targets, drawn by
// lot: with several, a bad server is told from a bad line. nil: no target.
func (k *kit) heavy(c *wirepb.ProbeConfig) func(context.Context) []measure.Result {
	if len(c.SpeedTargets) == 0 {
		return nil
	}
	in, err := speed.New(speed.Options{Ledger: k.line, Logger: k.log, Duration: orDefault(c.SpeedDurationNs, 10*time.Second)})
	if err != nil {
		k.log.Error("speed cannot be measured", "err", err)
		return nil
	}
	targets := c.SpeedTargets
	return func(ctx context.Context) []measure.Result {
		t := targets[rand.IntN(len(targets))]
		id := measure.TargetID(t.Id)
		return []measure.Result{in.Measure(ctx, id, t.Url, measure.KindDownload), in.Measure(ctx, id, t.Url, measure.KindUpload)}
	}
}

func or(local, told string) string {
	if local != "" {
		return local
	}
	return told
}

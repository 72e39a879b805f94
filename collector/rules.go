package collector

import (
	"cmp"
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	prules "github.com/prometheus/prometheus/rules"

	"github.com/pantau-desa/pantau/alerts/rules"
	"github.com/pantau-desa/pantau/collector/evaluator"
	"github.com/pantau-desa/pantau/collector/selfmetrics"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// mostAiling is how many ailments of probes are shown at most: beyond it the fleet
// ails, and no list helps.
const mostAiling = 1000

// openRules prepares what is found by rule. It needs the store and its queries.
func (c *Collector) openRules(context.Context) (err error) {
	if err := c.reg.Register(ailing{c}); err != nil {
		return err
	}
	c.self = selfmetrics.New(selfmetrics.Options{Gatherer: c.reg, Storage: c.store, Logger: c.log})
	c.rules, err = evaluator.New(evaluator.Options{
		Files: rules.Files(), Dir: c.opt.RuleDir, Engine: c.engine.Engine(), Storage: c.store,
		Offset: c.arrival(), Fresh: c.runner.Fresh, Listening: c.states.Listening, Written: c.self.Written,
		Notify: c.tellFound, URL: "http://" + c.OfficeAddr().String(), Logger: c.log, Registerer: c.reg,
	})
	return err
}

// tellFound hands on what rules found.
func (c *Collector) tellFound(ctx context.Context, expr string, found ...*prules.Alert) {
	if c.alerts != nil {
		c.alerts.Notify(ctx, expr, found...)
	}
	if c.opt.Notify != nil {
		c.opt.Notify(ctx, expr, found...)
	}
}

// arrival is how long it takes until the results of a minute are in the store: a
// slot, the wait for the next batch, and half a minute to measure and to send.
func (c *Collector) arrival() time.Duration {
	return cmp.Or(c.opt.Schedule.Seal, 5*time.Minute) + cmp.Or(c.opt.Schedule.Light, time.Minute) + 30*time.Second
}

// found is what rules found, for the API, which is opened before them.
type found struct{ c *Collector }

// RuleGroups implements query.Rules.
func (f found) RuleGroups() []*prules.Group { return f.c.rules.RuleGroups() }

// AlertingRules implements query.Rules.
func (f found) AlertingRules() []*prules.AlertingRule { return f.c.rules.AlertingRules() }

// ailing shows what ails probes, as they said with their latest heartbeat: where
// they stand now.
type ailing struct{ c *Collector }

var ailingDesc = prometheus.NewDesc(series.ProbeAiling,
	"1 while a probe says in its heartbeats that something ails it: spool, clock, permission, interface or instrument.",
	[]string{"province", "regency", "district", "village", "site", "probe", "ailment"}, nil)

// Describe implements [prometheus.Collector].
func (a ailing) Describe(ch chan<- *prometheus.Desc) { ch <- ailingDesc }

// Collect implements [prometheus.Collector].
func (a ailing) Collect(ch chan<- prometheus.Metric) {
	inv, now, n := a.c.inventory(), time.Now(), 0
	for id, health := range a.c.states.Ailing() {
		l, ok := inv.Labels(id, now)
		if !ok {
			continue // of no place: nobody's
		}
		for _, what := range health.Ailments() {
			if n++; n > mostAiling {
				return
			}
			ch <- prometheus.MustNewConstMetric(ailingDesc, prometheus.GaugeValue, 1, inventory.ProvinceCode(l.Village),
				inventory.RegencyCode(l.Village), inventory.DistrictCode(l.Village), l.Village, string(l.Site), string(id), what)
		}
	}
}

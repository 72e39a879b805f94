package probe

import (
	"github.com/prometheus/client_golang/prometheus"
)

// own shows what the probe knows of itself, read when asked.
type own struct{ p *Probe }

var (
	descBuild = prometheus.NewDesc("pantau_probe_build_info", "The running version.", []string{"version"}, nil)
	// The same counters that travel with each batch, under the name they have at
	// the collector.
	descResults  = prometheus.NewDesc("pantau_result_total", "Results since boot, by kind, outcome and reason.", []string{"kind", "outcome", "reason"}, nil)
	descPending  = prometheus.NewDesc("pantau_probe_spool_pending_results", "Results on disk that no batch holds yet.", nil, nil)
	descBatches  = prometheus.NewDesc("pantau_probe_spool_batches", "Sealed batches that wait for the collector.", nil, nil)
	descBytes    = prometheus.NewDesc("pantau_probe_spool_bytes", "Bytes of the sealed batches that wait.", nil, nil)
	descDropped  = prometheus.NewDesc("pantau_probe_spool_dropped_batches_total", "Batches lost because the spool's share of the disk was full.", nil, nil)
	descOwn      = prometheus.NewDesc("pantau_probe_own_bytes_total", "Bytes (layer 2) that the probe itself has moved since its start.", []string{"direction"}, nil)
	descBudget   = prometheus.NewDesc("pantau_probe_budget_bytes", "Bytes (layer 2) that the probe may move in a month; absent without a budget.", nil, nil)
	descSpent    = prometheus.NewDesc("pantau_probe_budget_spent_bytes", "Bytes (layer 2) that count as moved in this month (UTC+7), in both directions: all that this program moved, and all that was reserved when it was last killed.", nil, nil)
	descReserved = prometheus.NewDesc("pantau_probe_budget_reserved_bytes", "Bytes that are set down beyond those: for a test that runs, and for the coming minutes.", nil, nil)
	descCost     = prometheus.NewDesc("pantau_probe_speed_test_expected_bytes", "Bytes that a speed test is expected to move, both directions.", nil, nil)
)

func (own) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBuild, descResults, descPending, descBatches, descBytes, descDropped, descOwn, descBudget, descSpent, descReserved, descCost} {
		ch <- d
	}
}

func (o own) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(descBuild, 1, o.p.opt.Software)
	for _, c := range o.p.spool.Counters() {
		counter(descResults, float64(c.Count), string(c.Kind), string(c.Outcome), string(c.Reason))
	}
	gauge(descPending, float64(o.p.spool.Pending()))
	gauge(descBatches, float64(len(o.p.spool.Waiting())))
	gauge(descBytes, float64(o.p.spool.WaitingBytes()))
	counter(descDropped, float64(o.p.spool.Dropped()))
	rx, tx := o.p.line.Own()
	counter(descOwn, float64(rx), "receive")
	counter(descOwn, float64(tx), "transmit")
	v := o.p.quota.View()
	if v.Budget > 0 {
		gauge(descBudget, float64(v.Budget))
	}
	gauge(descSpent, float64(v.Spent))
	gauge(descReserved, float64(v.Reserved))
	gauge(descCost, float64(v.Test))
}

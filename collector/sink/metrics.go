package sink

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/series"
)

// Metrics are those of all runners of a process, told apart by the label sink.
type Metrics struct {
	lag        *prometheus.GaugeVec
	records    *prometheus.CounterVec
	unreadable *prometheus.CounterVec
	samples    *prometheus.CounterVec
	held       *prometheus.CounterVec
	refused    *prometheus.CounterVec
	corrected  *prometheus.CounterVec
	errors     *prometheus.CounterVec
	operator   *prometheus.GaugeVec
}

// NewMetrics registers the metrics; reg may be nil.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"sink"}, labels...))
	}
	m := &Metrics{
		lag: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pantau_sink_lag_seconds",
			Help: "Age of the oldest journal record that the sink is at and has not stored; 0 if there is none."}, []string{"sink"}),
		records:    counter("pantau_sink_records_total", "Journal records that the sink has passed, by type.", "type"),
		unreadable: counter("pantau_sink_unreadable_records_total", "Journal records that were passed over because they cannot be decoded, by type.", "type"),
		samples:    counter("pantau_sink_samples_total", "Samples that the sink stored, those that it had already included."),
		held:       counter("pantau_sink_held_results_total", "Results that were kept from the sink and are in the journal only, by reason.", "reason"),
		refused:    counter("pantau_sink_refused_samples_total", "Samples that the store did not take, by reason.", "reason"),
		corrected:  counter("pantau_sink_corrected_results_total", "Results whose event time was corrected because the probe's wall clock was off."),
		errors:     counter("pantau_sink_errors_total", "Failed writes, each of which is repeated until it succeeds."),
		operator: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "pantau_sink_needs_operator",
			Help: "1 while the store turns the sink away for what only a person can mend, such as a token or a bucket that is not there; else 0."}, []string{"sink"}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.lag, m.records, m.unreadable, m.samples, m.held, m.refused, m.corrected, m.errors, m.operator} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// start makes every series of a sink exist, so that a rate sees its first count.
func (m *Metrics) start(sink string) {
	m.lag.WithLabelValues(sink).Set(0)
	m.operator.WithLabelValues(sink).Set(0)
	m.samples.WithLabelValues(sink)
	m.corrected.WithLabelValues(sink)
	m.errors.WithLabelValues(sink)
	for _, t := range []journal.Type{journal.Batch, journal.State} {
		m.records.WithLabelValues(sink, t.String())
		m.unreadable.WithLabelValues(sink, t.String())
	}
	for _, r := range series.Reasons() {
		m.held.WithLabelValues(sink, string(r))
	}
	for r := range (Refused{}).byReason() {
		m.refused.WithLabelValues(sink, r)
	}
}

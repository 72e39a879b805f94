package index

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	commit   prometheus.Histogram
	errors   prometheus.Counter
	rebuilds prometheus.Counter

	reg        prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, pending func() int) (*metrics, error) {
	m := &metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pantau_index_commit_seconds",
			Help:    "Time of one transaction of the batch index, failed ones included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 10)}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_index_errors_total",
			Help: "Rounds in which the batch index could not follow the journal."}),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_index_rebuilds_total",
			Help: "Times the batch index was moved aside and built anew."}),
		reg: reg,
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.commit, m.errors, m.rebuilds,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pantau_index_pending_entries",
			Help: "Entries of the batch index that are not yet in its file."},
			func() float64 { return float64(pending()) })} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
}

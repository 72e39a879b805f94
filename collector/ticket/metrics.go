package ticket

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	granted prometheus.Counter
	lapsed  prometheus.Counter
	refused *prometheus.CounterVec
	under   prometheus.GaugeFunc
}

func newMetrics(d *Desk) metrics {
	m := metrics{
		granted: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_tickets_granted_total", Help: "Tickets for heavy tests that were given."}),
		lapsed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_tickets_lapsed_total", Help: "Tickets whose probe did not say that its test had ended."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_tickets_refused_total",
			Help: "Wishes that were told to come back, by why: same_line (another probe of the site tests) or saturated."}, []string{"reason"}),
		under: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pantau_tickets_under_way", Help: "Tickets whose test may be under way."},
			func() float64 {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.lapse(d.opt.Now())
				return float64(len(d.held))
			}),
	}
	for _, r := range []Reason{SameLine, Saturated} {
		m.refused.WithLabelValues(string(r))
	}
	return m
}

// register registers with r, unless that is nil.
func (m metrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.granted, m.lapsed, m.refused, m.under} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

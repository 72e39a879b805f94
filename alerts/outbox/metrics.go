package outbox

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	sent, dead, full prometheus.Counter
	refused, delayed *prometheus.CounterVec

	reg        prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, o *Outbox) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"reason"})
		for _, r := range reasons() {
			v.WithLabelValues(string(r))
		}
		return v
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
	}
	m := &metrics{
		sent:    counter("pantau_mail_sent_total", "Mails that the server has taken."),
		dead:    counter("pantau_mail_dead_total", "Mails given up because they waited too long."),
		full:    counter("pantau_mail_full_total", "Mails not accepted because too many waited."),
		refused: vec("pantau_mail_refused_total", "Mails that the server refused for good, by why."),
		delayed: vec("pantau_mail_delayed_total", "Attempts that did not succeed and will be repeated, by why."),
		reg:     reg,
	}
	all := []prometheus.Collector{m.sent, m.dead, m.full, m.refused, m.delayed,
		gauge("pantau_mail_waiting", "Mails accepted and not yet sent, refused or dead.", func() float64 {
			o.mu.Lock()
			defer o.mu.Unlock()
			return float64(len(o.waiting))
		}),
		gauge("pantau_mail_oldest_waiting_seconds", "Age of the oldest mail that waits; 0 if none does.", func() float64 {
			o.mu.Lock()
			defer o.mu.Unlock()
			oldest, now := 0.0, o.opt.Clock.Now()
			for _, r := range o.waiting {
				oldest = max(oldest, now.Sub(r.Accepted).Seconds())
			}
			return oldest
		})}
	if reg == nil {
		return m, nil
	}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			m.close()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) close() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
}

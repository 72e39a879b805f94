package ingest

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/wire"
)

type metrics struct {
	refused    *prometheus.CounterVec
	batches    prometheus.Counter
	duplicates prometheus.Counter
	results    prometheus.Counter
	undated    prometheus.Counter
	enrolments prometheus.Counter
	noConfig   prometheus.Counter
	seconds    *prometheus.HistogramVec

	beats    *prometheus.CounterVec
	ignored  *prometheus.CounterVec
	overflow prometheus.Counter
	unsent   prometheus.Counter

	reg        prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		refused:    vec("pantau_ingest_refused_total", "Requests that were not answered with 200, by why.", "reason"),
		batches:    counter("pantau_ingest_batches_total", "Batches made durable and acknowledged, without those that were there already."),
		duplicates: counter("pantau_ingest_duplicates_total", "Batches acknowledged that were there already: an answer was lost."),
		results:    counter("pantau_ingest_results_total", "Results in the batches made durable."),
		undated:    counter("pantau_ingest_undated_batches_total", "Batches made durable whose probe did not say readably when it sent them."),
		enrolments: counter("pantau_ingest_enrolments_total", "Claims answered with an enrolment, repeated ones included."),
		noConfig:   counter("pantau_ingest_config_errors_total", "Times that a probe's configuration could not be made."),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "pantau_ingest_request_seconds",
			Help: "Time from a request's header to its answer, by path.", Buckets: prometheus.ExponentialBuckets(0.0005, 2.5, 13)}, []string{"path"}),
		beats:    vec("pantau_ingest_beats_total", "Heartbeats with a right MAC: fresh, repeated (the last one again), or late (it waited in our queue).", "sort"),
		ignored:  vec("pantau_ingest_beats_ignored_total", "Datagrams dropped without an answer, by why.", "reason"),
		overflow: counter("pantau_ingest_datagrams_lost_total", "Datagrams that the kernel dropped because we did not read them in time."),
		unsent:   counter("pantau_ingest_beat_answers_unsent_total", "Answers to heartbeats that the kernel did not take."),
		reg:      reg,
	}
	for _, r := range reasons() {
		m.refused.WithLabelValues(string(r))
	}
	for _, p := range []string{wire.PathBatches, wire.PathEnroll, PathHeartbeat, wire.PathTickets} {
		m.seconds.WithLabelValues(p)
	}
	for _, v := range []verdict{fresh, repeated, late} {
		m.beats.WithLabelValues(string(v))
	}
	for _, r := range ignorable() {
		m.ignored.WithLabelValues(string(r))
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.refused, m.batches, m.duplicates, m.results, m.undated, m.enrolments, m.noConfig,
		m.seconds, m.beats, m.ignored, m.overflow, m.unsent} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

// unregister lets another server be made in this process.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
	m.registered = nil
}

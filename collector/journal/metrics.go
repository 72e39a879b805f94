package journal

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

type metrics struct {
	records *prometheus.CounterVec
	bytes   prometheus.Counter
	commit  prometheus.Histogram
	damaged prometheus.Gauge
	errors  prometheus.Counter
	free    prometheus.GaugeFunc

	reg        prometheus.Registerer
	registered []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, dir string) (*metrics, error) {
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_journal_appended_records_total",
			Help: "Records made durable, by type."}, []string{"type"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_journal_bytes_total",
			Help: "Bytes of records made durable, frames included."}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "pantau_journal_commit_seconds",
			Help:    "Time of one group's write and fdatasync, failed ones included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 12)}),
		damaged: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_journal_damaged_bytes",
			Help: "Bytes found unreadable since the start; they are kept on disk."}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "pantau_journal_errors_total",
			Help: "Failed writes, fdatasyncs and creations of a segment."}),
		free: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "pantau_journal_free_bytes",
			Help: "Bytes that the journal's file system has left for this process; NaN if it does not say."},
			func() float64 { return freeBytes(dir) }),
		reg: reg,
	}
	for _, t := range []Type{Batch, State, Start, Stall, Inventory} {
		m.records.WithLabelValues(t.String())
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.records, m.bytes, m.commit, m.damaged, m.errors, m.free} {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

// unregister lets the directory be opened again in this process.
func (m *metrics) unregister() {
	for _, c := range m.registered {
		m.reg.Unregister(c)
	}
}

func freeBytes(dir string) float64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return math.NaN() // unknown is not zero
	}
	return float64(st.Bavail) * float64(st.Bsize)
}

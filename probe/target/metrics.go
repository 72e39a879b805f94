package target

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// The limits by which something was refused or broken off: label values.
const (
	limitConnections  = "connections"
	limitAddress      = "address"
	limitRequestBytes = "request_bytes"
	limitRequestTime  = "request_time"
	limitStall        = "stall"
	limitTests        = "tests"
	limitTicket       = "ticket" // none, or one that does not serve
)

type metrics struct {
	connections prometheus.Gauge
	requests    *prometheus.CounterVec
	refused     *prometheus.CounterVec
	sent        prometheus.Counter
	received    prometheus.Counter
}

// newMetrics registers with r, unless that is nil.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pantau_target_connections",
			Help: "Connections that are open now.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pantau_target_requests_total",
			Help: "Requests by what they asked for: latency, download, upload, received, ping, refused, other.",
		}, []string{"request"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pantau_target_refused_total",
			Help: "Connections and requests that were refused or broken off, by the limit they were above.",
		}, []string{"limit"}),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pantau_target_download_bytes_total",
			Help: "Body bytes given to downloads.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pantau_target_upload_bytes_total",
			Help: "Body bytes read from uploads.",
		}),
	}
	for _, request := range []string{"latency", "download", "upload", "received", "ping", "refused", "other"} {
		m.requests.WithLabelValues(request)
	}
	for _, limit := range []string{limitConnections, limitAddress, limitRequestBytes, limitRequestTime, limitStall, limitTests, limitTicket} {
		m.refused.WithLabelValues(limit)
	}
	if r == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connections, m.requests, m.refused, m.sent, m.received} {
		errs = append(errs, r.Register(c))
	}
	return m, errors.Join(errs...)
}

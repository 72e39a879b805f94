// Package uplink watches the collector's own way to the world, so that a cut of
// ours is not taken for one of everybody else.
//
// It guarantees an answer that is no older than three looks, or "not known". One
// address that answers, be it with a refusal, is enough: the way works.
package uplink

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/wire"
)

// Options of a Monitor.
type Options struct {
	// Addresses are asked in turn, HOST:PORT by TCP: machines beyond the
	// collector's own network. Without any the answer is always Unknown.
	Addresses func() []string
	// Dial opens a connection; nil: a net.Dialer's.
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	Every      time.Duration // between two looks; 0: 10 s
	Patience   time.Duration // of one look, all addresses at once; 0: 4 s
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: none
}

// Monitor is one running watch.
type Monitor struct {
	opt   Options
	gauge prometheus.Gauge
	last  atomic.Pointer[look]
}

type look struct {
	at    time.Time // with Go's monotonic reading
	works wire.Tri
}

// New makes a monitor that has not looked yet.
func New(o Options) *Monitor {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	if o.Patience == 0 {
		o.Patience = 4 * time.Second
	}
	m := &Monitor{opt: o, gauge: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_collector_uplink_works",
		Help: "1 if the collector's own way to the world works, 0 if not, NaN if it is not known."})}
	if o.Registerer != nil {
		o.Registerer.MustRegister(m.gauge)
	}
	m.note(wire.Unknown)
	return m
}

// Works is the latest answer.
func (m *Monitor) Works() wire.Tri {
	if l := m.last.Load(); time.Since(l.at) <= 3*m.opt.Every+m.opt.Patience {
		return l.works
	}
	return wire.Unknown
}

// Run looks until ctx ends.
func (m *Monitor) Run(ctx context.Context) error {
	t := time.NewTicker(m.opt.Every)
	defer t.Stop()
	for {
		works := m.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if before := m.last.Load().works; before != works {
			if works == wire.No {
				m.opt.Logger.Error("the collector's own uplink does not work: silence is not blamed on anyone else")
			} else if before == wire.No {
				m.opt.Logger.Info("the collector's own uplink works again")
			}
		}
		m.note(works)
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (m *Monitor) note(works wire.Tri) {
	m.last.Store(&look{time.Now(), works})
	m.gauge.Set(map[wire.Tri]float64{wire.Yes: 1, wire.No: 0, wire.Unknown: math.NaN()}[works])
}

// look asks all addresses at once; the first answer is enough.
func (m *Monitor) look(ctx context.Context) wire.Tri {
	addresses := m.opt.Addresses()
	if len(addresses) == 0 {
		return wire.Unknown
	}
	ctx, cancel := context.WithTimeout(ctx, m.opt.Patience)
	defer cancel()
	var wg sync.WaitGroup
	var answered atomic.Bool
	for _, a := range addresses {
		wg.Go(func() {
			c, err := m.opt.Dial(ctx, "tcp", a)
			if err == nil {
				c.Close()
			}
			if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
				answered.Store(true)
				cancel()
			}
		})
	}
	wg.Wait()
	return wire.TriOf(answered.Load())
}

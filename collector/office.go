package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pantau-desa/pantau/collector/portal"
	"github.com/pantau-desa/pantau/collector/query"
)

// openOffice prepares what people and Grafana see. Everything that is not listed
// here is 404.
func (c *Collector) openOffice(context.Context) (err error) {
	c.closeLater(func() error { return ignoreClosed(c.opt.Office.Close()) })
	c.engine, err = query.New(query.Options{Storage: c.store, Logger: c.log, Registerer: c.reg, Version: c.opt.Software})
	if err != nil {
		return err
	}
	c.closeLater(c.engine.Close)
	pages := portal.New(portal.Options{Inventory: c.inventory, States: c.states.Snapshot, Query: c.engine,
		Simulation: c.opt.Simulation, Schematic: c.opt.Schematic, Logger: c.log})
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/v1/", c.engine.Handler())
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", c.ready)
	c.office = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		WriteTimeout: 3 * time.Minute, MaxHeaderBytes: 64 << 10}
	return nil
}

// ready says whether figures that are asked for now are whole.
func (c *Collector) ready(w http.ResponseWriter, _ *http.Request) {
	if !c.runner.CaughtUp() {
		http.Error(w, "the embedded store is behind the journal: figures are being caught up", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (c *Collector) serveOffice(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if c.office.Shutdown(ctx) != nil {
			c.office.Close()
		}
	})
	defer stop()
	if err := c.office.Serve(c.opt.Office); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("office: %w", err)
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

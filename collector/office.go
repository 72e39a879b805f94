package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/maintenance"
	"github.com/pantau-desa/pantau/collector/portal"
)

// openOffice prepares what people and Grafana see. Everything that is not listed
// here is 404.
func (c *Collector) openOffice(context.Context) error {
	c.closeLater(func() error { return ignoreClosed(c.opt.Office.Close()) })
	pages := portal.New(portal.Options{Inventory: c.inventory, States: c.states.Snapshot, Query: c.engine, Incidents: c.incidents, Mail: c.mailbox(), Notice: c.noticeNow,
		Maintenance: func() []maintenance.Window { return c.maintenance.List(time.Now()) },
		Simulation:  c.opt.Simulation, Schematic: c.opt.Schematic, Logger: c.log})
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/v1/", c.engine.Handler())
	mux.HandleFunc("GET /api/v1/incidents", c.incidentList)
	mux.HandleFunc("GET /api/v1/incidents/{id}", c.incidentByID)
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

// incidentList answers with the incidents that were open since an instant
// (?since=RFC 3339), or are open now.
func (c *Collector) incidentList(w http.ResponseWriter, r *http.Request) {
	list := c.incidents.Open()
	if s := r.URL.Query().Get("since"); s != "" {
		since, err := time.Parse(time.RFC3339, s)
		if err != nil {
			http.Error(w, "since is not a time as 2026-01-31T12:00:00Z", http.StatusBadRequest)
			return
		}
		if list, err = c.incidents.Recent(since); err != nil {
			c.log.Error("incidents cannot be read", "err", err)
			http.Error(w, "incidents cannot be read now", http.StatusServiceUnavailable)
			return
		}
	}
	answerJSON(w, map[string]any{"incidents": list})
}

func (c *Collector) incidentByID(w http.ResponseWriter, r *http.Request) {
	i, err := c.incidents.ByID(incident.ID(r.PathValue("id")))
	switch {
	case errors.Is(err, incident.ErrNotFound):
		http.Error(w, "there is no such incident", http.StatusNotFound)
	case err != nil:
		c.log.Error("an incident cannot be read", "err", err)
		http.Error(w, "the incident cannot be read now", http.StatusServiceUnavailable)
	default:
		answerJSON(w, i)
	}
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(v) // a reader that went away is no fault of ours
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

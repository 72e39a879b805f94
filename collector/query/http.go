package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	webv1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/pantau-desa/pantau/collector/series"
)

// Prefix is where the API lives.
const Prefix = "/api/v1"

// prometheusVersion is that of the library, v0.316.0: what clients adapt to.
const prometheusVersion = "3.16.0"

// allowed is the whole API: methods by path below [Prefix]. Paths are compared
// as they were sent, so that no encoding, dot or double slash is a way around.
func allowed(method, path string) bool {
	switch path {
	case "/query", "/query_range", "/query_exemplars", "/labels", "/series", "/format_query", "/parse_query":
		return method == http.MethodGet || method == http.MethodPost
	case "/metadata", "/rules", "/alerts", "/status/buildinfo":
		return method == http.MethodGet
	}
	name, ok := strings.CutPrefix(path, "/label/")
	if !ok {
		return false
	}
	name, ok = strings.CutSuffix(name, "/values")
	return ok && method == http.MethodGet && isLabelName(name)
}

func isLabelName(s string) bool {
	for i, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// Handler is the HTTP API below [Prefix].
func (q *Querier) Handler() http.Handler {
	router := route.New().WithPrefix(Prefix)
	q.register(router)
	open := make(chan struct{}, 4*q.opt.MaxConcurrent)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
		if !ok || !allowed(r.Method, path) {
			http.NotFound(w, r)
			return
		}
		select {
		case open <- struct{}{}:
			defer func() { <-open }()
		default:
			w.Header().Set("Retry-After", "1")
			fail(w, http.StatusServiceUnavailable, "unavailable", "too many requests are open; try again")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), q.opt.Timeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, q.opt.MaxForm)
		if err := r.ParseForm(); err != nil {
			var large *http.MaxBytesError
			if errors.As(err, &large) {
				fail(w, http.StatusRequestEntityTooLarge, "bad_data", fmt.Sprintf("a form of more than %d bytes", large.Limit))
				return
			}
			fail(w, http.StatusBadRequest, "bad_data", err.Error())
			return
		}
		guard := &begun{ResponseWriter: w}
		defer q.recover(guard, r)
		if path == "/metadata" {
			serveMetadata(guard, r)
			return
		}
		router.ServeHTTP(guard, r)
	})
}

// recover ends a request that panicked: with 500 if nothing was sent, else by
// breaking the connection, so that no half answer passes for a whole one.
func (q *Querier) recover(w *begun, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler {
		panic(p)
	}
	q.opt.Logger.Error("a request panicked", "panic", fmt.Sprint(p), "path", r.URL.Path, "stack", string(debug.Stack()))
	if w.header {
		panic(http.ErrAbortHandler)
	}
	h := w.Header()
	h.Del("Content-Encoding")
	h.Del("Content-Length")
	fail(w, http.StatusInternalServerError, "internal", "internal error")
}

// begun remembers whether the answer has begun.
type begun struct {
	http.ResponseWriter
	header bool
}

// WriteHeader implements [http.ResponseWriter].
func (b *begun) WriteHeader(code int) {
	b.header = true
	b.ResponseWriter.WriteHeader(code)
}

// Write implements [http.ResponseWriter].
func (b *begun) Write(p []byte) (int, error) {
	b.header = true
	return b.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (b *begun) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// fail answers as the API does.
func fail(w http.ResponseWriter, code int, kind, message string) {
	respond(w, code, map[string]string{"status": "error", "errorType": kind, "error": message})
}

func respond(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nobody to tell
}

// serveMetadata answers from the catalogue; Prometheus' own knows only what was
// scraped.
func serveMetadata(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Type string `json:"type"`
		Help string `json:"help"`
		Unit string `json:"unit"`
	}
	limit := -1
	for _, name := range []string{"limit", "limit_per_metric"} { // one entry a metric: the second never cuts
		s := r.FormValue(name)
		if s == "" {
			continue
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			fail(w, http.StatusBadRequest, "bad_data", name+" must be a number")
			return
		}
		if name == "limit" {
			limit = n
		}
	}
	metric := r.FormValue("metric")
	data := make(map[string][]entry)
	for _, d := range series.Catalogue() {
		if limit >= 0 && len(data) >= limit {
			break
		}
		if metric == "" || metric == d.Name {
			data[d.Name] = []entry{{Type: string(d.Type), Help: d.Help, Unit: d.Unit}}
		}
	}
	respond(w, http.StatusOK, map[string]any{"status": "success", "data": data})
}

// register adds all routes of Prometheus' API. Those that the allow-list keeps
// away get as little to work with as they can be made with.
func (q *Querier) register(r *route.Router) {
	ready := func(f http.HandlerFunc) http.HandlerFunc { return f }
	const noLimit, noReads = 0, 1
	api := webv1.NewAPI(q.engine, q.opt.Storage, nil, q.opt.Storage,
		func(context.Context) webv1.ScrapePoolsRetriever { return nothing{} },
		func(context.Context) webv1.TargetRetriever { return nothing{} },
		func(context.Context) webv1.AlertmanagerRetriever { return nothing{} },
		func() config.Config { return config.DefaultConfig }, map[string]string{},
		webv1.GlobalURLOptions{}, ready, nothing{}, "", false, false, noLimit, q.opt.Logger,
		func(context.Context) webv1.RulesRetriever { return q.rules() },
		noReads, noReads, noReads, false,
		regexp.MustCompile("^$"), // no foreign origin; nil would panic
		func() (webv1.RuntimeInfo, error) { return webv1.RuntimeInfo{}, errNotHere },
		q.buildInfo(),
		func() []notifications.Notification { return nil },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		nil, nil, nil,
		false, nil, false, false, false,
		Lookback, false, false, nil, features.NewRegistry(), webv1.OpenAPIOptions{}, q.parser, false, q.opt.Timeout)
	api.Register(r)
}

func (q *Querier) rules() Rules {
	if q.opt.Rules == nil {
		return nothing{}
	}
	return q.opt.Rules
}

// buildInfo names the library's version, by which Grafana decides what it may
// ask for, and this program's.
func (q *Querier) buildInfo() *webv1.PrometheusVersion {
	return &webv1.PrometheusVersion{Version: prometheusVersion + "+pantau", Revision: q.opt.Version, GoVersion: runtime.Version()}
}

// errNotHere is the answer of what is not offered.
var errNotHere = errors.New("not offered")

// nothing is what the collector does not have: targets, other Alertmanagers,
// administration of the store; and rules, where none were given.
type nothing struct{}

func (nothing) ScrapePools() []string                                 { return nil }
func (nothing) TargetsActive() map[string][]*scrape.Target            { return nil }
func (nothing) TargetsDropped() map[string][]*scrape.Target           { return nil }
func (nothing) TargetsDroppedCounts() map[string]int                  { return nil }
func (nothing) ScrapePoolConfig(string) (*config.ScrapeConfig, error) { return nil, errNotHere }
func (nothing) Alertmanagers() []*url.URL                             { return nil }
func (nothing) DroppedAlertmanagers() []*url.URL                      { return nil }
func (nothing) RuleGroups() []*rules.Group                            { return nil }
func (nothing) AlertingRules() []*rules.AlertingRule                  { return nil }
func (nothing) CleanTombstones() error                                { return errNotHere }
func (nothing) Snapshot(string, bool) error                           { return errNotHere }
func (nothing) Stats(string, int) (*tsdb.Stats, error)                { return nil, errNotHere }
func (nothing) BlockMetas() ([]tsdb.BlockMeta, error)                 { return nil, errNotHere }
func (nothing) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return tsdb.WALReplayStatus{}, errNotHere
}
func (nothing) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return errNotHere }

// Package query is PromQL over the store: for the pages in Go, for Grafana and
// its like by Prometheus' own HTTP API.
//
// It guarantees that only what a reader needs can be reached: an allow-list of
// method and path stands in front, everything else is 404, and nothing here
// writes. A query that is too slow, too large or one too many is refused with
// the API's own error, and a panic ends one request, not the collector.
package query

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	webv1 "github.com/prometheus/prometheus/web/api/v1"
)

// Defaults of [Options].
const (
	DefaultTimeout       = time.Minute
	DefaultMaxSamples    = 20_000_000
	DefaultMaxConcurrent = 8
	DefaultMaxForm       = 1 << 20
)

// Lookback is for how long a sample counts as the current one: light results
// come once a minute.
const Lookback = 5 * time.Minute

// Storage is what is queried; *tsdb.DB of the sink is one.
type Storage interface {
	storage.SampleAndChunkQueryable
	storage.ExemplarQueryable
}

// Rules lists the rules that are evaluated; *rules.Manager is one.
type Rules = webv1.RulesRetriever

// Options are what a Querier needs; only Storage is required.
type Options struct {
	Storage    Storage
	Rules      Rules // nil: none
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	// Version of this program, for status/buildinfo.
	Version string
	// Timeout bounds one query, and one request as a whole.
	Timeout time.Duration
	// MaxSamples bounds the samples that one query holds at once, 16 bytes each.
	MaxSamples int
	// MaxConcurrent bounds the queries that run at once, those of pages and rules
	// included; more wait. Of all requests four times as many may be open.
	MaxConcurrent int
	// MaxForm bounds the body of a request in bytes.
	MaxForm int64
}

// Querier answers queries. It is safe for concurrent use.
type Querier struct {
	opt    Options
	engine *promql.Engine
	parser parser.Parser
}

// New makes a querier.
func New(opt Options) (*Querier, error) {
	if opt.Storage == nil {
		return nil, errors.New("query: no storage")
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.MaxSamples == 0 {
		opt.MaxSamples = DefaultMaxSamples
	}
	if opt.MaxConcurrent == 0 {
		opt.MaxConcurrent = DefaultMaxConcurrent
	}
	if opt.MaxForm == 0 {
		opt.MaxForm = DefaultMaxForm
	}
	if opt.Timeout < 0 || opt.MaxSamples < 0 || opt.MaxConcurrent < 0 || opt.MaxForm < 0 {
		return nil, errors.New("query: a bound is negative")
	}
	p := parser.NewParser(parser.Options{})
	return &Querier{opt: opt, parser: p, engine: promql.NewEngine(promql.EngineOpts{
		Logger: opt.Logger, Reg: opt.Registerer, MaxSamples: opt.MaxSamples, Timeout: opt.Timeout,
		ActiveQueryTracker: make(slots, opt.MaxConcurrent), LookbackDelta: Lookback,
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
	})}, nil
}

// Engine is what rules evaluate with: their queries count among MaxConcurrent.
func (q *Querier) Engine() *promql.Engine { return q.engine }

// Close ends the engine; queries that run go on.
func (q *Querier) Close() error { return q.engine.Close() }

// Instant evaluates expr at an instant: a vector, or a scalar as a vector of one
// sample without labels. An error may wrap [promql.ErrQueryTimeout] and the like.
func (q *Querier) Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error) {
	query, err := q.engine.NewInstantQuery(ctx, q.opt.Storage, nil, expr, at)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer query.Close()
	switch v := q.exec(ctx, query).(type) {
	case promql.Vector:
		return slices.Clone(v), nil
	case promql.Scalar:
		return promql.Vector{{T: v.T, F: v.V}}, nil
	case error:
		return nil, fmt.Errorf("query %q: %w", expr, v)
	case parser.Value:
		return nil, fmt.Errorf("query %q: is a %s, not a vector", expr, v.Type())
	}
	return nil, fmt.Errorf("query %q: no value", expr)
}

// Range evaluates expr at from, then every step up to and including to. A step
// without a sample has no point.
func (q *Querier) Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error) {
	if step <= 0 || to.Before(from) {
		return nil, fmt.Errorf("query %q: from %v to %v by %v is no range", expr, from, to, step)
	}
	query, err := q.engine.NewRangeQuery(ctx, q.opt.Storage, nil, expr, from, to, step)
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", expr, err)
	}
	defer query.Close()
	switch v := q.exec(ctx, query).(type) {
	case promql.Matrix:
		out := slices.Clone(v)
		for i, s := range out { // the engine takes its points back on Close
			out[i].Floats, out[i].Histograms = slices.Clone(s.Floats), slices.Clone(s.Histograms)
		}
		return out, nil
	case error:
		return nil, fmt.Errorf("query %q: %w", expr, v)
	}
	return nil, fmt.Errorf("query %q: no matrix", expr)
}

// exec returns the query's value or its error.
func (q *Querier) exec(ctx context.Context, query promql.Query) any {
	res := query.Exec(ctx)
	if res.Err != nil {
		return res.Err
	}
	for _, w := range res.Warnings {
		q.opt.Logger.Warn("query", "query", query.String(), "warning", w)
	}
	return res.Value
}

// slots bounds the queries that run at once.
type slots chan struct{}

// GetMaxConcurrent implements [promql.QueryTracker].
func (s slots) GetMaxConcurrent() int { return cap(s) }

// Insert implements [promql.QueryTracker].
func (s slots) Insert(ctx context.Context, _ string) (int, error) {
	select {
	case s <- struct{}{}:
		return 0, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Delete implements [promql.QueryTracker].
func (s slots) Delete(int) { <-s }

// Close implements [promql.QueryTracker].
func (s slots) Close() error { return nil }

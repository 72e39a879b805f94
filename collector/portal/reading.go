package portal

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Querier reads the series of the collector, as PromQL sees them.
type Querier interface {
	Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error)
}

// lookback is how far PromQL looks behind an instant for a sample.
const lookback = 5 * time.Minute

const (
	// memory is how old a figure in the list of villages may be.
	memory = 7 * 24 * time.Hour
	// counted is the time in which tests are counted, and medians are taken.
	counted = 24 * time.Hour
)

const (
	seriesDownload = "pantau_download_bits_per_second"
	seriesUpload   = "pantau_upload_bits_per_second"
	seriesLatency  = `pantau_latency_seconds`
	seriesJitter   = "pantau_jitter_seconds"
	seriesLoss     = "pantau_packet_loss_ratio"
	seriesODP      = "pantau_odp_reachable"
	seriesLAN      = "pantau_lan_gateway_reachable"
	seriesFirstHop = "pantau_first_hop_reachable"
	seriesReceive  = "pantau_link_receive_bytes_total"
	seriesTransmit = "pantau_link_transmit_bytes_total"
	seriesState    = "pantau_village_state"
)

// selector writes a vector selector; pairs are label and value.
func selector(series string, pairs ...string) string {
	var matchers []string
	for i := 0; i+1 < len(pairs); i += 2 {
		matchers = append(matchers, pairs[i]+"="+strconv.Quote(pairs[i+1]))
	}
	return series + "{" + strings.Join(matchers, ",") + "}"
}

// window writes a duration as PromQL does.
func window(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// latest is the last figure of a village, and how many there were in counted.
type latest struct {
	Value float64
	At    time.Time // zero: there is none
	Site  measure.SiteID
	N     int
}

func (l latest) known() bool { return !l.At.IsZero() }

// latestByVillage reads the last figure of every village that matcher (the
// inside of a selector's braces) selects, in three queries however many villages
// there are. Of several sites, probes or targets the most recent speaks.
func latestByVillage(ctx context.Context, q Querier, series, matcher string, now time.Time) (map[string]latest, error) {
	sel := series + "{" + matcher + "}"
	values, err := q.Instant(ctx, fmt.Sprintf("last_over_time(%s[%s])", sel, window(memory)), now)
	if err != nil {
		return nil, err
	}
	// timestamp() tells when a sample was measured within the look-back alone;
	// the subquery, one step per look-back, carries that over all of memory.
	// Its last step may lie before now, so the newest are asked for directly.
	times, err := q.Instant(ctx, fmt.Sprintf("timestamp(%s) or max_over_time(timestamp(%s)[%s:%s])", sel, sel, window(memory), window(lookback)), now)
	if err != nil {
		return nil, err
	}
	counts, err := q.Instant(ctx, fmt.Sprintf("sum by (village) (count_over_time(%s[%s]))", sel, window(counted)), now)
	if err != nil {
		return nil, err
	}

	measured := make(map[uint64]time.Time, len(times))
	for _, s := range times {
		measured[identity(s.Metric)] = seconds(s.F)
	}
	out := make(map[string]latest)
	for _, s := range values {
		at, ok := measured[identity(s.Metric)]
		village := s.Metric.Get("village")
		if !ok || math.IsNaN(s.F) || at.Before(out[village].At) {
			continue
		}
		out[village] = latest{Value: s.F, At: at, Site: measure.SiteID(s.Metric.Get("site"))}
	}
	for _, s := range counts {
		if l, ok := out[s.Metric.Get("village")]; ok {
			l.N = int(s.F)
			out[s.Metric.Get("village")] = l
		}
	}
	return out, nil
}

// anyVillage is a matcher for the given villages.
func anyVillage(codes []string) string {
	quoted := make([]string, len(codes))
	for i, c := range codes {
		quoted[i] = regexp.QuoteMeta(c)
	}
	return "village=~" + strconv.Quote(strings.Join(quoted, "|"))
}

// identity is that of a series without its name, which functions drop.
func identity(ls labels.Labels) uint64 {
	return labels.NewBuilder(ls).Del(model.MetricNameLabel).Labels().Hash()
}

func seconds(s float64) time.Time { return time.UnixMilli(int64(math.Round(s * 1000))) }

// sample is one figure and the instant it speaks of.
type sample struct {
	At    time.Time
	Value float64
}

// finest and coarsest bound the grid on which samples are read. A sample is lost
// only if a later one of the same series lies in the same step.
const (
	finest     = time.Second
	coarsest   = lookback
	mostPoints = 8640
)

// samples reads what was measured in (from, to], oldest first, with its own
// time, not that of a grid. Series of several probes and targets are one: they
// measured the same line.
func samples(ctx context.Context, q Querier, sel string, from, to time.Time) ([]sample, error) {
	return merged(seriesOf(ctx, q, sel, from, to, gridOf(to.Sub(from))))
}

// gridOf is the step, in whole seconds, at which samples of so long a time are
// read.
func gridOf(d time.Duration) time.Duration {
	return min(max((d/mostPoints).Round(time.Second), finest), coarsest)
}

func merged(series [][]sample, err error) ([]sample, error) {
	out := slices.Concat(series...)
	slices.SortStableFunc(out, func(a, b sample) int { return a.At.Compare(b.At) })
	return out, err
}

// seriesOf reads the samples of each series in (from, to].
func seriesOf(ctx context.Context, q Querier, sel string, from, to time.Time, step time.Duration) ([][]sample, error) {
	start := to.Add(-to.Sub(from).Truncate(step)) // so that the grid ends at to
	values, err := q.Range(ctx, sel, start, to, step)
	if err != nil {
		return nil, err
	}
	times, err := q.Range(ctx, "timestamp("+sel+")", start, to, step)
	if err != nil {
		return nil, err
	}
	when := make(map[uint64][]promql.FPoint, len(times))
	for _, s := range times {
		when[identity(s.Metric)] = s.Floats
	}
	var out [][]sample
	for _, s := range values {
		stamps := when[identity(s.Metric)]
		var one []sample
		for _, p := range s.Floats {
			for len(stamps) > 0 && stamps[0].T < p.T {
				stamps = stamps[1:]
			}
			if len(stamps) == 0 || stamps[0].T != p.T || math.IsNaN(p.F) {
				continue
			}
			at := seconds(stamps[0].F)
			if !at.After(from) || len(one) > 0 && at.Equal(one[len(one)-1].At) {
				continue
			}
			one = append(one, sample{at, p.F})
		}
		if len(one) > 0 {
			out = append(out, one)
		}
	}
	return out, nil
}

// throughput is what counters grew by per second, in steps. A step's rate is
// over the time that readings covered, at least half of it: what the edge of a
// gap does not cover does not count as quiet. A counter that fell began anew.
func throughput(counters [][]sample, from, to time.Time, step, gap time.Duration) []sample {
	n := int(to.Sub(from) / step)
	rates := make([]float64, n)
	known := make([]bool, n)
	for _, readings := range counters {
		grown := make([]float64, n)
		covered := make([]time.Duration, n)
		for i := 1; i < len(readings); i++ {
			a, b := readings[i-1], readings[i]
			length := b.At.Sub(a.At)
			bin := int(b.At.Sub(from) / step)
			if length <= 0 || length > gap || b.Value < a.Value || b.At.Before(from) || bin >= n {
				continue
			}
			grown[bin] += b.Value - a.Value
			covered[bin] += length
		}
		for i := range n {
			if covered[i] >= step/2 {
				rates[i] += grown[i] / covered[i].Seconds()
				known[i] = true
			}
		}
	}
	var out []sample
	for i := range n {
		if known[i] {
			out = append(out, sample{from.Add(time.Duration(i)*step + step/2), rates[i]})
		}
	}
	return out
}

// line reads one figure per step, each speaking of the step that ends at its
// time. Steps without a figure are left out.
func line(ctx context.Context, q Querier, expr string, from, to time.Time, step time.Duration) ([]sample, error) {
	m, err := q.Range(ctx, expr, from.Truncate(step).Add(step), to, step)
	if err != nil {
		return nil, err
	}
	if len(m) == 0 {
		return nil, nil
	}
	out := make([]sample, 0, len(m[0].Floats))
	for _, p := range m[0].Floats {
		if !math.IsNaN(p.F) && !math.IsInf(p.F, 0) {
			out = append(out, sample{time.UnixMilli(p.T), p.F})
		}
	}
	return out, nil
}

// values are the figures of samples measured after from.
func values(ss []sample, from time.Time) []float64 {
	var out []float64
	for _, s := range ss {
		if s.At.After(from) {
			out = append(out, s.Value)
		}
	}
	return out
}

package influx

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/influxdata/influxdb-client-go/v2/api/write"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink"
)

// measurement is where a metric, named without pantau_, is kept: figures that are
// measured together are in one, so that one point holds them. A metric that this
// version does not know has one of its own.
func measurement(metric string) string {
	switch metric {
	case "latency_seconds", "jitter_seconds", "packet_loss_ratio":
		return "latency"
	case "download_bits_per_second", "upload_bits_per_second", "idle_latency_seconds", "loaded_latency_seconds", "retransmit_ratio", "speed_low_confirmed":
		return "speed"
	case "carrier_up", "lan_gateway_reachable", "first_hop_reachable", "odp_reachable", "target_reachable":
		return "reach"
	case "link_receive_bytes_total", "link_transmit_bytes_total":
		return "usage"
	case "optical_receive_power_dbm":
		return "optical"
	case "mobile_rsrp_dbm", "mobile_rsrq_db", "mobile_sinr_db", "mobile_generation", "mobile_cell_id":
		return "mobile"
	case "dns_answer_seconds":
		return "dns"
	case "http_first_byte_seconds", "http_lookup_seconds", "http_connect_seconds", "http_tls_seconds":
		return "http"
	case "path_reached", "path_hops", "path_hop_seconds":
		return "path"
	case "result_total":
		return "result"
	case "probe_budget_bytes", "probe_budget_spent_bytes":
		return "budget"
	case "village_state":
		return "village"
	case "incident_open":
		return "incident"
	case "plan_download_bits_per_second", "plan_upload_bits_per_second":
		return "plan"
	}
	return metric
}

const (
	prefix = "pantau_"
	stat   = "stat" // the label that becomes part of the field's name
)

// field is the name of the field that holds a series' values.
func field(metric, stat string) string {
	if stat == "" {
		return metric
	}
	return metric + "_" + stat
}

// isFact reports whether a label of site_info is a fact about the site, which is
// a field, rather than what names the site, which is a tag. Facts as tags would
// make a new series of a site whenever one changes, and leave the old one to be
// read beside it.
func isFact(label string) bool {
	switch label {
	case "province", "regency", "district", "village", "site":
		return false
	}
	return true
}

// isNumber reports whether a fact is a number.
func isNumber(fact string) bool { return fact == "lat" || fact == "lon" || fact == "population" }

type line = write.Point

// point is a line and how many samples it carries.
type point struct {
	line    *line
	name    string
	t       int64
	samples int
}

// identity is what makes two samples values of one point.
type identity struct {
	name, tags string
	t          int64
}

// points puts samples together that belong to one point, refusing those that no
// point can carry or that lie after limit (Unix ms). Of two values for one field
// the first counts.
func points(samples []series.Sample, limit int64) ([]point, sink.Refused) {
	var refused sink.Refused
	index := make(map[identity]int, len(samples))
	out := make([]point, 0, len(samples))
	var tags []labels.Label // reused
	var key []byte
	for _, s := range samples {
		if s.T > limit {
			refused.Future++
			continue
		}
		metric := strings.TrimPrefix(s.Series.Name(), prefix)
		info := s.Series.Name() == series.SiteInfo
		tags, key = tags[:0], key[:0]
		var which string
		ok := !math.IsNaN(s.V) && !math.IsInf(s.V, 0)
		s.Series.Labels.Range(func(l labels.Label) {
			switch {
			case l.Name == model.MetricNameLabel:
			case l.Name == stat:
				which = l.Value
			case info && isFact(l.Name):
			default:
				ok = ok && carries(l.Value)
				tags = append(tags, l)
				key = append(append(append(append(key, l.Name...), 0), l.Value...), 0)
			}
		})
		if !ok {
			refused.Invalid++
			continue
		}
		id := identity{measurement(metric), string(key), s.T}
		i, known := index[id]
		if !known {
			i = len(out)
			p := write.NewPointWithMeasurement(id.name)
			for _, tag := range tags {
				p.AddTag(tag.Name, tag.Value)
			}
			out = append(out, point{line: p.SetTime(time.UnixMilli(s.T)), name: id.name, t: s.T})
			index[id] = i
		}
		p := &out[i]
		p.samples++
		name := field(metric, which)
		if known && has(p.line, name) {
			continue
		}
		p.line.AddField(name, s.V)
		if info {
			addFacts(p.line, s.Series.Labels)
		}
	}
	// Points that the server refuses for one reason lie side by side then: few
	// requests find them.
	slices.SortStableFunc(out, func(a, b point) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.t, b.t)) })
	return out, refused
}

// addFacts adds the facts of a site as fields. One that is not known is not there.
func addFacts(p *line, ls labels.Labels) {
	ls.Range(func(l labels.Label) {
		switch {
		case l.Name == model.MetricNameLabel || !isFact(l.Name):
		case isNumber(l.Name):
			if v, err := strconv.ParseFloat(l.Value, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
				p.AddField(l.Name, v)
			}
		default:
			p.AddField(l.Name, l.Value)
		}
	})
}

func has(p *line, field string) bool {
	for _, f := range p.FieldList() {
		if f.Key == field {
			return true
		}
	}
	return false
}

// carries reports whether the line protocol can carry a tag's value. It has no way
// to escape a backslash, which would escape what follows: a point would get
// another's tags.
func carries(tag string) bool {
	return !strings.ContainsFunc(tag, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f })
}

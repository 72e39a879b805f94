package series

import (
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Names of the series that do not come from one metric of a result.
const (
	VillageState = prefix + "village_state"
	SiteInfo     = prefix + "site_info"
	PlanDownload = prefix + "plan_download_bits_per_second"
	PlanUpload   = prefix + "plan_upload_bits_per_second"
	ResultTotal  = prefix + "result_total"
	IncidentOpen = prefix + "incident_open"
	// ProbeAiling is of heartbeats, so of now: it is not in the journal.
	ProbeAiling = prefix + "probe_ailing"

	prefix               = "pantau_"
	latencySeconds       = prefix + "latency_seconds"
	loadedLatencySeconds = prefix + "loaded_latency_seconds"
	pathHopSeconds       = prefix + "path_hop_seconds"
	lowConfirmed         = prefix + "speed_low_confirmed"
	probeBudget          = prefix + "probe_budget_bytes"
	probeBudgetSpent     = prefix + "probe_budget_spent_bytes"
)

// Source is what makes a series.
type Source string

// The sources.
const (
	FromRecords Source = "records" // results, states and the inventory: what is in the journal
	FromRules   Source = "rules"   // recorded by the rules of alerts/rules
	FromSelf    Source = "self"    // the collector's own metrics, as they were then
)

// Definition describes one series by name: what /api/v1/metadata answers, and
// what rules, dashboards and documents are held against.
type Definition struct {
	Name string
	Type model.MetricType
	// Unit is the base unit that the name carries; empty for a code or a count.
	Unit string
	Help string
	// Labels are all labels that a sample may carry, sorted. One that is empty
	// (not known) is absent from the sample.
	// A histogram has le besides, on its _bucket series.
	Labels []string
	Source Source
}

// Has reports whether samples of d may carry the label.
func (d Definition) Has(label string) bool {
	_, ok := slices.BinarySearch(d.Labels, label)
	return ok
}

func define(name string, t model.MetricType, unit, help string, groups ...[]string) Definition {
	d := Definition{Name: name, Type: t, Unit: unit, Help: help, Labels: slices.Concat(groups...)}
	slices.Sort(d.Labels)
	return d
}

// Catalogue lists every series that the store holds, sorted by name; but for
// [Alerts] and [AlertsForState], which have the labels of the alerts.
func Catalogue() []Definition {
	var all []Definition
	for source, defs := range map[Source][]Definition{FromRecords: records(), FromRules: recorded(), FromSelf: own()} {
		for _, d := range defs {
			d.Source = source
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b Definition) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// records lists what the collector makes of results, states and the inventory.
func records() []Definition {
	const (
		gauge   = model.MetricTypeGauge
		counter = model.MetricTypeCounter
		info    = model.MetricTypeInfo

		bits, seconds = "bits_per_second", "seconds"
	)
	village := []string{"province", "regency", "district", "village"}
	site := append(slices.Clone(village), "site")
	probe := append(slices.Clone(site), "probe")
	target := append(slices.Clone(probe), "target")

	facts := []string{"access", "district_name", "isp", "isp_name", "lat", "lon", "name", "odp",
		"population", "province_name", "regency_name", "village_name"}

	return []Definition{
		define("pantau_carrier_up", gauge, "", "1 if the Ethernet port towards the ONT has a carrier, else 0.", probe),
		define("pantau_dns_answer_seconds", gauge, seconds, "From a question to the resolver until its answer; the target names resolver and question. Sparse: read with last_over_time.", target),
		define("pantau_download_bits_per_second", gauge, bits, "Download speed: payload over several TCP streams. Sparse: read with last_over_time.", target),
		define("pantau_first_hop_reachable", gauge, "", "1 if the provider's first hop answered in that minute, else 0.", probe),
		define("pantau_http_connect_seconds", gauge, seconds, "Of pantau_http_first_byte_seconds: until the TCP connection stood.", target),
		define("pantau_http_first_byte_seconds", gauge, seconds, "From the wish for a page until the first byte of its answer. Sparse: read with last_over_time.", target),
		define("pantau_http_lookup_seconds", gauge, seconds, "Of pantau_http_first_byte_seconds: the look-up of the host's name.", target),
		define("pantau_http_tls_seconds", gauge, seconds, "Of pantau_http_first_byte_seconds: the TLS handshake.", target),
		define("pantau_idle_latency_seconds", gauge, seconds, "Median round trip just before a speed test. Sparse.", target),
		define(IncidentOpen, gauge, "", "1 while the incident goes on, 0 once when it is over or its labels change; cause is the suspected one while the final one is not known.",
			[]string{"province", "regency", "incident", "kind", "node", "cause"}),
		define("pantau_jitter_seconds", gauge, seconds, "Jitter of round trips (RFC 3550, section 6.4.1).", target),
		define("pantau_lan_gateway_reachable", gauge, "", "1 if the LAN gateway (the ONT or router) answered in that minute, else 0.", probe),
		define(latencySeconds, gauge, seconds, "Round-trip time to the target in that minute: stat is min, median or p95.", target, []string{"stat"}),
		define("pantau_link_receive_bytes_total", counter, "bytes", "The village's own traffic towards it, since the probe started; the probe's tests are subtracted.", probe),
		define("pantau_link_transmit_bytes_total", counter, "bytes", "The village's own traffic from it, since the probe started; the probe's tests are subtracted.", probe),
		define(loadedLatencySeconds, gauge, seconds, "Median round trip while a speed test filled that direction. Sparse.", target, []string{"direction"}),
		define("pantau_mobile_cell_id", gauge, "", "Identity of the mobile cell that serves the site: it matters only whether it changes.", probe),
		define("pantau_mobile_generation", gauge, "", "Generation of the mobile network that serves the site: 2 to 5.", probe),
		define("pantau_mobile_rsrp_dbm", gauge, "dbm", "Reference signal received power of the serving cell.", probe),
		define("pantau_mobile_rsrq_db", gauge, "db", "Reference signal received quality of the serving cell.", probe),
		define("pantau_mobile_sinr_db", gauge, "db", "Signal to interference and noise of the serving cell.", probe),
		define("pantau_odp_reachable", gauge, "", "1 if anything beyond the ODP answered in that minute, else 0; the ODP itself has no address.", probe),
		define("pantau_optical_receive_power_dbm", gauge, "dbm", "Light at the ONT's receiver. Sparse: read with last_over_time.", probe),
		define("pantau_packet_loss_ratio", gauge, "ratio", "Share of the latency probes without an answer, 0 to 1.", target),
		define(pathHopSeconds, gauge, seconds, "Round trip to each router on the way to the target, hop 1 being the LAN gateway; a silent hop has no sample. Sparse.", target, []string{"hop"}),
		define("pantau_path_hops", gauge, "", "Hop limit at which the target itself answered: routers on the way and itself. Sparse.", target),
		define("pantau_path_reached", gauge, "", "1 if the target itself answered at the end of its path, else 0. Sparse.", target),
		define(PlanDownload, gauge, bits, "Download speed that the site's contract of that day promises.", site),
		define(PlanUpload, gauge, bits, "Upload speed that the site's contract of that day promises.", site),
		define(probeBudget, gauge, "bytes", "What the probe may send and receive in the calendar month (UTC+7): its part of the site's budget.", probe),
		define(probeBudgetSpent, gauge, "bytes", "What counts as sent and received of it so far. Above the budget only by what is measured each minute, which goes on.", probe),
		define(ResultTotal, counter, "", "Results of the probe since its boot, by kind, outcome and reason, as it counted them itself.", probe, []string{"kind", "outcome", "reason"}),
		define("pantau_retransmit_ratio", gauge, "ratio", "Share of a speed test's segments that were sent again, 0 to 1. Sparse.", target, []string{"direction"}),
		define(SiteInfo, info, "", "Facts about a site from the inventory, as labels; the value is 1.", site, facts),
		define(lowConfirmed, gauge, "", "Of a speed test far below the plan: 1 if another measurement server found the same right after, 0 if it found more or there was none to ask. Others have no sample.", target, []string{"direction"}),
		define("pantau_target_reachable", gauge, "", "1 if the target answered in that minute, else 0.", target),
		define("pantau_upload_bits_per_second", gauge, bits, "Upload speed: payload over several TCP streams. Sparse: read with last_over_time.", target),
		define(VillageState, gauge, "", "State of the village: 1 up, 2 degraded, 3 down, 4 probe_fault, 5 never_seen, 6 no_coverage, 7 maintenance.", village),
	}
}

// shape says how the samples of one metric of the vocabulary are named and
// labelled.
type shape struct {
	name   string
	stat   string // label stat, for latency
	target bool   // carries a target
	// direction is a label's value, for what is told of both directions of a
	// speed test; byKind takes it from the result's kind.
	direction measure.Kind
	byKind    bool
}

// shapes is the mapping from the vocabulary to the catalogue. A metric that is
// not in it, such as one of a newer probe, gives no sample.
func shapes() map[measure.Metric]shape {
	m := make(map[measure.Metric]shape)
	for _, x := range measure.Metrics() {
		m[x] = shape{name: prefix + string(x)}
	}
	for x, stat := range map[measure.Metric]string{measure.LatencySecondsMin: "min",
		measure.LatencySecondsMedian: "median", measure.LatencySecondsP95: "p95"} {
		m[x] = shape{name: latencySeconds, stat: stat}
	}
	for x, kind := range map[measure.Metric]measure.Kind{measure.LoadedLatencySecondsDownload: measure.KindDownload,
		measure.LoadedLatencySecondsUpload: measure.KindUpload} {
		m[x] = shape{name: loadedLatencySeconds, direction: kind}
	}
	for _, d := range records() {
		for x, s := range m {
			if s.name == d.Name {
				s.target = d.Has("target")
				s.byKind = d.Has("direction") && s.direction == ""
				m[x] = s
			}
		}
	}
	return m
}

// Package measure is the vocabulary that every room of Pantau Desa speaks:
// what was measured, when, with which outcome, and what it amounted to.
//
// It guarantees that a result without a value cannot be mistaken for a result
// of zero: see [Result.Validate]. It imports the standard library only.
package measure

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"
	"unicode/utf8"
)

// Identities. All are opaque: nothing is derived from their text.
type (
	// SiteID names one measured place; a village may have several.
	SiteID string
	// ProbeID names one box. At most [MaxProbeID] printable ASCII bytes.
	ProbeID string
	// TargetID is the inventory's id of something that is probed.
	TargetID string
	// BootID is the kernel's random id of one boot (RFC 4122 text form).
	BootID string
)

// MaxProbeID is the longest probe id in bytes; a heartbeat carries it in a
// field of this width.
const MaxProbeID = 16

// MaxDetail is the longest Result.Detail in bytes.
const MaxDetail = 240

// MaxHops is how many hops a path may have: the hop limit of most systems is 64.
const MaxHops = 64

// Kind says which instrument's question a result answers.
type Kind string

// The kinds of results. Speed is two results, one per direction.
const (
	KindLatency  Kind = "latency"
	KindReach    Kind = "reach"
	KindUsage    Kind = "usage"
	KindDownload Kind = "download"
	KindUpload   Kind = "upload"
	KindOptics   Kind = "optics" // light that the ONT receives
	KindSignal   Kind = "signal" // of a mobile network
	KindDNS      Kind = "dns"    // how long a resolver takes
	KindHTTP     Kind = "http"   // how long a page takes
	KindPath     Kind = "path"   // routers on the way to a target
	// KindOther is what a reader makes of a kind that a newer probe sent.
	KindOther Kind = "other"
)

// Kinds lists every kind that this version measures, in the order of the wire's
// enumeration.
func Kinds() []Kind {
	return []Kind{KindLatency, KindReach, KindUsage, KindDownload, KindUpload,
		KindOptics, KindSignal, KindDNS, KindHTTP, KindPath}
}

// ClockQuality says how far a box's wall clock can be trusted.
type ClockQuality int

// The clock qualities, in the order of the wire's enumeration.
const (
	ClockUnknown      ClockQuality = iota // nothing vouches for it: a box without a battery may say 1970
	ClockSynchronised                     // the kernel says that NTP or PTP keeps it
	ClockCollector                        // agreed with the collector's time in this boot
)

// Outcome says whether a result has values.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"      // measured; has values
	Failed  Outcome = "failed"  // tried, and the measurement itself did not work
	Skipped Outcome = "skipped" // not tried, for a reason
)

// Reason says why a result failed or was skipped: a closed list, so that it can
// be a metric label. An ok result has the empty reason.
type Reason string

// The reasons.
const (
	ReasonNone        Reason = ""
	ReasonTimeout     Reason = "timeout"
	ReasonRefused     Reason = "refused"
	ReasonUnreachable Reason = "unreachable"
	ReasonDNS         Reason = "dns"
	ReasonTLS         Reason = "tls"
	ReasonHTTPStatus  Reason = "http_status"
	ReasonRedirect    Reason = "redirect"
	ReasonShortBody   Reason = "short_body"
	ReasonStalled     Reason = "stalled"
	ReasonPermission  Reason = "permission"
	ReasonBudget      Reason = "budget"
	ReasonBusyLine    Reason = "busy_line"
	ReasonNoTarget    Reason = "no_target"
	ReasonNoServer    Reason = "no_server"
	ReasonSaturated   Reason = "saturated"
	ReasonCPUStarved  Reason = "cpu_starved"
	ReasonClock       Reason = "clock"
	ReasonCancelled   Reason = "cancelled"
	ReasonInternal    Reason = "internal"
	ReasonOther       Reason = "other"
	ReasonMalformed   Reason = "malformed" // what answered makes no sense, or cannot be
	ReasonNoSignal    Reason = "no_signal" // no light in the fibre, no mobile network
)

// Reasons lists every reason, in the order of the wire's enumeration.
func Reasons() []Reason {
	return []Reason{ReasonTimeout, ReasonRefused, ReasonUnreachable, ReasonDNS, ReasonTLS,
		ReasonHTTPStatus, ReasonRedirect, ReasonShortBody, ReasonStalled, ReasonPermission,
		ReasonBudget, ReasonBusyLine, ReasonNoTarget, ReasonNoServer, ReasonSaturated,
		ReasonCPUStarved, ReasonClock, ReasonCancelled, ReasonInternal, ReasonOther,
		ReasonMalformed, ReasonNoSignal}
}

// Metric names one figure: the name of its series without the prefix "pantau_".
// Units are in the name (bits per second, seconds, ratio 0..1, bytes, dBm, dB).
type Metric string

// The metrics that results carry.
const (
	DownloadBitsPerSecond Metric = "download_bits_per_second" // payload, N-stream TCP goodput
	UploadBitsPerSecond   Metric = "upload_bits_per_second"
	LatencySecondsMin     Metric = "latency_seconds_min"
	LatencySecondsMedian  Metric = "latency_seconds_median"
	LatencySecondsP95     Metric = "latency_seconds_p95"
	JitterSeconds         Metric = "jitter_seconds"    // RFC 3550 section 6.4.1, over RTTs
	PacketLossRatio       Metric = "packet_loss_ratio" // 0..1
	CarrierUp             Metric = "carrier_up"        // 0/1: Ethernet carrier towards the ONT
	LANGatewayReachable   Metric = "lan_gateway_reachable"
	FirstHopReachable     Metric = "first_hop_reachable"
	// TargetReachable is 0/1 per target beyond the ODP; it carries a target.
	TargetReachable Metric = "target_reachable"
	// ODPReachable is 1 if anything beyond the ODP answered in that slot (the
	// ODP itself is passive and has no address), else 0.
	ODPReachable Metric = "odp_reachable"
	// LinkReceiveBytesTotal and LinkTransmitBytesTotal count the village's own
	// traffic since the probe started: the probe's bytes are subtracted.
	LinkReceiveBytesTotal  Metric = "link_receive_bytes_total"
	LinkTransmitBytesTotal Metric = "link_transmit_bytes_total"
	// OpticalReceivePowerDBm is the light at the ONT's receiver.
	OpticalReceivePowerDBm Metric = "optical_receive_power_dbm"
	// Of the serving cell: reference signal received power and quality, and signal to
	// interference and noise (3GPP TS 36.214 for LTE, TS 38.215 for NR).
	MobileRSRPDBm Metric = "mobile_rsrp_dbm"
	MobileRSRQDB  Metric = "mobile_rsrq_db"
	MobileSINRDB  Metric = "mobile_sinr_db"
	// MobileGeneration is 2, 3, 4 or 5: a village that has fallen back to 3G is told
	// from a weak 4G.
	MobileGeneration Metric = "mobile_generation"
	// MobileCellID is the identity of the serving cell within its network (28 bits for
	// LTE, 36 for NR): it matters only whether it changes.
	MobileCellID Metric = "mobile_cell_id"
	// DNSAnswerSeconds is from a question to its answer.
	DNSAnswerSeconds Metric = "dns_answer_seconds"
	// HTTPFirstByteSeconds is from the wish for a page to the first byte of its answer:
	// look-up, connection, TLS and the server's own time. The first three are given
	// apart, where there are such; what is left is the server and one round trip.
	HTTPFirstByteSeconds Metric = "http_first_byte_seconds"
	HTTPLookupSeconds    Metric = "http_lookup_seconds"
	HTTPConnectSeconds   Metric = "http_connect_seconds"
	HTTPTLSSeconds       Metric = "http_tls_seconds"
	// PathReached is 1 if the path's target itself answered, else 0.
	PathReached Metric = "path_reached"
	// PathHops is the hop limit at which the target answered: routers and itself.
	PathHops Metric = "path_hops"
	// IdleLatencySeconds is the median round trip just before a speed test,
	// LoadedLatencySecondsDownload and -Upload the median during it.
	IdleLatencySeconds           Metric = "idle_latency_seconds"
	LoadedLatencySecondsDownload Metric = "loaded_latency_seconds_download"
	LoadedLatencySecondsUpload   Metric = "loaded_latency_seconds_upload"
	// RetransmitRatio is the share of a speed test's segments that were sent again.
	RetransmitRatio Metric = "retransmit_ratio"
	MetricOther     Metric = "other"
)

// Metrics lists every metric, in the order of the wire's enumeration.
func Metrics() []Metric {
	return []Metric{DownloadBitsPerSecond, UploadBitsPerSecond, LatencySecondsMin,
		LatencySecondsMedian, LatencySecondsP95, JitterSeconds, PacketLossRatio, CarrierUp,
		LANGatewayReachable, FirstHopReachable, TargetReachable, ODPReachable,
		LinkReceiveBytesTotal, LinkTransmitBytesTotal, OpticalReceivePowerDBm, MobileRSRPDBm,
		MobileRSRQDB, MobileSINRDB, MobileGeneration, MobileCellID, DNSAnswerSeconds,
		HTTPFirstByteSeconds, HTTPLookupSeconds, HTTPConnectSeconds, HTTPTLSSeconds,
		PathReached, PathHops, IdleLatencySeconds, LoadedLatencySecondsDownload,
		LoadedLatencySecondsUpload, RetransmitRatio}
}

// Flag qualifies an ok result without removing it: cross_traffic, clock_skew,
// nic_limited, cpu_bound, wifi_path, retry and the like. Lower snake case.
type Flag string

// The flags that this version sets.
const (
	FlagClockSkew    Flag = "clock_skew"    // event time was corrected by the collector
	FlagLateSpooled  Flag = "late_spooled"  // arrived long after it was measured
	FlagCPUBound     Flag = "cpu_bound"     // the box, not the line, may have been the limit
	FlagCrossTraffic Flag = "cross_traffic" // others used the line during the test
	FlagRetry        Flag = "retry"         // the first try went unanswered
	FlagUnenrolled   Flag = "unenrolled"    // measured by hand, not on schedule
	FlagUnticketed   Flag = "unticketed"    // nobody could be asked whether others test at the same time
	FlagLowConfirmed Flag = "low_confirmed" // far below the plan, at two servers
	// FlagLowUnconfirmed: far below the plan, at one server: another one measured more, or
	// none could be asked.
	FlagLowUnconfirmed Flag = "low_unconfirmed"
	FlagDeferred       Flag = "deferred"    // waited for others to leave the line; where they did not, cross_traffic too
	FlagFullLength     Flag = "full_length" // the week's test without an early end
)

// Value is one figure of a result.
type Value struct {
	Metric Metric
	// Target is set only where a result speaks of several targets (reach).
	Target TargetID
	Number float64
}

// Hop is one router on the way to a target, or the target itself.
type Hop struct {
	// Limit is the hop limit (TTL) at which it answered: 1 is the LAN gateway.
	Limit int
	// Address is what it answered with; no zone.
	Address netip.Addr
	// RoundTrip is how long that took.
	RoundTrip time.Duration
}

// Result is one measurement, as the instrument made it.
type Result struct {
	Kind    Kind
	Outcome Outcome
	Reason  Reason
	// Detail explains a failure to a person, or says what an ok result cannot say in
	// figures (which resolver answered): at most MaxDetail bytes, never a label.
	Detail string
	// Instrument and MethodVersion say how the figure came about, such as
	// "speedtest-go" and "1".
	Instrument    string
	MethodVersion string
	// Target is what was measured against; empty where there is none.
	Target TargetID
	// MeasuredAt is the event time by the box's own clock, uncorrected: for a
	// light instrument its slot, for speed the start, for counters the reading.
	MeasuredAt time.Time
	// Monotonic is CLOCK_BOOTTIME at MeasuredAt, in boot Boot.
	Monotonic time.Duration
	Boot      BootID
	// Duration is how long the measurement took.
	Duration time.Duration
	Values   []Value
	// Hops are what answered on the way of a path, by rising limit; a limit that is
	// left out was silent. At most MaxHops.
	Hops  []Hop
	Flags []Flag
	// BytesReceived and BytesSent are what the measurement itself cost the line.
	BytesReceived uint64
	BytesSent     uint64
}

// Fail returns r as a failure without values.
func (r Result) Fail(reason Reason, detail string) Result {
	r.Outcome, r.Reason, r.Detail, r.Values, r.Hops = Failed, reason, Clip(detail), nil, nil
	return r
}

// Skip returns r as skipped, without values.
func (r Result) Skip(reason Reason, detail string) Result {
	r.Outcome, r.Reason, r.Detail, r.Values, r.Hops = Skipped, reason, Clip(detail), nil, nil
	return r
}

// Value returns the figure named m that speaks of no particular target.
// ok is false if there is none: unknown is not zero.
func (r Result) Value(m Metric) (n float64, ok bool) {
	for _, v := range r.Values {
		if v.Metric == m && v.Target == "" {
			return v.Number, true
		}
	}
	return 0, false
}

// Clip cuts s to MaxDetail bytes at a rune boundary.
func Clip(s string) string {
	if len(s) <= MaxDetail {
		return s
	}
	s = s[:MaxDetail]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// Validate reports what makes r no honest result: a value without ok, ok
// without a value, a reason that does not fit the outcome, a figure that is not
// finite or not within its metric's bounds, hops that are no way.
func (r Result) Validate() error {
	var errs []error
	switch r.Outcome {
	case OK:
		if r.Reason != ReasonNone {
			errs = append(errs, fmt.Errorf("ok with reason %q", r.Reason))
		}
		if len(r.Values) == 0 {
			errs = append(errs, errors.New("ok without a value"))
		}
	case Failed, Skipped:
		if r.Reason == ReasonNone {
			errs = append(errs, fmt.Errorf("%s without a reason", r.Outcome))
		}
		if len(r.Values)+len(r.Hops) > 0 {
			errs = append(errs, fmt.Errorf("%s with %d values", r.Outcome, len(r.Values)+len(r.Hops)))
		}
	default:
		errs = append(errs, fmt.Errorf("unknown outcome %q", r.Outcome))
	}
	for _, v := range r.Values {
		// Written so that NaN, which compares with nothing, is refused too.
		if least, most := v.Metric.Bounds(); !(v.Number >= least && v.Number <= most) || math.IsInf(v.Number, 0) {
			errs = append(errs, fmt.Errorf("%s is %v, not within %v and %v", v.Metric, v.Number, least, most))
		}
	}
	last := 0
	for _, h := range r.Hops {
		if h.Limit <= last || h.Limit > MaxHops || h.RoundTrip < 0 || !h.Address.IsValid() {
			errs = append(errs, fmt.Errorf("hop %d after %d, %v away at %v", h.Limit, last, h.RoundTrip, h.Address))
		}
		last = h.Limit
	}
	if r.Duration < 0 {
		errs = append(errs, fmt.Errorf("negative duration %v", r.Duration))
	}
	return errors.Join(errs...)
}

// Bounds are the least and the most that m can be; what is beyond is a broken or
// hostile instrument, never a figure.
func (m Metric) Bounds() (least, most float64) {
	switch m {
	case PacketLossRatio, RetransmitRatio:
		return 0, 1
	case OpticalReceivePowerDBm:
		return -40, 8.2 // SFF-8472: received power as 16 bits of 0.1 uW, 0 to 6.5535 mW
	case MobileRSRPDBm:
		return -156, -31 // 3GPP TS 38.133, table 10.1.6.1-1; LTE lies within
	case MobileRSRQDB:
		return -43, 20 // 3GPP TS 38.133, table 10.1.11.1-1; LTE lies within
	case MobileSINRDB:
		return -23, 40 // 3GPP TS 38.133, table 10.1.16.1-1; LTE lies within
	case MobileGeneration:
		return 2, 5
	case MobileCellID:
		return 0, 1<<36 - 1
	case PathHops:
		return 1, MaxHops
	}
	if m.Binary() {
		return 0, 1
	}
	return 0, math.Inf(1)
}

// Binary reports whether m is a yes-or-no figure (0 or 1).
func (m Metric) Binary() bool {
	switch m {
	case CarrierUp, LANGatewayReachable, FirstHopReachable, TargetReachable, ODPReachable, PathReached:
		return true
	}
	return false
}

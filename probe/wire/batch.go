// Package wire is the language between probes and the collector: batches,
// heartbeats, claim codes, signatures. WIRE.md is its specification; a stranger
// could write a client from it.
//
// It guarantees that what was signed is what is stored (the body's bytes are
// never re-encoded), that decoding needs bounded memory whatever the input, and
// that a newer probe's fields and enum values never make a batch unreadable. It
// refuses nothing for being unknown, only for being malformed.
package wire

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Paths and headers of the ingest listener (HTTP over TLS 1.3).
const (
	PathBatches = "/v1/batches"
	PathEnroll  = "/v1/enroll"
	PathTickets = "/v1/tickets"

	HeaderProbe     = "Pantau-Probe"     // probe id
	HeaderSignature = "Pantau-Signature" // base64 (RFC 4648, padded) of the Ed25519 signature
	HeaderConfig    = "Pantau-Config"    // version of the configuration that the probe runs, decimal
	HeaderSent      = "Pantau-Sent"      // the probe's clocks at sending, see [Sent]

	ContentType = "application/x-protobuf"
)

// Limits that both sides hold to.
const (
	MaxBody         = 1 << 20 // compressed bytes of a batch
	MaxDecompressed = 8 << 20 // bytes of a batch's protobuf
	MaxResults      = 20_000  // results in a batch
	MaxValues       = 256     // values in a result
	MaxCounters     = 4096    // counters in a batch: kinds x outcomes x reasons, and room
	MaxText         = 256     // bytes of any text field
)

// Epoch is the identity of one spool: sequence numbers count within it.
type Epoch [16]byte

// Digest is the SHA-256 of a batch's body, as sent.
type Digest [sha256.Size]byte

// Counter is the number of results of one sort since the boot of its batch.
type Counter struct {
	Kind    measure.Kind
	Outcome measure.Outcome
	Reason  measure.Reason
	Count   uint64
}

// Batch is what a probe seals, signs and pushes.
type Batch struct {
	Probe measure.ProbeID
	Epoch Epoch
	Seq   uint64 // from 1, without gaps within an epoch
	// Previous is the digest of the batch before; zero for the first.
	Previous   Digest
	Boot       measure.BootID
	SealedAt   time.Time     // by the box's own clock, uncorrected
	SealedMono time.Duration // CLOCK_BOOTTIME in Boot
	Quality    measure.ClockQuality
	Software   string
	Results    []measure.Result
	Counters   []Counter
	SpoolBytes uint64 // bytes that wait on the probe's disk at sealing
	// SpoolDropped counts batches of this epoch that the probe had to drop.
	SpoolDropped uint64
	// Budget is what the probe may move in the month of sealing, in bytes of layer 2, 0:
	// it has none; BudgetSpent what counts as moved of it by then.
	Budget, BudgetSpent uint64
}

// ErrMalformed is wrapped by every decoding error: the same bytes will never do.
var ErrMalformed = errors.New("malformed")

// ErrTooLarge is wrapped, beside [ErrMalformed], by the error for what is beyond
// the limits above.
var ErrTooLarge = fmt.Errorf("%w: too large", ErrMalformed)

func tooLarge(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTooLarge, fmt.Sprintf(format, args...))
}

// Codec compresses and decompresses. It is safe for concurrent use and holds a
// few hundred kilobytes; make one per process.
type Codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// NewCodec makes a codec whose decoder never allocates more than
// MaxDecompressed bytes for one batch.
func NewCodec() (*Codec, error) {
	// The next slower level holds a megabyte more, for bodies some percent smaller.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(128<<10),
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxDecompressed), zstd.WithDecoderMaxWindow(MaxDecompressed))
	if err != nil {
		return nil, err
	}
	return &Codec{enc: enc, dec: dec}, nil
}

// EncodeBatch returns the body that is signed and sent. It refuses a batch
// beyond the limits.
func (c *Codec) EncodeBatch(b Batch) ([]byte, error) {
	if len(b.Results) > MaxResults {
		return nil, fmt.Errorf("wire: %d results in a batch, at most %d", len(b.Results), MaxResults)
	}
	m := &wirepb.Batch{
		Probe: string(b.Probe), Epoch: b.Epoch[:], Seq: b.Seq, BootId: string(b.Boot),
		SealedAtNs: b.SealedAt.UnixNano(), SealedMonotonicNs: int64(b.SealedMono),
		ClockQuality: wirepb.ClockQuality(b.Quality), SoftwareVersion: b.Software,
		Results: make([]*wirepb.Result, 0, len(b.Results)), SpoolBytes: b.SpoolBytes, SpoolDropped: b.SpoolDropped,
		BudgetBytes: b.Budget, BudgetSpentBytes: b.BudgetSpent,
	}
	if b.Seq > 1 {
		m.PreviousDigest = b.Previous[:]
	}
	for _, r := range b.Results {
		p := resultToProto(r)
		if r.Boot == b.Boot {
			p.BootId = ""
		}
		m.Results = append(m.Results, p)
	}
	for _, n := range b.Counters {
		m.Counters = append(m.Counters, &wirepb.Counter{Kind: kindToProto(n.Kind),
			Outcome: outcomeToProto(n.Outcome), Reason: reasonToProto(n.Reason), Count: n.Count})
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxDecompressed {
		return nil, fmt.Errorf("wire: a batch of %d bytes, at most %d", len(raw), MaxDecompressed)
	}
	body := c.enc.EncodeAll(raw, nil)
	if len(body) > MaxBody {
		return nil, fmt.Errorf("wire: a body of %d bytes, at most %d", len(body), MaxBody)
	}
	return body, nil
}

// DecodeBatch reads a body. Every error wraps [ErrMalformed].
func (c *Codec) DecodeBatch(body []byte) (Batch, error) {
	var b Batch
	if len(body) > MaxBody {
		return b, malformed("a body of %d bytes, at most %d", len(body), MaxBody)
	}
	var m wirepb.Batch
	if err := c.unmarshal(body, &m); err != nil {
		return b, err
	}
	if len(m.Probe) == 0 || len(m.Probe) > measure.MaxProbeID {
		return b, malformed("probe id of %d bytes", len(m.Probe))
	}
	if len(m.Epoch) != len(b.Epoch) {
		return b, malformed("epoch of %d bytes, not %d", len(m.Epoch), len(b.Epoch))
	}
	if m.Seq == 0 {
		return b, malformed("seq 0: sequence numbers begin at 1")
	}
	if n := len(m.PreviousDigest); n != 0 && n != len(b.Previous) {
		return b, malformed("previous digest of %d bytes", n)
	}
	if len(m.Results) > MaxResults {
		return b, malformed("%d results, at most %d", len(m.Results), MaxResults)
	}
	if len(m.BootId) > MaxText || len(m.SoftwareVersion) > MaxText {
		return b, malformed("a text field above %d bytes", MaxText)
	}
	b = Batch{
		Probe: measure.ProbeID(m.Probe), Epoch: Epoch(m.Epoch), Seq: m.Seq,
		Boot: measure.BootID(m.BootId), SealedAt: time.Unix(0, m.SealedAtNs).UTC(),
		SealedMono: time.Duration(m.SealedMonotonicNs), Quality: qualityFromProto(m.ClockQuality),
		Software: m.SoftwareVersion, SpoolBytes: m.SpoolBytes, SpoolDropped: m.SpoolDropped,
		Budget: m.BudgetBytes, BudgetSpent: m.BudgetSpentBytes,
		Results: make([]measure.Result, 0, len(m.Results)),
	}
	copy(b.Previous[:], m.PreviousDigest)
	for i, p := range m.Results {
		r, err := resultFromProto(p)
		if err != nil {
			return Batch{}, fmt.Errorf("result %d: %w", i, err)
		}
		if r.Boot == "" {
			r.Boot = b.Boot
		}
		b.Results = append(b.Results, r)
	}
	for _, p := range m.Counters {
		b.Counters = append(b.Counters, Counter{Kind: kindFromProto(p.Kind),
			Outcome: outcomeFromProto(p.Outcome), Reason: reasonFromProto(p.Reason), Count: p.Count})
	}
	return b, nil
}

func (c *Codec) unmarshal(body []byte, m proto.Message) error {
	raw, err := c.dec.DecodeAll(body, nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return tooLarge("more than %d bytes in it", MaxDecompressed)
	}
	if err != nil {
		return malformed("zstd: %v", err)
	}
	if err := countParts(raw); err != nil {
		return err
	}
	if err := proto.Unmarshal(raw, m); err != nil {
		return malformed("protobuf: %v", err)
	}
	return nil
}

// countParts refuses a batch of too many parts before any is made: an empty part
// takes two bytes here and hundreds in memory.
func countParts(raw []byte) error {
	const results, counters, values, flags, hops = 10, 11, 12, 13, 16
	n, err := countFields(raw, results, func(result []byte) error {
		n, err := countFields(result, 0, nil)
		if err == nil && (n[values] > MaxValues || n[flags] > MaxValues || n[hops] > measure.MaxHops) {
			err = tooLarge("%d values, %d flags and %d hops, at most %d, %d and %d", n[values], n[flags], n[hops], MaxValues, MaxValues, measure.MaxHops)
		}
		return err
	})
	if err == nil && (n[results] > MaxResults || n[counters] > MaxCounters) {
		err = tooLarge("%d results and %d counters, at most %d and %d", n[results], n[counters], MaxResults, MaxCounters)
	}
	return err
}

// countFields counts the length-delimited fields of a message by their numbers,
// as far as this version knows numbers, and gives each with the number nested to
// inside.
func countFields(raw []byte, nested protowire.Number, inside func([]byte) error) (counts [32]int, err error) {
	for len(raw) > 0 {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return counts, malformed("protobuf: %v", protowire.ParseError(n))
		}
		raw = raw[n:]
		if n = protowire.ConsumeFieldValue(number, kind, raw); n < 0 {
			return counts, malformed("protobuf: %v", protowire.ParseError(n))
		}
		if kind == protowire.BytesType && int(number) < len(counts) {
			counts[number]++
			if number == nested {
				part, _ := protowire.ConsumeBytes(raw)
				if err := inside(part); err != nil {
					return counts, err
				}
			}
		}
		raw = raw[n:]
	}
	return counts, nil
}

// EncodeResult is the uncompressed protobuf of one result, as a spool keeps it.
func EncodeResult(r measure.Result) ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(resultToProto(r))
}

// DecodeResult reads what EncodeResult wrote. Every error wraps [ErrMalformed].
func DecodeResult(raw []byte) (measure.Result, error) {
	var p wirepb.Result
	if err := proto.Unmarshal(raw, &p); err != nil {
		return measure.Result{}, malformed("protobuf: %v", err)
	}
	return resultFromProto(&p)
}

// DigestOf is the identity of a body.
func DigestOf(body []byte) Digest { return sha256.Sum256(body) }

// signingDomain keeps a signature over a batch from meaning anything elsewhere.
const signingDomain = "pantau-batch-v1\x00"

// Sign signs a batch's body with a probe's key.
func Sign(key ed25519.PrivateKey, body []byte) []byte { return signFor(signingDomain, key, body) }

// Verify reports whether sig is the signature of a batch's body by key.
func Verify(key ed25519.PublicKey, body, sig []byte) bool {
	return verifyFor(signingDomain, key, body, sig)
}

func signFor(domain string, key ed25519.PrivateKey, body []byte) []byte {
	return ed25519.Sign(key, append([]byte(domain), body...))
}

func verifyFor(domain string, key ed25519.PublicKey, body, sig []byte) bool {
	return len(key) == ed25519.PublicKeySize && len(sig) == ed25519.SignatureSize &&
		ed25519.Verify(key, append([]byte(domain), body...), sig)
}

// ConfigVersion identifies a configuration by its content; it is never 0.
func ConfigVersion(c *wirepb.ProbeConfig) (uint64, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(raw)
	return binary.BigEndian.Uint64(sum[:8]) | 1, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func resultToProto(r measure.Result) *wirepb.Result {
	p := &wirepb.Result{
		Kind: kindToProto(r.Kind), Outcome: outcomeToProto(r.Outcome), Reason: reasonToProto(r.Reason),
		Detail: measure.Clip(r.Detail), Instrument: r.Instrument, MethodVersion: r.MethodVersion,
		Target: string(r.Target), MeasuredAtNs: r.MeasuredAt.UnixNano(), MonotonicNs: int64(r.Monotonic),
		BootId: string(r.Boot), DurationNs: int64(r.Duration), BytesReceived: r.BytesReceived, BytesSent: r.BytesSent,
	}
	for _, v := range r.Values {
		p.Values = append(p.Values, &wirepb.Value{Metric: metricToProto(v.Metric), Number: v.Number, Target: string(v.Target)})
	}
	for _, f := range r.Flags {
		p.Flags = append(p.Flags, string(f))
	}
	for _, h := range r.Hops {
		p.Hops = append(p.Hops, &wirepb.Hop{Limit: uint32(h.Limit), Address: h.Address.AsSlice(), RoundTripNs: int64(h.RoundTrip)})
	}
	return p
}

func resultFromProto(p *wirepb.Result) (measure.Result, error) {
	var none measure.Result
	if len(p.Values) > MaxValues || len(p.Flags) > MaxValues || len(p.Hops) > measure.MaxHops {
		return none, malformed("%d values, %d flags and %d hops", len(p.Values), len(p.Flags), len(p.Hops))
	}
	for _, s := range append([]string{p.Detail, p.Instrument, p.MethodVersion, p.Target, p.BootId}, p.Flags...) {
		if len(s) > MaxText {
			return none, malformed("a text field of %d bytes, at most %d", len(s), MaxText)
		}
	}
	r := measure.Result{
		Kind: kindFromProto(p.Kind), Outcome: outcomeFromProto(p.Outcome), Reason: reasonFromProto(p.Reason),
		Detail: p.Detail, Instrument: p.Instrument, MethodVersion: p.MethodVersion,
		Target: measure.TargetID(p.Target), MeasuredAt: time.Unix(0, p.MeasuredAtNs).UTC(),
		Monotonic: time.Duration(p.MonotonicNs), Boot: measure.BootID(p.BootId),
		Duration: time.Duration(p.DurationNs), BytesReceived: p.BytesReceived, BytesSent: p.BytesSent,
	}
	for _, v := range p.Values {
		if len(v.Target) > MaxText {
			return none, malformed("a target of %d bytes", len(v.Target))
		}
		if math.IsNaN(v.Number) || math.IsInf(v.Number, 0) {
			return none, malformed("a value that is not finite")
		}
		r.Values = append(r.Values, measure.Value{Metric: metricFromProto(v.Metric), Target: measure.TargetID(v.Target), Number: v.Number})
	}
	for _, f := range p.Flags {
		r.Flags = append(r.Flags, measure.Flag(f))
	}
	for _, h := range p.Hops {
		a, ok := netip.AddrFromSlice(h.Address)
		if !ok || h.Limit == 0 || h.Limit > measure.MaxHops || h.RoundTripNs < 0 {
			return none, malformed("a hop with an address of %d bytes at limit %d", len(h.Address), h.Limit)
		}
		r.Hops = append(r.Hops, measure.Hop{Limit: int(h.Limit), Address: a, RoundTrip: time.Duration(h.RoundTripNs)})
	}
	return r, nil
}

// The enumerations: the wire's numbers are positions in the vocabulary's lists,
// held by a test. What is unknown to this version reads as "other".

func enumToProto[T comparable](list []T, v T, first, other int32) int32 {
	for i, x := range list {
		if x == v {
			return int32(i) + first
		}
	}
	return other
}

func enumFromProto[T any](list []T, n, first int32, other T) T {
	if i := n - first; i >= 0 && int(i) < len(list) {
		return list[i]
	}
	return other
}

func kindToProto(k measure.Kind) wirepb.Kind {
	return wirepb.Kind(enumToProto(measure.Kinds(), k, 1, 0))
}

func kindFromProto(n wirepb.Kind) measure.Kind {
	return enumFromProto(measure.Kinds(), int32(n), 1, measure.KindOther)
}

var outcomes = [...]measure.Outcome{measure.OK, measure.Failed, measure.Skipped}

// outcomeOther is what an outcome of a newer probe reads as: it has no values
// that this version could trust.
const outcomeOther measure.Outcome = "other"

func outcomeToProto(o measure.Outcome) wirepb.Outcome {
	return wirepb.Outcome(enumToProto(outcomes[:], o, 1, 0))
}

func outcomeFromProto(n wirepb.Outcome) measure.Outcome {
	return enumFromProto(outcomes[:], int32(n), 1, outcomeOther)
}

func reasonToProto(r measure.Reason) wirepb.Reason {
	if r == measure.ReasonNone {
		return wirepb.Reason_REASON_NONE
	}
	return wirepb.Reason(enumToProto(measure.Reasons(), r, 1, int32(wirepb.Reason_REASON_OTHER)))
}

func reasonFromProto(n wirepb.Reason) measure.Reason {
	if n == wirepb.Reason_REASON_NONE {
		return measure.ReasonNone
	}
	return enumFromProto(measure.Reasons(), int32(n), 1, measure.ReasonOther)
}

func metricToProto(m measure.Metric) wirepb.Metric {
	return wirepb.Metric(enumToProto(measure.Metrics(), m, 1, 0))
}

func metricFromProto(n wirepb.Metric) measure.Metric {
	return enumFromProto(measure.Metrics(), int32(n), 1, measure.MetricOther)
}

func qualityFromProto(q wirepb.ClockQuality) measure.ClockQuality {
	if q < 0 || q > wirepb.ClockQuality_CLOCK_COLLECTOR {
		return measure.ClockUnknown
	}
	return measure.ClockQuality(q)
}

// Ack says that one batch is durable at the collector.
type Ack struct {
	Epoch      Epoch
	Seq        uint64
	Digest     Digest
	ReceivedAt time.Time
}

// Proto is the wire form of a.
func (a Ack) Proto() *wirepb.Ack {
	return &wirepb.Ack{Epoch: a.Epoch[:], Seq: a.Seq, Digest: a.Digest[:], ReceivedAtNs: a.ReceivedAt.UnixNano()}
}

// Covers reports whether p acknowledges the batch (epoch, seq) with this body
// digest: anything else must not free the batch.
func Covers(p *wirepb.Ack, epoch Epoch, seq uint64, digest Digest) bool {
	return p != nil && bytes.Equal(p.Epoch, epoch[:]) && p.Seq == seq && bytes.Equal(p.Digest, digest[:])
}

package ingest

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/journal/index"
	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// KeyOf is what an index of the journal needs: the name and digest of a batch
// record. Records of which no batch can be read have none.
func KeyOf(codec *wire.Codec) func(journal.Record) (index.Key, wire.Digest, bool) {
	return func(r journal.Record) (index.Key, wire.Digest, bool) {
		b, err := codec.DecodeBatch(r.Body)
		if err != nil {
			return index.Key{}, wire.Digest{}, false
		}
		return index.Key{Probe: b.Probe, Epoch: b.Epoch, Seq: b.Seq}, wire.DigestOf(r.Body), true
	}
}

// maxPushers is how many probes have an allowance of their own.
const maxPushers = 250_000

const (
	// requestCost is what a small request holds in memory, and resultCost what a
	// decoded result does, roughly and rather more.
	requestCost = 32 << 10
	resultCost  = 1 << 10
)

// hold takes n bytes of the memory for requests, if they are there.
func (s *Server) hold(n int64) (release func(), no *refusal) {
	n = min(n, s.opt.MemoryBytes)
	if !s.memory.TryAcquire(n) {
		return nil, later(http.StatusServiceUnavailable, overload, 5*time.Second, "the collector is busy: wait as told, nothing is lost")
	}
	return func() { s.memory.Release(n) }, nil
}

func (s *Server) batches(w http.ResponseWriter, r *http.Request) (answer, *refusal) {
	// The instant nearest to the probe's sending: it dates the results.
	received := s.opt.Now()
	id, key, no := s.known(r)
	if no != nil {
		return answer{}, no
	}
	signature, no := signatureOf(r)
	if no != nil {
		return answer{}, no
	}
	if r.ContentLength > wire.MaxBody {
		return answer{}, refuse(http.StatusRequestEntityTooLarge, tooLarge, "a body of %d bytes, at most %d", r.ContentLength, wire.MaxBody)
	}
	expected := r.ContentLength
	if expected < 0 {
		expected = wire.MaxBody
	}
	release, no := s.hold(requestCost + 2*expected) // growing a buffer takes as much again
	if no != nil {
		return answer{}, no
	}
	defer release()
	body, no := s.read(w, r, wire.MaxBody)
	if no != nil {
		return answer{}, no
	}
	if !wire.Verify(key.Public, body, signature) {
		return answer{}, refuse(http.StatusUnauthorized, badSignature, "the signature is not probe %s's over this body: was the box enrolled anew, or another with its name?", id)
	}
	if wait, ok := s.pushes.take(id, received); !ok {
		return answer{}, later(http.StatusTooManyRequests, tooMany, max(wait, 2*time.Second), "probe %s pushes faster than %g batches a second: wait as told, nothing is lost", id, s.opt.BatchesPerSecond)
	}
	b, no := s.decode(r.Context(), body)
	if no != nil {
		return answer{}, no
	}
	if b.Probe != id {
		return answer{}, refuse(http.StatusBadRequest, otherProbe, "probe %s signed a batch of probe %q", id, b.Probe)
	}
	releaseResults, no := s.hold(int64(len(b.Results)) * resultCost)
	if no != nil {
		return answer{}, no
	}
	defer releaseResults()
	ack, no := s.store(r, id, body, signature, b, received)
	if no != nil {
		return answer{}, no
	}
	response := &wirepb.BatchResponse{Ack: ack.Proto()}
	config, version := s.config(id)
	response.ConfigVersion = version
	if has, ok := configHeader(r); config != nil && (!ok || has != version) {
		response.Config = config
	}
	response.CollectorTimeNs = s.opt.Now().UnixNano()
	return protobuf(response)
}

// known is the probe that a request says it is of.
func (s *Server) known(r *http.Request) (measure.ProbeID, registry.Key, *refusal) {
	id := measure.ProbeID(r.Header.Get(wire.HeaderProbe))
	key, err := s.opt.Registry.Key(id)
	return id, key, s.stranger(id, err)
}

// signatureOf reads the signature's header.
func signatureOf(r *http.Request) ([]byte, *refusal) {
	signature, err := base64.StdEncoding.Strict().DecodeString(r.Header.Get(wire.HeaderSignature))
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, badSignature, "%s is not base64", wire.HeaderSignature)
	}
	return signature, nil
}

// stranger is the refusal for an error of the registry's look-up.
func (s *Server) stranger(id measure.ProbeID, err error) *refusal {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, registry.ErrRevoked):
		return refuse(http.StatusForbidden, revoked, "probe %s: %v: ask for a new claim code", id, err)
	case len(id) > measure.MaxProbeID:
		return refuse(http.StatusNotFound, unknownProbe, "a probe id of %d bytes: %v", len(id), registry.ErrUnknown)
	}
	return refuse(http.StatusNotFound, unknownProbe, "probe %q: %v: ask for a claim code", id, registry.ErrUnknown)
}

// decode reads an authentic body. Few are decoded at a time, since a small body
// may hold a large batch.
func (s *Server) decode(ctx context.Context, body []byte) (wire.Batch, *refusal) {
	var head zstd.Header
	if err := head.Decode(body); err == nil && head.HasFCS && head.FrameContentSize > wire.MaxDecompressed {
		return wire.Batch{}, refuse(http.StatusRequestEntityTooLarge, tooLarge, "a batch of %d bytes, at most %d", head.FrameContentSize, wire.MaxDecompressed)
	}
	select {
	case s.decoding <- struct{}{}:
		defer func() { <-s.decoding }()
	case <-ctx.Done():
		return wire.Batch{}, refuse(http.StatusRequestTimeout, incomplete, "the probe did not wait")
	}
	b, err := s.codec.DecodeBatch(body)
	switch {
	case errors.Is(err, wire.ErrTooLarge):
		return b, refuse(http.StatusRequestEntityTooLarge, tooLarge, "the batch cannot be read: %v", err)
	case err != nil:
		return b, refuse(http.StatusBadRequest, malformed, "the batch cannot be read: %v", err)
	}
	return b, nil
}

// store brings a batch into the journal unless it is there, and returns its
// acknowledgement.
func (s *Server) store(r *http.Request, id measure.ProbeID, body, signature []byte, b wire.Batch, received time.Time) (wire.Ack, *refusal) {
	key, digest := index.Key{Probe: id, Epoch: b.Epoch, Seq: b.Seq}, wire.DigestOf(body)
	ctx, cancel := context.WithTimeout(r.Context(), s.opt.JournalTimeout)
	defer cancel()
	leave, err := s.opt.Index.Claim(ctx, key)
	if err != nil {
		return wire.Ack{}, s.noDisk("looked up", err)
	}
	defer leave()
	stored, ok, err := s.opt.Index.Lookup(key)
	switch {
	case err != nil:
		return wire.Ack{}, s.noDisk("looked up", err)
	case ok && stored.Digest == digest:
		s.metrics.duplicates.Inc()
		return wire.Ack{Epoch: b.Epoch, Seq: b.Seq, Digest: digest, ReceivedAt: stored.ReceivedAt}, nil
	case ok:
		s.log.Warn("a batch's number is taken by another: refused", "probe", id, "batch", b.Seq)
		return wire.Ack{}, refuse(http.StatusConflict, conflict, "batch %d of this epoch is here with another content: was the spool restored from a copy, or the box cloned?", b.Seq)
	}
	record := journal.Record{Type: journal.Batch, ReceivedAt: received, Body: body, Headers: []journal.Header{
		{Key: wire.HeaderProbe, Value: string(id)},
		{Key: wire.HeaderSignature, Value: base64.StdEncoding.EncodeToString(signature)},
	}}
	// A header that cannot be read does not cost the batch: it is outside the
	// signature, and what it would correct stays as the box measured it.
	sent, err := wire.ParseSent(r.Header.Get(wire.HeaderSent))
	if err == nil {
		record.Headers = append(record.Headers, journal.Header{Key: wire.HeaderSent, Value: sent.String()})
	} else {
		sent = wire.Sent{}
		s.metrics.undated.Inc()
	}
	if version, ok := configHeader(r); ok {
		record.Headers = append(record.Headers, journal.Header{Key: wire.HeaderConfig, Value: strconv.FormatUint(version, 10)})
	}
	position, err := s.opt.Journal.Append(ctx, record)
	switch {
	case errors.Is(err, journal.ErrInvalid), errors.Is(err, journal.ErrTooLarge):
		s.log.Error("the journal does not take a batch that ingest let through", "probe", id, "batch", b.Seq, "err", err)
		return wire.Ack{}, refuse(http.StatusInternalServerError, internalFault, "the collector cannot keep this batch: try again after its next update")
	case err != nil:
		return wire.Ack{}, s.noDisk("written", err)
	}
	s.opt.Index.Put(key, index.Entry{Digest: digest, ReceivedAt: received, Position: position})
	s.metrics.batches.Inc()
	s.metrics.results.Add(float64(len(b.Results)))
	s.opt.Batches.Batch(id, received, b, sent)
	return wire.Ack{Epoch: b.Epoch, Seq: b.Seq, Digest: digest, ReceivedAt: received}, nil
}

// noDisk is the refusal while batches cannot be told apart or kept.
func (s *Server) noDisk(what string, err error) *refusal {
	if !errors.Is(err, context.Canceled) && s.lastDisk.due(s.opt.Now()) {
		s.log.Error("batches are refused: they cannot be "+what, "err", err)
	}
	return later(http.StatusServiceUnavailable, noJournal, 10*time.Second, "the collector's disk does not answer: wait as told, nothing is lost")
}

// configHeader is the version that the probe runs; not ok if it does not say.
func configHeader(r *http.Request) (version uint64, ok bool) {
	version, err := strconv.ParseUint(r.Header.Get(wire.HeaderConfig), 10, 64)
	return version, err == nil
}

// config is what the probe should do. Without one it keeps what it has: that must
// not cost a batch.
func (s *Server) config(id measure.ProbeID) (*wirepb.ProbeConfig, uint64) {
	now := s.opt.Now()
	c, version, err := s.opt.Configs.Config(id, now)
	if err != nil {
		s.metrics.noConfig.Inc()
		if s.lastCried.due(now) {
			s.log.Warn("a probe's configuration cannot be made: it keeps what it has", "probe", id, "err", err)
		}
		return nil, 0
	}
	return c, version
}

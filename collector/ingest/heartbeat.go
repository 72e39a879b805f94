package ingest

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// verdict is what an authentic beat is worth.
type verdict string

const (
	fresh    verdict = "fresh"    // newer than the last: a sign of life
	repeated verdict = "repeated" // the last one again: its answer was lost on the way
	late     verdict = "late"     // newer than the last, but it waited in our queue
	outdated verdict = "outdated" // older than the last, or of a boot that is over
)

// maxPastBoots is how many boots of a probe are remembered as over.
const maxPastBoots = 8

// pulses are the last beats of all probes. They are not kept on disk: after a
// start of the collector the first beat of each probe is believed, and what was
// recorded of older ones could be played once.
type pulses struct {
	mu   sync.Mutex
	last map[measure.ProbeID]*pulse
}

type pulse struct {
	boot    measure.BootID
	counter uint64
	past    []measure.BootID // boots that are over, oldest first
}

// judge notes an authentic beat. A counter only rises within a boot, and a boot
// that is over never returns. Equal to the last is a repetition: it is no sign of
// life, since anyone on the way can make one, but it is answered, since the
// answer may have been lost.
func (p *pulses) judge(b wire.Heartbeat) verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil {
		p.last = map[measure.ProbeID]*pulse{}
	}
	l := p.last[b.Probe]
	switch {
	case l == nil:
		p.last[b.Probe] = &pulse{boot: b.Boot, counter: b.Counter}
		return fresh
	case l.boot == b.Boot && b.Counter == l.counter:
		return repeated
	case l.boot == b.Boot && b.Counter < l.counter, slices.Contains(l.past, b.Boot):
		return outdated
	case l.boot != b.Boot:
		if len(l.past) == maxPastBoots {
			l.past = slices.Delete(l.past, 0, 1)
		}
		l.past = append(l.past, l.boot)
		l.boot = b.Boot
	}
	l.counter = b.Counter
	return fresh
}

// patience is how long a beat may wait in our queue and still be answered: its
// probe has sent another one since, and an answer that waited tells a wrong time.
const patience = 5 * time.Second

// beat takes a beat that has waited in our queue for age, and returns its answer.
// An answer of nil without a refusal means that none is due any more.
func (s *Server) beat(d []byte, age time.Duration) ([]byte, *refusal) {
	id, err := wire.HeartbeatProbe(d)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, malformed, "%v", err)
	}
	key, err := s.opt.Registry.Key(id)
	if err != nil {
		if errors.Is(err, registry.ErrRevoked) {
			return nil, &refusal{status: http.StatusForbidden, reason: revoked, text: registry.ErrRevoked.Error()}
		}
		return nil, &refusal{status: http.StatusNotFound, reason: unknownProbe, text: registry.ErrUnknown.Error()}
	}
	b, err := wire.ParseHeartbeat(d, key.Heartbeat[:])
	if err != nil {
		return nil, refuse(http.StatusUnauthorized, badSignature, "%v: was the box enrolled anew?", err)
	}
	v := s.pulses.judge(b)
	if v == outdated {
		return nil, refuse(http.StatusConflict, replayed, "this heartbeat is older than the last one of probe %s", id)
	}
	now := s.opt.Now()
	if v == fresh && age > patience {
		v = late
	}
	s.metrics.beats.WithLabelValues(string(v)).Inc()
	if v != repeated {
		s.opt.Beats.Beat(b, now.Add(-age))
	}
	if age > patience {
		return nil, nil
	}
	_, version := s.config(id)
	ack, err := wire.HeartbeatAck{Counter: b.Counter, CollectorTime: now, ConfigVersion: version}.Marshal(key.Heartbeat[:], id, b.Boot)
	if err != nil {
		return nil, refuse(http.StatusInternalServerError, internalFault, "%v", err)
	}
	return ack, nil
}

// heartbeat takes the same by HTTPS.
func (s *Server) heartbeat(w http.ResponseWriter, r *http.Request) (answer, *refusal) {
	release, no := s.hold(requestCost)
	if no != nil {
		return answer{}, no
	}
	defer release()
	body, no := s.read(w, r, wire.HeartbeatSize)
	if no != nil {
		return answer{}, no
	}
	ack, no := s.beat(body, 0)
	if no != nil {
		return answer{}, no
	}
	return answer{"application/octet-stream", ack}, nil
}

package ingest

import (
	"errors"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// A probe wishes a few times a day. What comes faster is a fault, and would have the
// collector sign for nothing.
const (
	wishEvery = 2 * time.Second
	wishBurst = 30
)

// tickets answers a wish for a heavy test, or takes note of its end. Of the refusals
// 429 means that another probe of the site is testing, 503 everything else that
// passes.
func (s *Server) tickets(w http.ResponseWriter, r *http.Request) (answer, *refusal) {
	if s.opt.Tickets == nil {
		return answer{}, refuse(http.StatusNotFound, notFound, "there are no tickets here")
	}
	id, key, no := s.known(r)
	if no != nil {
		return answer{}, no
	}
	signature, no := signatureOf(r)
	if no != nil {
		return answer{}, no
	}
	release, no := s.hold(requestCost)
	if no != nil {
		return answer{}, no
	}
	defer release()
	body, no := s.read(w, r, wire.MaxTicketRequest)
	if no != nil {
		return answer{}, no
	}
	if !wire.VerifyTicketRequest(key.Public, body, signature) {
		return answer{}, refuse(http.StatusUnauthorized, badSignature, "the signature is not probe %s's over this wish: was the box enrolled anew, or another with its name?", id)
	}
	if wait, ok := s.wishes.take(id, s.opt.Now()); !ok {
		return answer{}, later(http.StatusServiceUnavailable, tooMany, max(wait, wishEvery), "probe %s asks for tickets too often: wait as told", id)
	}
	var m wirepb.TicketRequest
	if err := proto.Unmarshal(body, &m); err != nil {
		return answer{}, refuse(http.StatusBadRequest, malformed, "the wish cannot be read: %v", err)
	}
	if len(m.Finished) > 0 {
		if len(m.Finished) != len(wire.TicketID{}) {
			return answer{}, refuse(http.StatusBadRequest, malformed, "a ticket id of %d bytes", len(m.Finished))
		}
		s.opt.Tickets.Finish(id, wire.TicketID(m.Finished))
		return protobuf(&wirepb.TicketResponse{CollectorTimeNs: s.opt.Now().UnixNano()})
	}
	given, token, err := s.opt.Tickets.Ask(id, measure.TargetID(m.Target))
	var wait *ticket.Refusal
	switch {
	case errors.As(err, &wait):
		no := &refusal{status: http.StatusServiceUnavailable, reason: saturated, text: err.Error(), after: wait.After}
		if wait.Reason == ticket.SameLine {
			no.status, no.reason = http.StatusTooManyRequests, sameLine
		}
		return answer{}, no
	case errors.Is(err, ticket.ErrNoPlace), errors.Is(err, ticket.ErrNoTarget):
		return answer{}, refuse(http.StatusBadRequest, noTarget, "measurement server %.60q: %v", m.Target, err)
	case err != nil:
		return answer{}, refuse(http.StatusInternalServerError, internalFault, "no ticket can be made: %v", err)
	}
	return protobuf(&wirepb.TicketResponse{Token: token, ExpiresNs: given.Expires.UnixNano(), CollectorTimeNs: s.opt.Now().UnixNano()})
}

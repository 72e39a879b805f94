package ingest

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/wire"
)

// reason is why a request was refused: a closed list, the label of a counter.
type reason string

const (
	notFound      reason = "not_found"     // 404: method and path are not in the list
	tooLarge      reason = "too_large"     // 413
	incomplete    reason = "incomplete"    // 408: the body did not come
	malformed     reason = "malformed"     // 400: never readable
	unknownProbe  reason = "unknown_probe" // 404
	revoked       reason = "revoked"       // 403
	badSignature  reason = "signature"     // 401
	otherProbe    reason = "other_probe"   // 400: signed by one probe, filled by another
	conflict      reason = "conflict"      // 409: that number is taken by another batch
	tooMany       reason = "rate"          // 429
	overload      reason = "overload"      // 503: no memory left for it
	noJournal     reason = "journal"       // 503
	claimRefused  reason = "claim"         // 403
	noRegistry    reason = "registry"      // 503
	sameLine      reason = "same_line"     // 429: another probe of the site tests
	saturated     reason = "saturated"     // 503: as many tests as may be
	noTarget      reason = "no_target"     // 400: no such measurement server, or no place
	replayed      reason = "replayed"      // 409: a heartbeat older than the last
	internalFault reason = "internal"      // 500: ours
)

func reasons() []reason {
	return []reason{notFound, tooLarge, incomplete, malformed, unknownProbe, revoked, badSignature, otherProbe,
		conflict, tooMany, overload, noJournal, claimRefused, noRegistry, sameLine, saturated, noTarget, replayed, internalFault}
}

// refusal is an answer other than 200. Its text is what a person reads in the
// probe's log: what is wrong and what to do.
type refusal struct {
	status int
	reason reason
	text   string
	after  time.Duration // Retry-After, for 429 and 503
}

func refuse(status int, why reason, format string, args ...any) *refusal {
	return &refusal{status: status, reason: why, text: fmt.Sprintf(format, args...)}
}

// later is a refusal that passes. The time is spread, so that those who were
// refused together do not return together.
func later(status int, why reason, after time.Duration, format string, args ...any) *refusal {
	r := refuse(status, why, format, args...)
	r.after = after + rand.N(after)
	return r
}

// answer is the body of a 200.
type answer struct {
	contentType string
	body        []byte
}

func protobuf(m proto.Message) (answer, *refusal) {
	body, err := proto.Marshal(m)
	if err != nil {
		return answer{}, refuse(http.StatusInternalServerError, internalFault, "the answer cannot be encoded: %v", err)
	}
	return answer{wire.ContentType, body}, nil
}

type handler func(s *Server, w http.ResponseWriter, r *http.Request) (answer, *refusal)

// route is all that is answered: method and path, exactly.
func route(method, path string) handler {
	if method != http.MethodPost {
		return nil
	}
	switch path {
	case wire.PathBatches:
		return (*Server).batches
	case wire.PathEnroll:
		return (*Server).enroll
	case PathHeartbeat:
		return (*Server).heartbeat
	case wire.PathTickets:
		return (*Server).tickets
	}
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handle := route(r.Method, r.URL.Path)
	if handle == nil {
		s.refuse(w, refuse(http.StatusNotFound, notFound, "there is nothing here: probes speak to POST %s, %s, %s and %s", wire.PathBatches, wire.PathEnroll, PathHeartbeat, wire.PathTickets))
		return
	}
	begin := time.Now()
	a, no := s.guarded(handle, w, r)
	if no != nil {
		s.refuse(w, no)
	} else {
		w.Header().Set("Content-Type", a.contentType)
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		_, _ = w.Write(a.body) // a probe that has gone asks again
	}
	s.metrics.seconds.WithLabelValues(r.URL.Path).Observe(time.Since(begin).Seconds())
}

// guarded turns a fault of ours into a refusal that somebody reads: one request
// must not end the others, nor pass unnoticed.
func (s *Server) guarded(handle handler, w http.ResponseWriter, r *http.Request) (a answer, no *refusal) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a request could not be answered: this is a fault of the program", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			a, no = answer{}, refuse(http.StatusInternalServerError, internalFault, "the collector has a fault: try again after its next update")
		}
	}()
	return handle(s, w, r)
}

func (s *Server) refuse(w http.ResponseWriter, no *refusal) {
	s.metrics.refused.WithLabelValues(string(no.reason)).Inc()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if no.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(1, (no.after+time.Second-1)/time.Second))))
	}
	w.WriteHeader(no.status)
	_, _ = io.WriteString(w, strings.ReplaceAll(no.text, "\n", " ")+"\n")
}

// read returns the whole body, up to limit bytes.
func (s *Server) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *refusal) {
	if r.ContentLength > limit {
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge, "a body of %d bytes, at most %d", r.ContentLength, limit)
	}
	// Nothing is set aside for what was only announced.
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refuse(http.StatusRequestEntityTooLarge, tooLarge, "a body above %d bytes", limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusRequestTimeout, incomplete, "the body did not arrive within %v: try again", s.opt.BodyTimeout)
	case err != nil:
		return nil, refuse(http.StatusRequestTimeout, incomplete, "the body ended early: try again")
	}
	return body, nil
}

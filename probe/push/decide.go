// Package push brings sealed batches and signs of life to the collector.
//
// It guarantees that a batch is removed from the spool only when the collector
// has said, for exactly this body, that it is durable; that nothing is refused
// for ever because an answer was lost; and that a bad batch never blocks what
// follows. Every answer leads to one of four decisions: see [Decision].
package push

import (
	"net/http"
	"strconv"
	"time"
)

// Decision is what an answer, or its absence, means for one batch.
type Decision int

// The decisions.
const (
	// Acknowledged: durable at the collector; the batch may go.
	Acknowledged Decision = iota
	// Retry: try again soon, with back-off.
	Retry
	// Wait: the collector asked for time; try again when it said.
	Wait
	// Reject: this batch will never be taken; set it aside and go on.
	Reject
	// Fatal: this probe is not welcome; keep everything and ask again hourly.
	Fatal
)

func (d Decision) String() string {
	return [...]string{"acknowledged", "retry", "wait", "reject", "fatal"}[d]
}

// Decide turns a status code into a decision. Unknown codes are retried: what a
// newer collector or a proxy in between says must not cost a result.
func Decide(status int) Decision {
	switch status {
	case http.StatusOK:
		return Acknowledged
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge:
		return Reject
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return Fatal
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return Wait
	}
	return Retry
}

// Bounds of waiting.
const (
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
	fatalPause = time.Hour
	maxAsked   = time.Hour
)

// backoff doubles from one second to five minutes; rnd (uniform in [0,1)) spreads
// it over the upper half, so that probes that failed together do not return
// together.
func backoff(failures int, rnd float64) time.Duration {
	d := maxBackoff
	if failures < 9 {
		d = min(minBackoff<<max(failures-1, 0), maxBackoff)
	}
	return d/2 + time.Duration(rnd*float64(d/2))
}

// RetryAfter reads the delay that the collector asks for (RFC 9110 section
// 10.2.3, seconds only: a date would need a clock that is right).
func RetryAfter(h http.Header) time.Duration {
	s, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, maxAsked)
}

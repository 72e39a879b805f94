// Package sink carries the journal's records into stores of time series: one
// runner and one cursor for each, so that a store that is down delays itself
// alone.
//
// It guarantees that every record which the journal acknowledged reaches the
// store at least once, and relies on the store to make twice the same as once.
// What cannot be read or must not be written is counted and passed over; it
// never holds up what follows. Nothing here is evidence: a store can be lost and
// made again from the journal.
package sink

import (
	"context"
	"errors"
	"time"

	"github.com/pantau-desa/pantau/collector/series"
)

// Sink is a store of samples.
type Sink interface {
	// Write stores samples. Writing the same again changes nothing, in any order
	// and after a restart. Samples that the store will never take are refused,
	// not an error. After an error any part may have been stored; the same
	// samples are written again later: after an increasing time of the runner's
	// choice, or as the error says ([ErrOperator], [Later]).
	Write(ctx context.Context, samples []series.Sample) (Refused, error)
	// Settle is for how long what Write returned for may still be lost when the
	// machine (not the program) stops dead; 0 if it is durable at once.
	Settle() time.Duration
	// Close makes all that was written durable.
	Close() error
}

// ErrOperator is wrapped by the error of a write that waiting alone does not
// mend: a person must change something here or at the store. The write is tried
// again all the same, and the runner says so more often.
var ErrOperator = errors.New("somebody must mend this")

// Later is the error of a store that said for how long it wants to be left alone.
type Later struct {
	Err   error
	After time.Duration
}

func (l *Later) Error() string { return l.Err.Error() }
func (l *Later) Unwrap() error { return l.Err }

// Refused counts the samples that a store did not take.
type Refused struct {
	Old      int // before the time that the store takes
	Future   int // after it
	Conflict int // another value is there for that instant; the first one stays
	Invalid  int // the store cannot hold such a thing
}

// Total is the number of samples refused.
func (r Refused) Total() int { return r.Old + r.Future + r.Conflict + r.Invalid }

func (r Refused) byReason() map[string]int {
	return map[string]int{"old": r.Old, "future": r.Future, "conflict": r.Conflict, "invalid": r.Invalid}
}

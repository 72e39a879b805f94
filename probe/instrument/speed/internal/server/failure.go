// Package server is what every speed instrument knows of measurement servers:
// their addresses, what a good answer is, and which reason an error has.
package server

import (
	"context"
	"errors"
	"fmt"

	cause "github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Failure is an error that knows its reason.
type Failure struct {
	Reason measure.Reason
	Detail string
	// Refused says that the server demands a ticket and got none that serves: nothing
	// was tried.
	Refused bool
}

// Of returns r with the failure's outcome: skipped if the test was refused.
func (f *Failure) Of(r measure.Result) measure.Result {
	if f.Refused {
		return r.Skip(f.Reason, f.Detail)
	}
	return r.Fail(f.Reason, f.Detail)
}

func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Detail }

// Fail makes a failure.
func Fail(reason measure.Reason, format string, args ...any) *Failure {
	return &Failure{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Explain gives err its reason. It returns nil for nil.
func Explain(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{Reason: cause.ReasonOf(err), Detail: err.Error()}
}

// Ended says why ctx is over.
func Ended(ctx context.Context) measure.Reason {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return measure.ReasonTimeout
	}
	return measure.ReasonCancelled
}

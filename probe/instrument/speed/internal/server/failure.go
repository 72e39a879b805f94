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
}

func (f *Failure) Error() string { return string(f.Reason) + ": " + f.Detail }

// Fail makes a failure.
func Fail(reason measure.Reason, format string, args ...any) *Failure {
	return &Failure{reason, fmt.Sprintf(format, args...)}
}

// Explain gives err its reason. It returns nil for nil.
func Explain(err error) *Failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	return &Failure{cause.ReasonOf(err), err.Error()}
}

// Ended says why ctx is over.
func Ended(ctx context.Context) measure.Reason {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return measure.ReasonTimeout
	}
	return measure.ReasonCancelled
}

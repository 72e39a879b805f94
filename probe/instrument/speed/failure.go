package speed

import (
	"errors"

	cause "github.com/pantau-desa/pantau/probe/instrument/internal/failure"
	"github.com/pantau-desa/pantau/probe/measure"
)

// failure is an error that knows its reason.
type failure struct {
	reason measure.Reason
	detail string
}

func (f *failure) Error() string { return string(f.reason) + ": " + f.detail }

// explain gives err its reason. It returns nil for nil.
func explain(err error) *failure {
	if err == nil {
		return nil
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return &failure{cause.ReasonOf(err), err.Error()}
}

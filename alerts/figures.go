package alerts

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Figures reads the stored series with PromQL.
type Figures interface {
	Instant(ctx context.Context, expr string, at time.Time) (promql.Vector, error)
	Range(ctx context.Context, expr string, from, to time.Time, step time.Duration) (promql.Matrix, error)
}

// usage is what the series tell of the usage of a village or district now.
func (s *Service) usage(ctx context.Context, inv *inventory.Inventory, spot string, now time.Time) *mail.Spike {
	return &mail.Spike{Now: math.NaN()}
}

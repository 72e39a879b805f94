package alerts

import (
	"context"
	"time"
)

// sumUp sends what a week brought to each regency whose Monday has begun.
func (s *Service) sumUp(ctx context.Context, now time.Time) {}

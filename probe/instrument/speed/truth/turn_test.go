package truth

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestOneTurnAtATime(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	done, err := turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := turn(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second turn beside the first: %v", err)
	}
	done()
	again, err := turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

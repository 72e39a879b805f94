package truth

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// turn waits until no other run measures on this machine: two rows at once would
// take each other's processors. done ends the turn, as does the end of the
// process.
func turn(ctx context.Context) (done func(), err error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "pantau-truth.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	// Whoever has just had a turn comes after those who wait.
	for pause := 200 * time.Millisecond; ; pause = 50 * time.Millisecond {
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(pause):
		}
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, err
		}
	}
}

package series

import (
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Tolerances of dating.
const (
	// maxSkew is how far a box's wall clock may be off and still be kept: its
	// results then lie exactly on their slots.
	maxSkew = 2 * time.Second
	// A body takes time to arrive, which looks like a clock that is behind. A
	// clock that something vouches for is believed over a slow line's upload; one
	// that nothing vouches for, only over a short one.
	maxTransit        = 3 * time.Second
	maxTransitVouched = 2 * time.Minute
)

// Reason says why a result was held back from the sinks: a closed list, fit to
// be a metric label. What is held stays in the journal.
type Reason string

// The reasons for holding a result.
const (
	HeldClock     Reason = "clock"     // nothing can date it
	HeldFuture    Reason = "future"    // dated more than MaxAhead after its receipt
	HeldOld       Reason = "old"       // dated more than MaxAge before its receipt
	HeldInventory Reason = "inventory" // its probe or site had no place at that time
	HeldInvalid   Reason = "invalid"   // contradicts itself, see [measure.Result.Validate]
	HeldTarget    Reason = "target"    // names a target that cannot be an inventory id
)

// Reasons lists every reason for holding a result.
func Reasons() []Reason {
	return []Reason{HeldClock, HeldFuture, HeldOld, HeldInventory, HeldInvalid, HeldTarget}
}

// Dater dates the results of one batch: event time from the box's clocks, the
// clocks at sending and the instant of receipt. It is a pure function of the
// journal's record, so that every reader of the journal dates alike.
//
// In the boot that sent the batch, or in the one that sealed it under a clock
// that something vouches for, the monotonic clock says how long ago a result was
// measured. Where the wall clock agrees within 2 s it is kept to the nanosecond;
// where not, the monotonic clock wins and the result counts as corrected.
type Dater struct {
	sent, sealed anchor
	// started is when the sealing boot began by a vouched clock; zero: not known.
	started time.Time
}

// anchor ties a boot's monotonic clock to wall time.
type anchor struct {
	boot measure.BootID // empty: no anchor
	mono time.Duration
	wall time.Time
}

// NewDater dates b's results. A zero sent means that the sender's clocks are not
// known.
func NewDater(b *wire.Batch, sent wire.Sent, receivedAt time.Time) Dater {
	var d Dater
	vouched := b.Quality != measure.ClockUnknown
	if sent.Boot != "" {
		transit := maxTransit
		if vouched && sent.Boot == b.Boot {
			transit = maxTransitVouched
		}
		d.sent = anchor{sent.Boot, sent.Mono, receivedAt}
		if skew := receivedAt.Sub(sent.Wall); skew >= -maxSkew && skew <= maxSkew+transit {
			d.sent.wall = sent.Wall
		}
	}
	if vouched && b.Boot != "" && b.SealedMono >= 0 {
		d.sealed = anchor{b.Boot, b.SealedMono, b.SealedAt}
		d.started = b.SealedAt.Add(-b.SealedMono)
	}
	return d
}

// Date returns when something happened that the box dates as mono in boot and
// wall by its own clock. corrected says that wall was not believed. A non-empty
// reason (HeldClock) says that nothing can date it.
//
// What happened in a boot of which neither the sending nor the sealing is known
// is believed if the sealing clock is vouched for and the date lies before the
// sealing boot's start: a box that seals after a power cut what it measured
// before it.
func (d Dater) Date(boot measure.BootID, mono time.Duration, wall time.Time) (at time.Time, corrected bool, held Reason) {
	for _, a := range []anchor{d.sent, d.sealed} {
		if a.boot == "" || a.boot != boot {
			continue
		}
		if mono < 0 || mono > a.mono {
			continue // measured before its boot, or after it was sent
		}
		est := a.wall.Add(mono - a.mono)
		if off := est.Sub(wall); off >= -maxSkew && off <= maxSkew {
			return wall, false, ""
		}
		return est, true, ""
	}
	other := boot != d.sent.boot && boot != d.sealed.boot
	if other && !d.started.IsZero() && wall.Before(d.started.Add(maxSkew)) {
		return wall, false, ""
	}
	return time.Time{}, false, HeldClock
}

// Package clock reads the clocks of a box whose wall clock may lie: wall time
// with its quality, the monotonic time of this boot that goes on through
// suspend (CLOCK_BOOTTIME), and the boot's id.
package clock

import (
	"errors"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Reading is one simultaneous reading of all clocks.
type Reading struct {
	Wall    time.Time // as the box has it; carries no Go monotonic part
	Mono    time.Duration
	Boot    measure.BootID
	Quality measure.ClockQuality
}

// System reads the kernel's clocks. The zero value is not usable: see [Open].
type System struct {
	boot measure.BootID
}

// Open reads this boot's id from the kernel.
func Open() (*System, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	id := strings.TrimSpace(string(b))
	if len(id) != 36 {
		return nil, errors.New("clock: /proc/sys/kernel/random/boot_id holds no UUID")
	}
	return &System{boot: measure.BootID(id)}, nil
}

// Now reads the clocks. The two times are read within microseconds of each
// other.
func (s *System) Now() Reading {
	return Reading{Wall: time.Now().Round(0), Mono: Mono(), Boot: s.boot, Quality: kernelQuality()}
}

// Mono is CLOCK_BOOTTIME: time since boot, suspend included.
func Mono() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock: CLOCK_BOOTTIME is not readable: " + err.Error()) // Linux has it since 2.6.39
	}
	return time.Duration(ts.Nano())
}

// kernelQuality asks adjtimex(2), which keeps RFC 5905's state.
func kernelQuality() measure.ClockQuality {
	var t unix.Timex // Modes 0: read only, no privilege needed
	state, err := unix.Adjtimex(&t)
	if err != nil || state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0 {
		return measure.ClockUnknown
	}
	return measure.ClockSynchronised
}

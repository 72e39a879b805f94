package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// Sent is a probe's clocks at the instant of sending. With the instant of
// receipt it dates every result of the same boot, however wrong the box's wall
// clock is: event = received - (Sent.Mono - result.Monotonic).
//
// As a header: "boot=<uuid>; mono=<ns>; wall=<ns>". It travels inside TLS but
// outside the signature: a retry sends the same body at another instant.
type Sent struct {
	Boot measure.BootID
	Mono time.Duration
	Wall time.Time
}

// String is the header's value.
func (s Sent) String() string {
	return fmt.Sprintf("boot=%s; mono=%d; wall=%d", s.Boot, int64(s.Mono), s.Wall.UnixNano())
}

// ParseSent reads a header's value. Unknown keys are ignored; a missing one is
// an error that wraps [ErrMalformed].
func ParseSent(h string) (Sent, error) {
	var s Sent
	if len(h) > MaxText {
		return s, malformed("%s of %d bytes", HeaderSent, len(h))
	}
	var have int
	for _, part := range strings.Split(h, ";") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch k {
		case "boot":
			s.Boot = measure.BootID(v)
			have |= 1
		case "mono", "wall":
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				return Sent{}, malformed("%s: %s is no whole number", HeaderSent, k)
			}
			if k == "mono" {
				s.Mono = time.Duration(n)
				have |= 2
			} else {
				s.Wall = time.Unix(0, n).UTC()
				have |= 4
			}
		}
	}
	if have != 7 {
		return Sent{}, malformed("%s must have boot, mono and wall", HeaderSent)
	}
	return s, nil
}

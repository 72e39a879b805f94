package ledger

import "time"

// Arrival follows what has come of one TCP connection's payload: in order, and
// what waits behind a loss. A program, and the kernel's own count of bytes, see
// the latter only once the loss is repaired, then all at once: as a pause and a
// burst that the line did not make. It is not safe for concurrent use.
type Arrival struct {
	received, segments, disordered uint64
	waiting                        int64     // bytes behind losses
	since                          time.Time // when nothing was out of order any more
}

// settled is how long nothing must come out of order for nothing to wait: what is
// left then were segments that came twice, or that were not full.
const settled = 2 * time.Second

// Look takes what tcp(7) TCP_INFO tells at an instant: bytes received in order,
// segments with payload received, those of them that came out of order, and the
// payload of a full segment. It returns how many bytes have come.
func (a *Arrival) Look(now time.Time, received, segments, disordered, mss uint64) uint64 {
	came, ahead := segments-a.segments, received-a.received
	switch {
	case disordered != a.disordered:
		a.since = time.Time{}
	case came > 0 && a.since.IsZero():
		a.since = now
	}
	if disordered != a.disordered || a.waiting > 0 {
		a.waiting = max(a.waiting+int64(came*mss)-int64(ahead), 0)
	}
	if !a.since.IsZero() && now.Sub(a.since) > settled {
		a.waiting = 0
	}
	a.received, a.segments, a.disordered = received, segments, disordered
	return received + uint64(a.waiting)
}

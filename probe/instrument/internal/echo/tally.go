package echo

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"syscall"
	"time"

	probing "github.com/prometheus-community/pro-bing"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// tally is the account of one burst over all its sessions. The library's
// goroutines write it, the burst's owner reads it.
type tally struct {
	count, enough int
	wait          time.Duration
	header        uint64 // bytes of the IP header
	logger        *slog.Logger

	mu        sync.Mutex
	requests  []request // that the kernel took, in the order of sending
	failed    int
	sendError error
	answered  int
	rx, tx    ledger.Packets
	abandoned bool
}

type request struct {
	at       time.Time
	rtt      time.Duration
	answered bool
}

func newTally(b Burst) *tally {
	t := &tally{count: b.Count, enough: b.Enough, wait: b.Wait, header: 20, logger: b.Logger}
	if t.enough <= 0 || t.enough > t.count {
		t.enough = t.count
	}
	if b.Address.Is6() && !b.Address.Is4In6() {
		t.header = 40
	}
	if t.logger == nil {
		t.logger = slog.New(slog.DiscardHandler)
	}
	return t
}

func (t *tally) attempts() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.requests) + t.failed
}

// complete reports whether nothing is left to be asked.
func (t *tally) complete() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.requests)+t.failed >= t.count || t.answered >= t.enough
}

func (t *tally) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.abandoned = true
}

func (t *tally) report() Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := Report{Sent: len(t.requests), Failed: t.failed, SendError: t.sendError, Received: t.rx, Transmitted: t.tx}
	for _, q := range t.requests {
		if q.answered {
			r.RTTs = append(r.RTTs, q.rtt)
		}
	}
	return r
}

// enter locks the tally for a call from the library. In a burst that was given
// up it ends the calling goroutine instead.
func (t *tally) enter() {
	t.mu.Lock()
	if t.abandoned {
		t.mu.Unlock()
		runtime.Goexit()
	}
}

// refuse counts a request that the kernel did not take.
func (t *tally) refuse(err error) {
	t.failed++
	t.sendError = err
}

// session is one pinger's part in a burst. All its methods but close run in the
// pinger's sending goroutine.
type session struct {
	*tally
	pinger *probing.Pinger
	seqs   map[int]int // sequence number -> index in tally.requests
	end    *time.Timer // stops the pinger when the last answer is overdue
}

func (s *session) close() {
	if s.end != nil {
		s.end.Stop()
	}
}

// arm starts the wait for the last answer once every request was made. The lock
// is held.
func (s *session) arm() {
	if s.end == nil && len(s.requests)+s.failed >= s.count {
		s.end = time.AfterFunc(s.wait, s.pinger.Stop)
	}
}

func (s *session) sent(p *probing.Packet) {
	at := time.Now()
	s.enter()
	defer s.mu.Unlock()
	s.seqs[p.Seq] = len(s.requests)
	s.requests = append(s.requests, request{at: at})
	s.tx.Count++
	s.tx.Bytes += s.header + uint64(p.Nbytes)
	s.arm()
}

// sendFailed counts a refused request, which the library would repeat for ever.
func (s *session) sendFailed(_ *probing.Packet, err error) {
	s.enter()
	defer s.mu.Unlock()
	s.refuse(err)
	// The library asks until Count requests were sent: one fewer will be.
	s.pinger.Count--
	if s.pinger.Count <= 0 { // which it would read as "without end"
		s.pinger.Stop()
	}
	s.arm()
}

func (s *session) received(p *probing.Packet) {
	at := time.Now()
	s.enter()
	defer s.mu.Unlock()
	s.charge(p)
	i, ok := s.seqs[p.Seq]
	if !ok {
		return
	}
	q := &s.requests[i]
	rtt := roundTrip(p.Rtt, at.Round(0).Sub(q.at.Round(0)), at.Sub(q.at))
	if rtt > s.wait {
		return
	}
	q.rtt, q.answered = rtt, true
	if s.answered++; s.answered >= s.enough {
		s.pinger.Stop()
	}
}

func (s *session) duplicate(p *probing.Packet) {
	s.enter()
	defer s.mu.Unlock()
	s.charge(p)
}

func (s *session) charge(p *probing.Packet) {
	s.rx.Count++
	s.rx.Bytes += s.header + uint64(p.Nbytes)
}

// A session is its pinger's logger, because the library speaks only there of the
// request that it is about to repeat for ever.

// Infof is what the library calls, in a loop that nothing else ends, when a
// request was refused with EACCES: on a prohibited route, or towards a broadcast
// address. The request counts as refused and the loop's goroutine ends here; the
// library's deferred calls then end the session in order.
func (s *session) Infof(string, ...any) {
	s.enter()
	s.refuse(fmt.Errorf("sendto: %w", syscall.EACCES))
	s.mu.Unlock()
	runtime.Goexit()
}

// Fatalf is no more than a notice in this library.
func (s *session) Fatalf(format string, v ...any) { s.notice(format, v...) }

// Errorf is a notice.
func (s *session) Errorf(format string, v ...any) { s.notice(format, v...) }

// Warnf is a notice.
func (s *session) Warnf(format string, v ...any) { s.notice(format, v...) }

// Debugf is a notice.
func (s *session) Debugf(format string, v ...any) { s.notice(format, v...) }

func (s *session) notice(format string, v ...any) {
	if s.logger.Enabled(context.Background(), slog.LevelDebug) {
		s.logger.Debug("echo: "+fmt.Sprintf(format, v...), "address", s.pinger.Addr())
	}
}

// disagreement is how far a corrected round-trip time may be from the time
// between the two calls that frame it before the latter is taken.
const disagreement = 50 * time.Millisecond

// roundTrip is the round-trip time free of steps of the wall clock.
//
// The library stamps a request just before it is sent and an answer just after
// it came, which is as near to the line as can be had, but by the wall clock:
// reported is the difference. A moment after each stamp the clocks are read here;
// wall and mono are the time between the two readings by either clock. What the
// wall clock went further than the monotonic one is a step, and is taken off. A
// step in the moment between a stamp and its reading escapes that: it shows as a
// disagreement, and the monotonic time alone is taken.
func roundTrip(reported, wall, mono time.Duration) time.Duration {
	rtt := reported - (wall - mono)
	if d := rtt - mono; d < -disagreement || d > disagreement {
		return mono
	}
	return max(rtt, 0)
}

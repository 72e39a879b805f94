package probe

import (
	"fmt"
	"sync/atomic"
	"time"
)

// pulse is what the probe can show of its own life: that its runner turns, and
// when the collector answered last. Both are on Go's monotonic clock, which
// stands still while the box is suspended.
type pulse struct {
	began  time.Time
	turn   atomic.Int64 // ns since began
	answer atomic.Int64 // ns since began; 0: never
}

// stuck is how long a turn of the runner may take. It sleeps for 5 s at most, and
// a round of instruments ends within 10 s; the rest is for a slow disk.
const stuck = time.Minute

func newPulse() *pulse { return &pulse{began: time.Now()} }

func (p *pulse) turned() { p.turn.Store(int64(time.Since(p.began))) }

func (p *pulse) heard() { p.answer.Store(int64(max(time.Since(p.began), 1))) }

func (p *pulse) alive() bool { return time.Since(p.began)-time.Duration(p.turn.Load()) < stuck }

// Alive reports whether the runner turns: whether it measures what is due. It says
// nothing of the line, and never blocks.
func (p *Probe) Alive() bool { return p.pulse.alive() }

// Status is a line for people: who this is, whether the collector answers, how
// much waits for it.
func (p *Probe) Status() string {
	collector := "the collector has not answered yet"
	if at := p.pulse.answer.Load(); at > 0 {
		ago := time.Since(p.pulse.began) - time.Duration(at)
		collector = "the collector answers"
		if ago > 2*p.heartbeatInterval() {
			collector = fmt.Sprintf("the collector has been silent for %v", ago.Round(time.Second))
		}
	}
	return fmt.Sprintf("probe %s at %s: %s; %d batches wait (%d kB)", p.id.Probe, p.id.Site, collector,
		len(p.spool.Waiting()), (p.spool.WaitingBytes()+999)/1000)
}

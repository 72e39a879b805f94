package collector

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantau-desa/pantau/collector/state"
)

// pulse is what the collector can show of its own life: that its state engine,
// which notices everything else, goes on.
type pulse struct {
	began time.Time    // with Go's monotonic reading
	last  atomic.Int64 // when the engine asked last, ns since began
	once  sync.Once
	ready chan struct{} // closed when the first states of this run are kept
}

// deaf is how long the engine may not ask for its sites: it does so each minute.
const deaf = 150 * time.Second

func newPulse() *pulse { return &pulse{began: time.Now(), ready: make(chan struct{})} }

func (p *pulse) beat() { p.last.Store(int64(time.Since(p.began))) }

func (p *pulse) kept() { p.once.Do(func() { close(p.ready) }) }

func (p *pulse) alive() bool { return time.Since(p.began)-time.Duration(p.last.Load()) < deaf }

// Ready is closed once the collector serves: it listens, and the states of this
// run are in the journal for the first time.
func (c *Collector) Ready() <-chan struct{} { return c.pulse.ready }

// Alive reports whether the state engine goes on. It never blocks.
func (c *Collector) Alive() bool { return c.pulse.alive() }

// Status is a line for people: how many sites are in which state.
func (c *Collector) Status() string {
	n := map[state.State]int{}
	for _, s := range c.Snapshot().Sites {
		n[s.State]++
	}
	var parts []string
	for _, s := range state.States() {
		if n[s] > 0 {
			parts = append(parts, fmt.Sprintf("%d %v", n[s], s))
		}
	}
	if len(parts) == 0 {
		parts = []string{"the inventory has no sites"}
	}
	if !c.CaughtUp() {
		parts = append(parts, "the store catches up with the journal")
	}
	return strings.Join(parts, ", ")
}

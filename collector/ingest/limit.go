package ingest

import (
	"sync"
	"sync/atomic"
	"time"
)

// pace lets each key do something once an interval in the long run and burst
// times at once (GCRA, ITU-T I.371: one instant a key). Its memory is bounded:
// keys beyond that share one allowance.
type pace[K comparable] struct {
	interval, burst time.Duration
	most            int

	mu   sync.Mutex
	next map[K]time.Time // when the key's allowance would be whole again
}

func newPace[K comparable](interval time.Duration, burst, most int) *pace[K] {
	return &pace[K]{interval: interval, burst: time.Duration(burst) * interval, most: most, next: map[K]time.Time{}}
}

// take uses one of k's allowance. If there is none left, it says how long until
// there is.
func (p *pace[K]) take(k K, now time.Time) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k = p.slot(k, now)
	if wait = p.wait(k, now); wait > 0 {
		return wait, false
	}
	at := p.next[k]
	if at.Before(now) {
		at = now
	}
	p.next[k] = at.Add(p.interval)
	return 0, true
}

// look is take without taking.
func (p *pace[K]) look(k K, now time.Time) (wait time.Duration, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wait = p.wait(p.slot(k, now), now)
	return wait, wait <= 0
}

func (p *pace[K]) wait(k K, now time.Time) time.Duration {
	return p.next[k].Add(p.interval - p.burst).Sub(now)
}

// slot makes room for k, or returns the key that all without room share.
func (p *pace[K]) slot(k K, now time.Time) K {
	if _, ok := p.next[k]; ok || len(p.next) < p.most {
		return k
	}
	for old, at := range p.next {
		if !at.After(now) {
			delete(p.next, old)
		}
	}
	if len(p.next) < p.most {
		return k
	}
	var shared K
	return shared
}

// sparse keeps one cause from filling the log.
type sparse struct{ last atomic.Int64 }

// due is true at most once a minute.
func (s *sparse) due(now time.Time) bool {
	last := s.last.Load()
	return now.UnixNano()-last >= int64(time.Minute) && s.last.CompareAndSwap(last, now.UnixNano())
}

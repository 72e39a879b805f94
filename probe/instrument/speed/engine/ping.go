package engine

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/echo"
)

const (
	idleEchoes   = 10
	idleInterval = 50 * time.Millisecond
	// Under load: 98 bytes each way every 250 ms are 3 kbit/s. From so many bits per
	// second on, others ask in between, up to four in all: a queue changes by half
	// within a second, and the median of few round trips is off by a tenth of it.
	loadedInterval = 250 * time.Millisecond
	perAsker       = 2.5e6
	mostAskers     = 4
	echoWait       = 2 * time.Second
	// echoAge is how long a round trip tells of a queue.
	echoAge = time.Second
)

// echoed is a round trip and when it began.
type echoed struct {
	at  time.Time
	rtt time.Duration
}

// pinger measures latency beside a transfer, by ICMP. Its bytes are entered in
// the ledger.
type pinger struct {
	t    *transfer
	addr netip.Addr
	ctx  context.Context
	end  context.CancelFunc

	askers sync.WaitGroup
	asking int

	mu     sync.Mutex
	rtts   []echoed
	rx, tx uint64 // layer-2 bytes
}

// idle asks before the transfer; ok is false if nothing answered.
func (p *pinger) idle(ctx context.Context) (rtts []time.Duration, ok bool) {
	rtts = p.ask(ctx, echo.Burst{Address: p.addr, Count: idleEchoes, Interval: idleInterval, Wait: echoWait, Enough: idleEchoes})
	slices.Sort(rtts)
	return rtts, len(rtts) >= idleEchoes/2
}

// start asks again and again until stop or the end of ctx.
func (p *pinger) start(ctx context.Context) {
	p.ctx, p.end = context.WithCancel(ctx)
	p.follow(0)
}

// follow has as many ask as a transfer of so many bits per second bears. It never
// takes any back.
func (p *pinger) follow(rate float64) {
	for p.asking < min(max(int(rate/perAsker), 1), mostAskers) {
		after := time.Duration(p.asking) * loadedInterval / mostAskers
		p.asking++
		p.askers.Go(func() { p.run(after) })
	}
}

// stop ends the asking and waits for it. It may be called twice.
func (p *pinger) stop() {
	p.end()
	p.askers.Wait()
}

func (p *pinger) run(pause time.Duration) {
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(pause):
		}
		begin := time.Now()
		rtts := p.ask(p.ctx, echo.Burst{Address: p.addr, Count: 1, Interval: loadedInterval, Wait: echoWait, Enough: 1})
		p.mu.Lock()
		for _, rtt := range rtts {
			p.rtts = append(p.rtts, echoed{begin, rtt})
		}
		p.mu.Unlock()
		pause = max(loadedInterval-time.Since(begin), idleInterval)
	}
}

func (p *pinger) ask(ctx context.Context, b echo.Burst) []time.Duration {
	report, err := b.Run(ctx)
	p.t.o.Ledger.AddPackets(report.Received, report.Transmitted)
	rx, tx := report.Bytes()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rx, p.tx = p.rx+rx, p.tx+tx
	if err != nil && ctx.Err() == nil {
		p.t.o.Logger.Debug("no latency by ICMP", "err", err)
	}
	return report.RTTs
}

// during returns the round trips begun between two instants.
func (p *pinger) during(from, to time.Time) (rtts []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.rtts {
		if !e.at.Before(from) && e.at.Before(to) {
			rtts = append(rtts, e.rtt)
		}
	}
	return rtts
}

// latest returns the last round trip, if it ended lately; else 0.
func (p *pinger) latest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.rtts); n > 0 && time.Since(p.rtts[n-1].at.Add(p.rtts[n-1].rtt)) < echoAge {
		return p.rtts[n-1].rtt
	}
	return 0
}

func (p *pinger) own() (rx, tx uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rx, p.tx
}

// addressOf is the other end of a connection.
func addressOf(c net.Conn) (netip.Addr, bool) {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}, false
	}
	return a.AddrPort().Addr().Unmap(), true
}

// quantile is the q-th of d, 0 to 1, nearest rank; 0 of none.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

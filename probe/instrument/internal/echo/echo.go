// Package echo asks one address a short burst of ICMP echo requests (RFC 792,
// RFC 4443) through pro-bing, guarded against that library's traps.
//
// It guarantees that a burst ends in bounded time whatever the kernel or the
// library does, that every request counts (also one that the kernel refused to
// send), that a duplicate answer counts once, that an answer later than the
// burst's Wait is a lost one wherever in the burst it belongs (the Tmax of RFC
// 6673), and that a step of the wall clock does not change a round-trip time.
// Raw sockets (CAP_NET_RAW) are tried first, then the kernel's unprivileged ones.
//
// It refuses to judge: what loss means is for the instruments to say.
package echo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"time"

	probing "github.com/prometheus-community/pro-bing"

	"github.com/pantau-desa/pantau/probe/ledger"
)

// ErrPermission is returned where the system permits neither raw nor
// unprivileged ICMP. Its text says what to do.
var ErrPermission = errors.New("ICMP is not permitted: give the program CAP_NET_RAW " +
	"(setcap cap_net_raw+ep, or AmbientCapabilities=CAP_NET_RAW in its systemd unit) " +
	"or put its group into net.ipv4.ping_group_range")

// Burst is what to ask.
type Burst struct {
	Address  netip.Addr
	Count    int           // requests; at least 1
	Interval time.Duration // between two requests; above 0
	Wait     time.Duration // for the answer to each request; above 0
	// Enough ends the burst after so many answers. 0: never before the last.
	Enough int
	Logger *slog.Logger // nil: none
}

// Report is what became of a burst. It is complete up to the instant at which
// the burst ended.
type Report struct {
	Sent   int // requests that the kernel took
	Failed int // requests that it refused
	// SendError is why the last refused request was refused; nil if none was.
	SendError error
	// RTTs are the round-trip times of the answered requests, in the order of
	// sending.
	RTTs []time.Duration
	// Received and Transmitted are what the burst cost, late and duplicate answers
	// included.
	Received, Transmitted ledger.Packets
}

const (
	// slack is how long past its schedule a burst may run on a starved processor.
	slack = time.Second
	// grace is how long the library is given to return once it is told to.
	grace = 500 * time.Millisecond
)

// Run asks and waits. It returns within the burst's schedule ((Count-1) times
// Interval, plus Wait) and 1.5 s, or 0.5 s after ctx ends, with what is known by then. The
// error is [ErrPermission], ctx's, or the reason why no socket could be opened;
// requests that were refused or lost are no error.
func (b Burst) Run(ctx context.Context) (Report, error) {
	if b.Count < 1 || b.Interval <= 0 || b.Wait <= 0 || !b.Address.IsValid() {
		return Report{}, fmt.Errorf("echo: no burst: %d requests to %v every %v, waiting %v", b.Count, b.Address, b.Interval, b.Wait)
	}
	t := newTally(b)
	schedule := time.Duration(b.Count-1)*b.Interval + b.Wait
	limited, cancel := context.WithTimeout(ctx, schedule+slack)
	defer cancel()

	done := make(chan error, 1)
	go func() { done <- b.ask(limited, t) }()
	var err error
	select {
	case err = <-done:
	case <-limited.Done():
		select {
		case err = <-done:
		case <-time.After(grace):
			// The library hangs. Its goroutines end at their next call into the tally.
			t.abandon()
		}
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return t.report(), err
}

// ask opens session after session until every request was made. More than one
// is needed only where the library gives up early: at a refused first request, a
// prohibited route, an error on receipt.
func (b Burst) ask(ctx context.Context, t *tally) error {
	raw := true
	for {
		opened, err := b.session(ctx, t, raw)
		switch {
		case opened:
			if t.complete() {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(b.Interval):
			}
		case ctx.Err() != nil:
			return nil
		case raw && errors.Is(err, os.ErrPermission):
			raw = false
		case errors.Is(err, os.ErrPermission):
			return ErrPermission
		default:
			return fmt.Errorf("echo: no ICMP socket: %w", err)
		}
	}
}

// session makes the requests that are left with one pinger. opened is false, with
// the reason, if there was no socket to make them with.
func (b Burst) session(ctx context.Context, t *tally, raw bool) (opened bool, err error) {
	s := &session{tally: t, seqs: make(map[int]int)}
	p := probing.New(b.Address.String())
	p.SetIPAddr(&net.IPAddr{IP: b.Address.AsSlice(), Zone: b.Address.Zone()})
	p.SetPrivileged(raw)
	p.SetLogger(s)
	p.Count = b.Count - t.attempts()
	p.Interval = b.Interval
	p.Timeout = math.MaxInt64 // a ticker that never ticks: the tally and ctx end the session
	p.RecordRtts, p.RecordTTLs = false, false
	p.OnSetup = func() { opened = true }
	p.OnSend = s.sent
	p.OnSendError = s.sendFailed
	p.OnRecv = s.received
	p.OnDuplicateRecv = s.duplicate
	s.pinger = p
	defer s.close()
	err = p.RunWithContext(ctx)
	return opened, err
}

// Resolve returns the address that host stands for: itself if it is one, else
// the first that the resolver puts forward (RFC 6724 order), within timeout.
func Resolve(ctx context.Context, r *net.Resolver, host string, timeout time.Duration) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	addrs, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, err
	}
	return addrs[0].Unmap(), nil
}

// Bytes is what the burst cost the line in bytes of layer 2: an Ethernet header
// a packet, as package ledger counts.
func (r Report) Bytes() (rx, tx uint64) {
	const ethernetHeader = 14
	return r.Received.Bytes + r.Received.Count*ethernetHeader,
		r.Transmitted.Bytes + r.Transmitted.Count*ethernetHeader
}

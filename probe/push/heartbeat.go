package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// HeartbeatOptions of a Heart.
type HeartbeatOptions struct {
	Probe measure.ProbeID
	Key   []byte // HMAC
	Addr  string // host:port of the collector, udp
	Time  *Timekeeper
	// Interval between two beats; asked anew each time.
	Interval func() time.Duration
	// Fill adds what the probe knows of the line and of itself.
	Fill func(*wire.Heartbeat)
	// Acked is told of each answered beat: whether the one before went unanswered,
	// and the version of the configuration that the collector has. It must not
	// block.
	Acked func(afterSilence bool, configVersion uint64)
	// Dial opens each beat's socket, and counts its bytes and those of the look-up.
	Dial       func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Heart sends a beat every interval and repeats it until it is answered. Make it
// with NewHeart.
type Heart struct {
	opt      HeartbeatOptions
	counter  uint64
	silent   bool
	now      chan struct{}
	outcomes *prometheus.CounterVec
}

// NewHeart makes a heart.
func NewHeart(o HeartbeatOptions) *Heart {
	h := &Heart{opt: o, silent: true, now: make(chan struct{}, 1),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "pantau_probe_heartbeats_total",
			Help: "Heartbeats by whether the collector answered."}, []string{"answered"})}
	h.outcomes.WithLabelValues("true")
	h.outcomes.WithLabelValues("false")
	o.Registerer.MustRegister(h.outcomes)
	return h
}

// Beat asks for a beat now, such as when something changed.
func (h *Heart) Beat() {
	select {
	case h.now <- struct{}{}:
	default:
	}
}

// tries are when a beat is sent, from its start, until it is answered. Loss comes
// in bursts, so the gaps widen.
func tries() []time.Duration { return []time.Duration{0, 5 * time.Second, 15 * time.Second} }

// patience is how long the last try is waited for.
const patience = 5 * time.Second

// Run beats until ctx ends.
func (h *Heart) Run(ctx context.Context) error {
	for {
		next := time.After(h.opt.Interval())
		answered, err := h.beat(ctx)
		if ctx.Err() != nil {
			return nil
		}
		h.outcomes.WithLabelValues(fmt.Sprint(answered)).Inc()
		if !answered && !h.silent { // logged where silence begins, not at every beat
			h.opt.Logger.Warn("the collector does not answer heartbeats", "collector", h.opt.Addr, "err", err)
		}
		h.silent = !answered
		select {
		case <-ctx.Done():
			return nil
		case <-h.now:
		case <-next:
		}
	}
}

func (h *Heart) beat(ctx context.Context) (bool, error) {
	// A new socket for each beat: addresses and routes change under a probe, and
	// an ICMP error of long ago must not fail today's beat.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialing, dialed := context.WithTimeout(ctx, patience)
	conn, err := h.opt.Dial(dialing, "udp", h.opt.Addr)
	dialed()
	if err != nil {
		return false, err
	}
	var once sync.Once
	closeConn := func() { once.Do(func() { conn.Close() }) }
	defer closeConn()
	defer context.AfterFunc(ctx, closeConn)()

	start := time.Now()
	plan := tries()
	var earliest uint64 // counter of this beat's first try: any of its answers will do
	for i, at := range plan {
		if !sleep(ctx, time.Until(start.Add(at))) {
			return false, ctx.Err()
		}
		until := start.Add(at + patience)
		if i+1 < len(plan) {
			until = start.Add(plan[i+1])
		}
		r := h.opt.Time.Reading()
		// The counter rises with each datagram within a boot, across restarts of the
		// program: the monotonic clock does just that.
		h.counter = max(h.counter+1, uint64(r.Mono))
		if i == 0 {
			earliest = h.counter
		}
		ok, err := h.try(conn, r, earliest, until)
		if ok || errors.Is(err, net.ErrClosed) {
			return ok, err
		}
	}
	return false, errors.New("no answer to any try")
}

// try sends one datagram and waits until for its answer.
func (h *Heart) try(conn net.Conn, r clock.Reading, earliest uint64, until time.Time) (bool, error) {
	beat := wire.Heartbeat{Probe: h.opt.Probe, Boot: r.Boot, Counter: h.counter, Mono: r.Mono, Wall: r.Wall}
	h.opt.Fill(&beat)
	d, err := beat.Marshal(h.opt.Key)
	if err != nil {
		return false, err
	}
	if _, err := conn.Write(d); err != nil {
		if !sleepUntilClosed(conn, until) {
			return false, net.ErrClosed
		}
		return false, err
	}
	if err := conn.SetReadDeadline(until); err != nil {
		return false, err
	}
	buf := make([]byte, 256)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || errors.Is(err, net.ErrClosed) {
				return false, err
			}
			// An ICMP error (connection refused, no route): nothing will come before
			// the next try.
			if !sleepUntilClosed(conn, until) {
				return false, net.ErrClosed
			}
			return false, err
		}
		ack, err := wire.ParseHeartbeatAck(buf[:n], h.opt.Key, h.opt.Probe, r.Boot)
		if err != nil || ack.Counter < earliest || ack.Counter > h.counter {
			continue // not the collector, or the answer to an earlier beat
		}
		h.opt.Time.Learn(ack.CollectorTime, time.Duration(ack.Counter))
		h.opt.Acked(h.silent, ack.ConfigVersion)
		return true, nil
	}
}

// sleepUntilClosed waits on the socket, so that the end of the program ends it.
func sleepUntilClosed(conn net.Conn, until time.Time) bool {
	if conn.SetReadDeadline(until) != nil {
		return false
	}
	var one [1]byte
	for {
		_, err := conn.Read(one[:])
		var ne net.Error
		switch {
		case errors.As(err, &ne) && ne.Timeout():
			return true
		case errors.Is(err, net.ErrClosed):
			return false
		}
	}
}

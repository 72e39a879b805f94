// Package target is the measurement server: what the probes measure speed and
// latency against.
//
// It speaks, on one port, the HTTP paths below /speedtest/ that Ookla's legacy
// protocol uses (latency.txt, random{N}x{N}.jpg, upload.php) and Ookla's line
// protocol for TCP pings; which one, the first two bytes of a connection say.
//
// It guarantees that a body is incompressible and complete, or that its
// connection visibly breaks: a client never takes a short answer for a whole
// one. Work and memory are bounded by [Limits]; who comes above them gets 503
// with Retry-After. Whoever gives the requests of a test an id can ask what of
// it has arrived here and when, by this server's clock ([Reading]): the only
// place where an upload is seen whole. Told which collectors' tickets to trust, it
// measures for their probes alone; without, for everyone. It refuses every other path
// and method with 404, stores nothing, and reads nothing but the clock.
package target

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/measure"
)

// DefaultAddr is where a target listens when nothing else is said.
const DefaultAddr = ":7442"

// CongestionControlHeader names, in every HTTP response, the congestion control
// by which this server sends on that connection, such as "cubic" or "bbr". It
// decides what a download over a lossy line amounts to.
const CongestionControlHeader = "Pantau-Congestion-Control"

// Options of a Target. The zero value listens on [DefaultAddr].
type Options struct {
	// Addr is "host:port"; port 0 takes any. Unused if there are Listeners.
	Addr string
	// Listeners are served as well as one another; Run closes them.
	Listeners []net.Listener
	// Logger gets what an operator should know; a client's mistakes at debug
	// level. The default discards.
	Logger *slog.Logger
	// Registerer gets the metrics pantau_target_*. Without one they are not
	// exposed.
	Registerer prometheus.Registerer
	// Limits: a zero field takes its default.
	Limits Limits
	// Trust are the keys by which collectors sign tickets ([wire.Ticket]). With any,
	// nothing in bulk is moved without a ticket for ID, which is then required: the
	// inventory's id of this server. latency.txt and pings stay open. None: every client
	// may test.
	Trust []ed25519.PublicKey
	ID    measure.TargetID
	// Capacity is what this server's line carries in each direction, in bits per second:
	// a test learns when all tests together come near it. 0: not known.
	Capacity float64
}

// Limits bound what clients can make a target do.
type Limits struct {
	// Connections served at once, in all (default 1024) and per client address
	// (default 128; an IPv6 client is its /64 network). Carriers put many
	// villages behind one address, and a speed test takes about ten.
	Connections, ConnectionsPerAddress int
	// Tests is how many tests may be under way at once (default 50: what Connections has
	// room for, 16 streams and a few more each). Further ones get 503 before any byte in
	// bulk.
	Tests int
	// RequestBytes is the longest upload body in bytes (default 4 GiB). A
	// longer one is answered with 413.
	RequestBytes int64
	// ConnectionBytes is what a connection may carry, both ways; the response
	// that reaches it is complete and the last one (default 16 GiB).
	ConnectionBytes int64
	// RequestTime is the longest time for one request and its response
	// (default 60 s). A download that is not through by then is broken off.
	RequestTime time.Duration
	// HeaderTime (default 10 s) and HeaderBytes (default 8 KiB) bound a
	// request's header, and HeaderTime a connection's first two bytes.
	HeaderTime  time.Duration
	HeaderBytes int
	// IdleTime is how long a connection may wait for its next request or ping
	// (default 30 s).
	IdleTime time.Duration
	// StallTime is the longest time in which a client must take, or send, the
	// next piece (default 30 s; pieces are 256 KiB down, one byte up).
	StallTime time.Duration
	// RetryAfter is what a client above a limit is told to wait (default 10 s,
	// sent in whole seconds).
	RetryAfter time.Duration
}

func (l Limits) withDefaults() Limits {
	set(&l.Connections, 1024)
	set(&l.ConnectionsPerAddress, 128)
	set(&l.Tests, max(l.Connections/20, 1))
	set(&l.RequestBytes, 4<<30)
	set(&l.ConnectionBytes, 16<<30)
	set(&l.RequestTime, 60*time.Second)
	set(&l.HeaderTime, 10*time.Second)
	set(&l.HeaderBytes, 8<<10)
	set(&l.IdleTime, 30*time.Second)
	set(&l.StallTime, 30*time.Second)
	set(&l.RetryAfter, 10*time.Second)
	return l
}

func set[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Target is a measurement server, listening from New on and answering from Run
// on.
type Target struct {
	limits    Limits
	log       *slog.Logger
	metrics   *metrics
	listeners []net.Listener
	door      *door
	accounts  *accounts
	tests     *tests
	moved     moved
	trust     []ed25519.PublicKey
	id        measure.TargetID
	capacity  float64
	body      body
	line      lineProtocol
}

// New opens the port, if no listeners are given.
func New(o Options) (*Target, error) {
	if len(o.Trust) > 0 && o.ID == "" {
		return nil, errors.New("target: a server that trusts tickets must know its own id in the inventory")
	}
	t := &Target{limits: o.Limits.withDefaults(), log: o.Logger, listeners: o.Listeners, trust: o.Trust, id: o.ID, capacity: o.Capacity}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if t.body, err = newBody(); err != nil {
		return nil, err
	}
	if t.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	if len(t.listeners) == 0 {
		addr := o.Addr
		if addr == "" {
			addr = DefaultAddr
		}
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, err
		}
		t.listeners = []net.Listener{ln}
	}
	t.door, t.accounts, t.tests = newDoor(t.limits, t.metrics), newAccounts(), newTests(t.limits.Tests)
	t.line = lineProtocol{limits: t.limits, metrics: t.metrics}
	return t, nil
}

// Addr is the address of the first listener.
func (t *Target) Addr() net.Addr { return t.listeners[0].Addr() }

// Run serves until ctx ends, then breaks off what is under way, waits for it
// and returns nil. Any other end is an error. A Target runs once.
func (t *Target) Run(ctx context.Context) error {
	toHTTP := &handOver{conns: make(chan net.Conn), done: make(chan struct{}), addr: t.Addr()}
	server := &http.Server{
		Handler:                      t.handler(),
		ReadHeaderTimeout:            t.limits.HeaderTime,
		IdleTimeout:                  t.limits.IdleTime,
		MaxHeaderBytes:               t.limits.HeaderBytes,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
		ConnContext:                  withConn,
		Protocols:                    new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)

	var loops sync.WaitGroup
	failed := make(chan error, len(t.listeners)+1)
	for _, ln := range t.listeners {
		loops.Go(func() { failed <- t.accept(ln, toHTTP) })
	}
	loops.Go(func() { failed <- server.Serve(toHTTP) })
	t.log.Info("measurement server is answering", "addr", t.Addr().String(), "listeners", len(t.listeners), "demands_tickets", len(t.trust) > 0)

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	for _, ln := range t.listeners {
		ln.Close()
	}
	toHTTP.Close()
	server.Close()
	t.door.closeAll()
	loops.Wait()
	t.door.wait()
	return err
}

// accept lets connections in until the listener is closed. A passing failure,
// such as too many open files, is waited out.
func (t *Target) accept(ln net.Listener, toHTTP *handOver) error {
	const pause = 100 * time.Millisecond
	for {
		nc, err := ln.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			t.log.Error("cannot accept a connection", "err", err)
			select {
			case <-toHTTP.done:
				return err
			case <-time.After(pause):
			}
			continue
		}
		if c := t.door.enter(nc); c != nil {
			go t.greet(c, toHTTP) // ends with the connection, which the door owns
		}
	}
}

// greet finds out which protocol a connection speaks. Ookla's line protocol
// opens with HI, PING or QUIT; no HTTP method opens with these two letters.
func (t *Target) greet(c *conn, toHTTP *handOver) {
	c.SetReadDeadline(time.Now().Add(t.limits.HeaderTime))
	if err := c.peek(); err != nil {
		c.Close()
		return
	}
	c.SetReadDeadline(time.Time{})
	switch string(c.first[:]) {
	case "HI", "PI", "QU":
		defer c.Close()
		t.line.serve(c)
	default:
		toHTTP.give(c)
	}
}

// handOver is a listener that is fed by hand.
type handOver struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func (h *handOver) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

func (h *handOver) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handOver) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handOver) Addr() net.Addr { return h.addr }

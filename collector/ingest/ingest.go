// Package ingest is where probes reach the collector: batches, enrolments and wishes
// for tickets over TLS 1.3, signs of life as datagrams on the same port number.
//
// It guarantees:
//
//   - A batch that was answered with 200 is in the journal, byte for byte as the
//     probe signed it, and once: the same batch again gets the same
//     acknowledgement, also when both come at the same instant.
//   - Nothing is decompressed before its signature is verified; the memory of all
//     requests together is bounded, and too much is answered with 503 and a time,
//     never with silence or a loss.
//   - Every refusal has its status, its counter and one plain line.
//   - A datagram is answered only if its MAC is right, only to where it came from,
//     and with fewer bytes.
//
// It refuses every method and path that is not in its list with 404, and every
// TLS before 1.3.
package ingest

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/journal/index"
	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// DefaultAddr is where the collector listens, tcp and udp.
const DefaultAddr = ":7443"

// PathHeartbeat takes the datagram of a heartbeat as a body, where datagrams do
// not pass. The answer's body is the answering datagram.
const PathHeartbeat = "/v1/heartbeat"

// Journal makes a record durable: see [journal.Journal.Append].
type Journal interface {
	Append(context.Context, journal.Record) (journal.Position, error)
}

// Configs knows what each probe should do. It is asked for every batch and every
// heartbeat, so it must not block. A nil configuration with version 0 means that
// there is none, such as for a probe without a place in the inventory; the probe
// then keeps what it has.
type Configs interface {
	Config(id measure.ProbeID, at time.Time) (*wirepb.ProbeConfig, uint64, error)
}

// Batches is told of each batch once, after it is durable. sent is zero if the
// probe did not say. Nothing in b may be changed. It must not block.
type Batches interface {
	Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent)
}

// Beats is told of each sign of life that is newer than the last of its probe.
// arrived is when it reached this machine, which is earlier than now if the
// collector stood still. It must not block.
type Beats interface {
	Beat(b wire.Heartbeat, arrived time.Time)
}

// Tickets lets heavy tests begin: see package ticket.
type Tickets interface {
	Ask(id measure.ProbeID, target measure.TargetID) (wire.Ticket, string, error)
	Finish(id measure.ProbeID, ticket wire.TicketID)
}

// Options of a Server. Registry, Journal, Index, Configs, Batches and Beats are
// required.
type Options struct {
	// Addr is where to listen if no listeners are given, tcp and udp; port 0 takes
	// one that is free in both. Default: DefaultAddr.
	Addr string
	// Listeners and Packets are used instead of Addr. They are the server's: Run or
	// Close closes them.
	Listeners []net.Listener // without TLS
	Packets   []*net.UDPConn

	Registry *registry.Registry
	Journal  Journal
	Index    *index.Index // of Journal, with KeyOf
	Configs  Configs
	Batches  Batches
	Beats    Beats
	// Tickets answers wishes for heavy tests; nil: there are no tickets here, and the
	// path is not found.
	Tickets Tickets

	// MemoryBytes bounds what all requests in flight may hold. Default: 256 MiB.
	MemoryBytes int64
	// Connections bounds the open connections of each listener. Default: 10,000.
	Connections int
	// BatchesPerSecond is what one probe may push in the long run, and BatchBurst
	// how many at once. Defaults: 10 and 300, so that what was kept through three
	// days without a line (864 batches) is here within a minute.
	BatchesPerSecond float64
	BatchBurst       int
	// BodyTimeout is how long a request may take to arrive. Default: a minute, as
	// long as a probe waits for an answer.
	BodyTimeout time.Duration
	// JournalTimeout is how long a batch waits for the disk. Default: 20 s.
	JournalTimeout time.Duration

	Now        func() time.Time      // default: time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Server is made by New and started by Run.
type Server struct {
	opt     Options
	log     *slog.Logger
	metrics *metrics
	codec   *wire.Codec
	http    *http.Server

	memory    *semaphore.Weighted
	decoding  chan struct{}
	pushes    *pace[measure.ProbeID]
	wishes    *pace[measure.ProbeID]
	wrongs    *pace[netip.Prefix] // claims that failed, by where they came from
	pulses    pulses
	lastCried sparse // of missing configurations
	lastDisk  sparse // of a journal or an index that fails
}

// New makes a server and listens; nothing is answered before Run.
func New(o Options) (*Server, error) {
	if o.Registry == nil || o.Journal == nil || o.Index == nil || o.Configs == nil || o.Batches == nil || o.Beats == nil {
		return nil, errors.New("ingest: Registry, Journal, Index, Configs, Batches and Beats are required")
	}
	o.Addr = cmp.Or(o.Addr, DefaultAddr)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 256<<20)
	o.Connections = cmp.Or(o.Connections, 10_000)
	o.BatchesPerSecond = cmp.Or(o.BatchesPerSecond, 10)
	o.BatchBurst = cmp.Or(o.BatchBurst, 300)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, time.Minute)
	o.JournalTimeout = cmp.Or(o.JournalTimeout, 20*time.Second)
	if o.MemoryBytes < wire.MaxBody || o.Connections < 1 || o.BatchesPerSecond <= 0 || o.BatchBurst < 1 || o.BodyTimeout < 0 || o.JournalTimeout < 0 {
		return nil, fmt.Errorf("ingest: MemoryBytes must be %d or more, the other limits positive", wire.MaxBody)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	s := &Server{
		opt: o, log: o.Logger, codec: codec,
		memory:   semaphore.NewWeighted(o.MemoryBytes),
		decoding: make(chan struct{}, runtime.GOMAXPROCS(0)),
		pushes:   newPace[measure.ProbeID](time.Duration(float64(time.Second)/o.BatchesPerSecond), o.BatchBurst, maxPushers),
		wishes:   newPace[measure.ProbeID](wishEvery, wishBurst, maxPushers),
		wrongs:   newPace[netip.Prefix](wrongClaimEvery, wrongClaims, maxClaimers),
	}
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, err
	}
	if len(o.Listeners)+len(o.Packets) == 0 {
		l, p, err := listen(o.Addr)
		if err != nil {
			s.metrics.unregister()
			return nil, fmt.Errorf("ingest: %w", err)
		}
		s.opt.Listeners, s.opt.Packets = []net.Listener{l}, []*net.UDPConn{p}
	}
	s.http = s.newHTTP()
	for _, p := range s.opt.Packets {
		if err := prepare(p); err != nil {
			return nil, errors.Join(fmt.Errorf("ingest: udp %s: %w", p.LocalAddr(), err), s.Close())
		}
	}
	return s, nil
}

// listen takes the same port number for both.
func listen(addr string) (net.Listener, *net.UDPConn, error) {
	const tries = 10
	for try := 1; ; try++ {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, err
		}
		p, err := net.ListenPacket("udp", sameHost(addr, l.Addr()))
		if err == nil {
			return l, p.(*net.UDPConn), nil
		}
		err = errors.Join(err, l.Close())
		if _, port, _ := net.SplitHostPort(addr); port != "0" || try == tries {
			return nil, nil, err
		}
	}
}

// sameHost is the host of addr with the port that was given.
func sameHost(addr string, given net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(given.String())
	return net.JoinHostPort(host, port)
}

// Addr is the first listener's address: of the datagrams if there is no other.
func (s *Server) Addr() net.Addr {
	if len(s.opt.Listeners) > 0 {
		return s.opt.Listeners[0].Addr()
	}
	return s.opt.Packets[0].LocalAddr()
}

// Close gives the listeners free, for a server that will not be run.
func (s *Server) Close() error {
	errs := []error{s.http.Close()}
	for _, l := range s.opt.Listeners {
		errs = append(errs, l.Close())
	}
	for _, p := range s.opt.Packets {
		errs = append(errs, p.Close())
	}
	s.metrics.unregister()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, net.ErrClosed) })...)
}

// farewell is how long requests in flight may take to end.
const farewell = 10 * time.Second

// Run answers until ctx ends; then it takes nothing new, lets what is in flight
// end, and returns. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range s.opt.Listeners {
		g.Go(func() error {
			err := s.http.ServeTLS(netutil.LimitListener(l, s.opt.Connections), "", "")
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("ingest: %s: %w", l.Addr(), err)
		})
	}
	for _, p := range s.opt.Packets {
		g.Go(func() error {
			s.datagrams(ctx, p)
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		err := s.http.Shutdown(limited)
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // Close ends them; their probes will ask again
		}
		return errors.Join(err, s.Close())
	})
	return g.Wait()
}

func (s *Server) newHTTP() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	config := s.opt.Registry.TLS()
	config.MinVersion = tls.VersionTLS13
	return &http.Server{
		Handler:   s,
		TLSConfig: config,
		Protocols: protocols,
		// A probe has one batch in flight; a few more are for whatever stands before us.
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 16},
		ReadHeaderTimeout: min(10*time.Second, s.opt.BodyTimeout),
		ReadTimeout:       s.opt.BodyTimeout,
		WriteTimeout:      s.opt.BodyTimeout + s.opt.JournalTimeout + 10*time.Second,
		// A probe pushes every five minutes: a connection is worth keeping for what
		// follows at once, not until the next time.
		IdleTimeout:    15 * time.Second,
		MaxHeaderBytes: 8 << 10,
		// Strangers on the internet fail at TLS all day: nothing to decide.
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
}

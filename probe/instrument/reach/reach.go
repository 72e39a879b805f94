// Package reach asks, once in every slot, how far from the box things answer:
// the carrier towards the ONT, the LAN gateway, the first hop of the provider,
// targets beyond the ODP.
//
// It guarantees an answer within [Limit], and that a cut is a result: ok, with 0
// for what did not answer. One lost packet makes nothing unreachable: everything
// is asked three times. What cannot be known is left out, never 0.
//
// It refuses answers that may come from this side of the ODP: a refused
// connection from an address of the LAN, a name that resolves to one (which is
// what a router does that shows a page of its own during a cut), a first hop with
// an address of a home network.
package reach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/instrument/internal/echo"
	"github.com/pantau-desa/pantau/probe/instrument/internal/trace"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Method names how the figures come about; MethodVersion changes whenever the
// same line would give other figures.
const (
	Method        = "reach"
	MethodVersion = "1"
)

// Limit is the longest that Measure takes.
const Limit = 5 * time.Second

// MaxTargets is how many targets can be asked in one slot.
const MaxTargets = 16

// FlagNoICMP says that the system lets the probe send no ICMP: only TCP was asked.
const FlagNoICMP measure.Flag = "icmp_not_permitted"

// DefaultWait is how long an answer from beyond the ODP is waited for: long
// enough for two satellite hops and a full queue. It is also the longest that fits
// into Limit.
const DefaultWait = 3 * time.Second

// hop is a router on the way: the address it answers with, and at which hop
// limit (1 is the LAN gateway).
type hop struct {
	addr   netip.Addr
	limit  int
	missed int // slots in which it was silent although something beyond answered
}

// searched are the hop limits at which the first hop is searched. The gateway is
// left out; some providers' first routers say nothing, so a few more are asked.
func searched() []int { return []int{2, 3, 4, 5, 6, 7, 8} }

const (
	tries      = 3
	spacing    = 300 * time.Millisecond
	waitLAN    = time.Second             // for an answer from the LAN
	waitLookup = 1500 * time.Millisecond // for a name; its target is asked in what is left
	// moreTCP is what a connection is given beyond the wait: the kernel asks again
	// after 1 s and, at the latest, after 3 s (RFC 6298).
	moreTCP = time.Second
)

// Target is something beyond the ODP.
type Target struct {
	ID   measure.TargetID
	Host string // IPv4 or IPv6 address, which also works while names do not; or a name
	Port int    // TCP; 0: ICMP echo
}

// Options of an Instrument.
type Options struct {
	Targets []Target
	// FirstHop is the provider's first hop, asked by ICMP echo. Zero: it is found, by
	// the hop limit of requests towards TraceTo, where raw sockets are permitted. On
	// a box that is itself the village's router it should be given: what is found
	// there is the second hop.
	FirstHop netip.Addr
	// TraceTo is a host far beyond the first hop. Empty: the first target's.
	TraceTo string
	// Interface leads to the ONT. Empty: that of the default route.
	Interface string
	// Gateway is the LAN gateway. Zero: that of the default route.
	Gateway netip.Addr
	// Wait is how long an answer from beyond the ODP is waited for. 0: DefaultWait.
	Wait   time.Duration
	Ledger *ledger.Ledger // where the bytes are entered. nil: nowhere
	Logger *slog.Logger   // nil: none
}

func (o Options) validate() error {
	var errs []error
	if len(o.Targets) > MaxTargets {
		errs = append(errs, fmt.Errorf("reach: %d targets: at most %d", len(o.Targets), MaxTargets))
	}
	if o.Wait < 0 || o.Wait > DefaultWait {
		errs = append(errs, fmt.Errorf("reach: wait %v: 0 to %v", o.Wait, DefaultWait))
	}
	seen := make(map[measure.TargetID]bool)
	for i, t := range o.Targets {
		where := fmt.Sprintf("reach: target %d (%q)", i+1, t.ID)
		if t.ID == "" || seen[t.ID] {
			errs = append(errs, fmt.Errorf("%s: an id is needed that no other target has", where))
		}
		seen[t.ID] = true
		if t.Host == "" || strings.ContainsAny(t.Host, " /[]") {
			errs = append(errs, fmt.Errorf("%s: host %q: an address or a name is needed, without port or path", where, t.Host))
		}
		if t.Port < 0 || t.Port > 65535 {
			errs = append(errs, fmt.Errorf("%s: port %d: 1 to 65535 for TCP, 0 for ICMP", where, t.Port))
		}
	}
	return errors.Join(errs...)
}

// Instrument remembers, from slot to slot, what it found. Make it with New.
type Instrument struct {
	opt    Options
	logger *slog.Logger

	mu       sync.Mutex // one slot at a time; guards what follows
	way      way        // last seen with a default route
	hop      hop        // found; zero if not
	searched time.Duration
	ever     bool                  // searched is set
	addrs    map[string]netip.Addr // last resolved
}

// New makes an instrument. The error names every target that cannot be asked.
func New(o Options) (*Instrument, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.TraceTo == "" && len(o.Targets) > 0 {
		o.TraceTo = o.Targets[0].Host
	}
	in := &Instrument{opt: o, logger: o.Logger, addrs: make(map[string]netip.Addr)}
	if in.logger == nil {
		in.logger = slog.New(slog.DiscardHandler)
	}
	return in, nil
}

// answer is what became of asking one thing.
type answer int

const (
	unasked   answer = iota // could not be asked: says nothing
	forbidden               // could not be asked: ICMP is not permitted
	silent
	answered
)

// Measure asks everything at once. The values of an ok result, each 0 or 1, are
// carrier_up, lan_gateway_reachable and first_hop_reachable where they can be
// known, target_reachable for each target, and odp_reachable: 1 if the first hop
// or any target answered.
//
// A target answered if it replied to an echo, accepted a connection, or refused
// one from outside the LAN's prefixes (a router that refuses in its name cannot
// be told from it). One whose name cannot be resolved, now or in an earlier slot,
// did not. The LAN gateway answered if it replied to an echo; or, as many filter
// those, if its neighbour entry (ARP, NDP) is confirmed, it answers an ARP
// request, or something beyond it answered. Without carrier the gateway and what
// is beyond are 0 even where nothing could be asked.
//
// It is skipped with no_target if there is neither a target nor a first hop, and
// fails with permission if what there is can only be asked by ICMP and the system
// permits none; with cancelled if ctx ends first. Event time and boot are the
// caller's to fill in.
func (in *Instrument) Measure(ctx context.Context) measure.Result {
	in.mu.Lock()
	defer in.mu.Unlock()
	start := time.Now()
	res := measure.Result{Kind: measure.KindReach, Outcome: measure.OK, Instrument: Method, MethodVersion: MethodVersion}
	limited, cancel := context.WithTimeout(ctx, Limit-600*time.Millisecond) // an echo may take 0.5 s to end
	defer cancel()

	s := in.slot()
	s.ask(limited)
	s.conns.CloseAll()
	res.Duration = time.Since(start)
	res.BytesReceived, res.BytesSent = s.cost()
	if err := ctx.Err(); err != nil {
		return res.Fail(measure.ReasonCancelled, err.Error())
	}
	in.learn(s)

	beyond := append(slices.Clone(s.targets), s.first)
	something := slices.Contains(beyond, answered)
	asked := something || slices.Contains(beyond, silent)
	denied := slices.Contains(beyond, forbidden)
	cut := s.way.carrierKnown && !s.way.carrier
	switch {
	case asked || cut:
	case denied:
		return res.Fail(measure.ReasonPermission, echo.ErrPermission.Error())
	default:
		return res.Skip(measure.ReasonNoTarget, "neither a target nor the first hop of the provider is known")
	}

	if s.way.carrierKnown {
		res.Values = append(res.Values, value(measure.CarrierUp, "", s.way.carrier))
	}
	gateway := s.gateway
	switch {
	case something:
		gateway = answered
	case cut:
		gateway = silent
	}
	if gateway >= silent {
		res.Values = append(res.Values, value(measure.LANGatewayReachable, "", gateway == answered))
	}
	if s.first >= silent {
		res.Values = append(res.Values, value(measure.FirstHopReachable, "", s.first == answered))
	}
	for i, a := range s.targets {
		if a >= silent || cut {
			res.Values = append(res.Values, value(measure.TargetReachable, in.opt.Targets[i].ID, a == answered))
		}
	}
	res.Values = append(res.Values, value(measure.ODPReachable, "", something))
	if denied {
		res.Flags = append(res.Flags, FlagNoICMP)
	}
	return res
}

func value(m measure.Metric, target measure.TargetID, yes bool) measure.Value {
	v := measure.Value{Metric: m, Target: target}
	if yes {
		v.Number = 1
	}
	return v
}

// slot is the work of one call of Measure.
type slot struct {
	opt    Options
	logger *slog.Logger
	conns  *ledger.Group // TCP and look-ups
	way    way
	hop    hop
	search bool                  // for the first hop
	known  map[string]netip.Addr // addresses from earlier slots

	gateway, first answer
	targets        []answer

	mu     sync.Mutex // guards what follows
	addrs  map[string]netip.Addr
	rx, tx ledger.Packets
}

const (
	// searchEvery is the time between two searches for the first hop: one costs up
	// to 1.3 kB, and what is not found once is rarely found a minute later.
	searchEvery = 10 * time.Minute
	// hopPatience is after how many slots a silent first hop is given up, counting
	// only slots in which something beyond it answered: in a cut it is kept.
	hopPatience = 3
)

func (in *Instrument) slot() *slot {
	s := &slot{opt: in.opt, logger: in.logger, conns: in.opt.Ledger.Group(), hop: in.hop, known: in.addrs,
		targets: make([]answer, len(in.opt.Targets)), addrs: make(map[string]netip.Addr)}
	w, err := findWay(in.opt.Interface, in.opt.Gateway, in.way)
	if err != nil {
		in.logger.Warn("the kernel does not tell the default route", "err", err)
	}
	s.way = w
	s.search = in.hop == hop{} && (!in.ever || clock.Mono()-in.searched >= searchEvery)
	return s
}

// learn keeps what the next slot needs.
func (in *Instrument) learn(s *slot) {
	if s.way.index != 0 {
		in.way = s.way
	}
	for host, a := range s.addrs {
		in.addrs[host] = a
	}
	if s.search {
		in.searched, in.ever = clock.Mono(), true
	}
	switch {
	case s.first == answered:
		s.hop.missed = 0
	case s.hop != hop{} && slices.Contains(s.targets, answered):
		s.hop.missed++
	}
	if s.hop.missed >= hopPatience {
		s.hop, in.ever = hop{}, false
	}
	if s.hop.addr != in.hop.addr {
		in.logger.Info("first hop of the provider", "known", s.hop != hop{}, "address", s.hop.addr, "hops", s.hop.limit)
	}
	in.hop = s.hop
}

func (s *slot) ask(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.gateway = s.askGateway(ctx) })
	wg.Go(func() { s.first = s.askFirstHop(ctx) })
	for i, t := range s.opt.Targets {
		wg.Go(func() { s.targets[i] = s.askTarget(ctx, t) })
	}
}

func (s *slot) askTarget(ctx context.Context, t Target) answer {
	addr, err := s.resolve(ctx, t.Host)
	if err != nil {
		s.logger.Debug("target not resolved", "target", t.ID, "err", err)
		return silent
	}
	if t.Port == 0 {
		return s.echo(ctx, addr, s.opt.Wait)
	}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Wait+moreTCP)
	defer cancel()
	_, err = s.conns.DialContext(ctx, "tcp", netip.AddrPortFrom(addr, uint16(t.Port)).String())
	if err == nil || errors.Is(err, syscall.ECONNREFUSED) && !s.way.onLAN(addr) {
		return answered // the group closes it
	}
	return silent
}

// resolve returns the host's address: as of now, or else of an earlier slot. A
// name never stands for an address of the LAN, an address may be anything.
func (s *slot) resolve(ctx context.Context, host string) (addr netip.Addr, err error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	r := &net.Resolver{PreferGo: true, Dial: s.conns.DialContext}
	addr, err = echo.Resolve(ctx, r, host, waitLookup)
	if err == nil && s.way.onLAN(addr) {
		err = fmt.Errorf("%s resolves to %v, an address of the LAN", host, addr)
	}
	if err != nil {
		if addr, ok := s.known[host]; ok {
			return addr, nil
		}
		return netip.Addr{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs[host] = addr
	return addr, nil
}

func (s *slot) echo(ctx context.Context, addr netip.Addr, wait time.Duration) answer {
	r, err := echo.Burst{Address: addr, Count: tries, Interval: spacing, Wait: wait, Enough: 1, Logger: s.logger}.Run(ctx)
	s.charge(r.Received, r.Transmitted)
	switch {
	case errors.Is(err, echo.ErrPermission):
		return forbidden
	case len(r.RTTs) > 0:
		return answered
	case r.Sent+r.Failed == 0 && ctx.Err() == nil:
		s.logger.Warn("nothing could be asked by ICMP", "address", addr, "err", err)
	}
	return silent
}

func (s *slot) askGateway(ctx context.Context) answer {
	if !s.way.gateway.IsValid() {
		return unasked
	}
	a := s.echo(ctx, s.way.gateway, waitLAN)
	if a == answered || s.way.confirmed() {
		return answered
	}
	rx, tx, arp := s.way.arp(ctx)
	s.charge(rx, tx)
	return max(a, arp)
}

func (s *slot) askFirstHop(ctx context.Context) answer {
	if s.opt.FirstHop.IsValid() {
		return s.echo(ctx, s.opt.FirstHop, s.opt.Wait)
	}
	if s.opt.TraceTo == "" || s.hop == (hop{}) && !s.search {
		return unasked
	}
	dst, err := s.resolve(ctx, s.opt.TraceTo)
	if err != nil || s.way.onLAN(dst) {
		if s.hop == (hop{}) {
			return unasked
		}
		return silent
	}
	limits := []int{s.hop.limit}
	if s.search {
		limits = searched()
	}
	found, err := s.nearest(ctx, dst, limits)
	switch {
	case err != nil: // no raw socket: the hop stays unknown
		s.logger.Debug("the first hop cannot be searched", "err", err)
		return unasked
	case found != hop{}:
		s.hop = hop{addr: found.addr, limit: found.limit, missed: s.hop.missed}
		return answered
	case s.search:
		return unasked
	}
	return silent
}

// nearest is the nearest router on the way to dst that can be the provider's,
// zero if none answered; dst itself counts in any case. The error says why nothing
// could be asked.
//
// A known first hop is asked in this way too, not by echo: when the way changes,
// so does the answer.
func (s *slot) nearest(ctx context.Context, dst netip.Addr, limits []int) (hop, error) {
	var best hop
	heard := make(map[int]bool)
	t := trace.Trace{To: dst, Limits: limits, Tries: tries, Spacing: spacing, Wait: s.opt.Wait, Heard: func(a trace.Answer) bool {
		heard[a.Limit] = true
		if (a.Arrived || s.way.beyond(a.Address)) && (best.limit == 0 || a.Limit < best.limit) {
			best = hop{addr: a.Address, limit: a.Limit}
		}
		// None nearer is to be waited for.
		return best.limit != 0 && !slices.ContainsFunc(limits, func(l int) bool { return l < best.limit && !heard[l] })
	}}
	r, err := t.Run(ctx)
	s.charge(r.Received, r.Transmitted)
	return best, err
}

func (s *slot) charge(rx, tx ledger.Packets) {
	s.opt.Ledger.AddPackets(rx, tx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rx.Count += rx.Count
	s.rx.Bytes += rx.Bytes
	s.tx.Count += tx.Count
	s.tx.Bytes += tx.Bytes
}

// cost is what the slot moved, in bytes of layer 2.
func (s *slot) cost() (rx, tx uint64) {
	rx, tx = s.conns.Own()
	r, t := echo.Report{Received: s.rx, Transmitted: s.tx}.Bytes()
	return rx + r, tx + t
}

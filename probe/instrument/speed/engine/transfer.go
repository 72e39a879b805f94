package engine

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// tick is how often the bytes are looked at, where this side counts them.
const tick = 50 * time.Millisecond

// transfer is one test of one direction.
type transfer struct {
	o     Options
	noise []byte
	base  *url.URL
	kind  measure.Kind
	id    string
	token string // of the ticket; empty: none

	ctx     context.Context // ends with the caller's, and on the first failure
	end     context.CancelCauseFunc
	workers sync.WaitGroup

	bulk, side *ledger.Group // the streams; everything beside them
	address    string        // of the server, once it was reached
	lines      <-chan reading
	ping       *pinger

	passed  atomic.Int64 // bytes of body read
	length  atomic.Int64 // of the object; 0: not seen
	proxied atomic.Bool  // a header names a proxy or cache
	cc      string       // the server's congestion control, if it says

	nic nic // empty name: not known

	course   *course
	running  int             // streams
	began    time.Time       // local instant of the counting clock's zero
	last     reading         // of the server
	first    int64           // the server's clock at zero
	server   share           // it was busy
	shared   share           // another test of the site was under way
	progress time.Time       // local: when bytes last passed
	idle     []time.Duration // sorted round trips before the transfer
	dialTime time.Duration   // TCP's shortest round trip at rest, else that of a dial
}

// share counts looks and those that were bad.
type share struct{ all, bad int }

func (s *share) add(bad bool) {
	s.all++
	if bad {
		s.bad++
	}
}

func (s share) above(part float64) bool { return float64(s.bad) > part*float64(s.all) }

func newTransfer(ctx context.Context, i *Instrument, base *url.URL, kind measure.Kind) *transfer {
	var id [16]byte
	crand.Read(id[:])
	t := &transfer{o: i.o, noise: i.noise, base: base, kind: kind, id: hex.EncodeToString(id[:]), token: server.Ticket(ctx),
		bulk: i.o.Ledger.Group(), side: i.o.Ledger.Group(), course: newCourse(i.o.Limit, i.o.MostBytes, i.o.Full)}
	if ticket, err := wire.ReadTicket(t.token); err == nil {
		t.id = ticket.ID.String() + t.id[:16]
	}
	t.ctx, t.end = context.WithCancelCause(ctx)
	context.AfterFunc(t.ctx, func() { // whoever reads or writes learns it
		t.bulk.CloseAll()
		t.side.CloseAll()
	})
	return t
}

// stop ends everything and waits for it.
func (t *transfer) stop() {
	t.end(context.Canceled)
	t.bulk.CloseAll()
	t.side.CloseAll()
	t.workers.Wait()
}

// own is what the test has cost so far, in bytes of layer 2.
func (t *transfer) own() (rx, tx uint64) {
	add := func(r, x uint64) { rx, tx = rx+r, tx+x }
	add(t.bulk.Own())
	add(t.side.Own())
	if t.ping != nil {
		add(t.ping.own())
	}
	return rx, tx
}

// measure runs the test.
func (t *transfer) measure() (*finding, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	t.rest()
	if err := t.openChannel(); err != nil {
		return nil, err
	}
	if t.lines != nil {
		if err := t.await(); err != nil {
			return nil, err
		}
	}
	if t.nic.name != "" && !t.nic.read(t.o.Ledger) {
		t.nic.name = ""
	}
	t.began = time.Now()
	if t.ping != nil {
		t.ping.start(t.ctx)
		defer t.ping.stop()
	}
	return t.watch()
}

// check makes sure, before any bulk data, that what answers is a measurement
// server.
func (t *transfer) check() error {
	begin := time.Now()
	c, err := t.dial(t.side)
	if err != nil {
		return err
	}
	defer c.Close()
	t.dialTime = time.Since(begin)
	if a := c.RemoteAddr(); a != nil {
		t.address = a.String()
	}
	resp, err := t.ask(c, "latency.txt", "")
	if err == nil {
		if err = server.GoodStatus(resp); err != nil {
			return err
		}
		var b []byte
		if b, err = io.ReadAll(io.LimitReader(resp.Body, 64)); err == nil && strings.TrimSpace(string(b)) != server.Latency {
			return server.Fail(measure.ReasonNoServer, "latency.txt holds %q: not a measurement server", b)
		}
	}
	switch f := server.Explain(err); {
	case err == nil:
	case f.Reason == measure.ReasonShortBody || f.Reason == measure.ReasonOther:
		return server.Fail(measure.ReasonNoServer, "%s", f.Detail) // it took the connection and does not speak HTTP
	default:
		return f
	}
	t.cc = server.CongestionControl(resp.Header)
	if p := t.side.Path(); p.MinRTT > 0 {
		t.dialTime = p.MinRTT
	}
	if name, ok := findNIC(c.LocalAddr()); ok {
		t.nic.name = name
	}
	if addr, ok := addressOf(c); ok && !t.o.NoEcho {
		t.ping = &pinger{t: t, addr: addr}
	}
	return nil
}

// rest measures latency before the transfer.
func (t *transfer) rest() {
	if t.ping != nil {
		var ok bool
		if t.idle, ok = t.ping.idle(t.ctx); ok {
			t.course.rest = quantile(t.idle, 0.95)
			t.course.begins(quantile(t.idle, 0.5))
			return
		}
		t.ping = nil // its bytes were few, and are in the ledger
	}
	t.idle = []time.Duration{t.dialTime}
	t.course.begins(t.dialTime)
}

// await takes the server's first line: the zero of its clock.
func (t *transfer) await() error {
	wait := time.NewTimer(t.o.CheckTime)
	defer wait.Stop()
	select {
	case t.last = <-t.lines:
		t.first = t.last.Clock
		t.shared.add(t.last.SiteTests > 1)
		return nil
	case <-wait.C:
		return server.Fail(measure.ReasonTimeout, "the server does not tell what it receives")
	case <-t.ctx.Done():
		return context.Cause(t.ctx)
	}
}

// count returns which clock counts, and how: the server's for an upload that it
// tells of, else this box's.
func (t *transfer) remote() bool { return t.kind == measure.KindUpload && t.lines != nil }

// watch looks at what passes until the course says that it is enough.
func (t *transfer) watch() (*finding, error) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	t.progress = time.Now()
	t.course.passed.add(Point{0, t.counted()})
	var late share
	cpu, due := server.ProcessCPU(), time.Now().Add(tick)
	silent := 0 // ticks since progress
	patience := t.began.Add(t.o.Limit + t.o.CheckTime + t.o.StallTime)
	for {
		t.add(t.course.streams - t.running)
		select {
		case <-t.ctx.Done():
			return nil, context.Cause(t.ctx)
		case r := <-t.lines:
			t.heard(r)
		case <-ticker.C:
			now := time.Now()
			late.add(now.Sub(due) > tick/2)
			due = now.Add(tick)
			silent++
			if !t.remote() {
				t.look()
			}
		}
		now := time.Now()
		if t.progress.After(now.Add(-tick)) {
			silent = 0
		}
		// Half the looks at least: a box that does not get to look has not seen a
		// silence.
		if quiet := now.Sub(t.progress); quiet > t.o.StallTime && time.Duration(silent)*tick >= t.o.StallTime/2 && !t.starting() {
			return nil, server.Fail(measure.ReasonStalled, "no byte for %v, %v into the test", t.o.StallTime, now.Sub(t.began).Round(time.Second/10))
		}
		if now.After(patience) {
			return nil, server.Fail(measure.ReasonCPUStarved, "this box was too busy to end the test in time")
		}
		o := t.course.next()
		if end := t.course.passed.end(); t.ping != nil && end > leastWindow {
			t.ping.follow(t.course.passed.rate(end-leastWindow, end))
		}
		if o.stop == "" || t.quiet() || t.course.passed.rate(o.from, o.to) <= 0 {
			continue
		}
		if t.ctx.Err() != nil {
			return nil, context.Cause(t.ctx)
		}
		used := (server.ProcessCPU() - cpu).Seconds() / now.Sub(t.began).Seconds()
		f := t.find(o)
		if t.o.Trace != nil {
			t.o.Trace(Trace{Began: t.began, From: o.from, To: o.to, Changed: t.course.changed, Rest: t.course.rest,
				Points: t.course.passed, Looks: t.course.looks})
		}
		if late.above(0.2) || used > 0.9*float64(runtime.GOMAXPROCS(0)) {
			f.flag(measure.FlagCPUBound)
		}
		return f, nil
	}
}

// starting reports whether the first byte is still waited for: a download's has
// CheckTime, by the streams' own deadline.
func (t *transfer) starting() bool { return t.kind == measure.KindDownload && t.passed.Load() == 0 }

// quiet reports whether the bytes have ceased just now: a server that died
// shortly before the end must not pass for a slow line.
func (t *transfer) quiet() bool {
	s := t.course.passed
	return s.end()-s.moved() > 250*time.Millisecond+2*t.course.minRTT()
}

// counted is what has passed, by what this box can see.
func (t *transfer) counted() int64 {
	switch {
	case t.remote():
		return t.last.passed()
	case t.kind == measure.KindUpload:
		b, _ := t.bulk.Acked()
		return int64(b)
	}
	if b, ok := t.bulk.Arrived(); ok {
		return int64(b)
	}
	return t.passed.Load()
}

// look takes a point by this box's clock. Clock and bytes belong together: a
// look that took long is taken again.
func (t *transfer) look() {
	var p Point
	for range 5 {
		before := time.Since(t.began)
		p.Bytes = t.counted()
		after := time.Since(t.began)
		p.At = (before + after) / 2
		if after-before < 2*time.Millisecond {
			break
		}
	}
	t.append(p)
	if t.kind == measure.KindUpload {
		t.know(t.ownPath())
	}
}

// heard takes a line of the server's.
func (t *transfer) heard(r reading) {
	t.last = r
	t.server.add(r.busy())
	t.shared.add(r.SiteTests > 1)
	if !t.remote() {
		t.know(Look{RTT: time.Duration(r.RTT), MinRTT: time.Duration(r.MinRTT), Segments: r.Segments, Again: r.Retransmitted})
		return
	}
	t.append(Point{time.Duration(r.Clock - t.first), r.passed()})
	t.know(t.ownPath())
}

// ownPath is what this box's kernel knows of the streams.
func (t *transfer) ownPath() Look {
	p := t.bulk.Path()
	return Look{RTT: p.RTT, MinRTT: p.MinRTT, Segments: p.Segments, Again: p.Retransmitted}
}

// know adds what is known of the way now. Where ICMP is answered it is believed
// rather than TCP, whose round trips wait for delayed acknowledgements; but not
// where TCP's shortest is of another order: then something on the way answers for
// the server, and only the server's own round trips cross the rest of it.
func (t *transfer) know(p Look) {
	p.At = t.course.passed.end()
	if t.ping != nil && p.MinRTT <= 2*t.idle[len(t.idle)-1]+standingMost {
		if rtt := t.ping.latest(); rtt > 0 {
			p.RTT, p.MinRTT, p.Echo = rtt, t.idle[0], true
		}
	}
	t.course.looks = append(t.course.looks, p)
}

func (t *transfer) append(p Point) {
	if p.Bytes > t.course.passed.total() {
		t.progress = time.Now()
	}
	t.course.passed.add(p)
}

// add opens n more streams.
func (t *transfer) add(n int) {
	for range max(n, 0) {
		t.running++
		t.workers.Go(func() {
			c, err := t.dial(t.bulk)
			if err == nil {
				if t.kind == measure.KindDownload {
					err = t.download(c)
				} else {
					err = t.upload(c)
				}
				c.Close()
			}
			if err != nil && t.ctx.Err() == nil {
				t.end(server.Explain(err))
			}
		})
	}
}

// finding is what a test found.
type finding struct {
	rate         float64 // bits per second
	idle, loaded time.Duration
	retransmits  float64 // ratio; below 0: not known
	flags        []measure.Flag
}

func (f *finding) flag(fs ...measure.Flag) { f.flags = append(f.flags, fs...) }

func (f *finding) values(kind measure.Kind) []measure.Value {
	speed, loaded := measure.DownloadBitsPerSecond, measure.LoadedLatencySecondsDownload
	if kind == measure.KindUpload {
		speed, loaded = measure.UploadBitsPerSecond, measure.LoadedLatencySecondsUpload
	}
	vs := []measure.Value{{Metric: speed, Number: f.rate}}
	if f.idle > 0 {
		vs = append(vs, measure.Value{Metric: measure.IdleLatencySeconds, Number: f.idle.Seconds()})
	}
	if f.loaded > 0 {
		vs = append(vs, measure.Value{Metric: loaded, Number: f.loaded.Seconds()})
	}
	if f.retransmits >= 0 {
		vs = append(vs, measure.Value{Metric: measure.RetransmitRatio, Number: f.retransmits})
	}
	return vs
}

// find makes the figures and their flags.
func (t *transfer) find(o order) *finding {
	f := &finding{rate: t.course.passed.rate(o.from, o.to), retransmits: -1}
	f.flag(measure.Flag(fmt.Sprintf("streams_%d", t.running)), measure.Flag("stop_"+string(o.stop)))
	bulk := t.bulk.Path()
	if t.cc != "" {
		f.flag(measure.Flag(server.FlagCongestionPrefix + t.cc))
	}
	if bulk.CongestionControl != "" {
		f.flag(measure.Flag("probe_cc_" + bulk.CongestionControl))
	}
	if !t.course.saturated(o) {
		f.flag(FlagNotSaturated)
	}
	if !o.steady {
		f.flag(FlagUnsteady)
	}
	if t.server.above(0.2) {
		f.flag(FlagServerBusy)
	}
	if t.shared.above(0.2) { // one that just ended is gone after a line
		f.flag(FlagSharedLine)
	}
	if t.kind == measure.KindUpload && !t.remote() {
		f.flag(FlagAckedOnly)
	}
	if t.proxied.Load() || t.remote() && t.swallowed(f.rate) {
		f.flag(FlagProxySuspected)
	}
	segments, again := t.last.Segments, t.last.Retransmitted
	if t.kind == measure.KindUpload {
		segments, again = bulk.Segments, bulk.Retransmitted
	}
	if segments > 0 {
		f.retransmits = min(float64(again)/float64(segments), 1)
	}
	t.latency(f, o)
	t.interfaceFlags(f)
	return f
}

// interfaceFlags says what the box's own interface tells: others' traffic, its
// own limit, radio.
func (t *transfer) interfaceFlags(f *finding) {
	now := nic{name: t.nic.name}
	if t.nic.name == "" || !now.read(t.o.Ledger) {
		return
	}
	rx, tx := now.others(t.nic)
	if t.kind == measure.KindUpload {
		rx = tx
	}
	if rx > max(otherTraffic, otherTrafficShare*f.rate) {
		f.flag(measure.FlagCrossTraffic)
	}
	if most := now.speed(); most > 0 && f.rate > 0.9*most {
		f.flag(FlagNICLimited)
	}
	if now.radio() {
		f.flag(FlagWiFi)
	}
}

// swallowed reports whether the path acknowledged more than 5% more than the
// server can have received by now.
func (t *transfer) swallowed(rate float64) bool {
	acked, ok := t.bulk.Acked()
	if !ok {
		return false
	}
	// The server's last line is as old as its way here and the pause between two,
	// and what it says it has read may still lie in its sockets.
	underway := rate / 8 * (everyUpload + 2*t.bulk.Path().RTT).Seconds()
	slack := underway + float64(t.running*32<<10)
	return float64(acked)-float64(t.last.Received) > 0.05*float64(t.last.Received)+slack
}

// latency fills in round trips before and during the transfer.
func (t *transfer) latency(f *finding, o order) {
	f.idle = quantile(t.idle, 0.5)
	if t.ping != nil {
		t.ping.stop()
		// The counting clock's zero is the local one's to within a round trip.
		if rtts := t.ping.during(t.began.Add(o.from-leastWindow), time.Now()); len(rtts) > 0 {
			f.loaded = quantile(rtts, 0.5)
			return
		}
	}
	f.flag(FlagTCPLatency)
	var sum time.Duration
	var n int
	for _, p := range t.course.looks {
		if p.At >= o.from && p.At <= o.to && p.RTT > 0 {
			sum += p.RTT
			n++
		}
	}
	if n > 0 {
		f.loaded = sum / time.Duration(n)
	}
}

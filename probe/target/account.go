package target

import (
	"encoding/json"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/measure"
)

// pathReceived tells what has arrived here of one test, by this server's clock.
const pathReceived = "/speedtest/received"

// Reading is one line of what GET /speedtest/received?id=ID answers: what the
// requests with this id have moved so far. With &every=DURATION (50 ms to 5 s)
// lines follow one another until the client goes.
type Reading struct {
	// Clock is this server's monotonic clock in nanoseconds, read together with
	// what follows. Only differences mean anything.
	Clock int64 `json:"clock_ns"`
	// Received are bytes of upload bodies that were read from the sockets; Sent
	// are bytes of download bodies that were handed to the kernel.
	Received int64 `json:"received"`
	Sent     int64 `json:"sent"`
	// Arrived are bytes that came on the connections of the test's requests since
	// these began, read or not, with what waits behind a loss ([ledger.Arrival]).
	// 0: not known.
	Arrived int64 `json:"arrived,omitempty"`
	// Streams is how many of the test's requests are under way.
	Streams int `json:"streams"`
	// Segments and Retransmitted are what the test's open connections have sent,
	// with payload and again.
	Segments      uint64 `json:"segments"`
	Retransmitted uint64 `json:"retransmitted"`
	// RTT and MinRTT are of those connections' downloads, in nanoseconds: the mean of
	// their smoothed round trips (RFC 6298) and the shortest one. 0: none known.
	RTT    int64 `json:"rtt_ns"`
	MinRTT int64 `json:"min_rtt_ns"`
	// Tests is how many tests are under way here, this one included.
	Tests int `json:"tests"`
	// CPU is the share of its processors that this server has used since the line
	// before, 0 to 1.
	CPU float64 `json:"cpu"`
	// Load is the share of this server's capacity that all tests together used within
	// the last second or more, in the busier direction. nil: not known.
	Load *float64 `json:"load,omitempty"`
	// SiteTests is how many tests of the site that the ticket names are under way here,
	// this one included: two of them share a line. 0: there is no ticket.
	SiteTests int `json:"site_tests,omitempty"`
}

// moved is what all requests together have moved, in bytes of bodies.
type moved struct{ sent, received atomic.Int64 }

// loadSpan is the least time over which a load is taken: shorter ones see single
// writes.
const loadSpan = time.Second

// load measures a share of a capacity, again and again.
type load struct {
	of             *moved
	capacity       float64 // bits per second
	at             time.Time
	sent, received int64
	last           *float64
}

// look is the load over the last whole span; nil before there is one, and without a
// known capacity.
func (l *load) look(now time.Time) *float64 {
	if l.capacity <= 0 || now.Sub(l.at) < loadSpan && !l.at.IsZero() {
		return l.last
	}
	sent, received := l.of.sent.Load(), l.of.received.Load()
	if !l.at.IsZero() {
		share := float64(max(sent-l.sent, received-l.received)) * 8 / now.Sub(l.at).Seconds() / l.capacity
		l.last = &share
	}
	l.at, l.sent, l.received = now, sent, received
	return l.last
}

// testID is what an id may be: chosen by the client, at random.
var testID = regexp.MustCompile(`^[A-Za-z0-9]{16,32}$`)

const (
	// mostAccounts bounds the ids that are remembered; above it nothing is
	// accounted for and the question answered with 503.
	mostAccounts = 4096
	// accountAge is how long an id is remembered after its last request.
	accountAge = time.Minute

	leastEvery, mostEvery = 50 * time.Millisecond, 5 * time.Second
)

// account is what one test has moved.
type account struct {
	received, sent atomic.Int64

	// Guarded by accounts.mu.
	conns map[*conn]*share
	gone  int64     // bytes that arrived on what is no longer in conns
	users int       // requests under way, questions included
	last  time.Time // of the last one's end
}

// share is a connection's part in a test.
type share struct {
	requests    int   // under way
	first, last int64 // bytes that had arrived on it when they began; at the last look
}

// accounts knows the tests of the last minute.
type accounts struct {
	start time.Time

	mu   sync.Mutex
	byID map[string]*account
}

func newAccounts() *accounts { return &accounts{start: time.Now(), byID: make(map[string]*account)} }

// enter opens the account of a request. c is nil for a question. It returns nil
// for a request without a proper id, and when there are too many.
func (as *accounts) enter(r *http.Request, c *conn) (a *account, leave func()) {
	id := r.URL.Query().Get("id")
	if !testID.MatchString(id) {
		return nil, func() {}
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	if a = as.byID[id]; a == nil {
		as.forget()
		if len(as.byID) >= mostAccounts {
			return nil, func() {}
		}
		a = &account{conns: make(map[*conn]*share)}
		as.byID[id] = a
	}
	a.users++
	if c != nil {
		s := a.conns[c]
		if s == nil {
			s = new(share)
			if info := c.tcpInfo(); info != nil {
				s.first = c.arrived(info)
				s.last = s.first
			}
			a.conns[c] = s
		}
		s.requests++
	}
	return a, func() {
		as.mu.Lock()
		defer as.mu.Unlock()
		a.users--
		a.last = time.Now()
		if c != nil {
			s := a.conns[c]
			if s.requests--; s.requests == 0 {
				if info := c.tcpInfo(); info != nil {
					s.last = max(c.arrived(info), s.last)
				}
				a.gone += s.last - s.first
				delete(a.conns, c)
			}
		}
	}
}

// forget drops what nobody uses. The caller holds mu.
func (as *accounts) forget() {
	for id, a := range as.byID {
		if a.users == 0 && time.Since(a.last) > accountAge {
			delete(as.byID, id)
		}
	}
}

// read takes a reading whose clock and bytes belong together: one that took long
// is taken again.
func (as *accounts) read(a *account) Reading {
	var r Reading
	for range 5 {
		before := time.Since(as.start)
		r.Received, r.Sent = a.received.Load(), a.sent.Load()
		after := time.Since(as.start)
		r.Clock = int64(before+after) / 2
		if after-before < 100*time.Microsecond {
			break
		}
	}
	as.mu.Lock()
	defer as.mu.Unlock()
	var rtts, known int64
	r.Arrived = a.gone
	for c, s := range a.conns {
		r.Streams += s.requests
		info := c.tcpInfo()
		if info == nil {
			r.Arrived += s.last - s.first
			continue
		}
		s.last = max(c.arrived(info), s.last)
		r.Arrived += s.last - s.first
		r.Segments += uint64(info.Data_segs_out)
		r.Retransmitted += uint64(info.Total_retrans)
		known++
		rtts += int64(info.Rtt) * 1000
		if m := int64(info.Min_rtt) * 1000; info.Min_rtt != math.MaxUint32 && (r.MinRTT == 0 || m < r.MinRTT) {
			r.MinRTT = m
		}
	}
	if known > 0 {
		r.RTT = rtts / known
	}
	for _, other := range as.byID {
		if len(other.conns) > 0 {
			r.Tests++
		}
	}
	return r
}

// received answers the question, once or again and again.
func (t *Target) received(w http.ResponseWriter, r *http.Request, rc *http.ResponseController, site measure.SiteID, end time.Time) {
	a, leave := t.accounts.enter(r, nil)
	defer leave()
	if a == nil {
		if testID.MatchString(r.URL.Query().Get("id")) {
			w.Header().Set("Retry-After", "10")
			text(w, http.StatusServiceUnavailable, "too many tests\n")
			return
		}
		text(w, http.StatusBadRequest, "id: want 16 to 32 letters and digits\n")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	every, err := time.ParseDuration(r.URL.Query().Get("every"))
	if err != nil {
		line := t.accounts.read(a)
		line.SiteTests = t.tests.ofSite(site)
		json.NewEncoder(w).Encode(line)
		return
	}
	every = min(max(every, leastEvery), mostEvery)
	tick := time.NewTicker(every)
	defer tick.Stop()
	lines := json.NewEncoder(w)
	cpu, at := processCPU(), time.Now()
	all := load{of: &t.moved, capacity: t.capacity}
	for {
		line := t.accounts.read(a)
		line.SiteTests = t.tests.ofSite(site)
		used, now := processCPU(), time.Now()
		if spent := now.Sub(at); spent > 0 {
			line.CPU = min((used-cpu).Seconds()/spent.Seconds()/float64(runtime.GOMAXPROCS(0)), 1)
		}
		cpu, at = used, now
		line.Load = all.look(now)
		rc.SetWriteDeadline(earlier(end, now.Add(t.limits.StallTime)))
		if lines.Encode(line) != nil || rc.Flush() != nil || now.After(end) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

// tcpInfo is tcp(7) TCP_INFO; nil where it cannot be read.
func (c *conn) tcpInfo() (info *unix.TCPInfo) {
	c.control(func(fd uintptr) {
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			info = i
		}
	})
	return info
}

// arrived is what has come on the connection, in bytes. The caller holds
// accounts.mu.
func (c *conn) arrived(i *unix.TCPInfo) int64 {
	return int64(c.came.Look(time.Now(), i.Bytes_received, uint64(i.Data_segs_in), uint64(i.Rcv_ooopack), uint64(i.Rcv_mss)))
}

// processCPU is the processor time that this process has used.
func processCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

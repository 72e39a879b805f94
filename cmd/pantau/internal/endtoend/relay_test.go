package endtoend

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// An answer that is lost after the collector has written the batch: the batch is
// stored once, nothing is refused, and the probe gets its acknowledgement in the
// end.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, pace)
	w.serveReady()
	r := newRelay(t, w)
	d := newDiary()
	s := w.newSender("site-1", r.addr, d)

	const lost = 3
	r.drop.Store(lost)
	for range resultsPerBatch {
		if err := s.measure(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.seal(); err != nil {
		t.Fatal(err)
	}
	s.drained(t)

	if n := r.dropped.Load(); n != lost {
		t.Errorf("%d answers were lost on the way, want %d", n, lost)
	}
	for name, want := range map[string]float64{"pantau_ingest_batches_total": 1, "pantau_ingest_results_total": resultsPerBatch,
		"pantau_ingest_duplicates_total": lost, "pantau_ingest_refused_total": 0} {
		if got, ok := w.metric(name); !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for decision, want := range map[string]float64{"acknowledged": 1, "retry": lost, "wait": 0, "reject": 0, "fatal": 0} {
		if got := decisions(t, s.reg)[decision]; got != want {
			t.Errorf("the probe decided %s %v times, want %v", decision, got, want)
		}
	}
	w.ready()
	got := w.stored(`pantau_odp_reachable{probe="box-1"}`)
	d.hold(t, "box-1", got)
	if len(got) != resultsPerBatch || d.count(acked) != resultsPerBatch {
		t.Errorf("%d results are stored and %d acknowledged, want %d", len(got), d.count(acked), resultsPerBatch)
	}
	e := w.journalled("box-1")
	if e.hold(t); e.last != 1 {
		t.Errorf("%d batches are in the journal", e.last)
	}
}

func decisions(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() == "pantau_probe_push_answers_total" {
			for _, m := range f.Metric {
				out[m.Label[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return out
}

// relay stands between a probe and the collector, as a line does.
type relay struct {
	addr    string
	to      string
	drop    atomic.Int64 // how many answers are still to be lost
	dropped atomic.Int64
}

func newRelay(t *testing.T, w *world) *relay {
	t.Helper()
	l, err := net.Listen("tcp", w.free())
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String(), to: w.ingest}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		passing.Wait()
	})
	return r
}

// pass carries one connection. In TLS 1.3 the server speaks once, then the client
// ends the handshake and asks; what the server says after that is the answer, for
// it has no other message for a client that resumes no sessions (RFC 8446, section
// 4.6.1).
func (r *relay) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer server.Close()
	var greeted, asked atomic.Bool
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		defer server.Close()
		copyEach(server, client, func() bool {
			if greeted.Load() {
				asked.Store(true)
			}
			return true
		})
	})
	defer client.Close()
	copyEach(client, server, func() bool {
		greeted.Store(true)
		if asked.Load() && r.drop.Add(-1) >= 0 {
			r.dropped.Add(1)
			return false
		}
		return true
	})
}

// copyEach copies what arrives for as long as pass says so.
func copyEach(to, from net.Conn, pass func() bool) {
	buf := make([]byte, 64<<10)
	for {
		if err := from.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			return
		}
		n, err := from.Read(buf)
		if n > 0 {
			if !pass() {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

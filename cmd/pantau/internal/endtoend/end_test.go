package endtoend

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// slow seals nothing by itself for as long as the test runs.
const slow = "probes: {light: 10s, seal: 1h, transition: 1h, heartbeat: 5s, speed_mean: 30s, speed_duration: 2s, budget_fiber_gb: 100000}\n"

// SIGTERM ends a probe at once and cleanly: what no batch held yet is sealed,
// pushed and stored.
func TestProbeEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, slow)
	target := w.startTarget()
	w.serveReady()
	w.enroll("site-1")
	probe := w.probe("site-1")
	w.await("a round is measured", func() bool { return w.pending("site-1") > 200 })
	if n, _ := w.metric("pantau_ingest_batches_total"); n != 0 {
		t.Fatalf("%v batches came before the end", n)
	}
	probe.end()
	sealed, e := w.lastSealed("site-1"), w.journalled("box-1")
	if e.hold(t); sealed != 1 || e.last != sealed || len(e.reach) == 0 {
		t.Errorf("%d batches sealed, %d in the journal, with %d reach results", sealed, e.last, len(e.reach))
	}
	w.ready()
	var got []int64
	for _, s := range w.stored(`pantau_odp_reachable{probe="box-1"}`) {
		got = append(got, s.at)
	}
	if !slices.Equal(got, e.reach) {
		t.Errorf("stored %v, pushed %v", got, e.reach)
	}

	// Without a collector it ends as well, and keeps what it has.
	w.serving.end()
	probe = w.probe("site-1")
	w.await("another round is measured", func() bool { return w.pending("site-1") > 200 })
	probe.end()
	if n := len(w.waiting("site-1")); n != 1 || w.pending("site-1") != 0 {
		t.Errorf("%d batches and %d bytes wait", n, w.pending("site-1"))
	}
	target.end()
}

// SIGTERM ends a collector cleanly while probes push: what it acknowledged is
// there when it is back, and what it did not is pushed again.
func TestCollectorEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, pace)
	w.serveReady()
	flowing, stop := context.WithCancel(t.Context())
	defer stop()
	var senders []*sender
	var diaries []*diary
	var flows sync.WaitGroup
	for i := range 2 {
		d := newDiary()
		s := w.newSender(fmt.Sprintf("site-%d", i+1), w.ingest, d)
		senders, diaries = append(senders, s), append(diaries, d)
		flows.Go(func() {
			if err := s.flow(flowing); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		for _, d := range diaries {
			before := d.count(acked)
			w.await("results are acknowledged", func() bool { return d.count(acked) > before })
		}
		w.serving.end()
		w.serveReady()
	}
	stop()
	flows.Wait()
	for i, s := range senders {
		s.drained(t)
		w.ready()
		diaries[i].hold(t, fmt.Sprintf("box-%d", i+1), w.stored(fmt.Sprintf(`pantau_odp_reachable{probe="box-%d"}`, i+1)))
		w.journalled(s.id.Probe).hold(t)
	}
	w.serving.end()
}

package endtoend

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// kill -9 of the collector, of a probe and of a sender at ten random instants
// each, while results flow: what was promised is in the store exactly once, in the
// journal exactly once, and without a gap; and the journal alone makes the store
// again.
func TestKilled(t *testing.T) {
	t.Parallel()
	kills := 10
	if testing.Short() {
		kills = 2
	}
	w := newWorld(t, 4, pace)
	w.startTarget()
	w.serveReady()

	// Sites 1 and 2: senders of this process, which live through all of it.
	diaries := []*diary{newDiary(), newDiary(), newDiary()}
	flowing, stopFlow := context.WithCancel(t.Context())
	defer stopFlow()
	var senders []*sender
	var flows sync.WaitGroup
	for i, site := range []string{"site-1", "site-2"} {
		s := w.newSender(site, w.ingest, diaries[i])
		senders = append(senders, s)
		flows.Go(func() {
			if err := s.flow(flowing); err != nil {
				t.Error(err)
			}
		})
	}
	// Site 3: a sender that is killed. Site 4: the probe as it is shipped.
	w.enrollHere("site-3", w.ingest, w.path("site-3/state"))
	w.enroll("site-4")

	mortal := &mortal{w: w, diary: diaries[2]}
	mortal.start()
	probe := w.probe("site-4")
	var killers sync.WaitGroup
	killers.Go(func() { w.killCollector(kills, diaries[:2]) })
	killers.Go(func() { mortal.die(kills) })
	killers.Go(func() {
		for range kills {
			after(t, 2500*time.Millisecond)
			probe.kill()
			probe = w.probe("site-4")
		}
	})
	killers.Wait()
	if t.Failed() { // what is fatal there ends one killer only
		t.FailNow()
	}

	// Everybody goes on: the probe measures, what waits is pushed.
	w.ready()
	const reach = `pantau_odp_reachable{probe="box-%d"}`
	since := time.Now().UnixMilli()
	w.await("the probe's result of after its last death", func() bool {
		got := w.stored(fmt.Sprintf(reach, 4))
		return len(got) > 0 && got[len(got)-1].at > since
	})
	probe.end()
	stopFlow()
	flows.Wait()
	for _, s := range senders {
		s.drained(t)
	}
	mortal.end()
	for i, d := range diaries {
		t.Logf("box-%d: %d measured, %d kept, %d known to be acknowledged", i+1, d.count(tried), d.count(kept), d.count(acked))
		if d.count(acked) < 5*kills {
			t.Errorf("box-%d: only %d results were acknowledged: nothing flowed", i+1, d.count(acked))
		}
	}

	shipped := w.journalled("box-4")
	hold := func(when string) {
		t.Helper()
		w.ready()
		for i, d := range diaries {
			who := fmt.Sprintf("%s: box-%d", when, i+1)
			got := w.stored(fmt.Sprintf(reach, i+1))
			d.hold(t, who, got)
			if n, _ := w.one(fmt.Sprintf(`count_over_time(`+reach+`[10m])`, i+1)); int(n) != len(got) {
				t.Errorf("%s: %v samples are counted, %d are there", who, n, len(got))
			}
		}
		var got []int64
		for _, s := range w.stored(fmt.Sprintf(reach, 4)) {
			got = append(got, s.at)
		}
		if !slices.Equal(got, shipped.reach) {
			t.Errorf("%s: box-4: stored %v, acknowledged %v", when, got, shipped.reach)
		}
	}
	hold("after the last kill")
	w.serving.end()
	for i := range diaries {
		w.journalled(measure.ProbeID(fmt.Sprintf("box-%d", i+1))).hold(t)
	}
	shipped.hold(t)
	if head := w.lastSealed("site-4"); head != shipped.last {
		t.Errorf("box-4 sealed %d batches, %d are in the journal", head, shipped.last)
	}
	t.Logf("box-4: %d reach results in %d batches", len(shipped.reach), shipped.last)

	w.serveReady()
	hold("after a clean end")
	w.serving.end()
	if err := os.RemoveAll(w.path("collector/tsdb")); err != nil {
		t.Fatal(err)
	}
	w.serveReady()
	hold("from the journal alone")
	w.serving.end()
}

// after waits for a random instant within most.
func after(t *testing.T, most time.Duration) {
	select {
	case <-time.After(rand.N(most)):
	case <-t.Context().Done():
	}
}

// killCollector kills in turn a collector that answers, at an instant of its work,
// and one that has just been started, at an instant of its recovery.
func (w *world) killCollector(kills int, flowing []*diary) {
	for i := range kills {
		if i%2 == 0 {
			for _, d := range flowing {
				before := d.count(acked)
				w.await("results are acknowledged", func() bool { return d.count(acked) > before })
			}
		}
		after(w.t, 800*time.Millisecond)
		w.serving.kill()
		w.serve()
	}
}

// mortal is a sender as a process.
type mortal struct {
	w     *world
	diary *diary
	p     *program
	heard chan struct{} // all that it wrote is in the diary
}

func (m *mortal) start() {
	t := m.w.t
	t.Helper()
	r, wr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m.p = start(t, m.w.path("sender.log"), func(c *exec.Cmd) {
		c.Env = append(os.Environ(), senderDir+"="+m.w.path("site-3/state"))
		c.Stdout = wr
	}, os.Args[0])
	wr.Close()
	heard := make(chan struct{})
	m.heard = heard
	go func() {
		defer close(heard)
		defer r.Close()
		for lines := bufio.NewScanner(r); lines.Scan(); {
			var event string
			var slot int64
			if n, err := fmt.Sscan(lines.Text(), &event, &slot); n != 2 {
				t.Errorf("a sender says %q: %v", lines.Text(), err)
				return
			}
			m.diary.note(event, slot)
		}
	}()
}

// die is killed in turn at an instant of its work and soon after its start.
func (m *mortal) die(kills int) {
	for i := range kills {
		if i%2 == 0 {
			before := m.diary.count(kept)
			m.w.await("the sender measures", func() bool { return m.diary.count(kept) > before })
		}
		after(m.w.t, 1500*time.Millisecond)
		m.p.kill()
		<-m.heard
		m.start()
	}
}

// end lets it push what waits, then end.
func (m *mortal) end() {
	m.w.t.Helper()
	m.p.end()
	<-m.heard
}

// evidence is what the journal has of one probe.
type evidence struct {
	probe   measure.ProbeID
	batches map[wire.Epoch][]wire.Batch // in the order of the journal
	digests map[wire.Epoch]map[uint64][]wire.Digest
	reach   []int64 // slots of good reach results, ascending
	twice   []string
	last    uint64
}

// journalled reads the journal as it is on disk, beside the collector or without
// it.
func (w *world) journalled(id measure.ProbeID) *evidence {
	w.t.Helper()
	j, err := journal.Open(journal.Options{Dir: w.path("collector/journal"), ReadOnly: true})
	if err != nil {
		w.t.Fatal(err)
	}
	defer j.Close()
	codec, err := wire.NewCodec()
	if err != nil {
		w.t.Fatal(err)
	}
	e := &evidence{probe: id, batches: map[wire.Epoch][]wire.Batch{}, digests: map[wire.Epoch]map[uint64][]wire.Digest{}}
	slots := map[string]bool{}
	r := j.NewReader(journal.Position{})
	defer r.Close()
	for {
		rec, _, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if name, _ := rec.Header(wire.HeaderProbe); rec.Type != journal.Batch || name != string(id) {
			continue
		}
		b, err := codec.DecodeBatch(rec.Body)
		if err != nil {
			w.t.Fatal(err)
		}
		e.batches[b.Epoch] = append(e.batches[b.Epoch], b)
		if e.digests[b.Epoch] == nil {
			e.digests[b.Epoch] = map[uint64][]wire.Digest{}
		}
		e.digests[b.Epoch][b.Seq] = append(e.digests[b.Epoch][b.Seq], wire.DigestOf(rec.Body))
		e.last = max(e.last, b.Seq)
		for _, r := range b.Results {
			slot := r.MeasuredAt.UnixMilli()
			key := fmt.Sprintf("%s at %d", r.Kind, slot)
			if slots[key] {
				e.twice = append(e.twice, key)
			}
			slots[key] = true
			if r.Kind == measure.KindReach && r.Outcome == measure.OK {
				e.reach = append(e.reach, slot)
			}
		}
	}
	slices.Sort(e.reach)
	return e
}

// hold checks that the evidence is one unbroken chain: each batch once, each with
// the digest of the one before, each result in one batch.
func (e *evidence) hold(t *testing.T) {
	t.Helper()
	if len(e.batches) != 1 {
		t.Errorf("%s: %d epochs: a spool was lost", e.probe, len(e.batches))
	}
	if len(e.twice) > 0 {
		t.Errorf("%s: in two batches: %s", e.probe, strings.Join(e.twice, ", "))
	}
	for epoch, batches := range e.batches {
		digests := e.digests[epoch]
		for seq := uint64(1); seq <= e.last; seq++ {
			if n := len(digests[seq]); n != 1 {
				t.Errorf("%s: batch %d of %d is in the journal %d times", e.probe, seq, e.last, n)
			}
		}
		for _, b := range batches {
			if b.SpoolDropped != 0 {
				t.Errorf("%s: batch %d says that %d were dropped", e.probe, b.Seq, b.SpoolDropped)
			}
			if b.Seq > 1 && (len(digests[b.Seq-1]) == 0 || digests[b.Seq-1][0] != b.Previous) {
				t.Errorf("%s: batch %d does not follow the one before", e.probe, b.Seq)
			}
		}
	}
}

// lastSealed is the number of the last batch that a box that does not run has
// sealed, and checks that nothing waits in its spool.
func (w *world) lastSealed(site string) uint64 {
	w.t.Helper()
	if waiting := w.waiting(site); len(waiting) > 0 {
		w.t.Errorf("%s: %v wait in the spool", site, waiting)
	}
	if n := w.pending(site); n > 0 {
		w.t.Errorf("%s: %d bytes of results are in no batch", site, n)
	}
	raw, err := os.ReadFile(w.path(site + "/state/spool/head.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	var head struct {
		Seq uint64 `json:"last_sealed_seq"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		w.t.Fatal(err)
	}
	return head.Seq
}

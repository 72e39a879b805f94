package endtoend

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/spool"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// sender is a probe whose instrument is a counter: its spool, its identity and its
// push are those of the field, its results come many times a second.
type sender struct {
	id     enroll.Identity
	clocks *clock.System
	time   *push.Timekeeper
	spool  *spool.Spool
	up     *push.Uploader
	reg    *prometheus.Registry
	note   func(event string, slot int64)
	last   int64
	stop   func() error // of the uploader and the spool
}

// Events of a result's life, noted with its slot.
const (
	tried = "tried" // about to be appended
	kept  = "kept"  // the spool said that it is durable
	acked = "acked" // the collector said so
)

// figure is the value of the result of a slot: a sample in another's place shows.
func figure(slot int64) float64 { return float64(bits.OnesCount64(uint64(slot)) % 2) }

// openSender starts the push of an enrolled box.
func openSender(state string, note func(string, int64)) (*sender, error) {
	s := &sender{note: note, reg: prometheus.NewRegistry()}
	var err error
	if s.id, err = (enroll.State{Dir: state}).Identity(); err != nil {
		return nil, err
	}
	if s.clocks, err = clock.Open(); err != nil {
		return nil, err
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	s.spool, err = spool.Open(spool.Options{Dir: filepath.Join(state, "spool"), Codec: codec, Logger: log,
		NewEpoch: func() (e wire.Epoch) { rand.Read(e[:]); return e }})
	if err != nil {
		return nil, err
	}
	s.time = push.NewTimekeeper(s.clocks.Now, s.id.EnrolledAt)
	transport := &http.Transport{TLSClientConfig: push.PinnedTLS(s.id.CA, s.time.Floor), MaxIdleConns: 1}
	s.up = push.New(push.Options{Probe: s.id.Probe, Key: s.id.Key, Collector: s.id.Collector,
		Client: &http.Client{Transport: transport}, Store: noting{s.spool, codec, note}, Time: s.time,
		ConfigVersion: func() uint64 { return 0 }, Config: func(*wirepb.ProbeConfig, uint64) {}, OnSuccess: func() {},
		Logger: log, Registerer: s.reg})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.up.Run(ctx) }()
	s.stop = func() error {
		cancel()
		err := <-ended
		transport.CloseIdleConnections()
		return errors.Join(err, s.spool.Close())
	}
	return s, nil
}

// noting is a spool that notes what was acknowledged.
type noting struct {
	*spool.Spool
	codec *wire.Codec
	note  func(string, int64)
}

func (n noting) Acknowledge(seq uint64) error {
	body, err := n.Load(seq)
	if err != nil {
		return err
	}
	b, err := n.codec.DecodeBatch(body.Body)
	if err != nil {
		return err
	}
	for _, r := range b.Results {
		n.note(acked, r.MeasuredAt.UnixMilli())
	}
	return n.Spool.Acknowledge(seq)
}

// measure makes one result of this instant durable.
func (s *sender) measure() error {
	now := s.clocks.Now()
	for now.Wall.UnixMilli() <= s.last { // one instant, one sample
		now = s.clocks.Now()
	}
	at := now.Wall.Truncate(time.Millisecond)
	slot := at.UnixMilli()
	s.last = slot
	s.note(tried, slot)
	err := s.spool.Append(measure.Result{Kind: measure.KindReach, Outcome: measure.OK, Instrument: "endtoend", MethodVersion: "1",
		MeasuredAt: at, Monotonic: now.Mono - now.Wall.Sub(at), Boot: now.Boot,
		Values: []measure.Value{{Metric: measure.ODPReachable, Number: figure(slot)}}})
	if err == nil {
		s.note(kept, slot)
	}
	return err
}

// seal closes a batch of what was measured since the last.
func (s *sender) seal() error {
	now := s.time.Reading()
	_, err := s.spool.Seal(spool.Seal{Probe: s.id.Probe, At: now.Wall, Mono: now.Mono, Boot: now.Boot, Quality: now.Quality, Software: "endtoend",
		Budget: 30e9, BudgetSpent: 4e9})
	s.up.Wake()
	return err
}

// A sender's pace. The collector lets a probe push ten batches a second.
const (
	resultEvery     = 30 * time.Millisecond
	resultsPerBatch = 5
)

// flow measures and seals until ctx ends, then seals the rest.
func (s *sender) flow(ctx context.Context) error {
	t := time.NewTicker(resultEvery)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return s.seal()
		case <-t.C:
		}
		if err := s.measure(); err != nil {
			return err
		}
		if n%resultsPerBatch == 0 {
			if err := s.seal(); err != nil {
				return err
			}
		}
	}
}

// senderDir names the state directory of a sender that is a process of its own.
const senderDir = "PANTAU_ENDTOEND_SENDER"

// send is the life of a sender as a process: until SIGTERM, then until all is
// acknowledged. It writes each event to standard output, in one write.
func send(state string) (exit int) {
	// Only the flow ends with the signal.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var mu sync.Mutex
	s, err := openSender(state, func(event string, slot int64) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = os.Stdout.WriteString(fmt.Sprintf("%s %d\n", event, slot))
	})
	if err == nil {
		err = s.flow(ctx)
		for end := time.Now().Add(time.Minute); err == nil && len(s.spool.Waiting()) > 0; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				err = errors.New("not all was acknowledged")
			}
		}
		err = errors.Join(err, s.stop())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// diary is what is known of a sender's results.
type diary struct {
	mu    sync.Mutex
	slots map[string]map[int64]int // how often, by event
}

func newDiary() *diary {
	return &diary{slots: map[string]map[int64]int{tried: {}, kept: {}, acked: {}}}
}

func (d *diary) note(event string, slot int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots[event][slot]++
}

func (d *diary) count(event string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.slots[event])
}

// hold compares what is stored of one sender with what is known of it: all that
// was promised is there, once, as it was, and nothing else is.
func (d *diary) hold(t *testing.T, who string, got []sample) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	there := map[int64]bool{}
	for _, s := range got {
		switch {
		case there[s.at]:
			t.Errorf("%s: slot %d is stored twice", who, s.at)
		case d.slots[tried][s.at] == 0:
			t.Errorf("%s: slot %d is stored and was never measured", who, s.at)
		case s.v != figure(s.at):
			t.Errorf("%s: slot %d is stored as %v", who, s.at, s.v)
		}
		there[s.at] = true
	}
	for _, event := range []string{acked, kept} {
		var lost []int64
		for slot := range d.slots[event] {
			if !there[slot] {
				lost = append(lost, slot)
			}
		}
		if slices.Sort(lost); len(lost) > 0 {
			t.Errorf("%s: %d of %d %s results are not stored: %v ...", who, len(lost), len(d.slots[event]), event, lost[:min(len(lost), 5)])
		}
	}
}

// drained waits until a sender of this process has nothing left to push.
func (s *sender) drained(t *testing.T) {
	t.Helper()
	await(t, time.Minute, "every batch is acknowledged", func() bool { return len(s.spool.Waiting()) == 0 })
}

// newSender enrols the site's probe in this process.
func (w *world) newSender(site, collector string, d *diary) *sender {
	w.t.Helper()
	state := w.path(site + "/state")
	w.enrollHere(site, collector, state)
	s, err := openSender(state, d.note)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := s.stop(); err != nil {
			w.t.Error(err)
		}
	})
	return s
}

func (w *world) enrollHere(site, collector, state string) {
	w.t.Helper()
	code, err := wire.ParseClaimCode(w.claim(site))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := (enroll.State{Dir: state}).Enroll(w.t.Context(), enroll.Request{Collector: "https://" + collector, Code: code, Software: "endtoend"}); err != nil {
		w.t.Fatal(err)
	}
}

package push

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/spool"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

const boot = measure.BootID("0b5e6c1e-93a8-4b63-9a6e-2a5df3b3a001")

func TestDecide(t *testing.T) {
	for want, codes := range map[Decision][]int{
		Acknowledged: {200},
		Reject:       {400, 409, 413},
		Fatal:        {401, 403, 404},
		Wait:         {429, 503},
		Retry:        {100, 202, 204, 301, 302, 402, 418, 500, 502, 504, 511},
	} {
		for _, c := range codes {
			if got := Decide(c); got != want {
				t.Errorf("%d: %v, want %v", c, got, want)
			}
		}
	}
}

func TestBackoffGrowsAndIsBounded(t *testing.T) {
	prev := time.Duration(0)
	for n := 1; n < 100; n++ {
		low, high := backoff(n, 0), backoff(n, 0.999)
		if low < prev/2 || high > maxBackoff || low < minBackoff/2 {
			t.Fatalf("after %d failures: %v to %v", n, low, high)
		}
		prev = high
	}
	if prev < maxBackoff*9/10 {
		t.Fatalf("ends at %v", prev)
	}
}

// rig is an uploader on a real spool against a real HTTP server.
type rig struct {
	*Uploader
	spool  *spool.Spool
	server *httptest.Server
	mu     sync.Mutex
	got    []uint64 // seqs, in order of arrival
	answer func(w http.ResponseWriter, b wire.Batch, digest wire.Digest)
	config *wirepb.ProbeConfig
}

func newRig(t *testing.T, batches int) *rig {
	t.Helper()
	codec, err := wire.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	r := &rig{}
	r.spool, err = spool.Open(spool.Options{Dir: t.TempDir(), Codec: codec, Logger: log, NewEpoch: func() wire.Epoch { return wire.Epoch{1} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.spool.Close() })
	for i := range batches {
		if err := r.spool.Append(measure.Result{Kind: measure.KindReach, Outcome: measure.Failed, Reason: measure.ReasonTimeout, MeasuredAt: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.spool.Seal(spool.Seal{Probe: "p", At: time.Now(), Boot: boot}); err != nil {
			t.Fatal(err)
		}
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.answer = r.good
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		sig, _ := base64.StdEncoding.DecodeString(req.Header.Get(wire.HeaderSignature))
		if !wire.Verify(pub, body, sig) || req.Header.Get(wire.HeaderProbe) != "p" {
			t.Error("not signed by the probe")
		}
		if _, err := wire.ParseSent(req.Header.Get(wire.HeaderSent)); err != nil {
			t.Error(err)
		}
		b, err := codec.DecodeBatch(body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.got = append(r.got, b.Seq)
		answer := r.answer
		r.mu.Unlock()
		answer(w, b, wire.DigestOf(body))
	}))
	t.Cleanup(r.server.Close)
	c, err := clock.Open()
	if err != nil {
		t.Fatal(err)
	}
	r.Uploader = New(Options{Probe: "p", Key: key, Collector: r.server.URL, Client: r.server.Client(), Store: r.spool,
		Time: NewTimekeeper(c.Now), ConfigVersion: func() uint64 { return 7 },
		Config:    func(c *wirepb.ProbeConfig, v uint64) { r.mu.Lock(); r.config = c; r.mu.Unlock() },
		OnSuccess: func() {}, Logger: log, Registerer: prometheus.NewRegistry()})
	return r
}

func (r *rig) good(w http.ResponseWriter, b wire.Batch, d wire.Digest) {
	raw, _ := proto.Marshal(&wirepb.BatchResponse{Ack: wire.Ack{Epoch: b.Epoch, Seq: b.Seq, Digest: d, ReceivedAt: time.Now()}.Proto(),
		CollectorTimeNs: time.Now().UnixNano(), ConfigVersion: 8, Config: &wirepb.ProbeConfig{LanGateway: "192.0.2.1"}})
	w.Write(raw)
}

func TestNewestFirstUntilNothingWaits(t *testing.T) {
	r := newRig(t, 4)
	if pause := r.drain(t.Context()); pause != 0 {
		t.Fatalf("pauses %v", pause)
	}
	if want := []uint64{4, 3, 2, 1}; !slices.Equal(r.got, want) || len(r.spool.Waiting()) != 0 {
		t.Fatalf("arrived %v, waiting %v", r.got, r.spool.Waiting())
	}
	if r.config.GetLanGateway() != "192.0.2.1" {
		t.Fatal("the newer configuration was not taken")
	}
}

func TestWhatEachAnswerDoesToABatch(t *testing.T) {
	status := func(code int, header ...string) func(http.ResponseWriter, wire.Batch, wire.Digest) {
		return func(w http.ResponseWriter, _ wire.Batch, _ wire.Digest) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for _, c := range []struct {
		name     string
		answer   func(http.ResponseWriter, wire.Batch, wire.Digest)
		waits    int
		min, max time.Duration
	}{
		{"400 goes to quarantine", status(400), 0, 0, 0},
		{"409 goes to quarantine", status(409), 0, 0, 0},
		{"413 goes to quarantine", status(413), 0, 0, 0},
		{"401 keeps and asks hourly", status(401), 2, time.Hour, time.Hour},
		{"403 keeps and asks hourly", status(403), 2, time.Hour, time.Hour},
		{"404 keeps and asks hourly", status(404), 2, time.Hour, time.Hour},
		{"503 waits as told", status(503, "Retry-After", "17"), 2, 17 * time.Second, 17 * time.Second},
		{"429 without a time backs off", status(429), 2, 500 * time.Millisecond, time.Second},
		{"503 cannot silence a probe for a year", status(503, "Retry-After", "31536000"), 2, time.Hour, time.Hour},
		{"500 backs off", status(500), 2, 500 * time.Millisecond, time.Second},
		{"204 says nothing", status(204), 2, 500 * time.Millisecond, time.Second},
		{"200 of a captive portal", func(w http.ResponseWriter, _ wire.Batch, _ wire.Digest) { io.WriteString(w, "<html>login</html>") }, 2, 500 * time.Millisecond, time.Second},
		{"an empty 200", status(200), 2, 500 * time.Millisecond, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, 2)
			r.answer = c.answer
			pause := r.drain(t.Context())
			if got := len(r.spool.Waiting()); got != c.waits {
				t.Errorf("%d batches wait, want %d", got, c.waits)
			}
			if pause < c.min || pause > c.max {
				t.Errorf("pauses %v, want %v to %v", pause, c.min, c.max)
			}
		})
	}
}

func TestAnAcknowledgementOfAnotherBatchFreesNothing(t *testing.T) {
	r := newRig(t, 1)
	r.answer = func(w http.ResponseWriter, b wire.Batch, d wire.Digest) {
		d[0] ^= 1
		r.good(w, b, d)
	}
	if pause := r.drain(t.Context()); pause == 0 || len(r.spool.Waiting()) != 1 {
		t.Fatalf("pause %v, waiting %v", pause, r.spool.Waiting())
	}
}

func TestALostAnswerIsAskedAgain(t *testing.T) {
	r := newRig(t, 3)
	lost := 0
	r.answer = func(w http.ResponseWriter, b wire.Batch, d wire.Digest) {
		if lost++; lost <= 3 {
			panic(http.ErrAbortHandler) // taken, but the answer never arrives
		}
		r.good(w, b, d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	deadline := time.Now().Add(15 * time.Second)
	for len(r.spool.Waiting()) > 0 && time.Now().Before(deadline) {
		r.Wake()
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	if w := r.spool.Waiting(); len(w) > 0 {
		t.Fatalf("waiting %v", w)
	}
}

func TestTimekeeper(t *testing.T) {
	wall, mono := time.Unix(100, 0), time.Duration(0)
	now := func() clock.Reading { return clock.Reading{Wall: wall.Add(mono), Mono: mono, Boot: boot} }
	built := time.Unix(1_700_000_000, 0)
	k := NewTimekeeper(now, time.Time{}, built)
	if got := k.Floor(); !got.Equal(built) {
		t.Errorf("a box in 1970 judges certificates at %v", got)
	}
	truth := time.Unix(1_800_000_000, 0)
	mono = 10 * time.Second
	k.Learn(truth, 8*time.Second) // asked two seconds ago
	if got := k.Floor(); !got.Equal(truth.Add(time.Second)) {
		t.Errorf("%v, want the collector's time and half the round trip", got)
	}
	if q := k.Reading().Quality; q != measure.ClockUnknown {
		t.Errorf("a clock that is decades off is %v", q)
	}
	wall = truth.Add(-mono) // someone sets the clock right
	if q := k.Reading().Quality; q != measure.ClockCollector {
		t.Errorf("a clock that agrees is %v", q)
	}
	mono += time.Hour
	if got := k.Floor(); !got.Equal(truth.Add(time.Hour + time.Second)) {
		t.Errorf("an hour later: %v", got)
	}
	wall = time.Unix(4e9, 0) // and now far ahead: certificates must not seem expired
	if got := k.Floor(); !got.Equal(truth.Add(time.Hour + time.Second)) {
		t.Errorf("a box in 2096 judges certificates at %v", got)
	}
}

func TestHeartIsAnsweredAndNoticesTheEndOfSilence(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	key := bytes.Repeat([]byte{3}, wire.HeartbeatKeySize)
	go func() {
		buf := make([]byte, 200)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			b, err := wire.ParseHeartbeat(buf[:n], key)
			if err != nil {
				t.Error(err)
				return
			}
			ack, _ := wire.HeartbeatAck{Counter: b.Counter, CollectorTime: time.Now(), ConfigVersion: 42}.Marshal(key, b.Probe, b.Boot)
			pc.WriteTo([]byte("noise"), from)
			pc.WriteTo(ack, from)
		}
	}()
	c, err := clock.Open()
	if err != nil {
		t.Fatal(err)
	}
	type acked struct {
		afterSilence bool
		version      uint64
	}
	acks := make(chan acked, 10)
	h := NewHeart(HeartbeatOptions{Probe: "p", Key: key, Addr: pc.LocalAddr().String(), Time: NewTimekeeper(c.Now),
		Interval: func() time.Duration { return 20 * time.Millisecond }, Fill: func(b *wire.Heartbeat) { b.Carrier = wire.Yes },
		Acked: func(s bool, v uint64) { acks <- acked{s, v} }, Dial: new(net.Dialer).DialContext,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	for i, want := range []acked{{true, 42}, {false, 42}} {
		if got := <-acks; got != want {
			t.Errorf("answer %d: %+v, want %+v", i, got, want)
		}
	}
	cancel()
	<-done
}

func TestTriesWidenAndEndBeforeTheNextBeat(t *testing.T) {
	plan := tries()
	if fmt.Sprint(plan) != "[0s 5s 15s]" || plan[len(plan)-1]+patience > 30*time.Second {
		t.Fatal(plan)
	}
}

func TestUploaderWaitsButWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		u := &Uploader{wake: make(chan struct{}, 1), opt: Options{Store: countingStore{&calls}}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); u.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := calls.Load(); n != 1 {
			t.Fatalf("looked %d times within the first minute", n)
		}
		u.Wake()
		synctest.Wait()
		if calls.Load() != 2 {
			t.Fatal("a wake does not wake")
		}
		time.Sleep(idleLook)
		synctest.Wait()
		if n := calls.Load(); n != 3 {
			t.Fatalf("unasked it never looks: %d", n)
		}
		cancel()
		<-done
	})
}

// countingStore is empty and counts how often that is asked.
type countingStore struct{ n *atomic.Int64 }

func (c countingStore) Epoch() wire.Epoch                   { return wire.Epoch{} }
func (c countingStore) Waiting() []uint64                   { c.n.Add(1); return nil }
func (countingStore) Load(uint64) (s spool.Sealed, e error) { return }
func (countingStore) Acknowledge(uint64) error              { return nil }
func (countingStore) Quarantine(uint64) error               { return nil }

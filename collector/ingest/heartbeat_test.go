package ingest_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/ingest"
	"github.com/pantau-desa/pantau/collector/ingest/ingesttest"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

const otherBoot = measure.BootID("11111111-93a8-4b63-9a6e-2a5df3b3a001")

func dialUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	conn, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.UDPConn)
}

func marshal(t testing.TB, h wire.Heartbeat, key []byte) []byte {
	t.Helper()
	d, err := h.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func send(t testing.TB, conn net.Conn, d []byte) {
	t.Helper()
	if _, err := conn.Write(d); err != nil {
		t.Fatal(err)
	}
}

// hear is the next datagram, nil if none comes in time.
func hear(t testing.TB, conn *net.UDPConn, within time.Duration) []byte {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// exchange sends a beat and returns its answer, nil if there is none.
func exchange(t testing.TB, addr string, p ingesttest.Probe, h wire.Heartbeat) *wire.HeartbeatAck {
	t.Helper()
	conn := dialUDP(t, addr)
	send(t, conn, marshal(t, h, p.Heartbeat))
	d := hear(t, conn, 5*time.Second)
	if d == nil {
		return nil
	}
	ack, err := wire.ParseHeartbeatAck(d, p.Heartbeat, h.Probe, h.Boot)
	if err != nil {
		t.Fatal(err)
	}
	return &ack
}

func TestHeartbeat(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "kl-0001")
	c.SetConfig(p.ID, &wirepb.ProbeConfig{LanGateway: "192.0.2.1"})
	_, version, _ := c.Config(p.ID, time.Time{})
	want := wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 5, Mono: time.Hour, Wall: time.Unix(1_700_000_000, 0).UTC(),
		Carrier: wire.Yes, FirstHop: wire.No, Health: wire.HealthSpool}
	begin := time.Now()
	ack := exchange(t, c.Addr().String(), p, want)
	if ack == nil || ack.Counter != 5 || ack.ConfigVersion != version || ack.CollectorTime.Before(begin) || ack.CollectorTime.After(time.Now()) {
		t.Fatalf("%+v", ack)
	}
	beats := c.Beats()
	if len(beats) != 1 || beats[0].Beat != want || beats[0].Arrived.Before(begin.Add(-time.Millisecond)) || beats[0].Arrived.After(time.Now()) {
		t.Fatalf("%+v", beats)
	}
}

// Each step is one datagram; the answer comes at once or never.
func TestHeartbeatsInOrder(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	conn := dialUDP(t, c.Addr().String())
	for i, step := range []struct {
		boot     measure.BootID
		counter  uint64
		answered bool
		fresh    bool
		why      string
	}{
		{ingesttest.Boot, 10, true, true, "first"},
		{ingesttest.Boot, 10, true, false, "its answer was lost"},
		{ingesttest.Boot, 12, true, true, "one was lost on the way"},
		{ingesttest.Boot, 11, false, false, "overtaken, or replayed"},
		{ingesttest.Boot, 10, false, false, "replayed"},
		{otherBoot, 3, true, true, "rebooted: counts anew"},
		{ingesttest.Boot, 13, false, false, "of a boot that is over"},
		{otherBoot, 3, true, false, "repeated"},
		{otherBoot, 4, true, true, "goes on"},
	} {
		before := len(c.Beats())
		send(t, conn, marshal(t, wire.Heartbeat{Probe: p.ID, Boot: step.boot, Counter: step.counter}, p.Heartbeat))
		// A beat of another probe behind it shows that it was dealt with.
		if !step.answered {
			q := c.Enrol(t, measure.ProbeID("marker-"+string(rune('a'+i))))
			send(t, conn, marshal(t, wire.Heartbeat{Probe: q.ID, Boot: ingesttest.Boot, Counter: 1}, q.Heartbeat))
			if d := hear(t, conn, 5*time.Second); d == nil {
				t.Fatalf("%s: the marker is not answered", step.why)
			} else if _, err := wire.ParseHeartbeatAck(d, q.Heartbeat, q.ID, ingesttest.Boot); err != nil {
				t.Errorf("%s: it is answered", step.why)
			}
			before++
		} else {
			d := hear(t, conn, 5*time.Second)
			if ack, err := wire.ParseHeartbeatAck(d, p.Heartbeat, p.ID, step.boot); err != nil || ack.Counter != step.counter {
				t.Errorf("%s: %v %v", step.why, ack, err)
			}
		}
		if told := len(c.Beats()) > before; told != step.fresh {
			t.Errorf("%s: told %v", step.why, told)
		}
	}
	if n := count(t, c, "pantau_ingest_beats_ignored_total", "replayed"); n != 3 {
		t.Errorf("%v counted as replayed", n)
	}
	if got := counts(t, c, "pantau_ingest_beats_total"); got["fresh"] != 4+3 || got["repeated"] != 2 {
		t.Errorf("%v", got)
	}
}

func TestSilenceForStrangers(t *testing.T) {
	c := ingesttest.Start(t)
	p, gone := c.Enrol(t, "p"), c.Enrol(t, "gone")
	if err := c.Registry.Revoke("gone"); err != nil {
		t.Fatal(err)
	}
	beat := marshal(t, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 1}, p.Heartbeat)
	flipped := bytes.Clone(beat)
	flipped[40] ^= 1
	for _, test := range []struct {
		reason string
		d      []byte
	}{
		{"unknown_probe", marshal(t, wire.Heartbeat{Probe: "nobody", Boot: ingesttest.Boot, Counter: 1}, p.Heartbeat)},
		{"revoked", marshal(t, wire.Heartbeat{Probe: "gone", Boot: ingesttest.Boot, Counter: 1}, gone.Heartbeat)},
		{"signature", marshal(t, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 1}, make([]byte, 32))},
		{"signature", flipped},
		{"malformed", beat[:len(beat)-1]},
		{"malformed", append(bytes.Clone(beat), 0)},
		{"malformed", append(bytes.Clone(beat), make([]byte, 1400)...)},
		{"malformed", []byte{1}},
		{"malformed", []byte{}},
		{"malformed", bytes.Repeat([]byte{0xff}, wire.HeartbeatSize)},
	} {
		conn := dialUDP(t, c.Addr().String())
		before := count(t, c, "pantau_ingest_beats_ignored_total", test.reason)
		send(t, conn, test.d)
		q := c.Enrol(t, "marker")
		send(t, conn, marshal(t, wire.Heartbeat{Probe: q.ID, Boot: ingesttest.Boot, Counter: 1}, q.Heartbeat))
		d := hear(t, conn, 5*time.Second)
		if _, err := wire.ParseHeartbeatAck(d, q.Heartbeat, q.ID, ingesttest.Boot); err != nil {
			t.Errorf("%s: %x is answered with %x", test.reason, test.d, d)
		}
		if n := count(t, c, "pantau_ingest_beats_ignored_total", test.reason) - before; n != 1 {
			t.Errorf("%x: counted %v times as %s", test.d, n, test.reason)
		}
		if err := c.Registry.Revoke("marker"); err != nil {
			t.Fatal(err)
		}
	}
	for _, b := range c.Beats() {
		if b.Beat.Probe != "marker" {
			t.Errorf("told of %+v", b)
		}
	}
}

func TestNoAmplification(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	conn := dialUDP(t, c.Addr().String())
	d := marshal(t, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 1}, p.Heartbeat)
	for range 5 { // a recorded beat, again and again
		send(t, conn, d)
		answer := hear(t, conn, 5*time.Second)
		if len(answer) == 0 || len(answer) > len(d) {
			t.Fatalf("%d bytes for %d", len(answer), len(d))
		}
	}
	if more := hear(t, conn, 100*time.Millisecond); more != nil {
		t.Fatalf("a second answer: %x", more)
	}
}

// A collector with several addresses answers from the one that was asked.
func TestAnswerComesFromWhereItWasAsked(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		c := ingesttest.Start(t, func(o *ingest.Options) { o.Addr = listen })
		p := c.Enrol(t, "p")
		port := netip.MustParseAddrPort(c.Addr().String()).Port()
		asked := []string{"127.0.0.1", "127.0.0.2", "127.8.8.8"}
		if strings.HasPrefix(listen, "[") {
			asked = append(asked, "::1")
		}
		for i, addr := range asked {
			to := netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
			if exchange(t, to, p, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: uint64(i + 1)}) == nil {
				t.Errorf("%s asked, no answer from there (listening on %s)", to, listen)
			}
		}
	}
}

// Beats that wait in the kernel while the collector stands still are told with the
// time of their arrival.
func TestBeatsQueuedOverAStall(t *testing.T) {
	p, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	hold := &stalling{enter: make(chan struct{}), leave: make(chan struct{})}
	c := ingesttest.Start(t, func(o *ingest.Options) {
		o.Packets = []*net.UDPConn{p}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listeners = []net.Listener{l}
		hold.next = o.Beats
		o.Beats = hold
	})
	a, b := c.Enrol(t, "a"), c.Enrol(t, "b")
	conn := dialUDP(t, p.LocalAddr().String())
	send(t, conn, marshal(t, wire.Heartbeat{Probe: a.ID, Boot: ingesttest.Boot, Counter: 1}, a.Heartbeat))
	<-hold.enter // the collector stands still
	sent := time.Now()
	send(t, conn, marshal(t, wire.Heartbeat{Probe: b.ID, Boot: ingesttest.Boot, Counter: 1}, b.Heartbeat))
	const stall = 500 * time.Millisecond
	time.AfterFunc(stall, func() { close(hold.leave) })
	for len(c.Beats()) < 2 {
		select {
		case <-c.Heard():
		case <-time.After(5 * time.Second):
			t.Fatal("not told")
		}
	}
	got := c.Beats()[1]
	if got.Beat.Probe != "b" || got.Arrived.Before(sent.Add(-time.Millisecond)) || got.Arrived.Sub(sent) > stall/2 {
		t.Errorf("arrived %v after it was sent", got.Arrived.Sub(sent))
	}
}

type stalling struct {
	next         ingest.Beats
	once         sync.Once
	enter, leave chan struct{}
}

func (s *stalling) Beat(b wire.Heartbeat, arrived time.Time) {
	s.once.Do(func() { close(s.enter) })
	<-s.leave
	s.next.Beat(b, arrived)
}

func TestHeartbeatByHTTPS(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	for i, http2 := range []bool{false, true} {
		h := wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: uint64(i + 1)}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+ingest.PathHeartbeat, bytes.NewReader(marshal(t, h, p.Heartbeat)))
		if err != nil {
			t.Fatal(err)
		}
		got := do(t, c.Client(t, http2), r)
		ack, err := wire.ParseHeartbeatAck(got.body, p.Heartbeat, p.ID, ingesttest.Boot)
		if got.status != 200 || err != nil || ack.Counter != h.Counter || len(c.Beats()) != i+1 {
			t.Errorf("%d, %v, %+v", got.status, err, ack)
		}
	}
}

// BenchmarkDatagrams is the whole way of beats of a country's probes through a
// socket, with a window of 64 unanswered ones; client and collector share the
// cores. One core must do more than 5,000 a second; 84,000 probes make 2,800.
func BenchmarkDatagrams(b *testing.B) {
	c := ingesttest.Start(b, func(o *ingest.Options) { o.Beats = deaf{} })
	const probes = 200
	keys := make([]ingesttest.Probe, probes)
	for i := range keys {
		keys[i] = c.Enrol(b, measure.ProbeID("p"+string(rune('a'+i/26))+string(rune('a'+i%26))))
	}
	datagrams := make([][]byte, b.N)
	for i := range datagrams {
		p := keys[i%probes]
		datagrams[i] = marshal(b, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: uint64(i + 1)}, p.Heartbeat)
	}
	conn := dialUDP(b, c.Addr().String())
	window := make(chan struct{}, 64)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for _, d := range datagrams {
			window <- struct{}{}
			if _, err := conn.Write(d); err != nil {
				b.Error(err)
				return
			}
		}
	}()
	buf := make([]byte, 256)
	for range datagrams {
		if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
		<-window
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "beats/s")
}

type deaf struct{}

func (deaf) Beat(wire.Heartbeat, time.Time) {}

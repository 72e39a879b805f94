package ledger

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// serve accepts on the loopback and hands each connection to handle, until the
// test ends.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, ln, handle)
	return ln.Addr().String()
}

func serveOn(t *testing.T, ln net.Listener, handle func(net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
}

func dial(t *testing.T, d DialFunc, network, addr string) net.Conn {
	t.Helper()
	c, err := d(t.Context(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// exchange sends payload to an echo and reads it back.
func exchange(t *testing.T, c net.Conn, payload []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(payload)
		sent <- err
	}()
	if _, err := io.ReadFull(c, make([]byte, len(payload))); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what another process (here the kernel) does in its time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func TestGroupCountsPayloadOfOpenAndClosedConnections(t *testing.T) {
	addr := serve(t, func(c net.Conn) { io.Copy(c, c) })
	l := New(Options{})
	g := l.Group()
	defer g.CloseAll()
	const size, conns = 300_000, 4
	payload := bytes.Repeat([]byte("pantau"), size/6)
	for i := range conns {
		c := dial(t, g.DialContext, "tcp", addr)
		exchange(t, c, payload)
		if i%2 == 0 {
			c.Close()
		}
	}
	eventually(t, "everything acknowledged", func() bool {
		acked, ok := g.Acked()
		return ok && acked == size*conns
	})
	check := func(when string) {
		t.Helper()
		acked, ok := g.Acked()
		if g.Received() != size*conns || g.Written() != size*conns || acked != size*conns || !ok {
			t.Errorf("%s: received %d, written %d, acked %d (%v), want %d each",
				when, g.Received(), g.Written(), acked, ok, size*conns)
		}
	}
	check("two open")
	g.CloseAll()
	check("all closed")
	rx, tx := g.Own()
	lrx, ltx := l.Own()
	if rx != lrx || tx != ltx {
		t.Errorf("group %d/%d, ledger %d/%d: must be the same with one group", rx, tx, lrx, ltx)
	}
	if rx < size*conns || tx < size*conns {
		t.Errorf("layer 2 %d/%d is less than the payload", rx, tx)
	}
}

func TestAckedIsNotWritten(t *testing.T) {
	release := make(chan struct{})
	addr := serve(t, func(net.Conn) { <-release }) // reads nothing
	defer close(release)
	g := New(Options{}).Group()
	defer g.CloseAll()
	c := dial(t, g.DialContext, "tcp", addr)
	c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	buf := make([]byte, 64<<20) // more than both kernels' buffers hold
	if _, err := c.Write(buf); !errors.Is(err, syscall.ETIMEDOUT) && err == nil {
		t.Fatal("a server that reads nothing took 64 MiB")
	}
	acked, ok := g.Acked()
	if !ok || acked == 0 || acked >= g.Written() {
		t.Errorf("acked %d (%v), written %d: want 0 < acked < written", acked, ok, g.Written())
	}
}

func TestCloseAllStopsWhoeverUsesTheConnections(t *testing.T) {
	peerSaw := make(chan error, 1)
	addr := serve(t, func(c net.Conn) {
		_, err := io.Copy(io.Discard, c)
		peerSaw <- err
	})
	g := New(Options{}).Group()
	c := dial(t, g.DialContext, "tcp", addr)
	c.Write([]byte("x"))
	blocked := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		blocked <- err
	}()
	g.CloseAll()
	g.CloseAll()
	if err := <-blocked; !errors.Is(err, net.ErrClosed) {
		t.Errorf("blocked read got %v, want net.ErrClosed", err)
	}
	if err := <-peerSaw; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("peer saw %v, want a reset", err)
	}
	if _, err := g.DialContext(t.Context(), "tcp", addr); !errors.Is(err, ErrClosed) {
		t.Errorf("dial after CloseAll: %v, want ErrClosed", err)
	}
}

func TestCloseAllEndsDialsUnderWay(t *testing.T) {
	dialling := make(chan struct{})
	l := New(Options{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	g := l.Group()
	go func() { <-dialling; g.CloseAll() }()
	if _, err := g.DialContext(t.Context(), "tcp", "192.0.2.1:1"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// A dialler that pays no heed to its context must not smuggle a connection in.
func TestDialThatEndsAfterCloseAllIsClosed(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	var g *Group
	l := New(Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		g.CloseAll()
		return near, nil
	}})
	g = l.Group()
	if _, err := g.DialContext(t.Context(), "tcp", "192.0.2.1:1"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if _, err := near.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is still open: %v", err)
	}
}

// plain hides everything of a connection but net.Conn.
type plain struct{ net.Conn }

func TestWithoutTCPInfo(t *testing.T) {
	addr := serve(t, func(c net.Conn) { io.Copy(c, c) })
	l := New(Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return plain{c}, err
	}})
	g := l.Group()
	defer g.CloseAll()
	c := dial(t, g.DialContext, "tcp", addr)
	const size = 14480 // ten segments
	exchange(t, c, make([]byte, size))
	if _, ok := g.Acked(); ok {
		t.Error("Acked claims to know")
	}
	if g.Received() != size {
		t.Errorf("received %d, want %d", g.Received(), size)
	}
	if rx, tx := l.Own(); rx != size+15*66 || tx != size+15*66 {
		t.Errorf("estimate %d/%d, want %d: ten segments and five acknowledgements each way", rx, tx, size+15*66)
	}
}

func TestDatagramsAndPackets(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	l := New(Options{})
	c := dial(t, l.DialContext, "udp", pc.LocalAddr().String())
	for range 3 {
		if _, err := c.Write(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := pc.WriteTo(make([]byte, 50), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	wantRx, wantTx := uint64(50+42), uint64(3*(100+42))
	if rx, tx := l.Own(); rx != wantRx || tx != wantTx {
		t.Errorf("UDP: %d/%d, want %d/%d", rx, tx, wantRx, wantTx)
	}
	l.AddPackets(Packets{Count: 1, Bytes: 84}, Packets{Count: 2, Bytes: 168}) // ping's default
	if rx, tx := l.Own(); rx != wantRx+98 || tx != wantTx+196 {
		t.Errorf("with echoes: %d/%d, want %d/%d", rx, tx, wantRx+98, wantTx+196)
	}
}

// A name look-up through a counted datagram connection works and is counted.
func TestResolverUsesCountedDatagrams(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(b[:n]) != nil {
				continue
			}
			m.Response, m.Additionals = true, nil
			if m.Questions[0].Type == dnsmessage.TypeA {
				m.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET},
					Body:   &dnsmessage.AResource{A: [4]byte{192, 0, 2, 7}},
				}}
			}
			out, _ := m.Pack()
			pc.WriteTo(out, from)
		}
	}()
	l := New(Options{})
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return l.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	addrs, err := r.LookupHost(t.Context(), "target.pantau.example.")
	if err != nil || len(addrs) != 1 || addrs[0] != "192.0.2.7" {
		t.Fatalf("%v, %v", addrs, err)
	}
	if rx, tx := l.Own(); rx < 80 || tx < 80 {
		t.Errorf("look-up counted as %d/%d bytes", rx, tx)
	}
}

func TestDialTLS(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer s.Close()
	l := New(Options{})
	cfg := s.Client().Transport.(*http.Transport).TLSClientConfig
	client := http.Client{Transport: &http.Transport{DialTLSContext: l.DialTLS(cfg)}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if rx, tx := l.Own(); rx < 500 || tx < 300 {
		t.Errorf("handshake and request counted as %d/%d", rx, tx)
	}
	_, err = l.DialTLS(nil)(t.Context(), "tcp", s.Listener.Addr().String())
	if err == nil {
		t.Error("an unknown certificate authority was accepted")
	}
	if n := len(l.conns.list()); n != 1 {
		t.Errorf("%d connections on the books, want the idle one only", n)
	}
}

// Own is read by another goroutine while connections come, work and go.
func TestOwnNeverFalls(t *testing.T) {
	addr := serve(t, func(c net.Conn) { io.Copy(c, c) })
	l := New(Options{})
	stop := make(chan struct{})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				g := l.Group()
				c, err := g.DialContext(context.Background(), "tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.Write(make([]byte, 5000))
				io.ReadFull(c, make([]byte, 5000))
				g.CloseAll()
			}
		})
	}
	var rx, tx uint64
	deadline := time.Now().Add(5 * time.Second)
	for rx < 1<<20 && time.Now().Before(deadline) {
		r, x := l.Own()
		if r < rx || x < tx {
			t.Errorf("fell from %d/%d to %d/%d", rx, tx, r, x)
			break
		}
		rx, tx = r, x
	}
	close(stop)
	users.Wait()
	if rx < 1<<20 {
		t.Errorf("only %d bytes counted in 5 s", rx)
	}
	if n := len(l.conns.list()); n != 0 {
		t.Errorf("%d closed connections are still on the books", n)
	}
}

func TestGroupKnowsItsPath(t *testing.T) {
	url := serve(t, func(c net.Conn) { io.Copy(c, c) })
	g := New(Options{}).Group()
	defer g.CloseAll()
	if p := g.Path(); p != (Path{}) {
		t.Errorf("without a connection: %+v", p)
	}
	for range 2 {
		exchange(t, dial(t, g.DialContext, "tcp", url), make([]byte, 50_000))
	}
	p := g.Path()
	if p.Connections != 2 || p.MinRTT <= 0 || p.MinRTT > time.Second || p.RTT < p.MinRTT || p.Segments < 2 || p.SegmentsIn < 2 || p.CongestionControl == "" {
		t.Errorf("%+v", p)
	}
}

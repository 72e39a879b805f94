// Package servertest is servers for tests of speed instruments: honest ones, slow
// ones, and such as go wrong at a certain point. Beside them: a box that has little
// of a processor.
package servertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/target"
)

// Object is what is downloaded.
var Object = make([]byte, 1986284)

// Fast is what an honest server does.
func Fast(w http.ResponseWriter, r *http.Request) {
	honest(w, r, func(r io.Reader) io.Reader { return r })
}

// Good does the same at a rate that leaves the machine some rest.
func Good(w http.ResponseWriter, r *http.Request) {
	honest(w, r, func(r io.Reader) io.Reader { return slowly{r} })
}

func honest(w http.ResponseWriter, r *http.Request, pace func(io.Reader) io.Reader) {
	switch {
	case r.Method == http.MethodPost:
		n, _ := io.Copy(io.Discard, pace(r.Body))
		fmt.Fprintf(w, "size=%d", n)
	case strings.HasSuffix(r.URL.Path, "/latency.txt"):
		io.WriteString(w, "test=test\n")
	default:
		w.Header().Set("Content-Length", fmt.Sprint(len(Object)))
		io.Copy(w, pace(bytes.NewReader(Object)))
	}
}

type slowly struct{ io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return s.Reader.Read(b[:min(len(b), 8<<10)])
}

// Prompt has a server acknowledge in small steps. A slow reader opens a window of
// megabytes, as the kernel grows it by itself, half of it at a time: under load that
// looks like the silence that some tests are about.
func Prompt(s *httptest.Server) *httptest.Server {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
		}), err)
	}}
	if ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0"); err == nil {
		s.Listener.Close()
		s.Listener = ln
	}
	return s
}

// Serve runs an HTTP server until the test ends and returns its URL.
func Serve(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := Prompt(httptest.NewUnstartedServer(h))
	s.Config.ErrorLog = nil
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// After lets n requests of the transfer pass and hands the rest to bad. The
// first two are the checks before it.
func After(n int64, bad http.HandlerFunc) http.HandlerFunc {
	var seen atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		if seen.Add(1) > n+2 {
			bad(w, r)
			return
		}
		Fast(w, r)
	}
}

// ethernetSegments makes a socket use segments as on Ethernet: those of the
// loopback are longer than the relay's buffers, and every one would wait for a
// delayed acknowledgement.
func ethernetSegments(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1448)
	}), err)
}

// Accept serves raw connections.
func Accept(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	lc := net.ListenConfig{Control: ethernetSegments}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	return "http://" + ln.Addr().String()
}

// path passes TCP on at a fixed rate each way, over all connections together.
// Its buffers are small: what it has taken and not yet passed on is little.
type path struct{ down, up bucket }

type bucket struct {
	rate float64 // bytes per second
	mu   sync.Mutex
	next time.Time
}

// take waits until n bytes may pass.
func (b *bucket) take(n int) {
	b.mu.Lock()
	now := time.Now()
	const saved = 50 * time.Millisecond // what a busy machine may make up for
	if b.next.Before(now.Add(-saved)) {
		b.next = now.Add(-saved)
	}
	b.next = b.next.Add(time.Duration(float64(n) / b.rate * float64(time.Second)))
	wait := b.next.Sub(now)
	b.mu.Unlock()
	time.Sleep(wait)
}

// Relay passes connections on to a server at so many bits per second each way, over
// all of them together, and returns its URL.
func Relay(t testing.TB, to string, downBits, upBits float64) string {
	r := &path{down: bucket{rate: downBits / 8}, up: bucket{rate: upBits / 8}}
	const size = 8 << 10
	pass := func(dst, src net.Conn, b *bucket) {
		buf := make([]byte, 4096)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				b.take(n)
				if _, err := dst.Write(buf[:n]); err != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		dst.Close()
		src.Close()
	}
	return Accept(t, func(c net.Conn) {
		d := net.Dialer{Control: ethernetSegments}
		s, err := d.Dial("tcp", strings.TrimPrefix(to, "http://"))
		if err != nil {
			t.Error(err)
			return
		}
		for _, c := range []net.Conn{c, s} {
			c.(*net.TCPConn).SetReadBuffer(size)
			c.(*net.TCPConn).SetWriteBuffer(size)
		}
		var wg sync.WaitGroup
		wg.Go(func() { pass(s, c, &r.up) })
		pass(c, s, &r.down)
		wg.Wait()
	})
}

// Eventually waits for ok.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// Settled is how many goroutines and open files this process has when nothing
// but what lasts is left: the fewest within half a second. What starts with the
// first use (a server's own goroutines, the runtime's files) must have been used.
func Settled(t testing.TB) (goroutines, files int) {
	t.Helper()
	goroutines, files = runtime.NumGoroutine(), Files(t)
	for range 50 {
		time.Sleep(10 * time.Millisecond)
		goroutines, files = min(goroutines, runtime.NumGoroutine()), min(files, Files(t))
	}
	return goroutines, files
}

// Files is how many files this process has open.
func Files(t testing.TB) int {
	t.Helper()
	e, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

// Target runs a measurement server until the test ends and returns its URL.
func Target(t testing.TB, o target.Options) string {
	t.Helper()
	if len(o.Listeners) == 0 {
		o.Addr = "127.0.0.1:0"
	}
	s, err := target.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return "http://" + s.Addr().String()
}

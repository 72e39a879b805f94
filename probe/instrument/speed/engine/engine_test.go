package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/engine"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
	"github.com/pantau-desa/pantau/probe/target"
)

var directions = []measure.Kind{measure.KindDownload, measure.KindUpload}

// quick is short enough for a test of what happens, not of how fast.
func quick() engine.Options {
	return engine.Options{Limit: time.Second, CheckTime: 1500 * time.Millisecond, StallTime: 800 * time.Millisecond, NoEcho: true}
}

func newInstrument(t testing.TB, o engine.Options) *engine.Instrument {
	t.Helper()
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	i, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// posts hands the bulk, in either direction, to h.
func posts(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/latency.txt"):
			io.WriteString(w, "test=test\n")
		case strings.HasSuffix(r.URL.Path, "/received"):
			http.NotFound(w, r)
		default:
			h(w, r)
		}
	}
}

// some lets so many bytes of bulk pass over all connections and hands what
// comes then to bad.
func some(n int64, bad http.HandlerFunc) http.HandlerFunc {
	var passed atomic.Int64
	return posts(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b := make([]byte, 16<<10)
			for passed.Load() < n {
				k, err := r.Body.Read(b)
				if err != nil {
					return
				}
				passed.Add(int64(k))
				time.Sleep(time.Millisecond)
			}
			bad(w, r)
			return
		}
		if passed.Add(int64(len(servertest.Object))) > n {
			bad(w, r)
			return
		}
		servertest.Fast(w, r)
	})
}

// Every fault is a failure with its reason, in bounded time, and never a number.
func TestFaults(t *testing.T) {
	portal := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 20000)) })
	toPortal := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, portal+"/login", http.StatusFound) }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, strings.Repeat("x", 4096), code) }
	}
	hang := func(t *testing.T) http.HandlerFunc { // the server does not see a client go that it does not read from
		return func(http.ResponseWriter, *http.Request) { <-t.Context().Done() }
	}
	const start = 3 * time.Second // more than any check takes here
	down, up := directions[:1], directions[1:]
	const first = 20_000_000 // bytes

	for _, tt := range []struct {
		name       string
		directions []measure.Kind
		url        func(t *testing.T) string
		want       []measure.Reason
		within     time.Duration
	}{
		{"refused", directions, func(t *testing.T) string {
			ln, _ := net.Listen("tcp", "127.0.0.1:0")
			defer ln.Close()
			return "http://" + ln.Addr().String()
		}, []measure.Reason{measure.ReasonRefused}, start},
		{"accepts and says nothing", directions, func(t *testing.T) string {
			return servertest.Accept(t, func(c net.Conn) { io.Copy(io.Discard, c) })
		}, []measure.Reason{measure.ReasonTimeout}, start},
		{"accepts and closes", directions, func(t *testing.T) string {
			return servertest.Accept(t, func(net.Conn) {})
		}, []measure.Reason{measure.ReasonNoServer}, start},
		{"does not speak HTTP", directions, func(t *testing.T) string {
			return servertest.Accept(t, func(c net.Conn) { io.WriteString(c, "220 mail ESMTP\r\n"); io.Copy(io.Discard, c) })
		}, []measure.Reason{measure.ReasonNoServer}, start},
		{"404", directions, func(t *testing.T) string { return servertest.Serve(t, status(404)) },
			[]measure.Reason{measure.ReasonHTTPStatus}, start},
		{"500", directions, func(t *testing.T) string { return servertest.Serve(t, status(500)) },
			[]measure.Reason{measure.ReasonHTTPStatus}, start},
		{"503", directions, func(t *testing.T) string { return servertest.Serve(t, status(503)) },
			[]measure.Reason{measure.ReasonSaturated}, start},
		{"404 for the bulk only", directions, func(t *testing.T) string { return servertest.Serve(t, posts(status(404))) },
			[]measure.Reason{measure.ReasonHTTPStatus}, start},
		{"captive portal, redirecting", directions, func(t *testing.T) string { return servertest.Serve(t, toPortal) },
			[]measure.Reason{measure.ReasonRedirect}, start},
		{"captive portal, answering itself", directions, func(t *testing.T) string { return portal },
			[]measure.Reason{measure.ReasonNoServer}, start},
		{"redirects the bulk only", directions, func(t *testing.T) string { return servertest.Serve(t, posts(toPortal)) },
			[]measure.Reason{measure.ReasonRedirect}, start},
		{"object too short", down, func(t *testing.T) string {
			return servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 20000)) }))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"object without a length", down, func(t *testing.T) string {
			return servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				w.Write(servertest.Object)
			}))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"404 in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, some(first, status(404))) },
			[]measure.Reason{measure.ReasonHTTPStatus}, 2 * start},
		{"503 in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, some(first, status(503))) },
			[]measure.Reason{measure.ReasonSaturated}, 2 * start},
		{"redirect in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, some(first, toPortal)) },
			[]measure.Reason{measure.ReasonRedirect}, 2 * start},
		{"another object in the middle", down, func(t *testing.T) string {
			return servertest.Serve(t, some(first, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000000")
				w.Write(servertest.Object[:1000000])
			}))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"body broken off", down, func(t *testing.T) string {
			return servertest.Serve(t, some(first, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(servertest.Object)))
				w.Write(servertest.Object[:1000])
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			}))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"early reply", up, func(t *testing.T) string {
			return servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "size=999490") }))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"early reply and close", up, func(t *testing.T) string {
			return servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") }))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"hangs from the first bulk byte", up, func(t *testing.T) string { return servertest.Serve(t, posts(hang(t))) },
			[]measure.Reason{measure.ReasonStalled}, start},
		{"hangs before the first bulk byte", down, func(t *testing.T) string { return servertest.Serve(t, posts(hang(t))) },
			[]measure.Reason{measure.ReasonTimeout}, start},
		{"hangs in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, some(first, hang(t))) },
			[]measure.Reason{measure.ReasonStalled}, 2 * start},
		{"dies in the middle", directions, func(t *testing.T) string {
			s := httptest.NewServer(posts(servertest.Good))
			kill := time.AfterFunc(600*time.Millisecond, func() { s.Listener.Close(); s.CloseClientConnections() })
			t.Cleanup(func() { kill.Stop(); s.CloseClientConnections(); s.Close() })
			return s.URL
		}, []measure.Reason{measure.ReasonShortBody, measure.ReasonRefused}, start},
		{"the side channel dies", directions, func(t *testing.T) string {
			return servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/received") {
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, `{"clock_ns":1}`+"\n")
					w.(http.Flusher).Flush()
					time.Sleep(300 * time.Millisecond)
					return
				}
				servertest.Good(w, r)
			})
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"the side channel talks nonsense", directions, func(t *testing.T) string {
			return servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/received") {
					w.Header().Set("Content-Type", "application/json")
					io.WriteString(w, "hello\n")
					return
				}
				servertest.Good(w, r)
			})
		}, []measure.Reason{measure.ReasonNoServer, measure.ReasonShortBody}, start},
		{"TLS expected, plain spoken", directions, func(t *testing.T) string {
			return strings.Replace(servertest.Serve(t, servertest.Good), "http:", "https:", 1)
		}, []measure.Reason{measure.ReasonTLS}, start},
		{"certificate of nobody", directions, func(t *testing.T) string {
			s := httptest.NewUnstartedServer(http.HandlerFunc(servertest.Good))
			s.StartTLS()
			t.Cleanup(s.Close)
			return s.URL
		}, []measure.Reason{measure.ReasonTLS}, start},
		{"ftp", directions, func(*testing.T) string { return "ftp://127.0.0.1/" }, []measure.Reason{measure.ReasonNoTarget}, start},
		{"another path", directions, func(*testing.T) string { return "http://127.0.0.1/x" }, []measure.Reason{measure.ReasonNoTarget}, start},
		{"no room for sixteen streams", directions, func(t *testing.T) string {
			return servertest.Target(t, target.Options{Limits: target.Limits{ConnectionsPerAddress: 4}})
		}, []measure.Reason{measure.ReasonSaturated}, start},
	} {
		for _, kind := range tt.directions {
			t.Run(tt.name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				o := quick()
				o.Limit, o.Full = 20*time.Second, true // a fault is seen long before
				o.MostBytes = 1 << 40
				i := newInstrument(t, o)
				url := tt.url(t)
				begin := time.Now()
				r := i.Measure(t.Context(), "t1", url, kind)
				took := time.Since(begin)
				if err := r.Validate(); err != nil {
					t.Error(err)
				}
				if r.Outcome != measure.Failed || !slices.Contains(tt.want, r.Reason) {
					t.Errorf("%s, %s (%s), values %v; want failed, %v", r.Outcome, r.Reason, r.Detail, r.Values, tt.want)
				}
				if r.Detail == "" || r.Target != "t1" || r.Kind != kind {
					t.Errorf("incomplete: %+v", r)
				}
				// Several run at once here: twice the time is no fault.
				if took > 2*tt.within {
					t.Errorf("took %v, want %v at most", took, tt.within)
				}
			})
		}
	}
}

// A cancelled test ends at once, wherever it is.
func TestCancel(t *testing.T) {
	t.Parallel()
	silent := servertest.Accept(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	honest := servertest.Serve(t, servertest.Good)
	for _, kind := range directions {
		for name, url := range map[string]string{"in a check": silent, "in the transfer": honest} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				i := newInstrument(t, engine.Options{Full: true})
				ctx, cancel := context.WithCancel(t.Context())
				var at time.Time
				time.AfterFunc(time.Second, func() { at = time.Now(); cancel() })
				r := i.Measure(ctx, "", url, kind)
				if late := time.Since(at); late > time.Second {
					t.Errorf("returned %v after it was cancelled", late)
				}
				if r.Outcome != measure.Failed || r.Reason != measure.ReasonCancelled {
					t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
				}
			})
		}
	}
}

func TestNoTargetIsSkipped(t *testing.T) {
	i := newInstrument(t, quick())
	if r := i.Measure(t.Context(), "", "", measure.KindDownload); r.Outcome != measure.Skipped || r.Reason != measure.ReasonNoTarget {
		t.Errorf("%s, %s", r.Outcome, r.Reason)
	}
	if r := i.Measure(t.Context(), "", "http://x", measure.KindLatency); r.Outcome != measure.Failed || r.Reason != measure.ReasonInternal {
		t.Errorf("a latency of Mbit/s: %s, %s", r.Outcome, r.Reason)
	}
}

// The figure is the rate of the path, and the result tells how it was made.
func TestExactThroughRelay(t *testing.T) {
	const truth = 20e6
	for _, kind := range directions {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			url := servertest.Relay(t, servertest.Target(t, target.Options{}), truth, truth)
			l := ledger.New(ledger.Options{})
			i := newInstrument(t, engine.Options{Ledger: l, Limit: 8 * time.Second})
			var r measure.Result
			for range 3 { // a wrong way of counting fails every time, a busy moment does not
				if r = i.Measure(t.Context(), "t1", url, kind); r.Outcome == measure.OK && math.Abs(r.Values[0].Number/truth-1) <= 0.05 {
					break
				}
			}
			if r.Outcome != measure.OK || r.Validate() != nil {
				t.Fatalf("%+v", r)
			}
			t.Logf("%+.2f%% in %v, %+v", (r.Values[0].Number/truth-1)*100, r.Duration, r)
			if off := r.Values[0].Number/truth - 1; math.Abs(off) > 0.05 {
				t.Errorf("off by %+.1f%%", off*100)
			}
			want := []string{"streams_", "stop_", "server_cc_", "probe_cc_"}
			for _, w := range want {
				if !slices.ContainsFunc(r.Flags, func(f measure.Flag) bool { return strings.HasPrefix(string(f), w) }) {
					t.Errorf("flags %v: none begins with %s", r.Flags, w)
				}
			}
			loaded := map[measure.Kind]measure.Metric{measure.KindDownload: measure.LoadedLatencySecondsDownload, measure.KindUpload: measure.LoadedLatencySecondsUpload}[kind]
			for _, m := range []measure.Metric{measure.IdleLatencySeconds, loaded} {
				if _, ok := r.Value(m); !ok {
					t.Errorf("no %s in %v", m, r.Values)
				}
			}
			if r.Instrument != "pantau" || r.MethodVersion != "1" || r.Boot == "" || r.Monotonic <= 0 || r.BytesReceived == 0 || r.BytesSent == 0 {
				t.Errorf("%+v", r)
			}
			// An echo that was answered after all is in the account alone.
			if rx, tx := l.Own(); rx < r.BytesReceived || tx < r.BytesSent {
				t.Errorf("the ledger has %d/%d, the result %d/%d", rx, tx, r.BytesReceived, r.BytesSent)
			}
		})
	}
}

// A server that tells nothing of what it receives, such as one of Ookla's, is
// measured by what it acknowledges, and the result says so.
func TestWithoutSideChannel(t *testing.T) {
	t.Parallel()
	url := servertest.Serve(t, posts(servertest.Good))
	o := quick()
	o.StallTime = 3 * time.Second
	r := newInstrument(t, o).Measure(t.Context(), "", url, measure.KindUpload)
	if r.Outcome != measure.OK || !slices.Contains(r.Flags, engine.FlagAckedOnly) {
		t.Errorf("%s, %s (%s), flags %v", r.Outcome, r.Reason, r.Detail, r.Flags)
	}
}

// Over TLS the streams stay streams.
func TestTLS(t *testing.T) {
	t.Parallel()
	var conns, other atomic.Int64
	s := servertest.Prompt(httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			other.Add(1)
		}
		posts(servertest.Good)(w, r)
	})))
	s.EnableHTTP2 = true
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	o := quick()
	o.Limit, o.StallTime, o.CheckTime = 2*time.Second, 5*time.Second, 5*time.Second // TLS under the race detector is slow
	o.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	r := newInstrument(t, o).Measure(t.Context(), "", s.URL, measure.KindDownload)
	if r.Outcome != measure.OK {
		t.Fatalf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	if conns.Load() < 10 || other.Load() > 0 {
		t.Errorf("%d connections, %d requests by HTTP/2", conns.Load(), other.Load())
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	url := servertest.Target(t, target.Options{Listeners: []net.Listener{ln}})
	o := quick()
	o.Network = "tcp6"
	r := newInstrument(t, o).Measure(t.Context(), "", url, measure.KindUpload)
	if r.Outcome != measure.OK {
		t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	o.Network = "tcp4"
	if r := newInstrument(t, o).Measure(t.Context(), "", url, measure.KindUpload); r.Outcome != measure.Failed {
		t.Errorf("by IPv4: %s", r.Outcome)
	}
}

// The byte cap ends a test, and its figure says so.
func TestMostBytes(t *testing.T) {
	t.Parallel()
	for _, kind := range directions {
		o := quick()
		o.Limit, o.MostBytes = 10*time.Second, 2_000_000
		url := servertest.Relay(t, servertest.Target(t, target.Options{}), 20e6, 20e6)
		r := newInstrument(t, o).Measure(t.Context(), "", url, kind)
		if r.Outcome != measure.OK || !slices.Contains(r.Flags, "stop_bytes") || r.BytesReceived+r.BytesSent > 8_000_000 {
			t.Errorf("%s, %s (%s), %d bytes, flags %v", r.Outcome, r.Reason, r.Detail, r.BytesReceived+r.BytesSent, r.Flags)
		}
	}
}

// Many tests, good, failed and cancelled ones, leave nothing behind.
func TestLeavesNothingBehind(t *testing.T) {
	o := quick()
	o.Limit = 100 * time.Millisecond
	i := newInstrument(t, o)
	honest, bad := servertest.Target(t, target.Options{}), servertest.Serve(t, some(5_000_000, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }))
	round := func() {
		for _, kind := range directions {
			if r := i.Measure(t.Context(), "", honest, kind); r.Outcome != measure.OK {
				t.Fatalf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
			}
			i.Measure(t.Context(), "", bad, kind)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
			i.Measure(ctx, "", honest, kind)
			cancel()
		}
	}
	round()
	g0, f0 := servertest.Settled(t)
	for range 5 {
		round()
	}
	defer func() {
		if t.Failed() {
			buf := make([]byte, 1<<16)
			t.Logf("%s", buf[:runtime.Stack(buf, true)])
		}
	}()
	servertest.Eventually(t, fmt.Sprintf("no more than %d goroutines and %d files", g0, f0), func() bool {
		return runtime.NumGoroutine() <= g0 && servertest.Files(t) <= f0
	})
}

// Through the emulator: a line with delay and loss, right; one that cannot be
// filled, flagged.
func TestTruthOfALossyLine(t *testing.T) {
	if testing.Short() {
		t.Skip("transfers in real time")
	}
	for _, c := range []struct {
		name  string
		rate  float64
		delay time.Duration
		loss  float64
		fills bool
	}{
		{"10 Mbit/s, 40 ms, 0.5%", 10e6, 20 * time.Millisecond, 0.005, true},
		{"30 Mbit/s, 100 ms, 2%", 30e6, 50 * time.Millisecond, 0.02, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lab, err := netlab.New(netlab.Options{Name: "engine-test"})
			if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
				t.Skip("needs root: ", err)
			}
			must(t, err)
			t.Cleanup(func() { must(t, lab.Close()) })
			var nodes [3]*netlab.Node
			for i, name := range []string{"probe", "server", "wire"} {
				nodes[i], err = lab.Node(name)
				must(t, err)
			}
			near, err := lab.Link(nodes[2], nodes[0], netlab.LinkOptions{NameA: "near", NameB: "eth0", AddrB: netip.MustParsePrefix("198.18.3.1/24")})
			must(t, err)
			far, err := lab.Link(nodes[2], nodes[1], netlab.LinkOptions{NameA: "far", NameB: "eth0", AddrB: netip.MustParsePrefix("198.18.3.2/24")})
			must(t, err)
			path := netlab.Path{Rate: c.rate, Delay: c.delay, Loss: c.loss}
			e, err := lab.Emulate(near.A, far.A, netlab.EmulatorOptions{AB: path, BA: path})
			must(t, err)
			ln, err := nodes[1].Listen("tcp", "198.18.3.2:7442")
			must(t, err)
			url := servertest.Target(t, target.Options{Listeners: []net.Listener{ln}})
			i := newInstrument(t, engine.Options{NoEcho: true, Limit: 10 * time.Second, Ledger: ledger.New(ledger.Options{Dial: nodes[0].DialContext})})
			for _, kind := range directions {
				var r measure.Result
				good := func() bool {
					if r.Outcome != measure.OK {
						return false
					}
					if !c.fills {
						return slices.Contains(r.Flags, engine.FlagNotSaturated)
					}
					return math.Abs(r.Values[0].Number/netlab.PayloadRate(c.rate)-1) <= 0.05
				}
				for range 3 {
					e.Reset()
					if r = i.Measure(t.Context(), "t1", url, kind); good() {
						break
					}
				}
				t.Logf("%s: %+v; %+v", kind, r, e.Report())
				if err := e.Report().Sound(); err != nil {
					t.Log("this machine is busy: ", err)
				} else if !good() {
					t.Errorf("%s: %s %v, flags %v; truth %.3f", kind, r.Outcome, r.Values, r.Flags, netlab.PayloadRate(c.rate)/1e6)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/instrument/speed/engine"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

var directions = []measure.Kind{measure.KindDownload, measure.KindUpload}

// Most of these tests wait for most of their time: more of them may run at once
// than there are processors.
func TestMain(m *testing.M) {
	flag.Parse()
	if n := flag.Lookup("test.parallel"); n != nil && n.Value.String() == fmt.Sprint(runtime.GOMAXPROCS(0)) {
		n.Value.Set(fmt.Sprint(max(6, runtime.GOMAXPROCS(0))))
	}
	os.Exit(m.Run())
}

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
				t.Parallel()
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

// Faults of the way there, each with its reason.
func TestReasonsOfDialling(t *testing.T) {
	for want, err := range map[measure.Reason]error{
		measure.ReasonDNS:         &net.DNSError{Err: "no such host", Name: "target.invalid", IsNotFound: true},
		measure.ReasonUnreachable: os.NewSyscallError("connect", syscall.ENETUNREACH),
		measure.ReasonPermission:  os.NewSyscallError("connect", syscall.EACCES),
		measure.ReasonOther:       errors.New("something new"),
	} {
		t.Run(string(want), func(t *testing.T) {
			o := quick()
			o.Ledger = ledger.New(ledger.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
			}})
			r := newInstrument(t, o).Measure(t.Context(), "", "http://target.invalid:7442", measure.KindDownload)
			if r.Outcome != measure.Failed || r.Reason != want {
				t.Errorf("%s, %s (%s); want %s", r.Outcome, r.Reason, r.Detail, want)
			}
		})
	}
}

// An interface that is not there (any more) is no way out.
func TestNoSuchInterface(t *testing.T) {
	o := quick()
	o.Ledger = ledger.New(ledger.Options{Interface: "nosuch0"})
	r := newInstrument(t, o).Measure(t.Context(), "", "http://127.0.0.1:7442", measure.KindUpload)
	if r.Outcome != measure.Failed || r.Reason != measure.ReasonUnreachable {
		t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

// The cable is pulled, or the way refused, in the middle of a transfer, with
// echoes beside it: no figure, and an end in time.
func TestWayLostInTheMiddle(t *testing.T) {
	for name, lose := range map[string]func(here, far *nettest.Host){
		"our end down":    func(here, _ *nettest.Host) { here.Down("down") },
		"the far end":     func(_, far *nettest.Host) { far.Down("up") },
		"route forbidden": func(here, _ *nettest.Host) { here.Refuse("198.18.4.2/32", unix.RTN_PROHIBIT) },
	} {
		for _, kind := range directions {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				if !nettest.Private(t) {
					return
				}
				far, _ := nettest.Row(t, "198.18.4.0/24")
				ln := far.Listen("tcp", "198.18.4.2:0")
				s := httptest.NewUnstartedServer(posts(servertest.Good))
				s.Listener.Close()
				s.Listener = ln
				s.Start()
				t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
				o := quick()
				o.Limit, o.Full, o.NoEcho = 20*time.Second, true, false
				i := newInstrument(t, o)
				const at = 2 * time.Second // the echoes at rest take half a second
				cut := time.AfterFunc(at, func() { lose(nettest.Here(t), far) })
				defer cut.Stop()
				begin := time.Now()
				r := i.Measure(t.Context(), "", s.URL, kind)
				took := time.Since(begin)
				if r.Outcome != measure.Failed || !slices.Contains([]measure.Reason{measure.ReasonStalled, measure.ReasonUnreachable, measure.ReasonPermission}, r.Reason) {
					t.Errorf("%s, %s (%s), values %v", r.Outcome, r.Reason, r.Detail, r.Values)
				}
				if took < at || took > at+3*time.Second {
					t.Errorf("ended after %v", took)
				}
			})
		}
	}
}

// A second test waits for the first; a third has nothing of those before.
func TestMeasuresOneAtATime(t *testing.T) {
	t.Parallel()
	const truth = 20e6
	i := newInstrument(t, quick())
	asked := make(chan struct{})
	var first sync.Once
	good := servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) {
		first.Do(func() { close(asked) })
		servertest.Good(w, r)
	}))
	running := make(chan measure.Result, 1)
	go func() { running <- i.Measure(context.Background(), "", good, measure.KindDownload) }()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r := i.Measure(ctx, "", good, measure.KindDownload); r.Reason != measure.ReasonTimeout || r.BytesSent != 0 {
		t.Errorf("second: %s, %s, %d bytes", r.Outcome, r.Reason, r.BytesSent)
	}
	if r := <-running; r.Outcome != measure.OK {
		t.Errorf("first: %s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	url := servertest.Relay(t, servertest.Target(t, target.Options{}), truth, truth)
	if r := i.Measure(t.Context(), "", url, measure.KindDownload); r.Outcome != measure.OK || math.Abs(r.Values[0].Number/truth-1) > 0.3 {
		t.Errorf("third: %+v", r)
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
			if r.Instrument != "pantau" || r.MethodVersion != engine.MethodVersion || r.Boot == "" || r.Monotonic <= 0 || r.BytesReceived == 0 || r.BytesSent == 0 {
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

// The same over a day's worth of tests and more, memory included: `make soak`.
func TestSoak(t *testing.T) {
	tests, err := strconv.Atoi(os.Getenv("PANTAU_SOAK_SPEED_TESTS"))
	if err != nil || tests < 200 {
		t.Skip("PANTAU_SOAK_SPEED_TESTS, 200 at least, says how many")
	}
	o := quick()
	o.Limit, o.NoEcho = 100*time.Millisecond, true
	silent := newInstrument(t, o)
	o.NoEcho = false
	echoing := newInstrument(t, o)
	honest := servertest.Relay(t, servertest.Target(t, target.Options{}), 50e6, 50e6)
	bad := servertest.Serve(t, some(5_000_000, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }))
	good := 0
	one := func(n int) {
		i, kind := silent, directions[n%2]
		if n%10 < 2 {
			i = echoing
		}
		switch n / 2 % 5 {
		case 3:
			i.Measure(t.Context(), "", bad, kind)
		case 4:
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
			i.Measure(ctx, "", honest, kind)
			cancel()
		default:
			if r := i.Measure(t.Context(), "", honest, kind); r.Outcome == measure.OK {
				good++
			} else {
				t.Logf("test %d: %s (%s)", n, r.Reason, r.Detail)
			}
		}
	}
	// What is there: goroutines, files, bytes of heap and of resident memory.
	there := func() [4]int {
		goroutines, files := servertest.Settled(t)
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		text, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		pages, err := strconv.Atoi(strings.Fields(string(text))[1])
		if err != nil {
			t.Fatal(err)
		}
		return [4]int{goroutines, files, int(m.HeapAlloc), pages * os.Getpagesize()}
	}
	var warm, last [4]int
	for n := range tests {
		one(n)
		if n == 99 {
			warm = there()
			t.Logf("after 100 tests: %d goroutines, %d files, %d bytes of heap, %d resident", warm[0], warm[1], warm[2], warm[3])
		}
	}
	last = there()
	t.Logf("after %d tests, %d of them with a figure: %d goroutines, %d files, %d bytes of heap, %d resident", tests, good, last[0], last[1], last[2], last[3])
	if good < tests/2 {
		t.Errorf("%d of %d tests had a figure", good, tests)
	}
	if last[0] > warm[0] || last[1] > warm[1] {
		t.Errorf("goroutines or files grew")
	}
	// The server remembers each test for a minute: some hundred of them.
	if grown := last[2] - warm[2]; grown > 1<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if grown := last[3] - warm[3]; grown > 8<<20 {
		t.Errorf("resident memory grew by %d bytes", grown)
	}
}

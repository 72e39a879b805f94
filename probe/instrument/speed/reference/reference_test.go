package reference_test

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
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

var directions = []measure.Kind{measure.KindDownload, measure.KindUpload}

// quick is short enough for a test of what happens, not of how fast.
func quick() reference.Options {
	return reference.Options{Duration: time.Second, CheckTime: 1500 * time.Millisecond, StallTime: 800 * time.Millisecond}
}

func newInstrument(t testing.TB, o reference.Options) *reference.Instrument {
	t.Helper()
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{})
	}
	i, err := reference.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Every fault is a failure with its reason, in bounded time, and never a number.
func TestFaults(t *testing.T) {
	portal := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 20000)) })
	toPortal := func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, portal+"/login", http.StatusFound) }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, strings.Repeat("x", 4096), code) }
	}
	posts := func(h http.HandlerFunc) http.HandlerFunc { // h for bulk, in either direction
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/latency.txt") || r.Method == http.MethodPost && r.ContentLength < 10_000 {
				servertest.Good(w, r)
				return
			}
			h(w, r)
		}
	}
	hang := func(t *testing.T) http.HandlerFunc { // the server does not see a client go that it does not read from
		return func(http.ResponseWriter, *http.Request) { <-t.Context().Done() }
	}
	const start = 3 * time.Second // more than any check takes here
	down, up := directions[:1], directions[1:]

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
			return servertest.Serve(t, posts(func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); w.Write(servertest.Object) }))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"404 in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, servertest.After(10, status(404))) },
			[]measure.Reason{measure.ReasonHTTPStatus}, start},
		{"503 in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, servertest.After(10, status(503))) },
			[]measure.Reason{measure.ReasonSaturated}, start},
		{"redirect in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, servertest.After(10, toPortal)) },
			[]measure.Reason{measure.ReasonRedirect}, start},
		{"another object in the middle", down, func(t *testing.T) string {
			return servertest.Serve(t, servertest.After(10, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "1000000")
				w.Write(servertest.Object[:1000000])
			}))
		}, []measure.Reason{measure.ReasonShortBody}, start},
		{"body broken off", down, func(t *testing.T) string {
			return servertest.Serve(t, servertest.After(10, func(w http.ResponseWriter, r *http.Request) {
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
		{"hangs in the middle", directions, func(t *testing.T) string { return servertest.Serve(t, servertest.After(4, hang(t))) },
			[]measure.Reason{measure.ReasonStalled}, 4 * time.Second},
		{"dies in the middle", directions, func(t *testing.T) string {
			s := httptest.NewServer(http.HandlerFunc(servertest.Good))
			kill := time.AfterFunc(600*time.Millisecond, func() { s.Listener.Close(); s.CloseClientConnections() })
			t.Cleanup(func() { kill.Stop(); s.CloseClientConnections(); s.Close() })
			return s.URL
		}, []measure.Reason{measure.ReasonShortBody, measure.ReasonRefused}, start},
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
		{"no host", directions, func(*testing.T) string { return "http://" }, []measure.Reason{measure.ReasonNoTarget}, start},
		{"another path", directions, func(*testing.T) string { return "http://127.0.0.1/x" }, []measure.Reason{measure.ReasonNoTarget}, start},
	} {
		for _, kind := range tt.directions {
			t.Run(tt.name+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				o := quick()
				o.Duration = 6 * time.Second // a fault is seen long before
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
			if want == measure.ReasonOther {
				want = measure.ReasonNoServer
			}
			if r.Outcome != measure.Failed || r.Reason != want {
				t.Errorf("%s, %s (%s); want %s", r.Outcome, r.Reason, r.Detail, want)
			}
		})
	}
}

func TestNoTargetIsSkipped(t *testing.T) {
	r := newInstrument(t, quick()).Measure(t.Context(), "", "", measure.KindDownload)
	if r.Outcome != measure.Skipped || r.Reason != measure.ReasonNoTarget {
		t.Errorf("%s, %s", r.Outcome, r.Reason)
	}
	r = newInstrument(t, quick()).Measure(t.Context(), "", "http://x", measure.KindLatency)
	if r.Outcome != measure.Failed || r.Reason != measure.ReasonInternal {
		t.Errorf("a latency of Mbit/s: %s, %s", r.Outcome, r.Reason)
	}
}

// A cancelled test ends at once, wherever it is: speedtest-go by itself goes on
// until its capture time is over.
func TestCancel(t *testing.T) {
	t.Parallel()
	silent := servertest.Accept(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	honest := servertest.Serve(t, servertest.Good)
	for _, kind := range directions {
		for name, url := range map[string]string{"in a check": silent, "in the transfer": honest} {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				i := newInstrument(t, reference.Options{})
				ctx, cancel := context.WithCancel(t.Context())
				var at time.Time
				time.AfterFunc(500*time.Millisecond, func() { at = time.Now(); cancel() })
				r := i.Measure(ctx, "", url, kind)
				if late := time.Since(at); late > 300*time.Millisecond {
					t.Errorf("returned %v after it was cancelled", late)
				}
				if r.Outcome != measure.Failed || r.Reason != measure.ReasonCancelled {
					t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
				}
			})
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r := newInstrument(t, reference.Options{}).Measure(ctx, "", honest, measure.KindUpload); r.Reason != measure.ReasonTimeout {
		t.Errorf("deadline: %s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

func TestMeasuresOneAtATime(t *testing.T) {
	t.Parallel()
	i := newInstrument(t, quick())
	asked := make(chan struct{})
	var first sync.Once
	honest := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		first.Do(func() { close(asked) })
		servertest.Good(w, r)
	})
	running := make(chan measure.Result, 1)
	go func() { running <- i.Measure(context.Background(), "", honest, measure.KindDownload) }()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r := i.Measure(ctx, "", honest, measure.KindDownload); r.Reason != measure.ReasonTimeout || r.BytesSent != 0 {
		t.Errorf("second: %s, %s, %d bytes", r.Outcome, r.Reason, r.BytesSent)
	}
	if r := <-running; r.Outcome != measure.OK {
		t.Errorf("first: %s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

// The figure is the rate of the path.
func TestExactThroughRelay(t *testing.T) {
	const truth = 20e6
	for _, kind := range directions {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			url := servertest.Relay(t, servertest.Target(t, target.Options{}), truth, truth)
			i := newInstrument(t, reference.Options{Duration: 4 * time.Second})
			r := i.Measure(t.Context(), "t1", url, kind)
			check(t, r, kind, truth, 0.05)
		})
	}
}

func check(t *testing.T, r measure.Result, kind measure.Kind, truth, tolerance float64) {
	t.Helper()
	if err := r.Validate(); err != nil || r.Outcome != measure.OK {
		t.Fatalf("%s, %s (%s), %v", r.Outcome, r.Reason, r.Detail, err)
	}
	metric, other := measure.DownloadBitsPerSecond, measure.UploadBitsPerSecond
	bulk, acks := r.BytesReceived, r.BytesSent
	if kind == measure.KindUpload {
		metric, other = other, metric
		bulk, acks = acks, bulk
	}
	got, ok := r.Value(metric)
	if _, both := r.Value(other); !ok || both {
		t.Fatalf("values %v", r.Values)
	}
	t.Logf("%s %.3f Mbit/s, truth %.3f, %+.2f%%; bytes %d/%d; flags %v",
		kind, got/1e6, truth/1e6, (got/truth-1)*100, r.BytesReceived, r.BytesSent, r.Flags)
	if math.Abs(got/truth-1) > tolerance {
		t.Errorf("%.3f Mbit/s, want %.3f within %v%%", got/1e6, truth/1e6, tolerance*100)
	}
	if all := truth / 8 * r.Duration.Seconds(); float64(bulk) < all/2 || acks == 0 || acks > bulk/5 {
		t.Errorf("%d bytes of bulk and %d back, in %v at %.1f Mbit/s", bulk, acks, r.Duration, truth/1e6)
	}
}

func TestResultTellsHowItWasMade(t *testing.T) {
	t.Parallel()
	l := ledger.New(ledger.Options{})
	o := quick()
	o.Ledger = l
	i := newInstrument(t, o)
	r := i.Measure(t.Context(), "t1", servertest.Target(t, target.Options{})+"/speedtest/upload.php", measure.KindUpload)
	if r.Outcome != measure.OK {
		t.Fatalf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	if r.Instrument != "speedtest-go" || r.MethodVersion != "1" || r.Boot == "" || r.Monotonic <= 0 || r.Target != "t1" ||
		time.Since(r.MeasuredAt) > time.Minute || r.Duration < o.Duration || r.Duration > 3*o.Duration {
		t.Errorf("%+v", r)
	}
	if !slices.ContainsFunc(r.Flags, func(f measure.Flag) bool { return strings.HasPrefix(string(f), server.FlagCongestionPrefix) }) {
		t.Errorf("flags %v do not name the server's congestion control", r.Flags)
	}
	if slices.Contains(r.Flags, reference.FlagWritten) {
		t.Errorf("flags %v", r.Flags)
	}
	if rx, tx := l.Own(); rx != r.BytesReceived || tx != r.BytesSent {
		t.Errorf("the ledger has %d/%d, the result %d/%d", rx, tx, r.BytesReceived, r.BytesSent)
	}
}

func TestServerSaturated(t *testing.T) {
	t.Parallel()
	url := servertest.Target(t, target.Options{Limits: target.Limits{ConnectionsPerAddress: 4}})
	r := newInstrument(t, quick()).Measure(t.Context(), "", url, measure.KindDownload)
	if r.Outcome != measure.Failed || r.Reason != measure.ReasonSaturated {
		t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

// plain hides everything of a connection but net.Conn.
type plain struct{ net.Conn }

func TestWithoutTCPInfoSaysSo(t *testing.T) {
	t.Parallel()
	o := quick()
	o.Ledger = ledger.New(ledger.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		return plain{c}, err
	}})
	r := newInstrument(t, o).Measure(t.Context(), "", servertest.Target(t, target.Options{}), measure.KindUpload)
	if r.Outcome != measure.OK || !slices.Contains(r.Flags, reference.FlagWritten) {
		t.Errorf("%s, %s (%s), flags %v", r.Outcome, r.Reason, r.Detail, r.Flags)
	}
}

// Over TLS the streams stay streams: HTTP/2 would put them on one connection.
func TestTLSKeepsEightConnections(t *testing.T) {
	t.Parallel()
	var conns, old atomic.Int64
	s := servertest.Prompt(httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			old.Add(1)
		}
		servertest.Good(w, r)
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
	o.StallTime = 5 * time.Second // it is not what this is about, and TLS under the race detector is slow
	o.TLS = &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	r := newInstrument(t, o).Measure(t.Context(), "", s.URL, measure.KindUpload)
	if r.Outcome != measure.OK {
		t.Fatalf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	if conns.Load() < 8 || old.Load() > 0 {
		t.Errorf("%d connections, %d requests by HTTP/2", conns.Load(), old.Load())
	}
}

// The body of an upload carries as many bytes on a link that compresses.
func TestUploadIsIncompressible(t *testing.T) {
	t.Parallel()
	var kinds atomic.Int64
	url := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.ContentLength < 10_000 {
			servertest.Good(w, r)
			return
		}
		b := make([]byte, 64<<10)
		if _, err := io.ReadFull(r.Body, b); err == nil && kinds.Load() == 0 {
			seen := make(map[[4]byte]bool)
			for i := 0; i+4 <= len(b); i += 4 {
				seen[[4]byte(b[i:i+4])] = true
			}
			kinds.Store(int64(len(seen)))
		}
		io.Copy(io.Discard, r.Body)
	})
	if r := newInstrument(t, quick()).Measure(t.Context(), "", url, measure.KindUpload); r.Outcome != measure.OK {
		t.Fatalf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
	if kinds.Load() < 16000 {
		t.Errorf("64 KiB hold %d different words of 16384", kinds.Load())
	}
}

// Many tests, good, failed and cancelled ones, leave nothing behind.
func TestLeavesNothingBehind(t *testing.T) {
	o := quick()
	o.Duration = 100 * time.Millisecond
	i := newInstrument(t, o)
	honest, bad := servertest.Target(t, target.Options{}), servertest.Serve(t, servertest.After(20, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }))
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
	servertest.Eventually(t, fmt.Sprintf("no more than %d goroutines and %d files", g0, f0), func() bool {
		return runtime.NumGoroutine() <= g0 && servertest.Files(t) <= f0
	})
}

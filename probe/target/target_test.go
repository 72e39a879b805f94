package target_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/target"
)

// start runs a target on port 0 until the test ends.
func start(t testing.TB, o target.Options) (*target.Target, *prometheus.Registry) {
	t.Helper()
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	reg := prometheus.NewPedanticRegistry()
	o.Registerer = reg
	s, err := target.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s, reg
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func url(s *target.Target, path string) string { return "http://" + s.Addr().String() + path }

// metric is the value of one series, by its text form; 0 if it is not there.
func metric(t testing.TB, reg *prometheus.Registry, series string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			if name == series {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

func TestPaths(t *testing.T) {
	s, _ := start(t, target.Options{})
	c := client(t)
	for _, tt := range []struct {
		method, path string
		status       int
		length       int64
	}{
		{"GET", "/speedtest/latency.txt", 200, 10},
		{"GET", "/speedtest/latency.txt?x=1", 200, 10},
		{"GET", "/speedtest/random350x350.jpg", 200, 245388},
		{"GET", "/speedtest/random1000x1000.jpg?x=1700000000", 200, 1986284},
		{"GET", "/speedtest/random4000x4000.jpg", 200, 31625365},
		{"POST", "/speedtest/upload.php", 200, 7},
		{"GET", "/speedtest/upload.php", 404, 19},
		{"POST", "/speedtest/latency.txt", 404, 19},
		{"DELETE", "/speedtest/latency.txt", 404, 19},
		{"GET", "/speedtest/random9999x9999.jpg", 404, 19},
		{"GET", "/speedtest/../etc/passwd", 404, 19},
		{"GET", "/speedtest", 404, 19},
		{"GET", "/", 404, 19},
		{"GET", "/metrics", 404, 19},
		{"OPTIONS", "*", 404, 19},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			req, err := http.NewRequest(tt.method, url(s, tt.path), nil)
			if tt.path == "*" {
				req, err = http.NewRequest(tt.method, url(s, "/"), nil)
				req.URL.Opaque = "*"
			}
			if err != nil {
				t.Fatal(err)
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || resp.ContentLength != tt.length || n != tt.length {
				t.Errorf("status %d, length %d, body %d; want %d and %d",
					resp.StatusCode, resp.ContentLength, n, tt.status, tt.length)
			}
			if resp.Header.Get("Cache-Control") != "no-store, no-transform" {
				t.Error("caches may keep it")
			}
		})
	}
}

func TestLatencyBody(t *testing.T) {
	s, _ := start(t, target.Options{})
	resp, err := client(t).Get(url(s, "/speedtest/latency.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "test=test\n" {
		t.Errorf("got %q", b)
	}
}

type countingWriter int64

func (c *countingWriter) Write(b []byte) (int, error) {
	*c += countingWriter(len(b))
	return len(b), nil
}

func TestBodyIsIncompressible(t *testing.T) {
	s, _ := start(t, target.Options{})
	resp, err := client(t).Get(url(s, "/speedtest/random500x500.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var packed countingWriter
	z := gzip.NewWriter(&packed)
	n, err := io.Copy(z, resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	z.Close()
	if int64(packed) < n {
		t.Errorf("%d bytes were packed into %d", n, packed)
	}
}

func TestUploadCountsWhatArrived(t *testing.T) {
	s, reg := start(t, target.Options{})
	c := client(t)
	for _, size := range []int{0, 1, 999_490, 3 << 20} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", size))
			if chunked {
				body = io.MultiReader(body) // a type of unknown length
			}
			resp, err := c.Post(url(s, "/speedtest/upload.php"), "application/octet-stream", body)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := fmt.Sprintf("size=%d\n", size); resp.StatusCode != 200 || string(b) != want {
				t.Errorf("chunked %v: %d %q, want %q", chunked, resp.StatusCode, b, want)
			}
		}
	}
	const want = 2 * (1 + 999_490 + (3 << 20))
	if got := metric(t, reg, "pantau_target_upload_bytes_total"); got != want {
		t.Errorf("pantau_target_upload_bytes_total %v, want %v", got, want)
	}
}

func TestNamesItsCongestionControl(t *testing.T) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		c.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno")
		})
		return err
	}}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, _ := start(t, target.Options{Listeners: []net.Listener{ln}})
	resp, err := client(t).Get(url(s, "/speedtest/latency.txt"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get(target.CongestionControlHeader); got != "reno" {
		t.Errorf("names %q, the socket has reno", got)
	}
}

func TestSeveralListeners(t *testing.T) {
	var lns []net.Listener
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns = append(lns, ln)
	}
	s, _ := start(t, target.Options{Listeners: lns})
	if s.Addr().String() != lns[0].Addr().String() {
		t.Errorf("Addr is %v, want the first", s.Addr())
	}
	for _, ln := range lns {
		resp, err := client(t).Get("http://" + ln.Addr().String() + "/speedtest/latency.txt")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%v: status %d", ln.Addr(), resp.StatusCode)
		}
	}
}

func dialRaw(t testing.TB, s *target.Target) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func TestLineProtocol(t *testing.T) {
	s, reg := start(t, target.Options{})
	for _, tt := range []struct {
		name, send string
		want       []string // a prefix each; then the end of the connection
	}{
		{"greeting and pings", "HI\nPING 1700000000000\nPING 1\nQUIT\n", []string{"HELLO 2", "PONG ", "PONG "}},
		{"greeting with id, CR LF", "HI 0123-abc\r\nPING 1\r\nQUIT\r\n", []string{"HELLO 2", "PONG "}},
		{"ping at once", "PING 1700000000000\nQUIT\n", []string{"PONG "}},
		{"unknown verb", "HI\nDANCE\nPING 1\n", []string{"HELLO 2", "ERROR"}},
		{"endless line", "HI" + strings.Repeat("x", 4096), []string{"ERROR"}},
		{"quit", "QUIT\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialRaw(t, s)
			io.WriteString(c, tt.send)
			in := bufio.NewReader(c)
			for _, want := range tt.want {
				got, err := in.ReadString('\n')
				if err != nil || !strings.HasPrefix(got, want) {
					t.Fatalf("got %q, %v; want %q", got, err, want)
				}
				if want != "PONG " {
					continue
				}
				// Clients parse bytes 5 to 18 of a line of 19.
				ms, err := strconv.ParseInt(got[5:len(got)-1], 10, 64)
				if err != nil || len(got) != 19 || time.Since(time.UnixMilli(ms)).Abs() > time.Minute {
					t.Errorf("%q does not hold this server's time", got)
				}
			}
			if rest, err := in.ReadString('\n'); err == nil {
				t.Errorf("went on with %q", rest)
			}
		})
	}
	if got := metric(t, reg, `pantau_target_requests_total{request="ping"}`); got != 4 {
		t.Errorf("%v pings counted, want 4", got)
	}
}

// Above the limits clients are told so, by both protocols, and let in again
// when there is room.
func TestConnectionLimits(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits target.Limits
		label  string
	}{
		{"in all", target.Limits{Connections: 2, RetryAfter: 7 * time.Second}, "connections"},
		{"per address", target.Limits{ConnectionsPerAddress: 2, RetryAfter: 7 * time.Second}, "address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, reg := start(t, target.Options{Limits: tt.limits})
			held := []net.Conn{dialRaw(t, s), dialRaw(t, s)}
			eventually(t, "both are in", func() bool { return metric(t, reg, "pantau_target_connections") == 2 })

			for _, method := range []string{"GET", "POST"} {
				path := "/speedtest/latency.txt"
				if method == "POST" {
					path = "/speedtest/upload.php"
				}
				req, _ := http.NewRequest(method, url(s, path), strings.NewReader("some body"))
				resp, err := client(t).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "7" || !resp.Close {
					t.Errorf("%s: %d, Retry-After %q, close %v; want 503, 7, true",
						method, resp.StatusCode, resp.Header.Get("Retry-After"), resp.Close)
				}
			}
			ping := dialRaw(t, s)
			io.WriteString(ping, "PING 1\n")
			if got, _ := bufio.NewReader(ping).ReadString('\n'); !strings.HasPrefix(got, "ERROR") {
				t.Errorf("line protocol above the limit: %q", got)
			}
			if got := metric(t, reg, fmt.Sprintf("pantau_target_refused_total{limit=%q}", tt.label)); got != 3 {
				t.Errorf("%v refusals counted, want 3", got)
			}

			held[0].Close()
			eventually(t, "room again", func() bool {
				resp, err := client(t).Get(url(s, "/speedtest/latency.txt"))
				if err != nil {
					return false
				}
				resp.Body.Close()
				return resp.StatusCode == 200
			})
		})
	}
}

// However many knock, connections and memory stay bounded.
func TestRefusalsAreBoundedToo(t *testing.T) {
	s, reg := start(t, target.Options{Limits: target.Limits{Connections: 1, HeaderTime: time.Minute}})
	var cs []net.Conn
	for range 200 {
		cs = append(cs, dialRaw(t, s))
	}
	eventually(t, "all were seen", func() bool {
		return metric(t, reg, `pantau_target_refused_total{limit="connections"}`) == 199
	})
	if got := metric(t, reg, "pantau_target_connections"); got != 65 {
		t.Errorf("%v connections are open, want 1 served and 64 to be refused", got)
	}
	cs[199].SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := cs[199].Read(make([]byte, 1)); err == nil || errors.Is(err, syscall.EAGAIN) {
		t.Errorf("the last one is open: %v", err)
	}
}

func TestHeaderLimits(t *testing.T) {
	s, _ := start(t, target.Options{Limits: target.Limits{
		HeaderTime: 200 * time.Millisecond, IdleTime: 200 * time.Millisecond, HeaderBytes: 4096}})
	for name, first := range map[string]string{
		"nothing": "", "one byte": "G", "half a header": "GET /speedtest/latency.txt HTTP/1.1\r\nHost: x\r\n", "half a ping": "PI",
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, s)
			io.WriteString(c, first)
			begin := time.Now()
			io.Copy(io.Discard, c)
			if d := time.Since(begin); d > 3*time.Second {
				t.Errorf("waited %v for the rest", d)
			}
		})
	}
	t.Run("too long", func(t *testing.T) {
		req, _ := http.NewRequest("GET", url(s, "/speedtest/latency.txt"), nil)
		req.Header.Set("X-Long", strings.Repeat("x", 64<<10))
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 431 {
			t.Errorf("status %d, want 431", resp.StatusCode)
		}
	})
}

func TestUploadLongerThanAllowed(t *testing.T) {
	s, reg := start(t, target.Options{Limits: target.Limits{RequestBytes: 1000}})
	for _, tt := range []struct {
		name string
		body io.Reader
		want int
	}{
		{"at the limit", strings.NewReader(strings.Repeat("x", 1000)), 200},
		{"announced", strings.NewReader(strings.Repeat("x", 1001)), 413},
		{"not announced", io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))), 413},
	} {
		resp, err := client(t).Post(url(s, "/speedtest/upload.php"), "application/octet-stream", tt.body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: status %d, want %d", tt.name, resp.StatusCode, tt.want)
		}
	}
	if got := metric(t, reg, `pantau_target_refused_total{limit="request_bytes"}`); got != 2 {
		t.Errorf("%v counted, want 2", got)
	}
}

func TestConnectionThatCarriedEnoughIsClosedAfterAWholeResponse(t *testing.T) {
	const object = 245388
	s, _ := start(t, target.Options{Limits: target.Limits{ConnectionBytes: 2 * object}})
	c := client(t)
	var closed []bool
	for range 3 {
		resp, err := c.Get(url(s, "/speedtest/random350x350.jpg"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n != object || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		closed = append(closed, resp.Close)
	}
	if closed[0] || !closed[1] || closed[2] {
		t.Errorf("closed after %v, want only the second", closed)
	}
}

// A client that does not take, or does not send, is broken off; what it has
// cannot be mistaken for a whole body.
func TestSlowClients(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits target.Limits
		label  string
	}{
		{"stall", target.Limits{StallTime: 200 * time.Millisecond}, "stall"},
		{"request time", target.Limits{RequestTime: 200 * time.Millisecond}, "request_time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, reg := start(t, target.Options{Limits: tt.limits})
			count := func() float64 {
				return metric(t, reg, fmt.Sprintf("pantau_target_refused_total{limit=%q}", tt.label))
			}
			resp, err := client(t).Get(url(s, "/speedtest/random4000x4000.jpg"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			eventually(t, "the reader is given up", func() bool { return count() == 1 })
			if n, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%d bytes of %d and no error", n, resp.ContentLength)
			}

			c := dialRaw(t, s)
			io.WriteString(c, "POST /speedtest/upload.php HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nxxxx")
			eventually(t, "the writer is given up", func() bool { return count() == 2 })
			if b, _ := io.ReadAll(c); strings.Contains(string(b), "200 OK") {
				t.Errorf("half an upload was answered with %q", b)
			}
		})
	}
}

func TestRunEndsWithClientsInTheMiddle(t *testing.T) {
	before := runtime.NumGoroutine()
	s, err := target.New(target.Options{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	c := client(t)
	resp, err := c.Get(url(s, "/speedtest/random4000x4000.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ping, idle := dialRaw(t, s), dialRaw(t, s)
	io.WriteString(ping, "PING 1\n")
	if _, err := bufio.NewReader(ping).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Run does not end")
	}
	for _, c := range []net.Conn{ping, idle} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a connection outlived Run: %v", err)
		}
	}
	resp.Body.Close()
	c.CloseIdleConnections()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if _, err := net.Dial("tcp", s.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the port is still open: %v", err)
	}
}

func TestMetricNames(t *testing.T) {
	_, reg := start(t, target.Options{})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(problems, err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "pantau_target_") {
			t.Errorf("%s is not the target's", f.GetName())
		}
	}
}

func TestPortInUse(t *testing.T) {
	s, _ := start(t, target.Options{})
	if _, err := target.New(target.Options{Addr: s.Addr().String()}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want EADDRINUSE", err)
	}
}

// Download over the loopback, four at a time, the client in the same process.
func BenchmarkDownload(b *testing.B) {
	s, _ := start(b, target.Options{})
	c := client(b)
	b.SetBytes(31625365)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		buf := make([]byte, 256<<10)
		for pb.Next() {
			resp, err := c.Get(url(s, "/speedtest/random4000x4000.jpg"))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, buf); err != nil {
				b.Error(err)
			}
			resp.Body.Close()
		}
	})
}

func BenchmarkUpload(b *testing.B) {
	s, _ := start(b, target.Options{})
	c := client(b)
	const size = 32 << 20
	body := strings.Repeat("x", size)
	b.SetBytes(size)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			resp, err := c.Post(url(s, "/speedtest/upload.php"), "application/octet-stream", strings.NewReader(body))
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}

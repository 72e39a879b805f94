package influx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/collector/sink"
	"github.com/pantau-desa/pantau/collector/sink/influx"
	"github.com/pantau-desa/pantau/collector/sink/influx/influxtest"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
)

// sample is one of a metric, so long ago.
func sample(metric, site string, ago time.Duration, v float64, more ...string) series.Sample {
	ls := labels.FromStrings(append([]string{model.MetricNameLabel, "pantau_" + metric, "site", site}, more...)...)
	return series.Sample{Series: &series.Series{Labels: ls}, T: time.Now().Add(-ago).UnixMilli(), V: v}
}

// minutes are n samples of a metric, a minute apart.
func minutes(metric, site string, n int) (out []series.Sample) {
	for i := range n {
		out = append(out, sample(metric, site, time.Duration(n-i)*time.Minute, float64(i)))
	}
	return out
}

func content(samples ...series.Sample) sinktest.Content {
	out := sinktest.Content{}
	for _, s := range samples {
		key := s.Series.Labels.String()
		out[key] = append(out[key], sinktest.Point{T: s.T, V: s.V})
	}
	return out
}

func holds(t *testing.T, server *influxtest.Server, db string, samples ...series.Sample) {
	t.Helper()
	if d := diff(content(samples...), read(t, server, db)); d != "" {
		t.Error(d)
	}
}

// What becomes of two samples when a server answers a write with something else
// than 204.
func TestDecisions(t *testing.T) {
	t.Parallel()
	const (
		later = "later"        // tried again, as after an outage
		ask   = "ask a person" // tried again, loudly
		gone  = "gone"         // refused, each by itself
	)
	influxHeader := map[string]string{"X-Influxdb-Version": "1.8.3", "Content-Type": "application/json"}
	v2 := map[string]string{"Content-Type": "application/json; charset=utf-8"}
	for _, c := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		want   string
		after  time.Duration
		most   int // requests
	}{
		{"internal error", 500, influxHeader, `{"error":"timeout"}`, later, 0, 1},
		{"throttled", 503, influxHeader, "request throttled, queue full", later, 0, 1},
		{"proxy without server", 502, nil, "<html>bad gateway</html>", later, 0, 1},
		{"too many", 429, v2, `{"code":"too many requests","message":"slow down"}`, later, 0, 1},
		{"too many, with a time", 429, map[string]string{"Retry-After": "17"}, "", later, 17 * time.Second, 1},
		{"unavailable, with a time", 503, map[string]string{"Retry-After": "300"}, "", later, 300 * time.Second, 1},
		{"unavailable, with a date", 503, map[string]string{"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "", later, 0, 1},
		{"request timeout", 408, nil, "", later, 0, 1},

		{"token", 401, v2, `{"code":"unauthorized","message":"unauthorized access"}`, ask, 0, 1},
		{"no right to the bucket", 403, influxHeader, `{"error":"not authorized to write"}`, ask, 0, 1},
		{"no bucket", 404, v2, `{"code":"not found","message":"bucket \"x\" not found"}`, ask, 0, 1},
		{"an InfluxDB without that API", 404, nil, "404 page not found", ask, 0, 1},
		{"elsewhere", 301, map[string]string{"Location": "/login"}, "", ask, 0, 1},
		{"elsewhere, for good", 308, map[string]string{"Location": "/login"}, "", ask, 0, 1},
		{"a page", 200, map[string]string{"Content-Type": "text/html"}, "<html>Welcome</html>", ask, 0, 1},
		{"accepted by something", 202, nil, "", ask, 0, 1},
		{"TLS is spoken there", 400, nil, "Client sent an HTTP request to an HTTPS server.\n", ask, 0, 1},
		{"a proxy's bad request", 400, map[string]string{"Content-Type": "text/html"}, "<html>400 Bad Request</html>", ask, 0, 1},
		{"a stranger's JSON", 400, v2, `{"detail":"no"}`, ask, 0, 1},
		{"a proxy's limit", 413, map[string]string{"Content-Type": "text/html"}, "<html>too large</html>", ask, 0, 2},
		{"teapot", 418, nil, "", ask, 0, 1},

		{"bad line, 1.8", 400, influxHeader, `{"error":"partial write: field type conflict dropped=1"}`, gone, 0, 3},
		{"bad lines, both", 400, map[string]string{"X-Influxdb-Version": "1.8.3", "X-Influxdb-Error": "partial write: max-values-per-tag limit exceeded dropped=2",
			"Content-Type": "application/json"}, `{"error":"partial write: max-values-per-tag limit exceeded dropped=2"}`, gone, 0, 1},
		{"bad line, 2", 400, v2, `{"code":"invalid","message":"unable to parse 'x': missing fields"}`, gone, 0, 3},
		{"unprocessable, 2", 422, v2, `{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict dropped=1"}`, gone, 0, 3},
		{"too old, 2", 422, v2, `{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=2"}`, gone, 0, 1},
		{"too large", 413, v2, `{"code":"request too large","message":"unable to read data"}`, gone, 0, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				if want := "/api/v2/write"; r.Method != http.MethodPost || r.URL.Path != want || r.URL.Query().Get("precision") != "ms" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				if got := r.Header.Get("Authorization"); got != "Token hush" {
					t.Errorf("authorization %q", got)
				}
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer server.Close()
			s := open(t, influx.Options{URL: server.URL, Org: org, Bucket: "b", Token: "hush"})
			refused, err := s.Write(t.Context(), minutes("jitter_seconds", "site-a", 2))
			if int(requests.Load()) > c.most {
				t.Errorf("%d requests, want %d at most", requests.Load(), c.most)
			}
			if err != nil && strings.Contains(err.Error(), "hush") {
				t.Errorf("the error shows the token: %v", err)
			}
			switch c.want {
			case gone:
				if err != nil || refused.Total() != 2 {
					t.Errorf("refused %+v, %v", refused, err)
				}
				if strings.Contains(c.body, "retention") != (refused.Old == 2) {
					t.Errorf("refused %+v", refused)
				}
			default:
				if err == nil || refused.Total() != 0 {
					t.Fatalf("refused %+v, %v", refused, err)
				}
				if got := errors.Is(err, sink.ErrOperator); got != (c.want == ask) {
					t.Errorf("a person is asked: %v: %v", got, err)
				}
				var l *sink.Later
				if errors.As(err, &l); (l == nil) != (c.after == 0) || l != nil && l.After != c.after {
					t.Errorf("wait %+v, want %v", l, c.after)
				}
				if c.status != 200 && c.status != 202 && !strings.Contains(err.Error(), "bucket \"b\" of "+server.URL) {
					t.Errorf("the error does not say where: %v", err)
				}
			}
		})
	}
}

func TestAServerThatIsNotThere(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	for _, c := range []struct {
		name, url string
		ask       bool
	}{
		{"nobody listens", "http://" + closed.Addr().String(), false},
		{"nobody answers", "http://" + deaf.Addr().String(), false},
		{"no such name", "http://influx.invalid:8086", false},
		{"a certificate of nobody we know", secure.URL, true},
		{"TLS without https", strings.Replace(secure.URL, "https", "http", 1), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := influx.Options{URL: c.url, Org: org, Bucket: "b"}
			if c.name == "nobody answers" {
				o.Timeout = 300 * time.Millisecond
			}
			s := open(t, o)
			refused, err := s.Write(t.Context(), minutes("jitter_seconds", "site-a", 2))
			// A server that hangs up may do so before its word is read: it has it again
			// at the next try.
			for range 20 {
				if !c.ask || errors.Is(err, sink.ErrOperator) {
					break
				}
				refused, err = s.Write(t.Context(), minutes("jitter_seconds", "site-a", 2))
			}
			if err == nil || refused.Total() != 0 || errors.Is(err, sink.ErrOperator) != c.ask {
				t.Errorf("refused %+v, %v", refused, err)
			}
		})
	}
}

// Points that InfluxDB refuses are found among many; all others are stored, and
// what follows too.
func TestBadPointsAreFoundAmongGoodOnes(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{})
	const db = "pantau"
	server.Create(db)
	// Somebody wrote words where we write numbers, in the weeks of some of our points.
	now := time.Now()
	for _, at := range []time.Time{now, now.Add(-7 * 24 * time.Hour)} {
		if code := server.Line(db, fmt.Sprintf(`reach,site=other odp_reachable="yes" %d`, at.UnixMilli())); code != http.StatusNoContent {
			t.Fatal(code)
		}
	}
	var logged bytes.Buffer
	s := open(t, influx.Options{URL: server.URL(), Org: org, Bucket: db, Logger: slog.New(slog.NewTextHandler(&logged, nil))})

	good := append(minutes("jitter_seconds", "site-a", 3000), minutes("download_bits_per_second", "site-a", 3000)...)
	bad := minutes("odp_reachable", "site-a", 500)
	var all []series.Sample
	for i := range good { // one among the other
		all = append(all, good[i])
		if i < len(bad) {
			all = append(all, bad[i])
		}
	}
	unwritable := []series.Sample{
		sample("jitter_seconds", "site-n", time.Minute, math.NaN()),
		sample("jitter_seconds", "site-i", time.Minute, math.Inf(1)),
		sample("jitter_seconds", `site\`, time.Minute, 1),
		sample("jitter_seconds", "site-l", time.Minute, 1, "target", "a\nb"),
		sample("jitter_seconds", "site-b", time.Minute, series.StaleMarker()),
	}
	all = append(all, unwritable...)
	refused, err := s.Write(t.Context(), all)
	if err != nil || refused != (sink.Refused{Invalid: len(bad) + len(unwritable)}) {
		t.Errorf("refused %+v, %v", refused, err)
	}
	odd := sample("jitter_seconds", `site a,b=c"d'e é`, time.Minute, 1, "target", "a,b c=d")
	if refused, err = s.Write(t.Context(), []series.Sample{odd}); err != nil || refused.Total() != 0 {
		t.Errorf("refused %+v, %v", refused, err)
	}
	holds(t, server, db, append(good, odd)...)
	if text := logged.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "samples=500") || !strings.Contains(text, "field type conflict") {
		t.Errorf("logged: %s", text)
	}
}

func TestPointsOlderThanTheBucketKeeps(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{})
	const db = "pantau"
	server.Create(db)
	server.InfluxQL(db, `CREATE RETENTION POLICY "short" ON "pantau" DURATION 24h REPLICATION 1 SHARD DURATION 1h DEFAULT`)
	s := open(t, influx.Options{URL: server.URL(), Org: org, Bucket: db + "/short"})
	var old, fresh []series.Sample
	for i := range 600 {
		old = append(old, sample("jitter_seconds", fmt.Sprint("site-", i), 47*time.Hour-time.Duration(i)*time.Second, 1))
		fresh = append(fresh, sample("jitter_seconds", fmt.Sprint("site-", i), time.Duration(i)*time.Second, 1))
	}
	refused, err := s.Write(t.Context(), append(old, fresh...))
	if err != nil || refused != (sink.Refused{Old: len(old)}) {
		t.Errorf("refused %+v, %v", refused, err)
	}
	holds(t, server, db, fresh...)
}

// A wrong token, a missing right and a missing bucket wait loudly and lose
// nothing: once they are mended all is there.
func TestWhatAPersonMustMendWaits(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{User: "admin", Password: "kunci"})
	server.InfluxQL("", "CREATE USER pantau WITH PASSWORD 'rahasia'")
	w := newWorld(t, seriestest.Inventory(t))
	now := time.Now()
	booted := now.Add(-time.Hour)
	for i := range 5 {
		sealed := now.Add(time.Duration(i) * time.Second)
		w.batch(seriestest.Batch("probe-b", uint64(i+1), sealed, booted, seriestest.Latency(sealed.Add(-time.Minute), booted, 0.01)), booted, sealed)
	}
	options := influx.Options{URL: server.URL(), Org: org, Bucket: "baru", Token: "pantau:salah"}
	stuck := func(why string, o influx.Options) {
		t.Helper()
		run, stop := w.influx("influx", o)
		until(t, why+" is noticed", func() bool { return w.metric("pantau_sink_needs_operator", "influx") == 1 })
		if run.CaughtUp() {
			t.Errorf("%s: the cursor moved", why)
		}
		w.caughtUp("the embedded store does not wait", w.tsdb)
		stop()
	}
	stuck("a wrong token", options)
	options.Token = "pantau:rahasia"
	stuck("a bucket that is not there", options)
	server.Create("baru")
	run, stop := w.influx("influx", options)
	until(t, "a missing right is noticed", func() bool { return w.metric("pantau_sink_needs_operator", "influx") == 1 })
	server.InfluxQL("", `GRANT WRITE ON "baru" TO pantau`)
	until(t, "all is written", run.CaughtUp)
	until(t, "nobody is needed", func() bool { return w.metric("pantau_sink_needs_operator", "influx") == 0 })
	stop()
	if d := diff(w.expected(), read(t, server, "baru")); d != "" {
		t.Error(d)
	}
	if n := w.metric("pantau_sink_refused_samples_total", "influx"); n != 0 {
		t.Errorf("%v samples were refused", n)
	}
}

// A server that hangs holds up its own sink alone, and not even that from ending.
func TestAServerThatHangs(t *testing.T) {
	t.Parallel()
	server := influxtest.Start(t, influxtest.Options{})
	server.Create("pantau")
	server.Stop()
	s := open(t, influx.Options{URL: server.URL(), Org: org, Bucket: "pantau"})
	all := minutes("jitter_seconds", "site-a", 3)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Write(ctx, all)
		ended <- err
	}()
	time.AfterFunc(200*time.Millisecond, cancel)
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the write does not end with its context")
	}
	brief := open(t, influx.Options{URL: server.URL(), Org: org, Bucket: "pantau", Timeout: 300 * time.Millisecond})
	if _, err := brief.Write(t.Context(), all); err == nil || errors.Is(err, sink.ErrOperator) {
		t.Errorf("a server that hangs: %v", err)
	}
	server.Continue()
	if refused, err := s.Write(t.Context(), all); err != nil || refused.Total() != 0 {
		t.Errorf("refused %+v, %v", refused, err)
	}
	holds(t, server, "pantau", all...)
}

func TestCheck(t *testing.T) {
	good := influx.Options{URL: "https://influx.example:8086/db", Org: "dinas", Bucket: "pantau/autogen", Token: "a=="}
	if wrong := good.Check(); len(wrong) != 0 {
		t.Errorf("%v", wrong)
	}
	for _, c := range []struct {
		change    func(*influx.Options)
		key, what string
	}{
		{func(o *influx.Options) { o.URL = "" }, "url", "is empty: name the server, such as http://127.0.0.1:8086"},
		{func(o *influx.Options) { o.URL = "influx:8086" }, "url", "is no address of a server, such as https://influx.example:8086"},
		{func(o *influx.Options) { o.URL = "udp://influx:8089" }, "url", "is no address of a server, such as https://influx.example:8086"},
		{func(o *influx.Options) { o.URL = "http://:8086" }, "url", "is no address of a server, such as https://influx.example:8086"},
		{func(o *influx.Options) { o.URL = "http://u:p@h:8086" }, "url", "holds a user or a password: those belong into token_file, for InfluxDB 1.8 as user:password"},
		{func(o *influx.Options) { o.URL = "http://h:8086/?db=x" }, "url", "has something behind ? or #: the address of the server is enough"},
		{func(o *influx.Options) { o.URL = "http://h:8086/api/v2/write" }, "url", "names a path of the server's API: the address of the server is enough"},
		{func(o *influx.Options) { o.URL = "http://h:8086/write/" }, "url", "names a path of the server's API: the address of the server is enough"},
		{func(o *influx.Options) { o.Org = "" }, "org", "is empty: name the organisation; InfluxDB 1.8 has none and takes any word"},
		{func(o *influx.Options) { o.Org = " dinas" }, "org", "has spaces around it"},
		{func(o *influx.Options) { o.Bucket = "" }, "bucket", "is empty: name the bucket; of InfluxDB 1.8, the database"},
		{func(o *influx.Options) { o.Token = "a b" }, "token", "holds spaces or characters that cannot be seen"},
	} {
		o := good
		c.change(&o)
		if wrong := o.Check(); len(wrong) != 1 || wrong[c.key] != c.what {
			t.Errorf("%+v: %v, want %s %s", o, wrong, c.key, c.what)
		}
		if _, err := influx.New(o); err == nil || !strings.Contains(err.Error(), c.key) || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestDestination(t *testing.T) {
	a := influx.Options{URL: "http://h:8086", Org: "o", Bucket: "b", Token: "one"}
	same := a
	same.URL, same.Token = "http://h:8086/", "two"
	if a.Destination() != same.Destination() {
		t.Error("a new token is a new destination")
	}
	seen := map[string]bool{a.Destination(): true}
	for _, change := range []func(*influx.Options){
		func(o *influx.Options) { o.URL = "http://h:8087" }, func(o *influx.Options) { o.Org = "ob"; o.Bucket = "" },
		func(o *influx.Options) { o.Org = "p" }, func(o *influx.Options) { o.Bucket = "c" }} {
		o := a
		change(&o)
		if seen[o.Destination()] {
			t.Errorf("%+v is no other destination", o)
		}
		seen[o.Destination()] = true
	}
}

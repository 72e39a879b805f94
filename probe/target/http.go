package target

import (
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

const (
	pathLatency  = "/speedtest/latency.txt"
	pathUpload   = "/speedtest/upload.php"
	latencyBody  = "test=test\n"
	typeText     = "text/plain; charset=utf-8"
	typeDownload = "image/jpeg"
)

// objects are the downloads: the sizes in bytes that random{N}x{N}.jpg has on
// Ookla's servers. Clients know them.
var objects = map[string]int64{
	"/speedtest/random350x350.jpg":   245388,
	"/speedtest/random500x500.jpg":   505544,
	"/speedtest/random750x750.jpg":   1118012,
	"/speedtest/random1000x1000.jpg": 1986284,
	"/speedtest/random1500x1500.jpg": 4468241,
	"/speedtest/random2000x2000.jpg": 7907740,
	"/speedtest/random2500x2500.jpg": 12407926,
	"/speedtest/random3000x3000.jpg": 17816816,
	"/speedtest/random3500x3500.jpg": 24262167,
	"/speedtest/random4000x4000.jpg": 31625365,
}

// piece is how much is written at a time, uploadPiece how much is read: that
// much memory per upload.
const (
	piece       = 256 << 10
	uploadPiece = 64 << 10
)

// body is what every download is cut from: noise, made once.
type body []byte

func newBody() (body, error) {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, err
	}
	b := make(body, 8*piece)
	rand.NewChaCha8(seed).Read(b)
	return b, nil
}

// at is the next piece of a download: at most n bytes from offset on, around
// the end.
func (b body) at(offset, n int64) []byte {
	o := offset % int64(len(b))
	return b[o:min(o+min(n, piece), int64(len(b)))]
}

// handler answers the allow-list; all else is 404.
func (t *Target) handler() http.Handler {
	uploads := sync.Pool{New: func() any { return new([uploadPiece]byte) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r.Context())
		rc := http.NewResponseController(w)
		end := time.Now().Add(t.limits.RequestTime)
		rc.SetWriteDeadline(end)
		rc.SetReadDeadline(end)

		h := w.Header()
		h.Set("Cache-Control", "no-store, no-transform")
		h.Set("X-Content-Type-Options", "nosniff")
		if cc := c.congestionControl(); cc != "" {
			h.Set(CongestionControlHeader, cc)
		}
		if c.bytes.Load() >= t.limits.ConnectionBytes {
			h.Set("Connection", "close")
		}
		size, isObject := objects[r.URL.Path]
		var site measure.SiteID
		if bulk := r.Method == http.MethodGet && (isObject || r.URL.Path == pathReceived) || r.Method == http.MethodPost && r.URL.Path == pathUpload; bulk && c.refused == "" {
			var leave func()
			var ok bool
			if site, leave, ok = t.admit(w, r, c); !ok {
				t.metrics.requests.WithLabelValues("refused").Inc()
				return
			}
			defer leave()
		}
		switch {
		case c.refused != "":
			t.metrics.requests.WithLabelValues("refused").Inc()
			h.Set("Connection", "close")
			h.Set("Retry-After", strconv.Itoa(int(max(t.limits.RetryAfter, time.Second)/time.Second)))
			text(w, http.StatusServiceUnavailable, "too many connections; come back later\n")
		case r.Method == http.MethodGet && r.URL.Path == pathLatency:
			t.metrics.requests.WithLabelValues("latency").Inc()
			text(w, http.StatusOK, latencyBody)
		case r.Method == http.MethodGet && isObject:
			t.metrics.requests.WithLabelValues("download").Inc()
			if c.bytes.Load()+size >= t.limits.ConnectionBytes {
				h.Set("Connection", "close")
			}
			a, leave := t.accounts.enter(r, c)
			defer leave()
			t.download(w, rc, a, size, end)
		case r.Method == http.MethodPost && r.URL.Path == pathUpload:
			t.metrics.requests.WithLabelValues("upload").Inc()
			buf := uploads.Get().(*[uploadPiece]byte)
			defer uploads.Put(buf)
			a, leave := t.accounts.enter(r, c)
			defer leave()
			t.upload(w, r, rc, c, a, buf[:], end)
		case r.Method == http.MethodGet && r.URL.Path == pathReceived:
			t.metrics.requests.WithLabelValues("received").Inc()
			t.received(w, r, rc, site, end)
		default:
			t.metrics.requests.WithLabelValues("other").Inc()
			text(w, http.StatusNotFound, "404 page not found\n")
		}
	})
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", typeText)
	w.Header().Set("Content-Length", strconv.Itoa(len(s)))
	w.WriteHeader(status)
	io.WriteString(w, s)
}

// download writes size bytes, or breaks the connection: the length was
// announced, so no client can take the part for the whole.
func (t *Target) download(w http.ResponseWriter, rc *http.ResponseController, a *account, size int64, end time.Time) {
	w.Header().Set("Content-Type", typeDownload)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	offset := rand.Int64N(int64(len(t.body))) // no two bodies alike to a cache on the way
	for left := size; left > 0; {
		now := time.Now()
		rc.SetWriteDeadline(earlier(end, now.Add(t.limits.StallTime)))
		n, err := w.Write(t.body.at(offset, left))
		t.metrics.sent.Add(float64(n))
		t.moved.sent.Add(int64(n))
		if a != nil {
			a.sent.Add(int64(n))
		}
		if err != nil {
			t.countSlow(err, end)
			panic(http.ErrAbortHandler)
		}
		left -= int64(n)
		offset += int64(n)
	}
}

// upload reads the body to its end and says how long it was.
func (t *Target) upload(w http.ResponseWriter, r *http.Request, rc *http.ResponseController, c *conn, a *account, buf []byte, end time.Time) {
	if r.ContentLength > t.limits.RequestBytes {
		t.tooLarge(w)
		return
	}
	var total int64
	for {
		rc.SetReadDeadline(earlier(end, time.Now().Add(t.limits.StallTime)))
		n, err := r.Body.Read(buf)
		total += int64(n)
		t.metrics.received.Add(float64(n))
		t.moved.received.Add(int64(n))
		if a != nil {
			a.received.Add(int64(n))
		}
		switch {
		case total > t.limits.RequestBytes: // sent without a length
			t.tooLarge(w)
			return
		case err == io.EOF:
			if c.bytes.Load() >= t.limits.ConnectionBytes {
				w.Header().Set("Connection", "close")
			}
			text(w, http.StatusOK, fmt.Sprintf("size=%d\n", total))
			return
		case err != nil:
			t.countSlow(err, end)
			panic(http.ErrAbortHandler)
		}
	}
}

func (t *Target) tooLarge(w http.ResponseWriter) {
	t.metrics.refused.WithLabelValues(limitRequestBytes).Inc()
	w.Header().Set("Connection", "close")
	text(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d bytes\n", t.limits.RequestBytes))
}

// countSlow counts err if it is the passing of a deadline. Clients that go away
// in the middle are how every speed test ends.
func (t *Target) countSlow(err error, end time.Time) {
	var timeout interface{ Timeout() bool }
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		return
	}
	limit := limitStall
	if !time.Now().Before(end) {
		limit = limitRequestTime
	}
	t.metrics.refused.WithLabelValues(limit).Inc()
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

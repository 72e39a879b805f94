package engine

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
)

// reading is a line of the side channel, as package target writes it: what the
// server has received of this test, by its own clock.
type reading struct {
	Clock         int64   `json:"clock_ns"`
	Received      int64   `json:"received"`
	Arrived       int64   `json:"arrived"` // 0: it does not say
	Segments      uint64  `json:"segments"`
	Retransmitted uint64  `json:"retransmitted"`
	RTT           int64   `json:"rtt_ns"`
	MinRTT        int64   `json:"min_rtt_ns"`
	CPU           float64 `json:"cpu"`
	// Load is of the server's line, 0 to 1; nil: not known. SiteTests is how many tests
	// of this probe's site are under way there; 0: not known.
	Load      *float64 `json:"load"`
	SiteTests int      `json:"site_tests"`
}

// passed is what has come to the server, with what it could not read yet.
func (r reading) passed() int64 {
	if r.Arrived > 0 {
		return r.Arrived
	}
	return r.Received
}

// busy reports whether the server may have been what held the rate.
func (r reading) busy() bool { return r.CPU > 0.9 || r.Load != nil && *r.Load > 0.9 }

// How often the server tells. Its lines and their acknowledgements use the line
// that is measured: less than 0.3% of 1 Mbit/s.
const (
	everyUpload   = 200 * time.Millisecond
	everyDownload = 500 * time.Millisecond
)

// openChannel asks the server to tell what it receives. Without one, as on
// servers that are not ours, lines stays nil.
func (t *transfer) openChannel() error {
	c, err := t.dial(t.side)
	if err != nil {
		return err
	}
	every := everyDownload
	if t.kind == measure.KindUpload {
		every = everyUpload
	}
	resp, err := t.ask(c, "received", "id="+t.id+"&every="+every.String())
	if err != nil {
		c.Close()
		return err
	}
	if s := resp.StatusCode; s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusServiceUnavailable {
		err := server.GoodStatus(resp) // one of ours, which refuses; others do not know the path
		c.Close()
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		c.Close()
		return nil
	}
	lines := make(chan reading, 16)
	t.lines = lines
	t.workers.Go(func() {
		defer c.Close()
		in := bufio.NewScanner(io.LimitReader(resp.Body, 1<<20))
		for in.Scan() {
			var r reading
			if err := json.Unmarshal(in.Bytes(), &r); err != nil {
				t.end(server.Fail(measure.ReasonNoServer, "the server tells %.40q of what it received", in.Text()))
				return
			}
			select {
			case lines <- r:
			case <-t.ctx.Done():
				return
			}
		}
		t.end(server.Fail(measure.ReasonShortBody, "the server no longer tells what it received"))
	})
	return nil
}

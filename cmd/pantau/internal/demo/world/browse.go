package world

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	defaultEvery = 3 * time.Second
	defaultRate  = 32e3 // bits per second
	mostShare    = 0.01 // of the drop line
	leastWait    = 5 * time.Second
	mostPage     = 1 << 20 // bytes
)

// Browsing is what a village's people do.
type Browsing struct {
	// URL is of a [Website] that the box can reach, by its IPv4 address.
	URL string
	// Every is from one page to the next. 0: 3 s.
	Every time.Duration
	// Rate is the pages' size over time, in bits per second, at most 1% of the
	// drop line either way. 0: 32 kbit/s.
	Rate float64
}

// Browse fetches a page every so often from inside the box, through its
// interface, until ctx is done. A page that does not come, as in a cut, is
// given up; the next is tried at its time. It returns an error only for
// browsing that is not possible at all.
func (v *Village) Browse(ctx context.Context, b Browsing) error {
	if b.Every == 0 {
		b.Every = defaultEvery
	}
	if b.Rate == 0 {
		b.Rate = defaultRate
	}
	if most := min(v.Down, v.Up) * mostShare; !(b.Rate > 0 && b.Rate <= most) {
		return fmt.Errorf("world: browse at %g bit/s: want at most %g, 1%% of the line", b.Rate, most)
	}
	size := b.Rate / 8 * b.Every.Seconds()
	if !(size >= 1 && size <= mostPage) {
		return fmt.Errorf("world: browse pages of %.0f bytes: want 1 to %d", size, mostPage)
	}
	page, err := url.Parse(b.URL)
	if err != nil {
		return fmt.Errorf("world: browse: %w", err)
	}
	query := page.Query()
	query.Set("bytes", strconv.Itoa(int(size)))
	page.RawQuery = query.Encode()

	transport := &http.Transport{DialContext: v.Box.DialContext}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: max(b.Every, leastWait)}
	tick := time.NewTicker(b.Every)
	defer tick.Stop()
	for {
		fetch(ctx, client, page.String())
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// fetch reads a page to its end. Its failure is the line's affair.
func fetch(ctx context.Context, client *http.Client, page string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return
	}
	answer, err := client.Do(request)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	io.Copy(io.Discard, io.LimitReader(answer.Body, mostPage))
}

// Website answers GET requests with as many bytes as their query's "bytes"
// asks for, at most 1 MiB.
func Website() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		n, err := strconv.Atoi(r.URL.Query().Get("bytes"))
		if err != nil || n < 0 || n > mostPage {
			http.Error(w, fmt.Sprintf("bytes: want 0 to %d", mostPage), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.Write(make([]byte, n))
	})
}

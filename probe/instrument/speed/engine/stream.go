package engine

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	userAgent = "pantau-probe"
	// object is what is downloaded, 31,625,365 bytes on Ookla's servers.
	object = "random4000x4000.jpg"
	// uploadLength is announced, in bytes, and never reached.
	uploadLength = 4_000_000_000
	piece        = 64 << 10 // bytes read or written at a time
)

// dial opens a connection of a group to the server, by TLS if its scheme says
// so. The name is resolved once: all streams go to one address.
func (t *transfer) dial(g *ledger.Group) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, t.o.CheckTime)
	defer cancel()
	addr := t.address
	if addr == "" {
		port := t.base.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[t.base.Scheme]
		}
		addr = net.JoinHostPort(t.base.Hostname(), port)
	}
	c, err := g.DialContext(ctx, t.o.Network, addr)
	if err != nil || t.base.Scheme != "https" {
		return c, err
	}
	cfg := t.o.TLS.Clone()
	if cfg == nil {
		cfg = new(tls.Config)
	}
	if cfg.ServerName == "" {
		cfg.ServerName = t.base.Hostname()
	}
	cfg.NextProtos = []string{"http/1.1"}
	secure := tls.Client(c, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// request is a request's head.
func (t *transfer) request(method, name, query string, length int64) (string, *http.Request) {
	u := t.base.JoinPath(name)
	u.RawQuery = query
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept-Encoding: identity\r\n", method, u.RequestURI(), t.base.Host, userAgent)
	if t.token != "" {
		fmt.Fprintf(&b, "%s: %s\r\n", wire.HeaderTicket, t.token)
	}
	if length > 0 {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", length)
	}
	b.WriteString("\r\n")
	return b.String(), &http.Request{Method: method, URL: u}
}

// ask sends a request on c and reads the answer's head.
func (t *transfer) ask(c net.Conn, name, query string) (*http.Response, error) {
	head, req := t.request(http.MethodGet, name, query, 0)
	c.SetDeadline(time.Now().Add(t.o.CheckTime))
	defer c.SetDeadline(time.Time{})
	if _, err := io.WriteString(c, head); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(c), req)
}

// unique makes a query that no cache has seen, with the test's id.
func (t *transfer) unique() string {
	return url.Values{"x": {strconv.FormatUint(rand.Uint64(), 36)}, "id": {t.id}}.Encode()
}

// download reads objects from c for ever. Two requests are always under way, so
// that no round trip passes without bytes.
func (t *transfer) download(c net.Conn) error {
	in := bufio.NewReaderSize(c, piece)
	head, req := t.request(http.MethodGet, object, t.unique(), 0)
	next, _ := t.request(http.MethodGet, object, t.unique(), 0)
	if _, err := io.WriteString(c, head+next); err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(t.o.CheckTime))
	buf := make([]byte, piece)
	for first := true; ; first = false {
		resp, err := http.ReadResponse(in, req)
		if err != nil {
			return err
		}
		if first {
			c.SetReadDeadline(time.Time{})
		}
		if err := t.goodObject(resp); err != nil {
			return err
		}
		for left := resp.ContentLength; left > 0; {
			n, err := in.Read(buf[:min(left, piece)])
			left -= int64(n)
			t.passed.Add(int64(n))
			if err != nil {
				return err
			}
		}
		next, _ := t.request(http.MethodGet, object, t.unique(), 0)
		if _, err := io.WriteString(c, next); err != nil {
			return err
		}
	}
}

// goodObject checks the head of a download.
func (t *transfer) goodObject(resp *http.Response) error {
	if err := server.GoodStatus(resp); err != nil {
		return err
	}
	t.note(resp.Header)
	n := resp.ContentLength
	if n < server.MinObject {
		return server.Fail(measure.ReasonShortBody, "the object announces %d bytes, want %d at least", n, server.MinObject)
	}
	if !t.length.CompareAndSwap(0, n) && t.length.Load() != n {
		return server.Fail(measure.ReasonShortBody, "the object announces %d bytes, another one %d", n, t.length.Load())
	}
	return nil
}

// upload writes one body to c for ever. Whatever the server answers before its
// end is a failure.
func (t *transfer) upload(c net.Conn) error {
	head, req := t.request(http.MethodPost, "upload.php", t.unique(), uploadLength)
	if _, err := io.WriteString(c, head); err != nil {
		return err
	}
	answered := make(chan error, 1)
	t.workers.Go(func() {
		answered <- t.answer(c, req)
		c.Close() // whoever writes learns it
	})
	noise := t.noise
	for at := rand.IntN(len(noise)); ; {
		n, err := c.Write(noise[at:min(at+piece, len(noise))])
		if err != nil {
			select {
			case why := <-answered: // says more
				return why
			case <-time.After(100 * time.Millisecond):
				return err
			}
		}
		at = (at + n) % len(noise)
	}
}

// answer waits for an answer, which should not come, and makes an error of it.
func (t *transfer) answer(c net.Conn, req *http.Request) error {
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		return err
	}
	if err := server.GoodStatus(resp); err != nil {
		return err
	}
	return server.Fail(measure.ReasonShortBody, "the server answered before the end of the upload")
}

// note keeps what headers tell of the way.
func (t *transfer) note(h http.Header) {
	for _, k := range []string{"Via", "X-Cache", "Age"} {
		if h.Get(k) != "" {
			t.proxied.Store(true)
		}
	}
}

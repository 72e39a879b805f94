package target_test

import (
	"bufio"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
	"github.com/pantau-desa/pantau/probe/wire"
)

// desk signs tickets as a collector does.
type desk struct{ key ed25519.PrivateKey }

func newDesk(t *testing.T) (desk, ed25519.PublicKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return desk{key}, public
}

func (d desk) give(t *testing.T, n byte, site measure.SiteID, server measure.TargetID, expires time.Time) (token, id string) {
	t.Helper()
	ticket := wire.Ticket{ID: wire.TicketID{n}, Site: site, Probe: "p1", Target: server, Expires: expires}
	token, err := ticket.Token(d.key)
	if err != nil {
		t.Fatal(err)
	}
	return token, ticket.ID.String() + "0123456789abcdef"
}

// get asks with a token, and returns what was answered and how.
func get(t *testing.T, s *target.Target, path, token string) (status int, header http.Header, body string) {
	t.Helper()
	return send(t, s, http.MethodGet, path, token, "")
}

func send(t *testing.T, s *target.Target, method, path, token, content string) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url(s, path), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set(wire.HeaderTicket, token)
	}
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

func TestNothingInBulkWithoutATicketThatServes(t *testing.T) {
	own, trusted := newDesk(t)
	old, trustedToo := newDesk(t)
	stranger, _ := newDesk(t)
	s, _ := start(t, target.Options{ID: "ukur-1", Trust: []ed25519.PublicKey{trusted, trustedToo}})
	now := time.Now()
	soon := now.Add(wire.TicketLife)
	good, id := own.give(t, 1, "s1", "ukur-1", soon)
	of := func(d desk, server measure.TargetID, expires time.Time) string {
		token, _ := d.give(t, 1, "s1", server, expires)
		return token
	}
	const object = "/speedtest/random350x350.jpg"
	for _, c := range []struct {
		name, path, token string
		status            int
		says              string
	}{
		{"none", object, "", 401, "no ticket"},
		{"none, for the question", "/speedtest/received?id=" + id, "", 401, "no ticket"},
		{"noise", object, "noise", 403, "malformed"},
		{"forged", object, of(stranger, "ukur-1", soon), 403, "not signed by a collector"},
		{"changed", object, "A" + good[1:], 403, "not good here"},
		{"for another server", object, of(own, "ukur-2", soon), 403, "another measurement server"},
		{"expired", object, of(own, "ukur-1", now.Add(-wire.TicketSkew-time.Second)), 403, "expired"},
		{"of a collector far ahead", object, of(own, "ukur-1", soon.Add(wire.TicketSkew+5*time.Second)), 403, "clocks"},
		{"for another test", object + "?id=ffffffffffffffff0123456789abcdef", good, 403, "another id"},
		{"good", object, good, 200, ""},
		{"good, with its id", object + "?id=" + id, good, 200, ""},
		{"good, by the other key", object, of(old, "ukur-1", soon), 200, ""},
		{"good, of a collector a minute behind", object, of(own, "ukur-1", now.Add(-wire.TicketSkew+5*time.Second)), 200, ""},
		{"good, of a collector a minute ahead", object, of(own, "ukur-1", soon.Add(wire.TicketSkew-time.Second)), 200, ""},
		{"good, for the question", "/speedtest/received?id=" + id, good, 200, ""},
		{"latency is for everyone", "/speedtest/latency.txt", "", 200, ""},
		{"404 tells nothing of tickets", "/speedtest/else", "", 404, ""},
	} {
		status, header, body := get(t, s, c.path, c.token)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %.80q, want %d %q", c.name, status, body, c.status, c.says)
		}
		if refused := c.status == 401 || c.status == 403; refused != (header.Get("WWW-Authenticate") == wire.TicketScheme) || refused && len(body) > 300 {
			t.Errorf("%s: %v, %d bytes", c.name, header, len(body))
		}
	}
	if status, _, body := send(t, s, http.MethodPost, "/speedtest/upload.php?id="+id, "", "x"); status != 401 {
		t.Errorf("an upload without a ticket: %d %q", status, body)
	}
	if status, _, body := send(t, s, http.MethodPost, "/speedtest/upload.php?id="+id, good, "x"); status != 200 || body != "size=1\n" {
		t.Errorf("an upload: %d %q", status, body)
	}
	if _, err := target.New(target.Options{Addr: "127.0.0.1:0", Trust: []ed25519.PublicKey{trusted}}); err == nil {
		t.Error("a server that does not know its own id takes tickets for any")
	}
}

// follow reads lines of a test until one pleases.
func follow(t *testing.T, s *target.Target, token, id string, pleases func(target.Reading) bool) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url(s, "/speedtest/received?every=50ms&id="+id), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(wire.HeaderTicket, token)
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var line target.Reading
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && lines.Scan(); {
		line = target.Reading{}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if pleases(line) {
			return
		}
	}
	t.Errorf("last %+v", line)
}

// hold keeps a request of a test under way until the test ends.
func hold(t *testing.T, s *target.Target, token, id string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url(s, "/speedtest/received?every=5s&id="+id), nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set(wire.HeaderTicket, token)
	}
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestTestsOfOneSiteAreTold(t *testing.T) {
	d, trusted := newDesk(t)
	s, _ := start(t, target.Options{ID: "ukur-1", Trust: []ed25519.PublicKey{trusted}})
	soon := time.Now().Add(wire.TicketLife)
	one, oneID := d.give(t, 1, "s1", "ukur-1", soon)
	two, twoID := d.give(t, 2, "s1", "ukur-1", soon)
	other, otherID := d.give(t, 3, "s2", "ukur-1", soon)
	hold(t, s, one, oneID)
	hold(t, s, other, otherID)
	follow(t, s, one, oneID, func(r target.Reading) bool { return r.SiteTests == 1 })
	follow(t, s, two, twoID, func(r target.Reading) bool { return r.SiteTests == 2 })
	follow(t, s, other, otherID, func(r target.Reading) bool { return r.SiteTests == 1 })
}

func TestTestsAreLimited(t *testing.T) {
	s, m := start(t, target.Options{Limits: target.Limits{Tests: 2, RetryAfter: 10 * time.Second}})
	hold(t, s, "", "aaaaaaaaaaaaaaaa")
	two := hold(t, s, "", "bbbbbbbbbbbbbbbb")
	const third = "/speedtest/random350x350.jpg?id=cccccccccccccccc"
	waits := map[int]bool{}
	for range 20 {
		status, header, body := get(t, s, third, "")
		wait, err := strconv.Atoi(header.Get("Retry-After"))
		if status != 503 || err != nil || wait < 10 || wait > 20 || len(body) > 100 {
			t.Fatalf("%d, wait %v, %d bytes", status, wait, len(body))
		}
		waits[wait] = true
	}
	if len(waits) < 3 {
		t.Errorf("waits %v: those refused together return together", waits)
	}
	if status, _, _ := get(t, s, "/speedtest/random350x350.jpg?id=aaaaaaaaaaaaaaaa", ""); status != 200 {
		t.Errorf("more of a test that is under way: %d", status)
	}
	if status, _, _ := get(t, s, "/speedtest/latency.txt", ""); status != 200 {
		t.Errorf("latency beside: %d", status)
	}
	if got := metric(t, m, `pantau_target_refused_total{limit="tests"}`); got != 20 {
		t.Errorf("%v refusals are counted", got)
	}
	two.Body.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if status, _, _ := get(t, s, third, ""); status == 200 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("a test that is over keeps its place")
		}
	}
}

// A token that was listened to is worth no more than one test.
func TestATokenIsOneTest(t *testing.T) {
	d, trusted := newDesk(t)
	s, _ := start(t, target.Options{ID: "ukur-1", Trust: []ed25519.PublicKey{trusted}})
	token, id := d.give(t, 1, "s1", "ukur-1", time.Now().Add(wire.TicketLife))
	for range 40 {
		if resp := hold(t, s, token, id); resp.StatusCode != 200 {
			t.Fatal(resp.Status)
		}
	}
	if status, _, _ := get(t, s, "/speedtest/random350x350.jpg?id="+id, token); status != 503 {
		t.Errorf("the 41st request: %d", status)
	}
}

func TestLoadIsAShareOfTheCapacity(t *testing.T) {
	const capacity = 80e6 // bits per second
	s, _ := start(t, target.Options{Capacity: capacity})
	in, out := io.Pipe()
	defer out.Close()
	go func() {
		if resp, err := client(t).Post(url(s, "/speedtest/upload.php?id=ffffffffffffffff"), "application/octet-stream", in); err == nil {
			resp.Body.Close()
		}
	}()
	go func() { // 5 MB/s, half of it
		for range 500 {
			if _, err := out.Write(make([]byte, 50_000)); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	follow(t, s, "", anID, func(r target.Reading) bool { return r.Load != nil && *r.Load > 0.2 && *r.Load < 0.55 })
	open, _ := start(t, target.Options{})
	lines := 0
	follow(t, open, "", anID, func(r target.Reading) bool {
		if r.Load != nil {
			t.Errorf("load %v of an unknown capacity", *r.Load)
		}
		lines++
		return lines > 25
	})
}

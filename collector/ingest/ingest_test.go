package ingest_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/collector/ingest"
	"github.com/pantau-desa/pantau/collector/ingest/ingesttest"
	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// reply is an answer that was read to its end.
type reply struct {
	status int
	header http.Header
	body   []byte
	proto  string
}

func do(t testing.TB, client *http.Client, r *http.Request) reply {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, body, resp.Proto}
}

func (r reply) acknowledged(t testing.TB) *wirepb.BatchResponse {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.body)
	}
	var m wirepb.BatchResponse
	if err := proto.Unmarshal(r.body, &m); err != nil {
		t.Fatal(err)
	}
	return &m
}

// counts returns a counter's values by its label, without zeros.
func counts(t testing.TB, c *ingesttest.Collector, name string) map[string]float64 {
	t.Helper()
	families, err := c.Metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			label := ""
			for _, l := range m.Label {
				label = l.GetValue()
			}
			if v := m.GetCounter().GetValue(); v > 0 {
				out[label] = v
			}
		}
	}
	return out
}

func count(t testing.TB, c *ingesttest.Collector, name, label string) float64 {
	t.Helper()
	return counts(t, c, name)[label]
}

// failingDisk is a journal whose disk fails.
type failingDisk struct{ err error }

func (d failingDisk) Append(context.Context, journal.Record) (journal.Position, error) {
	return journal.Position{}, d.err
}

func pack(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return compress(t, raw)
}

func compress(t testing.TB, raw []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(raw, nil)
}

// stream compresses without saying the size, as a bomb would.
func stream(t testing.TB, raw []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	enc, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(enc, io.MultiReader(bytes.NewReader(raw[:1]), bytes.NewReader(raw[1:]))); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestEveryRefusalHasItsStatusAndCounter(t *testing.T) {
	type world struct {
		*testing.T
		c      *ingesttest.Collector
		p      ingesttest.Probe
		client *http.Client
	}
	post := func(w world, path string, body []byte) *http.Request {
		r, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.c.URL+path, bytes.NewReader(body))
		if err != nil {
			w.Fatal(err)
		}
		return r
	}
	signed := func(w world, body []byte) *http.Request { return w.c.Request(w, w.p, body) }
	enrolment := func(w world, secret, key []byte) *http.Request {
		body, err := proto.Marshal(&wirepb.EnrollRequest{Secret: secret, PublicKey: key})
		if err != nil {
			w.Fatal(err)
		}
		return post(w, wire.PathEnroll, body)
	}
	wish := func(w world, body []byte) *http.Request {
		r := post(w, wire.PathTickets, body)
		r.Header.Set(wire.HeaderProbe, string(w.p.ID))
		r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.SignTicketRequest(w.p.Key, body)))
		return r
	}
	wishFor := func(w world, target string) *http.Request {
		body, err := proto.Marshal(&wirepb.TicketRequest{Target: target})
		if err != nil {
			w.Fatal(err)
		}
		return wish(w, body)
	}
	beat := func(w world, h wire.Heartbeat, key []byte) *http.Request {
		d, err := h.Marshal(key)
		if err != nil {
			w.Fatal(err)
		}
		return post(w, ingest.PathHeartbeat, d)
	}
	for _, test := range []struct {
		name    string
		options func(*ingest.Options)
		request func(w world) *http.Request
		status  int
		reason  string
		says    string
		after   bool // must have Retry-After
	}{
		{name: "another path", request: func(w world) *http.Request { return post(w, "/metrics", nil) }, status: 404, reason: "not_found", says: "nothing here"},
		{name: "unknown probe", request: func(w world) *http.Request {
			w.p.ID = "nobody"
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 404, reason: "unknown_probe", says: "claim code"},
		{name: "no probe", request: func(w world) *http.Request {
			r := signed(w, w.c.Body(w, w.p, 1, 1))
			r.Header.Del(wire.HeaderProbe)
			return r
		}, status: 404, reason: "unknown_probe", says: "claim code"},
		{name: "endless probe id", request: func(w world) *http.Request {
			r := signed(w, w.c.Body(w, w.p, 1, 1))
			r.Header.Set(wire.HeaderProbe, strings.Repeat("x", 4000))
			return r
		}, status: 404, reason: "unknown_probe", says: "4000 bytes"},
		{name: "revoked", request: func(w world) *http.Request {
			if err := w.c.Registry.Revoke(w.p.ID); err != nil {
				w.Fatal(err)
			}
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 403, reason: "revoked", says: "revoked"},
		{name: "no signature", request: func(w world) *http.Request {
			r := signed(w, w.c.Body(w, w.p, 1, 1))
			r.Header.Del(wire.HeaderSignature)
			return r
		}, status: 401, reason: "signature", says: "signature"},
		{name: "signature is no base64", request: func(w world) *http.Request {
			r := signed(w, w.c.Body(w, w.p, 1, 1))
			r.Header.Set(wire.HeaderSignature, "%%%")
			return r
		}, status: 401, reason: "signature", says: "base64"},
		{name: "another probe's signature", request: func(w world) *http.Request {
			w.p.Key = w.c.Enrol(w, "other").Key
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 401, reason: "signature", says: "enrolled anew"},
		{name: "another body than was signed", request: func(w world) *http.Request {
			body := w.c.Body(w, w.p, 1, 1)
			r := signed(w, body)
			other := bytes.Clone(body)
			other[len(other)-1] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(other))
			return r
		}, status: 401, reason: "signature", says: "signature"},
		{name: "too large, declared", request: func(w world) *http.Request { return signed(w, make([]byte, wire.MaxBody+1)) }, status: 413, reason: "too_large", says: "at most 1048576"},
		{name: "too large, not declared", request: func(w world) *http.Request {
			r := signed(w, make([]byte, wire.MaxBody+1))
			r.ContentLength = -1
			r.Body = io.NopCloser(bytes.NewReader(make([]byte, wire.MaxBody+1)))
			return r
		}, status: 413, reason: "too_large", says: "above 1048576"},
		{name: "decompression bomb", request: func(w world) *http.Request {
			return signed(w, compress(w, make([]byte, 64<<20)))
		}, status: 413, reason: "too_large", says: "at most 8388608"},
		{name: "decompression bomb that hides its size", request: func(w world) *http.Request {
			return signed(w, stream(w, make([]byte, wire.MaxDecompressed*4)))
		}, status: 413, reason: "too_large", says: "more than 8388608 bytes"},
		{name: "not zstd", request: func(w world) *http.Request { return signed(w, []byte("{}")) }, status: 400, reason: "malformed", says: "zstd"},
		{name: "empty body", request: func(w world) *http.Request { return signed(w, nil) }, status: 400, reason: "malformed", says: "cannot be read"},
		{name: "not protobuf", request: func(w world) *http.Request { return signed(w, compress(w, []byte{0xff, 0xff, 0xff})) }, status: 400, reason: "malformed", says: "protobuf"},
		{name: "sequence number 0", request: func(w world) *http.Request {
			return signed(w, pack(w, &wirepb.Batch{Probe: string(w.p.ID), Epoch: make([]byte, 16)}))
		}, status: 400, reason: "malformed", says: "seq 0"},
		{name: "another probe's batch", request: func(w world) *http.Request {
			other := w.p
			other.ID = "other"
			return signed(w, w.c.Body(w, other, 1, 1))
		}, status: 400, reason: "other_probe", says: `probe "other"`},
		{name: "same number, another digest", request: func(w world) *http.Request {
			do(w, w.client, signed(w, w.c.Body(w, w.p, 7, 1))).acknowledged(w)
			return signed(w, w.c.Body(w, w.p, 7, 2))
		}, status: 409, reason: "conflict", says: "cloned"},
		{name: "too many", options: func(o *ingest.Options) { o.BatchBurst, o.BatchesPerSecond = 2, 0.001 }, request: func(w world) *http.Request {
			for seq := range uint64(2) {
				do(w, w.client, signed(w, w.c.Body(w, w.p, seq+1, 1))).acknowledged(w)
			}
			return signed(w, w.c.Body(w, w.p, 3, 1))
		}, status: 429, reason: "rate", says: "nothing is lost", after: true},
		{name: "no memory left", options: func(o *ingest.Options) { o.MemoryBytes = wire.MaxBody }, request: func(w world) *http.Request {
			// A body that does not come holds what it was given. The server says when
			// it begins to wait for it.
			conn, err := tls.Dial("tcp", w.c.Addr().String(), w.c.TLS())
			if err != nil {
				w.Fatal(err)
			}
			w.Cleanup(func() { conn.Close() })
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nExpect: 100-continue\r\n", wire.PathBatches, wire.MaxBody)
			signed(w, []byte("x")).Header.Write(conn)
			fmt.Fprint(conn, "\r\n")
			if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
				w.Fatalf("%q %v", line, err)
			}
			return signed(w, w.c.Body(w, w.p, 2, 1))
		}, status: 503, reason: "overload", says: "nothing is lost", after: true},
		{name: "the disk fails", options: func(o *ingest.Options) { o.Journal = failingDisk{journal.ErrUnavailable} }, request: func(w world) *http.Request {
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 503, reason: "journal", says: "disk", after: true},
		{name: "the journal is closed", options: func(o *ingest.Options) { o.Journal = failingDisk{journal.ErrClosed} }, request: func(w world) *http.Request {
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 503, reason: "journal", says: "disk", after: true},
		{name: "the journal refuses", options: func(o *ingest.Options) { o.Journal = failingDisk{journal.ErrTooLarge} }, request: func(w world) *http.Request {
			return signed(w, w.c.Body(w, w.p, 1, 1))
		}, status: 500, reason: "internal", says: "try again"},
		{name: "the body ends early", options: func(o *ingest.Options) { o.BodyTimeout = 300 * time.Millisecond }, request: func(w world) *http.Request {
			slow, unblock := io.Pipe()
			w.Cleanup(func() { unblock.Close() })
			r := signed(w, []byte("x"))
			r.Body, r.ContentLength = slow, 100
			return r
		}, status: 408, reason: "incomplete", says: "within 300ms"},

		{name: "enrolment that is no protobuf", request: func(w world) *http.Request { return post(w, wire.PathEnroll, []byte{0xff}) }, status: 400, reason: "malformed", says: "cannot be read"},
		{name: "enrolment without a key", request: func(w world) *http.Request { return enrolment(w, make([]byte, 10), nil) }, status: 400, reason: "malformed", says: "incomplete"},
		{name: "enrolment with a wrong code", request: func(w world) *http.Request { return enrolment(w, make([]byte, 10), make([]byte, 32)) }, status: 403, reason: "claim", says: "no such claim code"},
		{name: "enrolment too large", request: func(w world) *http.Request { return post(w, wire.PathEnroll, make([]byte, 5000)) }, status: 413, reason: "too_large", says: "at most 4096"},
		{name: "guessing", request: func(w world) *http.Request {
			for i := range 10 {
				if r := do(w, w.client, enrolment(w, bytes.Repeat([]byte{byte(i)}, 10), make([]byte, 32))); r.status != 403 {
					w.Fatalf("guess %d: %d", i, r.status)
				}
			}
			// Even a right code must wait now.
			code, _, err := w.c.Registry.Add("new", "s")
			if err != nil {
				w.Fatal(err)
			}
			return enrolment(w, code.Secret[:], make([]byte, 32))
		}, status: 429, reason: "rate", says: "too many wrong claim codes", after: true},
		{name: "enrolment on a failing disk", request: func(w world) *http.Request {
			code, _, err := w.c.Registry.Add("new", "s")
			if err != nil {
				w.Fatal(err)
			}
			if err := w.c.Registry.Close(); err != nil {
				w.Fatal(err)
			}
			return enrolment(w, code.Secret[:], make([]byte, 32))
		}, status: 503, reason: "registry", says: "stays good", after: true},

		{name: "wish of no one", request: func(w world) *http.Request {
			w.p.ID = "nobody"
			return wishFor(w, "ukur-1")
		}, status: 404, reason: "unknown_probe", says: "claim code"},
		{name: "wish with a batch's signature", request: func(w world) *http.Request {
			r := wishFor(w, "ukur-1")
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.Sign(w.p.Key, body)))
			return r
		}, status: 401, reason: "signature", says: "wish"},
		{name: "wish without a signature", request: func(w world) *http.Request {
			r := wishFor(w, "ukur-1")
			r.Header.Set(wire.HeaderSignature, "%%")
			return r
		}, status: 401, reason: "signature", says: "base64"},
		{name: "long wish", request: func(w world) *http.Request { return wish(w, make([]byte, 1025)) }, status: 413, reason: "too_large", says: "at most 1024"},
		{name: "wish that is no protobuf", request: func(w world) *http.Request { return wish(w, []byte{0xff}) }, status: 400, reason: "malformed", says: "cannot be read"},
		{name: "end of a ticket that cannot be", request: func(w world) *http.Request {
			body, err := proto.Marshal(&wirepb.TicketRequest{Finished: []byte{1}})
			if err != nil {
				w.Fatal(err)
			}
			return wish(w, body)
		}, status: 400, reason: "malformed", says: "1 bytes"},
		{name: "wish for a server that is not there", request: func(w world) *http.Request { return wishFor(w, "") }, status: 400, reason: "no_target", says: "no such measurement server"},
		{name: "the line is in use", request: func(w world) *http.Request {
			for _, id := range []measure.ProbeID{"house/a", "house/b"} {
				w.p = w.c.Enrol(w, id)
				if id == "house/a" {
					if got := do(w, w.client, wishFor(w, "ukur-1")); got.status != 200 {
						w.Fatalf("%+v", got)
					}
				}
			}
			return wishFor(w, "ukur-2")
		}, status: 429, reason: "same_line", says: "another probe of this site", after: true},
		{name: "the server is full", request: func(w world) *http.Request {
			for i := range ticket.DefaultPerTarget {
				if _, _, err := w.c.Desk.Ask(measure.ProbeID(fmt.Sprint("crowd-", i)), "ukur-1"); err != nil {
					w.Fatal(err)
				}
			}
			return wishFor(w, "ukur-1")
		}, status: 503, reason: "saturated", says: "as many tests", after: true},
		{name: "wishes without end", request: func(w world) *http.Request {
			for range 30 {
				if got := do(w, w.client, wishFor(w, "ukur-1")); got.status != 200 {
					w.Fatalf("%+v", got)
				}
			}
			return wishFor(w, "ukur-1")
		}, status: 503, reason: "rate", says: "too often", after: true},

		{name: "heartbeat of no one", request: func(w world) *http.Request {
			return beat(w, wire.Heartbeat{Probe: "nobody", Boot: ingesttest.Boot}, w.p.Heartbeat)
		}, status: 404, reason: "unknown_probe", says: "enrolled"},
		{name: "heartbeat of a revoked probe", request: func(w world) *http.Request {
			if err := w.c.Registry.Revoke(w.p.ID); err != nil {
				w.Fatal(err)
			}
			return beat(w, wire.Heartbeat{Probe: w.p.ID, Boot: ingesttest.Boot}, w.p.Heartbeat)
		}, status: 403, reason: "revoked", says: "revoked"},
		{name: "heartbeat with a wrong MAC", request: func(w world) *http.Request {
			return beat(w, wire.Heartbeat{Probe: w.p.ID, Boot: ingesttest.Boot}, make([]byte, 32))
		}, status: 401, reason: "signature", says: "MAC"},
		{name: "short heartbeat", request: func(w world) *http.Request { return post(w, ingest.PathHeartbeat, make([]byte, 87)) }, status: 400, reason: "malformed", says: "heartbeat"},
		{name: "long heartbeat", request: func(w world) *http.Request { return post(w, ingest.PathHeartbeat, make([]byte, 89)) }, status: 413, reason: "too_large", says: "at most 88"},
		{name: "old heartbeat", request: func(w world) *http.Request {
			h := wire.Heartbeat{Probe: w.p.ID, Boot: ingesttest.Boot, Counter: 9}
			if r := do(w, w.client, beat(w, h, w.p.Heartbeat)); r.status != 200 {
				w.Fatal(r.status)
			}
			h.Counter = 8
			return beat(w, h, w.p.Heartbeat)
		}, status: 409, reason: "replayed", says: "older"},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/h2=%v", test.name, http2), func(t *testing.T) {
				t.Parallel()
				var options []func(*ingest.Options)
				if test.options != nil {
					options = append(options, test.options)
				}
				c := ingesttest.Start(t, options...)
				w := world{t, c, c.Enrol(t, "kl-0001"), c.Client(t, http2)}
				r := test.request(w)
				refused := counts(t, c, "pantau_ingest_refused_total")[test.reason]
				stored := len(c.Records(t))
				got := do(t, w.client, r)
				if got.status != test.status || !strings.Contains(string(got.body), test.says) {
					t.Errorf("%d %q, want %d and %q", got.status, got.body, test.status, test.says)
				}
				if ct := got.header.Get("Content-Type"); !strings.HasPrefix(ct, "text/plain") || strings.Count(string(got.body), "\n") != 1 {
					t.Errorf("%s: %q is not one plain line", ct, got.body)
				}
				after, err := strconv.Atoi(got.header.Get("Retry-After"))
				if test.after != (err == nil && after >= 1) {
					t.Errorf("Retry-After: %q", got.header.Get("Retry-After"))
				}
				if n := counts(t, c, "pantau_ingest_refused_total")[test.reason] - refused; n != 1 {
					t.Errorf("counted %v times as %s", n, test.reason)
				}
				if n := len(c.Records(t)) - stored; n != 0 {
					t.Errorf("%d records of what was refused", n)
				}
				if http2 != (got.proto == "HTTP/2.0") {
					t.Errorf("spoke %s", got.proto)
				}
			})
		}
	}
}

// A wish is answered with a token that serves, and its end makes room.
func TestATicketIsGivenAndHandedBack(t *testing.T) {
	c := ingesttest.Start(t)
	client := c.Client(t, true)
	a, b := c.Enrol(t, "house/a"), c.Enrol(t, "house/b")
	ask := func(p ingesttest.Probe, m *wirepb.TicketRequest) (*wirepb.TicketResponse, int) {
		t.Helper()
		body, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+wire.PathTickets, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(wire.HeaderProbe, string(p.ID))
		r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.SignTicketRequest(p.Key, body)))
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		var out wirepb.TicketResponse
		if resp.StatusCode == http.StatusOK {
			if err := proto.Unmarshal(answer, &out); err != nil {
				t.Fatal(err)
			}
		}
		return &out, resp.StatusCode
	}
	got, status := ask(a, &wirepb.TicketRequest{Target: "ukur-1"})
	public := c.Registry.TicketKey().Public().(ed25519.PublicKey)
	ticket, err := wire.VerifyTicket(got.Token, []ed25519.PublicKey{public}, "ukur-1", time.Now())
	if status != 200 || err != nil || ticket.Probe != a.ID || ticket.Site != "site-house" || got.ExpiresNs != ticket.Expires.UnixNano() {
		t.Fatalf("%d, %+v, %v", status, ticket, err)
	}
	if _, status := ask(b, &wirepb.TicketRequest{Target: "ukur-1"}); status != http.StatusTooManyRequests {
		t.Errorf("the line is in use: %d", status)
	}
	if _, status := ask(b, &wirepb.TicketRequest{Finished: ticket.ID[:]}); status != 200 {
		t.Errorf("the end of another's ticket: %d", status)
	}
	if _, status := ask(b, &wirepb.TicketRequest{Target: "ukur-1"}); status != http.StatusTooManyRequests {
		t.Errorf("another's word ended it: %d", status)
	}
	if _, status := ask(a, &wirepb.TicketRequest{Finished: ticket.ID[:]}); status != 200 {
		t.Errorf("the end: %d", status)
	}
	if _, status := ask(b, &wirepb.TicketRequest{Target: "ukur-1"}); status != 200 {
		t.Errorf("the line is free: %d", status)
	}
}

// The allow-list: each method and path that is answered, and nothing else.
func TestOnlyTheListIsAnswered(t *testing.T) {
	c := ingesttest.Start(t)
	client := c.Client(t, false)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return errors.New("redirected") }
	allowed := map[string]bool{"POST /v1/batches": true, "POST /v1/enroll": true, "POST /v1/heartbeat": true, "POST /v1/tickets": true}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		for _, path := range []string{"/", "/v1", "/v1/", "/v1/batches", "/v1/batches/", "//v1/batches", "/v1/./batches", "/V1/batches", "/v1/enroll",
			"/v1/heartbeat", "/v1/tickets", "/v1/tickets/", "/metrics", "/healthz", "/debug/pprof/", "/api/v1/query", "/favicon.ico", "/v1/%62atches/x"} {
			r, err := http.NewRequestWithContext(t.Context(), method, c.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			before := count(t, c, "pantau_ingest_refused_total", "not_found")
			got := do(t, client, r)
			nothing := count(t, c, "pantau_ingest_refused_total", "not_found") > before
			if nothing == allowed[method+" "+path] || nothing && got.status != 404 {
				t.Errorf("%s %s: %d, nothing here: %v", method, path, got.status, nothing)
			}
		}
	}
	// "OPTIONS *" is answered by Go's server unless told not to.
	conn, err := tls.Dial("tcp", c.Addr().String(), c.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	raw, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(raw, []byte("HTTP/1.1 404 ")) {
		t.Errorf("%v: %.40q", err, raw)
	}
}

func TestBatchIsStoredAsItCame(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		c := ingesttest.Start(t)
		p, client := c.Enrol(t, "kl-0001"), c.Client(t, http2)
		c.SetConfig(p.ID, &wirepb.ProbeConfig{LanGateway: "192.0.2.1"})
		_, version, _ := c.Config(p.ID, time.Time{})
		body := c.Body(t, p, 3, 5)
		r := c.Request(t, p, body)
		begin := time.Now()
		answer := do(t, client, r).acknowledged(t)

		records := c.Records(t)
		if len(records) != 1 {
			t.Fatalf("%d records", len(records))
		}
		rec := records[0]
		if rec.Type != journal.Batch || !bytes.Equal(rec.Body, body) || rec.ReceivedAt.Before(begin) || rec.ReceivedAt.After(time.Now()) {
			t.Fatalf("%+v", rec)
		}
		for _, h := range []string{wire.HeaderProbe, wire.HeaderSignature, wire.HeaderSent, wire.HeaderConfig} {
			if got, ok := rec.Header(h); !ok || got != r.Header.Get(h) {
				t.Errorf("%s is %q, sent %q", h, got, r.Header.Get(h))
			}
		}
		// The acknowledgement is derived from the record alone.
		if !wire.Covers(answer.Ack, wire.Epoch{1}, 3, wire.DigestOf(rec.Body)) || answer.Ack.ReceivedAtNs != rec.ReceivedAt.UnixNano() {
			t.Errorf("%v", answer.Ack)
		}
		if at := time.Unix(0, answer.CollectorTimeNs); at.Before(rec.ReceivedAt) || at.After(time.Now()) {
			t.Errorf("collector's time is %v", at)
		}
		if answer.ConfigVersion != version || answer.Config.GetLanGateway() != "192.0.2.1" {
			t.Errorf("configuration %d %v", answer.ConfigVersion, answer.Config)
		}
		told := c.Batches()
		if len(told) != 1 || told[0].Probe != p.ID || !told[0].Received.Equal(rec.ReceivedAt) || len(told[0].Batch.Results) != 5 || told[0].Sent.Mono != 95*time.Second {
			t.Errorf("told %+v", told)
		}
		if count(t, c, "pantau_ingest_batches_total", "") != 1 || count(t, c, "pantau_ingest_results_total", "") != 5 || len(counts(t, c, "pantau_ingest_refused_total")) != 0 {
			t.Error("counters")
		}

		// A probe that has this version already is not sent it again.
		r = c.Request(t, p, c.Body(t, p, 4, 1))
		r.Header.Set(wire.HeaderConfig, strconv.FormatUint(version, 10))
		if answer := do(t, client, r).acknowledged(t); answer.Config != nil || answer.ConfigVersion != version {
			t.Errorf("sent again: %v", answer)
		}
	}
}

// What is outside the signature must not cost a batch.
func TestOddHeadersDoNotCostABatch(t *testing.T) {
	c := ingesttest.Start(t)
	p, client := c.Enrol(t, "p"), c.Client(t, false)
	for i, h := range []struct{ sent, config string }{{"", ""}, {"boot=x", "newest"}, {strings.Repeat("x", 5000), "-1"}, {"boot=x; mono=1; wall=99999999999999999999", "1e3"}} {
		r := c.Request(t, p, c.Body(t, p, uint64(i+1), 1))
		r.Header.Set(wire.HeaderSent, h.sent)
		r.Header.Set(wire.HeaderConfig, h.config)
		do(t, client, r).acknowledged(t)
		rec := c.Records(t)[i]
		if _, ok := rec.Header(wire.HeaderSent); ok || len(rec.Headers) != 2 {
			t.Errorf("%v: kept %v", h, rec.Headers)
		}
		if told := c.Batches()[i]; told.Sent != (wire.Sent{}) {
			t.Errorf("%v: told %v", h, told.Sent)
		}
	}
	if n := count(t, c, "pantau_ingest_undated_batches_total", ""); n != 4 {
		t.Errorf("%v counted", n)
	}
	// Nor does a configuration that cannot be made.
	c.FailConfig(errors.New("inventory is broken"))
	if a := do(t, client, c.Request(t, p, c.Body(t, p, 9, 1))).acknowledged(t); a.Config != nil || a.ConfigVersion != 0 {
		t.Errorf("%v", a)
	}
	if n := count(t, c, "pantau_ingest_config_errors_total", ""); n != 1 {
		t.Errorf("%v counted", n)
	}
}

func TestALostAnswerIsGivenAgain(t *testing.T) {
	c := ingesttest.Start(t)
	p, client := c.Enrol(t, "p"), c.Client(t, true)
	body := c.Body(t, p, 1, 2)
	first := do(t, client, c.Request(t, p, body)).acknowledged(t)
	for range 3 {
		again := do(t, client, c.Request(t, p, body)).acknowledged(t)
		if !proto.Equal(first.Ack, again.Ack) {
			t.Fatalf("%v, first %v", again.Ack, first.Ack)
		}
	}
	if n := len(c.Records(t)); n != 1 || len(c.Batches()) != 1 {
		t.Errorf("%d records, told %d times", n, len(c.Batches()))
	}
	if got := [3]float64{count(t, c, "pantau_ingest_batches_total", ""), count(t, c, "pantau_ingest_duplicates_total", ""), count(t, c, "pantau_ingest_results_total", "")}; got != [3]float64{1, 3, 2} {
		t.Errorf("batches, duplicates, results: %v", got)
	}
	// The same bytes in another epoch would be another batch, as is the next number.
	do(t, client, c.Request(t, p, c.Body(t, p, 2, 2))).acknowledged(t)
	if n := len(c.Records(t)); n != 2 {
		t.Errorf("%d records", n)
	}
}

func TestSimultaneousSubmissionsAreStoredOnce(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	body, other := c.Body(t, p, 1, 2), c.Body(t, p, 1, 3)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acks, statuses := map[string]int{}, map[int]int{}
	for i := range 24 {
		client := c.Client(t, i%2 == 0)
		send := body
		if i%3 == 0 {
			send = other
		}
		r := c.Request(t, p, send)
		wg.Go(func() {
			got := do(t, client, r)
			mu.Lock()
			defer mu.Unlock()
			statuses[got.status]++
			if got.status == http.StatusOK {
				acks[string(got.acknowledged(t).Ack.String())]++
			}
		})
	}
	wg.Wait()
	if len(c.Records(t)) != 1 || len(acks) != 1 || len(c.Batches()) != 1 {
		t.Errorf("%d records, acknowledged as %v", len(c.Records(t)), acks)
	}
	if statuses[200]+statuses[409] != 24 || statuses[200] != 16 && statuses[200] != 8 {
		t.Errorf("statuses %v", statuses)
	}
}

// A body that is longer than its length says is cut there, and what follows is
// no request.
func TestBodyLargerThanDeclared(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	body := c.Body(t, p, 1, 2)
	r := c.Request(t, p, body)
	conn, err := tls.Dial("tcp", c.Addr().String(), c.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n", wire.PathBatches, len(body)-10)
	r.Header.Write(conn)
	fmt.Fprintf(conn, "\r\n%s\r\n\r\n", body)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(raw, []byte("HTTP/1.1 401 ")) || bytes.Contains(raw, []byte("HTTP/1.1 200")) {
		t.Errorf("%v: %.60q", err, raw)
	}
	if n := len(c.Records(t)); n != 0 {
		t.Errorf("%d records", n)
	}
}

// A request that never ends its header, or never begins, is let go.
func TestSlowHeader(t *testing.T) {
	c := ingesttest.Start(t, func(o *ingest.Options) { o.BodyTimeout = 300 * time.Millisecond })
	for _, begin := range []string{"POST /v1/batches HTTP/1.1\r\nHost: x\r\nX: ", ""} {
		conn, err := tls.Dial("tcp", c.Addr().String(), c.TLS())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, begin); err != nil {
			continue // it did not even wait for this: a busy machine
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := io.ReadAll(conn); errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("%q: it waits for ever", begin)
		}
	}
}

func TestOldTLSAndPlainHTTPAreRefused(t *testing.T) {
	c := ingesttest.Start(t)
	config := c.TLS()
	config.MinVersion, config.MaxVersion = 0, tls.VersionTLS12
	if conn, err := tls.Dial("tcp", c.Addr().String(), config); err == nil {
		conn.Close()
		t.Error("TLS 1.2 is spoken")
	}
	resp, err := http.Post("http://"+c.Addr().String()+wire.PathBatches, "", nil)
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP gets %d", resp.StatusCode)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Connections = 2 })
	dial := func(within time.Duration) (*tls.Conn, error) {
		raw, err := net.Dial("tcp", c.Addr().String())
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { raw.Close() })
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return conn, conn.HandshakeContext(ctx)
	}
	var open []*tls.Conn
	for range 2 {
		conn, err := dial(10 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, conn)
	}
	if _, err := dial(300 * time.Millisecond); err == nil {
		t.Fatal("a third connection is served")
	}
	open[0].Close()
	if _, err := dial(10 * time.Second); err != nil {
		t.Fatalf("a place that is free is not given: %v", err)
	}
}

func TestEnrolment(t *testing.T) {
	c := ingesttest.Start(t)
	client := c.Client(t, true)
	c.SetConfig("kl-0001", &wirepb.ProbeConfig{LanGateway: "192.0.2.1"})
	code, _, err := c.Registry.Add("kl-0001", "s1")
	if err != nil {
		t.Fatal(err)
	}
	enrol := func(public ed25519.PublicKey) reply {
		body, err := proto.Marshal(&wirepb.EnrollRequest{Secret: code.Secret[:], PublicKey: public, SoftwareVersion: "1", BootId: string(ingesttest.Boot)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+wire.PathEnroll, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return do(t, client, r)
	}
	public, key, _ := ed25519.GenerateKey(nil)
	first := enrol(public)
	var m wirepb.EnrollResponse
	if err := proto.Unmarshal(first.body, &m); first.status != 200 || err != nil {
		t.Fatalf("%d %s", first.status, first.body)
	}
	_, version, _ := c.Config("kl-0001", time.Time{})
	digest := wire.DigestOf(m.CaCertificate)
	if m.Probe != "kl-0001" || m.Site != "s1" || len(m.HeartbeatKey) != 32 || !bytes.HasPrefix(digest[:], code.Fingerprint[:]) ||
		m.ConfigVersion != version || m.Config.GetLanGateway() != "192.0.2.1" || time.Since(time.Unix(0, m.CollectorTimeNs)).Abs() > time.Minute {
		t.Fatalf("%v", &m)
	}
	// The answer was lost: the same box asks again.
	var again wirepb.EnrollResponse
	if r := enrol(public); r.status != 200 || proto.Unmarshal(r.body, &again) != nil || !bytes.Equal(again.HeartbeatKey, m.HeartbeatKey) || again.Probe != m.Probe {
		t.Fatalf("%d %v", r.status, &again)
	}
	// Another box with the same code.
	thief, _, _ := ed25519.GenerateKey(nil)
	if r := enrol(thief); r.status != 403 || !strings.Contains(string(r.body), "used by another box") {
		t.Fatalf("%d %s", r.status, r.body)
	}
	p := ingesttest.Probe{ID: "kl-0001", Key: key, Heartbeat: m.HeartbeatKey}
	do(t, client, c.Request(t, p, c.Body(t, p, 1, 1))).acknowledged(t)
	if n := count(t, c, "pantau_ingest_enrolments_total", ""); n != 2 {
		t.Errorf("%v enrolments counted", n)
	}
}

// fakeClock is set by the test.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestAClaimThatExpired(t *testing.T) {
	clock := &fakeClock{at: time.Now()}
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Now = clock.now })
	code, expires, err := c.Registry.Add("p", "s")
	if err != nil {
		t.Fatal(err)
	}
	clock.add(expires.Sub(clock.now()))
	body, _ := proto.Marshal(&wirepb.EnrollRequest{Secret: code.Secret[:], PublicKey: make([]byte, 32)})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+wire.PathEnroll, bytes.NewReader(body))
	if got := do(t, c.Client(t, false), r); got.status != 403 || !strings.Contains(string(got.body), "expired") {
		t.Fatalf("%d %s", got.status, got.body)
	}
}

// A probe that was cut off for three days brings everything, at the pace that it
// is given.
func TestBackfillFlows(t *testing.T) {
	clock := &fakeClock{at: time.Now()}
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Now = clock.now })
	p, client := c.Enrol(t, "p"), c.Client(t, true)
	const backlog = 400
	begin, waited := clock.now(), 0
	for seq := uint64(1); seq <= backlog; {
		got := do(t, client, c.Request(t, p, c.Body(t, p, seq, 1)))
		switch got.status {
		case http.StatusOK:
			seq++
		case http.StatusTooManyRequests:
			after, err := strconv.Atoi(got.header.Get("Retry-After"))
			if err != nil {
				t.Fatal(err)
			}
			waited++
			clock.add(time.Duration(after) * time.Second)
		default:
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	if took := clock.now().Sub(begin); took > time.Minute || waited == 0 {
		t.Errorf("%d batches took %v and %d waits", backlog, took, waited)
	}
	if n := len(c.Records(t)); n != backlog {
		t.Errorf("%d records", n)
	}
}

func TestLeafRenewsUnderTraffic(t *testing.T) {
	clock := &fakeClock{at: time.Now()}
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Now = clock.now })
	p, client := c.Enrol(t, "p"), c.Client(t, true)
	do(t, client, c.Request(t, p, c.Body(t, p, 1, 1))).acknowledged(t)
	serial := func() string {
		config := c.TLS()
		config.Time = clock.now
		conn, err := tls.Dial("tcp", c.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := serial()
	clock.add(61 * 24 * time.Hour)
	if renewed, err := c.Registry.Renew(); err != nil || !renewed {
		t.Fatal(err)
	}
	if serial() == before {
		t.Error("new connections get the old leaf")
	}
	do(t, client, c.Request(t, p, c.Body(t, p, 2, 1))).acknowledged(t) // on the old connection
}

func TestStopLetsWhatIsInFlightEnd(t *testing.T) {
	slow := &slowDisk{entered: make(chan struct{}), go_: make(chan struct{})}
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Journal = slow })
	slow.to = c.Journal
	p, client := c.Enrol(t, "p"), c.Client(t, false)
	r := c.Request(t, p, c.Body(t, p, 1, 1))
	done := make(chan reply)
	go func() { done <- do(t, client, r) }()
	<-slow.entered
	c.Stop()
	close(slow.go_)
	(<-done).acknowledged(t)
	if n := len(c.Records(t)); n != 1 {
		t.Errorf("%d records", n)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		conn, err := net.DialTimeout("tcp", c.Addr().String(), time.Second)
		if err != nil {
			break
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("it listens still")
		}
	}
}

// slowDisk holds a record back until it is told.
type slowDisk struct {
	to           *journal.Journal
	entered, go_ chan struct{}
}

func (d *slowDisk) Append(ctx context.Context, r journal.Record) (journal.Position, error) {
	close(d.entered)
	select {
	case <-d.go_:
	case <-ctx.Done():
		return journal.Position{}, ctx.Err()
	}
	return d.to.Append(ctx, r)
}

func TestListenersOfOthers(t *testing.T) {
	var listeners []net.Listener
	var packets []*net.UDPConn
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		listeners, packets = append(listeners, l), append(packets, p)
	}
	c := ingesttest.Start(t, func(o *ingest.Options) { o.Listeners, o.Packets = listeners, packets })
	p, client := c.Enrol(t, "p"), c.Client(t, true)
	if c.Addr() != listeners[0].Addr() {
		t.Errorf("%v", c.Addr())
	}
	for i := range listeners {
		r := c.Request(t, p, c.Body(t, p, uint64(i+1), 1))
		r.URL.Host = listeners[i].Addr().String()
		do(t, client, r).acknowledged(t)
		if ack := exchange(t, packets[i].LocalAddr().String(), p, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: uint64(i + 1)}); ack == nil {
			t.Errorf("no answer on socket %d", i)
		}
	}
}

func TestSamePortForBoth(t *testing.T) {
	c := ingesttest.Start(t)
	p := c.Enrol(t, "p")
	if exchange(t, c.Addr().String(), p, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 1}) == nil {
		t.Fatal("no answer")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := ingest.New(ingest.Options{}); err == nil {
		t.Error("a server without anything behind it")
	}
	c := ingesttest.Start(t)
	whole := ingest.Options{Addr: "127.0.0.1:0", Registry: c.Registry, Journal: c.Journal, Index: c.Index, Configs: c, Batches: c, Beats: c}
	for name, change := range map[string]func(*ingest.Options){
		"no journal":     func(o *ingest.Options) { o.Journal = nil },
		"little memory":  func(o *ingest.Options) { o.MemoryBytes = 1 },
		"negative burst": func(o *ingest.Options) { o.BatchBurst = -1 },
		"busy port":      func(o *ingest.Options) { o.Addr = c.Addr().String() },
		"taken metrics":  func(o *ingest.Options) { o.Registerer = c.Metrics },
	} {
		o := whole
		change(&o)
		if s, err := ingest.New(o); err == nil {
			t.Errorf("%s: accepted", name)
			s.Close()
		}
	}
	s, err := ingest.New(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	c := ingesttest.Start(t)
	problems, err := testutil.GatherAndLint(c.Metrics)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", err, problems)
	}
	if n, err := testutil.GatherAndCount(c.Metrics, "pantau_ingest_refused_total"); err != nil || n != 19 {
		t.Errorf("%d reasons, %v", n, err)
	}
}

// Whatever the headers hold: an answer, and nothing stored that is not signed.
func FuzzHeaders(f *testing.F) {
	c := ingesttest.Start(f)
	p := c.Enrol(f, "p")
	good := c.Request(f, p, c.Body(f, p, 1, 1)).Header
	f.Add(good.Get(wire.HeaderProbe), good.Get(wire.HeaderSignature), good.Get(wire.HeaderSent), good.Get(wire.HeaderConfig), c.Body(f, p, 1, 1))
	f.Add("", "AAAA", "boot=;mono=;wall=", "-", []byte{0x28, 0xb5, 0x2f, 0xfd})
	f.Fuzz(func(t *testing.T, id, signature, sent, config string, body []byte) {
		r, err := http.NewRequest(http.MethodPost, "/v1/batches", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{wire.HeaderProbe: {id}, wire.HeaderSignature: {signature}, wire.HeaderSent: {sent}, wire.HeaderConfig: {config}}
		w := &recorder{header: http.Header{}}
		c.ServeHTTP(w, r)
		if w.status == 500 || w.status == 0 && w.body.Len() == 0 {
			t.Fatalf("%d %s", w.status, w.body.Bytes())
		}
		if cmp.Or(w.status, 200) == 200 && !bytes.Equal(body, c.Body(t, p, 1, 1)) {
			t.Fatalf("acknowledged what nobody signed")
		}
	})
}

// FuzzHeartbeat gives the handler of datagrams, which both ways share, anything.
func FuzzHeartbeat(f *testing.F) {
	c := ingesttest.Start(f)
	p := c.Enrol(f, "p")
	good := marshal(f, wire.Heartbeat{Probe: p.ID, Boot: ingesttest.Boot, Counter: 1}, p.Heartbeat)
	f.Add(good)
	f.Add(good[:80])
	f.Add(append(bytes.Clone(good), 0))
	f.Add(marshal(f, wire.Heartbeat{Probe: "nobody", Boot: ingesttest.Boot}, p.Heartbeat))
	f.Fuzz(func(t *testing.T, d []byte) {
		r, err := http.NewRequest(http.MethodPost, ingest.PathHeartbeat, bytes.NewReader(d))
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		c.ServeHTTP(w, r)
		switch w.status {
		case 0, 200:
			if !bytes.Equal(d, good) || w.body.Len() > len(d) {
				t.Fatalf("%x is answered with %x", d, w.body.Bytes())
			}
		case 400, 401, 404, 413:
		default:
			t.Fatalf("%d %s", w.status, w.body.Bytes())
		}
	})
}

type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// BenchmarkPush is the whole way of a usual batch (20 results) but TLS: check,
// decode, journal, index, answer.
func BenchmarkPush(b *testing.B) {
	c := ingesttest.Start(b, func(o *ingest.Options) { o.BatchBurst = 1 << 40; o.BatchesPerSecond = 1e6 })
	p := c.Enrol(b, "p")
	var mu sync.Mutex
	seq := uint64(0)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			seq++
			n := seq
			mu.Unlock()
			w := &recorder{header: http.Header{}}
			c.ServeHTTP(w, c.Request(b, p, c.Body(b, p, n, 20)))
			if w.status != 0 {
				b.Errorf("%d %s", w.status, w.body.Bytes())
				return
			}
		}
	})
}

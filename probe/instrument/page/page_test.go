package page

import (
	"context"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

func one(t *testing.T, o Options, url string) measure.Result {
	t.Helper()
	o.Pages = []Page{{ID: "p", URL: url}}
	in, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	rs := in.Measure(t.Context())
	if len(rs) != 1 {
		t.Fatalf("%d results", len(rs))
	}
	if err := rs[0].Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	return rs[0]
}

func wants(t *testing.T, r measure.Result, reason measure.Reason, says string) {
	t.Helper()
	if r.Reason != reason || !strings.Contains(r.Detail, says) || (r.Outcome == measure.OK) != (reason == "") {
		t.Errorf("%s/%s %q, want %s %q", r.Outcome, r.Reason, r.Detail, reason, says)
	}
}

func quiet(s *httptest.Server) *httptest.Server {
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func TestPage(t *testing.T) {
	const slow = 200 * time.Millisecond
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/layanan?desa=1" || r.UserAgent() != "pantau-desa" {
			t.Errorf("asked for %s by %s", r.URL, r.UserAgent())
		}
		time.Sleep(slow)
		w.Write(make([]byte, 1<<20)) // of which little is read
	})
	plain, secure := httptest.NewServer(handler), quiet(httptest.NewUnstartedServer(handler))
	defer plain.Close()
	secure.StartTLS()
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for _, c := range []struct {
		name, url string
		parts     []measure.Metric
	}{
		{"plain", plain.URL, []measure.Metric{measure.HTTPConnectSeconds, measure.HTTPFirstByteSeconds}},
		{"with TLS", secure.URL, []measure.Metric{measure.HTTPConnectSeconds, measure.HTTPTLSSeconds, measure.HTTPFirstByteSeconds}},
	} {
		t.Run(c.name, func(t *testing.T) {
			account := ledger.New(ledger.Options{})
			r := one(t, Options{Roots: roots, Ledger: account}, c.url+"/layanan?desa=1")
			wants(t, r, "", "")
			if len(r.Values) != len(c.parts) {
				t.Fatalf("%v, want %v", r.Values, c.parts)
			}
			var sum float64
			for i, m := range c.parts {
				if r.Values[i].Metric != m {
					t.Errorf("%v, want %v", r.Values, c.parts)
				}
				sum += r.Values[i].Number
			}
			first, _ := r.Value(measure.HTTPFirstByteSeconds)
			if parts := sum - first; first < slow.Seconds() || parts > first-slow.Seconds() || first > r.Duration.Seconds() {
				t.Errorf("first byte after %v s, parts %v s, all %v", first, parts, r.Duration)
			}
			if rx, tx := account.Own(); rx != r.BytesReceived || tx != r.BytesSent || tx < 300 || rx < 300 {
				t.Errorf("ledger has %d and %d bytes, the result %d and %d", rx, tx, r.BytesReceived, r.BytesSent)
			}
		})
	}
}

func TestWhatIsNotThePage(t *testing.T) {
	web := func(h http.HandlerFunc) string {
		s := quiet(httptest.NewServer(h))
		t.Cleanup(s.Close)
		return s.URL
	}
	raw := func(answer string, then func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					conn.Read(make([]byte, 4096))
					io.WriteString(conn, answer)
					then(conn)
				}()
			}
		}()
		return "http://" + ln.Addr().String()
	}
	close := func(net.Conn) {}
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	endless := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, s); err != nil {
					return
				}
			}
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	stranger := quiet(httptest.NewTLSServer(http.NotFoundHandler()))
	t.Cleanup(stranger.Close)
	ok := web(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })

	for _, c := range []struct {
		name, url string
		reason    measure.Reason
		says      string
	}{
		{"empty", ok, "", ""},
		{"sign-in page", web(http.RedirectHandler("http://192.168.1.1/login", http.StatusFound).ServeHTTP), measure.ReasonRedirect, "192.168.1.1/login"},
		{"not found", web(http.NotFound), measure.ReasonHTTPStatus, "404"},
		{"server's fault", web(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), measure.ReasonHTTPStatus, "503"},
		{"no content", web(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }), measure.ReasonHTTPStatus, "204"},
		{"hints first", web(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(200) }), "", ""},
		{"only hints", raw("", endless("HTTP/1.1 103 Early Hints\r\n\r\n")), measure.ReasonMalformed, "without an end"},
		{"another protocol", raw("HTTP/1.1 101 Switching Protocols\r\n\r\n", hang), measure.ReasonHTTPStatus, "101"},
		{"nothing", raw("", close), measure.ReasonShortBody, "answer"},
		{"half a head", raw("HTTP/1.1 200 OK\r\nContent-", close), measure.ReasonShortBody, ""},
		{"half a head, then silence", raw("HTTP/1.1 200 OK\r\nContent-", hang), measure.ReasonTimeout, "answer"},
		{"silence", raw("", hang), measure.ReasonTimeout, "answer"},
		{"no HTTP", raw("SSH-2.0-dropbear\r\n", close), measure.ReasonMalformed, ""},
		{"a status that is none", raw("HTTP/1.1 twohundred OK\r\n\r\n", close), measure.ReasonMalformed, ""},
		{"a head without an end", raw("HTTP/1.1 200 OK\r\n", endless("X-More: "+strings.Repeat("x", 1000)+"\r\n")), measure.ReasonMalformed, "head of more than"},
		{"a line without an end", raw("HTTP/1.1 200 ", endless(strings.Repeat("x", 1000))), measure.ReasonMalformed, "head of more than"},
		{"nobody", "http://" + gone.Addr().String(), measure.ReasonRefused, ""},
		{"a stranger's certificate", stranger.URL, measure.ReasonTLS, ""},
		{"no TLS", strings.Replace(ok, "http:", "https:", 1), measure.ReasonTLS, ""},
		{"TLS hung up on", strings.Replace(raw("", close), "http:", "https:", 1), measure.ReasonTLS, ""},
		{"TLS and silence", strings.Replace(raw("", hang), "http:", "https:", 1), measure.ReasonTimeout, "TLS"},
		{"the house", "http://localhost:1/", measure.ReasonRedirect, "home network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := Options{Limit: 10 * time.Second}
			if c.reason == measure.ReasonTimeout {
				o.Limit = 300 * time.Millisecond
			}
			wants(t, one(t, o, c.url), c.reason, c.says)
		})
	}
}

func TestClockOfTheCertificate(t *testing.T) {
	s := quiet(httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	at := func(t time.Time) func() time.Time { return func() time.Time { return t } }
	wants(t, one(t, Options{Roots: roots, Now: at(s.Certificate().NotBefore.Add(time.Hour))}, s.URL), "", "")
	wants(t, one(t, Options{Roots: roots, Now: at(s.Certificate().NotBefore.Add(-time.Hour))}, s.URL), measure.ReasonTLS, "")
}

func TestCancelled(t *testing.T) {
	in, err := New(Options{Pages: []Page{{ID: "p", URL: "http://127.0.0.1:1/"}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, in.Measure(ctx)[0], measure.ReasonCancelled, "")
}

// TestNames has a resolver on the box's own loopback, as resolv.conf may name one.
func TestNames(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	here, server := nettest.Here(t), nettest.New(t)
	here.Cable("eth0", server, "eth0")
	here.Address("eth0", "203.0.113.1/24")
	server.Address("eth0", "203.0.113.2/24")
	go http.Serve(server.Listen("tcp", "203.0.113.2:80"), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Host != "layanan.example.id" {
			t.Errorf("asked for host %s", r.Host)
		}
	}))
	resolver, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer resolver.Close()
	answers := map[string][]string{"layanan": {"203.0.113.2"}, "pindah": {"203.0.113.77", "203.0.113.2"}, "rumah": {"192.168.1.1"}}
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := resolver.ReadFrom(buf)
			var m dnsmessage.Message
			if err != nil || m.Unpack(buf[:n]) != nil {
				return
			}
			m.Response, m.Additionals = true, nil
			q := m.Questions[0]
			label, _, _ := strings.Cut(q.Name.String(), ".")
			addrs, known := answers[label]
			if !known {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, a := range addrs {
				if q.Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
						Body: &dnsmessage.AResource{A: [4]byte(net.ParseIP(a).To4())}})
				}
			}
			p, _ := m.Pack()
			resolver.WriteTo(p, from)
		}
	}()
	account := ledger.New(ledger.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(network, "udp") {
			addr = resolver.LocalAddr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	o := Options{Ledger: account, Limit: 4 * time.Second}
	r := one(t, o, "http://layanan.example.id/")
	wants(t, r, "", "")
	if _, ok := r.Value(measure.HTTPLookupSeconds); !ok || len(r.Values) != 3 {
		t.Errorf("%v, want look-up, connection, first byte", r.Values)
	}
	wants(t, one(t, o, "http://rumah.example.id/"), measure.ReasonRedirect, "192.168.1.1")
	wants(t, one(t, o, "http://tiada.example.id/"), measure.ReasonDNS, "look-up")
	in, _ := New(Options{Ledger: account, Limit: 4 * time.Second, Pages: []Page{{"a", "http://tiada.example.id/"}, {"b", "http://layanan.example.id/"}}})
	if rs := in.Measure(t.Context()); len(rs) != 2 || rs[0].Reason != measure.ReasonDNS || rs[1].Outcome != measure.OK || rs[1].Target != "b" {
		t.Errorf("one page spoils another: %+v", rs)
	}

	here.Unplug("eth0")
	wants(t, one(t, o, "http://203.0.113.2/"), measure.ReasonUnreachable, "connection")
}

func TestEveryBadPageIsNamed(t *testing.T) {
	pages := []Page{{"a", "https://x/"}, {"a", "https://x/"}, {"b", "ftp://x/"}, {"c", "https:///"}, {"d", "https://u:p@x/"}, {"e", "http://x:0/"}, {"f", "://"}}
	pages = append(pages, Page{"g", "https://x/"}, Page{"h", "https://x/"})
	_, err := New(Options{Pages: pages})
	for _, want := range []string{"9 pages", "page 2", `page 3 ("b")`, `page 4 ("c")`, `page 5 ("d")`, "port 0", `page 7 ("f")`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not named: %s\n%v", want, err)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 1<<20)) }))
	defer good.Close()
	secure := quiet(httptest.NewTLSServer(http.NotFoundHandler()))
	defer secure.Close()
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	in, err := New(Options{Roots: roots, Pages: []Page{{"good", good.URL}, {"gone", secure.URL}, {"nobody", "http://127.0.0.1:1/"}}})
	if err != nil {
		t.Fatal(err)
	}
	nettest.Steady(t, 200, func() { in.Measure(t.Context()) })
}

package dns

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// resolver answers each packet with what reply makes of it (nothing: silence),
// on 127.0.0.1, until the test ends.
func resolver(t *testing.T, reply func(n int, q dnsmessage.Message) [][]byte) Question {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for n := 1; ; n++ {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:size]) != nil || len(m.Questions) != 1 || m.Response || !m.RecursionDesired || m.Questions[0].Type != dnsmessage.TypeA {
				t.Errorf("a strange question: %x", buf[:size])
				continue
			}
			for _, p := range reply(n, m) {
				conn.WriteTo(p, from)
			}
		}
	}()
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return Question{ID: "q", Name: "www.desa.example.id", Resolver: at.Addr(), Port: at.Port()}
}

// addresses is the answer to m: these addresses behind an alias.
func addresses(m dnsmessage.Message, addrs ...string) []byte {
	q := m.Questions[0]
	m.Response = true
	alias := dnsmessage.MustNewName("cdn.example.id.")
	m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class},
		Body: &dnsmessage.CNAMEResource{CNAME: alias}})
	for _, a := range addrs {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: alias, Class: q.Class},
			Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()}})
	}
	return pack(m)
}

func pack(m dnsmessage.Message) []byte {
	p, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return p
}

func code(m dnsmessage.Message, c dnsmessage.RCode) []byte {
	m.Response, m.RCode = true, c
	return pack(m)
}

func one(t *testing.T, o Options) measure.Result {
	t.Helper()
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

func TestAnswers(t *testing.T) {
	const slow = 300 * time.Millisecond
	good := func(m dnsmessage.Message) []byte { return addresses(m, "203.0.113.7") }
	other := func(m dnsmessage.Message) dnsmessage.Message {
		m.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("www.example.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
		return m
	}
	id := func(m dnsmessage.Message) dnsmessage.Message { m.ID++; return m }
	for _, c := range []struct {
		name   string
		reply  func(n int, m dnsmessage.Message) [][]byte
		reason measure.Reason
		says   string
		flags  int
		least  time.Duration
	}{
		{"at once", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{good(m)} }, "", "resolver 127.0.0.1:", 0, 0},
		{"late", func(_ int, m dnsmessage.Message) [][]byte { time.Sleep(slow); return [][]byte{good(m)} }, "", "", 0, slow},
		{"capitals", func(_ int, m dnsmessage.Message) [][]byte {
			m.Questions[0].Name = dnsmessage.MustNewName("WWW.Desa.example.id.")
			return [][]byte{good(m)}
		}, "", "", 0, 0},
		{"the second time", func(n int, m dnsmessage.Message) [][]byte {
			if n == 1 {
				return nil
			}
			return [][]byte{good(m)}
		}, "", "", 1, 0},
		{"forgeries first", func(_ int, m dnsmessage.Message) [][]byte {
			return [][]byte{{1, 2, 3}, good(id(m)), good(other(m)), pack(m), good(m)}
		}, "", "", 0, 0},
		{"never", func(int, dnsmessage.Message) [][]byte { return nil }, measure.ReasonTimeout, "", 0, 0},
		{"another id only", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{good(id(m))} }, measure.ReasonMalformed, "no answer", 0, 0},
		{"another question only", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{good(other(m))} }, measure.ReasonMalformed, "another question", 0, 0},
		{"noise", func(int, dnsmessage.Message) [][]byte { return [][]byte{make([]byte, 1400)} }, measure.ReasonMalformed, "", 0, 0},
		{"cut in the middle", func(_ int, m dnsmessage.Message) [][]byte { p := good(m); return [][]byte{p[:len(p)-3]} }, measure.ReasonMalformed, "cannot be read", 0, 0},
		{"does not exist", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{code(m, dnsmessage.RCodeNameError)} }, measure.ReasonDNS, "NXDOMAIN", 0, 0},
		{"does not know", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{code(m, dnsmessage.RCodeServerFailure)} }, measure.ReasonDNS, "SERVFAIL", 0, 0},
		{"will not", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{code(m, dnsmessage.RCodeRefused)} }, measure.ReasonDNS, "REFUSED", 0, 0},
		{"an alias to nowhere", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{addresses(m)} }, measure.ReasonDNS, "no IPv4 address", 0, 0},
		{"truncated", func(_ int, m dnsmessage.Message) [][]byte { m.Truncated = true; return [][]byte{addresses(m)} }, measure.ReasonShortBody, "cut off", 0, 0},
		{"the router's own page", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{addresses(m, "192.168.1.1")} }, measure.ReasonRedirect, "home network", 0, 0},
		{"nowhere", func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{addresses(m, "203.0.113.7", "0.0.0.0")} }, measure.ReasonRedirect, "", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			account := ledger.New(ledger.Options{})
			wait := time.Second
			if c.reason == measure.ReasonTimeout || c.reason == measure.ReasonMalformed {
				wait = 200 * time.Millisecond
			}
			r := one(t, Options{Questions: []Question{resolver(t, c.reply)}, Wait: wait, Ledger: account})
			if r.Reason != c.reason || !strings.Contains(r.Detail, c.says) || len(r.Flags) != c.flags || r.Target != "q" {
				t.Errorf("%s/%s %q %v", r.Outcome, r.Reason, r.Detail, r.Flags)
			}
			if v, ok := r.Value(measure.DNSAnswerSeconds); ok != (c.reason == "") || ok && (v < c.least.Seconds() || v > r.Duration.Seconds()) {
				t.Errorf("answered in %v s, of %v", v, r.Duration)
			}
			// One question is 37 bytes, with UDP, IPv4 and Ethernet 79.
			if rx, tx := account.Own(); rx != r.BytesReceived || tx != r.BytesSent || tx < 79 || tx > 2*79 {
				t.Errorf("ledger has %d and %d bytes, the result %d and %d", rx, tx, r.BytesReceived, r.BytesSent)
			}
		})
	}
}

func TestNobodyThere(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	if r := one(t, Options{Questions: []Question{{ID: "q", Name: "a.example.id", Resolver: at.Addr(), Port: at.Port()}}}); r.Reason != measure.ReasonRefused {
		t.Errorf("%s/%s %q", r.Outcome, r.Reason, r.Detail)
	}

	in, err := New(Options{Questions: []Question{resolver(t, func(int, dnsmessage.Message) [][]byte { return nil })}, Wait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := in.Measure(ctx)[0]; r.Reason != measure.ReasonCancelled {
		t.Errorf("%s/%s %q", r.Outcome, r.Reason, r.Detail)
	}
}

func TestNoWay(t *testing.T) {
	if !nettest.Private(t) {
		return
	}
	if r := one(t, Options{Questions: []Question{{ID: "q", Name: "a.example.id", Resolver: netip.MustParseAddr("203.0.113.1")}}}); r.Reason != measure.ReasonUnreachable {
		t.Errorf("%s/%s %q", r.Outcome, r.Reason, r.Detail)
	}
}

func TestARandomLabelIsNeverAskedTwice(t *testing.T) {
	var last atomic.Value
	q := resolver(t, func(_ int, m dnsmessage.Message) [][]byte {
		name := m.Questions[0].Name.String()
		if before := last.Swap(name); name == before || !strings.HasSuffix(name, ".ukur.example.id.") || len(name) != 16+len(".ukur.example.id.") {
			t.Errorf("asked for %s after %v", name, before)
		}
		return [][]byte{addresses(m, "203.0.113.7")}
	})
	q.Name = "*.ukur.example.id"
	for range 3 {
		if r := one(t, Options{Questions: []Question{q}}); r.Outcome != measure.OK {
			t.Errorf("%s/%s %q", r.Outcome, r.Reason, r.Detail)
		}
	}
}

func TestTheBoxsOwnResolver(t *testing.T) {
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	stub, router := write("# made by systemd\nnameserver 127.0.0.53\noptions edns0\n"), write("search lan\nnameserver fe80::1%eth0\nnameserver 192.168.1.1\n")
	for _, c := range []struct {
		name  string
		files []string
		want  string
	}{
		{"behind the box's own stub", []string{stub, router}, "[fe80::1%eth0]:53"},
		{"only a stub", []string{stub}, "127.0.0.53:53"},
		{"the first", []string{write("nameserver\nnameserver zero\n nameserver 10.1.2.3\nnameserver 10.1.2.4"), stub}, "10.1.2.3:53"},
		{"none", []string{write(""), filepath.Join(t.TempDir(), "none")}, "invalid AddrPort"},
	} {
		in, err := New(Options{Configs: c.files})
		if err != nil {
			t.Fatal(err)
		}
		got, err := in.resolver(Question{})
		if got.String() != c.want || (err == nil) != got.IsValid() {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
	if r := one(t, Options{Questions: []Question{{ID: "q", Name: "a.example.id"}}, Configs: []string{}}); r.Reason != measure.ReasonDNS {
		t.Errorf("%s/%s %q", r.Outcome, r.Reason, r.Detail)
	}
}

func TestEveryBadQuestionIsNamed(t *testing.T) {
	_, err := New(Options{Questions: []Question{{ID: "a", Name: "x"}, {ID: "a", Name: "x"}, {ID: "b"}, {ID: "c", Name: "a b"},
		{ID: "d", Name: "a..b"}, {ID: "e", Name: "*"}, {ID: "f", Name: strings.Repeat("abcdefg.", 40)}, {ID: "g", Name: "ok"}, {ID: "h", Name: "ok"}}})
	for _, want := range []string{"9 questions", "question 2", `question 3 ("b")`, `"a b"`, `"a..b"`, `"*"`, "longer than"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not named: %s\n%v", want, err)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("www.desa.example.id."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7}, Questions: []dnsmessage.Question{q}}
	f.Add(addresses(m, "203.0.113.7"))
	f.Add(addresses(m))
	f.Add(code(m, dnsmessage.RCodeNameError))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if ours, err := answer(packet, 7, q); !ours && err == nil {
			t.Error("neither ours nor wrong")
		}
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	good := resolver(t, func(_ int, m dnsmessage.Message) [][]byte { return [][]byte{addresses(m, "203.0.113.7")} })
	deaf := resolver(t, func(int, dnsmessage.Message) [][]byte { return nil })
	deaf.ID = "deaf"
	in, err := New(Options{Questions: []Question{good, deaf}, Wait: 2 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	nettest.Steady(t, 500, func() { in.Measure(t.Context()) })
}

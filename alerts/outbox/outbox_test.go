package outbox

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
)

// fakeClock goes only when told to.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[chan time.Time]time.Time
	set    int
}

func newClock() *fakeClock {
	return &fakeClock{now: time.Date(2025, 7, 21, 7, 6, 0, 0, time.UTC), timers: make(map[chan time.Time]time.Time)}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) Timer(d time.Duration) (<-chan time.Time, func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.timers[ch] = c.now.Add(d)
	c.set++
	return ch, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, there := c.timers[ch]
		delete(c.timers, ch)
		return there
	}
}

func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	for ch, at := range c.timers {
		if !at.After(c.now) {
			ch <- c.now
			delete(c.timers, ch)
		}
	}
}

// sleeping says that somebody waits for the clock, now.
func (c *fakeClock) sleeping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers) > 0
}

// sleeps is how often somebody began to wait.
func (c *fakeClock) sleeps() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.set
}

// until polls: what it waits for happens in another goroutine or process.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func server(t *testing.T, opt smtptest.Options) *smtptest.Server {
	t.Helper()
	s, err := smtptest.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func optionsFor(t *testing.T, s *smtptest.Server) Options {
	return Options{File: filepath.Join(t.TempDir(), "mail.db"), From: "Pantau Desa <pantau@kominfo.example.org>",
		SMTP: SMTP{Host: s.Host(), Port: s.Port(), Encryption: Plain, Timeout: 10 * time.Second}}
}

func open(t *testing.T, opt Options) *Outbox {
	t.Helper()
	o, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// run runs o until the test ends, or the returned function is called.
func run(t *testing.T, o *Outbox) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func note(event, to string) Mail {
	thread, _, _ := strings.Cut(event, "/")
	return Mail{Event: event, Thread: thread, Recipient: to, Message: Message{Subject: "[Gangguan] 4 desa di Kec. Wonosari putus – " + event, Text: "4 desa putus.\n", HTML: "<p>4 desa putus.</p>"}}
}

func enqueue(t *testing.T, o *Outbox, m Mail, want bool) {
	t.Helper()
	got, err := o.Enqueue(t.Context(), m)
	if err != nil || got != want {
		t.Fatalf("Enqueue(%s, %s) = %v, %v; want %v", m.Event, m.Recipient, got, err, want)
	}
}

func arrive(t *testing.T, s *smtptest.Server, n int) []smtptest.Mail {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Wait(ctx, n); err != nil {
		t.Fatal(err)
	}
	return s.Mails()
}

func status(t *testing.T, o *Outbox, event, to string) Status {
	t.Helper()
	list, err := o.List(1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Event == event && s.Recipient == to {
			return s
		}
	}
	t.Fatalf("no mail %s to %s in %+v", event, to, list)
	return Status{}
}

func becomes(t *testing.T, o *Outbox, event, to string, want State) Status {
	t.Helper()
	until(t, event+" to "+to+" to be "+string(want), func() bool { return status(t, o, event, to).State == want })
	return status(t, o, event, to)
}

func read(t *testing.T, m smtptest.Mail) *mail.Message {
	t.Helper()
	got, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatalf("%v in\n%s", err, m.Data)
	}
	return got
}

func TestStartTLSAndAuth(t *testing.T) {
	s := server(t, smtptest.Options{RequireTLS: true, User: "pantau", Password: "rahasia-sekali"})
	opt := optionsFor(t, s)
	opt.SMTP.Encryption, opt.SMTP.CA, opt.SMTP.User, opt.SMTP.Password = StartTLS, s.CA(), "pantau", "rahasia-sekali"
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-3310-250721-04/opened", "a@example.org"), true)
	m := arrive(t, s, 1)[0]
	if m.From != "pantau@kominfo.example.org" || !slices.Equal(m.To, []string{"a@example.org"}) {
		t.Errorf("envelope %s to %v", m.From, m.To)
	}
	got := read(t, m)
	for name, want := range map[string]string{
		"From": `"Pantau Desa" <pantau@kominfo.example.org>`, "To": "<a@example.org>", "List-Id": "<pantau-desa.kominfo.example.org>",
		"Auto-Submitted": "auto-generated", "Mime-Version": "1.0", "References": "", "In-Reply-To": "",
	} {
		if have := got.Header.Get(name); have != want {
			t.Errorf("%s: %q, want %q", name, have, want)
		}
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if err != nil || subject != "[Gangguan] 4 desa di Kec. Wonosari putus – G-3310-250721-04/opened" {
		t.Errorf("subject %q, %v", subject, err)
	}
	if d, err := got.Header.Date(); err != nil || time.Since(d) > time.Hour {
		t.Errorf("date %v, %v", d, err)
	}
	if id := got.Header.Get("Message-Id"); !strings.HasPrefix(id, "<G-3310-250721-04-opened.") || !strings.HasSuffix(id, "@kominfo.example.org>") {
		t.Errorf("Message-ID %s", id)
	}
	kind, params, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %s, %v", kind, err)
	}
	parts := multipart.NewReader(got.Body, params["boundary"])
	for _, want := range []struct{ kind, text string }{{"text/plain", "4 desa putus.\n"}, {"text/html", "<p>4 desa putus.</p>"}} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil || strings.ReplaceAll(string(b), "\r", "") != want.text || !strings.HasPrefix(p.Header.Get("Content-Type"), want.kind) {
			t.Errorf("part %s: %q, %v", p.Header.Get("Content-Type"), b, err)
		}
	}
}

// What is wrong with the connection as a whole loses no mail, and is named.
func TestServerThatCannotBeUsed(t *testing.T) {
	for _, c := range []struct {
		name   string
		server smtptest.Options
		change func(*SMTP, *smtptest.Server)
		want   Reason
	}{
		{"no STARTTLS offered", smtptest.Options{}, func(s *SMTP, _ *smtptest.Server) { s.Encryption = StartTLS }, ReasonTLS},
		{"unknown authority", smtptest.Options{TLS: true}, func(s *SMTP, _ *smtptest.Server) { s.Encryption = StartTLS }, ReasonTLS},
		{"unknown authority, opportunistic", smtptest.Options{TLS: true}, func(s *SMTP, _ *smtptest.Server) { s.Encryption = Opportunistic }, ReasonTLS},
		{"unknown authority, from the first byte", smtptest.Options{Implicit: true}, func(s *SMTP, _ *smtptest.Server) { s.Encryption = Implicit }, ReasonTLS},
		{"wrong password", smtptest.Options{RequireTLS: true, User: "u", Password: "right"}, func(s *SMTP, x *smtptest.Server) {
			s.Encryption, s.CA, s.User, s.Password = StartTLS, x.CA(), "u", "wrong-password"
		}, ReasonAuth},
		{"authentication wanted", smtptest.Options{RequireTLS: true, User: "u", Password: "right"}, func(s *SMTP, x *smtptest.Server) { s.Encryption, s.CA = StartTLS, x.CA() }, ReasonAuth},
		{"not there", smtptest.Options{}, func(_ *SMTP, x *smtptest.Server) { x.Down() }, ReasonNetwork},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := server(t, c.server)
			opt := optionsFor(t, s)
			c.change(&opt.SMTP, s)
			var logged bytes.Buffer
			opt.Logger = slog.New(slog.NewJSONHandler(&logged, nil))
			o := open(t, opt)
			stop := run(t, o)
			enqueue(t, o, note("G-1/opened", "a@example.org"), true)
			until(t, string(c.want), func() bool { return status(t, o, "G-1/opened", "a@example.org").Reason == c.want })
			if got := status(t, o, "G-1/opened", "a@example.org"); got.State != Waiting || got.Detail == "" || strings.Contains(got.Detail, "wrong-password") {
				t.Errorf("status %+v", got)
			}
			stop()
			if len(s.Mails()) != 0 || strings.Contains(logged.String(), "wrong-password") {
				t.Errorf("%d mails; log %s", len(s.Mails()), logged.String())
			}
		})
	}
}

func TestTLSFromTheFirstByte(t *testing.T) {
	s := server(t, smtptest.Options{Implicit: true, User: "pantau", Password: "rahasia-sekali"})
	opt := optionsFor(t, s)
	opt.SMTP.Encryption, opt.SMTP.CA, opt.SMTP.User, opt.SMTP.Password = Implicit, s.CA(), "pantau", "rahasia-sekali"
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	arrive(t, s, 1)
}

func TestOpportunisticWithoutTLS(t *testing.T) {
	s := server(t, smtptest.Options{})
	opt := optionsFor(t, s)
	opt.SMTP.Encryption = Opportunistic
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	arrive(t, s, 1)
}

// One of three recipients does not exist: the others get theirs, and it is tried
// no more.
func TestRefusedRecipient(t *testing.T) {
	s := server(t, smtptest.Options{})
	var asked atomic.Int32
	s.Behave(func(_, to string) smtptest.Fault {
		if to == "gone@example.org" {
			asked.Add(1)
			return smtptest.RefuseRecipient
		}
		return smtptest.None
	})
	opt := optionsFor(t, s)
	reg := prometheus.NewPedanticRegistry()
	clock := newClock()
	opt.Registerer, opt.Clock = reg, clock
	o := open(t, opt)
	for _, to := range []string{"a@example.org", "gone@example.org", "b@example.org"} {
		enqueue(t, o, note("G-1/opened", to), true)
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader("# HELP pantau_mail_waiting Mails accepted and not yet sent, refused or dead.\n# TYPE pantau_mail_waiting gauge\npantau_mail_waiting 3\n"), "pantau_mail_waiting"); err != nil {
		t.Error(err)
	}
	run(t, o)
	becomes(t, o, "G-1/opened", "a@example.org", Sent)
	becomes(t, o, "G-1/opened", "b@example.org", Sent)
	got := becomes(t, o, "G-1/opened", "gone@example.org", Refused)
	if got.Reason != ReasonRecipient || !strings.Contains(got.Detail, "No such user") || got.Attempts != 1 {
		t.Errorf("refused as %+v", got)
	}
	until(t, "Run to wait", clock.sleeping)
	clock.advance(2 * time.Hour)
	enqueue(t, o, note("G-1/opened", "gone@example.org"), false)
	enqueue(t, o, note("G-1/recovered", "a@example.org"), true)
	arrive(t, s, 3)
	if asked.Load() != 1 {
		t.Errorf("a refused recipient was tried %d times", asked.Load())
	}
	want := `
# HELP pantau_mail_refused_total Mails that the server refused for good, by why.
# TYPE pantau_mail_refused_total counter
pantau_mail_refused_total{reason="auth"} 0
pantau_mail_refused_total{reason="content"} 0
pantau_mail_refused_total{reason="internal"} 0
pantau_mail_refused_total{reason="network"} 0
pantau_mail_refused_total{reason="recipient"} 1
pantau_mail_refused_total{reason="sender"} 0
pantau_mail_refused_total{reason="server"} 0
pantau_mail_refused_total{reason="tls"} 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "pantau_mail_refused_total"); err != nil {
		t.Error(err)
	}
}

// A refusal is final only where it is about this mail.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		fault  smtptest.Fault
		state  State
		reason Reason
	}{
		{smtptest.RefuseRecipient, Refused, ReasonRecipient}, {smtptest.RefuseContent, Refused, ReasonContent}, {smtptest.RefuseSender, Waiting, ReasonSender},
		{smtptest.DeferRecipient, Waiting, ReasonServer}, {smtptest.DeferContent, Waiting, ReasonServer}, {smtptest.DropLost, Waiting, ReasonNetwork},
	} {
		t.Run(fmt.Sprint(c.fault), func(t *testing.T) {
			s := server(t, smtptest.Options{})
			s.Behave(func(string, string) smtptest.Fault { return c.fault })
			opt := optionsFor(t, s)
			clock := newClock()
			opt.Clock = clock
			o := open(t, opt)
			run(t, o)
			enqueue(t, o, note("G-1/opened", "a@example.org"), true)
			until(t, "an attempt", func() bool { return status(t, o, "G-1/opened", "a@example.org").Attempts == 1 })
			if got := status(t, o, "G-1/opened", "a@example.org"); got.State != c.state || got.Reason != c.reason {
				t.Errorf("%+v", got)
			}
			s.Behave(nil)
			if c.state == Waiting {
				until(t, "Run to wait", clock.sleeping)
				clock.advance(2 * time.Minute)
				arrive(t, s, 1)
				becomes(t, o, "G-1/opened", "a@example.org", Sent)
			}
		})
	}
}

// The connection breaks after the server has taken the mail: it comes again, and
// is the same mail.
func TestDroppedAfterData(t *testing.T) {
	s := server(t, smtptest.Options{})
	var dropped atomic.Bool
	s.Behave(func(_, to string) smtptest.Fault {
		if !dropped.Load() {
			return smtptest.DropTaken
		}
		return smtptest.None
	})
	opt := optionsFor(t, s)
	clock := newClock()
	opt.Clock = clock
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	arrive(t, s, 1)
	dropped.Store(true)
	until(t, "Run to notice", func() bool { return status(t, o, "G-1/opened", "a@example.org").Attempts == 1 })
	until(t, "Run to wait", clock.sleeping)
	clock.advance(time.Minute)
	two := arrive(t, s, 2)
	if !bytes.Equal(two[0].Data, two[1].Data) {
		t.Errorf("the repetition differs:\n%s\n%s", two[0].Data, two[1].Data)
	}
	if a, b := read(t, two[0]).Header.Get("Message-Id"), read(t, two[1]).Header.Get("Message-Id"); a != b || a == "" {
		t.Errorf("Message-IDs %q and %q", a, b)
	}
}

// A mail on which the server breaks every time holds up no other.
func TestPoisonousMail(t *testing.T) {
	s := server(t, smtptest.Options{})
	s.Behave(func(_, to string) smtptest.Fault {
		if to == "poison@example.org" {
			return smtptest.DropLost
		}
		return smtptest.None
	})
	opt := optionsFor(t, s)
	clock := newClock()
	opt.Clock = clock
	o := open(t, opt)
	enqueue(t, o, note("G-1/opened", "poison@example.org"), true)
	for i := range 5 {
		enqueue(t, o, note("G-1/opened", fmt.Sprintf("r%d@example.org", i)), true)
	}
	run(t, o)
	for i := range 3 {
		until(t, "Run to wait", clock.sleeping)
		clock.advance(4 * time.Minute)
		if i == 0 {
			arrive(t, s, 5)
		}
	}
	until(t, "several attempts", func() bool { return status(t, o, "G-1/opened", "poison@example.org").Attempts >= 2 })
	if n := len(s.Mails()); n != 5 {
		t.Errorf("%d mails", n)
	}
}

// The server is away for an hour: few connections are tried, nothing is lost, and
// all goes out in order when it is back.
func TestDownForAnHour(t *testing.T) {
	s := server(t, smtptest.Options{})
	s.Down()
	opt := optionsFor(t, s)
	clock := newClock()
	reg := prometheus.NewPedanticRegistry()
	opt.Clock, opt.Registerer = clock, reg
	o := open(t, opt)
	run(t, o)
	tried := func() float64 { return testutil.ToFloat64(o.metrics.delayed.WithLabelValues("network")) }
	for _, e := range []string{"opened", "widened", "recovered"} {
		until(t, "Run to wait", clock.sleeping)
		sleeps, before := clock.sleeps(), tried()
		enqueue(t, o, note("G-1/"+e, "a@example.org"), true)
		until(t, "Run to hear of it", func() bool { return clock.sleeps() > sleeps })
		for range 20 {
			until(t, "Run to wait", clock.sleeping)
			clock.advance(time.Minute)
		}
		until(t, "an attempt", func() bool { return tried() > before })
	}
	until(t, "Run to wait", clock.sleeping)
	if got := tried(); got < 3 || got > 15 {
		t.Errorf("%v connections tried in an hour", got)
	}
	want := "# HELP pantau_mail_oldest_waiting_seconds Age of the oldest mail that waits; 0 if none does.\n# TYPE pantau_mail_oldest_waiting_seconds gauge\npantau_mail_oldest_waiting_seconds 3600\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "pantau_mail_oldest_waiting_seconds"); err != nil {
		t.Error(err)
	}
	if got := status(t, o, "G-1/opened", "a@example.org"); got.State != Waiting || got.Reason != ReasonNetwork {
		t.Errorf("%+v", got)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	// Whatever the back-off has become, an hour is its bound.
	until(t, "the mails", func() bool {
		if clock.sleeping() {
			clock.advance(10 * time.Minute)
		}
		return len(s.Mails()) == 3
	})
	var ids []string
	for i, m := range s.Mails() {
		h := read(t, m).Header
		if want := []string{"opened", "widened", "recovered"}[i]; !strings.Contains(h.Get("Message-Id"), want) {
			t.Errorf("mail %d is %s, want %s", i, h.Get("Message-Id"), want)
		}
		if got := strings.Fields(h.Get("References")); !slices.Equal(got, ids) {
			t.Errorf("mail %d has references %v, want %v", i, got, ids)
		}
		if i > 0 && h.Get("In-Reply-To") != ids[i-1] {
			t.Errorf("mail %d is in reply to %s, want %s", i, h.Get("In-Reply-To"), ids[i-1])
		}
		ids = append(ids, h.Get("Message-Id"))
	}
}

func TestBackoff(t *testing.T) {
	o := &Outbox{opt: Options{MinRetry: time.Minute, MaxRetry: time.Hour}}
	var got []string
	for n := range 9 {
		got = append(got, o.backoff(n+1).String())
	}
	if want := "1m0s 2m0s 4m0s 8m0s 16m0s 32m0s 1h0m0s 1h0m0s 1h0m0s"; strings.Join(got, " ") != want {
		t.Errorf("back-off %v, want %s", got, want)
	}
}

// After a day a mail is dead, and seen to be.
func TestGivenUp(t *testing.T) {
	s := server(t, smtptest.Options{})
	s.Down()
	opt := optionsFor(t, s)
	clock := newClock()
	opt.Clock = clock
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	until(t, "the first attempt", func() bool { return status(t, o, "G-1/opened", "a@example.org").Reason == ReasonNetwork })
	until(t, "Run to wait", clock.sleeping)
	clock.advance(23 * time.Hour)
	until(t, "Run to wait", clock.sleeping)
	if got := status(t, o, "G-1/opened", "a@example.org"); got.State != Waiting {
		t.Fatalf("after 23 hours: %+v", got)
	}
	clock.advance(time.Hour)
	if got := becomes(t, o, "G-1/opened", "a@example.org", Dead); got.Reason != ReasonNetwork || !got.Next.IsZero() {
		t.Errorf("%+v", got)
	}
	if got := testutil.ToFloat64(o.metrics.dead); got != 1 {
		t.Errorf("pantau_mail_dead_total is %v", got)
	}
	if err := s.Up(); err != nil {
		t.Fatal(err)
	}
	enqueue(t, o, note("G-2/opened", "b@example.org"), true)
	until(t, "the next mail", func() bool {
		if clock.sleeping() {
			clock.advance(time.Minute)
		}
		return len(s.Mails()) > 0
	})
	if got := s.Mails(); got[0].To[0] != "b@example.org" {
		t.Errorf("the dead mail was sent")
	}
}

// Doubles and what waits survive a restart.
func TestRestart(t *testing.T) {
	s := server(t, smtptest.Options{})
	opt := optionsFor(t, s)
	o := open(t, opt)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	enqueue(t, o, note("G-1/opened", "a@EXAMPLE.org"), false)
	enqueue(t, o, note("G-1/opened", "b@example.org"), true)
	if _, err := Open(opt); !errors.Is(err, ErrBusy) {
		t.Errorf("a second process: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(opt.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	o = open(t, opt)
	enqueue(t, o, note("G-1/opened", "a@example.org"), false)
	stop := run(t, o)
	arrive(t, s, 2)
	becomes(t, o, "G-1/opened", "a@example.org", Sent)
	becomes(t, o, "G-1/opened", "b@example.org", Sent)
	stop()
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	o = open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), false)
	enqueue(t, o, note("G-1/recovered", "a@example.org"), true)
	last := arrive(t, s, 3)[2]
	if got := read(t, last).Header.Get("References"); !strings.Contains(got, "G-1-opened.") {
		t.Errorf("after restarts the thread is broken: references %q", got)
	}
}

func TestBounds(t *testing.T) {
	s := server(t, smtptest.Options{})
	opt := optionsFor(t, s)
	clock := newClock()
	opt.Clock, opt.MaxWaiting, opt.KeepMost = clock, 4, 3
	o := open(t, opt)
	for i := range 4 {
		enqueue(t, o, note(fmt.Sprintf("G-%d/opened", i), "a@example.org"), true)
	}
	if _, err := o.Enqueue(t.Context(), note("G-9/opened", "a@example.org")); !errors.Is(err, ErrFull) {
		t.Errorf("the fifth: %v", err)
	}
	enqueue(t, o, note("G-0/opened", "a@example.org"), false) // a double is one also when full
	stop := run(t, o)
	arrive(t, s, 4)
	until(t, "Run to wait", clock.sleeping)
	clock.advance(time.Hour)
	until(t, "old ones to be forgotten", func() bool { l, err := o.List(100); return err == nil && len(l) == 3 })
	enqueue(t, o, note("G-9/opened", "a@example.org"), true)
	arrive(t, s, 5)
	stop()
	if list, err := o.List(2); err != nil || len(list) != 2 || list[0].Event != "G-9/opened" {
		t.Errorf("List(2) = %+v, %v", list, err)
	}
	if list, err := o.List(-1); err != nil || len(list) != 0 {
		t.Errorf("List(-1) = %+v, %v", list, err)
	}
}

// A thread knows whom it told, and when first, whatever became of the mail.
func TestThread(t *testing.T) {
	s := server(t, smtptest.Options{})
	opt := optionsFor(t, s)
	clock := newClock()
	opt.Clock = clock
	o := open(t, opt)
	began := clock.Now()
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	clock.advance(time.Hour)
	enqueue(t, o, note("G-1/widened", "a@Example.org"), true)
	for _, c := range []struct {
		thread, to string
		want       bool
	}{{"G-1", "a@example.org", true}, {"G-1", "a@EXAMPLE.org", true}, {"G-1", "b@example.org", false}, {"G-2", "a@example.org", false}} {
		first, told, err := o.Thread(c.thread, c.to)
		if err != nil || told != c.want || told && !first.Equal(began) {
			t.Errorf("Thread(%s, %s) = %v, %v, %v", c.thread, c.to, first, told, err)
		}
	}
}

// The disk fails at the instant of delivery: nothing is sent again, and what was
// sent is noted once the disk is back.
func TestDiskFails(t *testing.T) {
	s := server(t, smtptest.Options{})
	opt := optionsFor(t, s)
	o := open(t, opt)
	for _, to := range []string{"a@example.org", "b@example.org"} {
		enqueue(t, o, note("G-1/opened", to), true)
	}
	s.Behave(func(_, to string) smtptest.Fault {
		if to != "" {
			_ = o.db.Close()
		}
		return smtptest.None
	})
	due, _ := o.due(time.Now())
	if !o.session(t.Context(), due) || len(s.Mails()) != 1 {
		t.Fatalf("%d mails", len(s.Mails()))
	}
	if o.flush() == nil {
		t.Fatal("a closed file was written")
	}
	if due, _ = o.due(time.Now()); len(due) != 1 || due[0].Recipient != "b@example.org" {
		t.Errorf("due after the failure: %+v", due)
	}
	var err error
	if o.db, err = openFile(opt.File); err != nil {
		t.Fatal(err)
	}
	s.Behave(nil)
	run(t, o)
	becomes(t, o, "G-1/opened", "a@example.org", Sent)
	becomes(t, o, "G-1/opened", "b@example.org", Sent)
	if n := len(s.Mails()); n != 2 {
		t.Errorf("%d mails", n)
	}
}

// A clock that was years ahead, and then put right, holds no mail back.
func TestClockPutRight(t *testing.T) {
	s := server(t, smtptest.Options{})
	s.Behave(func(string, string) smtptest.Fault { return smtptest.DeferRecipient })
	opt := optionsFor(t, s)
	clock := newClock()
	clock.advance(10 * 365 * 24 * time.Hour)
	opt.Clock = clock
	o := open(t, opt)
	run(t, o)
	enqueue(t, o, note("G-1/opened", "a@example.org"), true)
	until(t, "an attempt", func() bool { return status(t, o, "G-1/opened", "a@example.org").Attempts == 1 })
	until(t, "Run to wait", clock.sleeping)
	s.Behave(nil)
	clock.advance(-10 * 365 * 24 * time.Hour)
	enqueue(t, o, note("G-2/opened", "a@example.org"), true) // wakes it
	arrive(t, s, 2)
}

// What is no address, no key, or too much is refused; what is a trick in a
// subject becomes text.
func TestHeaderInjection(t *testing.T) {
	s := server(t, smtptest.Options{})
	o := open(t, optionsFor(t, s))
	run(t, o)
	for _, m := range []Mail{
		{Event: "e", Recipient: "a@example.org\r\nBcc: x@example.org"}, {Event: "e", Recipient: "a@example.org, b@example.org"}, {Event: "e", Recipient: "A <a@example.org>"},
		{Event: "e", Recipient: "<a@example.org>"}, {Event: "e", Recipient: "\"a b\"@example.org"}, {Event: "e", Recipient: ""}, {Event: "e", Recipient: "a@example.org> SIZE=1"},
		{Event: "e\r\nX: y", Recipient: "a@example.org"}, {Event: "", Recipient: "a@example.org"}, {Event: "e", Thread: "t\x00", Recipient: "a@example.org"},
		{Event: strings.Repeat("e", 201), Recipient: "a@example.org"}, {Event: "e", Recipient: strings.Repeat("a", 260) + "@example.org"},
		{Event: "big", Recipient: "a@example.org", Message: Message{Text: strings.Repeat("x", maxBody+1)}},
	} {
		if m.Message.Text == "" {
			m.Message.Text = "x"
		}
		if ok, err := o.Enqueue(t.Context(), m); !errors.Is(err, ErrInvalid) || ok {
			t.Errorf("event %.20q to %.30q: %v, %v", m.Event, m.Recipient, ok, err)
		}
	}
	if _, err := o.Enqueue(t.Context(), Mail{Event: "e", Recipient: "a@example.org"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an empty mail: %v", err)
	}
	hostile := []string{"Boto\r\nBcc: all@example.org", "x\n\n<script>", "=?utf-8?q?=0D=0ABcc:_x?=", "a\u2028Bcc: y", strings.Repeat("Sangat panjang ", 100), "\xff\xfe\x00", "…→東京"}
	for i, subject := range hostile {
		m := note(fmt.Sprintf("G-1 \"<>@/%d", i), "a@example.org")
		m.Message.Subject = subject
		m.Message.Text = "From here\r\n.\r\nMAIL FROM:<x@y>\r\n\r\n" + subject
		enqueue(t, o, m, true)
	}
	for i, m := range arrive(t, s, len(hostile)) {
		got := read(t, m)
		if !slices.Equal(m.To, []string{"a@example.org"}) {
			t.Errorf("envelope to %v", m.To)
		}
		for name := range got.Header {
			if !slices.Contains([]string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type", "List-Id", "Auto-Submitted", "X-Auto-Response-Suppress", "References", "In-Reply-To"}, name) {
				t.Errorf("mail %d has a header %s: %v", i, name, got.Header[name])
			}
		}
		if n := len(got.Header["To"]) + len(got.Header["Subject"]); n != 2 {
			t.Errorf("mail %d has %d To and Subject", i, n)
		}
		for _, row := range strings.Split(string(m.Data), "\r\n") {
			if len(row) > 998 || strings.ContainsAny(row, "\r\n") {
				t.Errorf("mail %d has a row of %d bytes", i, len(row))
			}
		}
		if id := got.Header.Get("Message-Id"); strings.ContainsAny(strings.Trim(id, "<>"), " \"<>/") || strings.Count(id, "@") != 1 {
			t.Errorf("Message-ID %s", id)
		}
	}
	if n := len(s.Mails()); n != len(hostile) {
		t.Errorf("%d mails of %d: one was cut in two", n, len(hostile))
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	good := SMTP{Host: "127.0.0.1"}
	for _, c := range []struct {
		name string
		opt  Options
		want string
	}{
		{"no sender", Options{SMTP: good}, "write a mail address"},
		{"sender with a header", Options{SMTP: good, From: "A <a@b>\r\nBcc: c@d"}, "write a mail address"},
		{"no host", Options{From: "a@b"}, "name the server"},
		{"odd port", Options{From: "a@b", SMTP: SMTP{Host: "h", Port: 70000}}, "out of range"},
		{"odd encryption", Options{From: "a@b", SMTP: SMTP{Host: "h", Encryption: "ssl"}}, "starttls, tls, opportunistic or none"},
		{"password in the clear", Options{From: "a@b", SMTP: SMTP{Host: "mail.example.org", Encryption: Opportunistic, User: "u", Password: "p"}}, "in the clear"},
		{"no password", Options{From: "a@b", SMTP: SMTP{Host: "mail.example.org", User: "u"}}, "no password"},
		{"host with port", Options{From: "a@b", SMTP: SMTP{Host: "mail.example.org:587"}}, "without its port"},
		{"odd list", Options{From: "a@b", SMTP: good, ListID: "x>\r\nBcc: y"}, "list id"},
		{"no folder", Options{From: "a@b", SMTP: good, File: filepath.Join(dir, "no", "mail.db")}, "no such file"},
	} {
		if c.opt.File == "" {
			c.opt.File = filepath.Join(dir, "mail.db")
		}
		if o, err := Open(c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
			if o != nil {
				_ = o.Close()
			}
		}
	}
}

func TestSecretHidesItself(t *testing.T) {
	s := SMTP{Host: "h", User: "u", Password: "rahasia"}
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "smtp", s, "password", s.Password)
	j, err := json.Marshal(s.Password)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %q", s, s, s.Password, s.Password), b.String(), string(j)} {
		if strings.Contains(out, "rahasia") {
			t.Errorf("the password shows: %s", out)
		}
	}
}

// A child accepts and sends mails until it is killed, at any instant; the next one
// goes on. What was said to be accepted arrives, and whatever arrives twice is the
// same mail.
func TestKilledAtAnyInstant(t *testing.T) {
	if file := os.Getenv("PANTAU_OUTBOX_CHILD"); file != "" {
		child(t, file)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	s := server(t, smtptest.Options{})
	file := filepath.Join(t.TempDir(), "mail.db")
	accepted := make(map[string]bool)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	for round := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledAtAnyInstant$")
		cmd.Env = append(os.Environ(), "PANTAU_OUTBOX_CHILD="+file, "PANTAU_OUTBOX_PORT="+strconv.Itoa(s.Port()), "PANTAU_OUTBOX_ROUND="+strconv.Itoa(round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		rows := bufio.NewScanner(out)
		var timer *time.Timer
		n := 0
		for rows.Scan() {
			event, ok := strings.CutPrefix(rows.Text(), "accepted ")
			if !ok {
				continue
			}
			accepted[event] = true
			if n++; n == 1 {
				timer = time.AfterFunc(time.Duration(random.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		if timer == nil {
			t.Fatalf("round %d: the child accepted nothing", round)
		}
		timer.Stop()
	}
	if len(accepted) < 12 {
		t.Fatalf("only %d mails were accepted", len(accepted))
	}
	opt := Options{File: file, From: "pantau@example.org", SMTP: SMTP{Host: s.Host(), Port: s.Port(), Encryption: Plain}}
	o := open(t, opt)
	run(t, o)
	seen := make(map[string]smtptest.Mail)
	count := func() (doubles int, err error) {
		seen = make(map[string]smtptest.Mail)
		for _, m := range s.Mails() {
			got, err := mail.ReadMessage(bytes.NewReader(m.Data))
			if err != nil {
				return 0, err
			}
			event := got.Header.Get("Subject")
			if old, again := seen[event]; again {
				doubles++
				if !bytes.Equal(old.Data, m.Data) {
					return 0, fmt.Errorf("%s came twice, and differs:\n%s\n%s", event, old.Data, m.Data)
				}
			}
			seen[event] = m
		}
		return doubles, nil
	}
	until(t, "all that was accepted", func() bool {
		if _, err := count(); err != nil {
			t.Fatal(err)
		}
		for event := range accepted {
			if _, ok := seen[event]; !ok {
				return false
			}
		}
		return true
	})
	doubles, err := count()
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, m := range seen {
		ids[read(t, m).Header.Get("Message-Id")] = true
	}
	if len(ids) != len(seen) {
		t.Errorf("%d mails have %d Message-IDs", len(seen), len(ids))
	}
	t.Logf("%d accepted, %d arrived, %d of them twice", len(accepted), len(s.Mails()), doubles)
}

func child(t *testing.T, file string) {
	port, err := strconv.Atoi(os.Getenv("PANTAU_OUTBOX_PORT"))
	if err != nil {
		t.Fatal(err)
	}
	o, err := Open(Options{File: file, From: "pantau@example.org", SMTP: SMTP{Host: "127.0.0.1", Port: port, Encryption: Plain}})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = o.Run(t.Context()) }()
	for i := 0; ; i++ {
		event := fmt.Sprintf("G-%s-%d/opened", os.Getenv("PANTAU_OUTBOX_ROUND"), i)
		m := note(event, "a@example.org")
		m.Message.Subject = event
		if _, err := o.Enqueue(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		fmt.Println("accepted " + event)
	}
}

package mail

import (
	"bytes"
	"context"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
)

// Every typical mail arrives at a real server as it was drawn: subject, twins and
// size. With -out they are written as they arrived, to be looked at.
func TestMailsArriveAsTheyAreDrawn(t *testing.T) {
	server, err := smtptest.Start(smtptest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	o, err := outbox.Open(outbox.Options{File: filepath.Join(t.TempDir(), "mail.db"), From: "Pantau Desa <pantau@example.org>",
		SMTP: outbox.SMTP{Host: server.Host(), Port: server.Port(), Encryption: outbox.Plain}})
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]Message{}
	for _, l := range []Language{Indonesian, English} {
		for name, v := range typical(l) {
			m, err := v.Render()
			if err != nil {
				t.Fatal(err)
			}
			to := name + "." + string(l) + "@example.org"
			drawn[to] = m
			if _, err := o.Enqueue(t.Context(), outbox.Mail{Event: name, Recipient: to, Message: outbox.Message{Subject: m.Subject, Text: m.Text, HTML: m.HTML}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	arrived, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := server.Wait(arrived, len(drawn)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
	for _, got := range server.Mails() {
		to := got.To[0]
		subject, text, html := twins(t, got.Data)
		want := drawn[to]
		if subject != want.Subject || text != want.Text || strings.TrimRight(html, "\n") != strings.TrimRight(want.HTML, "\n") {
			t.Errorf("%s arrived as something else: subject %q, want %q; %d and %d bytes of text, %d and %d of HTML", to, subject, want.Subject, len(text), len(want.Text), len(html), len(want.HTML))
		}
		if len(html) > MaxHTML || len(got.Data) > 2*MaxHTML {
			t.Errorf("%s: %d bytes of HTML, %d in all", to, len(html), len(got.Data))
		}
		if *out != "" {
			name := strings.TrimSuffix(to, "@example.org")
			for ext, data := range map[string][]byte{".arrived.eml": got.Data, ".arrived.html": []byte(html)} {
				if err := os.WriteFile(filepath.Join(*out, name+ext), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// twins takes a mail apart as a client does.
func twins(t *testing.T, raw []byte) (subject, text, html string) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := parts.NextRawPart()
		if err == io.EOF {
			return subject, text, html
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		s := strings.ReplaceAll(string(b), "\r\n", "\n")
		if strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
			html = s
		} else {
			text = s
		}
	}
}

package portal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/outbox"
)

// mailbox is a mailbox as the page sees it.
type mailbox struct {
	mails    []outbox.Status
	silences []alerts.Silence
	muted    []ledger.Muted
	err      error
}

func (b mailbox) Mails(int) ([]outbox.Status, error)                 { return b.mails, b.err }
func (b mailbox) Silences(context.Context) ([]alerts.Silence, error) { return b.silences, b.err }
func (b mailbox) Muted(int) ([]ledger.Muted, error)                  { return b.muted, b.err }
func withMail(b mailbox) func(*office)                               { return func(o *office) { o.opt.Mail = b } }
func mailOf(state outbox.State, subject string, ago time.Duration) outbox.Status {
	return outbox.Status{Subject: subject, Thread: "G-3310-250721-04", Recipient: "kominfo@klaten.example.id", State: state, Accepted: noon.Add(-ago), Changed: noon.Add(-ago)}
}

func TestMailPage(t *testing.T) {
	b := mailbox{mails: []outbox.Status{mailOf(outbox.Waiting, "[Meluas] "+hostileName, time.Minute), mailOf(outbox.Refused, "[Gangguan] 4 desa", time.Hour),
		mailOf(outbox.Sent, "[Gangguan] 4 desa putus", time.Hour), mailOf(outbox.Refused, "lama sekali", 40*24*time.Hour), mailOf(outbox.Waiting, "[Gangguan] tertua", 2*time.Hour)},
		silences: []alerts.Silence{{ID: "5b2f08aa-1111", By: alerts.ByDistrict, Of: "33.10.15", Name: "Kecamatan Wonosari", Author: "Operator", Reason: hostileName, From: noon.Add(-time.Hour), Until: noon.Add(time.Hour), Current: true}},
		muted:    []ledger.Muted{{Event: "G-3310-250721-05/opened-7/33.10", Incident: "G-3310-250721-05", At: noon.Add(-time.Minute)}}}
	b.mails[0].Reason, b.mails[0].Attempts = outbox.ReasonServer, 3
	b.mails[1].Reason, b.mails[1].Detail = outbox.ReasonRecipient, "550 5.1.1 No such user here"
	b.mails[4].Reason = outbox.ReasonNetwork
	o := newOffice(t, withMail(b))
	p := o.get("/surat", 200)
	body := text(p.one("main", ""))
	for _, w := range []string{"2 surat menunggu", "Server surat belum menerima sejak 12.12: server tidak terjangkau.", "alamat ditolak", "Kata server: 550 5.1.1 No such user here", "3 kali dicoba",
		"Kecamatan Wonosari", "sampai 15.12", "5b2f08aa", "G-3310-250721-05", hostileName} {
		if !strings.Contains(body, w) {
			t.Errorf("the page lacks %q:\n%s", w, body)
		}
	}
	if strings.Contains(body, "lama sekali") || strings.Contains(p.raw, "<script") || strings.Contains(p.raw, "<form") {
		t.Errorf("the page shows what it must not:\n%s", body)
	}
	if s := text(o.get("/", 200).one("nav", "pages")); !strings.Contains(s, "Surat") {
		t.Errorf("navigation %q", s)
	}
}

func TestMailPageWithout(t *testing.T) {
	if body := text(newOffice(t).get("/surat", 200).one("main", "")); !strings.Contains(body, "Tidak ada yang dikabari.") {
		t.Errorf("without mail:\n%s", body)
	}
	if body := text(newOffice(t, withMail(mailbox{})).get("/surat", 200).one("main", "")); !strings.Contains(body, "Belum ada surat") {
		t.Errorf("without mails:\n%s", body)
	}
	o := newOffice(t, withMail(mailbox{err: errors.New("disk")}))
	if body := text(o.get("/surat", 200).one("main", "")); !strings.Contains(body, "Sebagian angka tidak dapat dibaca saat ini: surat") || strings.Contains(body, "disk") {
		t.Errorf("unreadable:\n%s", body)
	}
}

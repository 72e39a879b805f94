package portal

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Mailbox is what became of mails; *alerts.Service has it.
type Mailbox interface {
	// Mails returns the latest ones, newest first.
	Mails(n int) ([]outbox.Status, error)
	// Silences returns those in force or to come; Muted what they muted.
	Silences(context.Context) ([]alerts.Silence, error)
	Muted(n int) ([]ledger.Muted, error)
}

// What the page of mails shows.
const (
	mailsRead   = 2000
	mailsShown  = 60
	mutedShown  = 30
	refusedDays = 30
)

// mailRow is one mail.
type mailRow struct {
	look
	Subject, To    string
	At, Note       string
	Server, Number string
}

// silenceRow is one silence.
type silenceRow struct{ Scope, Name, Span, Reason, Author, ID string }

// mailPage is the page "/surat".
type mailPage struct {
	frame
	Heading, Lead string
	Off           bool // mail is not configured
	Banner        string
	Waiting       []mailRow
	Refused       []mailRow
	Sent          []mailRow
	More          string
	Silences      []silenceRow
	Muted         []fact
	Contacts      []contactRow
}

type contactRow struct{ Name, Email, Role, Region string }

func (p *pages) mails(w http.ResponseWriter, r *http.Request) {
	inv := p.Inventory()
	if inv == nil {
		p.send(w, http.StatusServiceUnavailable, "message", p.message("Daftar desa belum terbaca", "Coba lagi sebentar lagi."))
		return
	}
	now := p.Now().In(inv.Location(firstProvince(inv)))
	l := mailPage{frame: p.frame(now), Off: p.Mail == nil}
	l.Refresh = "/surat"
	var missing gaps
	if l.Off {
		l.Heading = "Email belum diatur"
	} else {
		l.fill(r.Context(), p.Mail, now, &missing)
	}
	for _, c := range inv.Contacts(now) {
		row := contactRow{Name: c.Name, Email: c.Email, Role: roleOf(c)}
		if region, ok := inv.Regency(c.Region); ok {
			row.Region = region.Name
		} else if region, ok := inv.Province(c.Region); ok {
			row.Region = "Provinsi " + region.Name
		}
		l.Contacts = append(l.Contacts, row)
	}
	l.Title, l.Missing = l.Heading, missing.tell(r.Context(), p.Logger, "surat")
	p.send(w, http.StatusOK, "mails", l)
}

func roleOf(c inventory.Contact) string {
	switch c.Role {
	case inventory.RoleProvince:
		return fmt.Sprintf("provinsi, dari %s desa", bahasa.Count(c.MinVillages))
	case inventory.RoleOperations:
		return "pengelola server"
	}
	return "dinas"
}

func (l *mailPage) fill(ctx context.Context, box Mailbox, now time.Time, missing *gaps) {
	list, err := box.Mails(mailsRead)
	missing.note("surat", err)
	sent := 0
	var oldest outbox.Status
	for _, m := range list {
		row := mailLine(m, now)
		switch m.State {
		case outbox.Waiting:
			l.Waiting = append(l.Waiting, row)
			oldest = m // the list ends with it
		case outbox.Sent:
			if sent++; sent <= mailsShown {
				l.Sent = append(l.Sent, row)
			}
		default:
			if now.Sub(m.Changed) < refusedDays*24*time.Hour {
				l.Refused = append(l.Refused, row)
			}
		}
	}
	if sent > mailsShown {
		l.More = fmt.Sprintf("%s yang lebih lama tidak ditampilkan.", bahasa.Count(sent-mailsShown))
	}
	l.Heading = "Semua surat terkirim"
	switch {
	case len(l.Waiting) > 0:
		l.Heading = bahasa.Count(len(l.Waiting)) + " surat menunggu"
		if oldest.Reason != outbox.ReasonNone {
			l.Banner = fmt.Sprintf("Server surat belum menerima sejak %s: %s.", bahasa.Moment(oldest.Accepted.In(now.Location()), now), reasonOf(oldest.Reason))
		}
	case len(l.Refused) > 0:
		l.Heading = bahasa.Count(len(l.Refused)) + " surat tidak sampai"
	case len(l.Sent) == 0:
		l.Heading = "Belum ada surat"
	}
	l.Lead = fmt.Sprintf("%s menunggu, %s tidak sampai dalam %d hari", bahasa.Count(len(l.Waiting)), bahasa.Count(len(l.Refused)), refusedDays)

	silences, err := box.Silences(ctx)
	missing.note("yang dibungkam", err)
	for _, s := range silences {
		span := "sampai " + bahasa.Moment(s.Until.In(now.Location()), now)
		if !s.Current {
			span = "mulai " + bahasa.Moment(s.From.In(now.Location()), now) + ", " + span
		}
		l.Silences = append(l.Silences, silenceRow{Scope: s.Of, Name: s.Name, Span: span, Reason: s.Reason, Author: s.Author, ID: s.ID[:min(8, len(s.ID))]})
	}
	muted, err := box.Muted(mutedShown)
	missing.note("kabar yang dibungkam", err)
	for _, m := range muted {
		l.Muted = append(l.Muted, fact{Name: bahasa.Moment(m.At.In(now.Location()), now), Text: m.Incident, Code: true})
	}
}

// reasonOf words why a mail waits or was refused.
func reasonOf(r outbox.Reason) string {
	switch r {
	case outbox.ReasonRecipient:
		return "alamat ditolak"
	case outbox.ReasonContent:
		return "isi ditolak"
	case outbox.ReasonSender:
		return "alamat pengirim ditolak"
	case outbox.ReasonAuth:
		return "nama atau sandi ditolak"
	case outbox.ReasonTLS:
		return "sambungan aman gagal"
	case outbox.ReasonServer:
		return "server meminta dicoba lagi nanti"
	case outbox.ReasonNetwork:
		return "server tidak terjangkau"
	case outbox.ReasonInternal:
		return "surat tidak dapat disusun"
	}
	return "belum dicoba"
}

func mailLine(m outbox.Status, now time.Time) mailRow {
	moment := func(t time.Time) string { return bahasa.Moment(t.In(now.Location()), now) }
	row := mailRow{Subject: m.Subject, To: m.Recipient, Server: m.Detail, Number: m.Thread}
	switch m.State {
	case outbox.Sent:
		row.look, row.At = look{Word: "Terkirim", Class: "is-up", Shape: "s-up"}, moment(m.Changed)
		if late := m.Changed.Sub(m.Accepted); late >= 2*time.Minute {
			row.Note = bahasa.ShortDuration(late) + " setelah ditulis"
		}
		row.Server = ""
	case outbox.Waiting:
		row.look, row.At = look{Word: "Menunggu", Class: "is-degraded", Shape: "s-degraded"}, moment(m.Accepted)
		row.Note = reasonOf(m.Reason)
		if m.Attempts > 0 {
			row.Note += fmt.Sprintf(", %s kali dicoba", bahasa.Count(m.Attempts))
		}
	case outbox.Dead:
		row.look, row.At, row.Note = look{Word: "Kedaluwarsa", Class: "is-down", Shape: "s-down"}, moment(m.Changed), reasonOf(m.Reason)
	default:
		row.look, row.At, row.Note = look{Word: "Ditolak", Class: "is-down", Shape: "s-down"}, moment(m.Changed), reasonOf(m.Reason)
	}
	return row
}

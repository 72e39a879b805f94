package outbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/smtp"

	"github.com/pantau-desa/pantau/configs/secret"
)

// Encryption says how the connection to the server is protected.
type Encryption string

// The ways.
const (
	StartTLS      Encryption = "starttls"      // required: no mail without it
	Implicit      Encryption = "tls"           // from the first byte, as on port 465
	Opportunistic Encryption = "opportunistic" // if the server offers it; its certificate must be trusted then
	Plain         Encryption = "none"          // for a server on this machine
)

// SMTP is the server that takes the mails.
type SMTP struct {
	Host       string
	Port       int        // 587 if 0, 465 with Implicit
	Encryption Encryption // StartTLS if empty
	User       string     // no authentication if empty
	Password   secret.Text
	CA         *x509.CertPool // the system's if nil
	HELO       string         // the machine's name if empty
	Timeout    time.Duration  // of a connection attempt, and of one mail; 30 s if 0
}

// Check fills in what is empty and says what is wrong, by the name of the field in
// settings: host, port, encryption, user.
func (s *SMTP) Check() map[string]string {
	if s.Encryption == "" {
		s.Encryption = StartTLS
	}
	if s.Port == 0 {
		s.Port = 587
		if s.Encryption == Implicit {
			s.Port = 465
		}
	}
	wrong := map[string]string{}
	if s.Host == "" || hidden(s.Host) || strings.ContainsAny(s.Host, " :/@") && net.ParseIP(s.Host) == nil {
		wrong["host"] = fmt.Sprintf("is %q: name the server that takes mails, without its port", s.Host)
	}
	if s.Port < 1 || s.Port > 65535 {
		wrong["port"] = fmt.Sprintf("%d is out of range", s.Port)
	}
	if !slices.Contains([]Encryption{StartTLS, Implicit, Opportunistic, Plain}, s.Encryption) {
		wrong["encryption"] = fmt.Sprintf("is %q: it is starttls, tls, opportunistic or none", s.Encryption)
	} else if s.User != "" && s.Encryption != StartTLS && s.Encryption != Implicit && !loopback(s.Host) {
		wrong["encryption"] = fmt.Sprintf("%q would send the password in the clear: use starttls", s.Encryption)
	}
	if s.User != "" && s.Password == "" {
		wrong["user"] = "has no password"
	}
	return wrong
}

// CheckSender says what is wrong with a sender; empty: nothing.
func CheckSender(from string) string {
	if _, err := mail.ParseAddress(from); err != nil || hidden(from) {
		return fmt.Sprintf("is %q: write a mail address, such as Pantau Desa <pantau@example.org>", from)
	}
	return ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s SMTP) client(conn func(net.Conn)) (*gomail.Client, error) {
	policy := map[Encryption]gomail.TLSPolicy{StartTLS: gomail.TLSMandatory, Opportunistic: gomail.TLSOpportunistic, Plain: gomail.NoTLS, Implicit: gomail.NoTLS}[s.Encryption]
	secure := &tls.Config{ServerName: s.Host, RootCAs: s.CA, MinVersion: tls.VersionTLS12}
	opts := []gomail.Option{gomail.WithPort(s.Port), gomail.WithTLSPolicy(policy), gomail.WithTimeout(s.Timeout),
		gomail.WithTLSConfig(secure),
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			c, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			conn(c)
			if s.Encryption != Implicit {
				return c, nil
			}
			t := tls.Client(c, secure)
			return t, t.HandshakeContext(ctx)
		})}
	if s.HELO != "" {
		opts = append(opts, gomail.WithHELO(s.HELO))
	}
	way := gomail.SMTPAuthAutoDiscover
	if s.Encryption == Implicit {
		opts = append(opts, gomail.WithSSL())
		way = gomail.SMTPAuthPlain // discovery takes a connection of our own for a bare one
	}
	if s.User != "" {
		opts = append(opts, gomail.WithSMTPAuth(way), gomail.WithUsername(s.User), gomail.WithPassword(string(s.Password)))
	}
	return gomail.NewClient(s.Host, opts...)
}

// perConnection bounds the mails of one connection; servers have such bounds too.
const perConnection = 50

// grace is how long a mail that is under way may still take when Run is to end.
const grace = 5 * time.Second

// Run sends until ctx ends. A mail that is under way then gets a few seconds.
func (o *Outbox) Run(ctx context.Context) error {
	var server struct { // the server as a whole: while it is away, no mail is tried
		failures int
		next     time.Time
	}
	var forgotten time.Time
	for ctx.Err() == nil {
		now := o.opt.Clock.Now()
		if now.Sub(forgotten) >= time.Hour || now.Before(forgotten) {
			if err := o.forget(now); err != nil {
				o.opt.Logger.Error("outbox: forgetting old mails failed", "error", err)
			}
			forgotten = now
		}
		wait := time.Hour
		if err := o.flush(); err != nil {
			// Nothing is sent that could not be noted: a crash would repeat it all.
			wait = o.opt.MinRetry
		} else {
			o.bury(now)
			due, next := o.due(now)
			server.next = o.near(now, server.next)
			if len(due) > 0 && !now.Before(server.next) {
				reached := o.session(ctx, due)
				switch {
				case ctx.Err() != nil:
					return nil
				case reached:
					server.failures, server.next = 0, time.Time{}
				default:
					server.failures++
					server.next = o.opt.Clock.Now().Add(o.backoff(server.failures))
				}
				continue
			}
			if len(due) > 0 {
				next = server.next
			}
			if !next.IsZero() {
				wait = min(wait, max(next.Sub(now), time.Millisecond))
			}
		}
		fires, stop := o.opt.Clock.Timer(wait)
		select {
		case <-ctx.Done():
		case <-o.wake:
			// A new mail is a reason to ask a server again that was away, yet not
			// more often than at first.
			if soon := o.opt.Clock.Now().Add(o.opt.MinRetry); server.next.After(soon) {
				server.next = soon
			}
		case <-fires:
		}
		stop()
	}
	return nil
}

// flush writes what is unsaved.
func (o *Outbox) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.save()
}

// near is an instant to wait for, or now if no back-off could have set it: a
// clock that was ahead and has been put right must not hold mails for years.
func (o *Outbox) near(now, next time.Time) time.Time {
	if next.After(now.Add(o.opt.MaxRetry)) {
		return now
	}
	return next
}

// backoff is the time to wait after so many failures: doubling, within bounds.
func (o *Outbox) backoff(failures int) time.Duration {
	d := o.opt.MinRetry
	for ; failures > 1 && d < o.opt.MaxRetry; failures-- {
		d *= 2
	}
	return min(d, o.opt.MaxRetry)
}

// due gives the mails to send now, and when the next one is. Of a thread to a
// recipient only the first is ever due. What has failed least goes first, so that
// a mail on which the server breaks every time holds up no other.
func (o *Outbox) due(now time.Time) (list []*record, next time.Time) {
	o.mu.Lock()
	all := make([]*record, 0, len(o.waiting))
	for _, r := range o.waiting {
		all = append(all, r)
	}
	o.mu.Unlock()
	slices.SortFunc(all, func(a, b *record) int { return cmp.Compare(a.Order, b.Order) })
	lanes := make(map[string]bool, len(all))
	for _, r := range all {
		if lane := r.lane(); lanes[lane] {
			continue
		} else {
			lanes[lane] = true
		}
		switch at := o.near(now, r.Next); {
		case !at.After(now):
			list = append(list, r)
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	slices.SortStableFunc(list, func(a, b *record) int { return cmp.Compare(a.Attempts, b.Attempts) })
	return list[:min(len(list), perConnection)], next
}

// bury gives up what has waited too long.
func (o *Outbox) bury(now time.Time) {
	o.mu.Lock()
	var old []record
	for _, r := range o.waiting {
		if now.Sub(r.Accepted) >= o.opt.GiveUp {
			old = append(old, *r)
		}
	}
	o.mu.Unlock()
	for _, r := range old {
		r.State, r.Changed = Dead, now.UTC()
		o.settle(r)
		o.metrics.dead.Inc()
		o.opt.Logger.Error("mail not delivered: given up", "event", r.Event, "recipient", r.Recipient, "attempts", r.Attempts, "reason", string(r.Reason), "detail", r.Detail)
	}
}

// session sends mails over one connection. It says whether the server is there
// and willing.
func (o *Outbox) session(ctx context.Context, list []*record) (reached bool) {
	var line connection
	client, err := o.opt.SMTP.client(line.set)
	if err != nil {
		o.unreached(list, failure{ReasonInternal, false, err})
		return false
	}
	// A mail under way is let finish: repeating it would be worse than waiting.
	dial, cancel := context.WithTimeout(ctx, o.opt.SMTP.Timeout)
	defer cancel()
	link, err := client.DialToSMTPClientWithContext(dial)
	if err != nil {
		line.close()
		if ctx.Err() == nil {
			o.unreached(list, dialFailure(err))
		}
		return false
	}
	stop := context.AfterFunc(ctx, line.hurry)
	defer stop()
	defer line.close()
	for i, r := range list {
		if ctx.Err() != nil || o.flush() != nil {
			break
		}
		f := o.send(client, link, r)
		switch {
		case f.err == nil:
			o.done(*r, Sent, f)
			continue
		case f.final:
			o.done(*r, Refused, f)
		default:
			o.later(*r, f)
		}
		if !f.final && f.ours() || f.lost() || link.Reset() != nil {
			// The connection is lost, or the server wants none of our mails: the rest
			// has not been tried. A server that took or judged a mail is there.
			return i > 0 || f.final
		}
	}
	_ = client.CloseWithSMTPClient(link) // QUIT is a courtesy: what was taken is taken
	return true
}

// connection is the socket below a session, to be cut from outside.
type connection struct {
	mu sync.Mutex
	c  net.Conn
}

func (l *connection) set(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c = c
}

func (l *connection) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c != nil {
		_ = l.c.Close()
	}
}

// hurry bounds what is under way.
func (l *connection) hurry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c != nil {
		_ = l.c.SetDeadline(time.Now().Add(grace))
	}
}

// failure is why a mail was not sent. Without an error it was.
type failure struct {
	reason Reason
	final  bool // no repetition helps
	err    error
}

// lost tells of a connection that is of no more use.
func (f failure) lost() bool {
	code := replyCode(f.err)
	return f.reason != ReasonInternal && (code == 0 || code == 421)
}

// ours tells of a failure that every mail would meet.
func (f failure) ours() bool { return f.reason == ReasonAuth || f.reason == ReasonSender }

// send is one SMTP transaction.
func (o *Outbox) send(client *gomail.Client, link *smtp.Client, r *record) failure {
	body, err := o.body(r.key())
	if err != nil {
		return failure{ReasonInternal, true, err}
	}
	msg, err := o.compose(r, body)
	if err != nil {
		return failure{ReasonInternal, true, err}
	}
	if err := client.SendWithSMTPClient(link, msg); err != nil && !msg.IsDelivered() {
		return sendFailure(err)
	}
	return failure{}
}

// replyCode is the server's three digits in err, or 0.
func replyCode(err error) int {
	var reply *textproto.Error
	if errors.As(err, &reply) {
		return reply.Code
	}
	var send *gomail.SendError
	if errors.As(err, &send) {
		return send.ErrorCode()
	}
	return 0
}

// sendFailure judges an error within a transaction: RFC 5321, 4.2.1.
func sendFailure(err error) failure {
	var send *gomail.SendError
	if !errors.As(err, &send) {
		return failure{ReasonNetwork, false, err}
	}
	code := send.ErrorCode()
	permanent := code >= 500 && code < 600
	switch {
	case code == 0:
		return failure{ReasonNetwork, false, err}
	case code == 530 || code == 535 || code == 538:
		return failure{ReasonAuth, false, err}
	case !permanent:
		return failure{ReasonServer, false, err}
	case send.Reason == gomail.ErrSMTPRcptTo:
		return failure{ReasonRecipient, true, err}
	case send.Reason == gomail.ErrSMTPMailFrom && code != 552:
		// Our own address is refused: settings are wrong, and would be for all.
		return failure{ReasonSender, false, err}
	}
	return failure{ReasonContent, true, err}
}

// dialFailure judges an error before the first transaction. None is final: when
// settings are mended, all that waits goes out.
func dialFailure(err error) failure {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	text := err.Error()
	switch code := replyCode(err); {
	case errors.As(err, &verify), errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), strings.Contains(text, "STARTTLS"), strings.Contains(text, "tls:"):
		return failure{ReasonTLS, false, err}
	case strings.Contains(text, "AUTH"), code == 535, code == 534, code == 530:
		return failure{ReasonAuth, false, err}
	case code != 0:
		return failure{ReasonServer, false, err}
	}
	return failure{ReasonNetwork, false, err}
}

// detail is what people are told: the server's words, bounded, on one line.
func (o *Outbox) detail(f failure) string {
	if f.err == nil {
		return ""
	}
	s := subjectLine(f.err.Error())
	if p := o.opt.SMTP.Password; p != "" {
		s = strings.ReplaceAll(s, string(p), p.String())
	}
	return s
}

// done ends a mail.
func (o *Outbox) done(r record, state State, f failure) {
	r.State, r.Reason, r.Detail, r.Changed = state, f.reason, o.detail(f), o.opt.Clock.Now().UTC()
	r.Attempts++
	o.settle(r)
	if state == Sent {
		o.metrics.sent.Inc()
		o.opt.Logger.Info("mail sent", "event", r.Event, "recipient", r.Recipient, "message_id", r.MessageID, "attempts", r.Attempts)
		return
	}
	o.metrics.refused.WithLabelValues(string(f.reason)).Inc()
	o.opt.Logger.Error("mail refused", "event", r.Event, "recipient", r.Recipient, "reason", string(f.reason), "detail", r.Detail)
}

// later puts a mail off.
func (o *Outbox) later(r record, f failure) {
	now := o.opt.Clock.Now().UTC()
	r.Attempts++
	r.Reason, r.Detail, r.Changed, r.Next = f.reason, o.detail(f), now, now.Add(o.backoff(r.Attempts))
	o.metrics.delayed.WithLabelValues(string(f.reason)).Inc()
	o.opt.Logger.Warn("mail put off", "event", r.Event, "recipient", r.Recipient, "reason", string(f.reason), "detail", r.Detail, "next", r.Next)
	o.settle(r)
}

// unreached notes that the server was not there. The mails stay due: they go out
// as soon as it is.
func (o *Outbox) unreached(list []*record, f failure) {
	o.metrics.delayed.WithLabelValues(string(f.reason)).Inc()
	o.opt.Logger.Warn("mail server not usable", "reason", string(f.reason), "detail", o.detail(f), "waiting", len(list))
	for _, old := range list {
		if r := *old; r.Reason != f.reason {
			r.Reason, r.Detail, r.Changed = f.reason, o.detail(f), o.opt.Clock.Now().UTC()
			o.settle(r)
		}
	}
}

// compose makes the mail. All of it follows from the record and the body: a
// repetition is the same mail, byte for byte.
func (o *Outbox) compose(r *record, body Message) (*gomail.Msg, error) {
	boundary := sha256.Sum256([]byte("boundary\x00" + r.MessageID))
	m := gomail.NewMsg(gomail.WithCharset(gomail.CharsetUTF8), gomail.WithEncoding(gomail.EncodingQP),
		gomail.WithBoundary("pantau-"+hex.EncodeToString(boundary[:16])), gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(o.from)
	m.EnvelopeFromMailAddress(o.from)
	if err := m.To(r.Recipient); err != nil {
		return nil, err
	}
	m.Subject(subjectLine(body.Subject))
	m.SetDateWithValue(r.Accepted)
	m.SetMessageIDWithValue(r.MessageID)
	if n := len(r.Earlier); n > 0 {
		m.SetGenHeader("In-Reply-To", "<"+r.Earlier[n-1]+">")
		m.SetGenHeader("References", "<"+strings.Join(r.Earlier, "> <")+">")
	}
	m.SetGenHeader("List-Id", "<"+o.opt.ListID+"."+o.domain+">")
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's holiday answers it
	m.SetGenHeader("X-Auto-Response-Suppress", "All")  // the same, for Exchange
	m.SetBodyString(gomail.TypeTextPlain, body.Text)
	if body.HTML != "" {
		m.AddAlternativeString(gomail.TypeTextHTML, body.HTML)
	}
	return m, nil
}

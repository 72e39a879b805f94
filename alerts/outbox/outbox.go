// Package outbox sends mail that must arrive: what Enqueue has accepted is on
// disk, and is tried until the server takes it, refuses it for good, or a day has
// passed.
//
// It guarantees that a mail accepted is never lost to a crash; that one event is
// accepted once for each recipient; that a repetition after a crash at the instant
// of delivery has the same Message-ID and the same content; that mails of one
// thread reach a recipient in the order in which they were accepted, with
// References, so that they stay one thread; and that a refusal of one recipient
// touches no other, for each mail is an SMTP transaction of its own. A disk that
// cannot be written stops nothing but repeats nothing either: what was sent is
// known in memory until it can be noted.
//
// It refuses addresses, keys and sizes that no mail may have, and more waiting
// mails than Options.MaxWaiting. It decides neither what is said nor to whom. One
// process has the file; a second is told so.
package outbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/pantau-desa/pantau/collector/durable"
)

// State is what has become of a mail.
type State string

// The states. Waiting is the only one that changes.
const (
	Waiting State = "waiting"
	Sent    State = "sent"    // the server has taken it
	Refused State = "refused" // the server refused this recipient or this content for good
	Dead    State = "dead"    // not delivered within Options.GiveUp
)

// Reason says why a mail was refused, or why it still waits. The list is closed.
type Reason string

// The reasons.
const (
	ReasonNone      Reason = ""
	ReasonRecipient Reason = "recipient" // the server refused the recipient
	ReasonContent   Reason = "content"   // the server refused the mail itself
	ReasonSender    Reason = "sender"    // the server refused Options.From: settings are wrong
	ReasonAuth      Reason = "auth"      // user or password, or the server offers no way that is safe
	ReasonTLS       Reason = "tls"       // no STARTTLS, or a certificate that is not trusted
	ReasonServer    Reason = "server"    // it asked to come again later
	ReasonNetwork   Reason = "network"   // no connection, or it broke
	ReasonInternal  Reason = "internal"  // the mail cannot be put together
)

func reasons() []Reason {
	return []Reason{ReasonRecipient, ReasonContent, ReasonSender, ReasonAuth, ReasonTLS, ReasonServer, ReasonNetwork, ReasonInternal}
}

// Errors of Enqueue, to be told apart with errors.Is.
var (
	// ErrInvalid: no repetition helps.
	ErrInvalid = errors.New("outbox: invalid mail")
	// ErrFull: Options.MaxWaiting mails wait already. Try again later.
	ErrFull = errors.New("outbox: full")
	// ErrBusy: another process has the file.
	ErrBusy = errors.New("outbox: the file is in use by another process")
)

// Bounds of one mail.
const (
	maxKey  = 200     // bytes of an event or thread
	maxBody = 2 << 20 // bytes of HTML and text together
)

// Message is what a mail says.
type Message struct {
	Subject string // one line; control characters become spaces
	Text    string
	HTML    string // optional
}

// Mail is a message to one recipient about one event.
type Mail struct {
	Event     string // names the event for ever: "G-3310-250721-04/opened"
	Thread    string // what the event belongs to: "G-3310-250721-04"; empty: a thread of its own
	Recipient string // a bare address: a@example.org
	Message   Message
}

// Status is what has become of a mail, for a page.
type Status struct {
	Event, Thread, Recipient, Subject string
	MessageID                         string // without brackets
	State                             State
	Reason                            Reason
	Detail                            string // the server's words, for people
	Attempts                          int
	Accepted, Changed                 time.Time
	Next                              time.Time // Waiting: not before this
}

// Clock is the time that back-off and age follow.
type Clock interface {
	Now() time.Time
	// Timer fires once after d, unless it is stopped before.
	Timer(d time.Duration) (fires <-chan time.Time, stop func() bool)
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

func (systemClock) Timer(d time.Duration) (<-chan time.Time, func() bool) {
	t := time.NewTimer(d)
	return t.C, t.Stop
}

// Options of an Outbox.
type Options struct {
	File   string // of mode 0600; its folder exists
	SMTP   SMTP
	From   string // "Pantau Desa <pantau@example.org>"
	ListID string // the part before the domain of List-Id; "pantau-desa" if empty

	MinRetry   time.Duration // 1 minute if 0
	MaxRetry   time.Duration // 1 hour if 0
	GiveUp     time.Duration // age at which a mail is dead; 24 hours if 0: news of yesterday is no news
	MaxWaiting int           // 10,000 if 0
	// Keep is how long what is done is remembered, to list it and to know a double;
	// 90 days if 0. KeepMost bounds its number; 20,000 if 0.
	Keep     time.Duration
	KeepMost int

	Logger     *slog.Logger          // discards if nil
	Registerer prometheus.Registerer // none if nil
	Clock      Clock                 // the system's if nil
}

// record is a mail's entry in the file, without its body.
type record struct {
	Event     string    `json:"event"`
	Thread    string    `json:"thread"`
	Recipient string    `json:"recipient"`
	Subject   string    `json:"subject"`
	MessageID string    `json:"message_id"`
	Earlier   []string  `json:"earlier,omitempty"` // Message-IDs of the thread, oldest first
	Order     uint64    `json:"order"`
	State     State     `json:"state"`
	Reason    Reason    `json:"reason,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Attempts  int       `json:"attempts"`
	Accepted  time.Time `json:"accepted"`
	Changed   time.Time `json:"changed"`
	Next      time.Time `json:"next"`
}

type key [sha256.Size]byte

// keyOf is the identity that a double shares.
func keyOf(event, recipient string) key {
	return sha256.Sum256([]byte("pantau-mail-v1\x00" + event + "\x00" + recipient))
}

func (r *record) key() key { return keyOf(r.Event, r.Recipient) }

// lane is what keeps its order: a thread to one recipient.
func (r *record) lane() string {
	if r.Thread == "" {
		return string(slices.Concat([]byte{0}, []byte(r.MessageID)))
	}
	return r.Thread + "\x00" + r.Recipient
}

// Buckets: a record by key; its compressed body by key, while it waits; the
// Message-IDs of a thread to a recipient by lane.
func records() []byte { return []byte("records") }
func bodies() []byte  { return []byte("bodies") }
func threads() []byte { return []byte("threads") }

// Outbox is a durable queue of mails and the one that sends them. Enqueue and
// List may be called at any time from any goroutine, Run once.
type Outbox struct {
	opt     Options
	from    *mail.Address
	domain  string
	db      *bolt.DB
	metrics *metrics
	wake    chan struct{}

	mu      sync.Mutex
	waiting map[key]*record // what is in the file and waits; a record is never changed, only replaced
	unsaved map[key]*record // what has become of mails, where the disk did not take it yet
}

// Open opens or creates the file.
func Open(opt Options) (*Outbox, error) {
	set := func(d *time.Duration, to time.Duration) {
		if *d <= 0 {
			*d = to
		}
	}
	set(&opt.MinRetry, time.Minute)
	set(&opt.MaxRetry, time.Hour)
	set(&opt.GiveUp, 24*time.Hour)
	set(&opt.Keep, 90*24*time.Hour)
	set(&opt.SMTP.Timeout, 30*time.Second)
	if opt.MaxWaiting <= 0 {
		opt.MaxWaiting = 10_000
	}
	if opt.KeepMost <= 0 {
		opt.KeepMost = 20_000
	}
	if opt.ListID == "" {
		opt.ListID = "pantau-desa"
	}
	if strings.Trim(opt.ListID, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" {
		return nil, fmt.Errorf("outbox: list id %q: letters, digits, - and . only", opt.ListID)
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Clock == nil {
		opt.Clock = systemClock{}
	}
	if what := CheckSender(opt.From); what != "" {
		return nil, fmt.Errorf("outbox: the sender %s", what)
	}
	for key, what := range opt.SMTP.Check() {
		return nil, fmt.Errorf("outbox: SMTP %s %s", key, what)
	}
	from, err := mail.ParseAddress(opt.From)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	o := &Outbox{opt: opt, from: from, domain: from.Address[strings.LastIndexByte(from.Address, '@')+1:], wake: make(chan struct{}, 1), waiting: make(map[key]*record), unsaved: make(map[key]*record)}
	if o.db, err = openFile(opt.File); err != nil {
		return nil, err
	}
	if err := o.load(); err != nil {
		return nil, errors.Join(err, o.db.Close())
	}
	if o.metrics, err = newMetrics(opt.Registerer, o); err != nil {
		return nil, errors.Join(fmt.Errorf("outbox: metrics: %w", err), o.db.Close())
	}
	return o, nil
}

func openFile(file string) (*bolt.DB, error) {
	_, statErr := os.Stat(file)
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: time.Second})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("%w: %s", ErrBusy, file)
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: open %s: %w", file, err)
	}
	if errors.Is(statErr, os.ErrNotExist) {
		// A file is there after a crash only once its name is.
		if err := durable.SyncDir(filepath.Dir(file)); err != nil {
			return nil, errors.Join(fmt.Errorf("outbox: %w", err), db.Close())
		}
	}
	return db, nil
}

// load creates the buckets and reads what waits. An entry that cannot be read is
// an error: it may be a mail.
func (o *Outbox) load() error {
	return o.db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{records(), bodies(), threads()} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(records()).ForEach(func(k, v []byte) error {
			r, err := decode(v)
			if err != nil {
				return fmt.Errorf("outbox: entry %x of %s: %w", k, o.opt.File, err)
			}
			if r.State == Waiting {
				o.waiting[r.key()] = r
			}
			return nil
		})
	})
}

func decode(b []byte) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, err
	}
	return r, nil
}

func put(tx *bolt.Tx, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	k := r.key()
	return tx.Bucket(records()).Put(k[:], b)
}

// Close closes the file. Run has ended before.
func (o *Outbox) Close() error {
	o.metrics.close()
	return o.db.Close()
}

// hidden tells of what may stand in no header and no key.
func hidden(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
}

// check says why m can never be sent.
func (m Mail) check() error {
	switch a, err := mail.ParseAddress(m.Recipient); {
	case m.Event == "" || len(m.Event) > maxKey || hidden(m.Event):
		return fmt.Errorf("%w: event %.60q", ErrInvalid, m.Event)
	case len(m.Thread) > maxKey || hidden(m.Thread):
		return fmt.Errorf("%w: thread %.60q", ErrInvalid, m.Thread)
	case err != nil || a.Address != m.Recipient || len(m.Recipient) > 254 || hidden(m.Recipient) || strings.ContainsAny(m.Recipient, " <>\""):
		return fmt.Errorf("%w: recipient %.60q is not one bare address", ErrInvalid, m.Recipient)
	case m.Message.Text == "":
		return fmt.Errorf("%w: no text", ErrInvalid)
	case len(m.Message.Text)+len(m.Message.HTML) > maxBody:
		return fmt.Errorf("%w: %d bytes, above %d", ErrInvalid, len(m.Message.Text)+len(m.Message.HTML), maxBody)
	}
	return nil
}

// messageID is made of the mail's identity alone, so that a repetition has it too.
func (o *Outbox) messageID(m Mail) string {
	k := keyOf(m.Event, m.Recipient)
	id := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(k[:16]))
	// What people recognise goes first, as far as RFC 5322 lets it stand in an atom.
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, m.Event)
	return fmt.Sprintf("%.60s.%s@%s", strings.Trim(name, "-"), id, o.domain)
}

// subjectLine is s on one line.
func subjectLine(s string) string {
	line := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, ""), func(r rune) bool { return unicode.IsControl(r) || r == ' ' || r == '\u2028' || r == '\u2029' }), " ")
	if r := []rune(line); len(r) > 250 {
		line = string(r[:250])
	}
	return line
}

// canonical is the one form of an address: domains know no case.
func canonical(address string) string {
	at := max(strings.LastIndexByte(address, '@'), 0)
	return address[:at] + strings.ToLower(address[at:])
}

// Enqueue accepts a mail: when it returns without an error, the mail is on disk.
// It says false for a double of what was accepted before, whatever became of that.
func (o *Outbox) Enqueue(ctx context.Context, m Mail) (accepted bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if err := m.check(); err != nil {
		return false, err
	}
	m.Recipient = canonical(m.Recipient)
	m.Message.Subject = subjectLine(m.Message.Subject)
	body, err := pack(m.Message)
	if err != nil {
		return false, fmt.Errorf("outbox: pack: %w", err)
	}
	now := o.opt.Clock.Now().UTC()
	r := &record{Event: m.Event, Thread: m.Thread, Recipient: m.Recipient, Subject: m.Message.Subject, MessageID: o.messageID(m),
		State: Waiting, Accepted: now, Changed: now, Next: now}
	k := r.key()

	o.mu.Lock()
	defer o.mu.Unlock()
	err = o.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(records())
		if b.Get(k[:]) != nil {
			accepted = false
			return nil
		}
		if len(o.waiting) >= o.opt.MaxWaiting {
			return fmt.Errorf("%w: %d mails wait", ErrFull, len(o.waiting))
		}
		var err error
		if r.Order, err = b.NextSequence(); err != nil {
			return err
		}
		if r.Earlier, err = follow(tx, r); err != nil {
			return err
		}
		if err := tx.Bucket(bodies()).Put(k[:], body); err != nil {
			return err
		}
		accepted = true
		return put(tx, r)
	})
	switch {
	case errors.Is(err, ErrFull):
		o.metrics.full.Inc()
		return false, err
	case err != nil:
		return false, fmt.Errorf("outbox: accept %s for %s: %w", m.Event, m.Recipient, err)
	case accepted:
		o.waiting[k] = r
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return accepted, nil
}

// maxEarlier bounds the References of a mail: the first, and the latest ones.
const maxEarlier = 12

// follow returns the Message-IDs of r's thread before it, and adds r's.
func follow(tx *bolt.Tx, r *record) ([]string, error) {
	if r.Thread == "" {
		return nil, nil
	}
	b := tx.Bucket(threads())
	lane := sha256.Sum256([]byte(r.lane()))
	t := thread{First: r.Accepted}
	if v := b.Get(lane[:]); v != nil {
		var err error
		if t, err = decodeThread(v); err != nil {
			return nil, err
		}
	}
	earlier := t.IDs
	t.IDs, t.Last = append(slices.Clone(earlier), r.MessageID), r.Accepted
	if len(t.IDs) > maxEarlier {
		t.IDs = slices.Delete(t.IDs, 1, len(t.IDs)-maxEarlier+1)
	}
	v, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return earlier, b.Put(lane[:], v)
}

// thread is what was accepted for one recipient about one thing.
type thread struct {
	IDs   []string  `json:"ids"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

func decodeThread(v []byte) (t thread, err error) { return t, json.Unmarshal(v, &t) }

func pack(m Message) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(m), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(b []byte) (Message, error) {
	var m Message
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return m, err
	}
	return m, json.NewDecoder(io.LimitReader(z, 8*maxBody)).Decode(&m)
}

// body reads what a waiting mail says.
func (o *Outbox) body(k key) (m Message, err error) {
	err = o.db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bodies()).Get(k[:])
		if b == nil {
			return errors.New("the file has no body for it")
		}
		m, err = unpack(b)
		return err
	})
	return m, err
}

// settle notes what has become of a mail and, when it waits no more, drops its
// body. If the disk does not take that, it is true all the same, and is written
// later.
func (o *Outbox) settle(r record) {
	k := r.key()
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.State == Waiting {
		o.waiting[k] = &r
	} else {
		delete(o.waiting, k)
	}
	o.unsaved[k] = &r
	if err := o.save(); err != nil {
		o.opt.Logger.Error("what became of a mail cannot be noted: it will be tried again", "event", r.Event, "recipient", r.Recipient, "state", string(r.State), "error", err)
	}
}

// save writes what is unsaved. o.mu is held.
func (o *Outbox) save() error {
	if len(o.unsaved) == 0 {
		return nil
	}
	err := o.db.Update(func(tx *bolt.Tx) error {
		for k, r := range o.unsaved {
			if r.State != Waiting {
				if err := tx.Bucket(bodies()).Delete(k[:]); err != nil {
					return err
				}
			}
			if err := put(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		clear(o.unsaved)
	}
	return err
}

// Thread says what was accepted for a recipient about a thread: whether anything
// was, and when the first.
func (o *Outbox) Thread(thread, recipient string) (first time.Time, any bool, err error) {
	r := record{Thread: thread, Recipient: canonical(recipient)}
	lane := sha256.Sum256([]byte(r.lane()))
	err = o.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(threads()).Get(lane[:])
		if v == nil {
			return nil
		}
		t, err := decodeThread(v)
		first, any = t.First, err == nil
		return err
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("outbox: thread %s to %s: %w", thread, recipient, err)
	}
	return first, any, nil
}

// List gives the latest mails, newest first, at most n.
func (o *Outbox) List(n int) ([]Status, error) {
	var all []*record
	err := o.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(records()).ForEach(func(_, v []byte) error {
			r, err := decode(v)
			if err != nil {
				return err
			}
			all = append(all, r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("outbox: list: %w", err)
	}
	slices.SortFunc(all, func(a, b *record) int { return compare(b.Order, a.Order) })
	out := make([]Status, 0, min(max(n, 0), len(all)))
	for _, r := range all[:cap(out)] {
		s := Status{Event: r.Event, Thread: r.Thread, Recipient: r.Recipient, Subject: r.Subject, MessageID: r.MessageID, State: r.State,
			Reason: r.Reason, Detail: r.Detail, Attempts: r.Attempts, Accepted: r.Accepted, Changed: r.Changed}
		if r.State == Waiting {
			s.Next = r.Next
		}
		out = append(out, s)
	}
	return out, nil
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// forget drops what was done too long ago, and the oldest of too many.
func (o *Outbox) forget(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(records())
		var done []*record
		err := b.ForEach(func(_, v []byte) error {
			r, err := decode(v)
			if err == nil && r.State != Waiting {
				done = append(done, r)
			}
			return err
		})
		if err != nil {
			return err
		}
		slices.SortFunc(done, func(a, b *record) int { return compare(a.Order, b.Order) })
		for i, r := range done {
			if len(done)-i > o.opt.KeepMost || now.Sub(r.Changed) > o.opt.Keep {
				k := r.key()
				if err := b.Delete(k[:]); err != nil {
					return err
				}
			}
		}
		t := tx.Bucket(threads())
		var old [][]byte
		err = t.ForEach(func(k, v []byte) error {
			x, err := decodeThread(v)
			if err != nil {
				return err
			}
			if now.Sub(x.Last) > o.opt.Keep {
				old = append(old, slices.Clone(k))
			}
			return nil
		})
		for _, k := range old {
			err = errors.Join(err, t.Delete(k))
		}
		return err
	})
}

package post

import (
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// News is what a mail's subject says that it is: a closed list.
type News string

// The news. Anything that is not about an incident is Other.
const (
	Opened    News = "opened"
	Widened   News = "widened"
	Recovered News = "recovered"
	Unstable  News = "unstable"
	Other     News = "other"
)

// Letter is a mail as the office that receives it sees it.
type Letter struct {
	Name       string    // of its file, without .eml
	At         time.Time // it was taken
	Recipient  string    // the envelope's
	Subject    string
	MessageID  string   // without brackets
	References []string // likewise, the oldest first
	News       News
	Incident   string // G-3310-250721-04; empty: none is named
	Text, HTML string
}

// read takes a mail apart. That both twins are there is part of what is read.
func read(r io.Reader) (Letter, error) {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return Letter{}, err
	}
	l := Letter{Recipient: m.Header.Get("Delivered-To"), MessageID: bare(m.Header.Get("Message-Id"))}
	for id := range strings.FieldsSeq(m.Header.Get("References")) {
		l.References = append(l.References, bare(id))
	}
	if l.Subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
		return l, fmt.Errorf("subject: %w", err)
	}
	if err := l.parts(m.Header.Get("Content-Type"), m.Header.Get("Content-Transfer-Encoding"), m.Body); err != nil {
		return l, err
	}
	if l.Text == "" || l.HTML == "" {
		return l, errors.New("it lacks one of its twins")
	}
	l.News = newsOf(l.Subject)
	l.Incident = incident().FindString(l.Text)
	return l, nil
}

func bare(id string) string { return strings.Trim(strings.TrimSpace(id), "<>") }

// parts reads a body, or the alternatives of one.
func (l *Letter) parts(contentType, encoding string, body io.Reader) error {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("content type %q: %w", contentType, err)
	}
	if strings.HasPrefix(kind, "multipart/") {
		parts := multipart.NewReader(body, params["boundary"])
		for {
			p, err := parts.NextRawPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := l.parts(p.Header.Get("Content-Type"), p.Header.Get("Content-Transfer-Encoding"), p); err != nil {
				return err
			}
		}
	}
	switch strings.ToLower(encoding) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	text := strings.ReplaceAll(string(raw), "\r\n", "\n")
	switch kind {
	case "text/plain":
		l.Text = text
	case "text/html":
		l.HTML = text
	}
	return nil
}

// newsOf reads the tag that a subject begins with, in either language: what is no
// other news of an incident is its first.
func newsOf(subject string) News {
	tag, _, ok := strings.Cut(strings.TrimPrefix(subject, "["), "]")
	if !ok {
		return Other
	}
	for _, mark := range []string{"SIMULASI ", "SIMULATION "} {
		tag = strings.TrimPrefix(tag, mark)
	}
	switch tag {
	case "Meluas", "Widened":
		return Widened
	case "Pulih", "Recovered":
		return Recovered
	case "Tidak stabil", "Unstable":
		return Unstable
	case "Gangguan", "Outage", "Mutu menurun", "Degraded", "Kapasitas", "Capacity", "Sinyal optik", "Optical signal", "Pemantauan", "Monitoring":
		return Opened
	}
	return Other
}

// incident is the form of an incident's id.
func incident() *regexp.Regexp { return regexp.MustCompile(`\bG-[0-9]{4}-[0-9]{6}-[0-9]{2,}\b`) }

// Names reports whether the letter names something, such as a village by its name
// or its code, in both twins. half: in one alone.
func (l Letter) Names(what string) (names, half bool) {
	plain, dressed := holds(l.Text, what), holds(html.UnescapeString(l.HTML), what)
	return plain && dressed, plain != dressed
}

// holds reports whether what stands in text as a whole word.
func holds(text, what string) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], what)
		if i < 0 || what == "" {
			return false
		}
		i += from
		before, _ := utf8.DecodeLastRuneInString(text[:i])
		after, _ := utf8.DecodeRuneInString(text[i+len(what):])
		if !inWord(before) && !inWord(after) {
			return true
		}
		from = i + 1
	}
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// Lasted reads how long the incident was, as the subject of a recovery says it,
// rounded down. ok: it says it.
func (l Letter) Lasted() (d time.Duration, ok bool) {
	m := lasted().FindStringSubmatch(l.Subject)
	if m == nil {
		return 0, false
	}
	for i, unit := range []time.Duration{24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if n, err := strconv.Atoi(m[i+1]); err == nil {
			d, ok = d+time.Duration(n)*unit, true
		}
	}
	return d, ok
}

func lasted() *regexp.Regexp {
	return regexp.MustCompile(`\b(?:setelah|after)(?: (\d+) (?:hari|days?))?(?: (\d+) (?:jam|hours?))?(?: (\d+) (?:menit|minutes?))?(?: (\d+) (?:detik|seconds?))?`)
}

// Cause is the cause as the subject of a recovery ends; empty: it says none.
func (l Letter) Cause() string {
	_, cause, _ := strings.Cut(l.Subject, ": ")
	return cause
}

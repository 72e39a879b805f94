package mail

import (
	"net/mail"
	"net/url"
	"regexp"
	"strings"
)

// document is what a mail says, in order, before it is drawn as HTML or text.
type document struct {
	lang       string
	subject    string
	preheader  string
	region     string
	simulation line
	tag        tag
	tagNote    string
	headline   []string // sentences
	blocks     []block
	footer     []line
}

// tone is one of the colours that mean something.
type tone string

const (
	up       tone = "up"
	degraded tone = "deg"
	down     tone = "down"
	unknown  tone = "unk"
	nowhere  tone = "nocov"
	usual    tone = "usual"
)

// glyph is the tone's shape, always beside a word.
func (t tone) glyph() string {
	switch t {
	case up:
		return "●"
	case degraded:
		return "▲"
	case down:
		return "◆"
	case nowhere:
		return "○"
	case usual:
		return "■"
	}
	return "?"
}

type tag struct {
	tone tone
	word string
}

// span is a run of text. Its text is clean: only ln makes spans.
type span struct {
	Text string
	Bold bool
	Keep bool   // never breaks across lines
	Link string // a safe address, or empty
}

type line []span

// ln joins texts and spans to a line, in which every text is harmless.
func ln(parts ...any) line {
	var out line
	for _, p := range parts {
		var s span
		switch p := p.(type) {
		case string:
			s.Text = p
		case span:
			s = p
		case line:
			out = append(out, p...)
			continue
		}
		if s.Text = clean(s.Text); s.Text != "" {
			out = append(out, s)
		}
	}
	return out
}

func bold(s string) span { return span{Text: s, Bold: true} }

// name is an identifier: it never breaks across lines.
func name(s string) span { return span{Text: s, Bold: true, Keep: true} }

func (l line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.Text)
	}
	return strings.TrimSpace(b.String())
}

func lines(texts ...string) []line {
	var out []line
	for _, t := range texts {
		if l := ln(t); len(l) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// block is a part of a mail. What is empty is not drawn; the rest is drawn in
// the order of the fields.
type block struct {
	Heading string
	Text    line
	Share   []share
	Bars    *bars
	Facts   []fact
	Table   *table
	Tree    []branch
	List    []line
	Do      *do
	Note    line
	Button  *button
}

func (k block) empty() bool {
	return len(k.Text)+len(k.Share)+len(k.Facts)+len(k.Tree)+len(k.List)+len(k.Note) == 0 && k.Bars == nil && k.Table == nil && k.Do == nil && k.Button == nil
}

// fact is a labelled line. Note follows on a line of its own.
type fact struct {
	Label string
	Tone  tone // state lists: a mark before the label
	Value line
	Note  line
}

// do is the box that says what to do, and whom to call.
type do struct {
	Heading string
	Steps   []line
	Contact []line
}

type button struct{ Label, URL string }

// share is a part of a whole, in percent of its width.
type share struct {
	Tone    tone
	Percent int // 1 to 100
	Label   string
}

// branch is a row of the network's tree.
type branch struct {
	Tone tone
	Word string // the state, in words
	Text line
}

// table is drawn with all its columns as text; in HTML a column that is Under
// stands below the one before it, muted.
type table struct {
	Columns []column
	Rows    [][]cell
	Total   []cell // last row, or none
	// Rest says that n rows are not in the mail but on its page. Without it, every
	// row is drawn.
	Rest func(n int) string
}

type column struct {
	Label string
	Right bool
	Under bool
	Plain bool // in the plain-text twin only: a drawing made of characters
}

type cell struct {
	Tone tone // a mark before the text, in HTML, where a heading or another cell says the same in words
	Text line
}

func text(parts ...any) cell { return cell{Text: ln(parts...)} }

// bars is a chart over time of a quantity that begins at zero.
type bars struct {
	Legend []share // Percent unused
	Peak   string
	Bars   []bar
	From   string
	To     string
}

// bar is one column: heights in pixels.
type bar struct{ Base, Above int }

// safePage lets only an address of a page through, so that a link can do nothing
// else. The result is ASCII.
func safePage(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") || len(s) > 400 {
		return ""
	}
	if clean := u.String(); !strings.ContainsFunc(clean, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return clean
	}
	return ""
}

var phoneForm = regexp.MustCompile(`^\+?[0-9][0-9 ().-]{4,28}$`)

// phone is a number that can be touched to call; what is no number stays text.
func phone(s string) span {
	out := span{Text: s, Keep: true}
	if phoneForm.MatchString(s) {
		out.Link = "tel:" + strings.Map(func(r rune) rune {
			if r == '+' || r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, s)
	}
	return out
}

// address is a mail address that can be touched to write about a subject.
func address(s, subject string) span {
	out := span{Text: s, Keep: true}
	if a, err := mail.ParseAddress(s); err == nil && a.Address == s && a.Name == "" && !strings.ContainsAny(s, "?&%\"") {
		out.Link = "mailto:" + s + "?subject=" + url.PathEscape(clean(subject))
	}
	return out
}

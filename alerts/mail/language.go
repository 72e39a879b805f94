package mail

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/pantau-desa/pantau/collector/portal/bahasa"
)

// Language is the language of a mail.
type Language string

// The languages.
const (
	Indonesian Language = "id"
	English    Language = "en"
)

// voice writes in one language and one time zone, as of one instant.
type voice struct {
	english bool
	zone    *time.Location
	now     time.Time
}

func (e Envelope) voice() voice {
	zone := e.Zone
	if zone == nil {
		zone = time.UTC
	}
	return voice{english: e.Language == English, zone: zone, now: e.SentAt.In(zone)}
}

// say picks the text of the language.
func (v voice) say(id, en string) string {
	if v.english {
		return en
	}
	return id
}

// sayf is say with verbs, which both languages share in number and order unless
// they index them.
func (v voice) sayf(id, en string, args ...any) string {
	return fmt.Sprintf(v.say(id, en), args...)
}

// number turns an Indonesian figure into the language's.
func (v voice) number(s string) string {
	if !v.english {
		return s
	}
	if s == bahasa.Unknown {
		return "not known yet"
	}
	return strings.NewReplacer(".", ",", ",", ".").Replace(s)
}

func (v voice) count(n int) string                     { return v.number(bahasa.Count(n)) }
func (v voice) decimal(x float64, decimals int) string { return v.number(bahasa.Number(x, decimals)) }
func (v voice) percent(ratio float64, dec int) string  { return v.number(bahasa.Percent(ratio, dec)) }
func (v voice) mbps(bps float64, decimals int) string  { return v.number(bahasa.Mbps(bps, decimals)) }
func (v voice) milliseconds(s float64, dec int) string { return v.number(bahasa.Milliseconds(s, dec)) }
func known(x float64) bool                             { return !math.IsNaN(x) && !math.IsInf(x, 0) }
func (v voice) between(low, high string) string {
	if low == high {
		return low
	}
	return low + v.say(" sampai ", " to ") + high
}

// plural writes a count with its noun; Indonesian has one form.
func (v voice) plural(n int, id, one, many string) string {
	if !v.english {
		return v.count(n) + " " + id
	}
	if n == 1 {
		return "1 " + one
	}
	return v.count(n) + " " + many
}

// list joins words as a sentence does.
func (v voice) list(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + v.say(" dan ", " and ") + words[n-1]
	}
	return strings.Join(words, "")
}

func (v voice) unknown() string { return v.number(bahasa.Unknown) }

func (v voice) time(t time.Time, indonesian func(time.Time) string, layout string) string {
	if t.IsZero() {
		return v.unknown()
	}
	if t = t.In(v.zone); v.english {
		return t.Format(layout)
	}
	return indonesian(t)
}

// The forms of a time: full with its zone, clock, clock with seconds, date.
func (v voice) full(t time.Time) string {
	return v.time(t, bahasa.Full, "Monday, 2 January 2006 15:04 MST")
}
func (v voice) clock(t time.Time) string   { return v.time(t, bahasa.Clock, "15:04") }
func (v voice) seconds(t time.Time) string { return v.time(t, bahasa.Seconds, "15:04:05") }
func (v voice) date(t time.Time) string    { return v.time(t, bahasa.Date, "2 January 2006") }

// moment is as brief as the mail's day allows: "14.02", "20 Jul 23.05".
func (v voice) moment(t time.Time) string {
	layout := "2 Jan 15:04"
	switch local := t.In(v.zone); {
	case local.Year() != v.now.Year():
		layout = "2 Jan 2006 15:04"
	case local.YearDay() == v.now.YearDay():
		layout = "15:04"
	}
	return v.time(t, func(t time.Time) string { return bahasa.Moment(t, v.now) }, layout)
}

// zoned is moment with the zone, as a sentence needs it: "14.02 WIB".
func (v voice) zoned(t time.Time) string {
	if t.IsZero() {
		return v.unknown()
	}
	return v.moment(t) + " " + v.zoneName(t)
}

func (v voice) zoneName(t time.Time) string { return bahasa.Zone(t.In(v.zone)) }

// weekday is a table's day: "Sel 15 Jul 09.12".
func (v voice) weekday(t time.Time) string {
	names := [...]string{"Min", "Sen", "Sel", "Rab", "Kam", "Jum", "Sab"}
	return v.time(t, func(t time.Time) string { return names[t.Weekday()] + " " + bahasa.Short(t) }, "Mon 2 Jan 15:04")
}

// days is a span of days: "14 sampai 20 Juli 2025".
func (v voice) days(from, to time.Time) string {
	if from.IsZero() || to.IsZero() {
		return v.unknown()
	}
	a, b := from.In(v.zone), to.In(v.zone)
	first := v.date(a)
	switch {
	case a.Year() == b.Year() && a.YearDay() == b.YearDay():
		return first
	case a.Year() == b.Year() && a.Month() == b.Month():
		first = strconv.Itoa(a.Day())
	case a.Year() == b.Year():
		first = strings.TrimSuffix(first, " "+strconv.Itoa(a.Year()))
	}
	return v.between(first, v.date(b))
}

// month is the name of t's month.
func (v voice) month(t time.Time) string {
	_, rest, _ := strings.Cut(v.date(t), " ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

var englishUnits = strings.NewReplacer("hari", "days", "jam", "hours", "menit", "minutes", "detik", "seconds",
	"mnt", "min", "dtk", "s", "j", "h")

func (v voice) duration(d time.Duration) string      { return v.units(bahasa.Duration(d)) }
func (v voice) shortDuration(d time.Duration) string { return v.units(bahasa.ShortDuration(d)) }

func (v voice) units(s string) string {
	if !v.english {
		return s
	}
	words := strings.Split(v.number(s), " ")
	for i := 1; i < len(words); i += 2 {
		words[i] = englishUnits.Replace(words[i])
		if words[i-1] == "1" {
			words[i] = strings.TrimSuffix(words[i], "s")
		}
	}
	return strings.Join(words, " ")
}

// minutes is a duration in whole minutes, rounded down.
func (v voice) minutes(d time.Duration) string { return v.count(int(d / time.Minute)) }

func upperFirst(s string) string {
	for i, r := range s {
		return string(unicode.ToUpper(r)) + s[i+len(string(r)):]
	}
	return s
}

// maxDatum bounds one name or remark, in characters.
const maxDatum = 400

// clean makes a text harmless to lay-out: one line, nothing that is invisible or
// turns the direction of writing, bounded. What it means it does not judge.
func clean(s string) string {
	var b strings.Builder
	space, n := false, 0
	for _, r := range s {
		switch {
		case r != noBreak && unicode.IsSpace(r):
			if space {
				continue
			}
			space, r = true, ' '
		case r == unicode.ReplacementChar, unicode.Is(unicode.C, r): // control, format (bidi, zero width), private, surrogate
			continue
		default:
			space = false
		}
		if n++; n > maxDatum {
			b.WriteRune('…')
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

const noBreak = '\u00a0'

// Package bahasa writes numbers, durations and times as Indonesian readers
// expect them: 38,16; 14.469; −21,4; 2 jam 41 menit; Senin, 21 Juli 2025 14.05
// WIB. Pages, mails and reports share it.
//
// It guarantees that what is not known (NaN, an infinity, the zero time) reads
// "belum ada" and never as a number, and that durations are rounded down. It
// knows no page and no figure.
package bahasa

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// Unknown is the text for a figure that does not exist yet.
const Unknown = "belum ada"

const (
	minus = "−" // U+2212, as wide as a digit
	dash  = "–" // U+2013, between the ends of a range in a table
)

// Number writes x with a decimal comma, dots between thousands and exactly the
// given number of decimals, rounded to nearest. Zero has no sign.
func Number(x float64, decimals int) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return Unknown
	}
	digits := strconv.FormatFloat(math.Abs(x), 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(digits, ".")
	out := thousands(whole)
	if fraction != "" {
		out += "," + fraction
	}
	if x < 0 && strings.Trim(digits, "0.") != "" {
		out = minus + out
	}
	return out
}

// Count writes a whole number with dots between thousands.
func Count(n int) string {
	if n < 0 {
		return minus + thousands(strings.TrimPrefix(strconv.Itoa(n), "-"))
	}
	return thousands(strconv.Itoa(n))
}

func thousands(digits string) string {
	var b strings.Builder
	for i, r := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte('.')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Percent writes a ratio (1 is 100%) as a percentage, without a space.
func Percent(ratio float64, decimals int) string {
	s := Number(ratio*100, decimals)
	if s == Unknown {
		return s
	}
	return s + "%"
}

// Mbps writes bits per second as megabits per second, without the unit.
func Mbps(bitsPerSecond float64, decimals int) string {
	return Number(bitsPerSecond/1e6, decimals)
}

// Milliseconds writes seconds as milliseconds, without the unit. A delay that is
// there never reads as none: what would round to zero is "< 1", or with one
// decimal "< 0,1", with a space that does not break.
func Milliseconds(seconds float64, decimals int) string {
	s := Number(seconds*1000, decimals)
	if seconds > 0 && strings.Trim(s, "0,") == "" {
		return "<\u00a0" + Number(math.Pow10(-decimals), decimals)
	}
	return s
}

// Between writes a range as running text does: "14 sampai 21". Ends that read
// alike are written once.
func Between(low, high string) string {
	if low == high {
		return low
	}
	return low + " sampai " + high
}

// Span writes a range as a table does: "14–21". Ends that read alike are
// written once.
func Span(low, high string) string {
	if low == high {
		return low
	}
	return low + dash + high
}

// unit is one step of a duration: the word in prose and the one in a table.
type unit struct {
	length      time.Duration
	word, short string
}

const day = 24 * time.Hour

var (
	days    = unit{day, "hari", "hari"}
	hours   = unit{time.Hour, "jam", "j"}
	minutes = unit{time.Minute, "menit", "mnt"}
	seconds = unit{time.Second, "detik", "dtk"}
)

// parts cuts d into at most two units, rounding down. Hours run up to two days.
func parts(d time.Duration) []unit {
	switch {
	case d >= 2*day:
		return []unit{days, hours}
	case d >= time.Hour:
		return []unit{hours, minutes}
	case d >= time.Minute:
		return []unit{minutes}
	}
	return []unit{seconds}
}

// Duration writes d in words, rounded down: "41 detik", "10 menit", "2 jam 41
// menit", "33 jam 24 menit", "2 hari 3 jam". A negative d is "0 detik".
func Duration(d time.Duration) string {
	return duration(d, func(u unit) string { return u.word })
}

// ShortDuration writes d for a table, rounded down: "10 mnt", "2 j 24 mnt",
// "2 hari 3 j".
func ShortDuration(d time.Duration) string {
	return duration(d, func(u unit) string { return u.short })
}

func duration(d time.Duration, name func(unit) string) string {
	d = max(d, 0)
	var words []string
	for i, u := range parts(d) {
		n := d / u.length
		d -= n * u.length
		if i > 0 && n == 0 {
			break
		}
		words = append(words, Count(int(n)), name(u))
	}
	return strings.Join(words, " ")
}

// Age writes how long ago t was, for a table: "10 mnt lalu", "2 hari lalu";
// "baru saja" for less than a second or a clock that is ahead of now.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	d := now.Sub(t)
	switch {
	case d < time.Second:
		return "baru saja"
	case d >= 2*day:
		d = d.Truncate(day)
	}
	return ShortDuration(d) + " lalu"
}

var (
	weekdayNames = [...]string{"Minggu", "Senin", "Selasa", "Rabu", "Kamis", "Jumat", "Sabtu"}
	monthNames   = [...]string{"Januari", "Februari", "Maret", "April", "Mei", "Juni", "Juli", "Agustus", "September", "Oktober", "November", "Desember"}
	monthShort   = [...]string{"Jan", "Feb", "Mar", "Apr", "Mei", "Jun", "Jul", "Agu", "Sep", "Okt", "Nov", "Des"}
)

// Full writes t in its own location: "Senin, 21 Juli 2025 14.05 WIB".
func Full(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return weekdayNames[t.Weekday()] + ", " + Date(t) + " " + Clock(t) + " " + Zone(t)
}

// Date writes the day: "21 Juli 2025".
func Date(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return strconv.Itoa(t.Day()) + " " + monthNames[t.Month()-1] + " " + strconv.Itoa(t.Year())
}

// Day writes the day without its year: "21 Jul".
func Day(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return strconv.Itoa(t.Day()) + " " + monthShort[t.Month()-1]
}

// Short writes t for a table: "21 Jul 14.05".
func Short(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return Day(t) + " " + Clock(t)
}

// Clock writes the time of day: "14.05".
func Clock(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return t.Format("15.04")
}

// Seconds writes the time of day with seconds, for evidence only: "14.02.10".
func Seconds(t time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	return t.Format("15.04.05")
}

// Zone is the name of t's time zone: WIB, WITA or WIT.
func Zone(t time.Time) string {
	name, _ := t.Zone()
	return name
}

// Moment writes t as briefly as now allows, in now's location: "14.02" today,
// "19 Jul 08.17" this year, "19 Jul 2024 08.17" before.
func Moment(t, now time.Time) string {
	if t.IsZero() {
		return Unknown
	}
	t = t.In(now.Location())
	switch {
	case t.Year() != now.Year():
		return Day(t) + " " + strconv.Itoa(t.Year()) + " " + Clock(t)
	case t.YearDay() != now.YearDay():
		return Short(t)
	}
	return Clock(t)
}

package bahasa

import (
	"math"
	"testing"
	"time"
)

var wib = time.FixedZone("WIB", 7*60*60)

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		x        float64
		decimals int
		want     string
	}{
		{38.16, 2, "38,16"},
		{38.155, 1, "38,2"},
		{0, 0, "0"},
		{0, 2, "0,00"},
		{-0.004, 2, "0,00"},
		{-21.4, 1, "−21,4"},
		{999, 0, "999"},
		{999.6, 0, "1.000"},
		{14469, 0, "14.469"},
		{-1234567.891, 2, "−1.234.567,89"},
		{1e9, 0, "1.000.000.000"},
		{math.NaN(), 2, "belum ada"},
		{math.Inf(1), 0, "belum ada"},
		{math.Inf(-1), 0, "belum ada"},
	} {
		if got := Number(c.x, c.decimals); got != c.want {
			t.Errorf("Number(%v, %d) = %q, want %q", c.x, c.decimals, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0", 7: "7", 999: "999", 1000: "1.000", 84276: "84.276",
		1234567: "1.234.567", -1500: "−1.500", math.MinInt: "−9.223.372.036.854.775.808"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestUnits(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Percent(0.9987, 2), "99,87%"},
		{Percent(0.94, 0), "94%"},
		{Percent(math.NaN(), 0), "belum ada"},
		{Mbps(38.16e6, 2), "38,16"},
		{Milliseconds(0.0084, 1), "8,4"},
		{Milliseconds(0.0002, 0), "<\u00a01"},
		{Milliseconds(0.00049, 0), "<\u00a01"},
		{Milliseconds(0.0006, 0), "1"},
		{Milliseconds(0.0002, 1), "0,2"},
		{Milliseconds(0.00004, 1), "<\u00a00,1"},
		{Milliseconds(1e-12, 2), "<\u00a00,01"},
		{Milliseconds(0.01, 0), "10"},
		{Milliseconds(0, 0), "0"},
		{Milliseconds(0, 1), "0,0"},
		{Milliseconds(math.NaN(), 0), "belum ada"},
		{Between("14", "21"), "14 sampai 21"},
		{Between("14", "14"), "14"},
		{Span("99,87", "99,97"), "99,87–99,97"},
		{Span("100", "100"), "100"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestDuration(t *testing.T) {
	const h, m, s = time.Hour, time.Minute, time.Second
	for _, c := range []struct {
		d           time.Duration
		long, short string
	}{
		{-5 * s, "0 detik", "0 dtk"},
		{0, "0 detik", "0 dtk"},
		{41*s + 999*time.Millisecond, "41 detik", "41 dtk"},
		{59*s + 999*time.Millisecond, "59 detik", "59 dtk"},
		{10*m + 59*s, "10 menit", "10 mnt"},
		{h - time.Nanosecond, "59 menit", "59 mnt"},
		{h, "1 jam", "1 j"},
		{2*h + 41*m + 59*s, "2 jam 41 menit", "2 j 41 mnt"},
		{33*h + 24*m, "33 jam 24 menit", "33 j 24 mnt"},
		{48 * h, "2 hari", "2 hari"},
		{51*h + 59*m, "2 hari 3 jam", "2 hari 3 j"},
		{1200 * 24 * h, "1.200 hari", "1.200 hari"},
	} {
		if got := Duration(c.d); got != c.long {
			t.Errorf("Duration(%v) = %q, want %q", c.d, got, c.long)
		}
		if got := ShortDuration(c.d); got != c.short {
			t.Errorf("ShortDuration(%v) = %q, want %q", c.d, got, c.short)
		}
	}
}

func TestTimes(t *testing.T) {
	at := time.Date(2025, 7, 21, 14, 5, 10, 0, wib)
	for _, c := range []struct{ name, got, want string }{
		{"full", Full(at), "Senin, 21 Juli 2025 14.05 WIB"},
		{"full, another zone", Full(at.In(time.FixedZone("WIT", 9*60*60))), "Senin, 21 Juli 2025 16.05 WIT"},
		{"date", Date(at), "21 Juli 2025"},
		{"short", Short(at), "21 Jul 14.05"},
		{"clock", Clock(at), "14.05"},
		{"midnight", Clock(time.Date(2025, 7, 21, 0, 0, 0, 0, wib)), "00.00"},
		{"seconds", Seconds(at), "14.05.10"},
		{"today", Moment(at.Add(-2*time.Hour), at), "12.05"},
		{"today, from UTC", Moment(at.Add(-2*time.Hour).UTC(), at), "12.05"},
		{"yesterday", Moment(at.Add(-15*time.Hour), at), "20 Jul 23.05"},
		{"last year", Moment(at.AddDate(-1, 0, 0), at), "21 Jul 2024 14.05"},
		{"a year less a day", Moment(time.Date(2024, 12, 31, 23, 59, 0, 0, wib), time.Date(2025, 1, 1, 0, 1, 0, 0, wib)), "31 Des 2024 23.59"},
		{"age", Age(at.Add(-10*time.Minute), at), "10 mnt lalu"},
		{"age in hours", Age(at.Add(-85*time.Minute), at), "1 j 25 mnt lalu"},
		{"age in days", Age(at.Add(-50*time.Hour), at), "2 hari lalu"},
		{"age of the future", Age(at.Add(time.Minute), at), "baru saja"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
		}
	}
}

// Every day and month has its own name, in order.
func TestNamesOfDaysAndMonths(t *testing.T) {
	want := []string{"Kamis, 1 Januari", "Minggu, 1 Februari", "Minggu, 1 Maret", "Rabu, 1 April", "Jumat, 1 Mei", "Senin, 1 Juni",
		"Rabu, 1 Juli", "Sabtu, 1 Agustus", "Selasa, 1 September", "Kamis, 1 Oktober", "Minggu, 1 November", "Selasa, 1 Desember"}
	for m, w := range want {
		at := time.Date(2026, time.Month(m+1), 1, 9, 30, 0, 0, wib)
		if got := Full(at); got != w+" 2026 09.30 WIB" {
			t.Errorf("Full(%v) = %q", at, got)
		}
	}
	for m, w := range []string{"Jan", "Feb", "Mar", "Apr", "Mei", "Jun", "Jul", "Agu", "Sep", "Okt", "Nov", "Des"} {
		if got := Day(time.Date(2026, time.Month(m+1), 3, 0, 0, 0, 0, wib)); got != "3 "+w {
			t.Errorf("Day of month %d = %q", m+1, got)
		}
	}
}

func TestUnknownTimeIsNeverADate(t *testing.T) {
	now := time.Date(2025, 7, 21, 14, 5, 0, 0, wib)
	for _, got := range []string{Full(time.Time{}), Date(time.Time{}), Day(time.Time{}), Short(time.Time{}), Clock(time.Time{}),
		Seconds(time.Time{}), Moment(time.Time{}, now), Age(time.Time{}, now)} {
		if got != Unknown {
			t.Errorf("the zero time reads %q", got)
		}
	}
}

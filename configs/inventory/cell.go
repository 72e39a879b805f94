package inventory

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// id reads an identity: printable ASCII without spaces.
func (r *record) id(name string, most int) string {
	s := r.cell(name)
	switch {
	case s == "":
		return ""
	case exponentForm.MatchString(s):
		r.fail(fmt.Sprintf("%s %s: a spreadsheet turned it into a number", name, quote(s)), asText)
	case len(s) > most:
		r.fail(fmt.Sprintf("%s %s has %d characters, more than %d", name, quote(s), len(s), most), "Choose a shorter id")
	case strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f }):
		r.fail(fmt.Sprintf("%s %s holds a character that an id may not have", name, quote(s)), "Use letters, digits, - . _ only, without spaces")
	default:
		return s
	}
	return ""
}

// code reads a region's code; of level want, unless that is 0.
func (r *record) code(name string, want level) string {
	s := strings.TrimPrefix(r.cell(name), "'") // how people force text in a spreadsheet
	if s == "" {
		return ""
	}
	if what, remedy := checkCode(s); what != "" {
		r.fail(name+" "+what, remedy)
		return ""
	}
	if want != 0 && level(len(s)) != want {
		r.fail(fmt.Sprintf("%s %s is the code of a %s", name, quote(s), level(len(s))), fmt.Sprintf("Write the code of a %s", want))
		return ""
	}
	return s
}

// choice reads one of a few words, in any case.
func (r *record) choice(name string, options []string) string {
	s := strings.ToLower(r.cell(name))
	if s == "" {
		return ""
	}
	for _, o := range options {
		if s == o {
			return o
		}
	}
	r.fail(fmt.Sprintf("%s %s is not one of %s", name, quote(r.cell(name)), strings.Join(options, ", ")),
		fmt.Sprintf("Did you mean %q?", meant(s, options)))
	return ""
}

// region reads the column region, which a row of this kind must have.
func (r *record) region(want level) string {
	if r.cell("region") == "" {
		r.fail(`the cell "region" is empty`, fmt.Sprintf("Write the code of the %s that it is told of", want))
		return ""
	}
	return r.code("region", want)
}

// atLeastOne reads a whole number from 1; 0 if the cell is empty or wrong.
func (r *record) atLeastOne(name string) int {
	s := r.cell(name)
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 100_000 {
		r.fail(fmt.Sprintf("%s %s is not a whole number from 1", name, quote(s)), "Write digits only, or leave the cell empty")
		return 0
	}
	return n
}

// email reads one bare mail address of plain letters; its domain in lower case.
func (r *record) email(name string) string {
	s := r.cell(name)
	if s == "" {
		return ""
	}
	const most = 254 // RFC 5321, 4.5.3.1.3, less the brackets
	a, err := mail.ParseAddress(s)
	at := strings.LastIndexByte(s, '@')
	switch {
	case strings.ContainsAny(s, ",;") && strings.Count(s, "@") > 1:
		r.fail(fmt.Sprintf("%s %s holds several addresses", name, quote(s)), "Write one row for each")
	case strings.ContainsAny(s, "<> \""):
		r.fail(fmt.Sprintf("%s %s is not a bare mail address", name, quote(s)), "Write the address alone, such as kominfo@klaten.example.id")
	case err != nil || a.Address != s || len(s) > most || !ascii(s) || at < 0 || !strings.Contains(s[at:], ".") || !validHost(s[at+1:]):
		r.fail(fmt.Sprintf("%s %s is not a mail address", name, quote(s)), "Write it as kominfo@klaten.example.id")
	default:
		return s[:at] + strings.ToLower(s[at:])
	}
	return ""
}

var phoneForm = regexp.MustCompile(`^\+?[0-9][0-9 ().-]{4,28}$`)

// phone reads a telephone number.
func (r *record) phone(name string) string {
	s := strings.TrimPrefix(r.cell(name), "'")
	switch {
	case s == "":
		return ""
	case exponentForm.MatchString(s):
		r.fail(fmt.Sprintf("%s %s: a spreadsheet turned it into a number", name, quote(s)), asText)
	case !phoneForm.MatchString(s):
		r.fail(fmt.Sprintf("%s %s is not a telephone number", name, quote(s)), "Write it as +62 21 0000 0000 or 021-0000-0000")
	default:
		return s
	}
	return ""
}

// yes reads yes or no; empty is no.
func (r *record) yes(name string) bool {
	switch r.choice(name, []string{"yes", "no", "ya", "tidak", "true", "false"}) {
	case "yes", "ya", "true":
		return true
	}
	return false
}

var (
	decimalNumber = regexp.MustCompile(`^-?[0-9]{1,15}([.,][0-9]{1,15})?$`)
	grouped       = regexp.MustCompile(`^[1-9][0-9]{0,2}([.,][0-9]{3})+$`)
	wholeNumber   = regexp.MustCompile(`^-?[0-9]{1,15}$`)
)

// decimal reads a number with a decimal point or comma. thousands says that it
// might be large enough for 1.000 to mean a thousand.
func (r *record) decimal(name string, thousands bool) (n float64, ok bool) {
	s := strings.Replace(r.cell(name), "\u2212", "-", 1)
	switch {
	case s == "":
		return 0, false
	case thousands && grouped.MatchString(s):
		r.fail(fmt.Sprintf("%s %s can be read in two ways: with thousands or with decimals", name, quote(s)), "Write it without thousands separators and without trailing zeros")
		return 0, false
	case !decimalNumber.MatchString(s):
		r.fail(fmt.Sprintf("%s %s is not a plain number", name, quote(s)), "Write digits only, with one decimal comma or point if needed")
		return 0, false
	}
	n, err := strconv.ParseFloat(strings.Replace(s, ",", ".", 1), 64)
	if err != nil {
		r.fail(fmt.Sprintf("%s %s is not a number", name, quote(s)), "Write it anew")
	}
	return n, err == nil
}

// population reads a count of people: unknown if empty, with thousands
// separators or without.
func (r *record) population(name string) Count {
	s := r.cell(name)
	if s == "" {
		return Count{}
	}
	if grouped.MatchString(s) { // people come whole: these are thousands
		s = strings.NewReplacer(".", "", ",", "").Replace(s)
	}
	const most = 1_000_000
	n, err := strconv.Atoi(s)
	switch {
	case err != nil || !wholeNumber.MatchString(s):
		r.fail(fmt.Sprintf("%s %s is not a whole number", name, quote(r.cell(name))), "Write digits only, or leave the cell empty if it is not known")
	case n < 0:
		r.fail(fmt.Sprintf("%s %d is negative", name, n), "Write how many people it serves, or leave the cell empty if it is not known")
	case n == 0:
		r.fail(name+" is 0", "Leave the cell empty if it is not known")
	case n > most:
		r.fail(fmt.Sprintf("%s %d is more than any village has", name, n), "Write how many people it serves")
	default:
		return Count{Number: n, Known: true}
	}
	return Count{}
}

// gigabytes reads a budget, in bytes; 0 if empty.
func (r *record) gigabytes(name string) uint64 {
	gb, ok := r.decimal(name, true)
	if ok && !(gb*1e9 >= 1 && gb <= maxGB) {
		r.fail(fmt.Sprintf("%s %s is not above 0 and up to %d", name, quote(r.cell(name)), maxGB),
			"Write how many gigabytes a month the probes of this site may use, or leave the cell empty for what is usual with its access")
		return 0
	}
	return uint64(gb * 1e9)
}

// Indonesia with its seas, in degrees (WGS 84).
const (
	south, north = -12.0, 7.0
	west, east   = 94.0, 142.0
)

// position reads the columns lat and lon, both or neither.
func (r *record) position() Position {
	if r.cell("lat") == "" && r.cell("lon") == "" {
		return Position{}
	}
	if r.cell("lat") == "" || r.cell("lon") == "" {
		r.fail("only one of lat and lon is given", "Fill in both or neither")
		return Position{}
	}
	lat, latOK := r.decimal("lat", false)
	lon, lonOK := r.decimal("lon", false)
	if !latOK || !lonOK {
		return Position{}
	}
	shown := fmt.Sprintf("lat %s, lon %s", quote(r.cell("lat")), quote(r.cell("lon")))
	inLat := func(n float64) bool { return n >= south && n <= north }
	inLon := func(n float64) bool { return n >= west && n <= east }
	switch {
	case inLat(lat) && inLon(lon):
		return Position{Lat: lat, Lon: lon, Known: true}
	case inLat(lon) && inLon(lat):
		r.fail(shown+": the two are swapped", "Exchange them: in Indonesia lat is about -11 to 6, lon about 95 to 141")
	case lat < -90 || lat > 90:
		r.fail(fmt.Sprintf("lat %s is not between -90 and 90", quote(r.cell("lat"))), "Write degrees with a decimal comma or point, such as -7,7051")
	case lon < -180 || lon > 180:
		r.fail(fmt.Sprintf("lon %s is not between -180 and 180", quote(r.cell("lon"))), "Write degrees with a decimal comma or point, such as 110,6012")
	case inLat(-lat) && inLon(lon):
		r.fail(shown+" is outside Indonesia", "South of the equator lat has a minus sign")
	default:
		r.fail(shown+" is outside Indonesia", "Check both, or leave them empty if the position is not known")
	}
	return Position{}
}

var (
	isoDate   = regexp.MustCompile(`^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})$`)
	localDate = regexp.MustCompile(`^([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})$`)
)

// The first and last date that anything may begin or end.
var (
	firstDay = dayOf(1945, time.August, 17)
	lastDay  = dayOf(2199, time.December, 31)
)

// date reads 2026-01-31 or 31/01/2026.
func (r *record) date(name string) (d day, ok bool) {
	s := r.cell(name)
	if s == "" {
		return 0, false
	}
	if s == r.table.dateCell {
		return r.table.dateDay, true
	}
	var year, month, dom int
	if m := isoDate.FindStringSubmatch(s); m != nil {
		year, month, dom = number(m[1]), number(m[2]), number(m[3])
	} else if m := localDate.FindStringSubmatch(s); m != nil {
		year, month, dom = number(m[3]), number(m[2]), number(m[1])
	} else if serialForm.MatchString(s) {
		// Spreadsheets count days from 1899-12-30.
		meant := dayOf(1899, time.December, 30) + day(number(s[:5]))
		r.fail(fmt.Sprintf("%s %s: a spreadsheet turned the date into a number (%s?)", name, quote(s), meant),
			"Format the column as text or as a date 2026-01-31, and type the date again")
		return 0, false
	} else {
		r.fail(fmt.Sprintf("%s %s is not a date", name, quote(s)), "Write 2026-01-31 or 31/01/2026")
		return 0, false
	}
	t := time.Date(year, time.Month(month), dom, 0, 0, 0, 0, time.UTC)
	if t.Year() != year || int(t.Month()) != month || t.Day() != dom {
		r.fail(fmt.Sprintf("%s %s is no day of the calendar", name, quote(s)), "Write 2026-01-31 or 31/01/2026: the day comes before the month")
		return 0, false
	}
	if d = dayOf(year, time.Month(month), dom); d < firstDay || d > lastDay {
		r.fail(fmt.Sprintf("%s %s is not between %s and %s", name, quote(s), firstDay, lastDay), "Correct the year")
		return 0, false
	}
	r.table.dateCell, r.table.dateDay = s, d
	return d, true
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits) // at most five digits, by the patterns above
	return n
}

// span reads valid_from and valid_to.
func (r *record) span() span {
	from, fromOK := r.date("valid_from")
	to, toOK := r.date("valid_to")
	if !toOK {
		to = forever
	}
	if fromOK && to <= from {
		r.fail(fmt.Sprintf("valid_to %s is not after valid_from %s", to, from),
			"valid_to is the first day on which the row no longer holds; leave it empty if it still does")
	}
	return span{from, to}
}

// ip reads an IP address that packets can be sent to; its canonical form.
func (r *record) ip(name string) string {
	s := r.cell(name)
	if s == "" {
		return ""
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
		r.fail(fmt.Sprintf("%s %s is not the address of a device", name, quote(s)), "Write an IP address such as 192.168.1.1, or leave the cell empty")
		return ""
	}
	return a.String()
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

// validHost reports whether s is an IP address or a name (RFC 1123) whose last
// part is no number, so that 192.0.2.300 is neither.
func validHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
	}
	return len(s) <= 253 && hostForm.MatchString(s)
}

// host reads an IP address or a host name.
func (r *record) host(name string) string {
	s := r.cell(name)
	switch {
	case s == "" || validHost(s):
		return s
	case strings.Contains(s, "/"):
		r.fail(fmt.Sprintf("%s %s is not an address", name, quote(s)), "Write the host alone, without http:// and path")
	case strings.Count(s, ":") == 1:
		r.fail(fmt.Sprintf("%s %s is not an address", name, quote(s)), "Write the host alone, and its port into the column port")
	default:
		r.fail(fmt.Sprintf("%s %s is not an address", name, quote(s)), "Write an IP address such as 192.0.2.1 or a host name such as ukur.example.id")
	}
	return ""
}

// question reads a host name; its first label may be *.
func (r *record) question(name string) string {
	s := r.cell(name)
	rest := strings.TrimPrefix(s, "*.")
	_, err := netip.ParseAddr(rest)
	if s != "" && (err == nil || !validHost(rest)) {
		r.fail(fmt.Sprintf("%s %s is not a host name", name, quote(s)), "Write a name such as www.example.id, or *.ukur.example.id for one that no cache knows")
		return ""
	}
	return s
}

// page reads the http or https address of a page.
func (r *record) page(name string) string {
	s := r.cell(name)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) || u.User != nil ||
		u.Fragment != "" || strings.Contains(s, " ") || !validPort(u) {
		r.fail(fmt.Sprintf("%s %s is not the address of a page", name, quote(s)), "Write it as https://layanan.example.id/, without a name and password")
		return ""
	}
	return s
}

// port reads a port; 0 if the cell is empty.
func (r *record) port(name string) uint16 {
	s := r.cell(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		r.fail(fmt.Sprintf("%s %s is not between 1 and 65535", name, quote(s)), "Write the port's number, such as 443")
		return 0
	}
	return uint16(n)
}

// baseURL reads an http or https address without query; no slash at its end.
func (r *record) baseURL(name string) string {
	s := r.cell(name)
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !validHost(u.Hostname()) || u.User != nil ||
		u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, " ") || !validPort(u) {
		r.fail(fmt.Sprintf("%s %s is not the address of a measurement server", name, quote(s)), "Write it as http://ukur.example.id:7442/speedtest")
		return ""
	}
	return strings.TrimRight(s, "/")
}

func validPort(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	if u.Port() == "" {
		return true
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && n > 0
}

// interfaceName reads the name of a Linux network interface.
func (r *record) interfaceName(name string) string {
	s := r.cell(name)
	const most = 15 // IFNAMSIZ less its final zero
	if len(s) > most || s == "." || s == ".." || strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || c == '/' || c == ':'
	}) {
		r.fail(fmt.Sprintf("%s %s is not the name of a network interface", name, quote(s)), "Write it as the box shows it, such as br-lan or eth0, or leave the cell empty")
		return ""
	}
	return s
}

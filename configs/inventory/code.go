package inventory

import (
	"fmt"
	"regexp"
	"time"
)

// level is how deep a region's code goes: its length in bytes says which.
type level int

const (
	province level = 2  // PP
	regency  level = 5  // PP.RR
	district level = 8  // PP.RR.KK
	village  level = 13 // PP.RR.KK.VVVV
)

func (l level) String() string {
	return map[level]string{province: "province", regency: "regency", district: "district", village: "village"}[l]
}

// RegencyCode cuts the regency (PP.RR) from the code of a regency, a district
// or a village; "" if the code is shorter.
func RegencyCode(code string) string { return cut(code, regency) }

// DistrictCode cuts the district (PP.RR.KK) from the code of a district or a
// village; "" if the code is shorter.
func DistrictCode(code string) string { return cut(code, district) }

// ProvinceCode cuts the province (PP) from any region's code.
func ProvinceCode(code string) string { return cut(code, province) }

func cut(code string, l level) string {
	if len(code) < int(l) {
		return ""
	}
	return code[:l]
}

// parent is the code one level up; "" for a province.
func parent(code string) string {
	switch level(len(code)) {
	case village:
		return code[:district]
	case district:
		return code[:regency]
	case regency:
		return code[:province]
	}
	return ""
}

// within reports whether the region code lies in the region scope; everything
// lies in the empty scope.
func within(code, scope string) bool {
	return scope == "" || code == scope ||
		len(code) > len(scope) && code[:len(scope)] == scope && code[len(scope)] == '.'
}

// Indonesia's three zones have had no daylight saving time since 1964.
var (
	wib  = time.FixedZone("WIB", 7*60*60)
	wita = time.FixedZone("WITA", 8*60*60)
	wit  = time.FixedZone("WIT", 9*60*60)
)

// zoneOf returns the time zone of any region's code, nil if there is no such
// province.
func zoneOf(code string) *time.Location {
	switch p := ProvinceCode(code); {
	case p >= "11" && p <= "19", p == "21", p >= "31" && p <= "36", p == "61", p == "62":
		return wib
	case p >= "51" && p <= "53", p >= "63" && p <= "65", p >= "71" && p <= "76":
		return wita
	case p == "81", p == "82", p >= "91" && p <= "96":
		return wit
	}
	return nil
}

var codeForm = regexp.MustCompile(`^[0-9]{2}(\.[0-9]{2}(\.[0-9]{2}(\.[0-9]{4})?)?)?$`)

// What spreadsheets make of codes that they take for numbers and dates.
var (
	exponentForm = regexp.MustCompile(`^[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+$`)
	decimalForm  = regexp.MustCompile(`^([0-9]{2})[.,]([0-9]{1,2})$`)
	serialForm   = regexp.MustCompile(`^[0-9]{5}([.,]0+)?$`)
	bareForm     = regexp.MustCompile(`^([0-9]{4}|[0-9]{6}|[0-9]{10})$`)
	dateForm     = regexp.MustCompile(`^([0-9]{1,2}[-/.][0-9]{1,2}[-/.]([0-9]{2}){1,2}|[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[- ][A-Za-z]{3,9}([- ][0-9]{2,4})?)$`)
)

const asText = "Format the column as text and type the code again"

// checkCode says what is wrong with a region's code; what is "" if it is good.
func checkCode(s string) (what, remedy string) {
	if codeForm.MatchString(s) {
		return checkCodeParts(s)
	}
	switch {
	case exponentForm.MatchString(s), serialForm.MatchString(s):
		return quote(s) + " is not a code: a spreadsheet turned it into a number", asText
	case decimalForm.MatchString(s):
		m := decimalForm.FindStringSubmatch(s)
		meant := (m[2] + "0")[:2]
		return fmt.Sprintf("%s is not a code: a spreadsheet turned it into a number (was it %s.%s?)", quote(s), m[1], meant), asText
	case bareForm.MatchString(s):
		return quote(s) + " has lost its dots", fmt.Sprintf("Write %s, and format the column as text", dotted(s))
	case dateForm.MatchString(s):
		return quote(s) + " is not a code: a spreadsheet turned it into a date", asText
	}
	return quote(s) + " is not a region's code", "Write it as 33, 33.10, 33.10.15 or 33.10.15.2009"
}

func checkCodeParts(s string) (what, remedy string) {
	if zoneOf(s) == nil {
		return fmt.Sprintf("%s begins with %s, which is no province of Indonesia", quote(s), s[:province]),
			"Take the code from the Kemendagri list"
	}
	for _, l := range []level{regency, district} {
		if len(s) >= int(l) && s[l-2:l] == "00" {
			return fmt.Sprintf("%s has a %s 00", quote(s), l), "Take the code from the Kemendagri list"
		}
	}
	if level(len(s)) == village && KindOf(s) == "" {
		return fmt.Sprintf("%s is neither desa nor kelurahan: its last part begins with %c", quote(s), s[9]),
			"The last part begins with 1 for a kelurahan, 2 for a desa, 3 for a desa adat"
	}
	return "", ""
}

// dotted puts the dots back into a code of 4, 6 or 10 digits.
func dotted(s string) string {
	out := s[:2] + "." + s[2:4]
	if len(s) > 4 {
		out += "." + s[4:6]
	}
	if len(s) > 6 {
		out += "." + s[6:]
	}
	return out
}

// KindOf reads what a village is from the first digit of its last part; empty if
// that does not say, or the code is not a village's.
func KindOf(code string) Kind {
	if len(code) < 10 {
		return ""
	}
	switch code[9] {
	case '1':
		return Kelurahan
	case '2':
		return Desa
	case '3':
		return DesaAdat
	}
	return ""
}

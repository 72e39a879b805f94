package inventory

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"

	"github.com/pantau-desa/pantau/configs/nearest"
)

// Bounds on what a file may hold. One country needs some 90,000 rows a file.
const (
	maxFileBytes = 64 << 20
	maxRows      = 1_000_000
	maxColumns   = 64
	maxCellBytes = 1000
)

// column is one that a file may have. A file may leave out what is not needed.
type column struct {
	name   string
	needed bool // the header must have it, and each row must fill it
}

// table reads one CSV file as spreadsheets write it: UTF-8 with or without
// BOM, or Windows-1252; any line ends; separated by semicolons, commas or tabs;
// with blank rows and empty columns at the end. A row is one line: a line break
// inside a cell is refused, so that one broken quote costs one row.
type table struct {
	file      string
	columns   []column
	problems  *ledger
	place     map[string]int // column name: index in the row
	headings  []string       // index in the row: column name, "" where the header has none
	separator byte
	rest      string // what follows the header
	line      int    // of the header

	// The last good date: most rows of a file begin on the same day.
	dateCell string
	dateDay  day
}

// openTable reads the header. It returns nil, and the problems, if rows cannot
// be read.
func openTable(file, raw string, columns []column, problems *ledger) *table {
	t := &table{file: file, columns: columns, problems: problems}
	text, ok := t.decode(raw)
	if !ok {
		return nil
	}
	for text != "" {
		var line string
		line, text = cutLine(text)
		t.line++
		if sep, found := strings.CutPrefix(line, "sep="); found && t.line == 1 && len(sep) <= 1 {
			continue // a hint that Excel knows; the header says the same
		}
		if strings.Trim(line, ";,\t\" ") != "" {
			t.rest = text
			return t.header(line)
		}
	}
	problems.add(file, 0, "the file is empty", "Write the header line: "+names(columns, ";"))
	return nil
}

// decode returns the text without BOM.
func (t *table) decode(raw string) (string, bool) {
	fail := func(line int, what, remedy string) (string, bool) {
		t.problems.add(t.file, line, what, remedy)
		return "", false
	}
	const saveAs = `Save it as "CSV UTF-8" in the spreadsheet`
	switch {
	case len(raw) > maxFileBytes:
		return fail(0, fmt.Sprintf("the file is larger than %d MB", maxFileBytes>>20), "Remove what does not belong in it")
	case strings.HasPrefix(raw, "PK\x03\x04"), strings.HasPrefix(raw, "\xd0\xcf\x11\xe0"):
		return fail(0, "the file is a spreadsheet's own format, not CSV", saveAs)
	case strings.HasPrefix(raw, "\xff\xfe"), strings.HasPrefix(raw, "\xfe\xff"):
		return fail(0, "the file is UTF-16", saveAs)
	}
	text, marked := strings.CutPrefix(raw, "\ufeff")
	if utf8.ValidString(text) {
		return text, true
	}
	// One file has one encoding. Both in one would garble names unseen.
	lineOfFirst, wide := 0, marked
	for rest, n := text, 1; rest != ""; n++ {
		var line string
		line, rest = cutLine(rest)
		if !utf8.ValidString(line) {
			if lineOfFirst == 0 {
				lineOfFirst = n
			}
		} else if !ascii(line) {
			wide = true
		}
	}
	if wide {
		return fail(lineOfFirst, "this row is not UTF-8 though other parts of the file are", saveAs)
	}
	text, err := charmap.Windows1252.NewDecoder().String(text)
	if err != nil {
		return fail(lineOfFirst, "this row is neither UTF-8 nor Windows-1252", saveAs)
	}
	return text, true
}

// header finds the separator that yields the most known columns, and their
// places.
func (t *table) header(line string) *table {
	var cells []string
	best := -1
	for _, sep := range []byte{';', ',', '\t'} {
		found, _, err := splitLine(line, sep, nil)
		known := 0
		for _, c := range found {
			if t.known(columnName(c)) {
				known++
			}
		}
		if err == nil && (known > best || known == best && len(found) > len(cells)) {
			best, cells, t.separator = known, found, sep
		}
	}
	good := true
	fail := func(what, remedy string) {
		t.problems.add(t.file, t.line, what, remedy)
		good = false
	}
	if best <= 0 {
		fail("this is not the header line: it names no known column",
			"Write the header line first: "+names(t.columns, ";"))
		return nil
	}
	t.place = make(map[string]int)
	t.headings = make([]string, len(cells))
	for i, c := range cells {
		name := columnName(c)
		t.headings[i] = name
		if name == "" {
			continue // harmless if the rows leave it empty too
		}
		if !t.known(name) {
			fail("there is no column "+quote(trim(c)), fmt.Sprintf("Did you mean %q? Otherwise delete the column", t.nearest(name)))
			continue
		}
		if _, twice := t.place[name]; twice {
			fail(fmt.Sprintf("the column %q is there twice", name), "Delete one")
			continue
		}
		t.place[name] = i
	}
	for _, c := range t.columns {
		if _, ok := t.place[c.name]; c.needed && !ok {
			fail(fmt.Sprintf("the column %q is missing", c.name), "Add it to the header line")
		}
	}
	if !good {
		return nil
	}
	return t
}

func (t *table) known(name string) bool {
	for _, c := range t.columns {
		if c.name == name {
			return true
		}
	}
	return false
}

func (t *table) nearest(name string) string {
	candidates := make([]string, len(t.columns))
	for i, c := range t.columns {
		candidates[i] = c.name
	}
	return meant(name, candidates)
}

// each calls f for every row that has content; for one that is malformed with a
// record that is bad already, without cells if not even those could be told.
func (t *table) each(f func(*record)) {
	cells := make([]string, 0, maxColumns)
	for line, rows, n := "", 0, t.line+1; t.rest != ""; n++ {
		line, t.rest = cutLine(t.rest)
		r := &record{table: t, line: n}
		var wide bool
		var err error
		if cells, wide, err = splitLine(line, t.separator, cells[:0]); err != nil {
			r.fail(err.Error(), "Put no line break and no lone quotation mark into a cell")
			f(r)
			continue
		}
		filled := wide
		for i := range cells {
			cells[i] = trim(cells[i])
			filled = filled || cells[i] != ""
		}
		if !filled {
			continue
		}
		if rows++; rows > maxRows {
			r.fail(fmt.Sprintf("the file has more than %d rows", maxRows), "Remove what does not belong in it")
			return
		}
		r.cells = cells
		r.checkShape(wide)
		f(r)
	}
}

// record is one row. Its readers return the zero value where a cell is empty
// or wrong; a wrong one is noted as a problem and makes the record bad.
type record struct {
	table *table
	line  int // the header being 1 in an ordinary file
	cells []string
	bad   bool
}

func (r *record) fail(what, remedy string) {
	r.bad = true
	r.table.problems.add(r.table.file, r.line, what, remedy)
}

// checkShape refuses what no cell of any column may hold, and empties such a
// cell so that nobody complains of it twice.
func (r *record) checkShape(wide bool) {
	t := r.table
	for _, c := range t.columns {
		if c.needed && r.cell(c.name) == "" {
			r.fail(fmt.Sprintf("the cell %q is empty", c.name), "Fill it in")
		}
	}
	for i, c := range r.cells {
		if c == "" {
			continue
		}
		if i >= len(t.headings) || t.headings[i] == "" {
			wide = true
			continue
		}
		switch {
		case len(c) > maxCellBytes:
			r.fail(fmt.Sprintf("the cell %q is longer than %d bytes", t.headings[i], maxCellBytes), "Shorten it")
		case unprintable(c):
			r.fail(fmt.Sprintf("the cell %q holds a character that cannot be printed: %s", t.headings[i], quote(c)), "Type it again")
		case spreadsheetError(c):
			r.fail(fmt.Sprintf("the cell %q holds a spreadsheet's error value: %s", t.headings[i], quote(c)), "Type the value instead of the formula, or widen the column, and save again")
		default:
			continue
		}
		r.cells[i] = ""
	}
	if wide {
		r.fail("this row has content beyond the named columns", "Delete it, or give its column a name in the header line")
	}
}

// cell is the trimmed text of a cell; "" if the row or the file has none.
func (r *record) cell(name string) string {
	if i, ok := r.table.place[name]; ok && i < len(r.cells) {
		return r.cells[i]
	}
	return ""
}

// cutLine cuts s after its first line end: CR LF, LF, or the lone CR of old
// Macintosh programs.
func cutLine(s string) (line, rest string) {
	i := strings.IndexAny(s, "\r\n")
	if i < 0 {
		return s, ""
	}
	if strings.HasPrefix(s[i:], "\r\n") {
		return s[:i], s[i+2:]
	}
	return s[:i], s[i+1:]
}

var (
	errUnclosed = errors.New("a quoted cell does not end on this line")
	errAfter    = errors.New("text follows the closing quotation mark of a cell")
)

// splitLine appends a line's cells to cells, at most maxColumns of them; wide
// says that there is content beyond. Quoting is RFC 4180's; a quotation mark
// inside an unquoted cell stands for itself.
func splitLine(line string, separator byte, cells []string) (_ []string, wide bool, err error) {
	for {
		var cell string
		if strings.HasPrefix(line, `"`) {
			if cell, line, err = cutQuoted(line); err != nil {
				return cells, false, err
			}
			if line != "" && line[0] != separator {
				return cells, false, errAfter
			}
		} else {
			end := strings.IndexByte(line, separator)
			if end < 0 {
				end = len(line)
			}
			cell, line = line[:end], line[end:]
		}
		if len(cells) < maxColumns {
			cells = append(cells, cell)
		} else if trim(cell) != "" {
			wide = true
		}
		if line == "" {
			return cells, wide, nil
		}
		line = line[1:]
	}
}

// cutQuoted cuts a quoted cell, doubled quotation marks undone, from s.
func cutQuoted(s string) (cell, rest string, err error) {
	var doubled bool
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			doubled = true
			i++
			continue
		}
		cell = s[1:i]
		if doubled {
			cell = strings.ReplaceAll(cell, `""`, `"`)
		}
		return cell, s[i+1:], nil
	}
	return "", "", errUnclosed
}

// trim cuts white space, and what cannot be seen, from both ends.
func trim(s string) string {
	if s == "" || s[0] > ' ' && s[0] < 0x7f && s[len(s)-1] > ' ' && s[len(s)-1] < 0x7f {
		return s
	}
	return strings.TrimFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || r == '\u200b' || r == '\u200e' || r == '\u200f' || r == '\ufeff'
	})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func unprintable(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return true
		}
	}
	return false
}

// spreadsheetError recognises #REF!, #N/A, #NAME?, #DIV/0! and the ##### of a
// column that was too narrow when it was saved as shown.
func spreadsheetError(s string) bool {
	return s[0] == '#' && (s[len(s)-1] == '!' || s[len(s)-1] == '?' || s == "#N/A" || strings.Trim(s, "#") == "")
}

// columnName is a header cell in the form of our names.
func columnName(cell string) string {
	return strings.NewReplacer(" ", "_", "-", "_").Replace(strings.ToLower(trim(cell)))
}

func names(columns []column, separator string) string {
	all := make([]string, len(columns))
	for i, c := range columns {
		all[i] = c.name
	}
	return strings.Join(all, separator)
}

// meant is the candidate nearest to what was typed.
func meant(s string, candidates []string) string {
	best, _ := nearest.Of(s, candidates)
	return best
}

package mail

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// columns is the width of the plain-text twin.
const columns = 80

// width counts the columns of s: marks that combine take none.
func width(s string) int {
	n := 0
	for _, r := range s {
		if !unicode.Is(unicode.M, r) {
			n++
		}
	}
	return n
}

func pad(s string, to int, right bool) string {
	space := strings.Repeat(" ", max(to-width(s), 0))
	if right {
		return space + s
	}
	return s + space
}

// wrap breaks s between words into rows that fit; a word that fits no row is cut,
// unless it is the address of a page, which stands alone.
func wrap(s string, first, rest int) []string {
	var rows []string
	row, room := "", first
	flush := func() {
		rows = append(rows, row)
		row, room = "", rest
	}
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }) {
		if row != "" && width(row)+1+width(w) > room {
			flush()
		}
		for width(w) > room && !isPage(w) {
			cut := 0
			for i := range w {
				if width(w[:i]) > room {
					break
				}
				cut = i
			}
			if cut == 0 {
				_, cut = utf8.DecodeRuneInString(w)
			}
			row = w[:cut]
			w = w[cut:]
			flush()
		}
		if row != "" {
			row += " "
		}
		row += w
	}
	if row != "" || len(rows) == 0 {
		rows = append(rows, row)
	}
	return rows
}

func isPage(w string) bool {
	return strings.HasPrefix(w, "https://") || strings.HasPrefix(w, "http://")
}

// hang writes prefix and s; what follows the first row is indented by as much.
func hang(b *strings.Builder, prefix, s string) {
	indent := width(prefix)
	for i, row := range wrap(s, columns-indent, columns-indent) {
		if i == 0 && isPage(row) && indent+width(row) > columns {
			b.WriteString(strings.TrimRight(prefix, " ") + "\n" + row + "\n")
			continue
		}
		if i > 0 {
			prefix = strings.Repeat(" ", indent)
		}
		b.WriteString(strings.TrimRight(prefix+row, " ") + "\n")
	}
}

// text draws the document as plain text.
func (d *document) text() string {
	var b strings.Builder
	hang(&b, "", "Pantau Desa, "+d.region)
	if len(d.simulation) > 0 {
		hang(&b, "*** ", d.simulation.String())
	}
	b.WriteString("\n")
	tag := d.tag.word
	if d.tagNote != "" {
		tag += ": " + d.tagNote
	}
	hang(&b, "", tag)
	for _, s := range d.headline {
		hang(&b, "", s)
	}
	for _, k := range d.blocks {
		b.WriteString("\n")
		k.text(&b)
	}
	b.WriteString("\n-- \n")
	for _, l := range d.footer {
		hang(&b, "", l.String())
	}
	// The narrow no-break forms are for HTML; here the rows are broken already.
	return strings.ReplaceAll(b.String(), string(noBreak), " ")
}

func (k block) text(b *strings.Builder) {
	if k.Heading != "" {
		hang(b, "", strings.ToUpper(k.Heading))
	}
	if len(k.Text) > 0 {
		hang(b, "", k.Text.String())
	}
	var parts []string
	for _, s := range k.Share {
		parts = append(parts, s.Label)
	}
	if len(parts) > 0 {
		hang(b, "", strings.Join(parts, ", "))
	}
	label := 0
	for _, f := range k.Facts {
		label = min(max(label, width(f.Label)), 24)
	}
	for _, f := range k.Facts {
		hang(b, pad(f.Label, label, false)+"  ", f.Value.String())
		if len(f.Note) > 0 {
			hang(b, strings.Repeat(" ", label+2), f.Note.String())
		}
	}
	if k.Table != nil {
		k.Table.text(b)
	}
	for i, r := range k.Tree {
		hang(b, strings.Repeat("  ", min(i, 6))+"["+r.Word+"] ", r.Text.String())
	}
	for _, l := range k.List {
		hang(b, "- ", l.String())
	}
	if k.Do != nil {
		hang(b, "", strings.ToUpper(k.Do.Heading))
		for i, s := range k.Do.Steps {
			hang(b, fmt.Sprintf("%d. ", i+1), s.String())
		}
		for i, c := range k.Do.Contact {
			if i == 0 {
				b.WriteString("\n")
				hang(b, "", c.String())
				continue
			}
			hang(b, "  ", c.String())
		}
	}
	if len(k.Note) > 0 {
		hang(b, "", k.Note.String())
	}
	if k.Button != nil {
		hang(b, k.Button.Label+": ", k.Button.URL)
	}
}

// text draws the table in columns that fit. What is too long for its column
// stands on a row of its own, so that no name is torn between columns; where all
// columns do not fit side by side, the widest that stands below another one in
// HTML does so here.
func (t *table) text(b *strings.Builder) {
	const gap, least = 2, 16
	rows := make([][]string, 0, len(t.Rows)+2)
	head := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		if head[i] = c.Label; width(c.Label) > 1 {
			head[i] = upperFirst(c.Label)
		}
	}
	rows = append(rows, head)
	for _, r := range append(t.Rows[:len(t.Rows):len(t.Rows)], t.Total) {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = c.Text.String()
		}
		rows = append(rows, cells)
	}
	widths := make([]int, len(t.Columns))
	for _, r := range rows {
		for i, s := range r {
			widths[i] = max(widths[i], width(s))
		}
	}
	beside := func() (n int) {
		for _, w := range widths[1:] {
			if w > 0 {
				n += gap + w
			}
		}
		return n
	}
	lowered := make([]bool, len(t.Columns))
	for columns-beside() < min(widths[0], least) {
		widest := -1
		for i, c := range t.Columns {
			if c.Under && !lowered[i] && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest], lowered[widest] = 0, true
	}
	for i := len(widths) - 1; i > 0 && columns-beside() < min(widths[0], least); i-- {
		widths[i] = min(widths[i], max(width(head[i]), 10))
	}
	widths[0] = min(widths[0], max(columns-beside(), 1))
	for _, cells := range rows {
		var row strings.Builder
		var below []string
		begin := 0
		for i, s := range cells {
			room := widths[i]
			if i == 0 { // an empty neighbour lends its room
				for n := 1; n < len(cells) && cells[n] == "" && width(s) > room; n++ {
					room += gap + widths[n]
				}
			}
			switch {
			case s == "":
			case i == 0 && width(s) > room:
				hang(b, "", s)
			case lowered[i], width(s) > room:
				below = append(below, s)
			default:
				row.WriteString(strings.Repeat(" ", max(begin-width(row.String()), 0)))
				row.WriteString(pad(s, widths[i], t.Columns[i].Right && i > 0))
			}
			if !lowered[i] {
				begin += widths[i] + gap
			}
		}
		if s := strings.TrimRight(row.String(), " "); s != "" {
			b.WriteString(s + "\n")
		}
		for _, s := range below {
			hang(b, strings.Repeat(" ", gap), s)
		}
	}
}

package mail

import (
	_ "embed"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
)

//go:embed templates/mail.html
var frame string

// palette is the light colours, written inline; the dark ones are in the frame's
// style sheet, for the clients that read one.
func palette(name string) (string, error) {
	hex, ok := map[string]string{
		"page": "#F4F6F8", "surface": "#FFFFFF", "ink": "#17202A", "mute": "#55606E", "line": "#D5DBE2", "tint": "#EDF2F6", "action": "#0B4A6F",
		// As text.
		"up": "#006FB0", "deg": "#8A5000", "down": "#A8102A", "unk": "#69707D", "nocov": "#2B333F", "usual": "#69707D",
		// As a surface.
		"f-up": "#006FB0", "f-deg": "#BF7200", "f-down": "#A8102A", "f-unk": "#69707D", "f-nocov": "#2B333F", "f-usual": "#7F8A99",
	}[name]
	if !ok {
		return "", fmt.Errorf("no colour %q", name)
	}
	return hex, nil
}

// face is the inline style of a text: size and line height in pixels, colour.
func face(size, height int, color string) (template.CSS, error) {
	hex, err := palette(color)
	return template.CSS(fmt.Sprintf("font:%dpx/%dpx -apple-system,Segoe UI,Roboto,Arial,sans-serif;color:%s", size, height, hex)), err
}

// htmlFrame is the parsed frame; it never changes.
var htmlFrame = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("mail").Funcs(template.FuncMap{
		"face":  face,
		"color": func(parts ...string) (string, error) { return palette(strings.Join(parts, "")) },
		"str":   func(t tone) string { return string(t) },
		"glyph": tone.glyph,
		// Links were made safe where the document was made; tel: is not a scheme that
		// html/template knows.
		"link": func(s string) template.URL { return template.URL(s) },
		// html/template drops comments, and Word reads these.
		"mso": func(s string) (template.HTML, error) {
			c, ok := map[string]template.HTML{
				"head": `<!--[if mso]><xml><o:OfficeDocumentSettings><o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings></xml><style>td,th,a,span,div,h1,h2{font-family:Arial,sans-serif!important}td{mso-line-height-rule:exactly}</style><![endif]-->`,
				"open": `<!--[if mso]><table role="presentation" width="600" align="center" cellpadding="0" cellspacing="0" border="0"><tr><td><![endif]-->`,
				"shut": `<!--[if mso]></td></tr></table><![endif]-->`,
			}[s]
			if !ok {
				return "", fmt.Errorf("no ghost %q", s)
			}
			return c, nil
		},
		"plus": func(a, b int) int { return a + b },
	}).Parse(frame))
})

// htmlCell is a cell of the drawn table: what stands under it is muted.
type htmlCell struct {
	Tone  tone
	Text  line
	Under []line
	Right bool
}

// HTML drawing of a table: columns that are Under go into the cell before.
func (t *table) Head() []htmlCell {
	var out []htmlCell
	for _, c := range t.Columns {
		if c.Plain {
			continue
		}
		if c.Under {
			last := &out[len(out)-1]
			last.Under = append(last.Under, ln(c.Label))
			continue
		}
		out = append(out, htmlCell{Text: ln(c.Label), Right: c.Right})
	}
	return out
}

func (t *table) fold(row []cell) []htmlCell {
	var out []htmlCell
	for i, c := range row {
		if t.Columns[i].Plain {
			continue
		}
		if t.Columns[i].Under {
			if len(c.Text) > 0 {
				last := &out[len(out)-1]
				last.Under = append(last.Under, c.Text)
			}
			continue
		}
		out = append(out, htmlCell{Tone: c.Tone, Text: c.Text, Right: t.Columns[i].Right})
	}
	return out
}

// Body is the rows as they are drawn.
func (t *table) Body() [][]htmlCell {
	out := make([][]htmlCell, len(t.Rows))
	for i, r := range t.Rows {
		out[i] = t.fold(r)
	}
	return out
}

// Foot is the row of totals as it is drawn.
func (t *table) Foot() []htmlCell {
	if t.Total == nil {
		return nil
	}
	return t.fold(t.Total)
}

// Small says that the table has so many columns that a telephone needs small type.
func (t *table) Small() bool { return len(t.Head()) > 3 }

// html draws the document as HTML.
func (d *document) html() (string, error) {
	type page struct {
		Lang, Subject, Preheader, Region string
		Simulation                       line
		Tag, TagNote                     string
		Tone                             tone
		Headline                         string
		Blocks                           []block
		Footer                           []line
	}
	var b strings.Builder
	err := htmlFrame().Execute(&b, page{d.lang, d.subject, d.preheader, d.region, d.simulation, d.tag.word, d.tagNote, d.tag.tone,
		strings.Join(d.headline, " "), d.blocks, d.footer})
	return b.String(), err
}

// message draws both twins.
func (d *document) message() (Message, error) {
	d.subject, d.preheader, d.region = strings.TrimSpace(clean(d.subject)), strings.TrimSpace(clean(d.preheader)), clean(d.region)
	for i, s := range d.headline {
		d.headline[i] = clean(s)
	}
	d.blocks = slices.DeleteFunc(d.blocks, block.empty)
	size := 0
	for _, rows := range []int{50, 25, 10, 3} {
		short := d.shortened(rows)
		html, err := short.html()
		if err != nil {
			return Message{}, fmt.Errorf("mail: draw %q: %w", d.subject, err)
		}
		if size = len(html); size <= MaxHTML {
			return Message{Subject: d.subject, Preheader: d.preheader, HTML: html, Text: short.text()}, nil
		}
	}
	return Message{}, fmt.Errorf("mail: %q has %d bytes of HTML, above %d", d.subject, size, MaxHTML)
}

// shortened is the document with at most so many rows in each table. What is
// left out is counted beside it, and stands on the page behind the button.
func (d *document) shortened(rows int) *document {
	out := *d
	out.blocks = slices.Clone(d.blocks)
	for i, b := range out.blocks {
		if b.Table == nil || b.Table.Rest == nil || len(b.Table.Rows) <= rows {
			continue
		}
		short := *b.Table
		short.Rows = short.Rows[:rows]
		out.blocks[i].Table = &short
		out.blocks[i].Note = ln(b.Table.Rest(len(b.Table.Rows)-rows), " ", b.Note)
	}
	return &out
}

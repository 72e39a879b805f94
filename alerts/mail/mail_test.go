package mail

import (
	"flag"
	"fmt"
	"html"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	xhtml "golang.org/x/net/html"

	"github.com/google/go-cmp/cmp"
)

var (
	update = flag.Bool("update", false, "write the golden text twins")
	out    = flag.String("out", "", "folder to which the typical mails are written, to be looked at")
)

// every renders all typical and extreme mails in both languages.
func every(t *testing.T, check func(t *testing.T, l Language, name string, m Message)) {
	t.Helper()
	for _, l := range []Language{Indonesian, English} {
		views := typical(l)
		maps.Copy(views, extremes(l))
		for _, name := range slices.Sorted(maps.Keys(views)) {
			m, err := views[name].Render()
			if err != nil {
				t.Errorf("%s in %s: %v", name, l, err)
				continue
			}
			check(t, l, string(l)+"/"+name, m)
		}
	}
}

func TestTextTwins(t *testing.T) {
	for _, l := range []Language{Indonesian, English} {
		for name, v := range typical(l) {
			m, err := v.Render()
			if err != nil {
				t.Fatal(err)
			}
			if *out != "" {
				for ext, s := range map[string]string{".html": m.HTML, ".txt": m.Text} {
					if err := os.WriteFile(filepath.Join(*out, name+"."+string(l)+ext), []byte(s), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := "Subject: " + m.Subject + "\nPreheader: " + m.Preheader + "\n\n" + m.Text
			file := filepath.Join("testdata", name+"."+string(l)+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", file, diff)
			}
		}
	}
}

// A row of the text twin is 80 columns at most, unless it is one page's address.
func TestTextIs80Columns(t *testing.T) {
	every(t, func(t *testing.T, _ Language, name string, m Message) {
		for _, row := range strings.Split(m.Text, "\n") {
			if width(row) > columns && !isPage(row) {
				t.Errorf("%s: a row of %d columns: %s", name, width(row), row)
			}
			if row != strings.TrimRight(row, " ") && row != "-- " {
				t.Errorf("%s: spaces at the end of %q", name, row)
			}
		}
		if strings.ContainsFunc(m.Text, func(r rune) bool { return r != '\n' && unicode.Is(unicode.C, r) }) {
			t.Errorf("%s: a control character in the text", name)
		}
	})
}

// No fact of a mail depends on anything but the words in it, and what a client
// refuses is not in it.
func TestStructure(t *testing.T) {
	every(t, func(t *testing.T, l Language, name string, m Message) {
		if len(m.HTML) > MaxHTML {
			t.Errorf("%s: %d bytes of HTML", name, len(m.HTML))
		}
		for _, no := range []string{"%!(", "%!d", "%!s", "ZgotmplZ", "&lt;nil", "NaN", "0001", "+Inf"} {
			if strings.Contains(m.HTML, no) || strings.Contains(m.Text, no) || strings.Contains(m.Subject, no) {
				t.Errorf("%s has %q", name, no)
			}
		}
		if !strings.Contains(m.HTML, "<!--[if mso]><table role=\"presentation\" width=\"600\"") || !strings.Contains(m.HTML, "data-ogsc") {
			t.Errorf("%s: no ghost table for Word, or no dark rules for Outlook", name)
		}
		if m.Subject == "" || m.Preheader == "" || strings.Contains(m.Subject, m.Preheader) {
			t.Errorf("%s: subject %q, preheader %q", name, m.Subject, m.Preheader)
		}
		h1 := 0
		for _, n := range parse(t, m.HTML) {
			attr := attributes(n)
			switch n.Data {
			case "script", "img", "link", "iframe", "object", "embed", "form", "input", "svg", "video", "audio", "base", "canvas":
				t.Errorf("%s: an element <%s>", name, n.Data)
			case "html":
				if attr["lang"] != string(l) {
					t.Errorf("%s: lang is %q", name, attr["lang"])
				}
			case "h1":
				h1++
			case "table":
				if attr["role"] != "presentation" && !hasHeader(n) {
					t.Errorf("%s: a table with neither role=presentation nor th", name)
				}
			case "th":
				if attr["scope"] == "" {
					t.Errorf("%s: a th without scope", name)
				}
			case "meta":
				if attr["http-equiv"] != "" {
					t.Errorf("%s: meta http-equiv", name)
				}
			case "a":
				if !slices.ContainsFunc([]string{"https://", "mailto:", "tel:"}, func(p string) bool { return strings.HasPrefix(attr["href"], p) }) {
					t.Errorf("%s: a link to %q", name, attr["href"])
				}
			}
			if s := attr["style"]; strings.Contains(s, "background:#") && attr["bgcolor"] == "" && n.Data != "span" {
				t.Errorf("%s: <%s> has a background and no bgcolor: %s", name, n.Data, s)
			}
			for key := range attr {
				if strings.HasPrefix(key, "on") || key == "src" || key == "background" || key == "srcset" {
					t.Errorf("%s: attribute %s on <%s>", name, key, n.Data)
				}
			}
			for _, no := range []string{"url(", "expression", "flex", "grid", "position:", "float:"} {
				if strings.Contains(attr["style"], no) {
					t.Errorf("%s: style %q", name, attr["style"])
				}
			}
		}
		if h1 != 1 {
			t.Errorf("%s has %d h1", name, h1)
		}
		if strings.Contains(styleSheet(m.HTML), "@import") || strings.Contains(styleSheet(m.HTML), "url(") {
			t.Errorf("%s: the style sheet fetches something", name)
		}
	})
}

func styleSheet(doc string) string {
	_, rest, _ := strings.Cut(doc, "<style>\n")
	css, _, _ := strings.Cut(rest, "</style>")
	return css
}

func parse(t *testing.T, doc string) []*xhtml.Node {
	t.Helper()
	root, err := xhtml.Parse(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	var out []*xhtml.Node
	for n := range root.Descendants() {
		if n.Type == xhtml.ElementNode {
			out = append(out, n)
		}
	}
	return out
}

func attributes(n *xhtml.Node) map[string]string {
	out := make(map[string]string)
	for _, a := range n.Attr {
		out[a.Key] = a.Val
	}
	return out
}

func hasHeader(table *xhtml.Node) bool {
	for n := range table.Descendants() {
		if n.Type == xhtml.ElementNode && n.Data == "th" {
			return true
		}
	}
	return false
}

// words is what a reader of the HTML gets when every style is stripped.
func words(t *testing.T, doc string) string {
	t.Helper()
	root, err := xhtml.Parse(strings.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == xhtml.TextNode && n.Parent.Data != "style" && n.Parent.Data != "title" {
			b.WriteString(n.Data)
		}
		if n.Type == xhtml.ElementNode && slices.Contains([]string{"td", "th", "tr", "br", "div", "h1", "h2", "table"}, n.Data) {
			b.WriteString(" ")
		}
	}
	return squeeze(b.String())
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// facts collects every text and figure that a document says.
func facts(d *document) []string {
	var out []string
	add := func(s string) {
		if s = squeeze(s); s != "" {
			out = append(out, s)
		}
	}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Slice:
			if v.Type() == reflect.TypeFor[line]() {
				var b strings.Builder
				for i := range v.Len() {
					b.WriteString(v.Index(i).FieldByName("Text").String())
				}
				add(b.String())
				return
			}
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Pointer:
			if !v.IsNil() && v.Type() != reflect.TypeFor[*bars]() {
				walk(v.Elem())
			}
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[column]() && v.FieldByName("Under").Bool() {
				return
			}
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.String:
			if v.Type() != reflect.TypeFor[tone]() {
				add(v.String())
			}
		}
	}
	walk(reflect.ValueOf(d.blocks))
	walk(reflect.ValueOf(d.footer))
	walk(reflect.ValueOf(d.simulation))
	add(d.tag.word)
	add(d.tagNote)
	add(d.region)
	for _, s := range d.headline {
		add(s)
	}
	return out
}

// A fact that is in one twin is in the other. Headings are in capitals in one.
func TestTwinsSayTheSame(t *testing.T) {
	for _, l := range []Language{Indonesian, English} {
		views := typical(l)
		for k, v := range extremes(l) {
			if strings.HasPrefix(k, "40-") || strings.HasPrefix(k, "one-") || strings.HasPrefix(k, "bare-") {
				views[k] = v
			}
		}
		for key, v := range views {
			m, err := v.Render()
			if err != nil {
				t.Fatal(err)
			}
			rich, plain := words(t, m.HTML), squeeze(m.Text)
			for _, f := range expected(v) {
				if !strings.Contains(rich, f) || !strings.Contains(plain, f) {
					t.Errorf("%s in %s: %q is in the HTML: %v, in the text: %v", key, l, f, strings.Contains(rich, f), strings.Contains(plain, f))
				}
			}
			rich, plain = strings.ToLower(rich), strings.ToLower(plain)
			for n, f := range facts(drawn(t, v)) {
				f = strings.ToLower(f)
				if bars := strings.Trim(f, "#") == ""; bars {
					continue // drawn otherwise in HTML, with the figures beside it in both
				}
				page := strings.HasPrefix(f, "https://")
				if !strings.Contains(plain, f) || !page && !strings.Contains(rich, f) || page && !strings.Contains(strings.ToLower(m.HTML), f) {
					t.Errorf("%s in %s: fact %d %q is in the HTML: %v, in the text: %v", key, l, n, f, strings.Contains(rich, f), strings.Contains(plain, f))
				}
			}
		}
	}
}

// drawn is the document of a view: what Render draws, caught before it is drawn.
func drawn(t *testing.T, v view) *document {
	t.Helper()
	switch v := v.(type) {
	case Incident:
		return v.document()
	case Spike:
		return v.document()
	case Digest:
		return v.document()
	case Notice:
		return v.document()
	}
	t.Fatalf("no document of %T", v)
	return nil
}

// expected lists facts of a view that a mail must carry, written here and not by
// the room.
func expected(v view) []string {
	var out []string
	villages := func(list []Village) {
		for _, x := range list {
			out = append(out, x.Name, x.Code)
			if n := x.Population.Number; x.Population.Known && n < 1000 {
				out = append(out, strconv.Itoa(n))
			}
		}
	}
	switch v := v.(type) {
	case Incident:
		villages(v.Villages)
		out = append(out, v.ID, v.Provider, v.Recipient)
		if v.Event == Opened || v.Event == Widened {
			for _, n := range v.Path {
				out = append(out, n.ID, n.Place)
			}
		}
	case Spike:
		out = append(out, v.Place, v.ID)
		for _, x := range v.Top {
			out = append(out, x.Name, x.Code)
		}
	case Digest:
		for _, p := range v.Incidents {
			out = append(out, p.ID, p.District)
		}
		for _, p := range append(v.Faulty, v.Unseen...) {
			out = append(out, p.Name)
		}
	}
	return out
}

// The first 45 characters say what, how many or who, where and since when or how.
func TestSubjectOnATelephone(t *testing.T) {
	long := opened(Indonesian)
	for i := range long.Villages {
		long.Villages[i].District = "Batang Hari Leko Selatan"
	}
	crowd := opened(Indonesian)
	crowd.Villages = many(40)
	crowd.Villages[3].District = "Cawas"
	single := opened(Indonesian)
	single.Villages = single.Villages[:1]
	nowhere := opened(Indonesian)
	nowhere.Villages = nil
	old := opened(Indonesian)
	old.Since = at(14, 2, 0).AddDate(0, 0, -2)
	for _, c := range []struct {
		name string
		view view
		head string // the first 45 characters
	}{
		{"opened", opened(Indonesian), "[Gangguan] 4 desa di Kec. Wonosari putus seja"},
		{"opened, English", opened(English), "[Outage] 4 villages cut off in Wonosari distr"},
		{"opened, one village", single, "[Gangguan] Desa Boto putus (Kec. Wonosari) se"},
		{"opened, long name", long, "[Gangguan] 4 desa putus di Kec. Batang Hari L"},
		{"opened, a crowd", crowd, "[Gangguan] 40 desa/kel. di 4 kec. putus sejak"},
		{"opened, no village", nowhere, "[Gangguan] Kabupaten Klaten putus sejak 14.02"},
		{"opened days ago", old, "[Gangguan] 4 desa di Kec. Wonosari putus seja"},
		{"widened", widened(Indonesian), "[Meluas] 6 desa/kel. di 2 kec. putus, semula "},
		{"recovered", recovered(Indonesian), "[Pulih] 4 desa di Kec. Wonosari pulih 16.43 W"},
		{"recovered, English", recovered(English), "[Recovered] 4 villages back in Wonosari distr"},
		{"unstable", unstable(Indonesian), "[Tidak stabil] Desa Boto putus-sambung (Kec. "},
		{"spike", spike(Indonesian), "[Lonjakan] Pemakaian Kec. Prambanan 1,93 kali"},
		{"spike over", spikeOver(Indonesian), "[Pulih] Kec. Prambanan kembali biasa 22.35 WI"},
		{"digest", digest(Indonesian), "[Ringkasan pekan] Klaten: 3 gangguan, 9 desa;"},
		{"simulation", typical(Indonesian)["simulasi"], "[SIMULASI Gangguan] 4 desa di Kec. Wonosari p"},
	} {
		m, err := c.view.Render()
		if err != nil {
			t.Fatal(err)
		}
		if got := string([]rune(m.Subject)[:head]); got != c.head {
			t.Errorf("%s: %q, want %q (of %q)", c.name, got, c.head, m.Subject)
		}
	}
}

// Whatever stands in a name, it is shown as text, on one line, in no header.
func TestHostileNames(t *testing.T) {
	for _, bad := range []string{
		"<script>alert(1)</script>", `"><img src=x onerror=alert(1)>`, "Boto\r\nBcc: all@example.org", "a\u202egnp.exe", "a\u200bb\u0000c\u001b[31m", "{{.Region}}", "%s%!d",
		"]]>--><!--", "</title><h1>", "javascript:alert(1)", strings.Repeat("A", 3000), strings.Repeat("kata ", 500), "\xff\xfe", "Jum’at 東京 é",
	} {
		for _, l := range []Language{Indonesian, English} {
			i := widened(l)
			for n := range i.Villages {
				i.Villages[n].Name, i.Villages[n].District, i.Villages[n].Code = bad, bad, bad
			}
			i.ID, i.Provider, i.Region.Name, i.Recipient = bad, bad, bad, bad
			i.Path[1].ID, i.Path[1].Place = bad, bad
			i.Contact = Contact{bad, bad, bad, bad}
			i.Evidence = append(i.Evidence, Evidence{Kind: Remark, Text: bad}, Evidence{Kind: NodeAnswered, Node: bad})
			i.Doubts = append(i.Doubts, Doubt{Kind: DoubtRemark, Text: bad})
			i.Page, i.Recipients = bad, "javascript:alert(1)"
			s := spike(l)
			s.Place, s.Top[0].Name, s.ID = bad, bad, bad
			g := digest(l)
			g.Region.Name, g.Faulty[0].Name, g.Incidents[0].District, g.Watch[0].Name = bad, bad, bad, bad
			for _, v := range []view{i, s, g} {
				m, err := v.Render()
				if err != nil {
					t.Fatalf("%T with %.40q: %v", v, bad, err)
				}
				if strings.ContainsFunc(m.Subject+m.Preheader, func(r rune) bool { return unicode.Is(unicode.C, r) }) {
					t.Errorf("%T with %.40q: subject %q", v, bad, m.Subject)
				}
				for _, row := range strings.Split(m.Text, "\n") {
					if width(row) > columns || strings.HasPrefix(row, "Bcc:") || strings.ContainsFunc(row, func(r rune) bool { return unicode.Is(unicode.C, r) }) {
						t.Errorf("%T with %.40q: text row %q", v, bad, row)
					}
				}
				for _, n := range parse(t, m.HTML) {
					if n.Data == "script" || n.Data == "img" {
						t.Errorf("%T with %.40q made an element <%s>", v, bad, n.Data)
					}
					for k, a := range attributes(n) {
						if strings.HasPrefix(k, "on") || k == "href" && !strings.HasPrefix(a, "https://") && !strings.HasPrefix(a, "mailto:noc@example.org") {
							t.Errorf("%T with %.40q made %s=%q on <%s>", v, bad, k, a, n.Data)
						}
					}
				}
				if strings.HasPrefix(bad, "<script>") && !strings.Contains(m.HTML, html.EscapeString(bad)) {
					t.Errorf("%T: the name is not shown as it is", v)
				}
			}
		}
	}
}

func TestLinks(t *testing.T) {
	for in, want := range map[string]string{
		"https://pantau.example.org/gangguan/G-1": "https://pantau.example.org/gangguan/G-1", "http://10.0.0.1:7480/": "http://10.0.0.1:7480/",
		"": "", "/gangguan": "", "javascript:alert(1)": "", "https://u:p@h/": "", "ftp://h/": "", "https://": "", "https://h/a b": "https://h/a%20b", "data:text/html,x": "",
	} {
		if got := safePage(in); got != want {
			t.Errorf("safePage(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"+62 21 0000 0000": "tel:+622100000000", "(0272) 321-046": "", "0272-321.046": "tel:0272321046", "112": "", "+62;ext=1": "", "call me": ""} {
		if got := phone(in).Link; got != want {
			t.Errorf("phone(%q) links to %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"noc@example.org": "mailto:noc@example.org?subject=G-1%20a%26b", "a@b?bcc=c@d": "", "A <a@b>": "", "x": "", "a@b,c@d": ""} {
		if got := address(in, "G-1 a&b").Link; strings.ReplaceAll(got, "&", "%26") != want {
			t.Errorf("address(%q) links to %q, want %q", in, got, want)
		}
	}
}

// A cause is named only with its evidence.
func TestNoCauseWithoutEvidence(t *testing.T) {
	i := opened(Indonesian)
	i.Evidence = nil
	m, err := i.Render()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(m.Text, "feeder") || !strings.Contains(m.Text, "Penyebab belum diketahui.") {
		t.Errorf("a cause without evidence:\n%s", m.Text)
	}
}

// Unknown people are neither left out nor zero.
func TestUnknownPopulation(t *testing.T) {
	i := opened(Indonesian)
	i.Villages[1].Population.Known = false
	m, err := i.Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.961 jiwa, belum termasuk 1 desa yang penduduknya belum diketahui", "≥ 10.961"} {
		if !strings.Contains(squeeze(m.Text), want) {
			t.Errorf("no %q in\n%s", want, m.Text)
		}
	}
	for n := range i.Villages {
		i.Villages[n].Population.Known = false
	}
	if m, err = i.Render(); err != nil || !strings.Contains(squeeze(m.Text), "4 desa, jumlah penduduk belum diketahui") {
		t.Errorf("%v\n%s", err, m.Text)
	}
}

// Words that would say too much.
func TestForbiddenWords(t *testing.T) {
	never := regexp.MustCompile(`(?i)\b(error|offline|server mati|kesalahan penyedia|terjadi masalah|semua normal|tidak cukup data|keterjangkauan)\b|!`)
	for name, v := range typical(Indonesian) {
		m, err := v.Render()
		if err != nil {
			t.Fatal(err)
		}
		if bad := never.FindString(m.Subject + m.Preheader + m.Text); bad != "" {
			t.Errorf("%s says %q", name, bad)
		}
	}
}

func TestSimulationIsMarked(t *testing.T) {
	for _, l := range []Language{Indonesian, English} {
		word := l.pick("SIMULASI", "SIMULATION")
		for _, on := range []bool{true, false} {
			i, s, g := opened(l), spike(l), digest(l)
			i.Simulation, s.Simulation, g.Simulation = on, on, on
			for _, v := range []view{i, s, g} {
				m, err := v.Render()
				if err != nil {
					t.Fatal(err)
				}
				for part, text := range map[string]string{"subject": m.Subject, "preheader": m.Preheader, "text": m.Text, "html": words(t, m.HTML)} {
					if strings.Contains(text, word) != on {
						t.Errorf("simulation %v: %s of %T says %q: %v", on, part, v, word, !on)
					}
				}
			}
		}
	}
}

// Every colour that is written on a surface can be read there, light and dark.
func TestContrast(t *testing.T) {
	m, err := recovered(Indonesian).Render()
	if err != nil {
		t.Fatal(err)
	}
	css := styleSheet(m.HTML)
	dark := func(class, property string) string {
		_, rules, _ := strings.Cut(css, "prefers-color-scheme:dark")
		for _, rule := range regexp.MustCompile(`([^{}]+)\{([^{}]+)\}`).FindAllStringSubmatch(rules, -1) {
			if slices.Contains(strings.Split(strings.TrimSpace(rule[1]), ","), "."+class) {
				if hit := regexp.MustCompile(`(?:^|;)` + property + `:(#[0-9A-F]{6})`).FindStringSubmatch(rule[2]); hit != nil {
					return hit[1]
				}
			}
		}
		t.Fatalf("no dark %s of .%s", property, class)
		return ""
	}
	light := func(name string) string {
		hex, err := palette(name)
		if err != nil {
			t.Fatal(err)
		}
		return hex
	}
	for _, c := range []struct {
		what, fg, bg string
		least        float64
	}{
		{"ink on surface", light("ink"), light("surface"), 4.5}, {"ink on tint", light("ink"), light("tint"), 4.5}, {"muted on page", light("mute"), light("page"), 4.5},
		{"link on page", light("action"), light("page"), 4.5}, {"link on tint", light("action"), light("tint"), 4.5}, {"white on button", light("surface"), light("action"), 4.5},
		{"dark ink on surface", dark("ink", "color"), dark("card", "background"), 4.5}, {"dark ink on tint", dark("ink", "color"), dark("tint", "background"), 4.5},
		{"dark muted on page", dark("mute", "color"), dark("bg", "background"), 4.5}, {"dark link on tint", dark("lnk", "color"), dark("tint", "background"), 4.5},
		{"dark button", dark("btn", "color"), dark("btn", "background"), 4.5},
	} {
		if got := contrast(t, c.fg, c.bg); got < c.least {
			t.Errorf("%s: %.2f, below %.1f", c.what, got, c.least)
		}
	}
	for _, tone := range []tone{up, degraded, down, unknown, nowhere, usual} {
		for _, bg := range []string{light("surface"), light("page")} {
			if got := contrast(t, light(string(tone)), bg); got < 4.5 {
				t.Errorf("text %s on %s: %.2f", tone, bg, got)
			}
			if got := contrast(t, light("f-"+string(tone)), bg); got < 3 {
				t.Errorf("fill %s on %s: %.2f", tone, bg, got)
			}
		}
		if got := contrast(t, dark("c-"+string(tone), "color"), dark("card", "background")); got < 4.5 {
			t.Errorf("dark text %s: %.2f", tone, got)
		}
		if got := contrast(t, dark("f-"+string(tone), "background"), dark("card", "background")); got < 3 {
			t.Errorf("dark fill %s: %.2f", tone, got)
		}
	}
}

// contrast is that of WCAG 2.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(hex string) float64 {
		n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, w := range []float64{0.2126, 0.7152, 0.0722} {
			x := float64(n>>(16-8*i)&255) / 255
			if x <= 0.04045 {
				x /= 12.92
			} else {
				x = math.Pow((x+0.055)/1.055, 2.4)
			}
			sum += w * x
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestUnknownEvent(t *testing.T) {
	i := opened(Indonesian)
	i.Event = "closed"
	if _, err := i.Render(); err == nil || !strings.Contains(fmt.Sprint(err), `"closed"`) {
		t.Errorf("error is %v", err)
	}
}

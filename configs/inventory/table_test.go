package inventory

import (
	"bytes"
	"encoding/csv"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestSplitLine(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
		err  error
	}{
		{"", []string{""}, nil},
		{"a;b", []string{"a", "b"}, nil},
		{";", []string{"", ""}, nil},
		{`"a;b";c`, []string{"a;b", "c"}, nil},
		{`"Ja""an";`, []string{`Ja"an`, ""}, nil},
		{`Ja"an;b`, []string{`Ja"an`, "b"}, nil},
		{`""`, []string{""}, nil},
		{`""""`, []string{`"`}, nil},
		{`"a`, nil, errUnclosed},
		{`a;"b""`, nil, errUnclosed},
		{`"a"b;c`, nil, errAfter},
	} {
		got, wide, err := splitLine(c.line, ';', nil)
		if !errors.Is(err, c.err) || err == nil && !slices.Equal(got, c.want) || wide {
			t.Errorf("%q: %q, %v, %v", c.line, got, wide, err)
		}
	}
	got, wide, err := splitLine(strings.Repeat(";", 20000), ';', nil)
	if len(got) != maxColumns || wide || err != nil {
		t.Errorf("empty columns to the sheet's end: %d cells, %v, %v", len(got), wide, err)
	}
	if _, wide, _ := splitLine(strings.Repeat(";", 20000)+"x", ';', nil); !wide {
		t.Error("content far beyond the columns went unnoticed")
	}
}

func TestRowsAreBounded(t *testing.T) {
	var problems ledger
	tb := openTable("x.csv", "note\n"+strings.Repeat("a\n", maxRows+5), []column{{"note", false}}, &problems)
	rows := 0
	tb.each(func(*record) { rows++ })
	want := "x.csv:1000002: the file has more than 1000000 rows. Remove what does not belong in it"
	if got := problems.sorted().Error(); rows != maxRows || got != want {
		t.Errorf("%d rows; %s", rows, got)
	}
}

func TestNearest(t *testing.T) {
	candidates := []string{"site", "village", "valid_from", "valid_to", "population"}
	for in, want := range map[string]string{"vilage": "village", "valid_form": "valid_from", "valid_until": "valid_to", "from": "valid_from", "Site": "site", "populasi": "population"} {
		if got := meant(in, candidates); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// Whatever a file holds: no panic, bounded cells, and rows in order.
func FuzzTable(f *testing.F) {
	f.Add("site;name\n1;2\n")
	f.Add("\ufeffsite,name\r\n\"a\"\"b\",c\r\n,,,\r\n")
	f.Add("sep=;\nsite\tname\ra\tb\r")
	f.Add("site;name\n\"a\nb\";c\n")
	f.Add("site;;name\na;x;b")
	f.Add("site\xff;name\n\xe9;\x81")
	f.Fuzz(func(t *testing.T, text string) {
		var problems ledger
		tb := openTable("x.csv", text, []column{{"site", true}, {"name", false}}, &problems)
		if tb == nil {
			if len(problems.list) == 0 {
				t.Fatal("refused without a word")
			}
			return
		}
		last := tb.line
		tb.each(func(r *record) {
			if r.line <= last {
				t.Fatalf("row %d after row %d", r.line, last)
			}
			last = r.line
			if len(r.cells) > maxColumns {
				t.Fatalf("%d cells", len(r.cells))
			}
			if r.bad {
				return
			}
			for _, name := range []string{"site", "name"} {
				if c := r.cell(name); len(c) > maxCellBytes || unprintable(c) || c != trim(c) {
					t.Fatalf("%s is %q", name, c)
				}
			}
			if r.cell("site") == "" {
				t.Fatal("a needed cell is empty in a good row")
			}
		})
	})
}

// What encoding/csv writes, splitLine reads.
func FuzzSplitLine(f *testing.F) {
	f.Add("a", `b"c`, ";")
	f.Add("", " x", `"`)
	f.Fuzz(func(t *testing.T, a, b, c string) {
		want := []string{a, b, c}
		if strings.ContainsAny(a+b+c, "\r\n") {
			t.Skip("a line break inside a cell is refused")
		}
		var out bytes.Buffer
		w := csv.NewWriter(&out)
		w.Comma = ';'
		if err := w.Write(want); err != nil {
			t.Skip(err)
		}
		w.Flush()
		line, rest := cutLine(out.String())
		got, wide, err := splitLine(line, ';', nil)
		if err != nil || wide || rest != "" || !slices.Equal(got, want) {
			t.Fatalf("%q became %q, %v, %v", want, got, wide, err)
		}
	})
}

// A file of any content makes an inventory or Problems, nothing else.
func FuzzParse(f *testing.F) {
	valid := overlay(f, "testdata/valid")
	for name, b := range valid {
		f.Add(uint8(slices.Index(fileNames(), name)), b)
	}
	f.Add(uint8(2), []byte("node,type,parent,name,valid_from\nA,pop,B,a,2020-01-01\nB,pop,A,b,2020-01-01\n"))
	f.Fuzz(func(t *testing.T, which uint8, content []byte) {
		files := overlay(t, "testdata/valid")
		files[fileNames()[int(which)%len(fileNames())]] = content
		inv, err := Parse(files)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("error %v", err)
			}
			return
		}
		for _, when := range append(inv.boundaries, inv.boundaries[0].AddDate(-1, 0, 0)) {
			for _, s := range inv.Sites(when) {
				if _, ok := inv.VillageAt(s.Village, when); !ok {
					t.Fatalf("%s stands in no village at %v", s.ID, when)
				}
				if s.ISP.ID != "" && s.ISP.Name == "" {
					t.Fatalf("%s has no provider at %v", s.ID, when)
				}
				if s.ODP != "" && len(inv.Path(s.ODP, when)) == 0 {
					t.Fatalf("%s has no ODP at %v", s.ID, when)
				}
				inv.ReachTargets(s.ID, when)
			}
		}
	})
}

package demo

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tty is a terminal as far as the screen uses one: what is written onto it wraps at
// its width.
type tty struct {
	columns, rows int
	lines         [][]rune
	row, column   int
}

func (y *tty) size() (columns, rows int) { return y.columns, y.rows }

var sequence = regexp.MustCompile(`^\x1b\[([0-9;]*)([A-Za-z])`)

func (y *tty) Write(p []byte) (int, error) {
	for s := string(p); s != ""; {
		if m := sequence.FindStringSubmatch(s); m != nil {
			s = s[len(m[0]):]
			switch m[2] {
			case "A":
				n, _ := strconv.Atoi(m[1])
				y.row = max(y.row-n, len(y.lines)-y.rows, 0)
			case "J":
				y.lines = y.lines[:min(y.row+1, len(y.lines))]
				if y.row < len(y.lines) {
					y.lines[y.row] = y.lines[y.row][:min(y.column, len(y.lines[y.row]))]
				}
			case "m":
			default:
				panic("a sequence that this terminal does not know: " + m[0])
			}
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		switch r {
		case '\n':
			y.row, y.column = y.row+1, 0
		case '\r':
			y.column = 0
		default:
			y.put(r)
		}
	}
	return len(p), nil
}

func (y *tty) put(r rune) {
	if y.column == y.columns {
		y.row, y.column = y.row+1, 0
	}
	for len(y.lines) <= y.row {
		y.lines = append(y.lines, nil)
	}
	for len(y.lines[y.row]) <= y.column {
		y.lines[y.row] = append(y.lines[y.row], ' ')
	}
	y.lines[y.row][y.column] = r
	y.column++
}

func (y *tty) text() (out []string) {
	for _, l := range y.lines {
		out = append(out, strings.TrimRight(string(l), " "))
	}
	return out
}

func block(lines ...string) (out []text) {
	for _, l := range lines {
		out = append(out, text{l, "1"})
	}
	return out
}

func TestScreenKeepsLinesAboveTheBlock(t *testing.T) {
	y := &tty{columns: 20, rows: 10}
	s := &screen{out: y, size: y.size, colour: true}
	s.say("hello")
	s.show(block("one", "two", "three"))
	s.show(block("ONE", "a line that is far wider than this"))
	fmt.Fprint(y, "^C") // echoed
	s.say("something\nhappened")
	s.show(block("uno", "dos"))
	want := []string{"hello", "something", "happened", "uno", "dos"}
	if diff := cmp.Diff(want, y.text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	s.fix()
	s.say("bye")
	if diff := cmp.Diff(append(want, "bye"), y.text()); diff != "" {
		t.Errorf("after the end (-want +got):\n%s", diff)
	}
}

func TestScreenCutsWhatWouldWrap(t *testing.T) {
	y := &tty{columns: 8, rows: 10}
	s := &screen{out: y, size: y.size}
	s.show(block("12345678", "123456789", "ööööööööö"))
	if diff := cmp.Diff([]string{"12345678", "1234567…", "ööööööö…"}, y.text()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestScreenInAPipeIsPlain(t *testing.T) {
	var b strings.Builder
	s := &screen{out: &b}
	s.say("hello")
	s.show(block("one"))
	s.fix()
	s.say("bye")
	if got := b.String(); got != "hello\nbye\n" {
		t.Errorf("%q", got)
	}
}

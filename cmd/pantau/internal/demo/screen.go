package demo

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// screen is where people read: lines that stay, and on a terminal below them a
// block that is drawn over. It is safe for concurrent use.
type screen struct {
	out    io.Writer
	size   func() (columns, rows int) // nil: not a terminal, no block
	colour bool

	mu    sync.Mutex
	over  string // a line above the block; empty: none
	block []text
	drawn int // lines of the block on the terminal, above the cursor
	width int // width it was drawn for
}

// text is one line of the block.
type text struct {
	string
	style string // SGR parameters (ECMA-48); empty: none
}

func (s *screen) terminal() bool { return s.size != nil }

// say prints lines that stay.
func (s *screen) say(lines string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	s.erase(&b)
	b.WriteString(lines + "\n")
	s.draw(&b)
	io.WriteString(s.out, b.String())
}

// note puts a line above the block from its next drawing on; empty: none. In a pipe
// it is not seen.
func (s *screen) note(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = line
}

// show draws the block anew.
func (s *screen) show(block []text) {
	if !s.terminal() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block = block
	if s.over != "" {
		s.block = slices.Concat([]text{{s.over, "1"}}, block)
	}
	var b strings.Builder
	s.erase(&b)
	s.draw(&b)
	io.WriteString(s.out, b.String()) // at once, so that it does not flicker
}

// fix leaves the block where it is, as lines that stay.
func (s *screen) fix() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.block, s.drawn = nil, 0
}

// erase goes back to where the block began, from whatever column: a terminal
// echoes what is typed, ^C too. A terminal that became narrower has
// wrapped it: then it stays, and is drawn again below.
func (s *screen) erase(b *strings.Builder) {
	if s.drawn == 0 {
		return
	}
	if columns, _ := s.size(); columns >= s.width {
		fmt.Fprintf(b, "\r\x1b[%dA\x1b[J", s.drawn)
	}
	s.drawn = 0
}

// draw cuts every line to the terminal's width: one that wraps could not be drawn
// over.
func (s *screen) draw(b *strings.Builder) {
	if len(s.block) == 0 {
		return
	}
	columns, _ := s.size()
	for _, l := range s.block {
		line := cut(l.string, columns)
		if s.colour && l.style != "" {
			line = "\x1b[" + l.style + "m" + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
	}
	s.drawn, s.width = len(s.block), columns
}

// cut shortens a line to so many columns, and shows that it did. What is cut here
// has one column to a rune.
func cut(line string, columns int) string {
	r := []rune(line)
	if len(r) <= columns {
		return line
	}
	if columns < 1 {
		return ""
	}
	return string(r[:columns-1]) + "…"
}

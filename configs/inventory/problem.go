package inventory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxProblems is how many problems of one file are listed. The rest is counted.
const maxProblems = 1000

// Problem is one thing that is wrong with the content of a file, and what the
// person who edits it can do about it.
type Problem struct {
	File string
	// Row is the row in the spreadsheet, the header being 1; 0 speaks of the
	// whole file.
	Row    int
	What   string
	Remedy string
}

// String is one line: "sites.csv:12: what. remedy".
func (p Problem) String() string {
	if p.Row == 0 {
		return fmt.Sprintf("%s: %s. %s", p.File, p.What, p.Remedy)
	}
	return fmt.Sprintf("%s:%d: %s. %s", p.File, p.Row, p.What, p.Remedy)
}

// Problems is everything that is wrong with an inventory, by file and row.
type Problems []Problem

// Error is one line per problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// ledger gathers problems with bounded memory, however broken a file is.
type ledger struct {
	list  Problems
	count map[string]int // by file, listed or not
}

func (l *ledger) add(file string, row int, what, remedy string) {
	if l.count == nil {
		l.count = make(map[string]int)
	}
	l.count[file]++
	if l.count[file] <= maxProblems {
		l.list = append(l.list, Problem{file, row, what, remedy})
	}
}

// sorted returns all problems by file, row and text, or nil if there is none.
func (l *ledger) sorted() Problems {
	out := slices.Clone(l.list)
	for file, n := range l.count {
		if n > maxProblems {
			out = append(out, Problem{file, 0,
				fmt.Sprintf("only %d of %d problems are listed", maxProblems, n),
				"Correct these first, then check again"})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row),
			cmp.Compare(a.What, b.What), cmp.Compare(a.Remedy, b.Remedy))
	})
	return out
}

// quote shows a cell in a message: quoted, escaped, and not too long.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return fmt.Sprintf("%q", s)
}

// Package nearest finds what a person meant who mistyped a word of a known list.
package nearest

import "strings"

// longest is how much of a word is looked at, in bytes: what follows is no typing
// error.
const longest = 64

// Of returns the candidate with the fewest edits (Levenshtein) to word, and how
// many those are; of equals the first. One that contains word is one edit away.
// Without candidates it returns "".
func Of(word string, candidates []string) (best string, edits int) {
	word = word[:min(len(word), longest)]
	edits = -1
	for _, c := range candidates {
		n := distance(word, c)
		if len(word) > 2 && strings.Contains(c, word) {
			n = min(n, 1)
		}
		if edits < 0 || n < edits {
			best, edits = c, n
		}
	}
	return best, edits
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

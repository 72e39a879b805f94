// Package rank says what ordered figures tell without any assumption about their
// distribution.
package rank

import (
	"math"
	"slices"
)

// Enough is the smallest n of which a median is shown: of fewer, no two ranks
// enclose the true one with 95%.
const Enough = 6

// Quantile is the q-quantile (0 to 1) of sorted figures, linear between ranks.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	rank := q * float64(len(sorted)-1)
	low := int(math.Floor(rank))
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (sorted[low+1]-sorted[low])*(rank-float64(low))
}

// Sorted returns a sorted copy.
func Sorted(xs []float64) []float64 {
	out := slices.Clone(xs)
	slices.Sort(out)
	return out
}

// MedianRanks are the ranks, from 1, of the two of n ordered figures that
// enclose the true median with a confidence of at least 95%, without any
// assumption about the distribution: the number of figures below the median is
// binomial (n, 1/2). ok is false if n is too small for it.
func MedianRanks(n int) (low, high int, ok bool) {
	// Sum of the lower tail in logarithms: 2^-n is no float64 for large n.
	logFactorial := func(k int) float64 { l, _ := math.Lgamma(float64(k) + 1); return l }
	tail := 0.0
	for k := 0; k <= n/2; k++ {
		tail += math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) - float64(n)*math.Ln2)
		if tail > 0.025 {
			return k, n + 1 - k, k > 0
		}
	}
	return 0, 0, false
}

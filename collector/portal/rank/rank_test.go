package rank

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestMedianRanks(t *testing.T) {
	for _, c := range []struct {
		n, low, high int
		ok           bool
	}{
		{0, 0, 0, false}, {1, 0, 0, false}, {5, 0, 0, false},
		{6, 1, 6, true}, {8, 1, 8, true}, {9, 2, 8, true}, {10, 2, 9, true},
		{20, 6, 15, true}, {30, 10, 21, true}, {60, 22, 39, true}, {90, 36, 55, true},
	} {
		low, high, ok := MedianRanks(c.n)
		if ok != c.ok || ok && (low != c.low || high != c.high) {
			t.Errorf("n = %d: ranks %d, %d, %v; want %d, %d, %v", c.n, low, high, ok, c.low, c.high, c.ok)
		}
	}
	if low, high, ok := MedianRanks(43200); !ok || low < 21300 || low > 21500 || high != 43201-low {
		t.Errorf("a month of minutes: %d, %d, %v", low, high, ok)
	}
}

// The interval holds what it promises: it misses the true median in at most 5%
// of the cases, for a lopsided distribution as well.
func TestMedianRanksCover(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{6, 7, 11, 24, 60} {
		low, high, _ := MedianRanks(n)
		const rounds = 4000
		missed := 0
		for range rounds {
			xs := make([]float64, n)
			for i := range xs {
				xs[i] = r.ExpFloat64()
			}
			xs = Sorted(xs)
			if xs[low-1] > math.Ln2 || xs[high-1] < math.Ln2 {
				missed++
			}
		}
		if share := float64(missed) / rounds; share > 0.06 {
			t.Errorf("n = %d: missed the median in %.1f%%", n, share*100)
		}
	}
}

func TestQuantile(t *testing.T) {
	xs := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4} {
		if got := Quantile(xs, q); got != want {
			t.Errorf("quantile(%v) = %v, want %v", q, got, want)
		}
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

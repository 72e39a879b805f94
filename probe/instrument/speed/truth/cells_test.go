package truth

import "testing"

// The list says of each cell what the calculation says, and has each cell once.
func TestCellsAreWhatTheyWereCalculatedToBe(t *testing.T) {
	cells, err := Cells()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range cells {
		if seen[c.String()] {
			t.Errorf("%s is there twice", c)
		}
		seen[c.String()] = true
		if got := c.calculate(c.Down); got != c.FillsDown {
			t.Errorf("%s: down %s, calculated %s", c, c.FillsDown, got)
		}
		if got := c.calculate(c.Up); got != c.FillsUp {
			t.Errorf("%s: up %s, calculated %s", c, c.FillsUp, got)
		}
		switch c.Shape {
		case Plain, Burst, Policer, Halved, Doubled, Proxy:
		default:
			t.Errorf("%s: no such shape", c)
		}
	}
	if len(cells) < 70 {
		t.Errorf("%d cells, want 70 at least", len(cells))
	}
}

package clock

import (
	"testing"
	"time"
)

func TestClocksAgreeWithThemselves(t *testing.T) {
	s, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	a := s.Now()
	time.Sleep(20 * time.Millisecond)
	b := s.Now()
	if a.Boot != b.Boot || len(a.Boot) != 36 {
		t.Errorf("boots %q and %q", a.Boot, b.Boot)
	}
	mono, wall := b.Mono-a.Mono, b.Wall.Sub(a.Wall)
	if mono < 20*time.Millisecond || mono > 5*time.Second {
		t.Errorf("20 ms are %v on the monotonic clock", mono)
	}
	if d := (mono - wall).Abs(); d > 500*time.Millisecond {
		t.Errorf("wall and monotonic clock are %v apart after 20 ms", d)
	}
	if a.Wall != a.Wall.Round(0) {
		t.Error("the wall time carries Go's own monotonic reading")
	}
}

package ledger

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func open(t *testing.T, file string) *Ledger {
	t.Helper()
	l, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What was written is there after the file is opened again.
func TestKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "told.db")
	l := open(t, file)
	if _, ok, err := l.Seq(); ok || err != nil {
		t.Errorf("a new ledger has a number: %v, %v", ok, err)
	}
	must(t, l.Start(3))
	now := time.Date(2026, 7, 21, 0, 0, 0, 0, time.UTC)
	must(t, l.Settle(Settled{Seq: 7, At: now, Incident: "G-1", Villages: []string{"a", "b"}, Muted: []Muted{{Event: "G-1/opened", Silences: []string{"x"}, At: now}}}))
	e, err := l.Begin(Episode{Key: "quality 33.10", Kind: "quality", Findings: []Finding{{Labels: map[string]string{"village": "a"}}}}, "A-3310-260721-")
	must(t, err)
	must(t, l.SumUp("33.10", "2026-07-20"))
	if _, err := Open(file); !errors.Is(err, ErrBusy) {
		t.Errorf("a second process: %v", err)
	}
	must(t, l.Close())
	l = open(t, file)
	if seq, ok, err := l.Seq(); seq != 7 || !ok || err != nil {
		t.Errorf("Seq: %d, %v, %v", seq, ok, err)
	}
	if v, err := l.Villages("G-1"); !slices.Equal(v, []string{"a", "b"}) || err != nil {
		t.Errorf("Villages: %v, %v", v, err)
	}
	if v, err := l.Villages("G-2"); v != nil || err != nil {
		t.Errorf("Villages of another: %v, %v", v, err)
	}
	if m, err := l.Muted(5); len(m) != 1 || m[0].Event != "G-1/opened" || err != nil {
		t.Errorf("Muted: %v, %v", m, err)
	}
	got, ok, err := l.Episode("quality 33.10")
	if !ok || err != nil || got.ID != "A-3310-260721-01" || e.ID != got.ID || got.Findings[0].Labels["village"] != "a" {
		t.Errorf("Episode: %+v, %v, %v", got, ok, err)
	}
	if w, err := l.Week("33.10"); w != "2026-07-20" || err != nil {
		t.Errorf("Week: %s, %v", w, err)
	}
	got.Step = 2
	must(t, l.Keep(got))
	if all, err := l.Episodes(); len(all) != 1 || all[0].Step != 2 || err != nil {
		t.Errorf("Episodes: %+v, %v", all, err)
	}
	must(t, l.End("quality 33.10"))
	must(t, l.End("quality 33.10"))
	next, err := l.Begin(Episode{Key: "quality 33.10"}, "A-3310-260721-")
	if next.ID != "A-3310-260721-02" || err != nil {
		t.Errorf("the next: %s, %v", next.ID, err)
	}
}

func TestBounds(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "told.db"))
	now := time.Date(2026, 7, 21, 0, 0, 0, 0, time.UTC)
	for range 3 {
		var many []Muted
		for range 300 {
			many = append(many, Muted{Event: "e"})
		}
		must(t, l.Settle(Settled{Seq: 1, At: now, Incident: "old", Muted: many}))
	}
	if m, err := l.Muted(10_000); len(m) != keepMuted || err != nil {
		t.Errorf("%d muted, %v", len(m), err)
	}
	must(t, l.Settle(Settled{Seq: 2, At: now.Add(80 * 24 * time.Hour), Incident: "new", Villages: []string{"a"}}))
	must(t, l.Forget(now.Add(91*24*time.Hour)))
	if v, err := l.Villages("new"); len(v) != 1 || err != nil {
		t.Errorf("the new one is forgotten: %v", err)
	}
}

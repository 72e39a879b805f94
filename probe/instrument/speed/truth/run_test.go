package truth

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
	"github.com/pantau-desa/pantau/probe/target"
)

// The test binary plays the program that Options name.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != "tool" && os.Args[1] != "serve" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Args[1] == "serve" {
		if t, err := target.New(target.Options{Addr: os.Args[3]}); err == nil {
			t.Run(ctx)
		}
		return
	}
	a, err := RunPantau(ctx, os.Args[4], measure.Kind(os.Args[6]), false, "")
	if err != nil {
		a.Detail = err.Error()
	}
	json.NewEncoder(os.Stdout).Encode(a)
}

// A few cells, with delay and loss: one that is right, one that says that it cannot
// be filled. Lines that the kernel shapes are in the tests of the box.
func TestSomeCells(t *testing.T) {
	if testing.Short() {
		t.Skip("measures in real time")
	}
	lab, err := netlab.New(netlab.Options{Name: "truth"})
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	lab.Close()
	dir := t.TempDir()
	var said strings.Builder
	o := Options{Dir: dir, Program: os.Args[0], Tools: []Tool{Pantau}, Attempts: 2, Log: &said,
		Cells: regexp.MustCompile(`^(10-10-60-0.5-plain|50-50-60-2-plain)$`)}
	err = Run(t.Context(), o)
	t.Log(said.String())
	if err != nil && !strings.Contains(err.Error(), "unsound") {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "truth.json"))
	if err != nil {
		t.Fatal(err)
	}
	var rows []Row
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 {
		t.Errorf("%d rows, want 4", len(rows))
	}
	for _, r := range rows {
		// Twice the tolerance of the table: one row may be unlucky here, and the table
		// says how many were.
		good := math.Abs(r.Error) <= 2*tolerance
		if r.Fills == No {
			good = r.flagged() && r.Measured > 0 && r.Error < 0 || math.Abs(r.Error) <= tolerance
		}
		if r.Sound && (!good || r.Bytes == 0 || r.CPU == 0) {
			t.Errorf("%s: %+v", r.line(), r)
		}
	}
	page, err := os.ReadFile(filepath.Join(dir, "truth.md"))
	if err != nil || !strings.Contains(string(page), "50-50-60-2-plain") {
		t.Errorf("%v\n%s", err, page)
	}

	// What is sound is kept.
	sound := slices.ContainsFunc(rows, func(r Row) bool { return r.Sound })
	said.Reset()
	o.Cells = regexp.MustCompile(`^none$`)
	if err := Run(t.Context(), o); err != nil && !strings.Contains(err.Error(), "unsound") {
		t.Error(err)
	}
	again, err := os.ReadFile(filepath.Join(dir, "truth.json"))
	if err != nil || sound && string(again) != string(text) {
		t.Errorf("%v: a run of nothing changed the table", err)
	}
}

// What each sort of cell must show.
func TestHolds(t *testing.T) {
	flag := []measure.Flag{"not_saturated"}
	for _, tt := range []struct {
		r    Row
		want bool
	}{
		{Row{Fills: Yes, Measured: 1, Error: 0.04}, true},
		{Row{Fills: Yes, Measured: 1, Error: -0.06}, false},
		{Row{Fills: Yes, Measured: 1, Error: -0.06, Flags: flag}, false},
		{Row{Fills: No, Measured: 1, Error: -0.5}, false},
		{Row{Fills: No, Measured: 1, Error: -0.5, Flags: flag}, true},
		{Row{Fills: Edge, Measured: 1, Error: -0.2}, false},
		{Row{Fills: Edge, Measured: 1, Error: -0.2, Flags: flag}, true},
		{Row{Fills: Edge, Measured: 1, Error: -0.02}, true},
	} {
		if got := tt.r.holds(); got != tt.want {
			t.Errorf("%+v: %v", tt.r, got)
		}
	}
}

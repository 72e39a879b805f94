package maintenance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/series/seriestest"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

var noon = time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC)

func window(scope string, from, to time.Duration) Window {
	return Window{Scope: scope, From: noon.Add(from), To: noon.Add(to), Author: "Diskominfo", Reason: "Penggantian ODP"}
}

func TestScopes(t *testing.T) {
	inv := seriestest.Inventory(t)
	all := []measure.SiteID{"site-a", "site-b", "site-c"}
	for scope, want := range map[string][]measure.SiteID{
		"33": all, "33.10": all, "33.10.15": all, "33.10.15.2009": {"site-a", "site-b"}, "site-c": {"site-c"}, "odp-1": all, "olt-1": all,
	} {
		c, err := Open(filepath.Join(t.TempDir(), "maintenance.json"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Add(window(scope, 0, time.Hour), inv, noon); err != nil {
			t.Fatalf("%s: %v", scope, err)
		}
		for at, on := range map[time.Time]bool{noon: true, noon.Add(59 * time.Minute): true, noon.Add(time.Hour): false, noon.Add(-time.Second): false} {
			covered := c.Covered(inv, at)
			for _, s := range all {
				site, _ := inv.Site(s, at)
				if got := covered(site); got != (on && contains(want, s)) {
					t.Errorf("%s at %v: %s is covered: %v", scope, at, s, got)
				}
			}
		}
	}
}

func contains(list []measure.SiteID, s measure.SiteID) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestRefuses(t *testing.T) {
	inv := seriestest.Inventory(t)
	c, err := Open(filepath.Join(t.TempDir(), "maintenance.json"))
	if err != nil {
		t.Fatal(err)
	}
	long := window("33.10", 0, 32*24*time.Hour)
	nobody, lines := window("33.10", 0, time.Hour), window("33.10", 0, time.Hour)
	nobody.Author, lines.Reason = " ", "a\nb"
	for want, w := range map[string]Window{
		`knows no region, site or node "33.1"`: window("33.1", 0, time.Hour),
		`knows no region, site or node ""`:     window("", 0, time.Hour),
		"before it begins":                     window("33.10", time.Hour, time.Hour),
		"longer than 31 days":                  long,
		"author and reason are needed":         nobody,
		"on one line":                          lines,
	} {
		if _, err := c.Add(w, inv, noon); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := os.Stat(c.path); !errors.Is(err, os.ErrNotExist) {
		t.Error("a refused window reached the disk")
	}
}

// Windows survive a restart; ids are never used twice; the past is not rewritten.
func TestKept(t *testing.T) {
	inv := seriestest.Inventory(t)
	path := filepath.Join(t.TempDir(), "maintenance.json")
	open := func() *Calendar {
		c, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := open()
	past, err := c.Add(window("33.10", -time.Hour, time.Hour), inv, noon)
	if err != nil || !past.From.Equal(noon) {
		t.Fatalf("%v, from %v: what is past cannot be announced", err, past.From)
	}
	future, err := c.Add(window("site-a", 24*time.Hour, 25*time.Hour), inv, noon)
	if err != nil {
		t.Fatal(err)
	}
	c = open()
	if got := c.List(noon); len(got) != 2 || got[0] != past || got[1] != future {
		t.Fatalf("%+v", got)
	}
	if err := c.End(past.ID, noon.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := c.End(future.ID, noon.Add(11*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := c.End(past.ID, noon.Add(12*time.Minute)); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	c = open()
	if c.Covered(inv, noon.Add(9*time.Minute))(site(inv)) != true || c.Covered(inv, noon.Add(10*time.Minute))(site(inv)) {
		t.Error("an ended window does not cover just the time before its end")
	}
	if c.Covered(inv, noon.Add(24*time.Hour))(site(inv)) {
		t.Error("a window that was called off covers something")
	}
	next, err := c.Add(window("33.10", 0, time.Hour), inv, noon)
	if err != nil || next.ID != future.ID+1 {
		t.Errorf("id %d, %v", next.ID, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "mend it") {
		t.Error(err)
	}
}

func site(inv *inventory.Inventory) inventory.Site {
	s, _ := inv.Site("site-a", noon.Add(-24*time.Hour*10))
	return s
}

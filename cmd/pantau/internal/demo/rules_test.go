package demo

import (
	"regexp"
	"testing"

	"github.com/pantau-desa/pantau/alerts/rules"
)

// The demo's rules are the built-in ones at another pace, and nothing in them
// takes the pace of the field for granted.
func TestRulesOfTheDemo(t *testing.T) {
	dir := t.TempDir()
	if err := writeRules(dir); err != nil {
		t.Fatal(err)
	}
	files, err := rules.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	if err := rules.Check(rules.Overlay(files)); err != nil {
		t.Error(err)
	}
	for _, slow := range regexp.MustCompile(`[^\n]*(for: 15m|rate\([a-z_]+\[5m\]|state\[15m\]|15 menit|15 minutes)[^\n]*`).FindAllString(string(files[capacityFile]), -1) {
		t.Errorf("as slow as in the field: %s", slow)
	}
}

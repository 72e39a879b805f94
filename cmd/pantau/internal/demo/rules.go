package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pantau-desa/pantau/alerts/rules"
)

const capacityFile = "capacity.yml"

// capacityPace makes the rule of full lines as quick as the demo is: of minutes
// instead of quarters of an hour, and with a memory that does not reach back to
// before the villages were first seen.
func capacityPace() [][2]string {
	return [][2]string{
		// The demo's probes push every 15 seconds what they measured.
		{"interval: 1m", "interval: 15s\n    query_offset: 40s"},
		{"_bytes_total[5m]", "_bytes_total[1m]"},
		{"pantau_village_state[15m]", "pantau_village_state[2m]"},
		{" for: 15m", " for: 30s"},
		{"keep_firing_for: 15m", "keep_firing_for: 1m"},
		{"for 15 minutes.", "for 30 seconds."},
		{"selama 15 menit.", "selama 30 detik."},
	}
}

// writeRules writes the rules that differ from the built-in ones into dir.
func writeRules(dir string) error {
	text := string(rules.Files()[capacityFile])
	for _, p := range capacityPace() {
		if !strings.Contains(text, p[0]) {
			return fmt.Errorf("the demo's pace: %s has no %q", capacityFile, p[0])
		}
		text = strings.ReplaceAll(text, p[0], p[1])
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, capacityFile), []byte(text), 0o644)
}

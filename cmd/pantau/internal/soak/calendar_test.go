package soak

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A budget is of a month, and shows what it is worth where the month ends: the
// probe's is moved, so that one ends during the soak. For that one constant is not
// as shipped, the zone in which its months begin.
const (
	calendarFile = "probe/budget/plan.go"
	asShipped    = `time.FixedZone("UTC+7", 7*60*60)`
	asMoved      = `func() *time.Location { s, _ := soakconv.Atoi(soakos.Getenv("` + eastVariable + `")); return time.FixedZone("soak", s) }()`
	moreImports  = "import (\n\tsoakos \"os\"\n\tsoakconv \"strconv\"\n"

	eastVariable = "PANTAU_SOAK_EAST" // of UTC, in seconds
)

// buildProbe builds the probe as it is shipped, but for its calendar.
func buildProbe(out string) error {
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	file := filepath.Join(strings.TrimSpace(string(top)), calendarFile)
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	source := string(raw)
	for was, becomes := range map[string]string{asShipped: asMoved, "import (\n": moreImports} {
		if strings.Count(source, was) != 1 {
			return fmt.Errorf("%s does not hold %q once: where do its months begin?", calendarFile, was)
		}
		source = strings.Replace(source, was, becomes, 1)
	}
	if err := os.WriteFile(folder("calendar.go"), []byte(source), 0o600); err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{file: folder("calendar.go")}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(folder("overlay.json"), overlay, 0o600); err != nil {
		return err
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-overlay", folder("overlay.json"), "-o", out, module+"cmd/pantau-probe")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, said)
	}
	return nil
}

// month is a month as the probe's account has it.
type month struct {
	from, to time.Time
	east     time.Duration // of UTC
}

// monthUntil is the month that ends at an instant.
func monthUntil(end time.Time) month {
	y, m, _ := end.UTC().Date()
	from, to := time.Date(y, m, 1, 0, 0, 0, 0, time.UTC), time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)
	east := to.Sub(end).Truncate(time.Second)
	return month{from.Add(-east), to.Add(-east), east}
}

func (m month) variable() string { return eastVariable + "=" + strconv.Itoa(int(m.east.Seconds())) }

// budget is that of which so many bytes are left at an instant if it is spent
// evenly, in gigabytes.
func (m month) budget(left float64, at time.Time) float64 {
	return left * float64(m.to.Sub(m.from)) / float64(m.to.Sub(at)) / 1e9
}

func TestMonthIsMoved(t *testing.T) {
	end := time.Date(2026, 2, 14, 7, 0, 0, 0, time.UTC)
	m := monthUntil(end)
	zone := time.FixedZone("", int(m.east.Seconds()))
	if !m.to.Equal(end) || m.to.In(zone) != time.Date(2026, 3, 1, 0, 0, 0, 0, zone) || m.from.In(zone) != time.Date(2026, 2, 1, 0, 0, 0, 0, zone) {
		t.Errorf("%+v", m)
	}
	if got := m.budget(1e9, end.Add(-time.Hour)); got != 28*24 {
		t.Errorf("1 GB for the last hour is %v GB in a month", got)
	}
}

package demo

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/collector/state"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)

// example is a table with a village of every kind among its first.
func example(n int) table {
	t := table{elapsed: 4*time.Minute + 5*time.Second, now: noon, silent: 30 * time.Second,
		cut: "ip -n pantau-1234567-odcK link set drop-# down"}
	for i := range n {
		v := VillageReport{Name: fmt.Sprintf("Desa %d", i+1), State: "up", ShapedDownload: 38.16e6, ShapedUpload: 19.03e6,
			MedianDownload: 36.4e6, MedianUpload: 18.2e6, Tests: 3, LatencySeconds: 0.0003, ReachResults: 16, UsageBytesReceived: 1.94e6,
			usage: true, latency: true, reach: true, number: i + 1, odc: i / 3,
			state: villageState{State: state.Up, Since: noon.Add(-4 * time.Minute), Beat: noon.Add(-3 * time.Second)}}
		switch i {
		case 1:
			v.State, v.state.Since, v.state.Beat = "down", noon.Add(-3*time.Minute), noon.Add(-3*time.Minute)
		case 2:
			v.Name, v.ReachMissing = "Lumbung Kerep Wetan", 12
			v.state.Beat = noon.Add(-95 * time.Second)
		case 3:
			v.State, v.MedianDownload, v.MedianUpload, v.Tests, v.ReachResults = "never_seen", 0, 0, 0, 0
			v.usage, v.latency, v.reach, v.state.Beat = false, false, false, time.Time{}
		}
		t.villages = append(t.villages, v)
	}
	return t
}

func plain(lines []text) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.string + "\n")
	}
	return b.String()
}

func TestTable(t *testing.T) {
	for _, c := range []struct {
		columns int
		want    string
	}{
		{80, `
after 4m5s   4 up   1 down   1 never_seen
#  ODC  VILLAGE         STATE          SINCE  HEARD     DOWNLOAD       UPLOAD
1    1  Desa 1          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2
2    1  Desa 2          down        11:57:00  180 s  36.4 / 36.5  18.2 / 18.2
3    1  Lumbung Kerep…  up          11:56:00   95 s  36.4 / 36.5  18.2 / 18.2
4    2  Desa 4          never_seen  11:56:00      -     - / 36.5     - / 18.2
5    2  Desa 5          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2
6    2  Desa 6          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2
Mbit/s: median measured / payload that the line carries. Ctrl-C ends.
cut  ip -n pantau-1234567-odcK link set drop-# down
     #: village, K: its ODC. Mend: up. Whole ODC: uplink for drop-#.
`}, {120, `
after 4m5s   4 up   1 down   1 never_seen
#  ODC  VILLAGE         STATE          SINCE  HEARD     DOWNLOAD       UPLOAD  TESTS  LATENCY    USED           REACH
1    1  Desa 1          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2      3   0.3 ms  1.9 MB              16
2    1  Desa 2          down        11:57:00  180 s  36.4 / 36.5  18.2 / 18.2      3   0.3 ms  1.9 MB              16
3    1  Lumbung Kerep…  up          11:56:00   95 s  36.4 / 36.5  18.2 / 18.2      3   0.3 ms  1.9 MB  16, 12 missing
4    2  Desa 4          never_seen  11:56:00      -     - / 36.5     - / 18.2      0        -       -               -
5    2  Desa 5          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2      3   0.3 ms  1.9 MB              16
6    2  Desa 6          up          11:56:00    3 s  36.4 / 36.5  18.2 / 18.2      3   0.3 ms  1.9 MB              16
Mbit/s: median measured / payload that the line carries. Ctrl-C ends.
cut  ip -n pantau-1234567-odcK link set drop-# down
     #: village, K: its ODC. Mend: up. Whole ODC: uplink for drop-#.
`}} {
		if diff := cmp.Diff(c.want[1:], plain(example(6).draw(c.columns, 40))); diff != "" {
			t.Errorf("at %d columns (-want +got):\n%s", c.columns, diff)
		}
	}
}

func TestTableFitsEveryTerminal(t *testing.T) {
	for _, villages := range []int{1, 6, 40} {
		for columns := 72; columns <= 200; columns++ {
			for _, l := range example(villages).draw(columns, 60) {
				if n := utf8.RuneCountInString(l.string); n > columns {
					t.Fatalf("%d villages: %d columns on a terminal of %d: %s", villages, n, columns, l.string)
				}
			}
		}
	}
	for rows := 10; rows <= 60; rows++ {
		got := example(40).draw(80, rows)
		if len(got) >= rows {
			t.Fatalf("%d rows on a terminal of %d", len(got), rows)
		}
		said := plain(got)
		for _, name := range []string{"Desa 2 ", "Desa 4 "} {
			if !strings.Contains(said, name) {
				t.Errorf("%d rows: %sis in trouble and not shown:\n%s", rows, name, said)
			}
		}
		if hidden := !strings.Contains(said, "Desa 40"); hidden != strings.Contains(said, "more: see the page") {
			t.Errorf("%d rows: hides without saying so, or says so in vain:\n%s", rows, said)
		}
	}
}

func TestTableMarksTrouble(t *testing.T) {
	var styles []string
	for _, l := range example(6).draw(80, 40)[2:8] {
		styles = append(styles, l.style)
	}
	if want := []string{"", "1;31", "33", "2", "", ""}; !slices.Equal(styles, want) {
		t.Errorf("%q, want %q", styles, want)
	}
}

func TestTellerTellsChanges(t *testing.T) {
	v := func(s state.State) []villageState {
		return []villageState{{place: place{Code: "1", Name: "Bener"}, State: s, At: noon, Since: noon.Add(-170 * time.Second)}}
	}
	var heard teller
	var got []string
	for _, s := range []state.State{state.NeverSeen, state.Up, state.Up, state.Down, state.Down, state.Up, state.Degraded} {
		got = append(got, heard.changes(v(s))...)
	}
	want := []string{
		"12:00:00  Bener is down, was up: silent since 11:57:10",
		"12:00:00  Bener is up, was down",
		"12:00:00  Bener is degraded, was up",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

package truth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/measure"
)

// tolerance is how far from the truth a figure may be.
const tolerance = 0.05

// line is a row for people.
func (r Row) line() string {
	verdict := fmt.Sprintf("%+6.1f%%", r.Error*100)
	if r.Measured == 0 {
		verdict = "failed (" + r.Reason + ")"
	}
	if !r.Sound {
		verdict += " unsound: " + r.Unsound
	}
	return fmt.Sprintf("%-12s %-24s %-8s %-4s %s  %.1f MB %.1f s  %s", r.Tool, r.Cell, r.Direction, r.Fills, verdict,
		float64(r.Bytes)/1e6, r.Seconds, flags(r.Flags))
}

func flags(fs []measure.Flag) string {
	var s []string
	for _, f := range fs {
		if !strings.Contains(string(f), "_cc_") {
			s = append(s, string(f))
		}
	}
	return strings.Join(s, " ")
}

// flagged reports whether the tool itself says that it did not fill the line.
func (r Row) flagged() bool { return slices.Contains(r.Flags, "not_saturated") || r.Measured == 0 }

// holds reports whether the row is as it must be: right where the line can be
// filled, flagged where it cannot, one or the other at the edge.
func (r Row) holds() bool {
	right := math.Abs(r.Error) <= tolerance
	switch r.Fills {
	case Yes:
		return right
	case No:
		return r.flagged()
	}
	return right || r.flagged()
}

// write writes truth.json and truth.md.
func write(dir string, cells []Cell, byKey map[string]Row) error {
	order := make(map[string]int)
	for i, c := range cells {
		order[c.String()] = i
	}
	rows := make([]Row, 0, len(byKey))
	for _, r := range byKey {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(order[a.Cell], order[b.Cell]), cmp.Compare(a.Direction, b.Direction),
			cmp.Compare(slices.Index(Tools(), a.Tool), slices.Index(Tools(), b.Tool)))
	})
	lines := make([]string, len(rows)) // one row a line, so that two runs can be compared
	for i, r := range rows {
		text, err := json.Marshal(r)
		if err != nil {
			return err
		}
		lines[i] = string(text)
	}
	text := "[\n" + strings.Join(lines, ",\n") + "\n]\n"
	if err := os.WriteFile(filepath.Join(dir, "truth.json"), []byte(text), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "truth.md"), []byte(page(rows)), 0o644)
}

// page is the table for people.
func page(rows []Row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Truth table\n\n%s, %s. Truth is the payload that the line carried: rate of Ethernet frames x 1448/1514.\n"+
		"Within %.0f%% is right. A cell says beforehand whether 16 streams can fill it (cells.csv), by calculation, which is of a steady\n"+
		"state: what cannot be filled for long may be for the first seconds. Medians are of sound rows; bytes are both ways, of layer 2.\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), machine(), tolerance*100)
	b.WriteString("| tool | rows | unsound | failed | fillable: right | median error | 90% within | not fillable: flagged, right all the same, neither | edge: right or flagged | median MB | of a full 15 s | median s | median CPU, s |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, tool := range Tools() {
		var of []Row
		for _, r := range rows {
			if r.Tool == tool {
				of = append(of, r)
			}
		}
		if len(of) > 0 {
			fmt.Fprintln(&b, summary(tool, of))
		}
	}
	b.WriteString("\nErrors in %; (!) = the tool itself says that it did not fill the line; ~ = the machine was too busy for the cell; x = it failed; blank = not\n" +
		"run. iperf3: eight streams, ten seconds, the first two left out. speedtest-go: as it comes, its own figure.\n\n")
	b.WriteString("| cell: down-up-rtt-loss-shape | direction | fills | truth, Mbps |")
	for _, tool := range Tools() {
		fmt.Fprintf(&b, " %s |", tool)
	}
	b.WriteString(" pantau: MB | s | CPU, s | idle / loaded, ms | flags |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := 0; i < len(rows); {
		first := rows[i]
		of := map[Tool]Row{}
		for ; i < len(rows) && rows[i].Cell == first.Cell && rows[i].Direction == first.Direction; i++ {
			of[rows[i].Tool] = rows[i]
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f |", first.Cell, first.Direction, first.Fills, first.Truth/1e6)
		for _, tool := range Tools() {
			fmt.Fprintf(&b, " %s |", cell(of, tool))
		}
		if r, ok := of[Pantau]; ok {
			fmt.Fprintf(&b, " %.1f | %.1f | %.2f | %.0f / %.0f | %s |\n", float64(r.Bytes)/1e6, r.Seconds, r.CPU, r.Idle*1e3, r.Loaded*1e3, flags(r.Flags))
		} else {
			b.WriteString(" | | | | |\n")
		}
	}
	return b.String()
}

// machine is what the lines and the tools ran on.
func machine() string {
	kernel := "an unknown kernel"
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		version, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
		kernel = "Linux " + version
	}
	return fmt.Sprintf("%d processors, %s, %s", runtime.NumCPU(), runtime.GOARCH, kernel)
}

func cell(of map[Tool]Row, tool Tool) string {
	r, ok := of[tool]
	switch {
	case !ok:
		return ""
	case r.Measured == 0:
		return "x " + r.Reason
	}
	s := fmt.Sprintf("%+.1f", r.Error*100)
	if r.flagged() {
		s += " (!)"
	}
	if !r.Sound {
		s = "~ " + s
	}
	return s
}

func summary(tool Tool, rows []Row) string {
	var unsound, failed, right, filled, flaggedNo, rightNo, no, edgeGood, edge int
	var errs, bytes, shares, seconds, cpu []float64
	for _, r := range rows {
		if !r.Sound {
			unsound++
			continue
		}
		if r.Measured == 0 {
			failed++
		}
		bytes, seconds, cpu = append(bytes, float64(r.Bytes)/1e6), append(seconds, r.Seconds), append(cpu, r.CPU)
		shares = append(shares, float64(r.Bytes)/(r.RateBPS/8*15)*100)
		switch r.Fills {
		case Yes:
			filled++
			errs = append(errs, math.Abs(r.Error)*100)
			if r.holds() {
				right++
			}
		case No:
			no++
			if r.holds() {
				flaggedNo++
			} else if math.Abs(r.Error) <= tolerance {
				rightNo++
			}
		default:
			edge++
			if r.holds() {
				edgeGood++
			}
		}
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %d of %d (%.0f%%) | %.1f%% | %.1f%% | %d, %d, %d of %d | %d of %d | %.1f | %.0f%% | %.1f | %.2f |", tool, len(rows), unsound, failed,
		right, filled, 100*float64(right)/float64(max(filled, 1)), quantile(errs, 0.5), quantile(errs, 0.9), flaggedNo, rightNo, no-flaggedNo-rightNo, no, edgeGood, edge,
		quantile(bytes, 0.5), quantile(shares, 0.5), quantile(seconds, 0.5), quantile(cpu, 0.5))
}

func quantile(v []float64, q float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// soundEnough fails a run of which more than a tenth is unsound.
func soundEnough(rows map[string]Row) error {
	unsound := 0
	for _, r := range rows {
		if !r.Sound {
			unsound++
		}
	}
	if unsound*10 > len(rows) {
		return fmt.Errorf("%d of %d rows are unsound: this machine was too busy; run it again, what is sound is kept", unsound, len(rows))
	}
	return nil
}

// Package truth holds instruments against lines whose rate is known: a list of
// cells, fixed beforehand, in which each tool measures each direction, and a
// table of what it said beside what the line carried.
//
// It guarantees that a cell in which the machine itself was too busy to be a
// line is marked unsound, that every cell that was run is in the table, failures
// included, and that a run that was broken off goes on where it ended.
package truth

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/netlab"
)

//go:embed cells.csv
var cellsCSV string

// Shape is what a line does beyond rate, delay and independent loss.
type Shape string

// The shapes; cells.csv says what each is.
const (
	Plain   Shape = "plain"
	Burst   Shape = "burst"
	Policer Shape = "policer"
	Halved  Shape = "halved"
	Doubled Shape = "doubled"
	Proxy   Shape = "proxy"
)

// Fills says whether 16 TCP streams can fill a direction, by calculation.
type Fills string

// What a calculation can say.
const (
	Yes  Fills = "yes"
	Edge Fills = "edge"
	No   Fills = "no"
)

// Cell is one line.
type Cell struct {
	Down, Up           float64       // bits per second of Ethernet frames
	RTT                time.Duration // without queue
	Loss               float64       // ratio of frames
	Shape              Shape
	FillsDown, FillsUp Fills
}

// String names the cell.
func (c Cell) String() string {
	return fmt.Sprintf("%g-%g-%d-%g-%s", c.Down/1e6, c.Up/1e6, c.RTT.Milliseconds(), c.Loss*100, c.Shape)
}

// Cells is the list.
func Cells() ([]Cell, error) { return parseCells(cellsCSV) }

func parseCells(text string) ([]Cell, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		return nil, err
	}
	var cells []Cell
	for _, row := range rows[min(1, len(rows)):] {
		var n [4]float64
		for i := range n {
			if n[i], err = strconv.ParseFloat(row[i], 64); err != nil {
				return nil, fmt.Errorf("cell %v: %w", row, err)
			}
		}
		cells = append(cells, Cell{Down: n[0] * 1e6, Up: n[1] * 1e6, RTT: time.Duration(n[2] * float64(time.Millisecond)),
			Loss: n[3] / 100, Shape: Shape(row[4]), FillsDown: Fills(row[5]), FillsUp: Fills(row[6])})
	}
	return cells, nil
}

// The bursts of loss of a [Burst] cell, per frame.
const burstEnter, burstLeave = 0.00125, 0.125

// calculate is how the column fills came about.
func (c Cell) calculate(rate float64) Fills {
	if c.Shape == Policer {
		return Edge
	}
	p := c.Loss // of loss events
	if c.Shape == Burst {
		p = burstEnter
	}
	if p == 0 {
		return Yes
	}
	rtt := max(c.RTT, time.Millisecond).Seconds()
	window := max(math.Sqrt(3/(2*p)), 1.054*math.Pow(rtt/p, 0.75))
	switch x := 16 * window * 1448 * 8 / rtt / netlab.PayloadRate(rate); {
	case x >= 1.5:
		return Yes
	case x < 1:
		return No
	}
	return Edge
}

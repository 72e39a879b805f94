package truth

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
)

// Row is one tool's word on one direction of one cell: a line of truth.json.
type Row struct {
	Tool      Tool    `json:"tool"`
	Cell      string  `json:"cell"`
	Shape     Shape   `json:"shape"`
	Fills     Fills   `json:"fills"`
	RateBPS   float64 `json:"rate_bps"`
	RTT       float64 `json:"rtt_seconds"`
	Loss      float64 `json:"loss_ratio"`
	Direction string  `json:"direction"`
	// Truth is the payload that the line carried in the interval that the tool
	// says it measured, else in its whole run.
	Truth    float64        `json:"truth_bps"`
	Measured float64        `json:"measured_bps"` // 0: it failed
	Error    float64        `json:"error_ratio"`
	Reason   string         `json:"reason,omitempty"` // why it failed
	Flags    []measure.Flag `json:"flags"`
	Sound    bool           `json:"sound"`
	Unsound  string         `json:"unsound,omitempty"` // why not
	Bytes    uint64         `json:"bytes"`             // both ways, at the client's interface
	Seconds  float64        `json:"seconds"`
	CPU      float64        `json:"cpu_seconds"`
	Idle     float64        `json:"idle_seconds,omitempty"`
	Loaded   float64        `json:"loaded_seconds,omitempty"`
}

func (r Row) key() string { return string(r.Tool) + " " + r.Cell + " " + r.Direction }

// Options of a run.
type Options struct {
	// Dir takes runs.jsonl, truth.json and truth.md. Rows that are there are not
	// measured again, unless unsound.
	Dir string
	// Program is this program, with its commands tool and serve.
	Program string
	Tools   []Tool         // in this order: the first has all cells before the second begins
	Cells   *regexp.Regexp // names of cells; nil: all
	// Attempts is how often an unsound row is measured (default 3).
	Attempts int
	// Full has the engine measure for its whole time; Traces has it write in Dir how
	// its figures came about.
	Full, Traces bool
	Log          io.Writer // hears of each row
}

// Run measures what is missing and writes the table. It answers an error if more
// than a tenth of the rows is unsound.
func Run(ctx context.Context, o Options) error {
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	cells, err := Cells()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return err
	}
	rows, err := load(o.Dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(o.Dir, "runs.jsonl"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, tool := range o.Tools {
		for _, c := range cells {
			if o.Cells != nil && !o.Cells.MatchString(c.String()) {
				continue
			}
			for _, kind := range []measure.Kind{measure.KindDownload, measure.KindUpload} {
				if r, ok := rows[blank(tool, c, kind).key()]; ok && r.Sound {
					continue
				}
				row, err := measureSoundly(ctx, o, tool, c, kind)
				if ctx.Err() != nil {
					break
				}
				if err != nil {
					return err
				}
				rows[row.key()] = row
				if err := json.NewEncoder(f).Encode(row); err != nil {
					return err
				}
				if o.Log != nil {
					fmt.Fprintln(o.Log, row.line())
				}
			}
		}
	}
	return errors.Join(write(o.Dir, cells, rows), ctx.Err(), soundEnough(rows))
}

// load reads the rows of earlier runs: of the same, the last sound one, else the
// last.
func load(dir string) (map[string]Row, error) {
	rows := make(map[string]Row)
	f, err := os.Open(filepath.Join(dir, "runs.jsonl"))
	if errors.Is(err, os.ErrNotExist) {
		return rows, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var r Row
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			continue // broken off while it was written
		}
		if old, ok := rows[r.key()]; !ok || r.Sound || !old.Sound {
			rows[r.key()] = r
		}
	}
	return rows, lines.Err()
}

func blank(tool Tool, c Cell, kind measure.Kind) Row {
	r := Row{Tool: tool, Cell: c.String(), Shape: c.Shape, RTT: c.RTT.Seconds(), Loss: c.Loss, Direction: string(kind),
		RateBPS: c.Down, Fills: c.FillsDown, Flags: []measure.Flag{}}
	if kind == measure.KindUpload {
		r.RateBPS, r.Fills = c.Up, c.FillsUp
	}
	return r
}

// measureSoundly measures a row until it is sound, a few times at most.
func measureSoundly(ctx context.Context, o Options, tool Tool, c Cell, kind measure.Kind) (row Row, err error) {
	for range o.Attempts {
		if row, err = measureRow(ctx, o, tool, c, kind); err != nil || row.Sound || ctx.Err() != nil {
			break
		}
	}
	return row, err
}

// limit is what any tool may take.
const limit = 90 * time.Second

func measureRow(ctx context.Context, o Options, tool Tool, c Cell, kind measure.Kind) (Row, error) {
	row := blank(tool, c, kind)
	done, err := turn(ctx)
	if err != nil {
		return row, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	l, err := Build(c)
	if err != nil {
		return row, err
	}
	defer l.Close()
	if err := l.serve(ctx, o.Program, tool); err != nil {
		return row, err
	}

	var w watcher
	w.start(l)
	rx, tx := l.carried()
	changed := make(chan time.Time, 1)
	if c.factor() != 1 {
		go func() { changed <- l.changeLater(ctx) }()
	}
	var a Answer
	var spent cost
	if tool == Iperf3 {
		a, spent, err = iperf3(ctx, l, kind)
	} else {
		a, spent, err = own(ctx, l, o, tool, kind)
	}
	rx2, tx2 := l.carried()
	unsound := w.stop(l)
	cancel()
	if err != nil && a.Detail == "" {
		a.Detail = err.Error()
	}
	row.Measured, row.Flags, row.Idle, row.Loaded = a.Rate, append(row.Flags, a.Flags...), a.Idle, a.Loaded
	if a.Rate == 0 {
		row.Reason = strings.TrimSpace(string(a.Reason) + " " + a.Detail)
	}
	row.Bytes, row.Seconds, row.CPU = rx2-rx+tx2-tx, spent.end.Sub(spent.start).Seconds(), spent.cpu.Seconds()
	if a.From.IsZero() {
		a.From, a.To = spent.start, spent.end
	}
	row.Truth = netlab.PayloadRate(row.RateBPS)
	if c.factor() != 1 {
		at := <-changed
		part := min(max(a.To.Sub(at).Seconds()/a.To.Sub(a.From).Seconds(), 0), 1) // after the change
		row.Truth *= 1 - part + part*c.factor()
	}
	row.Error = row.Measured/row.Truth - 1
	row.Sound = unsound == nil
	if unsound != nil {
		row.Unsound = unsound.Error()
	}
	return row, nil
}

// changeLater changes the rate 2 s after the first bulk bytes passed, and says
// when that was.
func (l *Line) changeLater(ctx context.Context) time.Time {
	rx0, tx0 := l.carried()
	for {
		rx, tx := l.carried()
		if rx+tx-rx0-tx0 > 100_000 {
			break
		}
		select {
		case <-ctx.Done():
			return time.Now()
		case <-time.After(20 * time.Millisecond):
		}
	}
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
		l.change()
	}
	return time.Now()
}

// serve starts in the server what the tool needs, and waits until it answers.
func (l *Line) serve(ctx context.Context, program string, tool Tool) error {
	port, args := targetPort, []string{"serve", "--listen", fmt.Sprintf(":%d", targetPort)}
	if tool == Iperf3 {
		program, port, args = "iperf3", iperfPort, []string{"-s", "-p", fmt.Sprint(iperfPort)}
	}
	cmd := l.Server.Command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	l.wait.Go(func() { cmd.Wait() })
	at := fmt.Sprintf("127.0.0.1:%d", port)
	for {
		c, err := l.Server.DialContext(ctx, "tcp", at)
		if err == nil {
			c.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", program, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// busyMatters is the rate, both directions together in bits per second, from
// which on a machine without an idle processor may itself be the limit; below,
// what is late tells by itself.
const busyMatters = 60e6

// watcher tells whether this machine had the time to be a line.
type watcher struct {
	end   chan struct{}
	late  chan share
	busy0 uint64 // jiffies
	all0  uint64
}

// share is of the looks every 5 ms: those that came more than 50 ms late, which
// is what a shaped link makes up for.
type share struct{ all, late int }

func (w *watcher) start(l *Line) {
	if l.emulator != nil {
		l.emulator.Reset()
	}
	w.end, w.late = make(chan struct{}), make(chan share, 1)
	w.busy0, w.all0 = jiffies()
	go func() {
		const every = 5 * time.Millisecond
		var s share
		for last := time.Now(); ; {
			select {
			case <-w.end:
				w.late <- s
				return
			case <-time.After(every):
			}
			now := time.Now()
			s.all++
			if now.Sub(last) > every+netlab.DefaultBurst {
				s.late++
			}
			last = now
		}
	}()
}

// stop says nil, or what was wrong.
func (w *watcher) stop(l *Line) error {
	close(w.end)
	s := <-w.late
	busy, all := jiffies()
	if l.emulator != nil {
		if err := l.emulator.Report().Sound(); err != nil {
			return err
		}
	}
	if s.late*200 > s.all { // half a per cent of the looks: at least that much time was lost
		return fmt.Errorf("this machine stood still: %d of %d looks were more than %v late", s.late, s.all, netlab.DefaultBurst)
	}
	if used := float64(busy-w.busy0) / float64(max(all-w.all0, 1)); used > 0.95 && l.cell.Down+l.cell.Up > busyMatters {
		return fmt.Errorf("this machine was busy: %.0f%% of its processors", used*100)
	}
	return nil
}

// jiffies are those of all processors, from /proc/stat: what was used or taken
// away, and all.
func jiffies() (busy, all uint64) {
	b, _ := os.ReadFile("/proc/stat")
	first, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(first) {
		var n uint64
		if i == 0 {
			continue
		}
		fmt.Sscan(f, &n)
		if i <= 8 { // guest is in user already
			all += n
		}
		if i <= 8 && i != 4 && i != 5 { // idle, iowait
			busy += n
		}
	}
	return busy, all
}

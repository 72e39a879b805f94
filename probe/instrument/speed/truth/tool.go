package truth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/showwin/speedtest-go/speedtest"

	"github.com/pantau-desa/pantau/probe/instrument/speed/engine"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Tool is what is held against the cells.
type Tool string

// The tools: our engine; iperf3 with eight streams, ten seconds, the first two
// left out, as the control; speedtest-go as it comes, its own figure.
const (
	Pantau      Tool = "pantau"
	Iperf3      Tool = "iperf3"
	SpeedtestGo Tool = "speedtest-go"
)

// Tools lists them.
func Tools() []Tool { return []Tool{Pantau, Iperf3, SpeedtestGo} }

// Answer is what a tool says, as one line of JSON.
type Answer struct {
	Rate   float64        `json:"rate_bps"` // 0: none
	Reason measure.Reason `json:"reason,omitempty"`
	Detail string         `json:"detail,omitempty"`
	Flags  []measure.Flag `json:"flags,omitempty"`
	// From and To are the interval that was measured, where the tool tells.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Idle and Loaded are latencies in seconds; 0: not known.
	Idle   float64 `json:"idle_seconds,omitempty"`
	Loaded float64 `json:"loaded_seconds,omitempty"`
}

// RunPantau measures once with the engine; a file of this name, if it is not
// empty, takes the [engine.Trace] as JSON. It is what a process inside the
// client's namespace does.
func RunPantau(ctx context.Context, url string, kind measure.Kind, full bool, file string) (Answer, error) {
	var a Answer
	var trace engine.Trace
	i, err := engine.New(engine.Options{Ledger: ledger.New(ledger.Options{}), Full: full, Trace: func(t engine.Trace) { trace = t }})
	if err != nil {
		return a, err
	}
	r := i.Measure(ctx, "cell", url, kind)
	if r.Outcome == measure.OK {
		a.From, a.To = trace.Began.Add(trace.From), trace.Began.Add(trace.To)
		if file != "" {
			text, err := json.Marshal(trace)
			if err = errors.Join(err, os.WriteFile(file, text, 0o644)); err != nil {
				return a, err
			}
		}
	}
	a.Reason, a.Detail, a.Flags = r.Reason, r.Detail, r.Flags
	for _, v := range r.Values {
		switch v.Metric {
		case measure.DownloadBitsPerSecond, measure.UploadBitsPerSecond:
			a.Rate = v.Number
		case measure.IdleLatencySeconds:
			a.Idle = v.Number
		case measure.LoadedLatencySecondsDownload, measure.LoadedLatencySecondsUpload:
			a.Loaded = v.Number
		}
	}
	return a, nil
}

// RunSpeedtestGo measures once with speedtest-go as its README shows it.
func RunSpeedtestGo(ctx context.Context, url string, kind measure.Kind) (Answer, error) {
	st := speedtest.New()
	s, err := st.CustomServer(url)
	if err != nil {
		return Answer{}, err
	}
	if kind == measure.KindDownload {
		err = s.DownloadTestContext(ctx)
		return Answer{Rate: float64(s.DLSpeed) * 8}, err
	}
	err = s.UploadTestContext(ctx)
	return Answer{Rate: float64(s.ULSpeed) * 8}, err
}

// iperf3 runs it in the client and reads what its receiving side counted.
func iperf3(ctx context.Context, l *Line, kind measure.Kind) (Answer, cost, error) {
	args := []string{"-c", l.Address.String(), "-p", fmt.Sprint(iperfPort), "-J", "-P", "8", "-t", "10", "-O", "2"}
	if kind == measure.KindDownload {
		args = append(args, "-R")
	}
	out, spent, err := run(ctx, l, "iperf3", args...)
	var report struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if jsonErr := json.Unmarshal(out, &report); jsonErr != nil {
		return Answer{}, spent, errors.Join(err, jsonErr)
	}
	if report.Error != "" {
		return Answer{Detail: report.Error}, spent, nil
	}
	return Answer{Rate: report.End.Received.Rate}, spent, nil
}

// own runs one of the two above in the client, as a process of this program.
func own(ctx context.Context, l *Line, o Options, tool Tool, kind measure.Kind) (Answer, cost, error) {
	url := fmt.Sprintf("http://%s:%d", l.Address, targetPort)
	args := []string{"tool", string(tool), "--target", url, "--direction", string(kind)}
	if o.Full {
		args = append(args, "--full")
	}
	if o.Traces && tool == Pantau {
		args = append(args, "--trace", filepath.Join(o.Dir, fmt.Sprintf("trace-%s-%s.json", l.cell, kind)))
	}
	out, spent, err := run(ctx, l, o.Program, args...)
	var a Answer
	if jsonErr := json.Unmarshal(out, &a); jsonErr != nil {
		return a, spent, errors.Join(err, fmt.Errorf("%w: %.200q", jsonErr, out))
	}
	return a, spent, nil
}

// cost is what a run took.
type cost struct {
	start, end time.Time
	cpu        time.Duration
}

// run runs a process in the client.
func run(ctx context.Context, l *Line, program string, args ...string) (out []byte, c cost, err error) {
	cmd := l.Client.Command(ctx, program, args...)
	var errText strings.Builder
	cmd.Stderr = &errText
	c.start = time.Now()
	out, err = cmd.Output()
	c.end = time.Now()
	if cmd.ProcessState != nil {
		c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	if err != nil {
		err = fmt.Errorf("%s: %w: %.200s", program, err, errText.String())
	}
	return out, c, err
}

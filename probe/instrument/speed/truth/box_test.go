package truth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
)

var directions = []measure.Kind{measure.KindDownload, measure.KindUpload}

// alone waits until nothing else measures on this machine, for as long as t lasts.
func alone(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("measures in real time")
	}
	done, err := turn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
}

// standing builds a cell's line with a server behind it, or skips the test.
func standing(t *testing.T, c Cell) *Line {
	t.Helper()
	l, err := Build(c)
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.Serve(t.Context(), os.Args[0]); err != nil {
		t.Fatal(err)
	}
	return l
}

// engine runs the engine once in the client, by a command that may stand before it.
func (l *Line) engine(ctx context.Context, kind measure.Kind, before ...string) (a Answer, err error) {
	args := append(before, os.Args[0], "tool", string(Pantau), "--target", fmt.Sprintf("http://%s:%d", l.Address, targetPort), "--direction", string(kind))
	out, _, err := run(ctx, l, args[0], args[1:]...)
	return a, errors.Join(err, json.Unmarshal(out, &a))
}

// Latency under load is what the queue adds: idle plus the bytes that waited over
// the rate, as the shaper itself counts them, within a tenth. At rest it is what
// ping says, within a millisecond. And the rate is right.
func TestLatency(t *testing.T) {
	alone(t)
	const tries = 3 // a busy moment passes, a wrong way of looking does not
	for _, c := range []Cell{{Down: 10e6, Up: 10e6, Shape: Plain}, {Down: 38.16e6, Up: 19.03e6, Shape: Plain}} {
		t.Run(c.String(), func(t *testing.T) {
			l := standing(t, c)
			for i, kind := range directions {
				rate := []float64{c.Down, c.Up}[i]
				for try := 1; ; try++ {
					w := watchQueue(l.shaped[i])
					a, err := l.engine(t.Context(), kind)
					queue := w.stop(a.From, a.To, rate)
					if err != nil || a.Rate == 0 {
						t.Fatalf("%v, %s %s", err, a.Reason, a.Detail)
					}
					want := a.Idle + queue.Seconds()
					t.Logf("%s: idle %.2f ms, loaded %.1f ms; a queue of %.1f ms stood", kind, a.Idle*1e3, a.Loaded*1e3, queue.Seconds()*1e3)
					if queue < 100*time.Millisecond {
						t.Errorf("%s: a queue of %v only", kind, queue)
					}
					off := a.Rate/netlab.PayloadRate(rate) - 1
					if math.Abs(a.Loaded/want-1) <= 0.10 && math.Abs(off) <= tolerance {
						break
					}
					if try == tries {
						t.Errorf("%s: loaded %.1f ms, want %.1f; rate %+.1f%%", kind, a.Loaded*1e3, want*1e3, off*100)
						break
					}
				}
			}
		})
	}
	t.Run("at rest", func(t *testing.T) {
		if _, err := exec.LookPath("ping"); err != nil {
			t.Skip("no ping to compare with: ", err)
		}
		l := standing(t, Cell{Down: 5e6, Up: 5e6, RTT: 20 * time.Millisecond, Shape: Plain})
		for try := 1; ; try++ {
			a, err := l.engine(t.Context(), measure.KindDownload)
			if err != nil || a.Rate == 0 {
				t.Fatalf("%v, %s %s", err, a.Reason, a.Detail)
			}
			want := ping(t, l)
			t.Logf("idle %.2f ms, ping %.2f ms", a.Idle*1e3, want*1e3)
			if math.Abs(a.Idle-want) <= 1e-3 {
				break
			}
			if try == tries {
				t.Errorf("idle %.2f ms, ping %.2f ms", a.Idle*1e3, want*1e3)
				break
			}
		}
	})
}

// ping is the median that the system's ping sees from the client, in seconds.
func ping(t *testing.T, l *Line) float64 {
	t.Helper()
	out, _, err := run(t.Context(), l, "ping", "-n", "-c", "11", "-i", "0.1", l.Address.String())
	if err != nil {
		t.Fatal(err)
	}
	var all []float64
	for _, m := range regexp.MustCompile(`time=([0-9.]+) ms`).FindAllSubmatch(out, -1) {
		ms, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ms/1e3)
	}
	if len(all) < 6 {
		t.Fatalf("ping: %s", out)
	}
	return quantile(all, 0.5)
}

// queueWatcher looks at a shaped port's queue every few milliseconds.
type queueWatcher struct {
	end  chan struct{}
	done chan error
	at   []time.Time
	wait []int // bytes
}

func watchQueue(p *netlab.Port) *queueWatcher {
	w := &queueWatcher{end: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		for {
			n, err := p.Backlog()
			w.at, w.wait = append(w.at, time.Now()), append(w.wait, n)
			select {
			case <-w.end:
				w.done <- err
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return w
}

// stop is the median of how long the queue took to empty, between two instants.
func (w *queueWatcher) stop(from, to time.Time, rate float64) time.Duration {
	close(w.end)
	if <-w.done != nil {
		return 0
	}
	var ds []float64
	for i, at := range w.at {
		if !at.Before(from) && !at.After(to) {
			ds = append(ds, float64(w.wait[i])*8/rate)
		}
	}
	if len(ds) == 0 {
		return 0
	}
	return time.Duration(quantile(ds, 0.5) * float64(time.Second))
}

// On a twentieth and on a fortieth of a processor a figure is right within 3%, or
// it is said that the box was the limit.
func TestStarvedOfCPU(t *testing.T) {
	alone(t)
	for _, c := range []Cell{{Down: 10e6, Up: 10e6, Shape: Plain}, {Down: 38.16e6, Up: 38.16e6, Shape: Plain}} {
		for _, percent := range []float64{5, 2.5} {
			t.Run(fmt.Sprintf("%s on %g%%", c, percent), func(t *testing.T) {
				t.Parallel() // what starves leaves room
				l := standing(t, c)
				procs := servertest.Quota(t, percent)
				for _, kind := range directions {
					begin := time.Now()
					a, err := l.engine(t.Context(), kind, "sh", "-c", `echo $$ >"$0" && exec "$@"`, procs)
					if err != nil {
						t.Fatal(err)
					}
					off := a.Rate/netlab.PayloadRate(c.Down) - 1
					t.Logf("%s: %+.1f%% in %v, %v %s %s", kind, off*100, time.Since(begin).Round(time.Second/10), a.Flags, a.Reason, a.Detail)
					said := slices.Contains(a.Flags, measure.FlagCPUBound) || a.Rate == 0 && a.Reason == measure.ReasonCPUStarved
					if !said && math.Abs(off) > 0.03 {
						t.Errorf("%s: %+.1f%%, %v, %s %s", kind, off*100, a.Flags, a.Reason, a.Detail)
					}
				}
				if n := throttled(t, procs); n == 0 && percent < 5 {
					t.Error("the quota was never met: this shows nothing")
				}
			})
		}
	}
}

// throttled is how often the control group's processes had to wait.
func throttled(t *testing.T, procs string) (n int) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(procs), "cpu.stat"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "nr_throttled %d", &n)
	}
	return n
}

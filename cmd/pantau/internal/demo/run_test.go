package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/netlab"
)

// needsNamespaces skips where the system permits none, but never in CI.
func needsNamespaces(t *testing.T) {
	t.Helper()
	lab, err := netlab.New(netlab.Options{Name: "demo-test"})
	if err == nil {
		err = lab.Close()
	}
	switch {
	case err == nil:
	case errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true":
		t.Skip("run as root for the demo's real lines: ", err)
	default:
		t.Fatal(err)
	}
}

func namespacesOf(t *testing.T, pid int) []string {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/run/netns/pantau-%d*", pid))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func testLog(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// words is what the demo said so far.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// playing is a demo within this process.
type playing struct {
	*run
	t     *testing.T
	said  *words
	end   context.CancelFunc
	ended chan struct{}
	out   Report // once ended
	err   error
}

// play starts a demo and waits until everything stands.
func play(t *testing.T, o Options) *playing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &playing{t: t, said: &words{}, end: cancel, ended: make(chan struct{})}
	o.Dir, o.Out, o.Office = filepath.Join(t.TempDir(), "demo"), p.said, "127.0.0.1:0"
	stands := make(chan *run, 1)
	o.standing = func(r *run) { stands <- r }
	go func() {
		defer close(p.ended)
		p.out, p.err = Run(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-p.ended
		if t.Failed() {
			t.Logf("the demo said:\n%s", p.said)
		}
	})
	select {
	case p.run = <-stands:
	case <-p.ended:
		t.Fatal(p.err)
	}
	return p
}

// await asks once in a while until it is so.
func (p *playing) await(what string, within time.Duration, so func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(within); !so(); time.Sleep(200 * time.Millisecond) {
		select {
		case <-p.ended:
			p.t.Fatalf("waiting for %s: the demo ended: %v", what, p.err)
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// get reads a page that must be there.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}

func (p *playing) tested() bool {
	for _, v := range p.look(p.t.Context()) {
		if v.Tests == 0 || v.MedianUpload == 0 {
			return false
		}
	}
	return true
}

// unreachable counts a village's slots of reach that say "not reachable".
func (p *playing) unreachable(code string) int {
	p.t.Helper()
	v, err := p.col.Query().Instant(p.t.Context(), `sum by (village) (count_over_time(pantau_odp_reachable[24h]) - sum_over_time(pantau_odp_reachable[24h]))`, time.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	for _, s := range v {
		if s.Metric.Get("village") == code {
			return int(s.F)
		}
	}
	return 0
}

// shell does what the demo told people to do: with iproute2 where there is one,
// else by the port that the command names.
func shell(t *testing.T, command string, port *netlab.Port, up bool) {
	t.Helper()
	words := strings.Fields(command)
	if _, err := exec.LookPath(words[0]); err == nil {
		if out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return
	}
	change := port.Down
	if up {
		change = port.Up
	}
	if err := change(); err != nil {
		t.Fatal(err)
	}
}

// The demo's promise: true figures of every village within minutes; a cut is seen,
// blamed on nobody else, and loses nothing.
func TestDemoOnShapedLines(t *testing.T) {
	needsNamespaces(t)
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	const downAfter = time.Minute
	pace := provision.Schedule{Light: 10 * time.Second, Seal: 5 * time.Second, Transition: 2 * time.Second, Heartbeat: 5 * time.Second,
		SpeedMean: 40 * time.Second, SpeedDuration: 4 * time.Second}
	p := play(t, Options{Villages: 3, Seed: 11, pace: &pace, downAfter: downAfter})

	victim, code := p.world.Villages[1], p.lines[1].Code
	stateOf := func() state.State {
		var victims state.State
		for _, s := range p.states() {
			if s.Code == code {
				victims = s.State
			} else if s.State == state.Down || s.State == state.Degraded {
				t.Errorf("%s is %s: its line was not cut", s.Name, s.State)
			}
		}
		return victims
	}
	p.await("the first figures", time.Minute, func() bool { return strings.Contains(p.said.String(), "every village has its first figures") })
	if !strings.Contains(p.said.String(), p.world.Villages[0].Cut) {
		t.Errorf("it does not say how to cut %s", p.world.Villages[0].Name)
	}
	if page := get(t, p.page()); !strings.Contains(page, "SIMULASI") {
		t.Error("the page does not say that it is a simulation")
	}
	get(t, p.targetURL()+"/latency.txt")

	shell(t, victim.Cut, victim.Drop.A, false)
	cut := time.Now()
	p.await("the cut village to be down", downAfter+20*time.Second, func() bool { return stateOf() == state.Down })
	if after := time.Since(cut); after < downAfter-pace.Heartbeat-2*time.Second {
		t.Errorf("down already %v after the cut", after)
	}
	p.await("the demo to say so", 20*time.Second, func() bool { return strings.Contains(p.said.String(), victim.Name+" is down, was up: silent since ") })
	shell(t, victim.Restore, victim.Drop.A, true)
	mended := time.Now()
	p.await("the mended village to be up", 30*time.Second, func() bool { return stateOf() == state.Up })

	// One slot may have been under way at the cut, one at the mending.
	slots := int(mended.Sub(cut)/pace.Light) - 1
	p.await("the results of the cut", 30*time.Second, func() bool { return p.unreachable(code) >= slots })
	p.await("no slot to be missing", 30*time.Second, func() bool { return p.look(t.Context())[1].ReachMissing == 0 })
	p.await("a speed test of every village", 90*time.Second, p.tested)
	if n := p.unreachable(code); n > slots+3 {
		t.Errorf("%d slots of %s say that nothing is reachable, in a cut of %d", n, victim.Name, slots+1)
	}
	for _, l := range p.lines {
		if n := p.unreachable(l.Code); l.Code != code && n > 0 {
			t.Errorf("%d slots of %s say that nothing is reachable: its line was not cut", n, l.Name)
		}
	}

	p.end()
	<-p.ended
	if p.err != nil {
		t.Fatal(p.err)
	}
	if !p.out.OK || !p.out.Netns || p.out.First <= 0 || p.out.First > 60 {
		t.Errorf("%+v", p.out)
	}
	for _, v := range p.out.Villages {
		t.Logf("%s: %.2f of %.2f down, %.2f of %.2f up, %d tests, latency %.2f ms, %d slots of reach, %.0f bytes used", v.Name,
			v.MedianDownload/1e6, netlab.PayloadRate(v.ShapedDownload)/1e6, v.MedianUpload/1e6, netlab.PayloadRate(v.ShapedUpload)/1e6,
			v.Tests, v.LatencySeconds*1e3, v.ReachResults, v.UsageBytesReceived)
		for name, r := range map[string]struct{ median, shaped float64 }{
			"download": {v.MedianDownload, v.ShapedDownload}, "upload": {v.MedianUpload, v.ShapedUpload}} {
			if truth := r.shaped * 1448 / 1514; math.Abs(r.median/truth-1) > 0.10 {
				t.Errorf("%s: %s of %.2f Mbit/s on a line of %.2f", v.Name, name, r.median/1e6, truth/1e6)
			}
		}
		if v.State != "up" || v.ReachMissing != 0 || v.ReachResults < slots || v.LatencySeconds <= 0 || v.LatencySeconds > 0.5 || v.UsageBytesReceived <= 0 {
			t.Errorf("%+v", v)
		}
	}
	said := p.said.String()
	for _, line := range []string{victim.Name + " is up, was down",
		"The figures hold for all 3 villages", "Nothing is left but "} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
	if strings.Contains(said, "\x1b") {
		t.Error("it draws into a pipe")
	}
	if left := ownNamespaces(t); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDemoOnLoopback(t *testing.T) {
	t.Parallel()
	pace := provision.Schedule{Light: 10 * time.Second, Seal: 2 * time.Second, Transition: time.Second, Heartbeat: 5 * time.Second,
		SpeedMean: 10 * time.Minute, SpeedDuration: 2 * time.Second}
	p := play(t, Options{Villages: 2, NoNetns: true, pace: &pace})
	p.await("the first figures", time.Minute, func() bool { return strings.Contains(p.said.String(), "every village has its first figures") })
	p.end()
	<-p.ended
	if p.err != nil {
		t.Fatal(p.err)
	}
	said := p.said.String()
	for _, line := range []string{"Without namespaces, as asked", "no line has a rate of its own", "no line can be cut", "halaman: http://127.0.0.1:", "target: http://127.0.0.1:"} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
	if strings.Contains(said, "ip -n") {
		t.Error("it says how to cut lines that are none")
	}
	if p.out.Netns || p.out.First <= 0 || p.out.First > 60 || len(p.out.Villages) != 2 {
		t.Errorf("%+v", p.out)
	}
	for _, v := range p.out.Villages {
		if v.State != "up" || v.LatencySeconds <= 0 || v.ReachResults < 1 || v.ReachMissing != 0 || v.ShapedDownload != 0 {
			t.Errorf("%+v", v)
		}
	}
	if left := processesIn(t, p.opt.Dir); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// processesIn are the probes that run with their state below dir.
func processesIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err == nil && bytes.Contains(raw, []byte(dir)) && bytes.Contains(raw, []byte("pantau-probe")) {
			pids = append(pids, filepath.Base(filepath.Dir(f)))
		}
	}
	return pids
}

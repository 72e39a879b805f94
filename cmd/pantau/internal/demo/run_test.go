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
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/provision"
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

// The demo's promise: true figures of every village within minutes; and its story,
// but for the full line, with timers of seconds: a cut is seen and told once, is
// blamed on nobody else, and loses nothing.
func TestDemoOnShapedLines(t *testing.T) {
	needsNamespaces(t)
	if testing.Short() {
		t.Skip("takes two minutes")
	}
	t.Parallel()
	o := quick()
	o.Seed, o.downAfter = 11, 15*time.Second
	o.incidents.Confirm, o.incidents.ConfirmAlone, o.incidents.Good, o.incidents.GoodGroup = o.downAfter, o.downAfter+3*time.Second, 6*time.Second, 6*time.Second
	o.pace.SpeedMean, o.pace.SpeedDuration = 40*time.Second, 4*time.Second
	p := play(t, o)

	p.await("the first figures", time.Minute, func() bool { return strings.Contains(p.said.String(), "every village has its first figures") })
	if !strings.Contains(p.said.String(), p.world.Villages[0].Cut) {
		t.Errorf("it does not say how to cut %s", p.world.Villages[0].Name)
	}
	if page := get(t, p.page()); !strings.Contains(page, "SIMULASI") {
		t.Error("the page does not say that it is a simulation")
	}
	get(t, p.targetURL()+"/latency.txt")

	s := p.newStory()
	s.quiet = 10 * time.Second
	for i, st := range s.steps() {
		if i == 1 {
			continue // the full line: minutes
		}
		r, err := st.take(t.Context(), func(string) {})
		if err != nil {
			t.Fatalf("%s: %v (%+v)", st.name, err, s.report)
		}
		t.Logf("%.0f s: %s: %s", r.Seconds, st.name, r.Said)
	}
	if r := s.report; *r.CutToMail < (o.downAfter-o.pace.Heartbeat).Seconds()-2 || r.MailsFiring != 1 || r.MailsRecovery != 1 || r.MailsLate != 0 || *r.MissingMinutes != 0 || !r.NamedExactly || r.Incident == "" || r.Cause != "odp_or_feeder" {
		t.Errorf("%+v", r)
	}
	if page := get(t, p.postURL()); strings.Count(page, "[SIMULASI Gangguan]") != 1 || strings.Count(page, "[SIMULATION Recovered]") != 1 {
		t.Errorf("the page of mails is %s", page)
	}

	leavesOutTheSpike(t, p)

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
		if v.State != "up" || v.ReachMissing != 0 || v.LatencySeconds <= 0 || v.LatencySeconds > 0.5 || v.UsageBytesReceived <= 0 {
			t.Errorf("%+v", v)
		}
	}
	said := p.said.String()
	for _, v := range s.odc.Villages {
		for _, line := range []string{v.Name + " is down, was up: silent since ", v.Name + " is up, was down"} {
			if !strings.Contains(said, line) {
				t.Errorf("it does not say %q", line)
			}
		}
	}
	for _, line := range []string{"The figures hold for all 4 villages", "surat: http://127.0.0.1:", "Nothing is left but "} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
	if n := strings.Count(said, " is down, "); n != len(s.odc.Villages) {
		t.Errorf("%d villages went down, %d were cut off", n, len(s.odc.Villages))
	}
	if strings.Contains(said, "\x1b") {
		t.Error("it draws into a pipe")
	}
	if left := processesIn(t, p.opt.Dir); len(left) > 0 {
		t.Errorf("left running: %v", left)
	}
}

// leavesOutTheSpike holds the figures without a spike's tests against those with
// all of them.
func leavesOutTheSpike(t *testing.T, p *playing) {
	t.Helper()
	defer p.spike.Store(nil)
	now := time.Now()
	all := p.look(t.Context())[0]
	for _, c := range []struct {
		what     string
		spike    spike
		in, rest int
	}{
		{"before everything", spike{all.Village, p.began.Add(-time.Hour), p.began.Add(-time.Minute)}, 0, all.Tests},
		{"a whole day", spike{all.Village, p.began.Add(-time.Hour), now}, all.Tests, 0},
		{"still on", spike{village: all.Village, from: p.began.Add(-time.Hour)}, all.Tests, 0},
		{"of another village", spike{village: "33.10", from: p.began.Add(-time.Hour)}, 0, all.Tests},
	} {
		p.spike.Store(&c.spike)
		got := p.look(t.Context())[0]
		if got.TestsInSpike < c.in || got.Tests < c.rest || c.rest == 0 && got.MedianDownload+got.MedianUpload > 0 {
			t.Errorf("%s: %+v", c.what, got)
		}
		if got.Tests == all.Tests && (math.Abs(got.MedianDownload/all.MedianDownload-1) > 1e-9 || math.Abs(got.MedianUpload/all.MedianUpload-1) > 1e-9) {
			t.Errorf("%s: medians %v and %v, want %v and %v", c.what, got.MedianDownload, got.MedianUpload, all.MedianDownload, all.MedianUpload)
		}
	}
}

func TestDemoOnLoopback(t *testing.T) {
	t.Parallel()
	pace := provision.Schedule{Light: 10 * time.Second, Seal: 2 * time.Second, Transition: time.Second, Heartbeat: 5 * time.Second,
		SpeedMean: 10 * time.Minute, SpeedDuration: 2 * time.Second, BudgetFiberGB: noBudget}
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

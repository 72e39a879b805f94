package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/probe/clock"
	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/push"
	"github.com/pantau-desa/pantau/probe/spool"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// The programs as they are shipped, against each other: built once, run as
// processes, killed without warning.

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pantau-test-bin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "github.com/pantau-desa/pantau/cmd/pantau", "github.com/pantau-desa/pantau/cmd/pantau-probe").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// office is a collector as a process, with its settings and inventory.
type office struct {
	t                *testing.T
	bin, dir, config string
	ingest, pages    string
	cmd              *exec.Cmd
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newOffice(t *testing.T) *office {
	t.Helper()
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, bin: bin, dir: t.TempDir(), ingest: free(t), pages: free(t)}
	inv := filepath.Join(o.dir, "inventory")
	for name, text := range map[string]string{
		"regions.csv": "code,name,valid_from\n33,Jawa Tengah,2025-01-01\n33.10,Kabupaten Klaten,2025-01-01\n33.10.15,Wonosari,2025-01-01\n33.10.15.2002,Bener,2025-01-01\n",
		"isps.csv":    "isp,name,valid_from\na,A,2025-01-01\n",
		"nodes.csv":   "node,type,parent,name,valid_from\nODP-1,odp,,ODP,2025-01-01\n",
		"targets.csv": "target,method,address,latency,valid_from\nself,icmp,127.0.0.1,yes,2025-01-01\n",
		"sites.csv":   "site,village,name,isp,access,odp,valid_from\ns1,33.10.15.2002,Kantor,a,fiber,ODP-1,2025-01-01\ns2,33.10.15.2002,Balai,a,fiber,ODP-1,2025-01-01\n",
		"plans.csv":   "site,download_mbps,upload_mbps,source_document,valid_from\n",
		"probes.csv":  "probe,site,valid_from\nhand,s1,2025-01-01\nbox,s2,2025-01-01\n",
	} {
		o.write(filepath.Join(inv, name), text)
	}
	o.config = filepath.Join(o.dir, "pantau.yaml")
	o.write(o.config, fmt.Sprintf("data_dir: %q\ninventory: %q\ningest:\n  listen: %q\noffice:\n  listen: %q\nprobes:\n  light: 10s\n  seal: 1s\n  transition: 1s\n  heartbeat: 5s\n",
		filepath.Join(o.dir, "data"), inv, o.ingest, o.pages))
	o.start()
	return o
}

func (o *office) write(file, text string) {
	o.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		o.t.Fatal(err)
	}
}

// spawn starts a process that dies with the test.
func spawn(t *testing.T, log, bin string, args ...string) *exec.Cmd {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	go func() { // the kernel's signal is bound to the starting thread: keep it
		runtime.LockOSThread()
		started <- cmd.Start()
		<-ended
	}()
	t.Cleanup(func() { close(ended) })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return cmd
}

func (o *office) start() {
	o.t.Helper()
	log := filepath.Join(o.dir, "serve.log")
	o.cmd = spawn(o.t, log, filepath.Join(o.bin, "pantau"), "serve", "--config", o.config)
	o.await("the collector to answer", func() bool {
		resp, err := http.Get("http://" + o.pages + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (o *office) kill() {
	o.cmd.Process.Kill()
	o.cmd.Wait()
}

func (o *office) await(what string, ready func() bool) {
	o.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ready() {
			return
		}
	}
	raw, _ := os.ReadFile(filepath.Join(o.dir, "serve.log"))
	o.t.Fatalf("waited in vain for %s; the collector said:\n%s", what, raw[max(0, len(raw)-3000):])
}

// run runs pantau or pantau-probe to its end.
func (o *office) run(program string, args ...string) (out string, code int) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(o.bin, program), args...)
	raw, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		o.t.Fatal(err)
	}
	return string(raw), cmd.ProcessState.ExitCode()
}

func (o *office) claim(site string) string {
	o.t.Helper()
	out, code := o.run("pantau", "probe", "add", "--config", o.config, "--site", site, "--json", "-")
	var c struct{ Code string }
	if err := json.Unmarshal([]byte(out), &c); err != nil || code != 0 {
		o.t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	return c.Code
}

// samples are the instants of a series' samples within the last hour, by probe.
func (o *office) samples(metric string) map[string][]int64 {
	o.t.Helper()
	resp, err := http.PostForm("http://"+o.pages+"/api/v1/query", url.Values{"query": {metric + "[1h]"}})
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		o.t.Fatal(err)
	}
	out := map[string][]int64{}
	for _, r := range answer.Data.Result {
		for _, v := range r.Values {
			out[r.Metric["probe"]] = append(out[r.Metric["probe"]], int64(v[0].(float64)*1000+0.5))
		}
	}
	return out
}

// hand is a probe's spool and uploader in the test's own process, which knows
// what was acknowledged.
type hand struct {
	t     *testing.T
	spool *spool.Spool
	clock *clock.System
	id    enroll.Identity
	acked atomic.Int64
	stop  func()
}

func newHand(t *testing.T, o *office, through string) *hand {
	t.Helper()
	clocks, err := clock.Open()
	if err != nil {
		t.Fatal(err)
	}
	code, err := wire.ParseClaimCode(o.claim("s1"))
	if err != nil {
		t.Fatal(err)
	}
	h := &hand{t: t, clock: clocks}
	state := enroll.State{Dir: t.TempDir()}
	if h.id, err = state.Enroll(t.Context(), enroll.Request{Collector: "https://" + o.ingest, Code: code}); err != nil {
		t.Fatal(err)
	}
	codec, err := wire.NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	if h.spool, err = spool.Open(spool.Options{Dir: t.TempDir(), Codec: codec, Logger: log,
		NewEpoch: func() (e wire.Epoch) { rand.Read(e[:]); return e }}); err != nil {
		t.Fatal(err)
	}
	keeper := push.NewTimekeeper(clocks.Now)
	up := push.New(push.Options{Probe: h.id.Probe, Key: h.id.Key, Collector: "https://" + through, Store: h.spool, Time: keeper,
		Client:        &http.Client{Transport: &http.Transport{TLSClientConfig: push.PinnedTLS(h.id.CA, keeper.Floor)}, Timeout: 10 * time.Second},
		ConfigVersion: func() uint64 { return 0 }, Config: func(*wirepb.ProbeConfig, uint64) {},
		OnSuccess: func() { h.acked.Add(1) }, Logger: log, Registerer: prometheus.NewRegistry()})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		go func() { // a failed push is tried again without the field's patience
			for ctx.Err() == nil {
				up.Wake()
				time.Sleep(50 * time.Millisecond)
			}
		}()
		up.Run(ctx)
	}()
	h.stop = func() { cancel(); <-done; h.spool.Close() }
	return h
}

// measure appends n results with instants of their own and seals them.
func (h *hand) measure(n int) (slots []int64) {
	h.t.Helper()
	for range n {
		now := h.clock.Now()
		at := now.Wall.Truncate(time.Millisecond)
		if err := h.spool.Append(measure.Result{Kind: measure.KindReach, Outcome: measure.OK, MeasuredAt: at, Boot: now.Boot,
			Monotonic: now.Mono - now.Wall.Sub(at), Values: []measure.Value{{Metric: measure.ODPReachable, Number: 1}}}); err != nil {
			h.t.Fatal(err)
		}
		slots = append(slots, at.UnixMilli())
		time.Sleep(2 * time.Millisecond) // one instant, one sample
	}
	now := h.clock.Now()
	if _, err := h.spool.Seal(spool.Seal{Probe: h.id.Probe, At: now.Wall, Mono: now.Mono, Boot: now.Boot, Quality: now.Quality, Software: "test"}); err != nil {
		h.t.Fatal(err)
	}
	return slots
}

// check compares what was measured with what is stored, once each.
func (h *hand) check(o *office, want []int64) {
	h.t.Helper()
	o.await("every batch to be acknowledged", func() bool { return len(h.spool.Waiting()) == 0 })
	var got []int64
	o.await("every result to be in the store", func() bool { got = o.samples("pantau_odp_reachable")["hand"]; return len(got) >= len(want) })
	seen := map[int64]int{}
	for _, at := range got {
		seen[at]++
	}
	for _, at := range want {
		if seen[at] != 1 {
			h.t.Errorf("the result of %d is stored %d times", at, seen[at])
		}
	}
	if len(got) != len(want) {
		h.t.Errorf("%d results are stored, %d were measured", len(got), len(want))
	}
}

// records counts the journal's batches by their sequence number.
func (o *office) records(id measure.ProbeID) map[uint64]int {
	o.t.Helper()
	j, err := journal.Open(journal.Options{Dir: filepath.Join(o.dir, "data", "journal"), ReadOnly: true})
	if err != nil {
		o.t.Fatal(err)
	}
	defer j.Close()
	codec, err := wire.NewCodec()
	if err != nil {
		o.t.Fatal(err)
	}
	out := map[uint64]int{}
	r := j.NewReader(journal.Position{})
	defer r.Close()
	for {
		rec, _, err := r.TryNext()
		if err != nil {
			break
		}
		if rec.Type != journal.Batch {
			continue
		}
		b, err := codec.DecodeBatch(rec.Body)
		if err != nil {
			o.t.Fatal(err)
		}
		if b.Probe == id {
			out[b.Seq]++
		}
	}
	return out
}

func TestKillMinus9OfTheCollectorLosesAndDoublesNothing(t *testing.T) {
	o := newOffice(t)
	h := newHand(t, o, o.ingest)
	defer h.stop()
	var want []int64
	for round := range 10 {
		end := time.Now().Add(time.Duration(100+mrand.IntN(900)) * time.Millisecond)
		for time.Now().Before(end) {
			want = append(want, h.measure(1+mrand.IntN(5))...)
		}
		o.kill()
		want = append(want, h.measure(2)...) // measured while nobody listens
		o.start()
		t.Logf("round %d: %d results so far, %d batches acknowledged", round, len(want), h.acked.Load())
	}
	h.check(o, want)
	for seq, n := range o.records(h.id.Probe) {
		if n != 1 {
			t.Errorf("batch %d is in the journal %d times", seq, n)
		}
	}
}

func TestKillMinus9OfAProbeLosesAndDoublesNothing(t *testing.T) {
	o := newOffice(t)
	state := filepath.Join(t.TempDir(), "state")
	if out, code := o.run("pantau-probe", "enroll", "--state-dir", state, "--collector", "https://"+o.ingest, "--code", o.claim("s2")); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	config := filepath.Join(o.dir, "probe.yaml")
	o.write(config, fmt.Sprintf("state_dir: %q\nmetrics:\n  listen: \"\"\n", state))
	run := func() *exec.Cmd {
		return spawn(t, filepath.Join(o.dir, "probe.log"), filepath.Join(o.bin, "pantau-probe"), "run", "--config", config)
	}
	for range 10 {
		cmd := run()
		time.Sleep(time.Duration(200+mrand.IntN(3300)) * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
	}
	cmd := run()
	before := len(o.samples("pantau_odp_reachable")["box"])
	o.await("the probe to go on", func() bool { return len(o.samples("pantau_odp_reachable")["box"]) > before })
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the end of the probe: %v", err)
	}
	seqs := o.records("box")
	for seq, n := range seqs {
		if n != 1 {
			t.Errorf("batch %d is in the journal %d times", seq, n)
		}
	}
	for seq := uint64(1); seq <= uint64(len(seqs)); seq++ {
		if seqs[seq] == 0 {
			t.Errorf("batch %d is missing of %d", seq, len(seqs))
		}
	}
	seen := map[int64]bool{}
	for _, at := range o.samples("pantau_odp_reachable")["box"] {
		if seen[at] {
			t.Errorf("slot %d twice", at)
		}
		seen[at] = true
		if at%10_000 != seenPhase(seen)%10_000 {
			t.Errorf("slot %d is not at the probe's second", at)
		}
	}
	if len(seen) < 3 {
		t.Errorf("%d slots in all", len(seen))
	}
}

func seenPhase(seen map[int64]bool) int64 {
	for at := range seen {
		return at
	}
	return 0
}

// A relay that drops the answers to the first three batches, after the collector
// has written them: stored once, and no error in the end.
func TestLostAnswersAreHarmless(t *testing.T) {
	o := newOffice(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var dropped atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go relay(c, o.ingest, &dropped)
		}
	}()
	h := newHand(t, o, l.Addr().String())
	defer h.stop()
	want := h.measure(4)
	o.await("three answers to be dropped", func() bool { return dropped.Load() >= 3 })
	h.check(o, append(want, h.measure(3)...))
	for seq, n := range o.records(h.id.Probe) {
		if n != 1 {
			t.Errorf("batch %d is in the journal %d times", seq, n)
		}
	}
	resp, err := http.Get("http://" + o.pages + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body)
	if !bytes.Contains(raw, []byte("pantau_ingest_duplicates_total 3")) {
		t.Errorf("three replays are not counted: %s", grep(string(raw), "duplicates"))
	}
	if !strings.Contains(string(raw), "pantau_ingest_batches_total 2") {
		t.Errorf("two batches are not counted: %s", grep(string(raw), "ingest_batches"))
	}
}

func grep(text, word string) (out string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			out += line
		}
	}
	return out
}

// relay passes one connection on. TLS hides what it carries, so it waits until the
// client has sent a batch's worth after the handshake and the collector answers:
// of the first three connections that answer is swallowed and the line cut.
func relay(c net.Conn, to string, dropped *atomic.Int64) {
	defer c.Close()
	up, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	var asked atomic.Bool
	go func() {
		defer up.Close()
		buf := make([]byte, 64<<10)
		flights := 0
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if flights++; flights >= 2 { // the first flight is the client's hello
				asked.Store(true)
			}
			if _, err := up.Write(buf[:n]); err != nil {
				return
			}
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		if asked.Load() && dropped.Load() < 3 {
			dropped.Add(1)
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

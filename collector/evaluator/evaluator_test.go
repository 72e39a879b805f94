package evaluator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	prules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/pantau-desa/pantau/alerts/rules"
	"github.com/pantau-desa/pantau/collector/query"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
)

const patience = time.Minute

// world is a store with an evaluator over it, in real time.
type world struct {
	t      *testing.T
	store  *tsdb.DB
	engine *query.Querier
	reg    *prometheus.Registry
	opt    Options
	*Evaluator

	mu   sync.Mutex
	log  bytes.Buffer
	told []*prules.Alert
}

// Write implements io.Writer, for the log.
func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func newWorld(t *testing.T, files map[string]string) *world {
	t.Helper()
	w := &world{t: t, reg: prometheus.NewRegistry()}
	var err error
	if w.store, err = tsdb.Open(tsdb.Options{Dir: t.TempDir(), Reserve: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.engine, err = query.New(query.Options{Storage: w.store}); err != nil {
		t.Fatal(err)
	}
	w.opt = Options{Files: map[string][]byte{}, Engine: w.engine.Engine(), Storage: w.store, Registerer: w.reg,
		Grace: time.Second, Logger: slog.New(slog.NewTextHandler(w, nil)),
		Notify: func(_ context.Context, _ string, alerts ...*prules.Alert) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, alerts...)
		}}
	for name, text := range files {
		w.opt.Files[name] = []byte(text)
	}
	return w
}

// run starts the evaluator; it ends with the test, or by the function returned.
func (w *world) run() (stop func()) {
	w.t.Helper()
	var err error
	if w.Evaluator, err = New(w.opt); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				w.t.Error(err)
			}
		case <-time.After(patience):
			w.t.Error("the evaluator does not end")
		}
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) put(name string, v float64, at time.Time, more ...string) {
	w.t.Helper()
	app := w.store.AppenderV2(w.t.Context())
	ls := labels.FromStrings(append([]string{"__name__", name}, more...)...)
	if _, err := app.Append(0, ls, 0, at.UnixMilli(), v, nil, nil, storage.AppendV2Options{}); err != nil {
		w.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

var village = []string{"province", "33", "regency", "33.10", "district", "33.10.15", "village", "33.10.15.2009"}

func (w *world) query(expr string) map[string]float64 {
	w.t.Helper()
	v, err := w.engine.Instant(w.t.Context(), expr, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]float64{}
	for _, s := range v {
		out[s.Metric.String()] = s.F
	}
	return out
}

func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited %v for: %s\n%s", patience, what, w.said())
		}
	}
}

// heard returns the latest word about an alert.
func (w *world) heard(name string) *prules.Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.told) - 1; i >= 0; i-- {
		if w.told[i].Labels.Get("alertname") == name {
			return w.told[i]
		}
	}
	return nil
}

// alert is a rule that keeps the contract.
func alert(name, expr, kind, more string) string {
	return fmt.Sprintf("      - {alert: %s, expr: '%s', labels: {kind: %s, severity: warning}, %s annotations: {summary: s, ringkasan: r, description: d, value: '{{ $value }}'}}\n",
		name, expr, kind, more)
}

const head = "groups:\n  - name: g\n    interval: 1s\n    rules:\n"

func TestRecordsFiresAndResolves(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": head + "      - {record: 'test:state', expr: 'pantau_village_state * 2'}\n" +
		alert("Down", "test:state == 6", "quality", "")})
	w.put("pantau_village_state", 3, time.Now().Add(-time.Second), village...)
	w.run()
	w.wait("the alert", func() bool { return w.heard("Down") != nil })
	a := w.heard("Down")
	if a.Labels.Get("village") != "33.10.15.2009" || a.Labels.Get("kind") != "quality" || a.Annotations.Get("value") != "6" || !a.ResolvedAt.IsZero() {
		t.Errorf("told of %+v", a)
	}
	if left := time.Until(a.ValidUntil); left < 55*time.Minute {
		t.Errorf("valid for %v only: a stall would end it", left)
	}
	w.wait("both in the store", func() bool {
		return len(w.query(`ALERTS{alertname="Down", alertstate="firing", regency="33.10"}`)) == 1 && len(w.query("test:state")) == 1
	})
	w.put("pantau_village_state", 1, time.Now(), village...)
	w.wait("the end", func() bool { return !w.heard("Down").ResolvedAt.IsZero() })
	groups := w.RuleGroups()
	if len(groups) != 1 || groups[0].File() != "v.yml" || len(w.AlertingRules()) != 1 {
		t.Errorf("groups %v", groups)
	}
	if n := testutil.ToFloat64(w.refused); n != 0 {
		t.Errorf("%v files refused", n)
	}
}

func TestLooksBackToWhatHasArrived(t *testing.T) {
	w := newWorld(t, map[string]string{
		"v.yml": head + "      - {record: 'test:then', expr: 'timestamp(pantau_village_state) * 0 + time()'}\n",
		"h.yml": "groups: [{name: h, interval: 1s, query_offset: 0s, rules: [{record: 'test:now', expr: 'timestamp(pantau_journal_free_bytes) * 0 + time()'}]}]"})
	w.opt.Offset = 90 * time.Second
	for i := range 4 {
		at := time.Now().Add(-time.Duration(i) * 50 * time.Second)
		w.put("pantau_village_state", 1, at, village...)
		w.put("pantau_journal_free_bytes", 1, at)
	}
	w.run()
	w.wait("both", func() bool {
		return len(w.query("last_over_time(test:then[5m])")) == 1 && len(w.query("last_over_time(test:now[5m])")) == 1
	})
	now := float64(time.Now().Unix())
	for expr, back := range map[string]float64{"last_over_time(test:then[5m])": 90, "last_over_time(test:now[5m])": 0} {
		for _, at := range w.query(expr) {
			if off := now - at - back; off < -2 || off > patience.Seconds() {
				t.Errorf("%s looked %v s back, want %v", expr, now-at, back)
			}
		}
	}
	// What is recorded is of then, too.
	if got := w.query("last_over_time(timestamp(test:then)[5m:1s])"); len(got) != 1 {
		t.Errorf("%v", got)
	}
	for _, at := range w.query("max_over_time(timestamp(test:then)[5m:1s])") {
		if now-at < 80 {
			t.Errorf("recorded %v s ago", now-at)
		}
	}
}

// While the store is behind, or the collector has just begun to listen, only rules
// about the collector are evaluated.
func TestWaitsForTheStoreAndTheProbes(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": head + alert("Down", "pantau_village_state == 3", "quality", ""),
		"h.yml": "groups:\n  - name: h\n    interval: 1s\n    query_offset: 0s\n    rules:\n" + alert("Disk", "pantau_journal_free_bytes < 5", "ours", "")})
	var fresh, listening atomic.Pointer[time.Time]
	long := time.Now().Add(-time.Hour)
	fresh.Store(&long)
	listening.Store(&long)
	w.opt.Fresh = func() time.Time {
		if f := fresh.Load(); f != nil {
			return *f
		}
		return time.Now()
	}
	w.opt.Listening = func() time.Time { return *listening.Load() }
	w.opt.Offset = 2 * time.Second
	for i := range 60 {
		w.put("pantau_village_state", 3, time.Now().Add(time.Duration(i-10)*time.Second), village...)
	}
	w.put("pantau_journal_free_bytes", 1, time.Now())
	w.run()
	waiting := func(want float64) {
		t.Helper()
		if err := testutil.GatherAndCompare(w.reg, strings.NewReader(fmt.Sprintf("# HELP pantau_rules_waiting 1 while rules about villages are not evaluated, because the store is catching up or the collector was away; else 0.\n# TYPE pantau_rules_waiting gauge\npantau_rules_waiting %v\n", want)), "pantau_rules_waiting"); err != nil {
			t.Error(err)
		}
	}
	// evaluations of the collector's group pass; those of villages must not.
	pass := func(n int) {
		t.Helper()
		for range n {
			before := w.own.RuleGroups()[0].GetLastEvaluation()
			w.wait("an evaluation", func() bool { return w.own.RuleGroups()[0].GetLastEvaluation().After(before) })
		}
	}
	w.wait("the disk", func() bool { return w.heard("Disk") != nil })
	pass(3)
	waiting(1)
	if len(w.villages.RuleGroups()) != 0 || w.heard("Down") != nil || len(w.query(`ALERTS{alertname="Down"}`)) != 0 {
		t.Fatal("evaluated on a store that is behind")
	}

	// It has caught up, but listens for one second only.
	fresh.Store(nil)
	now := time.Now()
	listening.Store(&now)
	w.wait("the village", func() bool { return w.heard("Down") != nil })
	if d := time.Since(now); d < w.opt.Offset {
		t.Errorf("told %v after it began to listen", d)
	}
	waiting(0)

	// Behind again: what fires stays, and nothing is judged.
	fresh.Store(&long)
	pass(1)
	last := w.villages.RuleGroups()[0].GetLastEvaluation()
	w.put("pantau_village_state", 1, time.Now().Add(2*time.Minute), village...)
	pass(3)
	if got := w.villages.RuleGroups()[0].GetLastEvaluation(); !got.Equal(last) {
		t.Errorf("evaluated at %v, behind", got)
	}
	if len(w.villages.AlertingRules()[0].ActiveAlerts()) != 1 || !w.heard("Down").ResolvedAt.IsZero() {
		t.Error("the alert ended while nobody looked")
	}
}

// A process that stood still must not judge by what it had before.
func TestStandingStill(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": head + alert("Down", "pantau_village_state == 3", "quality", "")})
	w.opt.Offset = time.Minute
	var err error
	if w.Evaluator, err = New(w.opt); err != nil {
		t.Fatal(err)
	}
	w.wake()
	if w.asleep() || w.Waiting() != "" {
		t.Fatal("awake ", w.Waiting())
	}
	w.tick = w.tick.Add(-nap - time.Second)
	if !w.asleep() {
		t.Error("a stretch without a tick goes unnoticed")
	}
	w.wake()
	if w.asleep() || !strings.Contains(w.Waiting(), "was away") {
		t.Errorf("after it: %q", w.Waiting())
	}
	w.awoke = w.awoke.Add(-time.Minute)
	if w.Waiting() != "" {
		t.Errorf("a minute later: %q", w.Waiting())
	}
	// A suspended machine: the monotonic clock stood still.
	if d := gap(time.Now().Round(0), time.Now().Add(-10*time.Minute).Round(0)); d < 9*time.Minute {
		t.Errorf("a gap of %v", d)
	}
}

// An alert that was pending for long before a restart fires soon after it.
func TestRemembersForOverRestart(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": head + alert("Down", "pantau_village_state == 3", "quality", "for: 2h,") +
		alert("Fresh", "pantau_village_state == 3", "quality", "for: 2h,")})
	for i := range 120 {
		w.put("pantau_village_state", 3, time.Now().Add(time.Duration(i-5)*time.Second), village...)
	}
	w.put("ALERTS_FOR_STATE", float64(time.Now().Add(-3*time.Hour).Unix()), time.Now().Add(-30*time.Minute),
		append([]string{"alertname", "Down", "kind", "quality", "severity", "warning"}, village...)...)
	w.run()
	w.wait("the alert of before", func() bool { return w.heard("Down") != nil })
	if w.heard("Fresh") != nil {
		t.Error("one that nobody remembers fired at once")
	}
}

func TestRuleDirectory(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, map[string]string{"v.yml": head + alert("Down", "pantau_village_state == 3", "quality", ""),
		"w.yml": head + alert("Other", "pantau_village_state == 2", "quality", "")})
	w.opt.Dir, w.opt.Look = dir, 4*time.Second
	names := func() string {
		var out []string
		for _, r := range w.AlertingRules() {
			out = append(out, r.Name())
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}

	// Wrong at the start: the built-in ones are in force.
	write("mine.yml", head+"      - {record: 'test:x', expr: 'pantau_vilage_state'}\n")
	w.run()
	w.wait("the built-in ones", func() bool { return names() == "Down Other" })
	if n := testutil.ToFloat64(w.refused); n != 1 || !strings.Contains(w.said(), "mine.yml:5: test:x: there is no series pantau_vilage_state; did you mean pantau_village_state?") {
		t.Errorf("%v refused: %s", n, w.said())
	}

	// Mended, and one of a built-in one's name; and one that says nothing.
	write("mine.yml", head+alert("Mine", "pantau_village_state == 4", "ours", ""))
	write("v.yml", head+alert("Instead", "pantau_village_state == 5", "quality", ""))
	if err := w.Reload(); err != nil || names() != "Instead Mine Other" || testutil.ToFloat64(w.refused) != 0 {
		t.Errorf("%v: %s", err, names())
	}
	write("w.yml", "# taken out\n")
	if err := w.Reload(); err != nil || names() != "Instead Mine" {
		t.Errorf("%v: %s", err, names())
	}

	// Wrong again, two files: the last good set stays.
	write("mine.yml", "groups: [{name: a, rules: [{alert: Bad, expr: 'up'}]}]")
	write("more.yml", "groups:\n  - nam: a\n")
	err := w.Reload()
	var wrong rules.Problems
	if !errors.As(err, &wrong) || names() != "Instead Mine" || testutil.ToFloat64(w.refused) != 2 {
		t.Errorf("%v: %s, %v refused", err, names(), testutil.ToFloat64(w.refused))
	}
	if !strings.Contains(err.Error(), "more.yml:2: field nam not found") || !strings.Contains(err.Error(), "mine.yml:1: Bad: there is no series up") {
		t.Error(err)
	}

	// Gone as a whole: somebody moved the wrong directory.
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(); err == nil || names() != "Instead Mine" || testutil.ToFloat64(w.refused) != 1 {
		t.Errorf("%v: %s", err, names())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}

	// It is looked at unasked.
	write("mine.yml", "")
	if err := os.Remove(filepath.Join(dir, "more.yml")); err != nil {
		t.Fatal(err)
	}
	w.wait("a look at the directory", func() bool { return names() == "Instead" })
}

func TestFilesChangeBeforeRun(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": head + alert("Down", "pantau_village_state == 3", "quality", "")})
	w.opt.Dir = t.TempDir()
	var err error
	if w.Evaluator, err = New(w.opt); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.opt.Dir, "v.yml"), []byte(head+alert("Instead", "pantau_village_state == 3", "ours", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(); err != nil || len(w.RuleGroups()) != 0 {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Run(ctx); err != nil { // and ends though nothing was evaluated
		t.Fatal(err)
	}
}

func TestBuiltInFilesMustBeGood(t *testing.T) {
	w := newWorld(t, map[string]string{"v.yml": "groups: [{name: a, rules: [{record: 'a:b', expr: 'up'}]}]"})
	if _, err := New(w.opt); err == nil || !strings.Contains(err.Error(), "v.yml:1: a:b: there is no series up") {
		t.Error(err)
	}
}

// All built-in rules, over an empty store and one with a village in it.
func TestBuiltInRulesAreEvaluated(t *testing.T) {
	w := newWorld(t, nil)
	w.opt.Files = rules.Files()
	for name, data := range w.opt.Files {
		w.opt.Files[name] = bytes.ReplaceAll(bytes.ReplaceAll(data, []byte("interval: 1m"), []byte("interval: 1s")), []byte("interval: 5m"), []byte("interval: 1s"))
	}
	for i := range 30 {
		at := time.Now().Add(time.Duration(i-20) * time.Minute / 2)
		site := append([]string{"site", "s", "probe", "p"}, village...)
		w.put("pantau_village_state", 1, at, village...)
		w.put("pantau_link_receive_bytes_total", float64(i)*1e6, at, site...)
		w.put("pantau_download_bits_per_second", 5e6, at, append([]string{"target", "t"}, site...)...)
		w.put("pantau_packet_loss_ratio", 0.5, at, append([]string{"target", "t"}, site...)...)
	}
	w.run()
	n := 0
	w.wait("all of them", func() bool {
		n = 0
		for _, g := range w.RuleGroups() {
			for _, r := range g.Rules() {
				if r.Health() == prules.HealthBad {
					t.Fatalf("%s: %v", r.Name(), r.LastError())
				}
				if r.Health() == prules.HealthGood {
					n++
				}
			}
		}
		return n >= 60 && len(w.query("pantau_link_utilisation_ratio")) == 1
	})
}

func TestBlindness(t *testing.T) {
	w := newWorld(t, map[string]string{"h.yml": head + alert("Disk", "pantau_journal_free_bytes < 5", "ours", "")})
	written := time.Now()
	w.opt.Written = func() time.Time { return written }
	var err error
	if w.Evaluator, err = New(w.opt); err != nil {
		t.Fatal(err)
	}
	var b blindness
	b.look(t.Context(), w.Evaluator)
	written = written.Add(-time.Hour)
	b.look(t.Context(), w.Evaluator) // it moved, if backwards
	for i := range blindAfter {
		if w.heard("CollectorBlind") != nil {
			t.Fatalf("told after %d looks", i)
		}
		b.look(t.Context(), w.Evaluator)
	}
	a := w.heard("CollectorBlind")
	if a == nil || a.Labels.Get("kind") != "ours" || a.Labels.Get("severity") != "critical" || !strings.Contains(a.Annotations.Get("description"), "own metrics cannot be stored") {
		t.Fatalf("told of %+v", a)
	}
	told := len(w.told)
	b.look(t.Context(), w.Evaluator)
	if len(w.told) != told {
		t.Error("told again within a minute")
	}
	b.told = b.told.Add(-time.Hour)
	b.look(t.Context(), w.Evaluator)
	if len(w.told) != told+1 || !w.heard("CollectorBlind").FiredAt.Equal(a.FiredAt) {
		t.Error("not told again")
	}
	written = time.Now()
	b.look(t.Context(), w.Evaluator)
	if w.heard("CollectorBlind").ResolvedAt.IsZero() {
		t.Error("its end is not told")
	}
}

// A store that is closed under it: the rules fail, and that is seen.
func TestBlindnessBySickRules(t *testing.T) {
	w := newWorld(t, map[string]string{"h.yml": head + alert("Disk", "pantau_journal_free_bytes < 5", "ours", "")})
	w.run()
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	var b blindness
	w.wait("a rule that fails", func() bool { return strings.Contains(b.why(w.Evaluator), "Disk: ") })
}

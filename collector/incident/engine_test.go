package incident

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/incident/linelog"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const childLog = "PANTAU_INCIDENT_CHILD_LOG"

// TestKill asks the test binary to be the child.
func TestMain(m *testing.M) {
	if path := os.Getenv(childLog); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child lets ODC-1 fall and come back for ever, as fast as the disk allows, and
// prints the number of each event that it was told of.
func child(path string) {
	inv := parseNetwork(&testing.T{}, wide)
	start := time.Now().Add(-1000 * time.Hour).Truncate(time.Second)
	e, err := New(Options{Path: path, Inventory: func() *inventory.Inventory { return inv },
		Notify: func(ev Event) {
			_, _ = os.Stdout.WriteString(fmt.Sprintf("%d %s %s\n", ev.Seq, ev.Type, ev.Incident.ID))
		}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if last, err := e.Recent(time.Time{}); err == nil && len(last) > 0 {
		start = last[0].OpenedAt.Add(time.Hour)
	}
	sites := inv.Sites(noon)
	beats := map[measure.SiteID]time.Time{}
	for at := time.Duration(0); ; at += 5 * time.Second {
		v := View{Uplink: wire.Yes}
		for _, s := range sites {
			dark := strings.HasPrefix(string(s.ID), "a") && at%(20*time.Minute) >= 5*time.Minute && at%(20*time.Minute) < 9*time.Minute
			if !dark {
				beats[s.ID] = start.Add(at)
			}
			v.Sites = append(v.Sites, SiteView{Site: s.ID, State: state.Up, LastBeat: beats[s.ID]})
		}
		if err := e.Observe(start.Add(at), v); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
}

func TestKillNine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "incidents.jsonl")
	seen := map[uint64]string{} // as told before a kill
	for round := range 4 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childLog+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			num, rest, _ := strings.Cut(lines.Text(), " ")
			seq, err := strconv.ParseUint(num, 10, 64)
			if err != nil {
				t.Fatalf("child said %q", lines.Text())
			}
			if old, ok := seen[seq]; ok {
				t.Fatalf("event %d was told twice: %s and %s", seq, old, rest)
			}
			seen[seq] = rest
			if n == 20+7*round {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()

		inv := parseNetwork(t, wide)
		e, err := New(Options{Path: path, Inventory: func() *inventory.Inventory { return inv }})
		if err != nil {
			t.Fatal(err)
		}
		kept, err := e.EventsAfter(0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		have := map[uint64]string{}
		state := map[ID]Incident{}
		for _, ev := range kept {
			have[ev.Seq] = fmt.Sprintf("%s %s", ev.Type, ev.Incident.ID)
			if old, ok := state[ev.Incident.ID]; (ev.Type == Opened) == ok || ok && !old.Open() {
				t.Errorf("%s of %s out of turn", ev.Type, ev.Incident.ID)
			}
			state[ev.Incident.ID] = ev.Incident
		}
		for seq, what := range seen {
			if have[seq] != what {
				t.Errorf("round %d: told of %d %s, kept %q", round, seq, what, have[seq])
			}
		}
		open := 0
		for id, i := range state {
			if i.Open() {
				open++
			}
			if got, err := e.ByID(id); err != nil || got.Open() != i.Open() || ids(got.Sites) != ids(i.Sites) {
				t.Errorf("%s: %v, open %v", id, err, got.Open())
			}
		}
		if len(e.Open()) != open || e.Damaged() != 0 {
			t.Errorf("%d open, want %d; %d damaged", len(e.Open()), open, e.Damaged())
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) < 4*20 {
		t.Errorf("only %d events", len(seen))
	}
}

func TestNothingIsToldThatIsNotDurable(t *testing.T) {
	w := newWorld(t, sixVillages)
	if err := w.engine.log.Close(); err != nil { // the disk is gone
		t.Fatal(err)
	}
	v := View{Uplink: wire.Yes}
	failed := 0
	for range 400 {
		w.now = w.now.Add(time.Second)
		v.Sites = v.Sites[:0]
		for _, id := range w.sites {
			s := *w.view[id]
			if id[0] != 'a' {
				s.LastBeat = w.now
			}
			v.Sites = append(v.Sites, s)
		}
		if err := w.engine.Observe(w.now, v); err != nil {
			failed++
		}
	}
	if failed == 0 || len(w.events) != 0 {
		t.Fatalf("%d failures, told %v", failed, w.events)
	}
	w.cut("a1", "a2", "a3")
	w.restart(time.Second)
	w.run(3 * time.Minute)
	w.wantTold(`opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`)
}

func TestADamagedLogIsUsedAsFarAsItGoes(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(5 * time.Minute)
	w.cut("b1")
	w.run(5 * time.Minute)
	seq := w.events[len(w.events)-1].Seq
	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(raw, []byte(`"opened"`))
	raw[at+1] = 'O'
	if err := os.WriteFile(w.path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	if n := len(w.engine.Open()); n != 1 || w.engine.Damaged() != 1 {
		t.Fatalf("%d open, %d damaged", n, w.engine.Damaged())
	}
	w.run(10 * time.Minute)
	if last := w.events[len(w.events)-1]; last.Seq <= seq || last.Incident.Sites[0].Site != "b1" {
		t.Errorf("event %d after %d: %v", last.Seq, seq, last)
	}
}

func TestALineThatStandsTwiceCountsOnce(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1")
	w.run(10 * time.Minute)
	if err := w.engine.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.path, append(raw, raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	w.start()
	all, err := w.engine.EventsAfter(0, 100)
	if err != nil || len(all) != len(w.events) || w.engine.Damaged() == 0 {
		t.Errorf("%d events, %d damaged, %v", len(all), w.engine.Damaged(), err)
	}
}

func TestShortTimers(t *testing.T) {
	w := newWorld(t, sixVillages, func(w *world) {
		w.timers = Timers{Good: 40 * time.Second, GoodGroup: 50 * time.Second, Records: time.Minute}
	})
	w.cut("a1", "a2", "a3")
	w.run(5 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(2 * time.Minute)
	if len(w.events) != 2 || w.events[1].Type != Recovered {
		t.Fatal(w.told())
	}
}

// The whole way from heartbeats: the real states, ticking on their own clock.
func TestFromHeartbeatsToAnIncident(t *testing.T) {
	path := filepath.Join(t.TempDir(), "incidents.jsonl")
	inv := parseNetwork(t, sixVillages)
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		// synctest's clock starts in 2000, before the inventory; the engine is given the
		// same clock, moved.
		shift := noon.Sub(begin)
		reg := prometheus.NewRegistry()
		states := state.New(state.Options{
			Sites: func(time.Time) (out []state.Site) {
				for _, s := range inv.Sites(noon) {
					out = append(out, state.Site{ID: s.ID, Coverage: true, Probes: []measure.ProbeID{"p-" + measure.ProbeID(s.ID)}})
				}
				return out
			},
			Enrolled:   func(measure.ProbeID) bool { return true },
			Keep:       func(_ context.Context, _ state.Snapshot) error { return nil },
			Stalled:    func(context.Context, time.Time, time.Time) {},
			Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)),
			Registerer: reg,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); states.Run(ctx) }()
		defer func() { cancel(); <-done }()

		var events []Event
		e, err := New(Options{Path: path, Inventory: func() *inventory.Inventory { return inv }, Registerer: reg,
			Notify: func(ev Event) { events = append(events, ev) }})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		counter := uint64(0)
		run := func(d time.Duration, dark string) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				synctest.Wait()
				if s := int(time.Since(begin).Seconds()); s%30 == 0 {
					for _, x := range inv.Sites(noon) {
						if dark == "" || !strings.HasPrefix(string(x.ID), dark) {
							counter++
							states.Beat(wire.Heartbeat{Probe: "p-" + measure.ProbeID(x.ID), Counter: counter}, time.Now())
						}
					}
				}
				v := View{Uplink: wire.Yes}
				for _, s := range states.Snapshot().Sites {
					x := SiteView{Site: s.Site, State: s.State, Since: s.Since.Add(shift)}
					if !s.LastBeat.IsZero() {
						x.LastBeat = s.LastBeat.Add(shift)
					}
					v.Sites = append(v.Sites, x)
				}
				if err := e.Observe(time.Now().Add(shift), v); err != nil {
					t.Fatal(err)
				}
			}
		}
		run(5*time.Minute, "")
		run(8*time.Minute, "b")
		if len(events) != 1 || events[0].Incident.Place.Node != "ODC-2" {
			t.Fatalf("%v", events)
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.Metric {
				if f.GetName() == "pantau_collector_incidents_open" && m.Label[0].GetValue() == "outage" && m.GetGauge().GetValue() != 1 {
					t.Errorf("%v outages open", m.GetGauge().GetValue())
				}
			}
		}
		run(16*time.Minute, "")
		if len(events) != 2 || events[1].Type != Recovered {
			t.Fatalf("%v", events)
		}
	})
}

func TestAnEventSurvivesJSON(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3", "s1")
	w.run(10 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(10 * time.Minute)
	if len(w.events) == 0 {
		t.Fatal("no events")
	}
	for _, ev := range w.events {
		raw, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ev, got); d != "" {
			t.Error(d)
		}
	}
}

func FuzzRestore(f *testing.F) {
	w := newWorld(f, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(5 * time.Minute)
	raw, err := json.Marshal(w.events[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"seq":1,"at":"2026-03-14T05:00:00Z","type":"opened","incident":{"id":"G-3310-260314-01","kind":"ours"}}`))
	inv := w.inv
	f.Fuzz(func(t *testing.T, object []byte) {
		ev, err := decode(object)
		if err != nil {
			if !errors.Is(err, linelog.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		c := newCourse(Timers{})
		c.restore(ev)
		c.resume()
		for s := range 3 {
			c.step(inv, noon.Add(time.Duration(s)*time.Second), View{Sites: []SiteView{{Site: "a1", State: state.Up, LastBeat: noon}}})
		}
	})
}

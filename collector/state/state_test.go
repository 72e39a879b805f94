package state

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

func TestOfVillage(t *testing.T) {
	for _, c := range []struct {
		sites []State
		want  State
	}{
		{nil, NoCoverage},
		{[]State{NoCoverage}, NoCoverage},
		{[]State{NeverSeen}, NeverSeen},
		{[]State{NoCoverage, NeverSeen}, NeverSeen},
		{[]State{Up, Up}, Up},
		{[]State{Down, Down}, Down},
		{[]State{Up, Down}, Degraded},
		{[]State{Down, Up}, Degraded},
		{[]State{ProbeFault}, ProbeFault},
		{[]State{Down, ProbeFault}, Degraded},
		{[]State{Up, NeverSeen}, Up},
		{[]State{NeverSeen, Down}, Down},
		{[]State{Maintenance, Maintenance, NoCoverage}, Maintenance},
	} {
		if got := OfVillage(c.sites); got != c.want {
			t.Errorf("%v: %v, want %v", c.sites, got, c.want)
		}
	}
}

func TestSnapshotSurvivesTheJournal(t *testing.T) {
	at := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	want := Snapshot{At: at, Sites: []SiteState{
		{Site: "a", State: Up, Since: at.Add(-time.Hour), LastBeat: at},
		{Site: "b", State: NeverSeen},
	}}
	raw, err := want.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var got Snapshot
	if err := got.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for i := range raw {
		bad := append([]byte(nil), raw[:i]...)
		if err := got.UnmarshalBinary(bad); err == nil || !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	raw, err := Snapshot{At: time.Unix(1, 0), Sites: []SiteState{{Site: "a", State: Up}}}.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var s Snapshot
		if err := s.UnmarshalBinary(raw); err != nil && !errors.Is(err, ErrSnapshot) {
			t.Fatal(err)
		}
	})
}

// fleet is an engine with three sites: a has a probe, b has none, c no coverage.
type fleet struct {
	*Engine
	kept    []Snapshot
	stalls  int
	failing atomic.Bool
	began   time.Time
	counter uint64
	shift   atomic.Int64 // how far the clock went on while nothing ran
}

func (f *fleet) clock() time.Time { return time.Now().Add(time.Duration(f.shift.Load())) }

func newFleet(t *testing.T, edit ...func(*Options)) (*fleet, func()) {
	t.Helper()
	f := &fleet{began: time.Now()}
	o := Options{
		Sites: func(time.Time) []Site {
			return []Site{{ID: "a", Probes: []measure.ProbeID{"pa"}, Coverage: true}, {ID: "b", Coverage: true}, {ID: "c"}}
		},
		Enrolled: func(measure.ProbeID) bool { return false },
		Keep: func(_ context.Context, s Snapshot) error {
			if f.failing.Load() {
				return errors.New("no space left on device")
			}
			f.kept = append(f.kept, s)
			return nil
		},
		Stalled:    func(context.Context, time.Time, time.Time) { f.stalls++ },
		Now:        f.clock,
		Logger:     slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer: prometheus.NewRegistry(),
	}
	for _, e := range edit {
		e(&o)
	}
	f.Engine = New(o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	return f, func() { cancel(); <-done }
}

func (f *fleet) state(t *testing.T, id measure.SiteID) SiteState {
	t.Helper()
	synctest.Wait()
	for _, s := range f.Snapshot().Sites {
		if s.Site == id {
			return s
		}
	}
	t.Fatalf("no site %s", id)
	return SiteState{}
}

func (f *fleet) beat(h wire.Health) {
	f.counter++
	f.Beat(wire.Heartbeat{Probe: "pa", Counter: f.counter, Health: h}, f.clock())
}

// beatFor beats every 30 s.
func (f *fleet) beatFor(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(30 * time.Second) {
		f.beat(0)
	}
}

func (f *fleet) reach(t *testing.T, age time.Duration, boot measure.BootID, reachable float64) {
	t.Helper()
	mono := time.Since(f.began) + time.Hour
	f.Batch("pa", f.clock(), wire.Batch{Results: []measure.Result{{Kind: measure.KindReach, Outcome: measure.OK, Boot: boot,
		Monotonic: mono - age, Values: []measure.Value{{Metric: measure.ODPReachable, Number: reachable}}}}},
		wire.Sent{Boot: "now", Mono: mono})
}

func TestFirstBeatSilenceAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		defer stop()
		for id, want := range map[measure.SiteID]State{"a": NeverSeen, "b": NeverSeen, "c": NoCoverage} {
			if got := f.state(t, id); got.State != want {
				t.Errorf("%s is %v, want %v", id, got.State, want)
			}
		}
		time.Sleep(10 * time.Minute)
		if got := f.state(t, "a"); got.State != NeverSeen {
			t.Errorf("never seen, yet %v", got.State)
		}
		f.beat(0)
		time.Sleep(2 * time.Second)
		if got := f.state(t, "a"); got.State != Up {
			t.Errorf("after the first beat: %v", got.State)
		}
		f.beatFor(10 * time.Minute)
		last := f.state(t, "a").LastBeat
		time.Sleep(130 * time.Second) // 160 s of silence
		if got := f.state(t, "a"); got.State != Up {
			t.Errorf("after 160 s of silence: %v", got.State)
		}
		time.Sleep(15 * time.Second)
		if got := f.state(t, "a"); got.State != Down || !got.Since.Equal(last) {
			t.Errorf("after 175 s of silence: %v since %v, last beat %v", got.State, got.Since, last)
		}
		f.beat(0)
		time.Sleep(2 * time.Second)
		if got := f.state(t, "a"); got.State != Up {
			t.Errorf("at the first beat after: %v", got.State)
		}
	})
}

func TestThreeFailedReachResultsDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		defer stop()
		f.beat(0)
		time.Sleep(time.Second)
		step := func(v float64) { f.reach(t, 0, "now", v); f.beat(0); time.Sleep(time.Minute) }
		step(0)
		step(0)
		if got := f.state(t, "a"); got.State != Up {
			t.Fatalf("after two: %v", got.State)
		}
		step(0)
		if got := f.state(t, "a"); got.State != Degraded {
			t.Fatalf("after three: %v", got.State)
		}
		step(1)
		if got := f.state(t, "a"); got.State != Up {
			t.Fatalf("after a good one: %v", got.State)
		}
	})
}

func TestBackFillOfACutDoesNotDegrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		defer stop()
		f.beatFor(2 * time.Minute)
		time.Sleep(5 * time.Minute)
		f.beat(0)
		for age := range 5 {
			f.reach(t, time.Duration(age)*30*time.Second+time.Second, "now", 0) // fresh by age, but of the cut
		}
		f.reach(t, 0, "another boot", 0)
		f.reach(t, time.Hour, "now", 0)
		time.Sleep(2 * time.Second)
		if got := f.state(t, "a"); got.State != Up {
			t.Fatal(got.State)
		}
	})
}

func TestAFaultyProbeIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		defer stop()
		f.beat(wire.HealthPermission)
		time.Sleep(2 * time.Second)
		if got := f.state(t, "a"); got.State != ProbeFault {
			t.Fatal(got.State)
		}
		f.beat(wire.HealthClock)
		time.Sleep(2 * time.Second)
		if got := f.state(t, "a"); got.State != Up {
			t.Fatalf("a wrong clock is corrected, yet %v", got.State)
		}
	})
}

func TestAfterAStartNobodyGoesDownEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hourAgo := time.Now().Add(-time.Hour)
		f, stop := newFleet(t, func(o *Options) {
			o.Restored = Snapshot{At: hourAgo, Sites: []SiteState{{Site: "a", State: Up, Since: hourAgo, LastBeat: hourAgo}}}
		})
		defer stop()
		time.Sleep(165 * time.Second)
		if got := f.state(t, "a"); got.State != Up || !got.Since.Equal(hourAgo) {
			t.Fatalf("%+v", got)
		}
		time.Sleep(10 * time.Second)
		if got := f.state(t, "a"); got.State != Down || !got.Since.Equal(hourAgo) {
			t.Fatalf("%+v", got)
		}
	})
}

func TestOurOwnStallBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		defer stop()
		f.beatFor(5 * time.Minute)
		// The process is stopped for ten minutes: the clock goes on, nothing runs. The
		// shift stands for the pause, which synctest's clock cannot have.
		f.shift.Store(int64(10 * time.Minute))
		time.Sleep(160 * time.Second)
		if got := f.state(t, "a"); got.State != Up {
			t.Fatalf("%v while we listen again for less than 170 s", got.State)
		}
		if f.stalls != 1 {
			t.Fatalf("%d stalls noticed", f.stalls)
		}
		time.Sleep(15 * time.Second)
		if got := f.state(t, "a"); got.State != Down {
			t.Fatalf("%v after 175 s of listening in vain", got.State)
		}
	})
}

func TestEveryMinuteAndEveryChangeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t)
		time.Sleep(10*time.Minute + 30*time.Second + tick/2) // between two ticks
		f.beat(0)
		time.Sleep(3 * time.Second)
		f.failing.Store(true)
		time.Sleep(5 * time.Minute)
		f.failing.Store(false)
		time.Sleep(3 * time.Second)
		stop()
		var up time.Time
		gap := time.Duration(0)
		for i, s := range f.kept {
			if len(s.Sites) != 3 {
				t.Fatalf("a snapshot of %d sites", len(s.Sites))
			}
			if up.IsZero() && s.Sites[0].State == Up {
				up = s.At
			}
			if i > 0 {
				gap = max(gap, s.At.Sub(f.kept[i-1].At))
			}
		}
		if d := up.Sub(f.began); d < 630*time.Second || d > 632*time.Second {
			t.Errorf("the change was kept %v after the start, want 630 s and little more", d)
		}
		if gap < 5*time.Minute || gap > 5*time.Minute+5*time.Second {
			t.Errorf("largest gap %v: the disk failed for five minutes", gap)
		}
		if n := len(f.kept); n < 12 || n > 14 {
			t.Errorf("%d snapshots", n)
		}
	})
}

func TestMetricsCountSites(t *testing.T) {
	reg := prometheus.NewRegistry()
	synctest.Test(t, func(t *testing.T) {
		_, stop := newFleet(t, func(o *Options) { o.Registerer = reg })
		stop()
	})
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "pantau_collector_sites" && m.GetGauge().GetValue() > 0 {
				b.WriteString(m.Label[0].GetValue() + " ")
			}
		}
	}
	if b.String() != "never_seen no_coverage " {
		t.Fatal(b.String())
	}
}

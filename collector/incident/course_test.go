package incident

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

func TestACutODCIsOneIncident(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.run(17 * time.Second)
	cut := w.now
	w.cut("a1", "a2", "a3")
	w.run(169 * time.Second)
	opened := w.events
	w.run(10 * time.Minute)
	if len(opened) != 1 {
		t.Fatalf("%d events within 169 s of the cut: the last beats are older than it", len(opened))
	}
	w.wantTold(`opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`)

	i := opened[0].Incident
	if d := i.OpenedAt.Sub(i.Since); d != 170*time.Second {
		t.Errorf("opened after %v of silence", d)
	}
	if i.Since.After(cut) || cut.Sub(i.Since) > 30*time.Second {
		t.Errorf("since %v, cut at %v", i.Since, cut)
	}
	if got := ids(i.Sites); got != "a1 a2 a3" {
		t.Errorf("sites %s", got)
	}
	if vs := i.Villages(); len(vs) != 3 || vs[0].Code != "33.10.15.2001" || vs[0].Name != "Desa a1" || *vs[0].Population != 1000 || !vs[0].Until.IsZero() {
		t.Errorf("villages %+v", vs)
	}
	if *i.Population() != 3000 {
		t.Errorf("population %d", *i.Population())
	}
	facts := map[FactKind]Fact{}
	for _, f := range i.Evidence {
		facts[f.Kind] = f
	}
	if f := facts[FellTogether]; f.Node != "ODC-1" || f.Count != 3 || f.Of != 3 || f.Spread > 30*time.Second {
		t.Errorf("%+v", f)
	}
	if f := facts[NeighboursUp]; f.Node != "OLT-1" || f.Count != 3 || f.Of != 3 {
		t.Errorf("%+v", f)
	}
	if _, ok := facts[UplinkWorks]; !ok {
		t.Errorf("no word of our uplink: %+v", i.Evidence)
	}

	w.mend("a1", "a2", "a3")
	ago := w.now.Sub(cut)
	w.run(30 * time.Second)
	w.evidence(w.network(ago), "a1", "a2", "a3")
	w.run(15 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=
		recovered G-3310-260314-01 outage ODC-1..PON-1 0/3 guess=odp_or_feeder cause=odp_or_feeder`)
	last := w.events[1].Incident
	if d := last.RecoveredAt.Sub(last.Until); d != 5*time.Minute {
		t.Errorf("recovered %v after the last one came back", d)
	}
	var steps []string
	for _, e := range last.Timeline {
		steps = append(steps, string(e.Step))
	}
	if got := strings.Join(steps, " "); got != "fell opened back all_back recovered" {
		t.Errorf("timeline: %s", got)
	}
	if len(w.engine.Open()) != 0 {
		t.Error("still open")
	}
}

// What is told of one cut, in each of many forms. Everything falls at once, and
// stays silent for ten minutes.
func TestWhereItBroke(t *testing.T) {
	for _, c := range []struct {
		name, network, cut, want string
		flags                    func(*SiteView)
	}{
		{"one drop of many ODPs", sixVillages, "a2", `opened G-3310-260314-01 outage <=ODP-a2 1/1 guess=power cause=`, nil},
		{"one of two on an ODP", wide, "s1", `opened G-3310-260314-01 outage <=ODP-s(drop) 1/1 guess=power cause=`, nil},
		{"one of the only ODP", shared, "u1", `opened G-3310-260314-01 outage <=ODP-u(drop) 1/1 guess=power cause=`, nil},
		{"two of the only ODP", shared, "u1 u2", `
			opened G-3310-260314-01 outage <=ODP-u(drop) 1/1 guess=power cause=
			opened G-3310-260314-02 outage <=ODP-u(drop) 1/1 guess=power cause=`, nil},
		{"all of the only ODP", shared, "u1 u2 u3", `opened G-3310-260314-01 outage ODP-u..BNG-5 3/3 guess=odp_or_feeder cause=`, nil},
		{"both on an ODP", wide, "s1 s2", `opened G-3310-260314-01 outage <=ODP-s 2/2 guess=odp_or_feeder cause=`, nil},
		{"both of an ODC", wide, "t1 t2", `opened G-3310-260314-01 outage <=PON-4 2/2 guess=odp_or_feeder cause=`, nil},
		{"two of five", wide, "a1 a2", `
			opened G-3310-260314-01 outage <=ODP-a2 1/1 guess=power cause=
			opened G-3310-260314-02 outage <=ODP-a1 1/1 guess=power cause=`, nil},
		{"three of five", wide, "a1 a2 a5", `opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`, nil},
		{"three of four", wide, "b1 b2 b4", `opened G-3310-260314-01 outage ODC-2..PON-2 3/3 guess=odp_or_feeder cause=`, nil},
		{"an OLT", wide, "a1 a2 a3 a4 a5 b1 b2 b3 b4", `opened G-3310-260314-01 outage OLT-1 9/9 guess=olt cause=`, nil},
		{"both OLTs", wide, "a1 a2 a3 a4 a5 b1 b2 b3 s1 s2 s3 t1 t2", `opened G-3310-260314-01 outage BNG-1 13/13 guess=upstream cause=`, nil},
		{"one ODC and one site of the next", wide, "a1 a2 a3 a4 a5 b1", `
			opened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=odp_or_feeder cause=
			opened G-3310-260314-02 outage <=ODP-b1 1/1 guess=power cause=`, nil},
		{"on no known node", wide, "m1", `opened G-3310-260314-01 outage <= 1/1 guess=power cause=`, nil},
		{"two networks in one district", wide, "t1 t2 x1 x2 x3 x4 x5", `
			opened G-3310-260314-01 outage <=PON-4 2/2 guess=power cause=
			opened G-3310-260314-02 outage ODC-9..BNG-9 5/5 guess=power cause=`, nil},
		{"the ONT went first", wide, "a1", `opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=premises cause=`,
			func(v *SiteView) { v.Carrier = wire.No }},
		{"beyond the first hop", wide, "a1 a2 a3 a4 a5", `opened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=upstream cause=`,
			func(v *SiteView) { v.FirstHop, v.Beyond = wire.Yes, wire.No }},
		{"a probe that ailed", wide, "a1", `opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=probe cause=`,
			func(v *SiteView) { v.Health = wire.HealthSpool }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.network)
			for s := range strings.FieldsSeq(c.cut) {
				w.cut(measure.SiteID(s))
				if c.flags != nil {
					c.flags(w.view[measure.SiteID(s)])
				}
			}
			w.run(10 * time.Minute)
			w.wantTold(c.want)
		})
	}
}

func TestWhenItIsConfirmed(t *testing.T) {
	for _, c := range []struct {
		name  string
		setup func(*world)
		after time.Duration
	}{
		{"nothing but silence", func(w *world) { w.cut("a1") }, 230 * time.Second},
		{"a sibling fell too", func(w *world) { w.cut("a1", "a2") }, 170 * time.Second},
		{"its last beat told of trouble", func(w *world) { w.cut("a1"); w.view["a1"].Beyond = wire.No }, 170 * time.Second},
		{"a sibling reaches nothing", func(w *world) { w.cut("a1"); w.failing["a2"] = true }, 170 * time.Second},
		{"a sibling fell long before", func(w *world) { w.cut("a2"); w.run(6 * time.Minute); w.cut("a1") }, 230 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, wide)
			c.setup(w)
			w.run(4*time.Minute + 30*time.Second)
			for _, e := range w.events {
				if e.Type == Opened && e.Incident.Kind == Outage && ids(e.Incident.Sites) != "a2" {
					if d := e.Incident.OpenedAt.Sub(e.Incident.Since); d != c.after {
						t.Errorf("%v: opened after %v of silence, want %v", e, d, c.after)
					}
					return
				}
			}
			t.Fatalf("nothing opened: %s", w.told())
		})
	}
}

func TestAShortSilenceIsNothing(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(2 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(10 * time.Minute)
	w.wantTold("")
}

func TestPowerIsNotTheProviders(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(20 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(time.Minute)
	w.evidence(w.power(21*time.Minute), "a1", "a2")
	w.run(6 * time.Minute) // a3 has not told yet
	if len(w.events) != 1 {
		t.Fatalf("did not wait for the records:\n%s", w.told())
	}
	w.evidence(w.power(27*time.Minute), "a3")
	w.run(2 * time.Second)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=
		recovered G-3310-260314-01 outage ODC-1..PON-1 0/3 guess=odp_or_feeder cause=power`)
	if c := w.events[1].Incident.Cause; c.Provider() {
		t.Errorf("%s is charged to the provider", c)
	}
	for _, s := range w.events[1].Incident.Sites {
		if s.Cause != CausePower || s.Record == nil {
			t.Errorf("%s: %q", s.Site, s.Cause)
		}
	}
}

func TestARecoveryWaitsTenMinutesAndNoLonger(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1")
	w.run(10 * time.Minute)
	w.mend("a1")
	w.run(15 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=power cause=
		recovered G-3310-260314-01 outage <=ODP-a1 0/1 guess=power cause=`)
	i := w.events[1].Incident
	if d := i.RecoveredAt.Sub(i.Until); d != 10*time.Minute {
		t.Errorf("waited %v", d)
	}
	if w.engine.Evidence("a1", Record{From: noon.Add(-time.Hour), To: noon}) ||
		w.engine.Evidence("a1", Record{From: i.Until.Add(time.Second), To: i.Until.Add(time.Minute)}) || w.engine.Evidence("b1", w.network(30*time.Minute)) {
		t.Error("a record of another time, or of a site that was up, found an incident")
	}
	w.run(20 * time.Minute)
	r := w.network(10 * time.Minute)
	r.From, r.To = i.Since, i.Until
	w.evidence(r, "a1")
	w.run(time.Second)
	w.evidence(r, "a1") // the same again
	w.run(time.Minute)
	r.FirstHop.Asked--
	w.evidence(r, "a1") // another record that tells the same
	w.run(time.Minute)
	if len(w.events) != 3 || w.events[2].Type != CauseFound || w.events[2].Incident.Cause != CauseDropCable {
		t.Fatalf("after the late record:\n%s", w.told())
	}
	if got, err := w.engine.ByID(i.ID); err != nil || got.Cause != CauseDropCable {
		t.Errorf("%v %v", got.Cause, err)
	}
}

func TestSiblingsThatFollowPromote(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3", "a4", "a5")
	w.run(4 * time.Minute)
	w.cut("b1", "b2", "b3", "b4")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=odp_or_feeder cause=
		widened G-3310-260314-01 outage OLT-1 9/9 guess=olt cause=`)
}

func TestOthersOfTheSameNodeJoin(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3")
	w.run(30 * time.Minute)
	w.cut("a4")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=
		widened G-3310-260314-01 outage ODC-1..PON-1 4/4 guess=odp_or_feeder cause=`)
}

func TestLoneIncidentsThatTurnOutToBeOneMerge(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1")
	w.run(4*time.Minute + 20*time.Second)
	w.cut("a2")
	w.cut("a3")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=power cause=
		widened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`)

	w = newWorld(t, wide)
	w.cut("a1")
	w.run(100 * time.Second)
	w.cut("a2")
	w.run(145 * time.Second) // both are open
	w.cut("a3", "a4")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=power cause=
		opened G-3310-260314-02 outage <=ODP-a2 1/1 guess=power cause=
		widened G-3310-260314-01 outage ODC-1..PON-1 4/4 guess=odp_or_feeder cause=
		merged G-3310-260314-02 outage <=ODP-a2 1/1 guess=power cause=`)
	if o := w.engine.Open(); len(o) != 1 || ids(o[0].Sites) != "a1 a2 a3 a4" {
		t.Errorf("open: %+v", o)
	}
	if i, err := w.engine.ByID("G-3310-260314-02"); err != nil || i.MergedInto != "G-3310-260314-01" || i.Open() {
		t.Errorf("%+v %v", i, err)
	}
}

func TestItNarrows(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3", "a4", "a5")
	w.run(10 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(90 * time.Second)
	w.mend("a4")
	w.run(20 * time.Minute)
	w.mend("a5")
	w.run(20 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=odp_or_feeder cause=
		narrowed G-3310-260314-01 outage ODC-1..PON-1 1/5 guess=odp_or_feeder cause=
		recovered G-3310-260314-01 outage ODC-1..PON-1 0/5 guess=odp_or_feeder cause=`)
	if r := w.events[1].Incident.Remaining; r == nil || r.String() != "<=ODP-a5" {
		t.Errorf("remaining %v", r)
	}
}

func TestOurOwnUplinkMailsNobody(t *testing.T) {
	w := newWorld(t, wide)
	w.cut(w.sites...)
	w.uplink = wire.No
	w.run(30 * time.Minute)
	w.mend(w.sites...)
	w.cut("a1", "a2", "a3", "a4", "a5") // broke meanwhile
	w.uplink = wire.Yes
	w.run(165 * time.Second)
	if len(w.events) != 1 || w.events[0].Incident.Kind != Ours || w.events[0].Type != Opened {
		t.Fatalf("while we listen again for less than 170 s:\n%s", w.told())
	}
	w.run(10 * time.Minute)
	if len(w.events) != 3 {
		t.Fatal(w.told())
	}
	if e := w.events[1]; e.Type != Opened || e.Incident.Kind != Outage || e.Incident.Place.Node != "ODC-1" || len(e.Incident.Sites) != 5 {
		t.Errorf("%v", e)
	}
	if e := w.events[2]; e.Type != Recovered || e.Incident.Kind != Ours || e.Incident.Cause != CauseCollector || len(e.Incident.Sites) != 15 {
		t.Errorf("%v", e)
	}
}

func TestAMassOutageWithAWorkingUplinkIsTold(t *testing.T) {
	w := newWorld(t, wide)
	w.cut(w.sites...)
	w.run(10 * time.Minute)
	for _, e := range w.events {
		if e.Incident.Kind != Outage || e.Type != Opened {
			t.Errorf("%v", e)
		}
	}
	if w.events[0].Incident.Place.Node != "BNG-1" && w.events[0].Incident.Place.Node != "ODC-9" || len(w.events) != 3 {
		t.Error(w.told())
	}
}

func TestAMassOutageIsHeldWhileTheUplinkIsNotChecked(t *testing.T) {
	w := newWorld(t, wide)
	w.uplink = wire.Unknown
	w.cut(w.sites...)
	w.run(9 * time.Minute)
	w.wantTold("")
	w.uplink = wire.Yes
	w.run(time.Second)
	if len(w.events) != 3 {
		t.Errorf("once checked:\n%s", w.told())
	}

	w = newWorld(t, wide)
	w.uplink = wire.Unknown
	w.cut(w.sites...)
	w.run(11 * time.Minute) // nobody ever checks: silence for ever would be worse
	if len(w.events) != 3 {
		t.Errorf("after ten minutes:\n%s", w.told())
	}
}

func TestOurOwnStallBlamesNobody(t *testing.T) {
	for name, stall := range map[string]func(*world){
		"noticed by the engine": func(w *world) { w.now = w.now.Add(10 * time.Minute) },
		"reported":              func(w *world) { w.now = w.now.Add(10 * time.Minute); w.stall = true },
		"clock set back":        func(w *world) { w.run(time.Hour); w.now = w.now.Add(-10 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, wide)
			stall(w)
			w.run(20 * time.Minute)
			for _, e := range w.events {
				if e.Incident.Kind != Ours || e.Incident.Cause != CauseCollector {
					t.Errorf("%v", e)
				}
			}
			if name != "clock set back" && (len(w.events) != 2 || w.events[1].Type != Recovered) {
				t.Errorf("told:\n%s", w.told())
			}
		})
	}
}

func TestAStallIsNotGoodTime(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1")
	w.run(10 * time.Minute)
	w.mend("a1")
	w.run(31 * time.Second)
	w.evidence(w.network(10*time.Minute), "a1")
	w.now = w.now.Add(14 * time.Second) // no stall yet, no beat either
	w.run(time.Second)
	w.now = w.now.Add(10 * time.Minute)
	w.run(2 * time.Minute)
	for _, e := range w.events {
		if e.Type == Recovered {
			t.Fatalf("%v: two minutes were heard", e)
		}
	}
	w.run(2 * time.Minute)
	if n := len(w.events); n == 0 || !strings.Contains(w.told(), "recovered G-3310-260314-01 outage") {
		t.Error(w.told())
	}
}

func TestAfterAStartNothingOpensEarly(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.restart(time.Hour) // the others beat at once
	w.run(169 * time.Second)
	w.wantTold("")
	w.run(2 * time.Second)
	w.wantTold(`opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`)
}

func TestARestartInTheMiddleTellsNothingTwice(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(5 * time.Minute)
	before := w.engine.Open()
	w.restart(20 * time.Second)
	if d := cmp.Diff(before, w.engine.Open()); d != "" {
		t.Fatalf("after the restart: %s", d)
	}
	w.run(5 * time.Minute)
	w.mend("a1", "a2", "a3")
	w.run(time.Minute)
	w.evidence(w.network(10*time.Minute), "a1", "a2")
	w.run(20 * time.Second)
	w.restart(time.Minute)
	w.run(30 * time.Second)
	w.evidence(w.network(10*time.Minute), "a3")
	w.run(10 * time.Minute)
	w.restart(time.Minute)
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=
		recovered G-3310-260314-01 outage ODC-1..PON-1 0/3 guess=odp_or_feeder cause=odp_or_feeder`)
	w.cut("b1")
	w.run(5 * time.Minute)
	if i := w.engine.Open(); len(i) != 1 || i[0].ID != "G-3310-260314-02" {
		t.Errorf("the next number: %+v", i)
	}
}

func TestAWideningThatARestartInterruptsIsTold(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3")
	w.run(30 * time.Minute)
	w.cut("a4")
	for range 400 {
		w.run(time.Second)
		if len(w.engine.Open()[0].Sites) == 4 {
			break
		}
	}
	w.run(15 * time.Second) // the change is noted, and not told yet
	if len(w.events) != 1 {
		t.Fatal(w.told())
	}
	w.restart(time.Second)
	if n := len(w.engine.Open()[0].Sites); n != 4 {
		t.Fatalf("%d sites after the restart", n)
	}
	w.run(165 * time.Second)
	if len(w.events) != 1 {
		t.Fatalf("told before we have listened long enough:\n%s", w.told())
	}
	w.run(5 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=
		widened G-3310-260314-01 outage ODC-1..PON-1 4/4 guess=odp_or_feeder cause=`)
}

func TestFlapping(t *testing.T) {
	w := newWorld(t, sixVillages)
	for range 8 { // 4 minutes down, 4 minutes up, for an hour
		w.cut("a1")
		w.run(4 * time.Minute)
		w.mend("a1")
		w.run(4 * time.Minute)
	}
	unstable, last := 0, EventType("")
	for _, e := range w.events {
		if e.Type == Unstable {
			unstable++
		}
		last = e.Type
	}
	if unstable != 1 || last != Unstable || len(w.events) > 6 {
		t.Fatalf("want one unstable, and nothing after it:\n%s", w.told())
	}
	n := len(w.events)
	w.run(20 * time.Minute)
	if len(w.events) != n {
		t.Fatalf("it is not calm yet:\n%s", w.told())
	}
	w.run(20 * time.Minute)
	if len(w.events) != n+1 || w.events[n].Type != Recovered || w.events[n].Incident.Unstable {
		t.Fatalf("it is calm:\n%s", w.told())
	}
}

func TestMembershipFollowsTheDatedInventory(t *testing.T) {
	// a3 moves from ODC-1 to ODC-2 at midnight, local time, of 15 March.
	inv := parseNetwork(t, sixVillages,
		"nodes.csv", "ODP-a3;odp;ODC-1;ODP-a3 contoh;2025-01-01;\n",
		"ODP-a3;odp;ODC-1;ODP-a3 contoh;2025-01-01;2026-03-15\nODP-a3;odp;ODC-2;ODP-a3 contoh;2026-03-15;\n")
	midnight := time.Date(2026, 3, 14, 17, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		at   time.Time
		cut  []measure.SiteID
		want string
	}{
		{"before", midnight.Add(-time.Hour), []measure.SiteID{"a1", "a2", "a3"}, "opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause="},
		{"fell before, confirmed after", midnight.Add(-time.Minute), []measure.SiteID{"a1", "a2", "a3"}, "opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause="},
		{"after", midnight.Add(time.Hour), []measure.SiteID{"a3", "b1", "b2", "b3"}, "opened G-3310-260315-01 outage ODC-2..PON-2 4/4 guess=odp_or_feeder cause="},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, sixVillages, func(w *world) { w.inv, w.now = inv, c.at.Add(-5*time.Minute) })
			w.cut(c.cut...)
			w.run(5 * time.Minute)
			w.wantTold(c.want)
		})
	}
}

func TestASiteThatIsNotWatchedAnyMoreLeaves(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(10 * time.Minute)
	w.inv = parseNetwork(t, sixVillages, "probes.csv", "p-a3;a3;;;;2025-01-01;\n", "")
	w.mend("a1", "a2")
	w.run(time.Minute)
	w.evidence(w.network(11*time.Minute), "a1", "a2")
	w.run(10 * time.Minute)
	if len(w.events) != 2 || w.events[1].Type != Recovered || !w.events[1].Incident.Sites[2].Withdrawn || w.events[1].Incident.Cause != CauseODPOrFeeder {
		t.Fatal(w.told())
	}
}

func TestSitesWithoutAnyoneToHearAreNoOutage(t *testing.T) {
	for _, s := range []state.State{state.NeverSeen, state.NoCoverage, state.Maintenance} {
		inv := parseNetwork(t, sixVillages)
		c := newCourse(Timers{})
		for at := time.Duration(0); at < time.Hour; at += time.Second {
			v := View{Uplink: wire.Yes}
			for _, x := range inv.Sites(noon) {
				v.Sites = append(v.Sites, SiteView{Site: x.ID, State: s, LastBeat: noon})
			}
			if ev := c.step(inv, noon.Add(at), v); len(ev) > 0 {
				t.Fatalf("%v: %v", s, ev)
			}
		}
	}
}

func TestFailingSitesAreAMatterOfQuality(t *testing.T) {
	w := newWorld(t, sixVillages)
	for _, s := range []measure.SiteID{"b1", "b2", "b3"} {
		w.failing[s] = true
	}
	w.run(10 * time.Minute)
	clear(w.failing)
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 quality ODC-2..PON-2 3/3 guess=target cause=
		recovered G-3310-260314-01 quality ODC-2..PON-2 0/3 guess=target cause=target`)
}

func TestIdsCountByRegencyAndLocalDay(t *testing.T) {
	w := newWorld(t, wide, func(w *world) { w.now = time.Date(2026, 3, 14, 16, 50, 0, 0, time.UTC) }) // 23:50 in Klaten
	w.cut("a1")
	w.run(6 * time.Minute) // last heard before midnight
	w.cut("b1")
	w.run(6 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage <=ODP-a1 1/1 guess=power cause=
		opened G-3310-260315-01 outage <=ODP-b1 1/1 guess=power cause=`)
	if p, n, ok := ID("G-3310-260315-101").split(); p != "G-3310-260315-" || n != 101 || !ok {
		t.Error(p, n, ok)
	}
}

func TestRecentAndEventsAfter(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1")
	w.run(5 * time.Minute)
	w.mend("a1")
	w.run(15 * time.Minute)
	ended := w.now
	w.run(5 * time.Minute)
	w.cut("b1")
	w.run(5 * time.Minute)
	for since, want := range map[time.Time]string{noon: "G-3310-260314-02 G-3310-260314-01", ended: "G-3310-260314-02"} {
		all, err := w.engine.Recent(since)
		var got []string
		for _, i := range all {
			got = append(got, string(i.ID))
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("since %v: %v %v", since, got, err)
		}
	}
	var got []Event
	for seq := uint64(0); ; {
		part, err := w.engine.EventsAfter(seq, 2)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
		seq = part[len(part)-1].Seq
	}
	if d := cmp.Diff(w.events, got); d != "" {
		t.Errorf("told and kept differ: %s", d)
	}
	if _, err := w.engine.ByID("G-3310-260314-99"); err == nil {
		t.Error("found what is not there")
	}
}

func TestOneThatIsJustFallingIsWaitedFor(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2")
	w.run(90 * time.Second) // its last beat is 73 s old when the first two are due
	w.cut("a3")
	w.run(10 * time.Minute)
	w.wantTold(`opened G-3310-260314-01 outage ODC-1..PON-1 3/3 guess=odp_or_feeder cause=`)
}

func TestASiteThatWasToldAsBackAndFallsAgainWidens(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3", "a4", "a5")
	w.run(10 * time.Minute)
	w.mend("a1")
	w.run(30 * time.Minute)
	w.cut("a1")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=odp_or_feeder cause=
		narrowed G-3310-260314-01 outage ODC-1..PON-1 4/5 guess=odp_or_feeder cause=
		widened G-3310-260314-01 outage ODC-1..PON-1 5/5 guess=odp_or_feeder cause=`)
}

// A restart, or a failure of ours, is no news of an incident that is open.
func TestWhatMayBeUsChangesNoIncident(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("a1", "a2", "a3", "a4", "a5")
	w.run(10 * time.Minute)
	w.mend("a1")
	w.run(5 * time.Minute) // told as back
	if len(w.events) != 2 || w.events[1].Type != Narrowed {
		t.Fatal(w.told())
	}
	w.restart(10 * time.Minute)
	w.run(time.Second)
	if o := w.engine.Open(); len(o) != 1 || o[0].Silent() != 4 {
		t.Fatalf("after the restart: %v", o)
	}
	w.run(10 * time.Minute)
	w.cut(w.sites...)
	w.uplink = wire.No
	w.run(20 * time.Minute)
	for _, e := range w.events[2:] {
		if e.Incident.Kind != Ours {
			t.Errorf("%v", e)
		}
	}
	w.uplink = wire.Yes
	w.mend(w.sites...)
	w.cut("a2", "a3", "a4", "a5")
	w.run(10 * time.Minute)
	for _, e := range w.events[2:] {
		if e.Incident.Kind != Ours {
			t.Errorf("%v", e)
		}
	}
}

func TestADropThatFallsLaterIsItsOwn(t *testing.T) {
	w := newWorld(t, wide)
	w.cut("s1")
	w.run(30 * time.Minute)
	w.cut("s2")
	w.run(10 * time.Minute)
	w.wantTold(`
		opened G-3310-260314-01 outage <=ODP-s(drop) 1/1 guess=power cause=
		opened G-3310-260314-02 outage <=ODP-s 1/1 guess=power cause=`)
}

// More than half must vanish before we suspect ourselves, and our uplink must fail.
func TestHalfIsNotUs(t *testing.T) {
	for _, c := range []struct {
		vanish int // of 20
		want   Kind
	}{{10, Outage}, {11, Ours}} {
		w := newWorld(t, wide)
		w.uplink = wire.No
		w.cut(w.sites[:c.vanish]...)
		w.run(10 * time.Minute)
		if len(w.events) == 0 {
			t.Fatalf("%d vanished: nothing", c.vanish)
		}
		for _, e := range w.events {
			if e.Incident.Kind != c.want {
				t.Errorf("%d vanished: %v", c.vanish, e)
			}
		}
	}
}

func TestAReportedStallCountsSilenceAnew(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.cut("a1", "a2", "a3")
	w.run(140 * time.Second)
	w.stall = true // for a few seconds, which the views do not show
	w.run(169 * time.Second)
	w.wantTold("")
	w.run(3 * time.Second)
	if len(w.events) != 1 {
		t.Error(w.told())
	}
}

func TestAClockThatWasSetBackDeafensNobody(t *testing.T) {
	w := newWorld(t, sixVillages)
	w.run(time.Hour)
	w.now = w.now.Add(-10 * time.Minute)
	w.run(time.Minute)
	w.cut("a1", "a2", "a3")
	w.run(4 * time.Minute)
	if len(w.events) != 1 || w.events[0].Incident.Place.Node != "ODC-1" {
		t.Error(w.told())
	}
}

func TestNothingOpensBeforeListening(t *testing.T) {
	w := newWorld(t, sixVillages, func(w *world) { w.timers.Listen = 20 * time.Minute })
	w.cut("a1", "a2", "a3")
	w.run(14 * time.Minute)
	w.wantTold("")
	w.run(2 * time.Minute)
	if len(w.events) != 1 {
		t.Error(w.told())
	}
}

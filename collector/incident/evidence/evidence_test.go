package evidence

import (
	"fmt"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

const (
	box   measure.ProbeID = "box-1"
	slot1                 = time.Minute
)

// tree is an inventory with a target on the OLT and one beyond the provider.
func tree(t testing.TB) *inventory.Inventory {
	t.Helper()
	files := map[string][]byte{
		"regions.csv": []byte("code;name;valid_from\n33;Jawa Tengah;2025-01-01\n33.10;Kabupaten Klaten;2025-01-01\n33.10.15;Wonosari;2025-01-01\n33.10.15.2001;Uji;2025-01-01\n"),
		"isps.csv":    []byte("isp;name;valid_from\nuji;Penyedia Uji;2025-01-01\n"),
		"nodes.csv":   []byte("node;type;parent;name;valid_from\nOLT-1;olt;;OLT Uji;2025-01-01\nODP-1;odp;OLT-1;ODP Uji;2025-01-01\n"),
		"sites.csv":   []byte("site;village;name;isp;access;odp;valid_from\nsite-1;33.10.15.2001;Kantor Desa Uji;uji;fiber;ODP-1;2025-01-01\n"),
		"probes.csv":  []byte("probe;site;valid_from\nbox-1;site-1;2025-01-01\n"),
		"plans.csv":   []byte("site;download_mbps;upload_mbps;source_document;valid_from\n"),
		"targets.csv": []byte("target;node;method;address;valid_from\nolt;OLT-1;icmp;192.0.2.1;2025-01-01\nworld;;icmp;198.51.100.1;2025-01-01\n"),
	}
	inv, err := inventory.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// line is a probe whose clock is right and whose batches arrive in any order.
type line struct {
	g     *Gatherer
	boot  measure.BootID
	start time.Time // of the boot
	seq   uint64
}

func (l *line) result(at time.Time, carrier, lan, hop, olt, beyond float64) measure.Result {
	odp := max(hop, olt, beyond)
	return measure.Result{Kind: measure.KindReach, Outcome: measure.OK, MeasuredAt: at, Monotonic: at.Sub(l.start), Boot: l.boot,
		Values: []measure.Value{{Metric: measure.CarrierUp, Number: carrier}, {Metric: measure.LANGatewayReachable, Number: lan},
			{Metric: measure.FirstHopReachable, Number: hop}, {Metric: measure.TargetReachable, Target: "olt", Number: olt},
			{Metric: measure.TargetReachable, Target: "world", Number: beyond}, {Metric: measure.ODPReachable, Number: odp}}}
}

// seal makes a batch; push sends one.
func (l *line) seal(at time.Time, rs ...measure.Result) wire.Batch {
	l.seq++
	return wire.Batch{Probe: box, Epoch: wire.Epoch{1}, Seq: l.seq, Boot: l.boot, SealedAt: at, SealedMono: at.Sub(l.start),
		Quality: measure.ClockCollector, Results: rs}
}

func (l *line) push(b wire.Batch, at time.Time) {
	l.g.Batch(box, at, b, wire.Sent{Boot: l.boot, Mono: at.Sub(l.start), Wall: at})
}

var noon = time.Date(2026, 3, 2, 5, 0, 0, 0, time.UTC)

// What a cut leaves in the probe's record, and the cause that follows. The line is
// cut for twenty minutes; afterwards the batches come, the newest first.
func TestRecordTellsTheCause(t *testing.T) {
	up := []float64{1, 1, 1, 1, 1}
	where := incident.Where{Type: inventory.NodeODC}
	for _, tt := range []struct {
		name string
		in   []float64 // within the cut; nil: the box is off
		want incident.Cause
	}{
		{"nothing beyond the LAN", []float64{1, 1, 0, 0, 0}, incident.CauseODPOrFeeder},
		{"the OLT answers", []float64{1, 1, 0, 1, 0}, incident.CauseUpstream},
		{"no carrier", []float64{0, 0, 0, 0, 0}, incident.CausePremises},
		{"everything but us", up, incident.CauseCollector},
		{"box without power", nil, incident.CausePower},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := tree(t)
			g := New(Options{Inventory: func() *inventory.Inventory { return inv }, Slot: slot1, Beat: 30 * time.Second})
			l := &line{g: g, boot: "boot-1", start: noon.Add(-10 * time.Hour)}
			measured := func(at time.Time, v []float64) measure.Result { return l.result(at, v[0], v[1], v[2], v[3], v[4]) }
			for m := -10; m <= 0; m++ {
				at := noon.Add(time.Duration(m) * time.Minute)
				l.push(l.seal(at, measured(at, up)), at.Add(time.Second))
			}
			from, to := noon.Add(30*time.Second), noon.Add(20*time.Minute+10*time.Second)
			var waiting []wire.Batch
			if tt.in != nil {
				for m := 1; m <= 20; m++ {
					at := noon.Add(time.Duration(m) * time.Minute)
					waiting = append(waiting, l.seal(at, measured(at, tt.in)))
				}
			} else {
				l.boot, l.start = "boot-2", to.Add(-20*time.Second)
			}
			if _, ok := g.Record([]measure.ProbeID{box}, from, to, to); ok {
				t.Error("a record before anything was pushed")
			}
			first := l.seal(to.Add(5*time.Second), measured(to.Add(4*time.Second), up))
			l.push(first, to.Add(6*time.Second))
			if _, ok := g.Record([]measure.ProbeID{box}, from, to, to.Add(7*time.Second)); ok {
				t.Error("a record while batches wait")
			}
			for i := len(waiting) - 1; i >= 0; i-- {
				l.push(waiting[i], to.Add(8*time.Second))
				l.push(waiting[i], to.Add(9*time.Second)) // an answer was lost
			}
			r, ok := g.Record([]measure.ProbeID{box}, from, to, to.Add(time.Minute))
			if !ok {
				t.Fatal("no record a minute after everything came")
			}
			if got := incident.Conclude(r, where); got != tt.want {
				t.Errorf("%s, want %s; %+v", got, tt.want, r)
			}
			if want := len(waiting); r.Measured.Asked != 19 || r.Measured.Answered != min(want, 19) {
				t.Errorf("%d of %d slots, want %d of 19", r.Measured.Answered, r.Measured.Asked, min(want, 19))
			}
		})
	}
}

// A probe that never comes back with the rest: after a while what is here counts.
func TestWhatIsMissingIsWaitedForOnlySoLong(t *testing.T) {
	inv := tree(t)
	g := New(Options{Inventory: func() *inventory.Inventory { return inv }, Slot: slot1, Beat: 30 * time.Second})
	l := &line{g: g, boot: "boot-1", start: noon.Add(-time.Hour)}
	l.push(l.seal(noon, l.result(noon, 1, 1, 1, 1, 1)), noon)
	from, to := noon.Add(time.Second), noon.Add(30*time.Minute)
	for range 5 {
		l.seal(noon) // sealed and lost
	}
	l.push(l.seal(to.Add(time.Second), l.result(to.Add(time.Second), 1, 1, 1, 1, 1)), to.Add(2*time.Second))
	if _, ok := g.Record([]measure.ProbeID{box}, from, to, to.Add(2*time.Minute)); ok {
		t.Error("batches are missing, and it was not waited for them")
	}
	r, ok := g.Record([]measure.ProbeID{box}, from, to, to.Add(quiet+time.Minute))
	if !ok || r.SameBoot != wire.Yes || r.Measured.Answered != 0 {
		t.Errorf("%v, %+v", ok, r)
	}
	if got := incident.Conclude(r, incident.Where{}); got != incident.CauseProbe {
		t.Errorf("%s: a box that ran on without measuring", got)
	}
}

// What answered at the ends of a cut, before the line broke and after it was back,
// says nothing of the cut: else a short one would be charged to us.
func TestTheEndsOfACutTellNothing(t *testing.T) {
	inv := tree(t)
	for _, tt := range []struct {
		name   string
		broke  time.Duration // after from
		mended time.Duration // before to
		phase  time.Duration // of the slots, after from
		length time.Duration
		want   incident.Cause
	}{
		{"three minutes, slots at both ends", 20 * time.Second, 20 * time.Second, 10 * time.Second, 190 * time.Second, incident.CauseODPOrFeeder},
		{"three minutes, measured over the end", 5 * time.Second, 26 * time.Second, 33 * time.Second, 183 * time.Second, incident.CauseODPOrFeeder},
		{"a minute, nothing measured within", 25 * time.Second, 20 * time.Second, 10 * time.Second, 72 * time.Second, incident.CauseUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := New(Options{Inventory: func() *inventory.Inventory { return inv }, Slot: slot1, Beat: 30 * time.Second})
			l := &line{g: g, boot: "boot-1", start: noon.Add(-time.Hour)}
			from, to := noon, noon.Add(tt.length)
			first := from.Add(tt.phase - slot1)
			l.push(l.seal(first, l.result(first, 1, 1, 1, 1, 1)), first.Add(time.Second))
			var rs []measure.Result
			for at := first.Add(slot1); at.Before(to); at = at.Add(slot1) {
				up := 1.0
				if at.After(from.Add(tt.broke)) && at.Before(to.Add(-tt.mended-taking)) {
					up = 0
				}
				rs = append(rs, l.result(at, 1, 1, up, up, up))
			}
			l.push(l.seal(to.Add(time.Second), rs...), to.Add(2*time.Second))
			r, ok := g.Record([]measure.ProbeID{box}, from, to, to.Add(time.Minute))
			if got := incident.Conclude(r, incident.Where{Type: inventory.NodeODC}); !ok || got != tt.want {
				t.Errorf("%s (%v), want %s: %+v", got, ok, tt.want, r)
			}
		})
	}
}

// A catching up that stops for a while is none that is over: half a cut's record,
// the newer half, would tell of a probe that did not measure.
func TestACatchingUpMayPause(t *testing.T) {
	inv := tree(t)
	g := New(Options{Inventory: func() *inventory.Inventory { return inv }, Slot: slot1, Beat: 30 * time.Second})
	l := &line{g: g, boot: "boot-1", start: noon.Add(-time.Hour), seq: 499} // met in the middle of its epoch
	l.push(l.seal(noon, l.result(noon, 1, 1, 1, 1, 1)), noon)
	from, to := noon.Add(time.Second), noon.Add(30*time.Minute+time.Second)
	var waiting []wire.Batch
	for m := 1; m <= 30; m++ {
		at := noon.Add(time.Duration(m) * time.Minute)
		waiting = append(waiting, l.seal(at, l.result(at, 1, 1, 0, 0, 0)))
	}
	now := to.Add(time.Second)
	l.push(l.seal(now, l.result(now, 1, 1, 1, 1, 1)), now)
	late := func(k int) {
		now = now.Add(time.Second)
		l.push(waiting[k], now)
	}
	for k := 29; k >= 20; k-- {
		late(k)
	}
	now = now.Add(pause + time.Second) // told to wait
	late(19)
	if r, ok := g.Record([]measure.ProbeID{box}, from, to, now.Add(whole+time.Second)); ok {
		t.Errorf("a record of %d slots while 19 batches wait", r.Measured.Answered)
	}
	for k := 18; k >= 0; k-- {
		late(k)
	}
	r, ok := g.Record([]measure.ProbeID{box}, from, to, now.Add(time.Second))
	if !ok || incident.Conclude(r, incident.Where{Type: inventory.NodeODC}) != incident.CauseODPOrFeeder {
		t.Errorf("%v, %+v", ok, r)
	}
	if tr := g.trails[box]; !tr.complete() || tr.base != 500 {
		t.Errorf("base %d, %d of %d", tr.base, len(tr.since), tr.high-tr.base)
	}
}

// What is held is bounded, and late results of another time do not disturb.
func TestForgets(t *testing.T) {
	inv := tree(t)
	g := New(Options{Inventory: func() *inventory.Inventory { return inv }, Slot: slot1, Beat: 30 * time.Second})
	for k := range 100 {
		l := &line{g: g, boot: measure.BootID(fmt.Sprintf("boot-%d", k)), start: noon.Add(time.Duration(k) * time.Hour), seq: uint64(k * 60)}
		var rs []measure.Result
		for m := range 60 {
			rs = append(rs, l.result(l.start.Add(time.Duration(m)*time.Minute), 1, 1, 1, 1, 1))
		}
		at := l.start.Add(time.Hour)
		l.push(l.seal(at, rs...), at)
	}
	tr := g.trails[box]
	if len(tr.boots) > maxBoots || len(tr.slots) > 121 {
		t.Errorf("%d boots and %d slots are held", len(tr.boots), len(tr.slots))
	}
}

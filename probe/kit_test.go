package probe

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/budget"
	"github.com/pantau-desa/pantau/probe/instrument/optics"
	"github.com/pantau-desa/pantau/probe/instrument/router"
	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/schedule"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

func kitFor(t *testing.T) *kit {
	t.Helper()
	line, log := ledger.New(ledger.Options{}), slog.New(slog.DiscardHandler)
	account := budget.Open(budget.Options{File: filepath.Join(t.TempDir(), "budget.json"), Own: line.Own,
		Now: func() (time.Time, bool) { return time.Date(2026, 3, 16, 5, 0, 0, 0, time.UTC), true }, Logger: log}) // amid a month
	account.Keep()
	return newKit("kl-0001", line, account, time.Now, log)
}

func rare(s schedule.Set) map[measure.Kind]time.Duration {
	m := map[measure.Kind]time.Duration{}
	for _, r := range s.Rare {
		m[r.Kind] = r.Every
	}
	return m
}

func TestRareInstrumentsOfAConfiguration(t *testing.T) {
	if got := rare(kitFor(t).set(&wirepb.ProbeConfig{}, Local{})); len(got) != 0 {
		t.Errorf("of an empty configuration: %v", got)
	}
	c := &wirepb.ProbeConfig{LatencyTarget: "ix", LatencyAddress: "192.0.2.1", RareIntervalNs: int64(30 * time.Minute),
		DnsTargets: []*wirepb.DNSTarget{{Id: "a", Name: "www.example.id", Resolver: "192.0.2.53", Port: 70000}}}
	for i := range 20 {
		c.PageTargets = append(c.PageTargets, &wirepb.PageTarget{Id: string(rune('a' + i)), Url: "https://www.example.id/"})
	}
	got := rare(kitFor(t).set(c, Local{}))
	for _, k := range []measure.Kind{measure.KindDNS, measure.KindHTTP, measure.KindPath} {
		if got[k] != 30*time.Minute {
			t.Errorf("%s every %v", k, got[k])
		}
	}
	// What cannot be measured leaves the rest alone.
	c.RareIntervalNs, c.PageTargets[0].Url, c.LatencyAddress = 0, "javascript:", ""
	if got = rare(kitFor(t).set(c, Local{})); len(got) != 1 || got[measure.KindDNS] != rareInterval {
		t.Errorf("%v", got)
	}
}

func TestTheModemIsReadWhereTheAccessIsMobile(t *testing.T) {
	for _, c := range []struct {
		mobile bool
		modem  string
		want   bool
	}{{false, "", false}, {true, "", true}, {false, AnyModem, true}, {false, "cdc-wdm0", true}} {
		got := rare(kitFor(t).set(&wirepb.ProbeConfig{Mobile: c.mobile}, Local{Modem: c.modem}))
		if (got[measure.KindSignal] == signalInterval) != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if o := (Local{Modem: AnyModem}).Signal(); o.Modem != "" {
		t.Errorf("%+v", o)
	}
}

func TestOnlyVitalInstrumentsMakeAProbeFaulty(t *testing.T) {
	for _, k := range measure.Kinds() {
		want := map[measure.Kind]bool{measure.KindReach: true, measure.KindLatency: true, measure.KindUsage: true,
			measure.KindDownload: true, measure.KindUpload: true}[k]
		if got := vital(measure.Result{Kind: k}); got != want {
			t.Errorf("%s: %v", k, got)
		}
	}
	if vital(measure.Result{Kind: measure.KindUsage, Instrument: router.Method}) {
		t.Error("a router that wants another password makes a faulty probe")
	}
}

// The totals of a router go on whatever configuration the collector sends.
func TestTheRouterIsAskedInPlaceOfAnInterface(t *testing.T) {
	k := kitFor(t)
	local := Local{Router: router.Options{Interface: "wan", Access: snmp.Access{Address: "127.0.0.1:1", Community: "x"}},
		ONT: optics.Options{Preset: optics.MikroTik}}
	s := k.set(&wirepb.ProbeConfig{UsageInterface: "eth0"}, local)
	before := k.usage
	if rare(s)[measure.KindOptics] != opticsInterval {
		t.Errorf("%v", rare(s))
	}
	for _, l := range s.Light {
		if l.Kind == measure.KindUsage {
			if r := l.Measure(t.Context()); r.Instrument != router.Method || r.Reason != measure.ReasonRefused {
				t.Errorf("%+v", r)
			}
		}
	}
	k.set(&wirepb.ProbeConfig{UsageInterface: "eth1"}, local)
	if k.usage != before {
		t.Error("another configuration begins the router's totals anew")
	}
	k = kitFor(t)
	k.set(&wirepb.ProbeConfig{UsageInterface: "eth0"}, Local{})
	before = k.usage
	k.set(&wirepb.ProbeConfig{UsageInterface: "eth0", LanGateway: "192.0.2.1"}, Local{})
	if k.usage != before {
		t.Error("another configuration begins the interface's totals anew")
	}
	k.set(&wirepb.ProbeConfig{UsageInterface: "eth1"}, Local{})
	if k.usage == before {
		t.Error("another interface goes on with the totals of the one before")
	}
}

func TestWhatAConfigurationSaysOfTests(t *testing.T) {
	s := kitFor(t).set(&wirepb.ProbeConfig{}, Local{})
	if p := s.Pace; s.Metered || s.Heavy != nil || p.Mean != meanInterval || p.Offset != 7*time.Hour || p.Peak != 0 {
		t.Errorf("of an empty one: %+v", s)
	}
	for name, c := range map[string]struct {
		told  string
		local Local
	}{"told": {"br-lan", Local{}}, "local": {"", Local{UsageInterface: "br-lan"}}, "router": {"", Local{Router: router.Options{Interface: "wan"}}}} {
		if !kitFor(t).set(&wirepb.ProbeConfig{UsageInterface: c.told}, c.local).Metered {
			t.Errorf("%s: a test does not wait for what others do with the line", name)
		}
	}
	// A gigabyte does not carry a test each minute: 32 MB each are thirty in a month.
	k := kitFor(t)
	c := &wirepb.ProbeConfig{UtcOffsetMinutes: 540, PeakShare: 0.5, SpeedMeanIntervalNs: int64(time.Minute), MonthBudgetBytes: 1e9}
	if p := k.set(c, Local{}).Pace; p.Mean < 20*time.Minute || p.Offset != 9*time.Hour || p.Peak != 0.5 {
		t.Errorf("%+v", p)
	}
	c = proto.CloneOf(c)
	c.MonthBudgetBytes = 1e15
	if p := k.set(c, Local{}).Pace; p.Mean != time.Minute {
		t.Errorf("a new budget is not followed: %+v", p)
	}
}

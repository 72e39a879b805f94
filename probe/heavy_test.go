package probe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pantau-desa/pantau/probe/budget"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
	"github.com/pantau-desa/pantau/probe/target"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

func TestATestThatCannotBePaidForIsOneSkippedResult(t *testing.T) {
	k := kitFor(t)
	s := k.set(&wirepb.ProbeConfig{MonthBudgetBytes: 1e6, SpeedTargets: []*wirepb.SpeedTarget{{Id: "x", Url: "http://127.0.0.1:1"}}}, Local{})
	rs := s.Heavy(t.Context())
	if len(rs) != 1 || rs[0].Kind != measure.KindDownload || rs[0].Outcome != measure.Skipped || rs[0].Reason != measure.ReasonBudget || rs[0].Validate() != nil {
		t.Errorf("%+v", rs)
	}
}

// What speed tests over a real line take off the month is at least what the box's
// interface counts, and not much more; they become rarer and stop with the budget.
func TestTestsAreChargedWithWhatTheLineCarries(t *testing.T) {
	lab, err := netlab.New(netlab.Options{Name: "pantau-budget"})
	if errors.Is(err, netlab.ErrNotPermitted) {
		t.Skip(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	t.Cleanup(func() { lab.Close() })
	box, err := lab.Node("box")
	must(err)
	far, err := lab.Node("far")
	must(err)
	link, err := lab.Link(box, far, netlab.LinkOptions{NameA: "line", NameB: "line", RateAB: 5e6, RateBA: 10e6,
		AddrA: netip.MustParsePrefix("10.9.0.1/24"), AddrB: netip.MustParsePrefix("10.9.0.2/24")})
	must(err)
	counted := func() (bytes uint64) {
		must(box.Do(func() error {
			l, err := netlink.LinkByName(link.A.Name)
			if err == nil {
				bytes = l.Attrs().Statistics.RxBytes + l.Attrs().Statistics.TxBytes
			}
			return err
		}))
		return bytes
	}
	ln, err := far.Listen("tcp", "10.9.0.2:7442")
	must(err)
	server, err := target.New(target.Options{Listeners: []net.Listener{ln}})
	must(err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })

	line, log := ledger.New(ledger.Options{Dial: box.DialContext}), slog.New(slog.DiscardHandler)
	at := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	account := budget.Open(budget.Options{File: filepath.Join(t.TempDir(), "budget.json"), Own: line.Own,
		Now: func() (time.Time, bool) { return at, true }, Logger: log})
	account.SetBudget(1)
	account.Keep() // the month is begun
	account.SetBudget(40e6)
	at = time.Date(2026, 2, 28, 16, 30, 0, 0, time.UTC) // half an hour is left of it
	k := newKit("kl-0001", line, account, func() time.Time { return at }, log)
	o := speed.Options{Ledger: line, Duration: 4 * time.Second, NoEcho: true}
	before := counted()
	tests := 0
	for {
		spent := account.View().Spent
		rs := k.test(ctx, o, &wirepb.SpeedTarget{Id: "x", Url: "http://10.9.0.2:7442/speedtest"}, both)
		if rs[0].Reason == measure.ReasonBudget {
			break
		}
		if tests++; tests > 9 {
			t.Fatal("the budget never ends")
		}
		for _, r := range rs {
			t.Logf("%s: %s %s %v, %d+%d bytes", r.Kind, r.Outcome, r.Detail, r.Flags, r.BytesReceived, r.BytesSent)
			if r.Outcome != measure.OK && r.Reason != measure.ReasonBudget && r.Reason != measure.ReasonCPUStarved {
				t.Errorf("%+v", r)
			}
		}
		if v := account.View(); v.Spent <= spent || v.Test == 32e6 {
			t.Errorf("%+v", v)
		}
		if tests == 1 {
			account.SetBudget(account.View().Spent + 10e6)
		}
	}
	time.Sleep(500 * time.Millisecond) // for what was under way
	really, v := counted()-before, account.View()
	t.Logf("%d tests, interface %d bytes, account %d of %d, a test is expected to take %d", tests, really, v.Spent, v.Budget, v.Test)
	if tests < 2 || really > v.Spent || really > v.Budget || float64(really) < 0.85*float64(v.Spent) {
		t.Errorf("%d tests moved %d bytes; %d are charged, of %d", tests, really, v.Spent, v.Budget)
	}
}

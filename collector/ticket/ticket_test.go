package ticket

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// places has a site for each probe, two for those that end in b.
type places struct{}

func (places) Place(id measure.ProbeID, _ time.Time) (measure.SiteID, bool) {
	return measure.SiteID(strings.TrimSuffix(string(id), "b")), id != "nowhere"
}

func (places) Target(_ measure.SiteID, target measure.TargetID, _ time.Time) bool {
	return strings.HasPrefix(string(target), "ukur")
}

func desk(t *testing.T, l Limits, now func() time.Time) (*Desk, ed25519.PublicKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{Key: key, Places: places{}, Limits: l, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return d, public
}

func refused(t *testing.T, err error) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("%v, want a refusal", err)
	}
	return r
}

func TestATicketIsForOneServerAndOneLine(t *testing.T) {
	now := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	d, public := desk(t, Limits{}, func() time.Time { return now })
	first, token, err := d.Ask("p1", "ukur-1")
	if err != nil {
		t.Fatal(err)
	}
	got, err := wire.VerifyTicket(token, []ed25519.PublicKey{public}, "ukur-1", now)
	if err != nil || got != first || got.Site != "p1" || !got.Expires.Equal(now.Add(wire.TicketLife)) {
		t.Fatalf("%+v, %v, want %+v", got, err, first)
	}
	// The other probe of the site waits, whatever the server.
	for _, target := range []measure.TargetID{"ukur-1", "ukur-2"} {
		_, _, err = d.Ask("p1b", target)
		if r := refused(t, err); r.Reason != SameLine || r.After < time.Second || r.After > 2*firstHold {
			t.Errorf("%+v", r)
		}
	}
	// The same probe lost its answer: another ticket takes the first one's place.
	second, _, err := d.Ask("p1", "ukur-2")
	if err != nil || second.ID == first.ID {
		t.Fatalf("%v, %v", second, err)
	}
	d.Finish("p1", first.ID) // too late to mean anything
	if _, _, err = d.Ask("p1b", "ukur-1"); err == nil {
		t.Error("a ticket that was replaced ends the one in its place")
	}
	d.Finish("other", second.ID)
	if _, _, err = d.Ask("p1b", "ukur-1"); err == nil {
		t.Error("a probe ends another one's ticket")
	}
	d.Finish("p1", second.ID)
	if _, _, err = d.Ask("p1b", "ukur-1"); err != nil {
		t.Errorf("the line is free: %v", err)
	}
	// What is never handed back lapses.
	now = now.Add(wire.TicketLife)
	if _, _, err = d.Ask("p1", "ukur-1"); err != nil {
		t.Errorf("the other's ticket has lapsed: %v", err)
	}
	if _, _, err = d.Ask("nowhere", "ukur-1"); !errors.Is(err, ErrNoPlace) {
		t.Error(err)
	}
	if _, _, err = d.Ask("p9", "else"); !errors.Is(err, ErrNoTarget) {
		t.Error(err)
	}
}

func TestLimitsArePerServerAndInAll(t *testing.T) {
	now := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	d, _ := desk(t, Limits{PerTarget: 2, Total: 3}, func() time.Time { return now })
	for i, c := range []struct {
		target measure.TargetID
		ok     bool
	}{{"ukur-1", true}, {"ukur-1", true}, {"ukur-1", false}, {"ukur-2", true}, {"ukur-2", false}} {
		_, _, err := d.Ask(measure.ProbeID(fmt.Sprintf("p%d", i)), c.target)
		if (err == nil) != c.ok {
			t.Errorf("wish %d at %s: %v", i, c.target, err)
		}
		if err != nil && refused(t, err).Reason != Saturated {
			t.Error(err)
		}
	}
	for _, l := range []Limits{{PerTarget: -1}, {Total: 1e6}} {
		if len(l.Check()) != 1 {
			t.Errorf("%+v: %v", l, l.Check())
		}
	}
}

// Power is back in a regency: 500 probes ask within a minute. Each test takes 8 to
// 25 s, and a probe keeps to what it was told, up to half a minute late.
func TestACrowdIsLetInOneAfterTheOther(t *testing.T) {
	const probes, limit = 500, 20
	synctest.Test(t, func(t *testing.T) {
		d, _ := desk(t, Limits{PerTarget: limit}, time.Now)
		begin := time.Now()
		var mu sync.Mutex
		var under, most, asked int
		perSecond := map[int]int{}
		var longest time.Duration
		var all sync.WaitGroup
		for i := range probes {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 7))
				id := measure.ProbeID(fmt.Sprintf("p%d", i))
				time.Sleep(time.Duration(rnd.Float64() * float64(time.Minute)))
				first := time.Now()
				for {
					mu.Lock()
					asked++
					perSecond[int(time.Since(begin)/time.Second)]++
					mu.Unlock()
					ticket, _, err := d.Ask(id, "ukur-1")
					if err == nil {
						mu.Lock()
						under++
						most = max(most, under)
						longest = max(longest, time.Since(first))
						mu.Unlock()
						time.Sleep(8*time.Second + time.Duration(rnd.Float64()*float64(17*time.Second)))
						mu.Lock()
						under--
						mu.Unlock()
						d.Finish(id, ticket.ID)
						return
					}
					time.Sleep(refused(t, err).After + time.Duration(rnd.Float64()*float64(30*time.Second)))
				}
			})
		}
		all.Wait()
		took := time.Since(begin)
		crowd := 0
		for s, n := range perSecond {
			if s >= 60 {
				crowd = max(crowd, n)
			}
		}
		t.Logf("%d tests took %v (%v at best), the last to begin waited %v; %d wishes, at most %d within a second; at most %d tests at once",
			probes, took.Round(time.Second), time.Duration(probes/limit)*16500*time.Millisecond, longest.Round(time.Second), asked, crowd, most)
		if most > limit {
			t.Errorf("%d tests at once", most)
		}
		if took > 12*time.Minute {
			t.Errorf("the crowd took %v", took)
		}
		if crowd > 15 {
			t.Errorf("%d wishes within one second: they return together", crowd)
		}
		if asked > 4*probes {
			t.Errorf("%d wishes for %d tests", asked, probes)
		}
	})
}

func TestWhoComesLateDoesNotOvertake(t *testing.T) {
	now := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	d, _ := desk(t, Limits{PerTarget: 1}, func() time.Time { return now })
	first, _, err := d.Ask("p1", "ukur-1")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = d.Ask("p2", "ukur-1")
	wait := refused(t, err).After
	now = now.Add(firstHold / 2)
	wait -= firstHold / 2
	d.Finish("p1", first.ID)
	if _, _, err := d.Ask("p3", "ukur-1"); err == nil {
		t.Error("p3 took p2's turn")
	}
	now = now.Add(wait)
	if _, _, err := d.Ask("p2", "ukur-1"); err != nil {
		t.Errorf("p2's turn: %v", err)
	}
	// A turn that nobody took does not hold up the others for ever.
	now = now.Add(wire.TicketLife + 2*late)
	if _, _, err := d.Ask("p4", "ukur-1"); err != nil {
		t.Error(err)
	}
}

package probe

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

func TestAliveWhileTheRunnerTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Probe{pulse: newPulse(), config: &wirepb.ProbeConfig{}, kit: newKit(ledger.New(ledger.Options{}), time.Now, slog.New(slog.DiscardHandler))}
		for range 5 {
			if !p.Alive() {
				t.Fatal("not alive")
			}
			time.Sleep(stuck / 2)
			p.set() // what the runner asks for at each turn
		}
		time.Sleep(stuck - time.Second)
		if !p.Alive() {
			t.Error("not alive during a slow turn")
		}
		time.Sleep(2 * time.Second)
		if p.Alive() {
			t.Error("alive though the runner has not turned for a minute")
		}
		p.set()
		if !p.Alive() {
			t.Error("not alive though the runner turns again")
		}
	})
}

package probe

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

func TestAliveWhileTheRunnerTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Probe{pulse: newPulse(), config: &wirepb.ProbeConfig{}, kit: kitFor(t)}
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

package collector

import (
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pantau-desa/pantau/collector/maintenance"
	"github.com/pantau-desa/pantau/configs/inventory"
)

func TestAliveWhileTheStatesAreJudged(t *testing.T) {
	inv, err := inventory.Load("../configs/klaten")
	if err != nil {
		t.Fatal(err)
	}
	calendar, err := maintenance.Open(filepath.Join(t.TempDir(), "maintenance.json"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		c := &Collector{pulse: newPulse(), maintenance: calendar}
		c.inv.Store(inv)
		for range 3 {
			time.Sleep(time.Minute)
			if len(c.sites(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))) == 0 { // what the engine asks for each minute
				t.Fatal("no sites")
			}
			if !c.Alive() {
				t.Fatal("not alive")
			}
		}
		time.Sleep(deaf + time.Second)
		if c.Alive() {
			t.Error("alive though the engine asks no more")
		}
	})
}

func TestReadyOnce(t *testing.T) {
	c := &Collector{pulse: newPulse()}
	select {
	case <-c.Ready():
		t.Fatal("ready before anything was kept")
	default:
	}
	c.pulse.kept()
	c.pulse.kept()
	<-c.Ready()
}

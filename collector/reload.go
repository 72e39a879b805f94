package collector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// reloads is what has become of the latest reload of the inventory.
type reloads struct {
	failing prometheus.Gauge
	at      prometheus.Gauge
}

func newReloads(reg prometheus.Registerer) reloads {
	r := reloads{
		failing: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_collector_inventory_reload_failed",
			Help: "1 if the latest reload of the inventory failed and the one before is in force, else 0."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Name: "pantau_collector_inventory_loaded_timestamp_seconds",
			Help: "When the inventory in force was loaded."}),
	}
	reg.MustRegister(r.failing, r.at)
	r.at.SetToCurrentTime()
	return r
}

// Reload reads the inventory again. If anything is wrong with it, the one in force
// stays, and the pages say so until a reload succeeds. The error then is of type
// [inventory.Problems].
func (c *Collector) Reload(ctx context.Context) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	next, err := inventory.Load(c.opt.Inventory)
	before := c.inventory()
	if err == nil {
		c.inv.Store(next)
		if err = c.noteInventory(ctx); err != nil {
			c.inv.Store(before) // what is not in the evidence is not in force
		}
	}
	if err != nil {
		c.reloads.failing.Set(1)
		said := fmt.Sprintf("Inventaris yang baru tidak dapat dipakai sejak %s; yang lama tetap berlaku. Jalankan pantau check inventory.", time.Now().UTC().Format("2006-01-02 15.04 UTC"))
		c.notice.Store(&said)
		var wrong inventory.Problems
		if errors.As(err, &wrong) {
			c.log.Error("the inventory is not reloaded: the one before stays in force", "problems", len(wrong), "first", fmt.Sprint(wrong[0]))
		} else {
			c.log.Error("the inventory is not reloaded: the one before stays in force", "err", err)
		}
		return err
	}
	c.reloads.failing.Set(0)
	c.reloads.at.SetToCurrentTime()
	c.notice.Store(nil)
	c.states.Refresh()
	c.log.Info("inventory reloaded", "villages", len(next.Villages()), "changed", next.Digest() != before.Digest())
	return nil
}

// noticeNow is what every page must say; empty: nothing.
func (c *Collector) noticeNow() string {
	if s := c.notice.Load(); s != nil {
		return *s
	}
	return ""
}

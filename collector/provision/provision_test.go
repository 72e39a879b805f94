package provision

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

func files(gateway string) map[string][]byte {
	pages := "kas,OLT-1,http,,,https://kas.example.id/?desa=1,,,2025-01-01\n"
	for i := range 9 {
		pages += fmt.Sprintf("page-%d,,http,,,https://page.example.id/%d,,,2025-01-01\n", i, i)
	}
	f := map[string]string{
		"regions.csv": "code,name,valid_from\n33,Jawa Tengah,2025-01-01\n33.10,Kabupaten Klaten,2025-01-01\n33.10.15,Wonosari,2025-01-01\n33.10.15.2002,Bener,2025-01-01\n",
		"isps.csv":    "isp,name,valid_from\na,A,2025-01-01\n",
		"nodes.csv":   "node,type,parent,name,valid_from\nOLT-1,olt,,OLT,2025-01-01\nODP-1,odp,OLT-1,ODP,2025-01-01\n",
		"targets.csv": "target,node,method,address,port,url,question,latency,valid_from\n" +
			"olt,OLT-1,icmp,192.0.2.1,,,,yes,2025-01-01\nweb,,tcp,www.example.id,443,,,,2025-01-01\n" +
			"ukur,,speed,,,http://ukur.example.id:7442/speedtest,,,2025-01-01\n" +
			"own,OLT-1,dns,,,,*.ukur.example.id,,2025-01-01\nisp,,dns,192.0.2.53,5353,,www.example.id,,2025-01-01\n" + pages,
		"sites.csv":  "site,village,name,isp,access,odp,valid_from\ns1,33.10.15.2002,Kantor,a,fiber,ODP-1,2025-01-01\n",
		"plans.csv":  "site,download_mbps,upload_mbps,source_document,valid_from\ns1,20,10,Kontrak 1,2025-01-01\n",
		"probes.csv": "probe,site,usage_interface,lan_gateway,valid_from,valid_to\np1,s1,br-lan," + gateway + ",2025-01-01,2026-07-01\n",
	}
	out := map[string][]byte{}
	for name, text := range f {
		out[name] = []byte(text)
	}
	return out
}

func load(t *testing.T, gateway string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse(files(gateway))
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func TestConfigIsWhatTheInventorySays(t *testing.T) {
	inv := load(t, "192.168.1.1")
	p := New(func() *inventory.Inventory { return inv }, Schedule{Heartbeat: 20 * time.Second})
	at := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	c, version, err := p.Config("p1", at)
	if err != nil {
		t.Fatal(err)
	}
	if c.LanGateway != "192.168.1.1" || c.UsageInterface != "br-lan" || c.LatencyTarget != "olt" || c.LatencyAddress != "192.0.2.1" ||
		len(c.ReachTargets) != 2 || len(c.SpeedTargets) != 1 || c.SpeedTargets[0].Url != "http://ukur.example.id:7442/speedtest" ||
		c.LowDownloadBps != 10e6 || c.LowUploadBps != 5e6 || // halves of the plan
		time.Duration(c.HeartbeatIntervalNs) != 20*time.Second || c.SpeedMeanIntervalNs != 0 {
		t.Fatalf("%+v", c)
	}
	for _, r := range c.ReachTargets {
		if want := map[string]uint32{"olt": 0, "web": 443}[r.Id]; r.Port != want {
			t.Errorf("%s at port %d, want %d", r.Id, r.Port, want)
		}
	}
	if d := c.DnsTargets; len(d) != 2 || d[0].Name != "*.ukur.example.id" || d[0].Resolver != "" || d[0].Port != 0 ||
		d[1].Name != "www.example.id" || d[1].Resolver != "192.0.2.53" || d[1].Port != 5353 {
		t.Errorf("questions %v", d)
	}
	if len(c.PageTargets) != Most || c.PageTargets[0].Url != "https://kas.example.id/?desa=1" || c.Mobile || c.RareIntervalNs != 0 {
		t.Errorf("pages %v, mobile %v", c.PageTargets, c.Mobile)
	}
	if _, again, _ := p.Config("p1", at.Add(5*time.Hour)); again != version {
		t.Error("the same facts have another version")
	}
	inv = load(t, "192.168.2.1")
	if c, v, _ := p.Config("p1", at.Add(5*time.Hour)); v == version || c.LanGateway != "192.168.2.1" {
		t.Error("a new inventory is not followed")
	}
	if _, _, err := p.Config("p1", time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)); err == nil || !strings.Contains(err.Error(), "p1 nowhere") {
		t.Errorf("after its placement ended: %v", err)
	}
}

// Rules and probes must mean the same by a low speed.
func TestLowIsWhatTheRulesCallLow(t *testing.T) {
	raw, err := os.ReadFile("../../alerts/rules/speed.yml")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), fmt.Sprintf("[2d]) < %g\n", LowShare)); n != 4 {
		t.Errorf("%d comparisons with %g of the plan, want 4", n, LowShare)
	}
}

func TestPlacesAreTheInventorys(t *testing.T) {
	inv := load(t, "")
	p := New(func() *inventory.Inventory { return inv }, Schedule{})
	at, over := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC), time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	if site, ok := p.Place("p1", at); !ok || site != "s1" {
		t.Errorf("%q, %v", site, ok)
	}
	if _, ok := p.Place("p1", over); ok {
		t.Error("a placement that is over still holds")
	}
	for target, want := range map[measure.TargetID]bool{"ukur": true, "olt": false, "none": false} {
		if got := p.Target("s1", target, at); got != want {
			t.Errorf("%s: %v", target, got)
		}
	}
}

func TestTheQuotaOfASiteIsShared(t *testing.T) {
	at := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, village, access, budget, boxes string
		schedule                             Schedule
		bytes                                uint64
		offset                               int32
	}{
		{"fibre", "33.10.15.2002", "fiber", "", "", Schedule{}, 30e9, 420},
		{"4G", "33.10.15.2002", "4g", "", "", Schedule{}, 3e9, 420},
		{"satellite in the east", "91.10.15.2002", "vsat", "", "", Schedule{}, 1.5e9, 540},
		{"other in the middle", "73.10.15.2002", "other", "", "", Schedule{}, 10e9, 480},
		{"by the settings", "33.10.15.2002", "4g", "", "", Schedule{BudgetMobileGB: 0.5}, 0.5e9, 420},
		{"by the inventory", "33.10.15.2002", "4g", "\"2,5\"", "", Schedule{BudgetMobileGB: 0.5}, 2.5e9, 420},
		{"two boxes", "33.10.15.2002", "4g", "", "p2,s1,,,2026-03-14,\n", Schedule{}, 1.5e9, 420},
		{"two boxes, one later", "33.10.15.2002", "4g", "", "p2,s1,,,2026-03-15,\n", Schedule{}, 3e9, 420},
	} {
		f := files("")
		odp := ""
		if c.access == "fiber" {
			odp = "ODP-1"
		}
		f["sites.csv"] = []byte("site,village,name,isp,access,odp,budget_gb,valid_from\ns1," + c.village + ",Kantor,a," + c.access + "," + odp + "," + c.budget + ",2025-01-01\n")
		f["regions.csv"] = []byte(strings.ReplaceAll(string(f["regions.csv"]), "33", c.village[:2]))
		f["probes.csv"] = append(f["probes.csv"], c.boxes...)
		inv, err := inventory.Parse(f)
		if err != nil {
			t.Fatal(c.name, err)
		}
		got, _, err := New(func() *inventory.Inventory { return inv }, c.schedule).Config("p1", at)
		if err != nil || got.MonthBudgetBytes != c.bytes || got.UtcOffsetMinutes != c.offset {
			t.Errorf("%s: %d bytes, %d minutes, %v", c.name, got.MonthBudgetBytes, got.UtcOffsetMinutes, err)
		}
	}
}

func TestScheduleIsChecked(t *testing.T) {
	if wrong := (Schedule{}).Check(); len(wrong) > 0 {
		t.Errorf("the defaults are wrong: %v", wrong)
	}
	wrong := Schedule{Light: time.Second, Heartbeat: time.Minute, SpeedMean: time.Second, Rare: time.Second,
		PeakShare: 1, BudgetFiberGB: -1, BudgetVSATGB: 1e6, BudgetOtherGB: math.NaN()}.Check()
	for _, key := range []string{"light", "heartbeat", "speed_mean", "rare", "peak_share", "budget_fiber_gb", "budget_vsat_gb", "budget_other_gb"} {
		if wrong[key] == "" {
			t.Errorf("%s is let through", key)
		}
	}
	if len(wrong) != 8 {
		t.Errorf("%v", wrong)
	}
}

func BenchmarkConfig(b *testing.B) {
	inv, err := inventory.Parse(files(""))
	if err != nil {
		b.Fatal(err)
	}
	p, at := New(func() *inventory.Inventory { return inv }, Schedule{}), time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	for b.Loop() {
		if _, _, err := p.Config("p1", at); err != nil {
			b.Fatal(err)
		}
	}
}

// Package seriestest makes a small inventory and batches for tests of what
// stands behind the journal.
package seriestest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Boot is the boot of every batch that [Batch] makes.
const Boot measure.BootID = "6c1b1a5e-6f0e-4c55-9d30-0a4f3f1f0001"

// Moved is when probe-a moves from site-a (village 33.10.15.2009) to site-c
// (33.10.15.2010), and the plan of site-c doubles.
func Moved() time.Time { return time.Date(2026, 3, 1, 0, 0, 0, 0, time.FixedZone("WIB", 7*3600)) }

// Files is an inventory of three villages in Klaten: 2009 with site-a and
// site-b, 2010 with site-c, 2011 without a site. Replacements are applied to the
// text of all files, as for strings.NewReplacer.
func Files(replacements ...string) map[string][]byte {
	files := map[string]string{
		"regions.csv": "code;name;valid_from\n33;Jawa Tengah;2020-01-01\n33.10;Klaten;2020-01-01\n33.10.15;Trucuk;2020-01-01\n" +
			"33.10.15.2009;Mireng;2020-01-01\n33.10.15.2010;Kalikebo;2020-01-01\n33.10.15.2011;Planggu;2020-01-01\n",
		"isps.csv":    "isp;name;valid_from\nisp-a;Serat Nusa;2020-01-01\n",
		"nodes.csv":   "node;type;name;parent;region;valid_from\nolt-1;olt;OLT Trucuk;;33.10;2020-01-01\nodp-1;odp;ODP 1;olt-1;;2020-01-01\n",
		"targets.csv": "target;method;address;valid_from\niix-1;icmp;192.0.2.1;2020-01-01\n",
		"sites.csv": "site;village;name;isp;access;odp;lat;lon;population;valid_from\n" +
			"site-a;33.10.15.2009;Balai Desa Mireng;isp-a;fiber;odp-1;-7,71;110,67;3120;2020-01-01\n" +
			"site-b;33.10.15.2009;KDMP Mireng;isp-a;fiber;odp-1;;;;2020-01-01\n" +
			"site-c;33.10.15.2010;Balai Desa Kalikebo;isp-a;fiber;odp-1;-7,72;110,68;2750;2020-01-01\n",
		"plans.csv": "site;download_mbps;upload_mbps;source_document;valid_from;valid_to\nsite-a;50;25;K-1;2020-01-01;\n" +
			"site-c;50;25;K-2;2020-01-01;2026-03-01\nsite-c;100;50;K-3;2026-03-01;\n",
		"probes.csv": "probe;site;valid_from;valid_to\nprobe-a;site-a;2020-01-01;2026-03-01\nprobe-a;site-c;2026-03-01;\nprobe-b;site-b;2020-01-01;\n",
	}
	out := make(map[string][]byte)
	for name, text := range files {
		out[name] = []byte(strings.NewReplacer(replacements...).Replace(text))
	}
	return out
}

// Inventory parses [Files].
func Inventory(t testing.TB, replacements ...string) *inventory.Inventory {
	t.Helper()
	inv, err := inventory.Parse(Files(replacements...))
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// Latency is an ok result with five figures, measured at an instant by a good
// clock, in a boot that began at booted.
func Latency(at, booted time.Time, median float64) measure.Result {
	return measure.Result{Kind: measure.KindLatency, Outcome: measure.OK, Instrument: "pro-bing", MethodVersion: "1",
		Target: "iix-1", MeasuredAt: at, Monotonic: at.Sub(booted), Boot: Boot, Duration: time.Second,
		Values: []measure.Value{{Metric: measure.LatencySecondsMin, Number: median / 2}, {Metric: measure.LatencySecondsMedian, Number: median},
			{Metric: measure.LatencySecondsP95, Number: median * 2}, {Metric: measure.JitterSeconds, Number: median / 10},
			{Metric: measure.PacketLossRatio, Number: 0}}}
}

// Reach is an ok result of whether things answer.
func Reach(at, booted time.Time, up bool) measure.Result {
	var n float64
	if up {
		n = 1
	}
	r := Latency(at, booted, 0)
	r.Kind, r.Instrument, r.Target = measure.KindReach, "reach", ""
	r.Values = []measure.Value{{Metric: measure.CarrierUp, Number: 1}, {Metric: measure.LANGatewayReachable, Number: n},
		{Metric: measure.TargetReachable, Target: "iix-1", Number: n}, {Metric: measure.ODPReachable, Number: n}}
	return r
}

// Batch seals results under a synchronised clock, with a counter of as many ok
// latency results as its sequence number.
func Batch(probe measure.ProbeID, seq uint64, sealedAt, booted time.Time, results ...measure.Result) wire.Batch {
	return wire.Batch{Probe: probe, Epoch: wire.Epoch{1}, Seq: seq, Boot: Boot, SealedAt: sealedAt, SealedMono: sealedAt.Sub(booted),
		Quality: measure.ClockSynchronised, Software: "test", Results: results,
		Counters: []wire.Counter{{Kind: measure.KindLatency, Outcome: measure.OK, Count: seq}}}
}

// Sent is what a probe with a good clock sends along.
func Sent(at, booted time.Time) wire.Sent {
	return wire.Sent{Boot: Boot, Mono: at.Sub(booted), Wall: at}
}

// Minutes are n light results, one a minute, the last one ending at end.
func Minutes(end, booted time.Time, n int) []measure.Result {
	var out []measure.Result
	for i := n - 1; i >= 0; i-- {
		at := end.Add(-time.Duration(i) * time.Minute)
		out = append(out, Latency(at, booted, 0.010+float64(i)/1000), Reach(at, booted, true))
	}
	return out
}

// ProbeName is the id of the i-th probe of [Fleet].
func ProbeName(i int) measure.ProbeID { return measure.ProbeID(fmt.Sprintf("p%06d", i)) }

// Fleet is an inventory of n villages with a site and a probe each.
func Fleet(t testing.TB, n int) *inventory.Inventory {
	t.Helper()
	files := Files()
	add := func(name, format string, args ...any) { files[name] = fmt.Appendf(files[name], format, args...) }
	for i := range n {
		const perDistrict, perRegency = 500, 90 * 500
		district := fmt.Sprintf("33.%02d.%02d", 20+i/perRegency, 1+i/perDistrict%90)
		village := fmt.Sprintf("%s.2%03d", district, 1+i%perDistrict)
		if i%perRegency == 0 {
			add("regions.csv", "%s;Kabupaten %d;2020-01-01\n", district[:5], i)
		}
		if i%perDistrict == 0 {
			add("regions.csv", "%s;Kecamatan %d;2020-01-01\n", district, i)
		}
		add("regions.csv", "%s;Desa %d;2020-01-01\n", village, i)
		add("sites.csv", "s%06d;%s;Balai Desa %d;isp-a;fiber;odp-1;-7,7;110,6;3000;2020-01-01\n", i, village, i)
		add("plans.csv", "s%06d;50;25;K;2020-01-01;\n", i)
		add("probes.csv", "%s;s%06d;2020-01-01;\n", ProbeName(i), i)
	}
	inv, err := inventory.Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

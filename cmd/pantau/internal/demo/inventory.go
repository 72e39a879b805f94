package demo

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pantau-desa/pantau/configs/klaten"
	"github.com/pantau-desa/pantau/probe/measure"
)

// place is one village of the demo: a true name and code, on a made-up network.
type place struct {
	Code  string
	Name  string
	Site  measure.SiteID
	Probe measure.ProbeID
}

// places takes n villages of one district after the other, from the embedded
// list.
func places(n int) ([]place, error) {
	rows, err := regionRows()
	if err != nil {
		return nil, err
	}
	const first = "33.10.15." // Wonosari, where the story of the mockups plays
	var out []place
	for _, from := range []string{first, "33.10."} {
		for _, r := range rows[1:] {
			code := r[0]
			if strings.Count(code, ".") != 3 || !strings.HasPrefix(code, from) || from != first && strings.HasPrefix(code, first) {
				continue
			}
			if len(out) == n {
				return out, nil
			}
			i := len(out) + 1
			out = append(out, place{Code: code, Name: r[1], Site: measure.SiteID(fmt.Sprintf("demo-%d", i)), Probe: measure.ProbeID(fmt.Sprintf("demo-kotak-%d", i))})
		}
	}
	if len(out) < n {
		return nil, fmt.Errorf("the demo knows %d villages, not %d", len(out), n)
	}
	return out, nil
}

func regionRows() ([][]string, error) {
	r := csv.NewReader(bytes.NewReader(klaten.Regions()))
	r.Comma = ';'
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("the embedded list of regions: %w", err)
	}
	return rows, nil
}

// line is what the demo's inventory says of one village's connection.
type line struct {
	place
	ODC            int     // from 0
	Down, Up       float64 // shaped, layer 2, bit/s; 0: unshaped
	UsageInterface string
	LANGateway     string
	FirstHop       string
	SpeedURL       string
	Latency        string            // address
	Reach          map[string]string // target id -> address, beyond the ODP
	ReachTCP       string            // host:port of the measurement server
}

const (
	since = "2025-01-01"
	note  = "SIMULASI"
)

// writeInventory writes the CSV files of the demo's villages into dir.
func writeInventory(dir string, lines []line) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string][][]string{
		"isps.csv": {{"isp", "name", "noc_email", "noc_hours", "valid_from", "note"},
			{"contoh", "Penyedia Contoh", "noc@penyedia.example.id", "24 jam", since, note}},
		"contacts.csv": {{"email", "role", "region", "name", "language", "valid_from", "note"}},
		"nodes.csv":    {{"node", "type", "parent", "name", "lat", "lon", "valid_from", "note"}},
		"targets.csv":  {{"target", "name", "node", "region", "method", "address", "port", "url", "latency", "valid_from", "note"}},
		"sites.csv":    {{"site", "village", "name", "population", "isp", "access", "odp", "lat", "lon", "valid_from", "note"}},
		"plans.csv":    {{"site", "download_mbps", "upload_mbps", "source_document", "valid_from", "note"}},
		"probes.csv":   {{"probe", "site", "usage_interface", "lan_gateway", "first_hop", "valid_from", "note"}},
	}
	add := func(file string, cells ...string) { files[file] = append(files[file], cells) }

	regions, err := keptRegions(lines)
	if err != nil {
		return err
	}
	files["regions.csv"] = regions
	for _, o := range offices() {
		add("contacts.csv", o.email, o.role, o.region, o.name, o.language, since, note)
	}
	add("nodes.csv", "POP-1", "pop", "", "POP Contoh", "", "", since, note)
	add("nodes.csv", "BNG-1", "bng", "POP-1", "BNG Contoh", "", "", since, note)
	add("nodes.csv", "OLT-1", "olt", "BNG-1", "OLT Contoh", "", "", since, note)
	odcs := map[int]bool{}
	spots := scatter(lines)
	for i, l := range lines {
		odc := odcID(l.ODC)
		if !odcs[l.ODC] {
			odcs[l.ODC] = true
			pon := fmt.Sprintf("PON-%d", l.ODC+1)
			add("nodes.csv", pon, "pon", "OLT-1", fmt.Sprintf("Port PON %d", l.ODC+1), "", "", since, note)
			add("nodes.csv", odc, "odc", pon, fmt.Sprintf("ODC Contoh %d", l.ODC+1), "", "", since, note)
		}
		odp := fmt.Sprintf("ODP-%d", i+1)
		lat, lon := spots[i].cells()
		add("nodes.csv", odp, "odp", odc, "ODP Contoh "+strconv.Itoa(i+1), "", "", since, note)
		add("sites.csv", string(l.Site), l.Code, "Kantor "+l.Name, population(l.Code), "contoh", "fiber", odp, lat, lon, since, note)
		if l.Down > 0 {
			add("plans.csv", string(l.Site), planMbps(l.Down), planMbps(l.Up), "SIMULASI: bukan kontrak", since, note)
		}
		add("probes.csv", string(l.Probe), string(l.Site), l.UsageInterface, l.LANGateway, l.FirstHop, since, note)
	}
	one := lines[0]
	add("targets.csv", targetID, "Server ukur", "", "", "speed", "", "", one.SpeedURL, "", since, note)
	add("targets.csv", "pusat", "Pusat data", "", "", "icmp", one.Latency, "", "", "yes", since, note)
	for _, id := range sortedKeys(one.Reach) {
		add("targets.csv", id, id, strings.ToUpper(id), "", "icmp", one.Reach[id], "", "", "", since, note)
	}
	if host, port, ok := strings.Cut(one.ReachTCP, ":"); ok {
		add("targets.csv", "server-ukur-tcp", "Server ukur", "", "", "tcp", host, port, "", "", since, note)
	}
	for name, rows := range files {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		w.Comma = ';'
		if err := w.WriteAll(rows); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// odcID is the k-th ODC, from 0, in the inventory.
func odcID(k int) string { return fmt.Sprintf("ODC-%d", k+1) }

// office is one that is told by mail. Nobody has these addresses (RFC 2606).
type office struct{ email, role, region, name, language string }

func offices() []office {
	return []office{
		{"kominfo@klaten.example.id", "dinas", "33.10", "Diskominfo Kabupaten Klaten", "id"},
		{"network@klaten.example.id", "dinas", "33.10", "Klaten network office", "en"},
		{"operasi@pantau.example.id", "operations", "", "Operasi Pantau Desa", "id"},
	}
}

// toldOfIncidents are the addresses that must be told when villages are cut off.
func toldOfIncidents() (out []string) {
	for _, o := range offices() {
		if o.role == "dinas" {
			out = append(out, o.email)
		}
	}
	return out
}

// population is made up: 1,500 to 6,499 by a hash of the code, as in the Klaten
// example.
func population(code string) string {
	h := fnv.New32a()
	h.Write([]byte(code))
	return strconv.Itoa(1500 + int(h.Sum32()%5000))
}

// keptRegions are the rows of the villages of the demo and of what is above them.
func keptRegions(lines []line) ([][]string, error) {
	rows, err := regionRows()
	if err != nil {
		return nil, err
	}
	kept := rows[:1:1]
	for _, r := range rows[1:] {
		for _, l := range lines {
			if l.Code == r[0] || strings.HasPrefix(l.Code, r[0]+".") {
				kept = append(kept, r)
				break
			}
		}
	}
	return kept, nil
}

// planMbps is a contract that the shaped line can keep: its rate rounded down to
// what a provider would sell.
func planMbps(bps float64) string {
	return strconv.FormatFloat(math.Max(1, math.Floor(bps*0.9564/1e6)), 'f', -1, 64)
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

//go:build ignore

// This program writes the CSV files beside it: the region codes and names of
// Kabupaten Klaten from the data folder of the npm package idn-area-data, and
// everything else made up, the same on every run.
//
//	npm pack idn-area-data@4.0.1 && tar xzf idn-area-data-4.0.1.tgz
//	go run gen.go package/data
package main

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"hash/fnv"
	"log"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	since     = "2025-01-01"
	upgraded  = "2026-07-01"
	synthetic = "CONTOH: sintetis"
)

// layout is a schematic map: districts roughly as they lie, north at the top.
var layout = []string{
	"Kemalang Tulung Polanharjo Delanggu Wonosari -",
	"Manisrenggo Karangnongko Jatinom Karanganom Ceper Juwiring",
	"Prambanan Kebonarum Ngawen Klaten_Utara Pedan Karangdowo",
	"- Jogonalan Klaten_Selatan Klaten_Tengah Kalikotes Trucuk",
	"- Gantiwarno Wedi Bayat Cawas -",
}

type region struct{ code, name string }

type village struct {
	region
	lat, lon float64
	access   string
	odp      string
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: go run gen.go package/data")
	}
	data := os.Args[1]
	regions := append(read(data, "provinces.csv", "33"), read(data, "regencies.csv", "33.10")...)
	districts := read(data, "districts.csv", "33.10.")
	var villages []village
	for _, r := range read(data, "villages.csv", "33.10.") {
		villages = append(villages, village{region: r, access: "fiber"})
	}
	regions = append(regions, districts...)
	for _, v := range villages {
		regions = append(regions, v.region)
	}

	// 22 villages spread evenly over the list have no fibre, five of them nothing.
	const without = 22
	for k := range without {
		v := &villages[(2*k+1)*len(villages)/(2*without)]
		if v.access = "4g"; k%5 == 1 {
			v.access = "none"
		}
	}

	nodes := [][]string{{"node", "type", "parent", "name", "lat", "lon", "region", "valid_from", "valid_to", "note"}}
	targets := [][]string{{"target", "name", "node", "region", "method", "address", "port", "url", "question", "latency", "valid_from", "valid_to", "note"},
		{"ukur-1", "Server ukur 1 (contoh)", "", "", "speed", "", "", "http://ukur-1.example.id:7442/speedtest", "", "", since, "", synthetic},
		{"ukur-2", "Server ukur 2 (contoh)", "", "", "speed", "", "", "http://ukur-2.example.id:7442/speedtest", "", "", since, "", synthetic},
		{"exchange-icmp", "Titik tukar (contoh)", "", "", "icmp", "192.0.2.1", "", "", "", "yes", since, "", synthetic},
		{"exchange-tcp", "Titik tukar (contoh)", "", "", "tcp", "exchange.example.id", "443", "", "", "", since, "", synthetic},
		{"layanan", "Layanan koperasi (contoh)", "", "", "http", "", "", "https://layanan.example.id/", "", "", since, "", synthetic},
		{"dns-kotak", "Resolver setempat (contoh)", "", "", "dns", "", "", "", "*.ukur.example.id", "", since, "", synthetic},
	}
	node := func(id, kind, parent, name string, at region, lat, lon float64) {
		nodes = append(nodes, []string{id, kind, parent, name, comma(lat), comma(lon), at.code, since, "", synthetic})
	}
	klaten := region{code: "33.10"}
	for i, p := range []string{"A", "B"} {
		node("POP-"+p, "pop", "", "POP Contoh "+p, klaten, -7.64, 110.60+0.02*float64(i))
		node("BNG-"+p, "bng", "POP-"+p, "BNG Contoh "+p, klaten, -7.64, 110.60+0.02*float64(i))
		targets = append(targets, []string{"bng-" + strings.ToLower(p), "BNG Contoh " + p, "BNG-" + p, "", "tcp",
			fmt.Sprintf("192.0.2.%d", 11+i), "443", "", "", "", since, "", synthetic})
	}
	isp := map[string]string{} // by district
	for i, d := range districts {
		lat, lon := centre(d.name)
		nn := d.code[len("33.10."):]
		isp[d.code] = "A"
		if i%3 == 2 {
			isp[d.code] = "B"
		}
		olt := "OLT-" + nn
		node(olt, "olt", "BNG-"+isp[d.code], "OLT Contoh "+d.name, d, lat, lon)
		targets = append(targets, []string{"olt-" + nn, "OLT Contoh " + d.name, olt, "", "icmp",
			fmt.Sprintf("192.0.2.%d", 101+i), "", "", "", "", since, "", synthetic})

		// Villages spiral around the district's centre, at the golden angle.
		var fibre []*village
		n := 0
		for j := range villages {
			v := &villages[j]
			if v.code[:8] != d.code {
				continue
			}
			radius, angle := 0.0045*math.Sqrt(float64(n)), 2.399963*float64(n)
			v.lat, v.lon = lat+radius*math.Sin(angle), lon+radius*math.Cos(angle)
			n++
			if v.access == "fiber" {
				fibre = append(fibre, v)
			}
		}
		// Five villages to an ODC, two ODCs to a PON port, an ODP to a village;
		// in every third ODC the last two villages share one.
		for j, v := range fibre {
			pon, odc := fmt.Sprintf("PON-%s-%d", nn, j/10+1), fmt.Sprintf("ODC-%s-%d", nn, j/5+1)
			if j%10 == 0 {
				node(pon, "pon", olt, fmt.Sprintf("%s port %d", olt, j/10+1), d, lat, lon)
			}
			if j%5 == 0 {
				node(odc, "odc", pon, "ODC Contoh "+v.name, d, v.lat+0.001, v.lon+0.001)
			}
			if j%15 == 14 {
				v.odp = fibre[j-1].odp
				continue
			}
			v.odp = fmt.Sprintf("ODP-%s-%02d", nn, j+1)
			node(v.odp, "odp", odc, "ODP Contoh "+v.name, d, v.lat+0.0005, v.lon+0.0005)
		}
	}

	sites := [][]string{{"site", "village", "name", "population", "isp", "access", "odp", "lat", "lon", "valid_from", "valid_to", "note"}}
	plans := [][]string{{"site", "download_mbps", "upload_mbps", "source_document", "valid_from", "valid_to", "note"}}
	probes := [][]string{{"probe", "site", "usage_interface", "lan_gateway", "first_hop", "valid_from", "valid_to", "note"}}
	offers := [][2]string{{"20", "10"}, {"30", "15"}, {"50", "25"}, {"100", "50"}}
	for i, v := range villages {
		site := fmt.Sprintf("klaten-%04d", i+1)
		office := "Kantor Desa " + v.name
		if v.code[9] == '1' {
			office = "Kantor Kelurahan " + v.name
		}
		provider := map[string]string{"fiber": "contoh-" + strings.ToLower(isp[v.code[:8]]), "4g": "contoh-c"}[v.access]
		people := fmt.Sprint(1500 + chance(v.code, "people")%5000)
		sites = append(sites, []string{site, v.code, office, people, provider, v.access, v.odp, comma(v.lat), comma(v.lon), since, "", synthetic})
		if v.access == "none" {
			continue
		}
		offer := chance(v.code, "plan") % len(offers)
		if v.access == "4g" {
			offer = 0
		}
		plan := func(offer int, from, to string) {
			plans = append(plans, []string{site, offers[offer][0], offers[offer][1], synthetic, from, to, ""})
		}
		if v.access == "fiber" && offer == 0 && i%4 == 0 { // some were upgraded
			plan(offer, since, upgraded)
			plan(offer+1, upgraded, "")
		} else {
			plan(offer, since, "")
		}
		usage := ""
		if i%8 == 0 { // where the box is the village's router
			usage = "br-lan"
		}
		probes = append(probes, []string{fmt.Sprintf("kl-%04d", i+1), site, usage, "", "", since, "", synthetic})
	}

	write("regions.csv", rows([]string{"code", "name", "valid_from", "valid_to", "note"}, regions))
	write("isps.csv", [][]string{{"isp", "name", "noc_email", "noc_hours", "valid_from", "valid_to", "note"},
		{"contoh-a", "Penyedia Contoh A", "noc@penyedia-a.example.id", "24 jam", since, "", synthetic},
		{"contoh-b", "Penyedia Contoh B", "noc@penyedia-b.example.id", "24 jam", since, "", synthetic},
		{"contoh-c", "Penyedia Contoh C (seluler)", "noc@penyedia-c.example.id", "24 jam", since, "", synthetic}})
	write("contacts.csv", [][]string{{"email", "role", "region", "name", "language", "min_villages", "valid_from", "valid_to", "note"},
		{"kominfo@klaten.example.id", "dinas", "33.10", "Diskominfo Kabupaten Klaten", "", "", since, "", synthetic},
		{"infrastruktur@klaten.example.id", "dinas", "33.10", "Bidang Infrastruktur, Diskominfo Kabupaten Klaten", "", "", since, "", synthetic},
		{"kominfo@jateng.example.id", "province", "33", "Diskominfo Provinsi Jawa Tengah", "", "10", since, "", synthetic},
		{"operasi@pantau.example.id", "operations", "", "Operasi Pantau Desa", "", "", since, "", synthetic}})
	write("nodes.csv", nodes)
	write("targets.csv", targets)
	write("sites.csv", sites)
	write("plans.csv", plans)
	write("probes.csv", probes)
}

// read returns code and name of the rows whose code begins with prefix; a
// prefix without a final dot is the whole code.
func read(dir, file, prefix string) []region {
	f, err := os.Open(filepath.Join(dir, file))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	records, err := csv.NewReader(f).ReadAll()
	if err != nil {
		log.Fatal(err)
	}
	code, name := slices.Index(records[0], "code"), slices.Index(records[0], "name")
	var out []region
	for _, r := range records[1:] {
		if r[code] == prefix || strings.HasSuffix(prefix, ".") && strings.HasPrefix(r[code], prefix) {
			out = append(out, region{r[code], r[name]})
		}
	}
	slices.SortFunc(out, func(a, b region) int { return cmp.Compare(a.code, b.code) })
	return out
}

// centre is the middle of a district's cell of the layout.
func centre(name string) (lat, lon float64) {
	for row, line := range layout {
		for column, cell := range strings.Fields(line) {
			if strings.ReplaceAll(cell, "_", " ") == name {
				return -7.55 - 0.045*float64(row), 110.52 + 0.045*float64(column)
			}
		}
	}
	log.Fatalf("the layout has no district %s", name)
	return 0, 0
}

// chance is a number that looks random and is the same on every run.
func chance(code, what string) int {
	h := fnv.New32a()
	h.Write([]byte(code + what))
	return int(h.Sum32() >> 8)
}

// comma writes degrees as an Indonesian spreadsheet does.
func comma(degrees float64) string {
	return strings.ReplaceAll(fmt.Sprintf("%.4f", degrees), ".", ",")
}

func rows(header []string, regions []region) [][]string {
	out := [][]string{header}
	for _, r := range regions {
		out = append(out, []string{r.code, r.name, since, "", "idn-area-data 4.0.1, ODbL 1.0"})
	}
	return out
}

func write(name string, rows [][]string) {
	f, err := os.Create(name)
	if err != nil {
		log.Fatal(err)
	}
	w := csv.NewWriter(f)
	w.Comma = ';'
	if err := w.WriteAll(rows); err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}

package inventory

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/charmap"

	"github.com/pantau-desa/pantau/probe/measure"
)

func load(t testing.TB, dir string) *Inventory {
	t.Helper()
	inv, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSiteAtInstant(t *testing.T) {
	inv := load(t, "testdata/valid")
	describe := func(id measure.SiteID, when string) string {
		s, ok := inv.Site(id, at(t, when))
		if !ok {
			return "not found"
		}
		plan := "no plan"
		if s.Plan != nil {
			plan = fmt.Sprintf("%g/%g %s", s.Plan.DownloadBPS, s.Plan.UploadBPS, s.Plan.Document)
		}
		return fmt.Sprintf("%s %s [%s] %s odp=%s people=%v %s", s.Village, s.Access, s.ISP.Name, s.Name, s.ODP, s.Population, plan)
	}
	for _, c := range []struct {
		site measure.SiteID
		at   string
		want string
	}{
		{"s1", "2025-12-31T23:59:59+07:00", "not found"},
		{"s1", "2026-01-01T00:00:00+07:00", "33.10.15.2009 fiber [Penyedia Contoh A] Kantor Desa odp=ODP-1 people={3412 true} 2e+07/1e+07 Kontrak 1/2026"},
		{"s1", "2026-02-28T16:59:59Z", "33.10.15.2009 fiber [Penyedia Contoh A Baru] Kantor Desa odp=ODP-1 people={3412 true} 2e+07/1e+07 Kontrak 1/2026"},
		{"s1", "2026-02-28T17:00:00Z", "33.10.15.2009 fiber [Penyedia Contoh A Baru] Kantor Desa odp=ODP-1 people={3412 true} 5e+07/2.55e+07 Adendum 2/2026"},
		{"s2", "2026-02-01T00:00:00Z", `33.10.15.2010 4g [Penyedia Contoh B] Balai, "lama" odp= people={0 false} no plan`},
		{"s2", "2026-03-01T00:00:00+07:00", "not found"}, // the gap before the fibre
		{"s2", "2026-03-14T23:59:59+07:00", "not found"},
		{"s2", "2026-03-15T00:00:00+07:00", "33.10.15.2010 fiber [Penyedia Contoh A Baru] Balai odp=ODP-2 people={2500 true} no plan"},
		{"s3", "2026-02-01T00:00:00+07:00", "33.10.15.2009 other [] Koperasi Merah Putih odp= people={0 false} no plan"},
		{"s4", "2026-02-01T00:00:00+07:00", "33.10.15.1011 none [] Kelurahan odp= people={1200 true} no plan"},
		{"s5", "2025-12-31T15:59:59Z", "not found"}, // WITA begins an hour before WIB
		{"s5", "2025-12-31T16:00:00Z", "53.01.01.2001 fiber [Penyedia Contoh B] Kantor Desa odp=ODP-T people={800 true} 3e+07/1.5e+07 Kontrak 5/2026"},
		{"s9", "2026-02-01T00:00:00Z", "not found"},
	} {
		if got := describe(c.site, c.at); got != c.want {
			t.Errorf("%s at %s:\ngot  %s\nwant %s", c.site, c.at, got, c.want)
		}
	}

	s, _ := inv.Site("s1", at(t, "2026-03-02T00:00:00Z"))
	if !s.Known || s.Lat != -7.6051 || s.Lon != 110.7123 {
		t.Errorf("position %+v", s.Position)
	}
	if want := at(t, "2026-03-01T00:00:00+07:00"); !s.Plan.From.Equal(want) || !s.Plan.To.IsZero() {
		t.Errorf("plan holds from %v to %v", s.Plan.From, s.Plan.To)
	}
	if s, _ := inv.Site("s3", at(t, "2026-03-02T00:00:00Z")); s.Known {
		t.Errorf("position of s3 is known: %+v", s.Position)
	}
	s.Plan.DownloadBPS = 1
	if again, _ := inv.Site("s1", at(t, "2026-03-02T00:00:00Z")); again.Plan.DownloadBPS != 50e6 {
		t.Error("a caller changed the inventory's plan")
	}
}

func ids[T any](in []T, id func(T) string) string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = id(v)
	}
	return strings.Join(out, " ")
}

func TestListsAtInstant(t *testing.T) {
	inv := load(t, "testdata/valid")
	site := func(s Site) string { return string(s.ID) }
	probe := func(p Placement) string { return string(p.Probe) + "@" + string(p.Site) }
	target := func(x Target) string { return string(x.ID) }
	node := func(n Node) string { return string(n.ID) }
	village := func(v Village) string { return v.Code[len(v.Code)-4:] + ":" + v.Name }
	latency := func(id measure.SiteID, when time.Time) string {
		x, ok := inv.LatencyTarget(id, when)
		if !ok {
			return "none"
		}
		return string(x.ID)
	}
	early, january, february := at(t, "2019-06-01T00:00:00Z"), at(t, "2026-01-15T00:00:00Z"), at(t, "2026-02-15T00:00:00Z")
	april, july := at(t, "2026-04-15T00:00:00Z"), at(t, "2026-07-15T00:00:00Z")
	for _, c := range []struct{ what, got, want string }{
		{"sites, early", ids(inv.Sites(early), site), ""},
		{"sites, January", ids(inv.Sites(january), site), "s1 s2 s4 s5 s6"},
		{"sites, April", ids(inv.Sites(april), site), "s1 s2 s3 s4 s5 s6"},
		{"village 2009, January", ids(inv.SitesIn("33.10.15.2009", january), site), "s1"},
		{"village 2009, February", ids(inv.SitesIn("33.10.15.2009", february), site), "s1 s3"},
		{"village 1011, January", ids(inv.SitesIn("33.10.15.1011", january), site), "s4 s6"},
		{"village 1011, February", ids(inv.SitesIn("33.10.15.1011", february), site), "s4"},
		{"unknown village", ids(inv.SitesIn("33.10.15.2999", february), site), ""},
		{"probes, January", ids(inv.Probes(january), probe), "kl-0001@s1 kl-0002@s1 kl-0005@s5 kl-0006@s6"},
		{"probes, July", ids(inv.Probes(july), probe), "kl-0001@s1 kl-0002@s3 kl-0005@s1 kl-0006@s6"},
		{"probes of s1, January", ids(inv.ProbesAt("s1", january), probe), "kl-0001@s1 kl-0002@s1"},
		{"probes of s1, February", ids(inv.ProbesAt("s1", february), probe), "kl-0001@s1"},
		{"probes of s1, July", ids(inv.ProbesAt("s1", july), probe), "kl-0001@s1 kl-0005@s1"},
		{"path of ODP-1", ids(inv.Path("ODP-1", january), node), "ODP-1 ODC-1 PON-1 OLT-1 BNG-1 POP-1"},
		{"path of ODP-2, January", ids(inv.Path("ODP-2", january), node), "ODP-2 OLT-1 BNG-1 POP-1"},
		{"path of ODP-2, April", ids(inv.Path("ODP-2", april), node), "ODP-2 OLT-2 BNG-1 POP-1"},
		{"path, early", ids(inv.Path("ODP-2", early), node), ""},
		{"path of nothing", ids(inv.Path("", january), node), ""},
		{"nodes, January", ids(inv.Nodes(january), node), "BNG-1 ODC-1 ODP-1 ODP-2 ODP-T OLT-1 OLT-2 PON-1 POP-1 POP-T"},
		{"reach of s1, January", ids(inv.ReachTargets("s1", january), target), "olt1 bng exchange ix-tcp"},
		{"reach of s1, April", ids(inv.ReachTargets("s1", april), target), "olt1 bng klaten exchange ix-tcp"},
		{"reach of s2, January", ids(inv.ReachTargets("s2", january), target), "exchange ix-tcp"},
		{"reach of s2, April", ids(inv.ReachTargets("s2", april), target), "olt2 bng klaten exchange ix-tcp"},
		{"reach of s5, April", ids(inv.ReachTargets("s5", april), target), "exchange ix-tcp"},
		{"reach of no site", ids(inv.ReachTargets("s9", april), target), ""},
		{"speed of s1", ids(inv.SpeedTargets("s1", january), target), "ukur-b ukur-a"},
		{"speed of s5", ids(inv.SpeedTargets("s5", january), target), "ukur-a"},
		{"questions of s1", ids(inv.DNSTargets("s1", january), target), "dns-own dns-isp"},
		{"questions of s5", ids(inv.DNSTargets("s5", january), target), ""},
		{"pages of s1", ids(inv.PageTargets("s1", january), target), "kas"},
		{"latency of s1, January", latency("s1", january), "exchange"},
		{"latency of s1, April", latency("s1", april), "klaten"},
		{"latency of s5, April", latency("s5", april), "exchange"},
		{"latency of s1, early", latency("s1", early), "none"},
		{"villages", ids(inv.Villages(), village), "1011:Contoh Tiga 2009:Contoh Baru 2010:Contoh Dua 2001:Contoh Pantai 3007:Contoh Kampung"},
		{"villages, January", ids(inv.VillagesAt(january), village), "1011:Contoh Tiga 2009:Contoh Lama 2010:Contoh Dua 2001:Contoh Pantai 3007:Contoh Kampung"},
		{"villages, July", ids(inv.VillagesAt(july), village), "1011:Contoh Tiga 2009:Contoh Baru 2010:Contoh Dua 2001:Contoh Pantai"},
		{"villages, early", ids(inv.VillagesAt(early), village), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.what, c.got, c.want)
		}
	}
	if x, _ := inv.Target("ukur-a", january); x.URL != "http://192.0.2.10:7442/speedtest" {
		t.Errorf("url %q", x.URL)
	}
	if x, _ := inv.Target("dns-isp", january); x.Question != "www.example.id" || x.Address != "2001:db8::53" || x.Port != 5353 {
		t.Errorf("question %+v", x)
	}
	if x, _ := inv.Target("kas", january); x.URL != "https://kas.example.id:8443/?desa=1" {
		t.Errorf("page %q", x.URL)
	}
	if p, _ := inv.Probe("kl-0006", january); p.UsageInterface != "eth0" || p.LANGateway != "fe80::1" || p.FirstHop != "" {
		t.Errorf("placement %+v", p)
	}
}

func TestRegions(t *testing.T) {
	inv := load(t, "testdata/valid")
	v, ok := inv.Village("33.10.15.2009")
	want := Village{Code: "33.10.15.2009", Name: "Contoh Baru", Kind: Desa,
		District: Region{"33.10.15", "Wonosari"}, Regency: Region{"33.10", "Kabupaten Klaten"}, Province: Region{"33", "Jawa Tengah"}}
	v.Validity = Validity{}
	if !ok || v != want {
		t.Errorf("got %+v, want %+v", v, want)
	}
	for code, kind := range map[string]Kind{"33.10.15.1011": Kelurahan, "91.03.01.3007": DesaAdat, "53.01.01.2001": Desa} {
		if v, ok := inv.Village(code); !ok || v.Kind != kind {
			t.Errorf("%s is %q, want %q", code, v.Kind, kind)
		}
	}
	for _, code := range []string{"33.10.15", "33.10.15.2999", ""} {
		if v, ok := inv.Village(code); ok {
			t.Errorf("village %q is %+v", code, v)
		}
	}
	if _, ok := inv.Regency("33.10.15"); ok {
		t.Error("a district passed as a regency")
	}
	if r, ok := inv.District("33.10.15"); !ok || r.Name != "Wonosari" {
		t.Errorf("district %+v", r)
	}
	if got := len(inv.Provinces()); got != 3 {
		t.Errorf("%d provinces", got)
	}
	for code, zone := range map[string]string{"33": "WIB", "33.10.15.2009": "WIB", "53": "WITA", "91": "WIT", "81.01": "WIT", "64": "WITA", "xx": "UTC"} {
		if got := inv.Location(code).String(); got != zone {
			t.Errorf("zone of %s is %s, want %s", code, got, zone)
		}
	}
	if _, offset := at(t, "2026-01-01T00:00:00Z").In(inv.Location("94")).Zone(); offset != 9*60*60 {
		t.Errorf("WIT is %d s from UTC", offset)
	}
}

// All 38 provinces have the zone that the law gives them.
func TestZonesOfAllProvinces(t *testing.T) {
	count := map[string]int{}
	for p := range 100 {
		if z := zoneOf(fmt.Sprintf("%02d", p)); z != nil {
			count[z.String()]++
		}
	}
	if diff := cmp.Diff(map[string]int{"WIB": 18, "WITA": 12, "WIT": 8}, count); diff != "" {
		t.Error(diff)
	}
}

func TestLabels(t *testing.T) {
	inv := load(t, "testdata/valid")
	got, ok := inv.Labels("kl-0006", at(t, "2026-01-15T00:00:00Z"))
	want := Labels{Province: "33", Regency: "33.10", District: "33.10.15", Village: "33.10.15.1011", Site: "s6", Probe: "kl-0006",
		Validity: Validity{From: at(t, "2026-01-01T00:00:00+07:00"), To: at(t, "2026-02-01T00:00:00+07:00")}}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, _ := inv.Labels("kl-0006", got.To); got.Village != "33.10.15.2010" || !got.To.IsZero() {
		t.Errorf("after the move: %+v", got)
	}
	// Kupang is an hour ahead of Klaten: the probe that moves west is nowhere
	// for that hour.
	for when, site := range map[string]measure.SiteID{"2026-05-31T15:59:59Z": "s5", "2026-05-31T16:30:00Z": "", "2026-05-31T17:00:00Z": "s1"} {
		if got, _ := inv.Labels("kl-0005", at(t, when)); got.Site != site {
			t.Errorf("kl-0005 at %s stands at %q, want %q", when, got.Site, site)
		}
	}
	if _, ok := inv.Labels("kl-9999", at(t, "2026-01-15T00:00:00Z")); ok {
		t.Error("an unknown probe has labels")
	}
}

// Between two boundaries no answer changes, and at each some answer does.
func TestContacts(t *testing.T) {
	inv := load(t, "testdata/valid")
	describe := func(c Contact) string {
		return fmt.Sprintf("%s %s %s %s %d", c.Email, c.Role, c.Region, c.Language, c.MinVillages)
	}
	for _, c := range []struct {
		at   string
		want []string
	}{
		{"2025-12-31T00:00:00Z", nil},
		{"2026-01-15T00:00:00Z", []string{"kominfo@klaten.example.id dinas 33.10  0", "kominfo@klaten.example.id province 33 en 4",
			"ntt@example.id dinas 53.01 id 0", "ops@pantau.example.id operations   0"}},
		{"2026-02-01T00:00:00+07:00", []string{"kominfo@klaten.example.id dinas 33.10  0", "ntt@example.id dinas 53.01 id 0",
			"ops@pantau.example.id operations   0", "prov@jateng.example.id province 33  10"}},
	} {
		var got []string
		for _, x := range inv.Contacts(at(t, c.at)) {
			got = append(got, describe(x))
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("contacts at %s (-want +got):\n%s", c.at, diff)
		}
	}
	// A contact's day begins in its own region.
	for _, x := range inv.Contacts(at(t, "2026-01-15T00:00:00Z")) {
		if want := at(t, "2025-12-31T16:00:00Z"); x.Region == "53.01" && !x.From.Equal(want) {
			t.Errorf("%s holds from %v, want %v", x.Email, x.From, want)
		}
	}
	if isp, _ := inv.ISP("a", at(t, "2026-03-01T00:00:00Z")); isp.NOC != (NOC{"+62 21 0000 0000", "noc@a.example.id", "24 jam"}) {
		t.Errorf("NOC %+v", isp.NOC)
	}
}

// An inventory without contacts is whole, and the one that it was before there
// was such a file.
func TestContactsMayBeMissing(t *testing.T) {
	files := overlay(t, "testdata/valid")
	with, err := Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	delete(files, "contacts.csv")
	without, err := Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(without.Contacts(at(t, "2026-01-15T00:00:00Z"))); n != 0 {
		t.Errorf("%d contacts", n)
	}
	if with.Digest() == without.Digest() {
		t.Error("contacts do not enter the digest")
	}
}

func TestBoundaries(t *testing.T) {
	inv := load(t, "testdata/valid")
	all := inv.Boundaries(time.Time{}, at(t, "2100-01-01T00:00:00Z"))
	if !slices.IsSortedFunc(all, time.Time.Compare) || len(all) < 10 {
		t.Fatalf("boundaries %v", all)
	}
	answers := func(when time.Time) string {
		sites := inv.Sites(when)
		for i := range sites {
			sites[i].Plan = nil // a pointer; plansOf shows what it points to
		}
		return fmt.Sprint(sites, inv.Probes(when), inv.Nodes(when), inv.Targets(when), inv.VillagesAt(when), plansOf(inv, when), regionsAt(inv, when))
	}
	for i, b := range all {
		before, after := answers(b.Add(-time.Nanosecond)), answers(b)
		if before == after {
			t.Errorf("nothing changes at %v", b)
		}
		if i+1 < len(all) && answers(all[i+1].Add(-time.Nanosecond)) != after {
			t.Errorf("something changes between %v and %v", b, all[i+1])
		}
	}
	if got := inv.Boundaries(all[2], all[4]); !slices.Equal(got, all[3:5]) {
		t.Errorf("got %v, want %v", got, all[3:5])
	}
	if got := inv.Boundaries(all[4], all[2]); got != nil {
		t.Errorf("backwards: %v", got)
	}
}

func plansOf(inv *Inventory, when time.Time) (out []Plan) {
	for _, s := range inv.Sites(when) {
		if s.Plan != nil {
			out = append(out, *s.Plan)
		}
	}
	return out
}

func regionsAt(inv *Inventory, when time.Time) (out []string) {
	for _, e := range inv.regions.entries {
		if e.valid.Covers(when) {
			out = append(out, e.key)
		}
	}
	for _, id := range []ISPID{"a", "b"} {
		isp, _ := inv.ISP(id, when)
		out = append(out, isp.Name)
	}
	return out
}

func TestFilesMakeTheSameInventory(t *testing.T) {
	inv := load(t, "testdata/valid")
	files := inv.Files()
	again, err := Parse(files)
	if err != nil || again.Digest() != inv.Digest() {
		t.Errorf("digest %x, want %x (%v)", again.Digest(), inv.Digest(), err)
	}
	for name := range files {
		changed := maps.Clone(files)
		changed[name] = append(bytes.Clone(files[name]), '\n')
		other, err := Parse(changed)
		if err != nil || other.Digest() == inv.Digest() {
			t.Errorf("%s changed, the digest did not (%v)", name, err)
		}
	}
	files["sites.csv"][0] = 'X'
	if again, err := Parse(inv.Files()); err != nil || again.Digest() != inv.Digest() {
		t.Error("a caller changed the inventory's files")
	}
}

// facts shows everything an inventory says, to compare two.
func facts(inv *Inventory) string {
	var out strings.Builder
	show := func(v any) { fmt.Fprintf(&out, "%+v\n", v) }
	show(inv.villages)
	show(inv.regions.entries)
	show(inv.isps.entries)
	show(inv.nodes.entries)
	show(inv.targets.entries)
	show(inv.sites.entries)
	show(inv.plans.entries)
	show(inv.probes.entries)
	// Blank rows move the others down.
	return regexp.MustCompile(`line:\d+`).ReplaceAllString(out.String(), "")
}

var isoCell = regexp.MustCompile(`^(\d{4})-(\d{2})-(\d{2})$`)

// The same facts as an Indonesian spreadsheet saves them.
func TestSpreadsheetForms(t *testing.T) {
	plain := load(t, "testdata/valid")
	for _, form := range []struct {
		name      string
		separator rune
		edit      func(string) string
	}{
		{"semicolons, BOM, CRLF", ';', func(s string) string { return "\ufeff" + s }},
		{"tabs, old line ends", '\t', func(s string) string { return strings.ReplaceAll(s, "\r\n", "\r") }},
		{"commas, separator hint", ',', func(s string) string { return "sep=,\r\n" + s }},
	} {
		t.Run(form.name, func(t *testing.T) {
			files := plain.Files()
			for name, b := range files {
				records, err := csv.NewReader(bytes.NewReader(b)).ReadAll()
				if err != nil {
					t.Fatal(err)
				}
				var text strings.Builder
				w := csv.NewWriter(&text)
				w.Comma, w.UseCRLF = form.separator, true
				header := slices.Clone(records[0])
				for i, row := range records {
					for j, cell := range row {
						switch {
						case i == 0:
							row[j] = " " + strings.ToUpper(strings.ReplaceAll(cell, "_", " "))
						case isoCell.MatchString(cell):
							row[j] = isoCell.ReplaceAllString(cell, "$3/$2/$1")
						case slices.Contains([]string{"lat", "lon", "download_mbps", "upload_mbps"}, header[j]):
							row[j] = strings.Replace(cell, ".", ",", 1)
						case cell == "3412":
							row[j] = "3.412"
						}
					}
					if i%2 == 1 {
						w.Write(make([]string, len(row)+3)) // a blank row
					}
					w.Write(append(row, "", "", ""))
				}
				w.Flush()
				files[name] = []byte(form.edit(text.String()))
			}
			inv, err := Parse(files)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(facts(plain), "\n"), strings.Split(facts(inv), "\n")); diff != "" {
				t.Errorf("-plain +spreadsheet:\n%s", diff)
			}
		})
	}
}

func TestWindows1252(t *testing.T) {
	files := load(t, "testdata/valid").Files()
	text := strings.Replace(string(files["sites.csv"]), "Kantor Desa", "Kantor “Desa” é", 1)
	encoded, err := charmap.Windows1252.NewEncoder().String(text)
	if err != nil {
		t.Fatal(err)
	}
	files["sites.csv"] = []byte(encoded)
	inv, err := Parse(files)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := inv.Site("s1", at(t, "2026-02-01T00:00:00Z")); s.Name != "Kantor “Desa” é" {
		t.Errorf("name %q", s.Name)
	}
}

func TestConcurrentReaders(t *testing.T) {
	inv := load(t, "testdata/valid")
	when := at(t, "2026-04-15T00:00:00Z")
	want := fmt.Sprint(len(inv.Sites(when)), inv.ReachTargets("s1", when), inv.Digest())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got := fmt.Sprint(len(inv.Sites(when)), inv.ReachTargets("s1", when), inv.Digest()); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	wg.Wait()
}

func TestLoadRefusesWhatIsNoDirectoryOrFile(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a missing directory was loaded")
	}
	dir := t.TempDir()
	for name, b := range load(t, "testdata/valid").Files() {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("ignored"), 0o644); err != nil {
		t.Fatal(err)
	}
	load(t, dir)
	// A sparse file, one byte too large.
	if err := os.Truncate(filepath.Join(dir, "sites.csv"), maxFileBytes+1); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir)
	if want := "sites.csv: the file is larger than 64 MB. Remove what does not belong in it"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Klaten, as shipped.
func TestKlaten(t *testing.T) {
	inv := load(t, "../klaten")
	now := at(t, "2026-11-01T00:00:00Z")
	kinds := map[Kind]int{}
	for _, v := range inv.VillagesAt(now) {
		kinds[v.Kind]++
		if v.Regency.Name != "Kabupaten Klaten" || v.Province.Name != "Jawa Tengah" || v.District.Name == "" {
			t.Errorf("village %+v", v)
		}
		if n := len(inv.SitesIn(v.Code, now)); n != 1 {
			t.Errorf("%s has %d sites", v.Code, n)
		}
	}
	if diff := cmp.Diff(map[Kind]int{Desa: 391, Kelurahan: 10}, kinds); diff != "" {
		t.Errorf("villages (-want +got):\n%s", diff)
	}
	if n := len(inv.Districts()); n != 26 {
		t.Errorf("%d districts, want 26", n)
	}
	access := map[Access]int{}
	drops := map[NodeID]int{}
	for _, s := range inv.Sites(now) {
		access[s.Access]++
		if probes := len(inv.ProbesAt(s.ID, now)); (s.Access == AccessNone) != (probes == 0) || probes > 1 {
			t.Errorf("%s with access %s has %d probes", s.ID, s.Access, probes)
		}
		if (s.Access == AccessNone) != (s.Plan == nil) {
			t.Errorf("%s with access %s has plan %v", s.ID, s.Access, s.Plan)
		}
		if s.Access == AccessFiber {
			drops[s.ODP]++
			path := ids(inv.Path(s.ODP, now), func(n Node) string { return string(n.Type) })
			if path != "odp odc pon olt bng pop" {
				t.Errorf("%s hangs on %s", s.ID, path)
			}
			if reach := inv.ReachTargets(s.ID, now); len(reach) != 4 {
				t.Errorf("%s has %d reach targets", s.ID, len(reach))
			}
		}
		if len(inv.DNSTargets(s.ID, now)) != 1 || len(inv.PageTargets(s.ID, now)) != 1 {
			t.Errorf("%s has no question, or no page", s.ID)
		}
		if len(inv.SpeedTargets(s.ID, now)) != 2 {
			t.Errorf("%s has not two speed targets", s.ID)
		}
		if _, ok := inv.LatencyTarget(s.ID, now); !ok {
			t.Errorf("%s has no latency target", s.ID)
		}
	}
	if diff := cmp.Diff(map[Access]int{AccessFiber: 379, Access4G: 17, AccessNone: 5}, access); diff != "" {
		t.Errorf("access (-want +got):\n%s", diff)
	}
	olts, used := 0, 0
	for _, n := range inv.Nodes(now) {
		switch n.Type {
		case NodeOLT:
			olts++
		case NodeODP:
			used++
			if drops[n.ID] == 0 {
				t.Errorf("%s serves nobody", n.ID)
			}
		}
	}
	if olts != 26 || used != len(drops) {
		t.Errorf("%d OLTs, %d ODPs of which sites use %d", olts, used, len(drops))
	}
	for _, p := range plansOf(inv, now) {
		if p.Document != "CONTOH: sintetis" {
			t.Errorf("a made-up plan cites %q", p.Document)
		}
	}
}

// country makes an inventory with as many villages as Indonesia has.
func country(villages int) map[string][]byte {
	text := make(map[string]*strings.Builder)
	for _, name := range fileNames() {
		text[name] = new(strings.Builder)
		text[name].WriteString(names(columnsOf(name), ";") + "\n")
	}
	row := func(file string, cells ...string) {
		text[file].WriteString(strings.Join(cells, ";") + "\n")
	}
	const since = "2026-01-01;"
	provinces := []string{"11", "33", "35", "53", "64", "91"}
	row(fileISPs, "a", "Penyedia Contoh A", "", "", "", since, "")
	row(fileTargets, "ix", "", "", "", "icmp", "192.0.2.1", "", "", "", "yes", since, "")
	for n := range villages {
		const perDistrict, districtsPerRegency, regenciesPer = 12, 14, 84
		d, r := n/perDistrict, n/perDistrict/districtsPerRegency
		p := r / regenciesPer
		province := provinces[p%len(provinces)]
		regencyCode := fmt.Sprintf("%s.%02d", province, r%regenciesPer+1)
		districtCode := fmt.Sprintf("%s.%02d", regencyCode, d%districtsPerRegency+1)
		olt := "OLT-" + districtCode
		if n%perDistrict == 0 {
			if d%districtsPerRegency == 0 {
				if r%regenciesPer == 0 {
					row(fileRegions, province, "Provinsi", since, "")
				}
				row(fileRegions, regencyCode, "Kabupaten", since, "")
				row(fileNodes, "POP-"+regencyCode, "pop", "", "POP", "", "", regencyCode, since, "")
			}
			row(fileRegions, districtCode, "Kecamatan", since, "")
			row(fileNodes, olt, "olt", "POP-"+regencyCode, "OLT", "", "", "", since, "")
		}
		number := strconv.Itoa(n)
		code := districtCode + "." + strconv.Itoa(2001+n%perDistrict)
		site, odp := "s"+number, "ODP-"+number
		row(fileRegions, code, "Desa", since, "")
		row(fileNodes, odp, "odp", olt, "ODP", "-7,6051", "110,7123", "", since, "")
		row(fileSites, site, code, "Kantor Desa", strconv.Itoa(1+n%5000), "a", "fiber", odp, "-7,6051", "110,7123", "", since, "")
		row(filePlans, site, "20", "10", "Kontrak", since, "")
		row(fileProbes, "p"+number, site, "br-lan", "", "", since, "")
	}
	files := make(map[string][]byte)
	for name, b := range text {
		files[name] = []byte(b.String())
	}
	return files
}

const indonesia = 84_276

func TestWholeCountry(t *testing.T) {
	villages := indonesia
	if testing.Short() {
		villages /= 10
	}
	inv, err := Parse(country(villages))
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, "2026-06-01T00:00:00Z")
	if d, ok := inv.District("11.01.01"); !ok || d.Name != "Kecamatan" {
		t.Errorf("district %+v", d)
	}
	if n := len(inv.Villages()); n != villages {
		t.Errorf("%d villages", n)
	}
	if n := len(inv.Probes(now)); n != villages {
		t.Errorf("%d probes", n)
	}
	if l, ok := inv.Labels("p8426", now); !ok || l.Site != "s8426" {
		t.Errorf("labels %+v", l)
	}
}

func BenchmarkLoadCountry(b *testing.B) {
	files := country(indonesia)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(files); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLabels(b *testing.B) {
	inv, err := Parse(country(indonesia))
	if err != nil {
		b.Fatal(err)
	}
	now := at(b, "2026-06-01T00:00:00Z")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := inv.Labels("p4242", now); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkAllSites(b *testing.B) {
	inv, err := Parse(country(indonesia))
	if err != nil {
		b.Fatal(err)
	}
	now := at(b, "2026-06-01T00:00:00Z")
	for b.Loop() {
		if n := len(inv.Sites(now)); n != indonesia {
			b.Fatal(n)
		}
	}
}

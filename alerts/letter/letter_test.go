package letter

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

var at = time.Date(2026, 7, 21, 7, 6, 0, 0, time.UTC)

func inv(t *testing.T) *inventory.Inventory {
	t.Helper()
	x, err := inventory.Load("../../configs/klaten")
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// broken is an incident of some villages.
func broken(villages ...string) incident.Incident {
	i := incident.Incident{ID: "G-3310-260721-04", Kind: incident.Outage, Regency: "33.10", Since: at.Add(-4 * time.Minute), OpenedAt: at, Guess: incident.CauseODPOrFeeder,
		Place: incident.Place{Node: "ODC-15-1", Type: inventory.NodeODC, Top: "ODC-15-1", Separable: true}}
	for k, v := range villages {
		i.Sites = append(i.Sites, incident.Site{Site: measure.SiteID(fmt.Sprint("s", k)), Village: v, VillageName: "Desa " + v[len(v)-4:], District: v[:8], Since: i.Since, Heard: i.Since,
			ISP: "contoh-a", ISPName: "Penyedia Contoh A"})
	}
	return i
}

func event(kind incident.EventType, i incident.Incident) incident.Event {
	return incident.Event{Seq: 7, At: at, Type: kind, Incident: i}
}

func describe(list []News) string {
	var out []string
	for _, n := range list {
		out = append(out, strings.TrimSpace(string(n.Role)+" "+n.Region))
	}
	return strings.Join(out, ", ")
}

func TestWhoseNews(t *testing.T) {
	one := broken("33.10.15.2009", "33.10.15.2014")
	two := broken("33.10.15.2009", "33.11.01.2001")
	far := broken("33.10.15.2009", "34.02.01.2001")
	ours := broken("33.10.15.2009")
	ours.Kind = incident.Ours
	stall, uplink := ours, ours
	stall.Evidence = []incident.Fact{{Kind: incident.UplinkWorks}, {Kind: incident.Stalled}}
	uplink.Evidence = []incident.Fact{{Kind: incident.UplinkFails}, {Kind: incident.Stalled}}
	for _, c := range []struct {
		what   string
		ev     incident.Event
		before []string
		want   string
	}{
		{"opened", event(incident.Opened, one), nil, "dinas 33.10, province 33"},
		{"opened in two regencies", event(incident.Opened, two), nil, "dinas 33.10, dinas 33.11, province 33"},
		{"opened in two provinces", event(incident.Opened, far), nil, "dinas 33.10, dinas 34.02, province 33, province 34"},
		{"ours", event(incident.Opened, ours), nil, "operations"},
		{"ours, over", event(incident.Recovered, ours), nil, "operations"},
		{"a stall of ours", event(incident.Opened, stall), nil, ""},
		{"a stall of ours, over", event(incident.Recovered, stall), nil, ""},
		{"a stall of ours, and no uplink", event(incident.Opened, uplink), nil, "operations"},
		{"widened", event(incident.Widened, one), []string{"33.10.15.2009"}, "dinas 33.10, province 33"},
		{"widened into another regency", event(incident.Widened, two), []string{"33.10.15.2009"}, "dinas 33.11, province 33"},
		{"widened within the villages", event(incident.Widened, one), []string{"33.10.15.2009", "33.10.15.2014"}, ""},
		{"unstable", event(incident.Unstable, one), nil, "dinas 33.10, province 33"},
		{"recovered", event(incident.Recovered, two), []string{"33.10.15.2009", "33.11.01.2001"}, "dinas 33.10, dinas 33.11, province 33"},
		{"narrowed", event(incident.Narrowed, one), nil, ""},
		{"merged", event(incident.Merged, one), nil, ""},
		{"cause found", event(incident.CauseFound, one), nil, ""},
	} {
		if got := describe(Of(c.ev, c.before, nil)); got != c.want {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestFor(t *testing.T) {
	var many []string
	for k := range 12 {
		many = append(many, fmt.Sprintf("33.10.15.%d", 2001+k))
	}
	dinas := inventory.Contact{Role: inventory.RoleDinas, Region: "33.10"}
	province := inventory.Contact{Role: inventory.RoleProvince, Region: "33", MinVillages: 10}
	news := func(kind incident.EventType, role inventory.Role, villages ...string) News {
		for _, n := range Of(event(kind, broken(villages...)), nil, nil) {
			if n.Role == role {
				return n
			}
		}
		t.Fatal("no news")
		return News{}
	}
	told := Told{Any: true}
	for _, c := range []struct {
		what string
		n    News
		c    inventory.Contact
		told Told
		want bool
	}{
		{"a village, to the dinas", news(incident.Opened, inventory.RoleDinas, many[0]), dinas, Told{}, true},
		{"a village, to another dinas", news(incident.Opened, inventory.RoleDinas, many[0]), inventory.Contact{Role: inventory.RoleDinas, Region: "33.11"}, Told{}, false},
		{"a village, to the province", news(incident.Opened, inventory.RoleProvince, many[0]), province, Told{}, false},
		{"nine, to the province", news(incident.Opened, inventory.RoleProvince, many[:9]...), province, Told{}, false},
		{"ten, to the province", news(incident.Opened, inventory.RoleProvince, many[:10]...), province, Told{}, true},
		{"two in two regencies, to the province", news(incident.Opened, inventory.RoleProvince, many[0], "33.11.01.2001"), province, Told{}, true},
		{"the end, to who was told", news(incident.Recovered, inventory.RoleProvince, many[0]), province, told, true},
		{"the end, to who was not", news(incident.Recovered, inventory.RoleProvince, many...), province, Told{}, false},
		{"the end, to a dinas that was not told", news(incident.Recovered, inventory.RoleDinas, many...), dinas, Told{}, false},
	} {
		if got := c.n.For(c.c, c.told); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

func TestLabels(t *testing.T) {
	x := inv(t)
	one := Of(event(incident.Opened, broken("33.10.15.2009")), nil, nil)[0]
	want := map[string]string{"alertname": "Incident", "source": "incident", "event": "G-3310-260721-04/opened-7/33.10", "role": "dinas", "region": "33.10", "incident": "G-3310-260721-04",
		"kind": "outage", "step": "opened", "province": "33", "regency": "33.10", "district": "33.10.15", "village": "33.10.15.2009", "nodes": "/POP-A/BNG-A/OLT-15/PON-15-1/ODC-15-1/"}
	got := one.Labels(x)
	if strings.HasPrefix(got["nodes"], "/POP-B/") { // which of the two is arbitrary
		want["nodes"] = strings.ReplaceAll(want["nodes"], "-A/", "-B/")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	several := Of(event(incident.Opened, broken("33.10.15.2009", "33.10.14.2001", "33.11.01.2001")), nil, nil)
	if l := several[0].Labels(x); l["village"] != "" || l["district"] != "" || l["regency"] != "33.10" {
		t.Errorf("labels of two districts: %v", l)
	}
	if l := several[2].Labels(x); l["regency"] != "" || l["province"] != "33" {
		t.Errorf("labels of the province's news: %v", l)
	}
}

func TestView(t *testing.T) {
	x := inv(t)
	dinas := inventory.Contact{Role: inventory.RoleDinas, Region: "33.10", Name: "Diskominfo Kabupaten Klaten"}
	style := Style{Page: "https://pantau.example.id", Language: mail.Indonesian}
	i := broken("33.10.15.2009", "33.10.15.2014", "33.11.01.2001")
	i.Evidence = []incident.Fact{{Kind: incident.FellTogether, Node: "ODC-15-1", Count: 3, Of: 3, Spread: 15 * time.Second}, {Kind: incident.NeighboursUp, Node: "OLT-15", Count: 9, Of: 10},
		{Kind: incident.NeighboursUp, Node: "OLT-15", Count: 8, Of: 10}, {Kind: incident.BeyondLost, Count: 2}, {Kind: incident.UplinkWorks}}
	i.Timeline = []incident.Entry{{At: at, Step: incident.StepOpened}, {At: at.Add(time.Minute), Step: incident.StepWidened}}

	n := Of(event(incident.Widened, i), []string{"33.10.15.2009"}, []incident.ID{"G-3310-260721-05"})[0]
	first := n.View(x, dinas, Told{}, style, at)
	if first.Event != mail.Opened || first.Villages[0].New || len(first.Villages) != 2 {
		t.Errorf("to who knows nothing: %s, %+v", first.Event, first.Villages)
	}
	v := n.View(x, dinas, Told{Any: true, First: at.Add(-time.Hour)}, style, at)
	if v.Event != mail.Widened || v.Before != 1 || v.Provider != "Penyedia Contoh A" || v.Contact.Email != "noc@penyedia-a.example.id" || v.Region.Name != "Kabupaten Klaten" ||
		v.Page != "https://pantau.example.id/gangguan/G-3310-260721-04" || v.AtOrBelow || !v.Widened.Equal(at.Add(time.Minute)) || v.Zone.String() != "WIB" {
		t.Errorf("%+v", v)
	}
	if v.Villages[0].New || !v.Villages[1].New || v.Villages[0].District != "Wonosari" || v.Villages[0].Kind != inventory.Desa {
		t.Errorf("villages %+v", v.Villages)
	}
	var path []string
	for _, p := range v.Path {
		path = append(path, fmt.Sprintf("%s %s %d/%d", p.ID[:3], p.State, p.Silent, p.Points))
	}
	if diff := cmp.Diff([]string{"POP answers 0/0", "BNG answers 0/0", "OLT answers 0/8", "PON unknown 0/0", "ODC silent 3/3"}, path); diff != "" {
		t.Errorf("path (-want +got):\n%s", diff)
	}
	m, err := v.Render()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"3 titik ukur berhenti dalam 15 detik", "8 dari 10 titik ukur lain di bawah OLT-15 tetap tersambung.", "Gangguan yang sama mengenai 1 desa lain di 1 kabupaten/kota lain.",
		"Gangguan G-3310-260721-05 ternyata bagian dari gangguan ini", "Dalam kabar terakhir 2 dari 3 titik ukur, internet sudah tidak terjangkau.", "Listrik padam serentak"} {
		if !strings.Contains(strings.Join(strings.Fields(m.Text), " "), want) {
			t.Errorf("the mail lacks %q:\n%s", want, m.Text)
		}
	}

	i.Unstable = true
	if v := Of(event(incident.Opened, i), nil, nil)[0].View(x, dinas, Told{}, style, at); v.Event != mail.Unstable {
		t.Errorf("opened in unrest reads as %s", v.Event)
	}
	i.Unstable, i.RecoveredAt, i.Until = false, at.Add(time.Hour), at.Add(50*time.Minute)
	v = Of(event(incident.Recovered, i), nil, nil)[0].View(x, dinas, Told{Any: true}, style, at.Add(time.Hour))
	if v.Event != mail.Recovered || !v.Pending || len(v.Evidence) != 1 || v.Stable != 10*time.Minute || !slices.ContainsFunc(v.Doubts, func(d mail.Doubt) bool { return d.Kind == mail.RecordsMissing && d.Count == 3 }) {
		t.Errorf("recovered: %+v", v)
	}
}

// Where the evidence ends, the mail says so.
func TestNotSeparable(t *testing.T) {
	x := inv(t)
	i := broken("33.10.15.2009")
	i.Place = incident.Place{Node: "ODP-15-01", Type: inventory.NodeODP, Top: "ODC-15-1"}
	i.Guess, i.Evidence = incident.CausePower, []incident.Fact{{Kind: incident.Alone, Node: "ODP-15-01", Count: 1, Of: 1}}
	v := Of(event(incident.Opened, i), nil, nil)[0].View(x, inventory.Contact{Role: inventory.RoleDinas, Region: "33.10"}, Told{}, Style{}, at)
	if !v.AtOrBelow || len(v.Doubts) != 1 || v.Doubts[0].Kind != mail.NotSeparable || v.Page != "" {
		t.Errorf("%+v", v)
	}
	m, err := v.Render()
	if err != nil || !strings.Contains(m.Text, "pada atau di bawah ODP-15-01") || strings.Contains(m.Text, "http") {
		t.Errorf("%v\n%s", err, m.Text)
	}
}

func TestSpot(t *testing.T) {
	village := func(code string) Finding {
		return Finding{Labels: map[string]string{"village": code, "district": code[:8], "regency": code[:5]}}
	}
	district := func(code string) Finding {
		return Finding{Labels: map[string]string{"district": code, "regency": code[:5]}}
	}
	for _, c := range []struct {
		found []Finding
		want  string
	}{
		{[]Finding{village("33.10.15.2009")}, "33.10.15.2009"},
		{[]Finding{district("33.10.15")}, "33.10.15"},
		{[]Finding{village("33.10.15.2009"), district("33.10.15"), village("33.10.15.2014")}, "33.10.15"},
		{[]Finding{village("33.10.15.2009"), village("33.10.15.2014")}, ""},
		{[]Finding{district("33.10.15"), district("33.10.14")}, ""},
		{[]Finding{{Labels: map[string]string{"regency": "33.10"}}}, ""},
	} {
		if got := (Group{Kind: mail.UsePeak, Findings: c.found}).Spot(); got != c.want {
			t.Errorf("%v: %q, want %q", c.found, got, c.want)
		}
	}
	if got := (Group{Kind: mail.Quality, Findings: []Finding{village("33.10.15.2009")}}).Spot(); got != "" {
		t.Errorf("a spot of quality: %q", got)
	}
}

// What to do is said in the language of the one who is to do it.
func TestAdviceInTheLanguageOfTheContact(t *testing.T) {
	notes := map[string]string{NoteEnglish: "The disk is full.", NoteIndonesian: "Disk penuh.", NoteAdvice: "Make room.", NoteSaran: "Tambah ruang.", NoteValue: "1"}
	g := Group{ID: "A-server-260721-01", Kind: mail.Ours, Step: mail.Opened, Findings: []Finding{{Labels: map[string]string{LabelAlertName: "DiskSpaceCritical"}, Annotations: notes, Since: at}}}
	for lang, want := range map[mail.Language][2]string{mail.Indonesian: {"Tambah ruang.", "Make room."}, mail.English: {"Make room.", "Tambah ruang."}} {
		m, err := g.notice(mail.Envelope{Language: lang, SentAt: at, Page: "https://pantau.example.org/"}).Render()
		if err != nil || !strings.Contains(m.Text, want[0]) || strings.Contains(m.Text, want[1]) {
			t.Errorf("%v: %v\n%s", lang, err, m.Text)
		}
	}
	delete(notes, NoteSaran)
	if m, err := g.notice(mail.Envelope{SentAt: at, Page: "https://pantau.example.org/"}).Render(); err != nil || !strings.Contains(m.Text, "Make room.") {
		t.Errorf("a rule without an Indonesian advice: %v\n%s", err, m.Text)
	}
}

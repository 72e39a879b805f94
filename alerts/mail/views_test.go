package mail

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
)

var wib = time.FixedZone("WIB", 7*60*60)

// at is a moment of 21 July 2025, in UTC, as the engine has it.
func at(hour, minute, second int) time.Time {
	return time.Date(2025, 7, 21, hour, minute, second, 0, wib).UTC()
}

func envelope(lang Language) Envelope {
	return Envelope{Language: lang, Zone: wib, SentAt: at(14, 6, 0), Region: Region{"33.10", "Kabupaten Klaten"},
		Recipient: "Diskominfo Kabupaten Klaten", Page: "https://pantau.example.org/gangguan/G-3310-250721-04", Recipients: "https://pantau.example.org/penerima"}
}

func people(n int) inventory.Count { return inventory.Count{Number: n, Known: true} }

func wonosari() []Village {
	return []Village{
		{Code: "33.10.15.2009", Name: "Boto", District: "Wonosari", Population: people(4126), Since: at(14, 2, 10), LastHeard: at(14, 2, 10)},
		{Code: "33.10.15.2014", Name: "Sekaran", District: "Wonosari", Population: people(3508), Since: at(14, 2, 4), LastHeard: at(14, 2, 4)},
		{Code: "33.10.15.2013", Name: "Sukorejo", District: "Wonosari", Population: people(3871), Since: at(14, 1, 58), LastHeard: at(14, 1, 58)},
		{Code: "33.10.15.2015", Name: "Bentangan", District: "Wonosari", Population: people(2964), Since: at(14, 2, 13), LastHeard: at(14, 2, 13)},
	}
}

func opened(lang Language) Incident {
	return Incident{Envelope: envelope(lang), Event: Opened, Kind: Outage, ID: "G-3310-250721-04", Villages: wonosari(),
		Path: []Node{{ID: "OLT-DLG-01", Type: inventory.NodeOLT, Place: "Delanggu", State: NodeAnswers, Points: 12},
			{ID: "ODC-WNS-02", Type: inventory.NodeODC, Place: "depan Balai Desa Boto", State: NodeSilent, Silent: 4, Points: 4}},
		Provider: "PT Contoh Serat Nusantara", Contact: Contact{Hours: "24 jam", Phone: "+62 21 0000 0000", Email: "noc@example.org", Note: "contoh"},
		Suspected: ODPOrFeeder, Since: at(14, 2, 0), Confirmed: at(14, 5, 0),
		Evidence: []Evidence{{Kind: FellTogether, Count: 4, From: at(14, 1, 58), To: at(14, 2, 13)}, {Kind: NodeAnswered, Node: "OLT-DLG-01", Count: 12},
			{Kind: NoPowerSignal}, {Kind: WeAreWell, From: at(14, 5, 0)}},
		Doubts: []Doubt{{Kind: PowerPossible}}}
}

func widened(lang Language) Incident {
	i := opened(lang)
	i.Event, i.Before, i.Widened, i.SentAt = Widened, 4, at(14, 31, 0), at(14, 33, 0)
	i.Path = append(i.Path[:1:1], Node{ID: "PON-DLG-01-3", Type: inventory.NodePON, State: NodeSilent, Silent: 6, Points: 6})
	i.AtOrBelow = true
	i.Villages = append(i.Villages,
		Village{Code: "33.10.14.2001", Name: "Kebondalem Kidul", District: "Polanharjo", Since: at(14, 30, 11), LastHeard: at(14, 30, 11), New: true},
		Village{Code: "33.10.14.1002", Name: "Ngaran", District: "Polanharjo", Kind: inventory.Kelurahan, Population: people(2210), Since: at(14, 30, 40), LastHeard: at(14, 30, 38), New: true})
	i.Doubts = []Doubt{{Kind: NotSeparable, Node: "PON-DLG-01-3"}, {Kind: PowerPossible}}
	return i
}

func recovered(lang Language) Incident {
	i := opened(lang)
	i.Event, i.Final, i.SentAt = Recovered, ODPOrFeeder, at(16, 49, 0)
	i.FirstMail, i.Restored, i.Declared, i.Stable = at(14, 6, 0), at(16, 43, 0), at(16, 48, 0), 5*time.Minute
	for n, m := range []Minutes{{Provider: 159 * time.Minute}, {Provider: 160 * time.Minute}, {Provider: 140 * time.Minute, Elsewhere: 21 * time.Minute}, {Provider: 149 * time.Minute, Unknown: 10 * time.Minute}} {
		i.Villages[n].Minutes = &m
		i.Villages[n].Restored = []time.Time{at(16, 41, 10), at(16, 43, 0), at(16, 43, 0), at(16, 41, 40)}[n]
		i.Villages[n].Available = []Bounds{{.9937, .9947, true}, {.9946, .9946, true}, {.9946, .9953, true}, {}}[n]
	}
	i.Evidence = []Evidence{{Kind: MeasuredOn, Count: 3, Of: 4}, {Kind: OpticalLost, Count: 4, Of: 4, From: at(14, 2, 0)}, {Kind: RecordsArrived, Count: 2184}}
	i.Doubts = []Doubt{{Kind: RecordsMissing, Count: 1, Of: 4}}
	return i
}

func pending(lang Language) Incident {
	i := recovered(lang)
	i.Pending = true
	for n := range i.Villages {
		i.Villages[n].Minutes = nil
	}
	return i
}

// mistaken is an incident whose first guess was wrong.
func mistaken(lang Language) Incident {
	i := recovered(lang)
	i.Final = Power
	for n := range i.Villages {
		i.Villages[n].Minutes = &Minutes{Elsewhere: time.Duration(150+n) * time.Minute}
	}
	i.Evidence = []Evidence{{Kind: Rebooted, Count: 4, Of: 4}}
	i.Doubts = nil
	return i
}

func unstable(lang Language) Incident {
	i := opened(lang)
	i.Event, i.Villages, i.Changes = Unstable, i.Villages[:1], 9
	i.Villages[0].Changes = 9
	i.Since = at(13, 20, 0)
	i.Path[1] = Node{ID: "ODP-15-09", Type: inventory.NodeODP, State: NodeUnknown}
	i.Suspected = Unknown
	i.Evidence = []Evidence{{Kind: Remark, Text: lang.pick("Sambungan hilang dan kembali 9 kali.", "The line went and came back 9 times.")}}
	i.Doubts = []Doubt{{Kind: FewPoints, Node: "ODP-15-09", Count: 1}}
	return i
}

// found is what rules found in several villages.
func found(lang Language, kind Kind) Incident {
	i := opened(lang)
	i.Kind, i.Rule, i.Path, i.Suspected, i.Doubts, i.ID, i.AtOrBelow = kind, true, nil, "", nil, "A-3310-250721-01", false
	i.Page = "https://pantau.example.org/"
	i.Evidence = nil
	for n := range i.Villages {
		x := &i.Villages[n]
		x.LastHeard = time.Time{}
		text := lang.pick("Jalur internet di "+x.Name+" hampir penuh: unduhan memakai 93% dari kecepatan terukur selama 15 menit.", "The line of "+x.Name+" is 93% full in the direction of download, for 15 minutes.")
		if kind == Quality {
			text = lang.pick("Kecepatan unduh di "+x.Name+" hanya 8,1 Mbps dari 20 Mbps menurut paket, n = 5 uji dalam 2 hari.", "Download at "+x.Name+" is 8.1 Mbps of 20 Mbps by plan, n = 5 tests within 2 days.")
		}
		i.Evidence = append(i.Evidence, Evidence{Kind: Remark, Text: text})
	}
	return i
}

func foundOver(lang Language, kind Kind) Incident {
	i := found(lang, kind)
	i.Event, i.Restored, i.SentAt = Recovered, at(17, 12, 0), at(17, 15, 0)
	for n := range i.Villages {
		i.Villages[n].Restored = at(17, 5+n, 0)
	}
	return i
}

func server(lang Language, event Event) Notice {
	n := Notice{Envelope: envelope(lang), ID: "A-server-250721-01", Event: event, Since: at(13, 20, 0), Items: []Item{
		{Name: "DiskSpaceCritical", Text: lang.pick("Ruang simpan server pemantau hampir habis: tinggal 812MiB.", "The disk of the collector has 812MiB left: it will soon refuse what probes send."),
			Advice: lang.pick("Di bawah 256 MiB angka berhenti dicatat; bila habis, kiriman ditolak dan menunggu di alat ukur. Tambah ruang sekarang.",
				"Below 256 MiB figures stop; with nothing left batches are refused and wait on the probes. Make room now."), Since: at(14, 2, 0), Critical: true, New: event == Widened},
		{Name: "SinkBehind", Text: lang.pick("Angka di halaman tertinggal 12 menit dari data yang masuk (penyimpan tsdb).", "Store tsdb is 12 minutes behind the journal."),
			Advice: lang.pick("Penyimpannya lambat, mati, atau disknya penuh: lihat catatan server.",
				"The store is slow, down, or its disk is full: the log of the collector says which."), Since: at(13, 20, 0)}}}
	n.Page, n.Recipient, n.Region = "https://pantau.example.org/", "Operasi Pantau Desa", Region{Name: "server"}
	if event == Recovered {
		n.Ended, n.SentAt = at(15, 40, 0), at(15, 42, 0)
	}
	return n
}

// uncertain is an incident of a single village of which little is known.
func uncertain(lang Language) Incident {
	i := opened(lang)
	i.Villages = i.Villages[:1]
	i.Path = []Node{{ID: "POP-A", Type: inventory.NodePOP, Place: "POP Contoh A", State: NodeAnswers}, {ID: "OLT-15", Type: inventory.NodeOLT, Place: "OLT Contoh Wonosari", State: NodeAnswers, Points: 9},
		{ID: "ODC-15-1", Type: inventory.NodeODC, Place: "ODC Contoh", State: NodeUnknown}, {ID: "ODP-15-01", Type: inventory.NodeODP, State: NodeUnknown}}
	i.AtOrBelow, i.Suspected, i.Contact = true, Power, Contact{Email: "noc@penyedia-a.example.id", Hours: "24 jam"}
	i.Evidence = []Evidence{{Kind: OnlySilence}, {Kind: PointsFine, Node: "OLT-15", Count: 9, Of: 10}, {Kind: WeAreWell, From: at(14, 5, 0)}}
	i.Doubts = []Doubt{{Kind: NotSeparable, Node: "ODP-15-01"}}
	return i
}

// own is an outage of ours, to those who run the collector.
func own(lang Language) Incident {
	i := opened(lang)
	i.Kind, i.Operations, i.Suspected, i.Path, i.Provider, i.Contact = Ours, true, Collector, nil, "", Contact{}
	i.Recipient = "Operasi Pantau Desa"
	i.Evidence, i.Doubts = []Evidence{{Kind: WeAreCut}, {Kind: FellTogether, Count: 396, From: at(14, 1, 58), To: at(14, 2, 13)}}, nil
	return i
}

func (l Language) pick(id, en string) string {
	if l == English {
		return en
	}
	return id
}

func spike(lang Language) Spike {
	s := Spike{Envelope: envelope(lang), ID: "G-3310-250719-02", Place: "Prambanan", District: true,
		Since: at(18, 50, 0), At: at(19, 10, 0), Now: 812e6, Usual: 421e6, UsualLow: 372e6, UsualHigh: 476e6, Weeks: 6,
		Latency: .019, LatencyLow: .014, LatencyHigh: .021, Villages: 16, Normal: 16, Over: 3, Of: 3,
		Top: []UsageVillage{{"33.10.01.2011", "Bugisan", 96e6, 31e6, 117e6}, {"33.10.01.2006", "Tlogo", 88e6, 29e6, 300e6}, {"33.10.01.2005", "Kebondalem Kidul", 71e6, 33e6, math.NaN()}}}
	s.SentAt, s.Page = at(19, 11, 0), "https://pantau.example.org/gangguan/G-3310-250719-02"
	for i := range 25 {
		now := 340 + 4*float64(i)
		if i >= 21 {
			now += 130 * float64(i-20)
		}
		s.Series = append(s.Series, UsagePoint{at(17, 10, 0).Add(time.Duration(i) * 5 * time.Minute), now * 1e6, (330 + 4*float64(i)) * 1e6})
	}
	s.Series[8].Now = math.NaN()
	return s
}

func spikeOver(lang Language) Spike {
	s := spike(lang)
	s.Ended, s.At, s.SentAt = at(22, 35, 0), at(22, 35, 0), at(22, 36, 0)
	s.Now = 402e6
	return s
}

func digest(lang Language) Digest {
	day := func(d, h, m int) time.Time { return time.Date(2025, 7, d, h, m, 0, 0, wib) }
	g := Digest{Envelope: envelope(lang), First: day(14, 0, 0), Last: day(20, 0, 0), At: day(21, 7, 0), Districts: 26,
		States: States{Up: 385, Degraded: 7, ProbeFault: 2, NeverSeen: 2, NoCoverage: 5},
		Faulty: []Place{{"Karanglo", "Polanharjo"}, {"Gumul", "Karangnongko"}}, Unseen: []Place{{"Tibayan", "Jatinom"}, {"Wiro", "Bayat"}},
		Incidents: []Past{
			{ID: "G-3310-250715-01", Kind: Outage, Since: day(15, 9, 12), Lasted: 148 * time.Minute, District: "Bayat", Villages: 3, Cause: Power},
			{ID: "G-3310-250716-01", Kind: Outage, Since: day(16, 21, 5), Lasted: 43 * time.Minute, District: "Juwiring", Villages: 1, Cause: DropCable},
			{ID: "G-3310-250719-02", Kind: UsePeak, Since: day(19, 18, 50), Lasted: 225 * time.Minute, District: "Prambanan", Villages: 16},
			{ID: "G-3310-250720-01", Kind: Outage, Since: day(20, 2, 10), Lasted: 42 * time.Minute, District: "Tulung", Villages: 5, Cause: ODPOrFeeder}},
		Affected: 9, Booked: &Minutes{Provider: 253 * time.Minute, Elsewhere: 444 * time.Minute},
		Availability: Bounds{.9944, .9999, true}, Download: Estimate{38.16e6, 38.02e6, 38.31e6, 10735, 392}, Upload: Estimate{19.03e6, 18.95e6, 19.12e6, 10722, 392},
		Coverage: .978, Report: day(31, 24, 0),
		Watch: []DistrictSpeed{{"Cawas", Estimate{27.1e6, 26.5e6, 27.7e6, 543, 20}, Estimate{28.8e6, 28.2e6, 29.3e6, 551, 20}, true},
			{"Bayat", Estimate{29.4e6, 0, 0, 421, 18}, Estimate{30.2e6, 0, 0, 430, 18}, false}, {"Kemalang", Estimate{24.8e6, 0, 0, 284, 13}, Estimate{}, false}}}
	g.SentAt, g.Page = day(21, 7, 0), "https://pantau.example.org/"
	return g
}

// many is n villages in districts of 16, of which every fifth has an unknown
// population.
func many(n int) []Village {
	var out []Village
	for i := range n {
		x := Village{Code: fmt.Sprintf("33.10.%02d.%04d", 1+i/16, 2001+i%16), Name: fmt.Sprintf("Desa Panjang Bernama %d", i+1), District: fmt.Sprintf("Karangnongko %d", 1+i/16),
			Population: people(1000 + 37*i), Since: at(14, 2, i%60), LastHeard: at(14, 1, i%60), New: i%3 == 0, Restored: at(16, 40+i%9, 0), Changes: i,
			Minutes: &Minutes{Provider: 150 * time.Minute, Unknown: time.Duration(i) * time.Minute}, Available: Bounds{.99, .995, true}}
		if i%5 == 0 {
			x.Population = inventory.Count{}
		}
		if i%7 == 0 {
			x.Kind = inventory.Kelurahan
		}
		out = append(out, x)
	}
	return out
}

type view interface{ Render() (Message, error) }

// typical is one mail of each sort, with what an engine would know.
func typical(l Language) map[string]view {
	simulated := opened(l)
	simulated.Simulation = true
	return map[string]view{"gangguan": opened(l), "meluas": widened(l), "pulih": recovered(l), "pulih-menunggu": pending(l), "pulih-keliru": mistaken(l),
		"tidak-stabil": unstable(l), "lonjakan": spike(l), "lonjakan-selesai": spikeOver(l), "ringkasan": digest(l), "simulasi": simulated,
		"satu-desa": uncertain(l), "kami": own(l), "mutu": found(l, Quality), "kapasitas": found(l, Capacity), "kapasitas-selesai": foundOver(l, Capacity),
		"lonjakan-banyak": found(l, UsePeak), "server": server(l, Opened), "server-bertambah": server(l, Widened), "server-selesai": server(l, Recovered)}
}

// extremes is each sort with the least and the most that can be known.
func extremes(l Language) map[string]view {
	out := make(map[string]view)
	bare := Envelope{Language: l}
	for _, e := range []Event{Opened, Widened, Recovered, Unstable} {
		out["bare-"+string(e)] = Incident{Envelope: bare, Event: e}
		out["one-"+string(e)] = Incident{Envelope: envelope(l), Event: e, Kind: Outage, ID: "G-3310-250721-04", Villages: []Village{{Code: "33.10.15.2009", Name: "Boto", District: "Wonosari"}}, Since: at(14, 2, 0)}
		for _, n := range []int{40, 401} {
			big := recovered(l)
			big.Event, big.Villages, big.Before, big.Changes, big.Widened = e, many(n), 12, 300, at(15, 0, 0)
			for i := range 12 {
				big.Path = append(big.Path, Node{ID: fmt.Sprintf("ODC-%d-%s", i, strings.Repeat("X", 30)), State: NodeState("odd")})
			}
			for _, k := range []EvidenceKind{FellTogether, NodeAnswered, NoPowerSignal, WeAreWell, GatewayOnly, FirstHop, MeasuredOn, Rebooted, CarrierLost, OpticalLost, DyingGasp, SiblingsFine, RecordsArrived,
				PointsFine, PointsFailing, OtherNetworks, LastCarrier, LastGateway, LastHop, LastBeyond, LastHopOnly, ProbesAiling, OnlySilence, WeAreCut, WeStalled, OnlyUsCut} {
				big.Evidence = append(big.Evidence, Evidence{Kind: k, Count: 3, Of: 4, Node: "ODC-1", From: at(14, 0, 0), To: at(14, 1, 0)})
			}
			out[fmt.Sprintf("%d-%s", n, e)] = big
		}
	}
	for _, k := range []Kind{Outage, Quality, Capacity, Optical, Ours} {
		for _, c := range []Cause{Power, Premises, DropCable, ODPOrFeeder, OLT, Upstream, Target, Probe, Collector, Unknown} {
			i := opened(l)
			i.Kind, i.Suspected = k, c
			out[fmt.Sprintf("opened-%s-%s", k, c)] = i
			i = recovered(l)
			i.Kind, i.Final = k, c
			out[fmt.Sprintf("recovered-%s-%s", k, c)] = i
		}
	}
	nan := math.NaN()
	out["bare-spike"] = Spike{Envelope: bare, Now: nan, Usual: nan, UsualLow: nan, UsualHigh: nan, Latency: nan, LatencyLow: nan, LatencyHigh: nan}
	big := spike(l)
	big.Villages, big.Down, big.Latency = 401, 3, .5
	big.Top = nil
	for _, x := range many(100) {
		big.Top = append(big.Top, UsageVillage{x.Code, x.Name, 96e6, 31e6, 100e6})
	}
	out["big-spike"] = big
	village := spike(l)
	village.District, village.Place, village.Villages, village.Normal = false, "Bugisan", 1, 0
	out["village-spike"] = village
	out["bare-digest"] = Digest{Envelope: bare, Coverage: nan}
	full := digest(l)
	full.States.Down, full.States.Maintenance = 14, 2
	for i := range 120 {
		full.Cut = append(full.Cut, Place{fmt.Sprintf("Desa %d", i), "Cawas"})
		full.Incidents = append(full.Incidents, Past{ID: fmt.Sprintf("G-3310-250716-%02d", i), Kind: Quality, Since: at(9, 0, 0), Ongoing: true, District: "Karangnongko", Villages: i})
		full.Watch = append(full.Watch, DistrictSpeed{Name: fmt.Sprintf("Kecamatan %d", i), Changed: i%2 == 0, Now: Estimate{20e6, nan, nan, 9, 3}, Before: Estimate{30e6, nan, nan, 8, 3}})
	}
	out["full-digest"] = full
	return out
}

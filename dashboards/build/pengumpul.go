package build

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// collector answers: does the collector take in, keep and pass on all that comes?
func collector() classic {
	return page{
		uid: collectorUID, title: "Pantau Desa · Pengumpul", from: "now-6h",
		description: "Kesehatan pengumpul sendiri: penerimaan, jurnal, penyimpanan, keadaan, surat, memori. Untuk operator pusat; tidak berkata apa pun tentang jaringan desa.",
		variables:   []dashboard.VariableModel{dataSource()},
		links:       []dashboard.DashboardLink{toDashboard("Ringkasan kabupaten", regencyUID+"?var-datasource=${datasource}", "Keadaan desa dan kelurahan")},
		sections: []section{
			{lines: []line{{5, []dashboard.Panel{wayOut(4), trouble(12), room(8)}}}},
			{lines: []line{{7, []dashboard.Panel{warnings(14), rules(10)}}}},
			{title: "Penerimaan", lines: []line{
				{8, []dashboard.Panel{intake(8), refusals(8), answerTimes(8)}},
				{8, []dashboard.Panel{beats(8), ignoredBeats(8), probes(8)}},
			}},
			{title: "Jurnal", lines: []line{{8, []dashboard.Panel{journalFlow(8), commits(8), index(8)}}}},
			{title: "Penyimpanan", lines: []line{{8, []dashboard.Panel{lag(8), stored(8), heldBack(8)}}, {8, []dashboard.Panel{store(12), series(12)}}}},
			{title: "Keadaan dan gangguan", lines: []line{{8, []dashboard.Panel{siteStates(12), incidents(12)}}}},
			{title: "Surat", lines: []line{{8, []dashboard.Panel{mailQueue(12), mailFate(12)}}}},
			{title: "Proses", lines: []line{{8, []dashboard.Panel{memory(8), processor(8), goroutines(8)}}}},
		},
	}.dashboard()
}

// grown is by how much a counter grew in the time range.
func grown(counter string) string { return "sum(increase(" + counter + "[$__range]))" }

// wayOut: while it does not work, silence says nothing about villages.
func wayOut(width uint32) dashboard.Panel {
	return sized(stats("Jalur keluar", "Jalur pengumpul sendiri ke luar, dicoba tiap beberapa detik. Selama putus, diamnya desa tidak berarti apa-apa dan tidak ada surat.", width,
		figure{query: now("jalur keluar", "min(pantau_collector_uplink_works)"), unit: unitCount, noValue: unknownWord,
			mappings: mappings(mapping{"1", "● Berfungsi", blue}, mapping{"0", "◆ Putus", red})}), 13, 28)
}

func trouble(width uint32) dashboard.Panel {
	count := func(name, expr, color string) figure {
		return figure{query: now(name, expr), unit: unitCount, thresholds: alarming(color)}
	}
	return sized(stats("Galat dan kehilangan, seharusnya nol",
		"Jumlah dalam rentang waktu, dibulatkan: galat menulis jurnal, penyimpanan dan indeks; aturan yang gagal dihitung dan berkas aturan yang ditolak; inventaris terbaru yang ditolak; saat pengumpul sendiri macet; datagram tanda hidup yang hilang; kiriman yang ditolak (juga dari orang asing yang mengetuk); surat yang ditolak selamanya.", width,
		count("jurnal", grown("pantau_journal_errors_total"), amber),
		count("penyimpanan", grown("pantau_sink_errors_total"), amber),
		count("indeks", grown("pantau_index_errors_total"), amber),
		count("aturan", "sum(increase(prometheus_rule_evaluation_failures_total[$__range])) + max(pantau_rules_files_refused)", amber),
		count("inventaris", "max(pantau_collector_inventory_reload_failed)", amber),
		count("macet", grown("pantau_collector_stalls_total"), amber),
		count("datagram", grown("pantau_ingest_datagrams_lost_total"), amber),
		count("kiriman", grown("pantau_ingest_refused_total"), amber),
		count("surat", grown("pantau_mail_refused_total"), amber)), 13, 26)
}

func room(width uint32) dashboard.Panel {
	return sized(stats("Ruang dan waktu", "Sisa disk tempat jurnal; ketinggalan penyimpanan yang terlambat; umur surat tertua yang menunggu (jam:menit:detik); sisa hari sampai sertifikat yang dilihat alat ukur berakhir.", width,
		figure{query: now("disk tersisa", "min(pantau_journal_free_bytes)"), unit: unitBytes, decimals: 1, thresholds: thresholds(amber, step{2 << 30, ink})},
		figure{query: now("ketinggalan", "max(pantau_sink_lag_seconds)"), unit: unitAge, thresholds: thresholds(ink, step{300, amber})},
		figure{query: now("surat menunggu", "max(pantau_mail_oldest_waiting_seconds)"), unit: unitAge, thresholds: thresholds(ink, step{300, amber})},
		figure{query: now("sertifikat", "(min(pantau_registry_certificate_expiry_timestamp_seconds) - time()) / 86400"), unit: "suffix: hari", thresholds: thresholds(amber, step{21, ink})}), 13, 24)
}

// warnings are what rules found of the collector and the probes.
func warnings(width uint32) dashboard.Panel {
	const by = "alertname, severity, village, site, probe, sink"
	p := tabular("Peringatan yang menyala",
		"Yang ditemukan aturan tentang pengumpul dan alat ukur, dan masih berlaku. Surat tentang ini pergi kepada operator, tidak kepada Diskominfo. Lama sejak pertama ditemukan.", width,
		[]query{
			{expr: fmt.Sprintf(`max by (%s) (ALERTS{alertstate="firing",kind="ours"})`, by)},
			{expr: fmt.Sprintf(`time() - max by (%[1]s) (ALERTS_FOR_STATE{kind="ours"}) and on (%[1]s) ALERTS{alertstate="firing",kind="ours"}`, by)},
		},
		[]column{
			label("severity", "Sifat", 110, append(painted(), set("mappings", mappings(mapping{"critical", "◆ genting", red}, mapping{"warning", "▲ perlu dilihat", amber})))...),
			label("alertname", "Peringatan", 0, set("mappings", warningMappings())),
			label("sink", "Penyimpanan", 110),
			label("probe", "Alat ukur", 120),
			label("site", "Titik ukur", 120),
			value(1, 2, "Lama", 85, number(unitAge, 0)...),
		}, sortBy("Sifat", false), sortBy("Lama", true))
	p.FieldConfig.Defaults.NoValue = ptr("tidak ada peringatan yang tercatat")
	return p
}

func warningMappings() []dashboard.ValueMapping {
	var ms []mapping
	for _, m := range [][2]string{{"DiskSpaceLow", "Disk tinggal sedikit"}, {"DiskSpaceCritical", "Disk hampir habis"}, {"DiskFillsUp", "Disk akan penuh"},
		{"SinkBehind", "Penyimpanan tertinggal"}, {"SinkFails", "Penyimpanan gagal menulis"}, {"JournalFails", "Jurnal gagal ditulis"},
		{"JournalDamaged", "Bagian jurnal tidak terbaca"}, {"IngestRefuses", "Banyak kiriman ditolak"}, {"HeartbeatsLost", "Tanda hidup hilang di sini"},
		{"IndexFails", "Indeks gagal mengikuti jurnal"}, {"StoreFails", "Penyimpanan lokal rusak atau gagal"}, {"CertificateEndsSoon", "Sertifikat hampir berakhir"},
		{"CollectorStalls", "Pengumpul macet"}, {"CollectorRestarts", "Pengumpul berulang kali mulai lagi"}, {"RuleEvaluationFails", "Aturan gagal dihitung"},
		{"RulesWaiting", "Aturan tentang desa menunggu"}, {"RuleFilesRefused", "Berkas aturan ditolak"}, {"UplinkDown", "Jalur keluar pengumpul putus"},
		{"InventoryRefused", "Inventaris terbaru ditolak"}, {"MailWaits", "Surat tertahan"}, {"MailNotDelivered", "Surat tidak sampai"},
		{"ProbeAiling", "Alat ukur bermasalah"}, {"ProbeClockUntrusted", "Jam alat ukur tidak dipercaya"}, {"ResultsHeldBack", "Hasil ditahan di jurnal"}} {
		ms = append(ms, mapping{m[0], m[1], ""})
	}
	return mappings(ms...)
}

func rules(width uint32) dashboard.Panel {
	p := rates("Aturan", "Berapa lama tiap kelompok aturan dihitung; menunggu: 1 selama aturan tentang desa ditahan, karena penyimpanan sedang mengejar atau pengumpul baru kembali (sumbu kanan).", unitSeconds, width,
		over("{{rule_group}}", "max by (rule_group) (prometheus_rule_group_last_duration_seconds)"), over("menunggu", "max(pantau_rules_waiting)"))
	override(&p, "menunggu", colored(amber), dashed(), set("unit", unitCount), set("decimals", 0), set("custom.axisPlacement", "right"), set("custom.axisSoftMax", 1))
	return p
}

// rates is a chart of how fast counters grow. Series that are named beforehand
// have their colours, the first blue, the second ink, and then the dash.
func rates(title, description, unit string, width uint32, qs ...query) dashboard.Panel {
	p := chart(title, description, unit, width, qs...)
	p.FieldConfig.Defaults.Color = shades(blue)
	look := [][]property{{colored(blue)}, {colored(ink)}, {colored(ink), dashed()}, {colored(ink), dotted()}}
	for i, q := range qs {
		if i < len(look) && !templated(q.legend) {
			override(&p, q.legend, look[i]...)
		}
	}
	return p
}

// none is for a chart whose lines appear only where there was something to tell.
func none(p dashboard.Panel) dashboard.Panel {
	p.FieldConfig.Defaults.NoValue = ptr("tidak ada yang tercatat")
	return p
}

func templated(legend string) bool {
	for i := range legend {
		if legend[i] == '{' {
			return true
		}
	}
	return false
}

func rate(counter string) string { return "sum(rate(" + counter + "[$__rate_interval]))" }

func rateBy(label, counter string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s[$__rate_interval])) > 0", label, counter)
}

// quantile of a histogram's recent observations.
func quantile(q float64, histogram, matchers string) string {
	return fmt.Sprintf("histogram_quantile(%v, sum by (le) (rate(%s_bucket%s[$__rate_interval])))", q, histogram, matchers)
}

const perSecond = "suffix: /dtk"

func intake(width uint32) dashboard.Panel {
	return rates("Diterima", "Kiriman yang sudah aman di jurnal, hasil di dalamnya, dan kiriman ulang yang jawabannya hilang di jalan.", perSecond, width,
		over("hasil", rate("pantau_ingest_results_total")), over("kiriman", rate("pantau_ingest_batches_total")),
		over("kiriman ulang", rate("pantau_ingest_duplicates_total")), over("tanpa waktu kirim", rate("pantau_ingest_undated_batches_total")))
}

func refusals(width uint32) dashboard.Panel {
	return none(rates("Ditolak, menurut alasan", "Permintaan yang tidak dijawab 200. Garis muncul hanya bila ada.", perSecond, width,
		over("{{reason}}", rateBy("reason", "pantau_ingest_refused_total"))))
}

func answerTimes(width uint32) dashboard.Panel {
	return rates("Waktu sampai dijawab", "Dari kepala permintaan sampai jawaban, termasuk menulis ke disk.", unitSeconds, width,
		over("kiriman, p50", quantile(0.5, `pantau_ingest_request_seconds`, `{path="/v1/batches"}`)), over("kiriman, p99", quantile(0.99, "pantau_ingest_request_seconds", `{path="/v1/batches"}`)),
		over("pendaftaran, p99", quantile(0.99, "pantau_ingest_request_seconds", `{path="/v1/enroll"}`)))
}

func beats(width uint32) dashboard.Panel {
	return rates("Tanda hidup", "Datagram dengan tanda tangan yang benar: baru, diulang, atau terlambat karena mengantre di sini.", perSecond, width,
		over("baru", rate(`pantau_ingest_beats_total{sort="fresh"}`)), over("diulang", rate(`pantau_ingest_beats_total{sort="repeated"}`)),
		over("terlambat", rate(`pantau_ingest_beats_total{sort="late"}`)))
}

func ignoredBeats(width uint32) dashboard.Panel {
	return none(rates("Tanda hidup tanpa jawaban", "Datagram yang dibuang menurut alasan, yang hilang karena kami lambat membaca, dan jawaban yang tidak terkirim. Garis muncul hanya bila ada.", perSecond, width,
		over("{{reason}}", rateBy("reason", "pantau_ingest_beats_ignored_total")),
		over("hilang", rate("pantau_ingest_datagrams_lost_total")+" > 0"), over("tak terjawab", rate("pantau_ingest_beat_answers_unsent_total")+" > 0")))
}

func probes(width uint32) dashboard.Panel {
	return rates("Alat ukur terdaftar", "Menurut izin: terdaftar, dicabut, atau kode klaim belum dipakai.", unitCount, width,
		over("terdaftar", `max(pantau_registry_probes{state="enrolled"})`), over("kode belum dipakai", `max(pantau_registry_probes{state="claimed"})`),
		over("dicabut", `max(pantau_registry_probes{state="revoked"})`))
}

func journalFlow(width uint32) dashboard.Panel {
	return rates("Ditulis ke jurnal", "Byte yang sudah aman di disk, tiap detik.", "Bps", width, over("jurnal", rate("pantau_journal_bytes_total")))
}

func commits(width uint32) dashboard.Panel {
	return rates("Waktu menulis ke disk", "Satu kelompok catatan: tulis dan fdatasync.", unitSeconds, width,
		over("p50", quantile(0.5, "pantau_journal_commit_seconds", "")), over("p99", quantile(0.99, "pantau_journal_commit_seconds", "")),
		over("p99 indeks", quantile(0.99, "pantau_index_commit_seconds", "")))
}

func index(width uint32) dashboard.Panel {
	p := rates("Indeks dan kerusakan", "Catatan yang belum masuk berkas indeks; byte jurnal yang tidak terbaca (tetap disimpan), sumbu kanan.", unitCount, width,
		over("menunggu indeks", "max(pantau_index_pending_entries)"), over("rusak", "max(pantau_journal_damaged_bytes)"))
	override(&p, "rusak", set("unit", unitBytes), set("custom.axisPlacement", "right"))
	return p
}

func lag(width uint32) dashboard.Panel {
	return rates("Ketinggalan dari jurnal", "Umur catatan tertua yang belum disimpan, tiap penyimpanan, dalam jam:menit:detik. Yang terlambat hanya menunda dirinya sendiri.", unitAge, width,
		over("{{sink}}", "max by (sink) (pantau_sink_lag_seconds)"))
}

func stored(width uint32) dashboard.Panel {
	return rates("Disimpan", "Sampel yang disimpan tiap detik, tiap penyimpanan.", perSecond, width,
		over("{{sink}}", "sum by (sink) (rate(pantau_sink_samples_total[$__rate_interval]))"))
}

func heldBack(width uint32) dashboard.Panel {
	return none(rates("Ditahan atau ditolak", "Hasil yang hanya ada di jurnal, sampel yang tidak diterima penyimpanan, dan hasil yang waktunya dibetulkan, menurut alasan. Garis muncul hanya bila ada.", perSecond, width,
		over("ditahan: {{reason}} ({{sink}})", rateBy("sink, reason", "pantau_sink_held_results_total")),
		over("ditolak: {{reason}} ({{sink}})", rateBy("sink, reason", "pantau_sink_refused_samples_total")),
		over("waktu dibetulkan ({{sink}})", rateBy("sink", "pantau_sink_corrected_results_total"))))
}

func store(width uint32) dashboard.Panel {
	return rates("Besar penyimpanan lokal", "Byte semua blok di disk, tanpa catatan beberapa jam terakhir.", unitBytes, width, over("blok", "max(prometheus_tsdb_storage_blocks_bytes)"))
}

func series(width uint32) dashboard.Panel {
	p := rates("Deret yang hidup", "Deret dalam ingatan penyimpanan lokal; yang naik terus memakan memori.", unitCount, width, over("deret", "max(prometheus_tsdb_head_series)"))
	p.FieldConfig.Defaults.Decimals = ptr(0.0)
	return p
}

func siteStates(width uint32) dashboard.Panel {
	var qs []query
	for _, s := range states() {
		qs = append(qs, over(s.word, fmt.Sprintf("max(pantau_collector_sites{state=%q})", s.name)))
	}
	p := chart("Titik ukur menurut keadaan", "Bertumpuk; jumlahnya semua titik ukur dalam inventaris.", unitCount, width, qs...)
	stacked(&p)
	p.FieldConfig.Defaults.Decimals = ptr(0.0)
	for _, s := range states() {
		override(&p, s.word, colored(s.color))
	}
	return p
}

func incidents(width uint32) dashboard.Panel {
	p := rates("Gangguan", "Gangguan yang terbuka menurut jenis (garis) dan peristiwa tiap menit menurut macamnya (titik-titik).", unitCount, width,
		over("◆ putus", `max(pantau_collector_incidents_open{kind="outage"})`), over("▲ mutu menurun", `max(pantau_collector_incidents_open{kind="quality"})`),
		over("? pemantauan sendiri", `max(pantau_collector_incidents_open{kind="ours"})`),
		over("lain: {{kind}}", `max by (kind) (pantau_collector_incidents_open{kind!~"outage|quality|ours"})`),
		over("peristiwa: {{type}}", "60 * sum by (type) (rate(pantau_collector_incident_events_total[$__rate_interval])) > 0"))
	override(&p, "◆ putus", colored(red))
	override(&p, "▲ mutu menurun", colored(amber))
	override(&p, "? pemantauan sendiri", colored(grey))
	overrideLike(&p, "^peristiwa", dotted(), colored(ink))
	axis(&p, 5)
	return p
}

func mailQueue(width uint32) dashboard.Panel {
	p := rates("Antrean surat", "Surat yang sudah diterima dan belum terkirim, dan umur yang tertua (sumbu kanan, jam:menit:detik).", unitCount, width,
		over("menunggu", "max(pantau_mail_waiting)"), over("umur tertua", "max(pantau_mail_oldest_waiting_seconds)"))
	override(&p, "umur tertua", set("unit", unitAge), set("custom.axisPlacement", "right"))
	return p
}

func mailFate(width uint32) dashboard.Panel {
	p := rates("Nasib surat", "Banyaknya dalam satu langkah waktu: terkirim, ditunda (akan diulang), ditolak selamanya, dilepas karena terlalu lama, tidak diterima karena antrean penuh.", unitCount, width,
		over("terkirim", "sum(increase(pantau_mail_sent_total[$__rate_interval]))"),
		over("ditunda: {{reason}}", "sum by (reason) (increase(pantau_mail_delayed_total[$__rate_interval])) > 0"),
		over("ditolak: {{reason}}", "sum by (reason) (increase(pantau_mail_refused_total[$__rate_interval])) > 0"),
		over("dilepas", "sum(increase(pantau_mail_dead_total[$__rate_interval])) > 0"),
		over("antrean penuh", "sum(increase(pantau_mail_full_total[$__rate_interval])) > 0"))
	overrideLike(&p, "^ditunda|^ditolak|^dilepas|^antrean", colored(amber))
	overrideLike(&p, "^ditunda", dashed())
	return p
}

func memory(width uint32) dashboard.Panel {
	return rates("Memori", "Memori proses menurut sistem, dan bagian yang dipakai Go.", unitBytes, width,
		over("proses", "max(process_resident_memory_bytes)"), over("Go", "max(go_memstats_heap_inuse_bytes)"))
}

func processor(width uint32) dashboard.Panel {
	p := rates("Prosesor", "Bagian satu inti yang dipakai; 200% berarti dua inti.", unitRatio, width, over("proses", rate("process_cpu_seconds_total")))
	axis(&p, 1)
	return p
}

func goroutines(width uint32) dashboard.Panel {
	p := rates("Pekerjaan serentak", "Goroutine dan berkas terbuka. Yang naik terus berarti kebocoran.", unitCount, width,
		over("goroutine", "max(go_goroutines)"), over("berkas terbuka", "max(process_open_fds)"))
	p.FieldConfig.Defaults.Decimals = ptr(0.0)
	c := custom(&p)
	c.LineInterpolation = ptr(common.LineInterpolationStepAfter)
	setCustom(&p, c)
	return p
}

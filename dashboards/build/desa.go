package build

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// at selects a series of the site that the reader chose.
func at(series string, matchers ...string) string {
	sel := series + `{site="$site"`
	for _, m := range matchers {
		sel += "," + m
	}
	return sel + "}"
}

const ofVillage = `pantau_village_state{village="$village"}`

// village answers: does this village get what its plan promises, and if not,
// since when and where does it fail?
func village() classic {
	var (
		download, upload = at("pantau_download_bits_per_second"), at("pantau_upload_bits_per_second")
		planDown, planUp = at("pantau_plan_download_bits_per_second"), at("pantau_plan_upload_bits_per_second")
	)
	return page{
		uid: villageUID, title: "Pantau Desa · Desa", from: "now-24h",
		description: "Satu titik ukur di satu desa atau kelurahan: kecepatan terhadap paket, latensi, kehilangan paket, jangkauan, pemakaian. Tiap angka disertai n dan umurnya; celah berarti tidak terukur, bukan nol.",
		variables:   []dashboard.VariableModel{dataSource(), province(), regencies(), district(), villages(), sites(), pages()},
		links: []dashboard.DashboardLink{
			toDashboard("Ringkasan kabupaten", regencyUID+"?var-datasource=${datasource}&var-province=${province}&var-regency=${regency}&var-district=${district}", "Semua desa dan kelurahan di kabupaten/kota ini"),
			{Title: "Halaman desa ini", Type: dashboard.DashboardLinkTypeLink, Icon: "external link", Tooltip: "Halaman desa ini pada pengumpul",
				Url: ptr("${halaman}/desa/${village}"), Tags: []string{}, TargetBlank: true},
		},
		sections: []section{
			{lines: []line{
				{5, []dashboard.Panel{stateNow(8), connection(16)}},
				{4, []dashboard.Panel{
					lastTest("Unduh", download, planDown, 7), medianTest("Unduh", download, 5),
					lastTest("Unggah", upload, planUp, 7), medianTest("Unggah", upload, 5),
				}},
				{4, []dashboard.Panel{stateLine(columns)}},
				{6, []dashboard.Panel{answers(columns)}},
				{9, []dashboard.Panel{
					speedChart("Unduh terhadap paket", download, planDown, 12),
					speedChart("Unggah terhadap paket", upload, planUp, 12),
				}},
				{9, []dashboard.Panel{latencyChart(12), lossChart(12)}},
				{9, []dashboard.Panel{usageChart(12), fullness(12)}},
			}},
			{title: "Cahaya, sinyal, nama, halaman, jalur: bila alat ukur mengukurnya", collapsed: true, lines: []line{
				{9, []dashboard.Panel{light(12), signal(12)}},
				{9, []dashboard.Panel{names(12), path(12)}},
			}},
			{title: "Dasar angka: cakupan, uji tiap server, hasil menurut alasan", collapsed: true, lines: []line{
				{8, []dashboard.Panel{coverage(6), byServer(18)}},
				{9, []dashboard.Panel{results(14), quota(10)}},
			}},
		},
	}.dashboard()
}

func stateNow(width uint32) dashboard.Panel {
	return sized(stats("Keadaan", "Keadaan desa pada akhir rentang waktu, dan berapa lama lalu (jam:menit:detik) alat ukur di titik ini terakhir mengukur jangkauan; paling jauh 7 hari.", width,
		figure{query: now("Sekarang", ofVillage), mappings: stateMappings(), noValue: unknownWord, unit: unitCount},
		figure{query: now("Ukuran terakhir", "time() - max("+measured(at("pantau_odp_reachable"))+")"), unit: unitAge}), 13, 28)
}

func connection(width uint32) dashboard.Panel {
	queries := []query{
		{expr: "max by (village, site, name, village_name, isp_name, access, odp, population) (" + at("pantau_site_info") + ")"},
		{expr: planned(at("pantau_plan_download_bits_per_second"))},
		{expr: planned(at("pantau_plan_upload_bits_per_second"))},
	}
	n := len(queries)
	p := tabular("Sambungan", "Menurut inventaris pada akhir rentang waktu. Paket ialah kecepatan yang tercatat dalam kontrak; sel kosong: tidak tercatat.", width, queries, []column{
		label("name", "Titik ukur", 0),
		label("isp_name", "Penyedia", 0),
		label("access", "Akses", 80, set("mappings", mappings(mapping{"fiber", "serat optik", ""}, mapping{"4g", "4G", ""}, mapping{"vsat", "VSAT", ""}, mapping{"other", "lain", ""}, mapping{"none", "○ tanpa", ""}))),
		label("odp", "ODP", 0),
		value(1, n, "Paket unduh", 105, number(unitSpeed, 0)...),
		value(2, n, "Paket unggah", 110, number(unitSpeed, 0)...),
		label("population", "Jiwa", 70, set("custom.align", "right")),
		label("village", "Kode desa", 125),
	})
	return p
}

// lastTest is the last test, its share of the plan, and its age.
func lastTest(name, sel, plan string, width uint32) dashboard.Panel {
	site := func(expr string) string { return "max by (site) (" + expr + ")" }
	last := site(fmt.Sprintf("last_over_time(%s[%s]) and topk by (site) (1, %s)", sel, week, measured(sel)))
	return sized(stats(name+", uji terakhir",
		"Uji terakhir dalam 7 hari: kecepatan, bagian dari paket yang berlaku sekarang, dan umurnya (jam:menit:detik). Di bawah 80% paket berwarna jingga.", width,
		figure{query: now("kecepatan", last), unit: unitSpeed, decimals: 1},
		figure{query: now("dari paket", last+" / "+site(plan)), unit: unitRatio, thresholds: againstPlan()},
		figure{query: now("umur", "time() - max("+measured(sel)+")"), unit: unitAge}), 13, 22)
}

// medianTest is the median of the time range, and how many tests it is of.
func medianTest(name, sel string, width uint32) dashboard.Panel {
	n := "sum by (site) (count_over_time(" + sel + "[$__range]))"
	return sized(stats(name+", median",
		fmt.Sprintf("Median semua uji dalam rentang waktu yang dipilih, bila sekurangnya %d; kurang dari itu data belum cukup. Dengan beberapa server ukur: median dari median tiap server.", enough), width,
		figure{query: now("median", fmt.Sprintf("quantile by (site) (0.5, quantile_over_time(0.5, %s[$__range])) and on (site) %s >= %d", sel, n, enough)), unit: unitSpeed, decimals: 2, noValue: notEnough},
		figure{query: now("n uji", n), unit: unitCount}), 13, 22)
}

func stateLine(width uint32) dashboard.Panel {
	p := timeline("Keadaan desa", "Sebagaimana diketahui pada saat itu; tidak berubah oleh hasil yang datang belakangan. Yang terburuk dalam tiap langkah waktu. Bagian kosong: pengumpul tidak berjalan.", width,
		stateMappings(), over("Keadaan", worst(ofVillage)))
	p.Interval = ptr("2m")
	return hideLegend(p)
}

// answers shows who answered. Minutes without a measurement have a code of their
// own, on the grid of the states, which are there every minute.
func answers(width uint32) dashboard.Panel {
	row := func(legend, series string) query {
		sel := at(series)
		return over(legend, fmt.Sprintf("min by (village) (min_over_time(%s[$__interval])) or on (village) 0 * max by (village) (%s) + %s", sel, ofVillage, unknownCode))
	}
	p := timeline("Jangkauan", "Apa yang menjawab alat ukur, diukur di desa: juga selama desa terputus, begitu catatannya tiba. Satu kali tidak menjawab dalam satu langkah waktu sudah ditampilkan. ODP tidak punya alamat: “ODP dapat dijangkau” berarti sesuatu di atasnya menjawab.", width,
		answerMappings(), row("ODP dapat dijangkau", "pantau_odp_reachable"), row("Gerbang LAN (ONT/router)", "pantau_lan_gateway_reachable"),
		row("Hop pertama penyedia", "pantau_first_hop_reachable"), row("Kabel ke ONT", "pantau_carrier_up"))
	p.Interval = ptr("2m")
	return hideLegend(p)
}

func speedChart(title, sel, plan string, width uint32) dashboard.Panel {
	p := chart(title, "Titik: satu uji kecepatan, menurut server ukur. Garis putus-putus: paket; titik-titik: 80% paket. Uji jarang dan tersebar acak; tidak ada garis di antaranya, karena di antara dua uji tidak ada yang terukur.", unitSpeed, width,
		over("uji · {{target}}", "last_over_time("+sel+"[$__interval])"),
		over("paket", "max by (site) ("+plan+")"),
		over("80% paket", "0.8 * max by (site) ("+plan+")"))
	p.Interval = ptr("1m")
	p.FieldConfig.Defaults.Color = shades(blue)
	overrideLike(&p, "^uji ", points()...)
	override(&p, "paket", colored(ink), dashed())
	override(&p, "80% paket", colored(ink), dotted())
	return p
}

// shades are of one colour: series that are not known beforehand bring no hue
// that means something.
func shades(color string) *dashboard.FieldColor {
	return &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdShades, FixedColor: &color}
}

func latencyChart(width uint32) dashboard.Panel {
	lat := func(stat string) string { return at("pantau_latency_seconds", `stat="`+stat+`"`) + "[$__interval]" }
	p := chart("Latensi", "Waktu pulang-pergi ke tiap tujuan. Tiap titik merangkum ukuran dalam satu langkah waktu (satu ukuran semenit): median dari median, dan p95 yang tertinggi. Celah: tidak terukur.", unitSeconds, width,
		over("median · {{target}}", "quantile_over_time(0.5, "+lat("median")+")"),
		over("p95 · {{target}}", "max_over_time("+lat("p95")+")"))
	p.Interval = ptr("2m")
	p.FieldConfig.Defaults.Color = shades(blue)
	overrideLike(&p, "^p95 ", dashed(), colored(ink))
	return p
}

func lossChart(width uint32) dashboard.Panel {
	loss := at("pantau_packet_loss_ratio")
	p := chart("Kehilangan paket", "Bagian ping tanpa jawaban, rata-rata ukuran dalam satu langkah waktu. 100% berarti tidak ada jawaban sama sekali: bandingkan dengan jangkauan. n: banyaknya ukuran dalam langkah itu, sumbu kanan.", unitRatio, width,
		over("kehilangan · {{target}}", "avg_over_time("+loss+"[$__interval])"),
		over("n · {{target}}", "count_over_time("+loss+"[$__interval])"))
	p.Interval = ptr("2m")
	p.FieldConfig.Defaults.Color = shades(blue)
	p.FieldConfig.Defaults.Decimals = ptr(1.0)
	axis(&p, 0.05)
	overrideLike(&p, "^n ", set("unit", unitCount), set("decimals", 0), set("custom.axisPlacement", "right"), set("custom.lineStyle", map[string]any{"fill": "dot", "dash": []int{0, 4}}), colored(slate), set("custom.axisSoftMax", 10))
	return p
}

func usageChart(width uint32) dashboard.Panel {
	p := chart("Pemakaian jaringan", "Lalu lintas desa sendiri, tanpa uji alat ukur, rata-rata sekurangnya empat menit. Hanya bila alat ukur melihat antarmuka jaringan.", unitSpeed, width,
		over("masuk · {{probe}}", "8 * rate("+at("pantau_link_receive_bytes_total")+"[$__rate_interval])"),
		over("keluar · {{probe}}", "8 * rate("+at("pantau_link_transmit_bytes_total")+"[$__rate_interval])"))
	overrideLike(&p, "^masuk ", colored(blue), set("custom.fillOpacity", 12))
	overrideLike(&p, "^keluar ", colored(ink))
	return p
}

// fullness is usage against what the line was measured to carry: the figure that
// the rule for full lines goes by.
func fullness(width uint32) dashboard.Panel {
	share := func(legend, direction string) query {
		return over(legend, "max by (site) ("+at("pantau_link_utilisation_ratio", `direction="`+direction+`"`)+")")
	}
	p := chart("Pemakaian terhadap kecepatan terukur", "Bagian dari kecepatan terukur jaringan ini yang terpakai, rata-rata 5 menit. Garis putus-putus: 80%, mulai terasa penuh. Hanya bila alat ukur melihat antarmuka jaringan dan kecepatan sudah terukur.", unitRatio, width,
		share("masuk", "download"), share("keluar", "upload"))
	p.FieldConfig.Defaults.Thresholds = thresholds(unseen, step{0.8, amber})
	axis(&p, 1)
	c := custom(&p)
	c.ThresholdsStyle = thresholdLine()
	setCustom(&p, c)
	override(&p, "masuk", colored(blue), set("custom.fillOpacity", 12))
	override(&p, "keluar", colored(ink))
	return p
}

// sparse draws single measurements of any sign.
func sparse(title, description, unit string, width uint32, qs ...query) dashboard.Panel {
	p := chart(title, description, unit, width, qs...)
	p.Interval = ptr("1m")
	p.FieldConfig.Defaults.Min = nil
	p.FieldConfig.Defaults.Color = shades(blue)
	c := custom(&p)
	c.DrawStyle, c.ShowPoints = ptr(common.GraphDrawStylePoints), ptr(common.VisibilityModeAlways)
	setCustom(&p, c)
	return p
}

func each(legend, series string) query {
	return over(legend, "last_over_time("+at(series)+"[$__interval])")
}

func light(width uint32) dashboard.Panel {
	return sparse("Daya optik terima", "Cahaya yang sampai pada ONT. Skala dBm tidak mulai dari nol: turun 3 dB berarti separuhnya. Hanya pada serat optik, bila ONT mau menjawab.", "dBm", width,
		each("{{probe}}", "pantau_optical_receive_power_dbm"))
}

func signal(width uint32) dashboard.Panel {
	p := sparse("Sinyal seluler", "Kuat sinyal (RSRP, dBm) pada sumbu kiri; mutu (RSRQ) dan jarak dari derau (SINR), dalam dB, pada sumbu kanan. Hanya pada 4G dan sejenisnya.", "dBm", width,
		each("RSRP · {{probe}}", "pantau_mobile_rsrp_dbm"), each("RSRQ · {{probe}}", "pantau_mobile_rsrq_db"), each("SINR · {{probe}}", "pantau_mobile_sinr_db"))
	overrideLike(&p, "^RSRP ", colored(blue))
	overrideLike(&p, "^RSRQ |^SINR ", colored(ink), set("unit", "dB"), set("custom.axisPlacement", "right"))
	overrideLike(&p, "^SINR ", set("custom.pointSize", 3))
	return p
}

func names(width uint32) dashboard.Panel {
	p := sparse("Nama dan halaman", "Sampai nama dijawab (DNS), dan sampai byte pertama suatu halaman datang. Satu titik satu ukuran.", unitSeconds, width,
		each("halaman · {{target}}", "pantau_http_first_byte_seconds"), each("nama · {{target}}", "pantau_dns_answer_seconds"))
	p.FieldConfig.Defaults.Min = ptr(0.0)
	overrideLike(&p, "^nama ", colored(ink))
	return p
}

func path(width uint32) dashboard.Panel {
	hop := at("pantau_path_hop_seconds")
	queries := []query{
		{expr: "max by (target, hop) (last_over_time(" + hop + "[1d]))"},
		{expr: "time() - max by (target, hop) (timestamp(" + hop + ") or max_over_time(timestamp(" + hop + ")[1d:5m]))"},
	}
	return tabular("Jalur ke tujuan", "Waktu pulang-pergi ke tiap perute di jalan, ukuran terakhir dalam sehari dan umurnya; nomor 1 ialah gerbang LAN. Perute yang diam tidak punya baris.", width, queries, []column{
		label("target", "Tujuan", 0), label("hop", "Nomor", 80, set("custom.align", "right")),
		value(0, 2, "Waktu", 100, number(unitSeconds, 1)...), value(1, 2, "umur", 100, number(unitAge, 0)...),
	}, sortBy("Tujuan", false), sortBy("Nomor", false))
}

// coverage is of how many minutes of the time range there is a measurement.
func coverage(width uint32) dashboard.Panel {
	minutes := func(series string) string {
		return fmt.Sprintf("count_over_time((count by (site) (count_over_time(%s[1m])))[$__range:1m])", at(series))
	}
	share := func(name, series string) figure {
		return figure{query: now(name, "clamp_max("+minutes(series)+" / ($__range_s / 60), 1)"), unit: unitRatio, decimals: 1}
	}
	return sized(stats("Menit dengan ukuran", "Bagian menit dalam rentang waktu yang punya ukuran, termasuk yang dikirim belakangan. Sisanya tidak diketahui.", width,
		share("jangkauan", "pantau_odp_reachable"), share("latensi", "pantau_latency_seconds"), share("pemakaian", "pantau_link_receive_bytes_total")), 13, 30)
}

func byServer(width uint32) dashboard.Panel {
	download, upload := at("pantau_download_bits_per_second"), at("pantau_upload_bits_per_second")
	of := func(fn, sel string) query {
		return query{expr: fmt.Sprintf("max by (target, probe) (%s(%s[$__range]))", fn, sel)}
	}
	median := func(sel string) query {
		return query{expr: fmt.Sprintf("max by (target, probe) (quantile_over_time(0.5, %[1]s[$__range]) and count_over_time(%[1]s[$__range]) >= %[2]d)", sel, enough)}
	}
	queries := []query{of("count_over_time", download), of("min_over_time", download), median(download), of("max_over_time", download),
		of("count_over_time", upload), of("min_over_time", upload), median(upload), of("max_over_time", upload)}
	n := len(queries)
	speed := number(unitSpeed, 1)
	return tabular("Uji kecepatan menurut server ukur", fmt.Sprintf("Semua uji dalam rentang waktu. Server yang lemah tampak seperti jaringan yang lemah: bandingkan. Median kosong: kurang dari %d uji.", enough), width, queries, []column{
		label("target", "Server ukur", 0), label("probe", "Alat ukur", 0),
		value(0, n, "n unduh", 75, number(unitCount, 0)...), value(1, n, "unduh min.", 95, speed...), value(2, n, "unduh median", 115, speed...), value(3, n, "unduh maks.", 100, speed...),
		value(4, n, "n unggah", 80, number(unitCount, 0)...), value(5, n, "unggah min.", 100, speed...), value(6, n, "unggah median", 125, speed...), value(7, n, "unggah maks.", 105, speed...),
	}, sortBy("Server ukur", false))
}

// results counts what the probe tried, by its own count.
func results(width uint32) dashboard.Panel {
	return tabular("Hasil menurut jenis dan alasan", "Berapa kali alat ukur berhasil, gagal atau melewatkan ukuran dalam rentang waktu, menurut hitungannya sendiri; dibulatkan, karena hitungan datang bersama kiriman. Yang gagal atau dilewati tidak punya nilai.", width,
		[]query{{expr: "sum by (kind, outcome, reason) (round(increase(" + at("pantau_result_total") + "[$__range]))) > 0"}},
		[]column{
			label("kind", "Jenis", 0, set("mappings", mappings(mapping{"latency", "latensi", ""}, mapping{"reach", "jangkauan", ""}, mapping{"usage", "pemakaian", ""},
				mapping{"download", "unduh", ""}, mapping{"upload", "unggah", ""}, mapping{"optics", "daya optik", ""}, mapping{"signal", "sinyal seluler", ""}, mapping{"dns", "nama (DNS)", ""},
				mapping{"http", "halaman", ""}, mapping{"path", "jalur", ""}, mapping{"other", "lain", ""}))),
			label("outcome", "Hasil", 0, set("mappings", mappings(mapping{"ok", "berhasil", ""}, mapping{"failed", "gagal", ""}, mapping{"skipped", "dilewati", ""}))),
			label("reason", "Alasan", 0, set("mappings", mappings(mapping{"", "–", ""}, mapping{"timeout", "tidak dijawab pada waktunya", ""}, mapping{"refused", "ditolak", ""},
				mapping{"unreachable", "tidak terjangkau", ""}, mapping{"dns", "nama tidak ditemukan (DNS)", ""}, mapping{"tls", "sambungan aman gagal (TLS)", ""},
				mapping{"http_status", "jawaban server bukan 200", ""}, mapping{"redirect", "dialihkan ke alamat lain", ""}, mapping{"short_body", "kiriman terpotong", ""},
				mapping{"stalled", "aliran berhenti", ""}, mapping{"permission", "izin kurang pada alat ukur", ""}, mapping{"budget", "jatah kuota alat ukur habis", ""},
				mapping{"busy_line", "jaringan sedang dipakai", ""}, mapping{"no_target", "tanpa tujuan", ""}, mapping{"no_server", "tanpa server ukur", ""},
				mapping{"saturated", "server ukur penuh", ""}, mapping{"cpu_starved", "alat ukur terlalu sibuk", ""}, mapping{"clock", "jam alat ukur melompat", ""},
				mapping{"cancelled", "dihentikan", ""}, mapping{"malformed", "jawaban tidak terbaca", ""}, mapping{"no_signal", "tanpa sinyal", ""}, mapping{"internal", "cacat alat ukur", ""}, mapping{"other", "lain", ""}))),
			value(0, 1, "Banyaknya", 0, number(unitCount, 0)...),
		}, sortBy("Banyaknya", true))
}

// quota is what measuring takes of the village's quota.
func quota(width uint32) dashboard.Panel {
	of := func(series string) string { return "max by (probe) (last_over_time(" + at(series) + "[1d]))" }
	spent, budget := of("pantau_probe_budget_spent_bytes"), of("pantau_probe_budget_bytes")
	queries := []query{{expr: spent}, {expr: budget}, {expr: spent + " / (" + budget + " > 0)"},
		{expr: "time() - max by (probe) (" + measured(at("pantau_probe_budget_spent_bytes")) + ")"}}
	n := len(queries)
	return tabular("Kuota yang dipakai alat ukur", "Semua yang dikirim dan diterima alat ukur untuk dirinya sendiri dalam bulan kalender ini, dan jatahnya. Bila jatah habis, uji kecepatan berhenti sampai bulan berikutnya; ukuran tiap menit berjalan terus.", width,
		queries, []column{
			label("probe", "Alat ukur", 0), value(0, n, "terpakai", 90, number(unitQuota, 1)...), value(1, n, "jatah", 90, number(unitQuota, 1)...),
			value(2, n, "bagian", 75, number(unitRatio, 0)...), value(3, n, "umur", 90, number(unitAge, 0)...),
		}, sortBy("Alat ukur", false))
}

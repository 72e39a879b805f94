package build

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Selectors of what the regency's page is about.
const (
	here = `regency="$regency",district=~"$district"`

	hereState    = "pantau_village_state{" + here + "}"
	hereInfo     = "pantau_site_info{" + here + "}"
	hereDownload = "pantau_download_bits_per_second{" + here + "}"
	hereUpload   = "pantau_upload_bits_per_second{" + here + "}"
	herePlanDown = "pantau_plan_download_bits_per_second{" + here + "}"
	herePlanUp   = "pantau_plan_upload_bits_per_second{" + here + "}"
	// A last sample of 0 ends an incident, or the labels it went by.
	hereIncident = `pantau_incident_open{regency="$regency"} == 1`
)

// regency answers: how do the villages of this regency stand, and where is it
// worst?
func regency() classic {
	return page{
		uid: regencyUID, title: "Pantau Desa · Ringkasan kabupaten", from: "now-24h",
		description: "Keadaan jaringan semua desa dan kelurahan di satu kabupaten atau kota: berapa yang putus, gangguan apa yang terbuka, desa mana yang di bawah paketnya. Yang tidak diketahui berwarna abu-abu dan tidak pernah dihitung nol.",
		variables:   []dashboard.VariableModel{dataSource(), province(), regencies(), several(district()), pages()},
		links: []dashboard.DashboardLink{
			toDashboard("Satu desa", villageUID+"?var-datasource=${datasource}&var-province=${province}&var-regency=${regency}", "Satu desa atau kelurahan: kecepatan, latensi, jangkauan, pemakaian"),
			toDashboard("Pengumpul", collectorUID+"?var-datasource=${datasource}", "Kesehatan pengumpul sendiri"),
		},
		sections: []section{
			{lines: []line{
				{5, []dashboard.Panel{stateCounts(16), regencyTotals(8)}},
				{7, []dashboard.Panel{openIncidents(10), findings(8), stateHistory(6)}},
				{14, []dashboard.Panel{villageTable(columns)}},
				{12, []dashboard.Panel{villageMap(10), league(14)}},
			}},
			{title: "Keadaan tiap desa/kelurahan sepanjang waktu", collapsed: true, lines: []line{{18, []dashboard.Panel{everyVillage(columns)}}}},
		},
	}.dashboard()
}

func stateCounts(width uint32) dashboard.Panel {
	count := func(word, color string, codes ...int) figure {
		return figure{query: now(word, inState(hereState, codes...)), unit: unitCount, thresholds: alarming(color)}
	}
	return sized(stats("Desa/kelurahan menurut keadaan sekarang",
		"Keadaan pada akhir rentang waktu. “Tidak diketahui” ialah alat bermasalah dan belum terpantau bersama-sama; desa itu tidak dihitung normal. Tanpa keadaan dari pengumpul, panel ini menulis “belum ada”, bukan 0.", width,
		count("◆ Putus", red, 3), count("▲ Menurun", amber, 2), count(unknownWord, grey, 4, 5),
		count("○ Tanpa jangkauan", slate, 6), count("◎ Pemeliharaan", slate, 7), count("● Normal", blue, 1)), 12, 28)
}

func regencyTotals(width uint32) dashboard.Panel {
	return sized(stats("Dasar angka",
		"Berapa desa dan kelurahan yang dihitung, berapa gangguan yang terbuka di kabupaten/kota ini, dan berapa lama lalu (jam:menit:detik) keadaan terakhir ditulis.", width,
		figure{query: now("Desa/kelurahan", "count("+hereState+")"), unit: unitCount},
		// No incident makes no series. It is a zero only while states are written:
		// the same engine writes both.
		figure{query: now("Gangguan terbuka", fmt.Sprintf("count(%s) or 0 * count(%s)", hereIncident, hereState)), unit: unitCount, thresholds: alarming(red)},
		figure{query: now("Umur keadaan", "time() - max(timestamp("+hereState+"))"), unit: unitAge}), 12, 24)
}

// kinds and causes of incidents, in the words of the mails.
func kindMappings() []dashboard.ValueMapping {
	return mappings(mapping{"outage", "◆ Putus", red}, mapping{"quality", "▲ Mutu menurun", amber}, mapping{"spike", "▲ Lonjakan pemakaian", amber},
		mapping{"capacity", "▲ Kapasitas hampir penuh", amber}, mapping{"optical", "▲ Sinyal optik lemah", amber}, mapping{"ours", "? Pemantauan sendiri", grey})
}

func causeMappings() []dashboard.ValueMapping {
	return mappings(mapping{"power", "listrik", ""}, mapping{"premises", "perangkat di lokasi", ""}, mapping{"drop_cable", "kabel ke titik ukur", ""},
		mapping{"odp_or_feeder", "ODP atau kabel di atasnya", ""}, mapping{"olt", "OLT", ""}, mapping{"upstream", "di atas OLT", ""},
		mapping{"target", "server ukur", ""}, mapping{"probe", "alat ukur", ""}, mapping{"collector", "pengumpul", ""},
		mapping{"unknown", unknownWord, grey}, mapping{"", "belum diketahui", grey})
}

func openIncidents(width uint32) dashboard.Panel {
	p := tabular("Gangguan terbuka",
		"Gangguan yang masih berlangsung di seluruh kabupaten/kota ini. Simpul ialah titik terendah jaringan yang menjelaskannya: di situ atau di bawahnya. Sebab masih dugaan sampai catatan alat ukur tiba. Lama dihitung sejak gangguan itu pertama ditulis, paling jauh 7 hari.", width,
		[]query{
			{expr: "max by (incident, kind, node, cause) (" + hereIncident + ")"},
			{expr: fmt.Sprintf("time() - min by (incident) (min_over_time(timestamp(%[1]s)[7d:1m])) and on (incident) %[1]s", hereIncident)},
		},
		[]column{
			label("incident", "Gangguan", 170, set("links", []any{link("Buka halaman gangguan", "${halaman}/gangguan/${__value.text}")})),
			label("kind", "Jenis", 165, append(painted(), set("mappings", kindMappings()))...),
			label("node", "Pada atau di bawah", 0),
			label("cause", "Dugaan sebab", 0, set("mappings", causeMappings())),
			value(1, 2, "Lama", 85, number(unitAge, 0)...),
		}, sortBy("Lama", true))
	p.FieldConfig.Defaults.NoValue = ptr("tidak ada gangguan terbuka yang tercatat")
	return p
}

// findings are what rules found of villages: quality, capacity, surges.
func findings(width uint32) dashboard.Panel {
	const by = "alertname, district, village, site"
	firing := `ALERTS{alertstate="firing",kind=~"quality|capacity|spike",` + here + `}`
	named := fmt.Sprintf("max by (%[1]s) (%[2]s) * on (village) group_left (village_name) group by (village, village_name) (%[3]s)", by, firing, hereInfo)
	p := tabular("Temuan menurut aturan",
		"Yang ditemukan aturan dan masih berlaku: kecepatan jauh di bawah paket, paket hilang, latensi tinggi, jaringan hampir penuh, lonjakan pemakaian. Bukan gangguan: desa masih tersambung. Lama sejak pertama ditemukan.", width,
		[]query{
			// What is of a whole district has no village.
			{expr: fmt.Sprintf("%s or on (%s) max by (%[2]s) (%[3]s)", named, by, firing)},
			{expr: fmt.Sprintf("time() - max by (%[1]s) (ALERTS_FOR_STATE{%[2]s}) and on (%[1]s) %[3]s", by, here, firing)},
		},
		[]column{
			label("alertname", "Temuan", 0, append(painted(), set("mappings", findingMappings()))...),
			label("village_name", "Desa/kelurahan", 120),
			value(1, 2, "Lama", 85, number(unitAge, 0)...),
		}, sortBy("Lama", true))
	p.FieldConfig.Defaults.NoValue = ptr("tidak ada temuan yang tercatat")
	return p
}

func findingMappings() []dashboard.ValueMapping {
	var ms []mapping
	for _, m := range [][2]string{{"DownloadFarBelowPlan", "Unduh jauh di bawah paket"}, {"UploadFarBelowPlan", "Unggah jauh di bawah paket"},
		{"PacketLoss", "Banyak paket hilang"}, {"LatencyHigh", "Latensi tinggi"}, {"LineFull", "Jaringan hampir penuh"},
		{"UsageFarAboveUsual", "Pemakaian jauh di atas biasanya"}, {"DistrictUsageFarAboveUsual", "Pemakaian kecamatan jauh di atas biasanya"}} {
		ms = append(ms, mapping{m[0], "▲ " + m[1], amber})
	}
	return mappings(ms...)
}

func stateHistory(width uint32) dashboard.Panel {
	p := chart("Desa/kelurahan yang tidak normal", "Jumlah menurut keadaan, bertumpuk. Celah berarti keadaan tidak tercatat: pengumpul tidak berjalan.", unitCount, width,
		over("◆ Putus", inState(hereState, 3)), over("▲ Menurun", inState(hereState, 2)), over(unknownWord, inState(hereState, 4, 5)))
	stacked(&p)
	axis(&p, 5)
	p.FieldConfig.Defaults.Decimals = ptr(0.0)
	override(&p, "◆ Putus", colored(red))
	override(&p, "▲ Menurun", colored(amber))
	override(&p, unknownWord, colored(grey))
	return p
}

// villageLabels are the labels of a row; those of the inventory are absent where
// it knows no site.
const villageLabels = "village, district, site, name, village_name, district_name, isp_name, odp"

func villageTable(width uint32) dashboard.Panel {
	state := fmt.Sprintf("group by (%[3]s) (%[2]s) * on (village) group_left () %[1]s or on (village) sum by (village, district) (%[1]s)", hereState, hereInfo, villageLabels)
	latency := `pantau_latency_seconds{` + here + `,stat="median"}[1h]`
	loss := `pantau_packet_loss_ratio{` + here + `}[1h]`
	queries := []query{
		{expr: state},
		// How long a cut village has been cut: since it was last in another state.
		{expr: fmt.Sprintf("max by (village, site) (group by (village, site) (%[2]s) * on (village) group_left () ((time() - max_over_time(timestamp(%[1]s != 3)[2d:1m])) and %[1]s == 3))", hereState, hereInfo)},
		{expr: latest(hereDownload)},
		{expr: latest(hereDownload) + " / " + planned(herePlanDown)},
		{expr: tests(hereDownload)},
		{expr: age(hereDownload)},
		{expr: latest(hereUpload)},
		{expr: latest(hereUpload) + " / " + planned(herePlanUp)},
		{expr: tests(hereUpload)},
		{expr: age(hereUpload)},
		{expr: "max by (village, site) (quantile_over_time(0.5, " + latency + "))"},
		{expr: "max by (village, site) (avg_over_time(" + loss + "))"},
		{expr: "min by (village, site) (count_over_time(" + loss + "))"},
	}
	n := len(queries)
	ratio := append(number(unitRatio, 0), append(painted(), set("thresholds", againstPlan()))...)
	return tabular("Desa dan kelurahan",
		"Satu baris tiap titik ukur. Unduh dan unggah: uji terakhir dalam 7 hari, dibanding paket yang berlaku sekarang; n ialah banyaknya uji 7 hari, umur dalam jam:menit:detik. Di bawah 80% paket berwarna jingga. Latensi dan kehilangan paket: median dan rata-rata 1 jam terakhir pada tujuan yang terburuk, n ukuran. Sel kosong: belum ada ukuran. Klik nama desa untuk rinciannya.", width,
		queries, []column{
			value(0, n, "Keadaan", 155, append(painted(), set("mappings", stateMappings()), set("custom.align", "left"))...),
			label("village_name", "Desa/kelurahan", 130, set("links", []any{link("Buka desa ini",
				"/d/"+villageUID+"?var-datasource=${datasource}&var-province=${province}&var-regency=${regency}&var-district=${__data.fields[\"Kode kecamatan\"]}&var-village=${__data.fields[\"Kode\"]}&var-site=${__data.fields[\"Titik ukur\"]}&${__url_time_range}")})),
			label("district_name", "Kecamatan", 110),
			value(1, n, "Putus selama", 105, append(number(unitAge, 0), set("noValue", "–"))...),
			value(2, n, "Unduh", 95, number(unitSpeed, 1)...),
			value(3, n, "dari paket ↓", 95, ratio...),
			value(4, n, "n ↓", 45, number(unitCount, 0)...),
			value(5, n, "umur ↓", 80, number(unitAge, 0)...),
			value(6, n, "Unggah", 95, number(unitSpeed, 1)...),
			value(7, n, "dari paket ↑", 95, ratio...),
			value(8, n, "n ↑", 45, number(unitCount, 0)...),
			value(9, n, "umur ↑", 80, number(unitAge, 0)...),
			value(10, n, "Latensi", 80, number(unitSeconds, 0)...),
			value(11, n, "Kehilangan paket", 130, number(unitRatio, 2)...),
			value(12, n, "n 1 jam", 65, number(unitCount, 0)...),
			label("isp_name", "Penyedia", 0),
			label("odp", "ODP", 95),
			label("village", "Kode", 115),
			label("site", "Titik ukur", 100),
			label("district", "Kode kecamatan", 0, set("custom.hidden", true)), // for the link
		}, sortBy("Putus selama", true), sortBy("dari paket ↓", false))
}

// league ranks districts by how much of the plan arrives.
func league(width uint32) dashboard.Panel {
	of := func(sel, plan string) string {
		return fmt.Sprintf("max by (district, site) (quantile_over_time(0.5, %s[%s])) / max by (district, site) (%s)", sel, week, plan)
	}
	// Of sites with a median of their own, and only where they are enough.
	median := func(sel, plan string) string {
		return fmt.Sprintf("quantile by (district) (0.5, %[1]s) and count by (district) (%[1]s) >= %[2]d", of(sel, plan), enough)
	}
	queries := []query{
		{expr: fmt.Sprintf("max by (district, district_name) (%s)", hereInfo)},
		{expr: "count by (district) (" + hereState + ")"},
		{expr: "sum by (district) (" + hereState + " == bool 3)"},
		{expr: "sum by (district) (" + hereState + " == bool 2)"},
		{expr: fmt.Sprintf("sum by (district) (%[1]s == bool 4) + sum by (district) (%[1]s == bool 5)", hereState)},
		{expr: median(hereDownload, herePlanDown)},
		{expr: "count by (district) (" + of(hereDownload, herePlanDown) + ")"},
		{expr: fmt.Sprintf("sum by (district) (count_over_time(%s[%s]))", hereDownload, week)},
		{expr: median(hereUpload, herePlanUp)},
	}
	n := len(queries)
	count := func(color string) []property {
		return append(number(unitCount, 0), append(painted(), set("thresholds", alarming(color)))...)
	}
	ratio := append(number(unitRatio, 0), append(painted(), set("thresholds", againstPlan()), set("noValue", notEnough))...)
	return tabular("Peringkat kecamatan",
		fmt.Sprintf("Kecamatan diurutkan menurut median bagian paket yang sampai: median antar titik ukur dari median uji 7 hari masing-masing. Ditampilkan bila sekurangnya %d titik ukur punya uji dan paket; kurang dari itu: data belum cukup.", enough), width,
		queries, []column{
			label("district_name", "Kecamatan", 0),
			value(1, n, "Desa", 60, number(unitCount, 0)...),
			value(2, n, "Putus", 65, count(red)...),
			value(3, n, "Menurun", 80, count(amber)...),
			value(4, n, "Tak diketahui", 110, count(grey)...),
			value(5, n, "Unduh, dari paket", 140, ratio...),
			value(8, n, "Unggah, dari paket", 150, ratio...),
			value(6, n, "n titik", 65, number(unitCount, 0)...),
			value(7, n, "n uji", 65, number(unitCount, 0)...),
			label("district", "Kode", 80),
		}, sortBy("Unduh, dari paket", false))
}

func everyVillage(width uint32) dashboard.Panel {
	p := timeline("Keadaan tiap desa/kelurahan", "Yang terburuk dalam tiap langkah waktu. 20 desa tiap halaman; pilih satu kecamatan agar terbaca.", width, stateMappings(),
		over("{{village_name}} {{village}}", fmt.Sprintf("(%s) * on (village) group_left (village_name) group by (village, village_name) (%s)", worst(hereState), hereInfo)))
	p.Interval = ptr("2m")
	return p
}

// worst is the state to show of each step of a timeline: a cut, however short,
// then a degraded minute, then the last state.
func worst(sel string) string {
	return fmt.Sprintf("last_over_time((%[1]s == 3)[$__interval:1m]) or last_over_time((%[1]s == 2)[$__interval:1m]) or %[1]s", sel)
}

// villageMap shows where it is, on land drawn from a file that Grafana brings
// with it: no tiles are fetched from anywhere.
func villageMap(width uint32) dashboard.Panel {
	p := panel("geomap", "Peta keadaan", "Satu titik tiap titik ukur yang posisinya tercatat, warna menurut keadaan desanya. Darat digambar dari berkas Grafana sendiri, tanpa ubin dari internet; garis pantainya kasar. Posisi berasal dari inventaris; tabel memuat semua yang ada di peta.", width,
		[]query{{rows: true, expr: fmt.Sprintf("group by (village, village_name, site, lat, lon) (%s) * on (village) group_left () %s", hereInfo, hereState)}})
	p.Transformations = []dashboard.DataTransformerConfig{
		{Id: "convertFieldType", Options: map[string]any{"fields": map[string]any{}, "conversions": []any{
			map[string]any{"targetField": "lat", "destinationType": "number"}, map[string]any{"targetField": "lon", "destinationType": "number"}}}},
		{Id: "organize", Options: map[string]any{"indexByName": map[string]any{}, "excludeByName": map[string]any{"Time": true},
			"renameByName": map[string]any{"Value": "Keadaan", "village_name": "Desa/kelurahan", "village": "Kode", "site": "Titik ukur"}}},
	}
	p.Options = map[string]any{
		"view":     map[string]any{"id": "fit", "allLayers": true, "lastOnly": false, "lat": 0, "lon": 0, "zoom": 15, "padding": 15},
		"controls": map[string]any{"showZoom": true, "mouseWheelZoom": false, "showAttribution": false, "showScale": true, "showMeasure": false, "showDebug": false},
		"tooltip":  map[string]any{"mode": "details"},
		"basemap": map[string]any{"type": "geojson", "name": "Darat", "config": map[string]any{"src": "public/maps/countries.geojson", "rules": []any{},
			"style": map[string]any{"color": map[string]any{"fixed": slate}, "opacity": 0.25}}},
		"layers": []any{map[string]any{"type": "markers", "name": "Desa/kelurahan", "tooltip": true,
			"location": map[string]any{"mode": "coords", "latitude": "lat", "longitude": "lon"},
			"config": map[string]any{"showLegend": false, "style": map[string]any{
				"color": map[string]any{"field": "Keadaan", "fixed": grey}, "opacity": 1,
				"size":       map[string]any{"fixed": 7, "min": 4, "max": 12},
				"symbol":     map[string]any{"mode": "fixed", "fixed": "img/icons/marker/circle.svg"},
				"textConfig": map[string]any{"fontSize": 12, "offsetX": 0, "offsetY": 0, "textAlign": "center", "textBaseline": "middle"}}}}},
	}
	p.FieldConfig.Defaults.Color = byThreshold()
	p.FieldConfig.Defaults.Thresholds = thresholds(grey)
	override(&p, "Keadaan", set("mappings", stateMappings()))
	return p
}

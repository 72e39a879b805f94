package build

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// dataSource lets the reader choose where the figures come from; the provisioned
// one is preset.
func dataSource() dashboard.VariableModel {
	return dashboard.VariableModel{Type: dashboard.VariableTypeDatasource, Name: "datasource", Label: ptr("Sumber data"),
		Query: &dashboard.StringOrMap{String: ptr("prometheus")}, Refresh: ptr(dashboard.VariableRefreshOnDashboardLoad),
		Current: &dashboard.VariableOption{Text: text("Pantau Desa"), Value: text("pantau")}, Regex: ptr(""), Multi: ptr(false), IncludeAll: ptr(false)}
}

func text(s string) dashboard.StringOrArrayOfString {
	return dashboard.StringOrArrayOfString{String: &s}
}

// pages is where the collector's own pages are, as the reader's browser reaches
// them. It has no control on the page: [Pages] is replaced when the files are
// written for a place where they are elsewhere.
func pages() dashboard.VariableModel {
	return dashboard.VariableModel{Type: dashboard.VariableTypeConstant, Name: "halaman", Hide: ptr(dashboard.VariableHideHideVariable),
		Query: &dashboard.StringOrMap{String: ptr(Pages)}, SkipUrlSync: ptr(true),
		Current: &dashboard.VariableOption{Text: text(Pages), Value: text(Pages)}}
}

// Pages is the collector's office side by default, on the machine of its own.
const Pages = "http://127.0.0.1:7480"

// choice is a variable whose values are one label of a query's series, and whose
// texts are another, the name. Each asks only below the choice before it: data
// sources cut look-ups of tens of thousands without a word.
func choice(name, title, value, named, query string) dashboard.VariableModel {
	expr := "query_result(" + query + ")"
	// Grafana writes a series as {label="value",...}, labels in the order of the
	// alphabet. A place without a site has no name: its code stands for it.
	regex := fmt.Sprintf(`/%s="(?<value>[^"]+)"(?:.*%s="(?<text>[^"]+)")?/`, value, named)
	if named < value {
		regex = fmt.Sprintf(`/(?:%s="(?<text>[^"]+)".*)?%s="(?<value>[^"]+)"/`, named, value)
	}
	return dashboard.VariableModel{Type: dashboard.VariableTypeQuery, Name: name, Label: &title, Datasource: source(),
		Query:   &dashboard.StringOrMap{Map: map[string]any{"qryType": 3, "query": expr, "refId": "PrometheusVariableQueryEditor-VariableQuery"}},
		Regex:   &regex,
		Refresh: ptr(dashboard.VariableRefreshOnTimeRangeChanged), Sort: ptr(dashboard.VariableSortAlphabeticalCaseInsensitiveAsc),
		Multi: ptr(false), IncludeAll: ptr(false), Current: &dashboard.VariableOption{Text: text(""), Value: text("")},
		Options: []dashboard.VariableOption{}}
}

// places lists the codes of one level, with the names that some site there has.
func places(level, within string) string {
	return fmt.Sprintf("group by (%[1]s, %[1]s_name) (pantau_site_info{%[2]s}) or on (%[1]s) group by (%[1]s) (pantau_village_state{%[2]s})", level, within)
}

func province() dashboard.VariableModel {
	return choice("province", "Provinsi", "province", "province_name", places("province", ""))
}

func regencies() dashboard.VariableModel {
	return choice("regency", "Kabupaten/kota", "regency", "regency_name", places("regency", `province="$province"`))
}

func district() dashboard.VariableModel {
	return choice("district", "Kecamatan", "district", "district_name", places("district", `regency="$regency"`))
}

func villages() dashboard.VariableModel {
	return choice("village", "Desa/kelurahan", "village", "village_name", places("village", `district="$district"`))
}

func sites() dashboard.VariableModel {
	return choice("site", "Titik ukur", "site", "name", `group by (site, name) (pantau_site_info{village="$village"})`)
}

// several lets the reader choose more than one, or all.
func several(v dashboard.VariableModel) dashboard.VariableModel {
	v.Multi, v.IncludeAll, v.AllValue = ptr(true), ptr(true), ptr(".*")
	v.Current = &dashboard.VariableOption{Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}},
		Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}}}
	return v
}

package dashboards

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Query is one query of a dashboard, with Grafana's variables in it.
type Query struct {
	Dashboard string // file name, without its ending
	Panel     string // title; empty for a variable
	ID        int    // of the panel
	RefID     string // of the query in its panel; of a variable its name
	Legend    string // how its series are named
	Expr      string // PromQL, once Fill has replaced the variables
	Instant   bool   // at one instant; else over the time range
}

// String names the query for people.
func (q Query) String() string {
	if q.Panel == "" {
		return q.Dashboard + ": $" + q.RefID
	}
	return fmt.Sprintf("%s: %s (%s)", q.Dashboard, q.Panel, q.RefID)
}

// Quiet says why the query may rightly have no data even though sites measure
// and push; empty: it must have data.
func (q Query) Quiet() string {
	for _, r := range []struct{ part, why string }{
		{"pantau_incident_open", "no incident may be open"},
		{"ALERTS", "rules may have found nothing"},
		{"prometheus_rule_", "rules begin once the store has what has arrived"},
		{"kind!~", "no other kind may have been found"},
		{"pantau_mail_", "no mail may be configured"},
		{"== 3)[2d:1m]", "no village may be cut off"},
		{"!= 3)[2d:1m]", "no village may be cut off"},
		{"pantau_link_", "a probe may see no interface that carries the village's traffic"},
		{"pantau_optical_", "only a fibre whose ONT answers has it"},
		{"pantau_mobile_", "only a mobile line has it"},
		{"pantau_http_", "a probe may fetch no page"},
		{"pantau_dns_", "a probe may ask no resolver"},
		{"pantau_path_", "a probe may follow no path"},
		{"count by (district)", "fewer sites of a district than a median needs may have tests and a plan"},
		{"> 0", "drawn only where there was any"},
	} {
		if strings.Contains(q.Expr, r.part) {
			return r.why
		}
	}
	return ""
}

var variable = regexp.MustCompile(`\$(\w+)|\$\{(\w+)(?::\w+)?\}`)

// Fill replaces Grafana's variables by values, as Grafana would. One that has no
// value stays, which is no PromQL.
func (q Query) Fill(values map[string]string) string {
	return variable.ReplaceAllStringFunc(q.Expr, func(s string) string {
		m := variable.FindStringSubmatch(s)
		if v, ok := values[m[1]+m[2]]; ok {
			return v
		}
		return s
	})
}

// Queries lists every query of every dashboard: those of panels, and those that
// variables take their values from.
func Queries() ([]Query, error) {
	names, err := fs.Glob(files, "json/*.json")
	if err != nil {
		return nil, err
	}
	var out []Query
	for _, name := range names {
		raw, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var d struct {
			Panels     []panel
			Templating struct{ List []choice }
		}
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		dashboard := strings.TrimSuffix(path.Base(name), ".json")
		for _, v := range d.Templating.List {
			expr, err := v.expr()
			if err != nil {
				return nil, fmt.Errorf("%s: variable %s: %w", name, v.Name, err)
			}
			if expr != "" {
				out = append(out, Query{Dashboard: dashboard, RefID: v.Name, Expr: expr, Instant: true})
			}
		}
		for _, p := range flat(d.Panels) {
			for _, t := range p.Targets {
				out = append(out, Query{Dashboard: dashboard, Panel: p.Title, ID: p.ID, RefID: t.RefID, Legend: t.LegendFormat, Expr: t.Expr, Instant: t.Instant})
			}
		}
	}
	return out, nil
}

// panel is what is asked in one panel; a row that is collapsed has its own.
type panel struct {
	ID      int
	Title   string
	Targets []struct {
		RefID        string `json:"refId"`
		LegendFormat string
		Expr         string
		Instant      bool
	}
	Panels []panel
}

func flat(ps []panel) []panel {
	var out []panel
	for _, p := range ps {
		out = append(out, p)
		out = append(out, flat(p.Panels)...)
	}
	return slices.Clip(out)
}

// choice is a variable.
type choice struct {
	Type, Name string
	Query      json.RawMessage
}

// expr is the PromQL that a variable takes its values from; empty if it asks
// nothing.
func (c choice) expr() (string, error) {
	if c.Type != "query" {
		return "", nil
	}
	var q struct{ Query string }
	if err := json.Unmarshal(c.Query, &q); err != nil {
		return "", err
	}
	expr, ok := strings.CutPrefix(q.Query, "query_result(")
	if !ok || !strings.HasSuffix(expr, ")") {
		return "", fmt.Errorf("%q is no query_result(...)", q.Query)
	}
	return strings.TrimSuffix(expr, ")"), nil
}

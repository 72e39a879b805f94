package dashboards_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/pantau-desa/pantau/alerts/rules"
	"github.com/pantau-desa/pantau/collector"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/dashboards"
	"github.com/pantau-desa/pantau/probe/measure"
)

// example fills Grafana's variables with values of their form.
func example() map[string]string {
	return map[string]string{"province": "33", "regency": "33.10", "district": "33.10.15|33.10.16", "village": "33.10.15.2009", "site": "klaten-0001",
		"__interval": "2m", "__rate_interval": "4m", "__range": "86400s", "__range_s": "86400"}
}

func queries(t *testing.T) []dashboards.Query {
	t.Helper()
	qs, err := dashboards.Queries()
	if err != nil {
		t.Fatal(err)
	}
	if len(qs) < 80 {
		t.Fatalf("only %d queries", len(qs))
	}
	return qs
}

// Every query is PromQL over metrics and labels that there are.
func TestQueriesHoldAgainstTheCatalogue(t *testing.T) {
	known, shown := metrics(), values(t)
	for _, q := range queries(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.Fill(example()))
		if err != nil {
			t.Errorf("%v: %v\n%s", q, err, q.Expr)
			continue
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			switch n := n.(type) {
			case *parser.VectorSelector:
				names, ok := known[n.Name]
				if !ok {
					t.Errorf("%v: nobody makes %s", q, n.Name)
				}
				for _, m := range n.LabelMatchers {
					if m.Name != model.MetricNameLabel && !slices.Contains(names, m.Name) {
						t.Errorf("%v: %s has no label %s", q, n.Name, m.Name)
					}
					if of := shown[n.Name]; m.Type == labels.MatchEqual && of != nil && !slices.Contains(of, m.Name+"="+m.Value) {
						t.Errorf("%v: %s is never %s=%q", q, n.Name, m.Name, m.Value)
					}
				}
			case *parser.AggregateExpr:
				held(t, q, n.Grouping, n.Expr, known)
			case *parser.BinaryExpr:
				if n.VectorMatching != nil {
					held(t, q, n.VectorMatching.MatchingLabels, n.LHS, known)
					held(t, q, n.VectorMatching.MatchingLabels, n.RHS, known)
					held(t, q, n.VectorMatching.Include, n.RHS, known)
				}
			case *parser.Call:
				if n.Func.Name == "vector" || n.Func.Name == "absent" || n.Func.Name == "absent_over_time" {
					t.Errorf("%v: %s makes up a value", q, n.Func.Name)
				}
			}
			return nil
		})
		if q.Panel != "" {
			legend(t, q, expr, known)
		}
	}
}

// A counter says nothing by itself, and a rate over less than a few samples is a
// hole: counters are read by rate over Grafana's interval for rates, or by
// increase over it or all of the time range.
func TestCountersAreRates(t *testing.T) {
	n := 0
	for _, q := range queries(t) {
		expr, err := parser.NewParser(parser.Options{}).ParseExpr(q.Fill(example()))
		if err != nil {
			t.Fatal(err)
		}
		parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
			s, ok := node.(*parser.VectorSelector)
			if !ok || !strings.HasSuffix(s.Name, "_total") && !strings.HasSuffix(s.Name, "_bucket") {
				return nil
			}
			n++
			counted := slices.ContainsFunc(path, func(p parser.Node) bool {
				c, ok := p.(*parser.Call)
				return ok && (c.Func.Name == "rate" || c.Func.Name == "increase" || c.Func.Name == "count_over_time")
			})
			if !counted {
				t.Errorf("%v: the counter %s is read as it is", q, s.Name)
			}
			return nil
		})
		for _, m := range rated.FindAllStringSubmatch(q.Expr, -1) {
			if m[2] != "$__rate_interval" && (m[1] != "increase" || m[2] != "$__range") {
				t.Errorf("%v: %s over %s", q, m[1], m[2])
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d counters", n)
	}
}

var rated = regexp.MustCompile(`(rate|increase)\([^\[]*\[([^\]]*)\]`)

// held reports labels that no metric below the node has.
func held(t *testing.T, q dashboards.Query, labels []string, n parser.Node, known map[string][]string) {
	t.Helper()
	of := labelsOf(n, known)
	for _, l := range labels {
		if !slices.Contains(of, l) {
			t.Errorf("%v: nothing in %s has label %s", q, n, l)
		}
	}
}

func labelsOf(n parser.Node, known map[string][]string) (out []string) {
	parser.Inspect(n, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			out = append(out, known[s.Name]...)
		}
		return nil
	})
	return out
}

// legend: a name with a label that the series do not have would be a name with a
// hole.
func legend(t *testing.T, q dashboards.Query, expr parser.Expr, known map[string][]string) {
	t.Helper()
	of := labelsOf(expr, known)
	rest := q.Legend
	for {
		_, after, ok := strings.Cut(rest, "{{")
		if !ok {
			return
		}
		label, end, ok := strings.Cut(after, "}}")
		if !ok || !slices.Contains(of, strings.TrimSpace(label)) {
			t.Errorf("%v: name %q with labels %q", q, q.Legend, of)
		}
		rest = end
	}
}

// metrics are all that is in the data source, with their labels: the catalogue,
// and what rules find.
func metrics() map[string][]string {
	out := map[string][]string{}
	for _, d := range series.Catalogue() {
		out[d.Name] = d.Labels
		if d.Type == model.MetricTypeHistogram {
			out[d.Name+"_sum"], out[d.Name+"_count"] = d.Labels, d.Labels
			out[d.Name+"_bucket"] = append(slices.Clone(d.Labels), "le")
		}
	}
	alerts := []string{"alertname", "kind", "severity", "province", "regency", "district", "village", "site", "probe", "sink"}
	out[series.Alerts] = append(slices.Clone(alerts), "alertstate")
	out[series.AlertsForState] = alerts
	return out
}

// values are those that labels of the collector's own metrics have, as
// label=value: it shows each of them from the start.
func values(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for _, f := range own(t) {
		name := f.GetName()
		if f.GetType() == dto.MetricType_HISTOGRAM {
			name += "_bucket"
		}
		out[name] = append(out[name], model.MetricNameLabel+"="+name)
		for _, m := range f.Metric {
			for _, l := range m.Label {
				out[name] = append(out[name], l.GetName()+"="+l.GetValue())
			}
		}
	}
	return out
}

// own is what a running collector says of itself at /metrics.
func own(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	office, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := collector.New(t.Context(), collector.Options{DataDir: filepath.Join(t.TempDir(), "data"), Inventory: "../configs/klaten",
		Names: []string{"127.0.0.1"}, IngestAddr: "127.0.0.1:0", Office: office, Software: "test", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	answer, err := (&http.Client{Timeout: time.Minute}).Get("http://" + c.OfficeAddr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var out []*dto.MetricFamily
	for dec := expfmt.NewDecoder(answer.Body, expfmt.ResponseFormat(answer.Header)); ; {
		var f dto.MetricFamily
		if err := dec.Decode(&f); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, &f)
	}
	return out
}

// The values of a variable are codes, their texts names, as Grafana cuts them out
// of a series: {label="value",...} with labels in order.
func TestChoices(t *testing.T) {
	n := 0
	for name, b := range boards(t) {
		for _, v := range b.Templating.List {
			if v.Type != "query" {
				continue
			}
			n++
			re := regexp.MustCompile(strings.Trim(v.Regex, "/"))
			named := v.Name + "_name"
			if v.Name == "site" {
				named = "name"
			}
			for series, want := range map[string][2]string{
				labelled(v.Name, "33.10", named, "Kabupaten Klaten"): {"33.10", "Kabupaten Klaten"},
				labelled(v.Name, "33.10"):                            {"33.10", ""},
			} {
				m := re.FindStringSubmatch(series + " 1 1753000000000")
				if m == nil || m[re.SubexpIndex("value")] != want[0] || m[re.SubexpIndex("text")] != want[1] {
					t.Errorf("%s: $%s: %s cuts %q out of %s", name, v.Name, v.Regex, m, series)
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d variables", n)
	}
}

func labelled(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, pairs[i]+`="`+pairs[i+1]+`"`)
	}
	slices.Sort(out)
	return "{" + strings.Join(out, ",") + "}"
}

// Codes and words of closed lists: each has a word wherever it is shown.
func TestEveryCodeHasAWord(t *testing.T) {
	words := func(board, panel, column string) map[string]bool {
		out := map[string]bool{}
		add := func(ms []valueMapping) {
			for _, m := range ms {
				if m.Type != "value" {
					continue
				}
				var options map[string]struct{ Text string }
				if err := json.Unmarshal(m.Options, &options); err != nil {
					t.Fatal(err)
				}
				for code, o := range options {
					out[code] = o.Text != ""
				}
			}
		}
		for _, p := range boards(t)[board].all() {
			if p.Title != panel {
				continue
			}
			if column == "" {
				add(p.FieldConfig.Defaults.Mappings)
			}
			for _, o := range p.FieldConfig.Overrides {
				for _, prop := range o.Properties {
					var ms []valueMapping
					if o.Matcher.Options == column && prop.ID == "mappings" && json.Unmarshal(prop.Value, &ms) == nil {
						add(ms)
					}
				}
			}
		}
		return out
	}
	var states, causes, kinds, reasons, outcomes []string
	for _, s := range state.States() {
		states = append(states, string('0'+rune(s)))
	}
	for _, c := range incident.Causes() {
		causes = append(causes, string(c))
	}
	for _, k := range measure.Kinds() {
		kinds = append(kinds, string(k))
	}
	for _, r := range measure.Reasons() {
		if r != measure.ReasonNone {
			reasons = append(reasons, string(r))
		}
	}
	for _, o := range []measure.Outcome{measure.OK, measure.Failed, measure.Skipped} {
		outcomes = append(outcomes, string(o))
	}
	for _, c := range []struct {
		board, panel, column string
		codes                []string
	}{
		{"ringkasan-kabupaten", "Desa dan kelurahan", "Keadaan", states},
		{"ringkasan-kabupaten", "Peta keadaan", "Keadaan", states},
		{"ringkasan-kabupaten", "Keadaan tiap desa/kelurahan", "", states},
		{"ringkasan-kabupaten", "Gangguan terbuka", "Dugaan sebab", causes},
		{"ringkasan-kabupaten", "Gangguan terbuka", "Jenis", []string{string(incident.Outage), string(incident.Quality), string(incident.Spike),
			string(incident.Capacity), string(incident.Optical), string(incident.Ours)}},
		{"desa", "Keadaan", "Sekarang", states},
		{"desa", "Keadaan desa", "", states},
		{"desa", "Jangkauan", "", []string{"0", "1", "-1"}},
		{"desa", "Sambungan", "Akses", []string{string(inventory.AccessFiber), string(inventory.Access4G), string(inventory.AccessVSAT), string(inventory.AccessOther), string(inventory.AccessNone)}},
		{"desa", "Hasil menurut jenis dan alasan", "Jenis", kinds},
		{"desa", "Hasil menurut jenis dan alasan", "Hasil", outcomes},
		{"desa", "Hasil menurut jenis dan alasan", "Alasan", reasons},
	} {
		there := words(c.board, c.panel, c.column)
		for _, code := range c.codes {
			if !there[code] {
				t.Errorf("%s: %s: %s: %q has no word", c.board, c.panel, c.column, code)
			}
		}
	}
	// What rules find of villages is on one page, what they find of us on another.
	findings, warnings := words("ringkasan-kabupaten", "Temuan menurut aturan", "Temuan"), words("pengumpul", "Peringatan yang menyala", "Peringatan")
	n := 0
	for name, raw := range rules.Files() {
		var file struct {
			Groups []struct {
				Rules []struct {
					Alert  string
					Labels map[string]string
				}
			}
		}
		if err := yaml.Unmarshal(raw, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				there := findings
				if r.Labels["kind"] == string(incident.Ours) {
					there = warnings
				}
				if r.Alert != "" && !there[r.Alert] {
					t.Errorf("%s: alert %s has no word on a dashboard", name, r.Alert)
				}
				if r.Alert != "" {
					n++
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d alerts", n)
	}
	// States on the collector's page are asked for by name.
	for _, s := range state.States() {
		if !slices.ContainsFunc(queries(t), func(q dashboards.Query) bool {
			return strings.Contains(q.Expr, `pantau_collector_sites{state="`+s.String()+`"}`)
		}) {
			t.Errorf("pengumpul: nobody asks for state %v", s)
		}
	}
}

package rules

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	prules "github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"go.yaml.in/yaml/v3"

	"github.com/pantau-desa/pantau/collector/series"
)

// tool finds a program that `make test` builds. Where everything must be proved
// its absence is a failure.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatalf("%s is not in the path", name)
	}
	if err != nil {
		t.Skipf("no %s in the path: `make test` builds it into .tools", name)
	}
	return path
}

func ruleFiles(t *testing.T) (files, tests []string) {
	t.Helper()
	all, err := filepath.Glob("*.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if strings.HasSuffix(f, "_test.yml") {
			tests = append(tests, f)
		} else {
			files = append(files, f)
		}
	}
	if len(files) < 6 || len(tests) < len(files) {
		t.Fatalf("rule files %v, tests %v", files, tests)
	}
	return files, tests
}

func TestPromtool(t *testing.T) {
	promtool := tool(t, "promtool")
	files, tests := ruleFiles(t)
	run := func(t *testing.T, args ...string) {
		t.Parallel()
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	t.Run("check", func(t *testing.T) { run(t, append([]string{"check", "rules", "--lint-fatal"}, files...)...) })
	for _, f := range tests {
		t.Run(f, func(t *testing.T) { run(t, "test", "rules", f) })
	}
}

func TestPint(t *testing.T) {
	pint := tool(t, "pint")
	files, _ := ruleFiles(t)
	args := append([]string{"--offline", "--no-color", "lint", "--min-severity=info", "--fail-on=info"}, files...)
	if out, err := exec.Command(pint, args...).CombinedOutput(); err != nil {
		t.Errorf("pint %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestBuiltInFilesKeepTheContract(t *testing.T) {
	on, _ := ruleFiles(t)
	if d := cmp.Diff(on, slices.Sorted(maps.Keys(Files()))); d != "" {
		t.Error("on disk and embedded: ", d)
	}
	for _, p := range Check(Files()) {
		t.Error(p)
	}
	for _, g := range groups(t, Files()) {
		for _, r := range g.Rules {
			if r.Labels["kind"] == "ours" && r.Annotations["saran"] == "" {
				t.Errorf("%s: its mail says in English what to do: annotation saran is missing", r.Alert)
			}
		}
	}
}

func groups(t *testing.T, files map[string][]byte) (out []rulefmt.RuleGroup) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var doc rulefmt.RuleGroups
		if err := yaml.Unmarshal(files[name], &doc); err != nil {
			t.Fatal(err)
		}
		out = append(out, doc.Groups...)
	}
	return out
}

// The names that dashboards and mails rely on, and the labels, are those of the
// catalogue.
func TestWhatIsRecordedIsTheCatalogues(t *testing.T) {
	defs := map[string]series.Definition{}
	for _, d := range series.Catalogue() {
		if d.Source == series.FromRules {
			defs[d.Name] = d
		}
	}
	c := newChecker(series.Catalogue())
	recorded := map[string]bool{}
	for _, g := range groups(t, Files()) {
		for _, r := range g.Rules {
			if r.Record == "" {
				continue
			}
			recorded[r.Record] = true
			d, ok := defs[r.Record]
			if !ok {
				t.Errorf("%s is recorded and not in the catalogue", r.Record)
				continue
			}
			expr, err := c.parser.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			has := c.expr(0, r.Record, expr)
			for l := range r.Labels {
				has.add(l)
			}
			if diff := cmp.Diff(d.Labels, slices.Sorted(maps.Keys(has.names))); diff != "" || has.open {
				t.Errorf("%s: labels of the catalogue and of the rule: %s", r.Record, diff)
			}
		}
	}
	for name := range defs {
		if !recorded[name] {
			t.Errorf("%s is in the catalogue and no rule records it", name)
		}
	}
}

// Whoever renames a series or takes a label from it learns of every rule that
// reads it.
func TestRenamedSeriesIsNoticed(t *testing.T) {
	used := map[string]map[string]bool{} // series -> labels that rules match, group or show
	p := parser.NewParser(parser.Options{})
	for _, g := range groups(t, Files()) {
		for _, r := range g.Rules {
			expr, err := p.ParseExpr(r.Expr)
			if err != nil {
				t.Fatal(err)
			}
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				if v, ok := n.(*parser.VectorSelector); ok {
					if used[v.Name] == nil {
						used[v.Name] = map[string]bool{}
					}
					for _, m := range v.LabelMatchers {
						used[v.Name][m.Name] = true
					}
				}
				return nil
			})
		}
	}
	if len(used) < 30 {
		t.Fatalf("only %d series are used", len(used))
	}
	docs, _ := parseAll(Files())
	for name, matched := range used {
		// One that rules record themselves stays known; what it is read for is known
		// from the test above.
		recorded := slices.ContainsFunc(series.Catalogue(), func(d series.Definition) bool {
			return d.Name == name && d.Source == series.FromRules
		})
		if recorded {
			continue
		}
		without := slices.DeleteFunc(series.Catalogue(), func(d series.Definition) bool { return d.Name == name })
		if !strings.Contains(checkAll(docs, without).Error(), "there is no series "+name) {
			t.Errorf("%s: nobody notices that it is gone", name)
		}
		for label := range matched {
			if label == model.MetricNameLabel {
				continue
			}
			defs := series.Catalogue()
			for i, d := range defs {
				if d.Name == name {
					defs[i].Labels = slices.DeleteFunc(slices.Clone(d.Labels), func(l string) bool { return l == label })
				}
			}
			if !strings.Contains(checkAll(docs, defs).Error(), name+" has no label "+label) {
				t.Errorf("%s: nobody notices that label %s is gone", name, label)
			}
		}
	}
	defs := series.Catalogue()
	for i, d := range defs {
		defs[i].Labels = slices.DeleteFunc(slices.Clone(d.Labels), func(l string) bool { return l == "district" })
	}
	for _, want := range []string{"label district is none of what is aggregated", "shows label district, which the alert does not have"} {
		if !strings.Contains(checkAll(docs, defs).Error(), want) {
			t.Errorf("without any district nobody says %q", want)
		}
	}
}

// Every alert was seen firing, with all its labels and sentences.
func TestEveryAlertIsTested(t *testing.T) {
	_, tests := ruleFiles(t)
	fired := map[string]bool{}
	for _, f := range tests {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Tests []struct {
				Alerts []struct {
					Name string `yaml:"alertname"`
					Exp  []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			t.Fatal(f, err)
		}
		for _, x := range doc.Tests {
			for _, a := range x.Alerts {
				fired[a.Name] = fired[a.Name] || len(a.Exp) > 0
			}
		}
	}
	n := 0
	for _, g := range groups(t, Files()) {
		for _, r := range g.Rules {
			if r.Alert == "" {
				continue
			}
			n++
			if !fired[r.Alert] {
				t.Errorf("no test sees %s fire", r.Alert)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d alerts", n)
	}
}

func TestWhichGroupsAreOfTheCollector(t *testing.T) {
	got := map[string]bool{}
	for _, g := range groups(t, Files()) {
		got[g.Name] = OfCollector(g)
	}
	want := map[string]bool{"capacity": false, "health": true, "line": false, "probes": true, "speed": false, "usage": false}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestInvalidFiles(t *testing.T) {
	for name, want := range map[string][]string{
		"invalid-yaml.yml": {"invalid-yaml.yml:4: mapping values are not allowed in this context"},
		"invalid-key.yml":  {"invalid-key.yml:5: field exprr not found in type rulefmt.Rule"},
		"invalid-promql.yml": {
			`invalid-promql.yml:5: group "a", rule 1, "a:b:c": could not parse expression: 2:1: parse error: unclosed left parenthesis`},
		"invalid-names.yml": {
			"invalid-names.yml:5: a:b:c: there is no series pantau_vilage_state; did you mean pantau_village_state?",
			"invalid-names.yml:7: a:b:d: pantau_village_state has no label site, but district, province, regency, village",
			"invalid-names.yml:9: a:b:e: label isp is none of what is aggregated",
			"invalid-names.yml:11: a:b:f: label ispp is to be copied from a side that does not have it",
			"invalid-names.yml:13: a:b:g: and is matched on label site, which not both sides have",
			`invalid-names.yml:15: a:b:h: {village="33.10.15.2009"} names no series`,
			"invalid-names.yml:17: a:b:i: there is no series pantau_journal_commit_seconds; did you mean pantau_journal_commit_seconds_bucket?",
		},
		"invalid-alerts.yml": {`invalid-alerts.yml: group "a", rule 3, "Template": annotation "summary": template: __alert_Template:1: unclosed action`},
		"invalid-two.yml":    {"invalid-two.yml: holds more than one document: only the first would count"},
	} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, lines(Check(map[string][]byte{name: raw}))); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}

	raw, err := os.ReadFile("testdata/invalid-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	cut, _, _ := strings.Cut(string(raw), "      - alert: Template")
	if d := cmp.Diff([]string{
		"a.yml:4: alert Bare: label kind is missing: one of quality, capacity, spike, ours",
		"a.yml:4: alert Bare: label severity is missing: one of warning, critical",
		"a.yml:4: alert Bare: annotation summary is missing",
		"a.yml:4: alert Bare: annotation ringkasan is missing",
		"a.yml:4: alert Bare: annotation description is missing",
		"a.yml:4: alert Bare: annotation value is missing",
		`a.yml:6: alert Odd: label kind is "qualitty", not one of quality, capacity, spike, ours`,
		`a.yml:6: alert Odd: label severity is "info", not one of warning, critical`,
		"a.yml:6: alert Odd: label province is lost on the way: nobody would know whom to tell",
		"a.yml:6: alert Odd: label regency is lost on the way: nobody would know whom to tell",
		"a.yml:6: Odd: ringkasan: there is no series pantau_site_infos; did you mean pantau_site_info?",
		"a.yml:6: alert Odd: summary shows label site, which the alert does not have",
		`a.yml:6: alert Odd: value: query query "sum(pantau_site_info": 1:21: parse error: unclosed left parenthesis`,
	}, lines(Check(map[string][]byte{"a.yml": []byte(cut)}))); d != "" {
		t.Error(d)
	}
}

func lines(ps Problems) (out []string) {
	for _, p := range ps {
		out = append(out, p.Error())
	}
	return out
}

// A series that one file records another may read, whichever is first.
func TestFilesKnowEachOther(t *testing.T) {
	files := Overlay(map[string][]byte{
		"a.yml":     []byte("groups: [{name: a, rules: [{record: 'a:x', expr: 'z:x{made_up=\"1\"} > 1'}]}]"),
		"z.yml":     []byte("groups: [{name: z, rules: [{record: 'z:x', expr: 'pantau_village_state'}]}]"),
		"speed.yml": nil,
	})
	// With speed.yml taken out its series are still in the catalogue: what reads them
	// has nothing to read, which is what was asked for.
	if ps := Check(files); len(ps) > 0 {
		t.Error(ps)
	}
}

func TestDirectories(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := Export(dir); err != nil {
		t.Fatal(err)
	}
	if err := Export(dir); err != nil {
		t.Errorf("again: %v", err)
	}
	got, err := ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Files(), got); d != "" {
		t.Error(d)
	}
	if err := os.WriteFile(filepath.Join(dir, "line.yml"), []byte("groups: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "usage.yml")); err != nil {
		t.Fatal(err)
	}
	if err := Export(dir); err == nil || !strings.Contains(err.Error(), "line.yml exists and is another") {
		t.Errorf("over a changed file: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "usage.yml")); err == nil {
		t.Error("a refused export wrote")
	}
	for name, data := range map[string]string{"speed_test.yml": "x", ".speed.yml.swp": "x", ".b.yml": "x", "notes.txt": "x", "mine.yaml": "groups: []"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err = ReadDir(dir)
	if want := []string{"capacity.yml", "health.yml", "line.yml", "mine.yaml", "probes.yml", "speed.yml"}; err != nil || !slices.Equal(want, slices.Sorted(maps.Keys(got))) {
		t.Errorf("read %v, %v", slices.Sorted(maps.Keys(got)), err)
	}
	if string(Overlay(got)["line.yml"]) != "groups: []" || len(Overlay(got)["usage.yml"]) == 0 {
		t.Error("overlay")
	}
	if _, err := ReadDir(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there was read")
	}
	if err := os.WriteFile(filepath.Join(dir, "big.yml"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadDir(dir); err == nil || !strings.Contains(err.Error(), "big.yml") {
		t.Errorf("a file of %d bytes: %v", maxFile+1, err)
	}
}

// Weeks of usage that swells and sinks with the day, through every rule of
// usage.yml as it is, which promtool would need minutes for: the rules are
// evaluated over the hours of the last days that something looks back on. What is
// older is there as they would have recorded it.
func TestUsageFromHistoryToAlert(t *testing.T) {
	const step, day, week = 5 * time.Minute, 24 * time.Hour, 7 * 24 * time.Hour
	begin := time.Unix(0, 0).UTC()
	onset := begin.Add(4*week + 14*time.Hour)
	db, err := tsdb.Open(t.TempDir(), nil, nil, func() *tsdb.Options {
		o := tsdb.DefaultOptions()
		o.RetentionDuration = (100 * day).Milliseconds()
		return o
	}(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: step})
	p := parser.NewParser(parser.Options{})
	m := prules.NewManager(&prules.ManagerOptions{QueryFunc: prules.EngineQueryFunc(engine, db), AppendableV2: db, Queryable: db,
		Context: t.Context(), NotifyFunc: func(context.Context, string, ...*prules.Alert) {}, Parser: p})
	loaded, errs := m.LoadGroups(step, labels.EmptyLabels(), "", nil, false, "usage.yml")
	if errs != nil {
		t.Fatal(errs)
	}
	var usage *prules.Group
	for _, g := range loaded {
		usage = g
	}
	for _, r := range usage.AlertingRules() {
		r.SetRestored(true)
	}

	// Four villages of different size. At the onset the first carries 2.5 times as
	// much; half an hour later all carry 1.35 times as much, which is nothing in a
	// village and much in a district.
	const n, later = 4, 30 * time.Minute
	region := []string{"province", "33", "regency", "33.10", "district", "33.10.15"}
	village := func(i int) string { return fmt.Sprintf("33.10.15.200%d", i) }
	named := func(name string, more ...string) labels.Labels {
		return labels.FromStrings(append(append([]string{model.MetricNameLabel, name}, region...), more...)...)
	}
	rate := func(i int, at time.Time) float64 {
		r := 20e6 * float64(1+i) * (1 + 0.7*math.Sin(2*math.Pi*at.Sub(begin).Hours()/24))
		r *= 1 + 0.01*math.Sin(float64(at.Unix())/977+float64(i)) // repeats neither daily nor weekly
		if i == 0 && !at.Before(onset) {
			r *= 2.5
		} else if !at.Before(onset.Add(later)) {
			r *= 1.35
		}
		return r
	}
	write := func(at time.Time, district bool) {
		app := db.AppenderV2(t.Context())
		put := func(l labels.Labels, v float64) {
			if _, err := app.Append(0, l, 0, at.UnixMilli(), v, nil, nil, storage.AppendV2Options{}); err != nil {
				t.Fatal(err)
			}
		}
		sum := 0.0
		for i := range n {
			put(named("village:pantau_link_receive_bits_per_second:rate5m", "village", village(i)), rate(i, at))
			put(named("pantau_village_state", "village", village(i)), 1)
			sum += rate(i, at)
		}
		if district {
			put(named("district:pantau_link_receive_bits_per_second:rate5m"), sum)
			put(named("district:pantau_link_receive_bits_per_second:villages"), n)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	first := map[string]time.Duration{}
	for at := begin; at.Before(onset.Add(50 * time.Minute)); at = at.Add(step) {
		// The same hours of the last days: 2 h 15 min that a level is made of, and what
		// follows.
		since := at.Sub(onset) % day
		if since < -12*time.Hour {
			since += day
		}
		if since < -155*time.Minute || since > 50*time.Minute {
			continue // nothing looks there
		}
		if at.Before(onset.Add(-5*day - 155*time.Minute)) {
			write(at, true)
			continue
		}
		write(at, false)
		usage.Eval(t.Context(), at)
		for _, r := range usage.Rules() {
			if err := r.LastError(); err != nil {
				t.Fatal(r.Name(), at, err)
			}
		}
		for _, r := range usage.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if a.State != prules.StateFiring {
					continue
				}
				if at.Before(onset) || a.Labels.Get("village") != "" && a.Labels.Get("village") != village(0) {
					t.Fatalf("%v after the onset: %v", at.Sub(onset), a.Labels)
				}
				if _, ok := first[r.Name()]; !ok {
					first[r.Name()] = at.Sub(onset)
				}
			}
		}
	}
	if d := first["UsageFarAboveUsual"]; d <= 0 || d > 15*time.Minute {
		t.Errorf("a village's surge is noticed %v after its onset", d)
	}
	if d := first["DistrictUsageFarAboveUsual"]; d <= later || d > later+15*time.Minute {
		t.Errorf("a district's surge is noticed %v after the first onset", d)
	}
}

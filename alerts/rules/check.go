package rules

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/configs/nearest"
)

// The closed lists of the labels that every alert has.
var (
	kinds      = []string{"quality", "capacity", "spike", "ours"}
	severities = []string{"warning", "critical"}
	// annotations that every alert has.
	annotated = []string{"summary", "ringkasan", "description", "value"}
)

// Problem is one thing wrong with a rule file.
type Problem struct {
	File string
	Line int // 0: of the file as a whole
	What string
}

// Error is the problem in one line, as compilers write it.
func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.What
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What)
}

// Problems are all that is wrong with a set of files, by file and line.
type Problems []Problem

// Error lists them, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Files is the number of files that have a problem.
func (ps Problems) Files() int {
	names := map[string]bool{}
	for _, p := range ps {
		names[p.File] = true
	}
	return len(names)
}

// Check reports everything that is wrong with a set of rule files that are to be
// in force together: what Prometheus would refuse, keys that it does not know,
// series and labels that the catalogue does not have, and alerts that lack what
// the notification relies on.
func Check(files map[string][]byte) Problems {
	docs, problems := parseAll(files)
	problems = append(problems, checkAll(docs, series.Catalogue())...)
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return slices.Compact(problems)
}

// parseAll reads files as Prometheus does; those with a problem are left out.
func parseAll(files map[string][]byte) (map[string]document, Problems) {
	c := checker{parser: parser.NewParser(parser.Options{})}
	docs := map[string]document{}
	for _, c.file = range slices.Sorted(maps.Keys(files)) {
		if doc, ok := c.parse(files[c.file]); ok {
			docs[c.file] = doc
		}
	}
	return docs, c.problems
}

// checkAll holds files against a catalogue.
func checkAll(docs map[string]document, catalogue []series.Definition) Problems {
	c := newChecker(catalogue)
	for _, doc := range docs {
		for _, g := range doc.Groups {
			for _, r := range g.Rules {
				if _, ok := c.known[r.Record.Value]; !ok && r.Record.Value != "" {
					c.known[r.Record.Value] = nil // of labels that nobody declared
				}
			}
		}
	}
	for _, c.file = range slices.Sorted(maps.Keys(docs)) {
		for _, g := range docs[c.file].Groups {
			for _, r := range g.Rules {
				c.rule(g, r)
			}
		}
	}
	return c.problems
}

type document struct {
	Groups []rulefmt.RuleGroupNode `yaml:"groups"`
}

type checker struct {
	parser   parser.Parser
	file     string
	known    map[string]*series.Definition // nil: exists, its labels are not declared
	problems Problems
}

func newChecker(catalogue []series.Definition) *checker {
	c := &checker{parser: parser.NewParser(parser.Options{}), known: map[string]*series.Definition{}}
	for _, d := range catalogue {
		c.know(d)
	}
	c.known[series.Alerts], c.known[series.AlertsForState] = nil, nil
	return c
}

func (c *checker) know(d series.Definition) {
	if d.Type != model.MetricTypeHistogram {
		c.known[d.Name] = &d
		return
	}
	c.known[d.Name+"_sum"], c.known[d.Name+"_count"] = &d, &d
	bucket := d
	bucket.Labels = append(slices.Clone(d.Labels), model.BucketLabel)
	slices.Sort(bucket.Labels)
	c.known[d.Name+"_bucket"] = &bucket
}

func (c *checker) problem(line int, format string, args ...any) {
	c.problems = append(c.problems, Problem{File: c.file, Line: line, What: fmt.Sprintf(format, args...)})
}

// where finds the line that Prometheus' own messages begin with.
var where = regexp.MustCompile(`^(?:yaml: )?(?:unmarshal errors:\s*)?(?:line )?(\d+)(?::\d+)?: `)

// parse reads a file as Prometheus does.
func (c *checker) parse(data []byte) (document, bool) {
	_, errs := rulefmt.Parse(data, false, model.UTF8Validation, c.parser, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		for what := range strings.SplitSeq(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n"), "\n") {
			what = strings.TrimSpace(what)
			line := 0
			if m := where.FindStringSubmatch(what); m != nil {
				line, _ = strconv.Atoi(m[1])
				what = what[len(m[0]):]
			}
			c.problem(line, "%s", what)
		}
	}
	var doc document
	if len(errs) > 0 {
		return doc, false
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	if err := dec.Decode(&doc); err != nil && err != io.EOF {
		c.problem(0, "%v", err)
		return doc, false
	}
	// Prometheus reads the first of several documents and drops the rest silently.
	if dec.Decode(new(yaml.Node)) != io.EOF {
		c.problem(0, "holds more than one document: only the first would count")
	}
	return doc, true
}

// rule checks one rule against the catalogue and the contract.
func (c *checker) rule(g rulefmt.RuleGroupNode, r rulefmt.RuleNode) {
	line := r.Expr.Line
	expr, err := c.parser.ParseExpr(r.Expr.Value)
	if err != nil {
		c.problem(line, "%v", err) // said already by Prometheus
		return
	}
	name := cmp.Or(r.Alert.Value, r.Record.Value)
	out := c.expr(line, name, expr)
	if r.Alert.Value == "" {
		return
	}
	line = r.Alert.Line
	set := maps.Clone(g.Labels)
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, r.Labels)
	c.oneOf(line, name, "kind", set["kind"], kinds)
	c.oneOf(line, name, "severity", set["severity"], severities)
	for _, a := range annotated {
		if strings.TrimSpace(r.Annotations[a]) == "" {
			c.problem(line, "alert %s: annotation %s is missing", name, a)
		}
	}
	for _, l := range []string{"province", "regency"} {
		if set["kind"] != "ours" && !out.has(l) && set[l] == "" {
			c.problem(line, "alert %s: label %s is lost on the way: nobody would know whom to tell", name, l)
		}
	}
	for l := range set {
		out.add(l)
	}
	for _, texts := range []map[string]string{set, r.Annotations} {
		for _, key := range slices.Sorted(maps.Keys(texts)) {
			c.template(line, name, key, texts[key], out)
		}
	}
}

func (c *checker) oneOf(line int, alert, label, value string, list []string) {
	switch {
	case value == "":
		c.problem(line, "alert %s: label %s is missing: one of %s", alert, label, strings.Join(list, ", "))
	case !slices.Contains(list, value):
		c.problem(line, "alert %s: label %s is %q, not one of %s", alert, label, value, strings.Join(list, ", "))
	}
}

var (
	templateLabel = regexp.MustCompile(`(?:\$labels|\.Labels)\.(\w+)`)
	templateQuery = regexp.MustCompile(`(printf\s+)?("(?:[^"\\]|\\.)*"|` + "`[^`]*`" + `)[^|{}"]*\|\s*query\b|query\s+("(?:[^"\\]|\\.)*"|` + "`[^`]*`" + `)`)
	verb          = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
)

// template checks the labels that a template shows, and the queries that are
// written out in it.
func (c *checker) template(line int, alert, key, text string, out labelSet) {
	for _, m := range templateLabel.FindAllStringSubmatch(text, -1) {
		// .Labels is also that of a query's sample; only $labels is the alert's.
		if strings.HasPrefix(m[0], "$") && !out.has(m[1]) {
			c.problem(line, "alert %s: %s shows label %s, which the alert does not have", alert, key, m[1])
		}
	}
	for _, m := range templateQuery.FindAllStringSubmatch(text, -1) {
		query, err := strconv.Unquote(cmp.Or(m[2], m[3]))
		if err == nil && m[1] != "" {
			query = verb.ReplaceAllStringFunc(query, func(v string) string {
				if strings.HasSuffix(v, "q") {
					return `"x"`
				}
				return "1"
			})
		}
		var expr parser.Expr
		if err == nil {
			expr, err = c.parser.ParseExpr(query)
		}
		if err != nil {
			c.problem(line, "alert %s: %s: query %s: %v", alert, key, m[0], err)
			continue
		}
		c.expr(line, alert+": "+key, expr)
	}
}

// labelSet is what labels a vector may have; open: any.
type labelSet struct {
	names map[string]bool
	open  bool
}

func newLabelSet(names ...string) labelSet {
	s := labelSet{names: map[string]bool{}}
	for _, n := range names {
		s.names[n] = true
	}
	return s
}

func (s labelSet) has(l string) bool { return s.open || s.names[l] }
func (s labelSet) add(l string)      { s.names[l] = true }

func (s labelSet) union(t labelSet) labelSet {
	out := labelSet{names: maps.Clone(s.names), open: s.open || t.open}
	maps.Copy(out.names, t.names)
	return out
}

// expr checks the selectors and label names of an expression, and returns the
// labels that its result may have.
func (c *checker) expr(line int, rule string, e parser.Expr) labelSet {
	missing := func(l, of string) { c.problem(line, "%s: label %s is none of %s", rule, l, of) }
	switch e := e.(type) {
	case *parser.VectorSelector:
		return c.selector(line, rule, e)
	case *parser.MatrixSelector:
		return c.expr(line, rule, e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.expr(line, rule, e.Expr)
	case *parser.StepInvariantExpr:
		return c.expr(line, rule, e.Expr)
	case *parser.ParenExpr:
		return c.expr(line, rule, e.Expr)
	case *parser.UnaryExpr:
		return c.expr(line, rule, e.Expr)
	case *parser.AggregateExpr:
		in := c.expr(line, rule, e.Expr)
		if e.Param != nil {
			c.expr(line, rule, e.Param)
		}
		for _, l := range e.Grouping {
			if !in.has(l) {
				missing(l, "what is aggregated")
			}
		}
		switch {
		case e.Op == parser.TOPK || e.Op == parser.BOTTOMK || e.Op == parser.LIMITK || e.Op == parser.LIMIT_RATIO:
			return in
		case e.Without:
			out := in.union(newLabelSet())
			for _, l := range e.Grouping {
				delete(out.names, l)
			}
			return out
		}
		out := newLabelSet(e.Grouping...)
		if s, ok := e.Param.(*parser.StringLiteral); ok && e.Op == parser.COUNT_VALUES {
			out.add(s.Val)
		}
		return out
	case *parser.BinaryExpr:
		return c.binary(line, rule, e)
	case *parser.Call:
		return c.call(line, rule, e)
	}
	return newLabelSet() // a number or a string
}

func (c *checker) binary(line int, rule string, e *parser.BinaryExpr) labelSet {
	l, r := c.expr(line, rule, e.LHS), c.expr(line, rule, e.RHS)
	m := e.VectorMatching
	if m == nil { // with a scalar
		return l.union(r)
	}
	for _, name := range m.MatchingLabels {
		if m.On && (!l.has(name) || !r.has(name)) {
			c.problem(line, "%s: %s is matched on label %s, which not both sides have", rule, e.Op, name)
		}
	}
	switch {
	case e.Op == parser.LOR:
		return l.union(r)
	case e.Op.IsSetOperator():
		return l
	}
	many, one := l, r
	if m.Card == parser.CardOneToMany {
		many, one = r, l
	}
	for _, name := range m.Include {
		if !one.has(name) {
			c.problem(line, "%s: label %s is to be copied from a side that does not have it", rule, name)
		}
	}
	switch {
	case m.Card != parser.CardOneToOne:
		return many.union(newLabelSet(m.Include...))
	case m.On:
		return newLabelSet(m.MatchingLabels...)
	}
	out := l.union(newLabelSet())
	for _, name := range m.MatchingLabels { // ignoring
		delete(out.names, name)
	}
	return out
}

func (c *checker) call(line int, rule string, e *parser.Call) labelSet {
	out := newLabelSet()
	for _, a := range e.Args {
		if t := a.Type(); t == parser.ValueTypeVector || t == parser.ValueTypeMatrix {
			out = out.union(c.expr(line, rule, a))
		} else {
			c.expr(line, rule, a)
		}
	}
	switch e.Func.Name {
	case "scalar", "time", "vector":
		return newLabelSet()
	case "label_replace", "label_join":
		if s, ok := e.Args[1].(*parser.StringLiteral); ok {
			out.add(s.Val)
		}
	}
	return out
}

// selector checks the name and the labels of a selector.
func (c *checker) selector(line int, rule string, v *parser.VectorSelector) labelSet {
	name := v.Name
	for _, m := range v.LabelMatchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			name = m.Value
		}
	}
	if name == "" {
		c.problem(line, "%s: %s names no series", rule, v)
		return labelSet{names: map[string]bool{}, open: true}
	}
	d, ok := c.known[name]
	if !ok {
		hint := ""
		if best, edits := nearest.Of(name, slices.Sorted(maps.Keys(c.known))); edits <= 1+len(name)/4 {
			hint = fmt.Sprintf("; did you mean %s?", best)
		}
		c.problem(line, "%s: there is no series %s%s", rule, name, hint)
		return labelSet{names: map[string]bool{}, open: true}
	}
	if d == nil {
		return labelSet{names: map[string]bool{}, open: true}
	}
	for _, m := range v.LabelMatchers {
		if m.Name != model.MetricNameLabel && !d.Has(m.Name) {
			c.problem(line, "%s: %s has no label %s, but %s", rule, name, m.Name, strings.Join(d.Labels, ", "))
		}
	}
	return newLabelSet(d.Labels...)
}

// OfCollector reports whether all series of a group are the collector's own: it
// is then evaluated whatever the state of the villages' figures.
func OfCollector(g rulefmt.RuleGroup) bool {
	own := map[string]bool{}
	for _, d := range series.Catalogue() {
		if d.Source == series.FromSelf {
			for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
				own[d.Name+suffix] = true
			}
		}
	}
	p := parser.NewParser(parser.Options{})
	all := true
	for _, r := range g.Rules {
		expr, err := p.ParseExpr(r.Expr)
		if err != nil {
			return false
		}
		parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
			if v, ok := n.(*parser.VectorSelector); ok {
				all = all && own[v.Name]
			}
			return nil
		})
	}
	return all
}

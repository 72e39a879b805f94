package rules

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

// Faster returns a rule file in which all that lasts is by times shorter: intervals,
// windows, offsets, waits. A demonstration shows within minutes, on probes that
// measure as much more often, what takes an hour or a week. Durations of less than
// a second become one. What templates look back on stays as it is.
func Faster(data []byte, by int) ([]byte, error) {
	p := parser.NewParser(parser.Options{})
	doc, errs := rulefmt.Parse(data, false, model.UTF8Validation, p, slog.New(slog.DiscardHandler))
	if errs != nil {
		return nil, errs[0]
	}
	if by < 1 {
		return nil, fmt.Errorf("rules: %d times faster is no speed", by)
	}
	short := func(d time.Duration) time.Duration {
		if d == 0 {
			return 0
		}
		sign := d / d.Abs()
		return sign * max(d.Abs()/time.Duration(by), time.Second).Round(time.Second)
	}
	for i := range doc.Groups {
		g := &doc.Groups[i]
		g.Interval = model.Duration(short(time.Duration(g.Interval)))
		if g.QueryOffset != nil {
			o := model.Duration(short(time.Duration(*g.QueryOffset)))
			g.QueryOffset = &o
		}
		for j := range g.Rules {
			r := &g.Rules[j]
			r.For, r.KeepFiringFor = model.Duration(short(time.Duration(r.For))), model.Duration(short(time.Duration(r.KeepFiringFor)))
			expr, err := p.ParseExpr(r.Expr)
			if err != nil {
				return nil, err
			}
			parser.Inspect(expr, func(n parser.Node, _ []parser.Node) error {
				switch n := n.(type) {
				case *parser.MatrixSelector:
					n.Range = short(n.Range)
				case *parser.SubqueryExpr:
					n.Range, n.Step, n.OriginalOffset = short(n.Range), short(n.Step), short(n.OriginalOffset)
				case *parser.VectorSelector:
					n.OriginalOffset = short(n.OriginalOffset)
				}
				return nil
			})
			r.Expr = expr.String()
		}
	}
	return yaml.Marshal(doc)
}

package build

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// source is the data source that the reader chose at the top of the page.
func source() *common.DataSourceRef {
	return &common.DataSourceRef{Type: ptr("prometheus"), Uid: ptr("${datasource}")}
}

// query is one PromQL query of a panel.
type query struct {
	expr   string
	legend string // of its series
	// rows: one row of a table for each series, at the end of the time range.
	rows bool
	// now: at the end of the time range; else over all of it.
	now bool
}

func now(legend, expr string) query  { return query{expr: expr, legend: legend, now: true} }
func over(legend, expr string) query { return query{expr: expr, legend: legend} }

func targets(qs []query) []variants.Dataquery {
	var out []variants.Dataquery
	for i, q := range qs {
		instant := q.now || q.rows
		format := prometheus.PromQueryFormatTimeSeries
		if q.rows {
			format = prometheus.PromQueryFormatTable
		}
		out = append(out, prometheus.Dataquery{Datasource: source(), RefId: ptr(refID(i)), Expr: q.expr, LegendFormat: &q.legend,
			Instant: &instant, Range: ptr(!instant), Format: &format, EditorMode: ptr(prometheus.QueryEditorModeCode), Exemplar: ptr(false)})
	}
	return out
}

// refID numbers queries as Grafana does: A, B, ...
func refID(i int) string { return string(rune('A' + i)) }

func panel(kind, title, description string, width uint32, qs []query) dashboard.Panel {
	return dashboard.Panel{Type: kind, Title: &title, Description: &description, Datasource: source(), Targets: targets(qs),
		GridPos: &dashboard.GridPos{W: width}, FieldConfig: &dashboard.FieldConfigSource{
			Defaults:  dashboard.FieldConfig{NoValue: ptr(noneYet), Color: fixed(ink)},
			Overrides: []dashboard.DashboardFieldConfigSourceOverrides{}}}
}

func fixed(color string) *dashboard.FieldColor {
	return &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdFixed, FixedColor: &color}
}

func byThreshold() *dashboard.FieldColor {
	return &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdThresholds}
}

// property is one setting of a field.
type property = dashboard.DynamicConfigValue

func set(id string, value any) property { return property{Id: id, Value: value} }

// override sets properties of the field with that name.
func override(p *dashboard.Panel, field string, props ...property) {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, dashboard.DashboardFieldConfigSourceOverrides{
		Matcher: dashboard.MatcherConfig{Id: "byName", Options: field}, Properties: props})
}

// overrideLike is override for all fields whose name matches a regular expression.
func overrideLike(p *dashboard.Panel, pattern string, props ...property) {
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, dashboard.DashboardFieldConfigSourceOverrides{
		Matcher: dashboard.MatcherConfig{Id: "byRegexp", Options: "/" + pattern + "/"}, Properties: props})
}

// figure is one value of a stat panel.
type figure struct {
	query
	unit       string
	decimals   float64
	thresholds *dashboard.ThresholdsConfig // nil: ink
	mappings   []dashboard.ValueMapping
	noValue    string // empty: noneYet
}

// stats is a panel of figures side by side, each with its name.
func stats(title, description string, width uint32, figures ...figure) dashboard.Panel {
	var qs []query
	for _, f := range figures {
		f.now = true
		qs = append(qs, f.query)
	}
	p := panel("stat", title, description, width, qs)
	p.Options = stat.Options{GraphMode: common.BigValueGraphModeNone, ColorMode: common.BigValueColorModeValue,
		JustifyMode: common.BigValueJustifyModeCenter, TextMode: common.BigValueTextModeValueAndName, WideLayout: false,
		ReduceOptions:          common.ReduceDataOptions{Values: ptr(false), Calcs: []string{"lastNotNull"}, Fields: ptr("")},
		PercentChangeColorMode: common.PercentChangeColorModeStandard, Orientation: common.VizOrientationAuto}
	p.FieldConfig.Defaults.Color = byThreshold()
	p.FieldConfig.Defaults.Thresholds = thresholds(ink)
	for _, f := range figures {
		props := []property{set("unit", f.unit), set("decimals", f.decimals)}
		if f.thresholds != nil {
			props = append(props, set("thresholds", f.thresholds))
		}
		if f.mappings != nil {
			props = append(props, set("mappings", f.mappings))
		}
		if f.noValue != "" {
			props = append(props, set("noValue", f.noValue))
		}
		override(&p, f.legend, props...)
	}
	if len(figures) == 1 { // the title of the panel is its name
		o := p.Options.(stat.Options)
		o.TextMode = common.BigValueTextModeValue
		p.Options = o
	}
	return p
}

// sized fixes the sizes of names and values, in pixels: where Grafana chooses them,
// names of many figures on a phone are too small to read.
func sized(p dashboard.Panel, title, value float64) dashboard.Panel {
	o := p.Options.(stat.Options)
	o.Text = &common.VizTextDisplayOptions{TitleSize: &title, ValueSize: &value}
	p.Options = o
	return p
}

// chart is a time series panel. Nothing is joined across a gap.
func chart(title, description, unit string, width uint32, qs ...query) dashboard.Panel {
	p := panel("timeseries", title, description, width, qs)
	legend := common.VizLegendOptions{DisplayMode: common.LegendDisplayModeList, Placement: common.LegendPlacementBottom, ShowLegend: true, Calcs: []string{}}
	p.Options = timeseries.Options{Legend: legend, Tooltip: tooltip()}
	d := &p.FieldConfig.Defaults
	d.Unit, d.Min = &unit, ptr(0.0)
	d.Color = &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdPaletteClassicByName}
	d.Custom = timeseries.FieldConfig{DrawStyle: ptr(common.GraphDrawStyleLine), LineWidth: ptr(1.5), FillOpacity: ptr(0.0),
		LineInterpolation: ptr(common.LineInterpolationLinear), ShowPoints: ptr(common.VisibilityModeNever), PointSize: ptr(5.0),
		SpanNulls: &common.BoolOrFloat64{Bool: ptr(false)}, AxisGridShow: ptr(true)}
	return p
}

func tooltip() common.VizTooltipOptions {
	return common.VizTooltipOptions{Mode: common.TooltipDisplayModeMulti, Sort: common.SortOrderNone}
}

// What tells lines apart: a colour for the first ones, then the dash.
func dashed() property {
	return set("custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{8, 6}})
}
func dotted() property {
	return set("custom.lineStyle", map[string]any{"fill": "dot", "dash": []int{0, 6}})
}
func colored(color string) property { return set("color", fixed(color)) }

// points draws single measurements, not a line.
func points() []property {
	return []property{set("custom.drawStyle", "points"), set("custom.showPoints", "always"), set("custom.pointSize", 6)}
}

// stacked draws areas on top of each other, in steps: for counts that add up.
func stacked(p *dashboard.Panel) {
	c := p.FieldConfig.Defaults.Custom.(timeseries.FieldConfig)
	c.Stacking = &common.StackingConfig{Mode: ptr(common.StackingModeNormal), Group: ptr("A")}
	c.FillOpacity, c.LineInterpolation, c.LineWidth = ptr(70.0), ptr(common.LineInterpolationStepAfter), ptr(0.0)
	p.FieldConfig.Defaults.Custom = c
}

// timeline draws codes as bars of words and colours, one row a series.
func timeline(title, description string, width uint32, maps []dashboard.ValueMapping, qs ...query) dashboard.Panel {
	p := panel("state-timeline", title, description, width, qs)
	p.Options = statetimeline.Options{ShowValue: common.VisibilityModeAuto, RowHeight: 0.8, MergeValues: ptr(true),
		AlignValue: ptr(common.TimelineValueAlignmentCenter), Tooltip: tooltip(), PerPage: ptr(20.0),
		Legend: common.VizLegendOptions{DisplayMode: common.LegendDisplayModeList, Placement: common.LegendPlacementBottom, ShowLegend: true, Calcs: []string{}}}
	d := &p.FieldConfig.Defaults
	d.Mappings, d.Color, d.Thresholds = maps, byThreshold(), thresholds(grey)
	d.Custom = statetimeline.FieldConfig{LineWidth: ptr(uint32(0)), FillOpacity: ptr(uint32(85))} // and nothing is joined across a gap
	return p
}

// column is one column of a table: a label, or the value of a query.
type column struct {
	field string // a label, or what Grafana calls a query's value
	name  string // heading
	width int    // pixels; 0: as there is room
	props []property
}

func label(field, name string, width int, props ...property) column {
	return column{field, name, width, props}
}

// value is the value of the i-th query of a table of n.
func value(i, n int, name string, width int, props ...property) column {
	field := "Value"
	if n > 1 {
		field += " #" + refID(i)
	}
	return column{field, name, width, props}
}

// number is a column's unit and decimals, aligned to the right.
func number(u string, decimals int) []property {
	return []property{set("unit", u), set("decimals", decimals), set("custom.align", "right")}
}

// painted colours the text of a cell by its mapping or threshold.
func painted() []property {
	return []property{set("custom.cellOptions", map[string]any{"type": "color-text"}), set("color", byThreshold())}
}

// tabular is a table whose rows are what the queries have in common: series of
// several queries with the same labels are one row.
func tabular(title, description string, width uint32, qs []query, columns []column, sort ...common.TableSortByFieldState) dashboard.Panel {
	for i := range qs {
		qs[i].rows = true
	}
	p := panel("table", title, description, width, qs)
	p.Options = table.Options{ShowHeader: true, CellHeight: ptr(common.TableCellHeightSm), SortBy: sort,
		Footer: &common.TableFooterOptions{Show: false, Reducer: []string{"sum"}, CountRows: ptr(false)}}
	p.FieldConfig.Defaults.Custom = table.FieldConfig{Align: common.FieldTextAlignmentAuto, Inspect: false,
		CellOptions: &common.TableCellOptions{TableAutoCellOptions: &common.TableAutoCellOptions{Type: "auto"}}}
	names, order, rename := []string{}, map[string]int{}, map[string]string{}
	for i, c := range columns {
		names = append(names, c.field)
		order[c.field] = i
		rename[c.field] = c.name
		props := c.props
		if c.width > 0 {
			props = append(props, set("custom.width", c.width))
		}
		if len(props) > 0 {
			override(&p, c.name, props...)
		}
	}
	if len(qs) > 1 {
		p.Transformations = append(p.Transformations, dashboard.DataTransformerConfig{Id: "merge", Options: map[string]any{}})
	}
	p.Transformations = append(p.Transformations,
		dashboard.DataTransformerConfig{Id: "filterFieldsByName", Options: map[string]any{"include": map[string]any{"names": names}}},
		dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]any{}, "indexByName": order, "renameByName": rename}})
	return p
}

func sortBy(column string, descending bool) common.TableSortByFieldState {
	return common.TableSortByFieldState{DisplayName: column, Desc: &descending}
}

// link leads to another place; it goes where the reader's time range goes.
func link(title, url string) map[string]any {
	return map[string]any{"title": title, "url": url, "targetBlank": false}
}

// toDashboard is a link at the top of the page, with the time range and the
// variables of this one.
func toDashboard(title, uid, tip string) dashboard.DashboardLink {
	return dashboard.DashboardLink{Title: title, Type: dashboard.DashboardLinkTypeLink, Icon: "dashboard", Tooltip: tip,
		Url: ptr(fmt.Sprintf("/d/%s", uid)), Tags: []string{}, IncludeVars: true, KeepTime: true}
}

func custom(p *dashboard.Panel) timeseries.FieldConfig {
	return p.FieldConfig.Defaults.Custom.(timeseries.FieldConfig)
}

func setCustom(p *dashboard.Panel, c timeseries.FieldConfig) { p.FieldConfig.Defaults.Custom = c }

// axis makes the axis reach to at least top, so that little looks little.
func axis(p *dashboard.Panel, top float64) {
	c := custom(p)
	c.AxisSoftMax = &top
	setCustom(p, c)
}

func thresholdLine() *common.GraphThresholdsStyleConfig {
	return &common.GraphThresholdsStyleConfig{Mode: common.GraphThresholdsStyleModeDashed}
}

func hideLegend(p dashboard.Panel) dashboard.Panel {
	o := p.Options.(statetimeline.Options)
	o.Legend.ShowLegend = false
	p.Options = o
	return p
}

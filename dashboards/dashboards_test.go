package dashboards_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/geomap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"

	"github.com/pantau-desa/pantau/dashboards"
	"github.com/pantau-desa/pantau/dashboards/build"
)

// The committed JSON is what the code makes.
func TestNoDrift(t *testing.T) {
	made, err := build.Files()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range made {
		names = append(names, f.Name)
		committed, err := fs.ReadFile(dashboards.Files(), "json/"+f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(committed), string(f.JSON)); diff != "" {
			t.Errorf("%s: run 'make generate': committed (-), made (+)\n%s", f.Name, diff)
		}
	}
	there, err := fs.Glob(dashboards.Files(), "json/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range there {
		if !slices.Contains(names, path.Base(name)) {
			t.Errorf("%s is made by nobody", name)
		}
	}
	if build.Pages != dashboards.DefaultCollector {
		t.Errorf("the dashboards lead to %s, an export replaces %s", build.Pages, dashboards.DefaultCollector)
	}
}

// board is a committed dashboard as JSON.
type board struct {
	UID           string `json:"uid"`
	Title         string
	Description   string
	SchemaVersion int
	Editable      *bool
	Panels        []panel
	Links         []link
	Templating    struct {
		List []choice
	}
}

type choice struct {
	Name, Label, Type string
	Hide, Refresh     int
	Regex             string
	Datasource        *ref
}

type ref struct{ Type, UID string }

type link struct {
	Title, Tooltip, URL string
	Placement           *string
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Collapsed                bool
	GridPos                  struct{ X, Y, W, H int }
	Datasource               *ref
	Targets                  []struct {
		RefID        string `json:"refId"`
		Expr         string
		LegendFormat string
		Format       string
		Datasource   *ref
	}
	FieldConfig struct {
		Defaults struct {
			Unit, NoValue string
			Mappings      []valueMapping
			Links         []link
			Custom        struct{ SpanNulls any }
		}
		Overrides []struct {
			Matcher    struct{ Options any }
			Properties []struct {
				ID    string `json:"id"`
				Value json.RawMessage
			}
		}
	}
	Options struct {
		Legend  *struct{ ShowLegend bool }
		Tooltip *struct{ Mode string }
		SortBy  []struct{ DisplayName string }
	}
	Transformations []struct {
		ID      string `json:"id"`
		Options struct{ RenameByName map[string]string }
	}
	Panels []panel
}

type valueMapping struct {
	Type    string
	Options json.RawMessage
}

func boards(t *testing.T) map[string]board {
	t.Helper()
	names, err := fs.Glob(dashboards.Files(), "json/*.json")
	if err != nil || len(names) == 0 {
		t.Fatal("no dashboards", err)
	}
	out := map[string]board{}
	for _, name := range names {
		raw, err := fs.ReadFile(dashboards.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		var b board
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[strings.TrimSuffix(path.Base(name), ".json")] = b
	}
	return out
}

// all lists every panel but rows, those in collapsed rows included.
func (b board) all() []panel {
	var out []panel
	for _, p := range b.Panels {
		if p.Type != "row" {
			out = append(out, p)
		}
		out = append(out, p.Panels...)
	}
	return out
}

// The SDK's types, which are the schema of Grafana 11.6, know every field: one that
// they do not know would be lost on the way through them.
func TestSchema(t *testing.T) {
	rt := cog.NewRuntime()
	rt.RegisterDataqueryVariant(prometheus.VariantConfig())
	for _, c := range []variants.PanelcfgConfig{stat.VariantConfig(), statetimeline.VariantConfig(), table.VariantConfig(),
		timeseries.VariantConfig(), geomap.VariantConfig()} {
		rt.RegisterPanelcfgVariant(c)
	}
	names, _ := fs.Glob(dashboards.Files(), "json/*.json")
	for _, name := range names {
		raw, err := fs.ReadFile(dashboards.Files(), name)
		if err != nil {
			t.Fatal(err)
		}
		//lint:ignore SA1019 the form that Grafana 11.6 reads
		var d dashboard.Dashboard
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := d.Validate(); err != nil && err.Error() != "" {
			t.Errorf("%s: %v", name, err)
		}
		if d.SchemaVersion > 41 {
			t.Errorf("%s: schema %d: Grafana 11.6 and 12 share 41", name, d.SchemaVersion)
		}
		again, err := json.Marshal(d)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var was, is any
		if err := errors.Join(json.Unmarshal(raw, &was), json.Unmarshal(again, &is)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(was, is); diff != "" {
			t.Errorf("%s: the schema does not know (-), or wants (+)\n%s", name, diff)
		}
	}
}

func TestNumbersAndPlaces(t *testing.T) {
	uids := map[string]string{}
	for name, b := range boards(t) {
		if b.UID == "" || uids[b.UID] != "" {
			t.Errorf("%s: uid %q is missing or that of %s", name, b.UID, uids[b.UID])
		}
		uids[b.UID] = name
		ids := map[int]bool{}
		seen := func(p panel) {
			if p.ID <= 0 || ids[p.ID] {
				t.Errorf("%s: %s: id %d is missing or taken", name, p.Title, p.ID)
			}
			ids[p.ID] = true
		}
		// What is open together must not overlap: the panels of a collapsed row
		// stand below it, and push the rest down when it is opened.
		var open []panel
		for _, p := range b.Panels {
			seen(p)
			open = append(open, p)
			for _, q := range p.Panels {
				seen(q)
				if q.GridPos.Y <= p.GridPos.Y {
					t.Errorf("%s: %s stands above its row", name, q.Title)
				}
			}
			noOverlap(t, name, p.Panels)
			if p.Type == "row" && p.Collapsed != (len(p.Panels) > 0) {
				t.Errorf("%s: row %s: collapsed %v with %d panels of its own", name, p.Title, p.Collapsed, len(p.Panels))
			}
		}
		noOverlap(t, name, open)
	}
}

func noOverlap(t *testing.T, name string, ps []panel) {
	t.Helper()
	for i, p := range ps {
		a := p.GridPos
		if a.W <= 0 || a.H <= 0 || a.X < 0 || a.Y < 0 || a.X+a.W > 24 {
			t.Errorf("%s: %s is not on the grid: %+v", name, p.Title, a)
		}
		for _, q := range ps[:i] {
			b := q.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s: %s and %s overlap", name, p.Title, q.Title)
			}
		}
	}
}

// Each panel says what it shows, from the chosen data source, with what a reader
// needs: names of series, a tooltip, a word for no value, no line across a gap.
func TestPanelsAreWhole(t *testing.T) {
	for name, b := range boards(t) {
		if b.Description == "" || b.Editable == nil || *b.Editable {
			t.Errorf("%s: has no description, or can be edited in place", name)
		}
		for _, v := range b.Templating.List {
			// Names and places are those of the end of the time range.
			if v.Type == "query" && (v.Refresh != 2 || v.Label == "" || v.Datasource == nil || v.Datasource.UID != "${datasource}") {
				t.Errorf("%s: variable %s: %+v", name, v.Name, v)
			}
		}
		titles := map[string]bool{}
		for _, p := range b.all() {
			at := name + ": " + p.Title
			if p.Title == "" || titles[p.Title] {
				t.Errorf("%s: title is missing or taken", at)
			}
			titles[p.Title] = true
			if len(p.Description) < 30 {
				t.Errorf("%s: description %q", at, p.Description)
			}
			if p.Datasource == nil || *p.Datasource != (ref{"prometheus", "${datasource}"}) {
				t.Errorf("%s: data source %v", at, p.Datasource)
			}
			if p.FieldConfig.Defaults.NoValue == "" {
				t.Errorf("%s: no word for no value", at)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] {
					t.Errorf("%s: refId %q is missing or taken", at, q.RefID)
				}
				refs[q.RefID] = true
				if q.Datasource == nil || *q.Datasource != *p.Datasource {
					t.Errorf("%s: query %s: data source %v", at, q.RefID, q.Datasource)
				}
				if q.Format == "time_series" && q.LegendFormat == "" {
					t.Errorf("%s: series of query %s have no name", at, q.RefID)
				}
			}
			if len(refs) == 0 {
				t.Errorf("%s: asks nothing", at)
			}
			switch p.Type {
			case "timeseries", "state-timeline":
				if p.Options.Tooltip == nil || p.Options.Tooltip.Mode != "multi" || p.Options.Legend == nil {
					t.Errorf("%s: tooltip %v, legend %v", at, p.Options.Tooltip, p.Options.Legend)
				}
				if joins := p.FieldConfig.Defaults.Custom.SpanNulls; joins != false && joins != nil {
					t.Errorf("%s: joins values across a gap", at)
				}
			}
			if p.Type == "timeseries" && p.FieldConfig.Defaults.Unit == "" {
				t.Errorf("%s: no unit", at)
			}
			whole(t, at, p)
		}
	}
}

// whole: an override, an order or a link that names a field which is not there
// does nothing, without a word.
func whole(t *testing.T, at string, p panel) {
	t.Helper()
	var fields []string
	for _, q := range p.Targets {
		fields = append(fields, q.LegendFormat)
	}
	for _, tr := range p.Transformations {
		for _, to := range tr.Options.RenameByName {
			fields = append(fields, to)
		}
	}
	for _, o := range p.FieldConfig.Overrides {
		m, ok := o.Matcher.Options.(string)
		if re, isRegexp := strings.CutPrefix(m, "/"); isRegexp && strings.HasSuffix(re, "/") {
			if !slices.ContainsFunc(fields, regexp.MustCompile(strings.TrimSuffix(re, "/")).MatchString) {
				t.Errorf("%s: override of %s meets no field of %q", at, m, fields)
			}
		} else if !ok || !slices.Contains(fields, m) {
			t.Errorf("%s: override of %v meets no field of %q", at, o.Matcher.Options, fields)
		}
		for _, prop := range o.Properties {
			for _, f := range regexp.MustCompile(`__data\.fields\[\\"([^"]+)\\"\]`).FindAllSubmatch(prop.Value, -1) {
				if !slices.Contains(fields, string(f[1])) {
					t.Errorf("%s: a link names field %q, which is not among %q", at, f[1], fields)
				}
			}
		}
	}
	for _, s := range p.Options.SortBy {
		if !slices.Contains(fields, s.DisplayName) {
			t.Errorf("%s: is sorted by %q, which is not there", at, s.DisplayName)
		}
	}
}

// Links lead to dashboards that exist, with variables that both sides have.
func TestLinks(t *testing.T) {
	bs := boards(t)
	byUID := map[string]board{}
	for _, b := range bs {
		byUID[b.UID] = b
	}
	has := func(b board, name string) bool {
		return slices.ContainsFunc(b.Templating.List, func(v choice) bool { return v.Name == name })
	}
	target := regexp.MustCompile(`/d/([\w-]+)`)
	given := regexp.MustCompile(`[?&]var-(\w+)=`)
	taken := regexp.MustCompile(`\$\{(\w+)\}`)
	n := 0
	for name, b := range bs {
		var urls []string
		for _, l := range b.Links {
			if l.Placement != nil || l.Tooltip == "" {
				t.Errorf("%s: link %s: placement %v, tooltip %q", name, l.Title, l.Placement, l.Tooltip)
			}
			urls = append(urls, l.URL)
		}
		for _, p := range b.all() {
			for _, o := range p.FieldConfig.Overrides {
				for _, prop := range o.Properties {
					var ls []link
					if prop.ID == "links" && json.Unmarshal(prop.Value, &ls) == nil {
						for _, l := range ls {
							urls = append(urls, l.URL)
						}
					}
				}
			}
		}
		for _, u := range urls {
			n++
			for _, v := range taken.FindAllStringSubmatch(u, -1) {
				if !strings.HasPrefix(v[1], "__") && !has(b, v[1]) {
					t.Errorf("%s: %s takes $%s, which is not there", name, u, v[1])
				}
			}
			m := target.FindStringSubmatch(u)
			if m == nil {
				if !strings.HasPrefix(u, "${halaman}/") {
					t.Errorf("%s: %s leads to no dashboard and no page", name, u)
				}
				continue
			}
			to, ok := byUID[m[1]]
			if !ok {
				t.Errorf("%s: %s leads nowhere", name, u)
				continue
			}
			for _, v := range given.FindAllStringSubmatch(u, -1) {
				if !has(to, v[1]) {
					t.Errorf("%s: %s gives $%s, which is not there", name, u, v[1])
				}
			}
		}
	}
	if n < 6 {
		t.Errorf("only %d links", n)
	}
}

// Each colour is at least 3:1 on both of Grafana's surfaces: they are the same in
// its light and dark theme.
func TestContrast(t *testing.T) {
	colors := map[string]bool{}
	names, _ := fs.Glob(dashboards.Files(), "json/*.json")
	for _, name := range names {
		raw, _ := fs.ReadFile(dashboards.Files(), name)
		for _, c := range regexp.MustCompile(`#[0-9A-Fa-f]{6}`).FindAllString(string(raw), -1) {
			colors[c] = true
		}
	}
	if len(colors) < 4 {
		t.Fatalf("only %d colours", len(colors))
	}
	for c := range colors {
		for _, surface := range []string{"#FFFFFF", "#181B1F"} {
			if r := contrast(t, c, surface); r < 3 {
				t.Errorf("%s on %s: %.2f", c, surface, r)
			}
		}
	}
}

// contrast is that of WCAG 2.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

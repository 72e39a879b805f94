// Package build makes the Grafana dashboards: what they ask, in PromQL, and how
// it is shown.
//
// It guarantees that no panel makes up a value: what is not known has a word and
// the grey of the unknown, sparse figures stand beside their number and age, and a
// zero is shown only where states or counters say that it is one. Panels, queries
// and places on the grid are numbered in the order in which they are written, so
// that the same code makes the same bytes.
//
// The dashboards are classic JSON of schema 41: Grafana 11.6 and every later one
// read it. Metric names are text here; a test holds them against the catalogue.
package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// File is one generated dashboard.
type File struct {
	Name string // of the file
	JSON []byte
}

// Files makes every dashboard, in the order in which they are listed to people.
func Files() ([]File, error) {
	var out []File
	for _, d := range []struct {
		name string
		make func() classic
	}{
		{"ringkasan-kabupaten.json", regency},
		{"desa.json", village},
		{"pengumpul.json", collector},
	} {
		raw, err := encode(d.make())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
		out = append(out, File{d.name, raw})
	}
	return out, nil
}

// classic is the form that Grafana 11.6 reads. The SDK would rather have everybody
// at the next one, which only Grafana 12 and later know.
//
//lint:ignore SA1019 on purpose
type classic = dashboard.Dashboard

// encode writes & and < as they are: JSON for people to read and to compare.
func encode(d classic) ([]byte, error) {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return nil, err
	}
	// Parts with a marshaller of their own come escaped all the same.
	plain := strings.NewReplacer(`\u0026`, "&", `\u003c`, "<", `\u003e`, ">").Replace(raw.String())
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(plain), "", "  "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Dashboards know each other by these.
const (
	regencyUID   = "pantau-kabupaten"
	villageUID   = "pantau-desa"
	collectorUID = "pantau-pengumpul"

	// schema is the last one of the classic form that Grafana 11.6 and 12 share.
	schema = 41
)

// page is what the dashboards have in common.
type page struct {
	uid, title, description string
	from                    string // of the time range, such as now-24h
	variables               []dashboard.VariableModel
	links                   []dashboard.DashboardLink
	sections                []section
}

// section is a row of the dashboard with its panels, laid out in lines. A
// collapsed one sends no query until it is opened.
type section struct {
	title     string // empty: no row above the panels
	collapsed bool
	lines     []line
}

// line is panels side by side, all of one height in grid units of 30 px.
type line struct {
	height uint32
	panels []dashboard.Panel // their width is set
}

// columns is the width of Grafana's grid.
const columns = 24

func (p page) dashboard() classic {
	d := classic{
		Uid: &p.uid, Title: &p.title, Description: &p.description, Tags: []string{"pantau-desa"},
		Timezone: ptr("browser"), Editable: ptr(false), GraphTooltip: ptr(dashboard.DashboardCursorSyncCrosshair),
		Time:       &dashboard.DashboardDashboardTime{From: p.from, To: "now"},
		Timepicker: &dashboard.TimePickerConfig{RefreshIntervals: []string{"30s", "1m", "5m", "15m", "1h"}},
		WeekStart:  ptr("monday"), Refresh: ptr("1m"), SchemaVersion: schema, Version: ptr(uint32(1)),
		Templating:  dashboard.DashboardDashboardTemplating{List: p.variables},
		Annotations: dashboard.AnnotationContainer{List: []dashboard.AnnotationQuery{}},
		Links:       p.links,
	}
	var id, y uint32
	next := func() uint32 { id++; return id }
	for _, s := range p.sections {
		row := &dashboard.RowPanel{Type: "row", Title: &s.title, Collapsed: s.collapsed, Panels: []dashboard.Panel{}}
		if s.title != "" {
			row.Id = next()
			row.GridPos = &dashboard.GridPos{H: 1, W: columns, Y: y}
			d.Panels = append(d.Panels, dashboard.PanelOrRowPanel{RowPanel: row})
			y++
		}
		start := y
		for _, l := range s.lines {
			var x uint32
			for _, panel := range l.panels {
				panel.Id = ptr(next())
				panel.GridPos = &dashboard.GridPos{H: l.height, W: panel.GridPos.W, X: x, Y: y}
				x += panel.GridPos.W
				if s.collapsed {
					row.Panels = append(row.Panels, panel)
				} else {
					d.Panels = append(d.Panels, dashboard.PanelOrRowPanel{Panel: &panel})
				}
			}
			y += l.height
		}
		if s.collapsed {
			y = start // its panels have their place once it is opened
		}
	}
	return d
}

func ptr[T any](x T) *T { return &x }

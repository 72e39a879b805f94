package dashboards_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/pantau-desa/pantau/dashboards"
)

// An export is the committed files, and nothing outside its folder.
func TestExport(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "a folder")
	written, err := dashboards.Export(dashboards.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	there := 0
	err = filepath.WalkDir(above, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		there++
		rel, err := filepath.Rel(dir, name)
		if err != nil || strings.HasPrefix(rel, "..") {
			t.Errorf("%s is outside the folder", name)
		}
		is, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		was, err := fs.ReadFile(dashboards.Files(), filepath.ToSlash(rel))
		if err != nil {
			return err
		}
		if was = bytes.ReplaceAll(was, []byte(dashboards.DefaultDir), []byte(dir)); strings.HasSuffix(name, ".yaml") && !bytes.Equal(was, is) {
			t.Errorf("%s is not as committed", rel)
		}
		return nil
	})
	if err != nil || there != len(written) || there < 7 {
		t.Fatalf("%d files there, %d written: %v", there, len(written), err)
	}
}

// Addresses and paths that were asked for are everywhere, the default ones nowhere.
func TestExportTo(t *testing.T) {
	dir := t.TempDir()
	_, err := dashboards.Export(dashboards.Options{Dir: dir, DataSource: "http://10.0.0.5:7480/", Pages: "https://pantau.example.id/desa"})
	if err != nil {
		t.Fatal(err)
	}
	has := func(name, what string) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(raw, []byte(what)) || bytes.Contains(raw, []byte(dashboards.DefaultCollector)) || bytes.Contains(raw, []byte(dashboards.DefaultDir)) {
			t.Errorf("%s: without %q, or with a default", name, what)
		}
	}
	has("json/desa.json", `"https://pantau.example.id/desa"`)
	has("json/ringkasan-kabupaten.json", `"https://pantau.example.id/desa"`)
	has("provisioning/datasources/pantau-desa.yaml", `url: "http://10.0.0.5:7480"`)
	has("provisioning/dashboards/pantau-desa.yaml", `path: "`+dir+`/json"`)
	has("compose.yaml", dir+"/json")
}

func TestExportRefuses(t *testing.T) {
	for _, o := range []dashboards.Options{
		{DataSource: "10.0.0.5:7480"}, {DataSource: "ftp://10.0.0.5"}, {DataSource: "http://user:secret@10.0.0.5"}, {Pages: "http://a\"b"},
		{Pages: "http://10.0.0.5/?a=1"}, {Pages: "http://"}, {Pages: "http://$HOST"}, {Dir: "a$b"}, {Dir: "a:b"}, {Dir: "a\"b"},
	} {
		o.Dir = filepath.Join(t.TempDir(), o.Dir, "out")
		if written, err := dashboards.Export(o); err == nil || len(written) > 0 {
			t.Errorf("%+v: %v, %v", o, written, err)
		}
		if _, err := os.Stat(o.Dir); err == nil {
			t.Errorf("%+v: wrote something", o)
		}
	}
}

// What Grafana must be told for the pages to work.
func TestProvisioning(t *testing.T) {
	load := func(name string, into any) {
		t.Helper()
		raw, err := fs.ReadFile(dashboards.Files(), name)
		if err == nil {
			dec := yaml.NewDecoder(bytes.NewReader(raw))
			err = dec.Decode(into)
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	var sources struct {
		Datasources []struct {
			UID, Type, Access, URL string
			IsDefault              bool           `yaml:"isDefault"`
			JSONData               map[string]any `yaml:"jsonData"`
		}
	}
	load("provisioning/datasources/pantau-desa.yaml", &sources)
	if len(sources.Datasources) != 1 {
		t.Fatal(sources)
	}
	s := sources.Datasources[0]
	if s.UID != "pantau" || s.Type != "prometheus" || s.Access != "proxy" || s.URL != dashboards.DefaultCollector {
		t.Errorf("%+v", s)
	}
	for key, want := range map[string]any{"httpMethod": "POST", "prometheusType": "Prometheus", "prometheusVersion": "3.0.0",
		"timeInterval": "60s", "incrementalQuerying": false, "manageAlerts": false} {
		if s.JSONData[key] != want {
			t.Errorf("%s is %v, not %v", key, s.JSONData[key], want)
		}
	}
	// The dashboards' own choice of a data source begins with this one.
	for name, b := range boards(t) {
		raw, err := fs.ReadFile(dashboards.Files(), "json/"+name+".json")
		if err != nil || b.Templating.List[0].Name != "datasource" || b.Templating.List[0].Type != "datasource" || !bytes.Contains(raw, []byte(`"value": "pantau"`)) {
			t.Errorf("%s: the first variable is no data source, or not preset: %v", name, err)
		}
	}
	var providers struct {
		Providers []struct {
			Type    string
			Options struct{ Path string }
		}
	}
	load("provisioning/dashboards/pantau-desa.yaml", &providers)
	if len(providers.Providers) != 1 || providers.Providers[0].Options.Path != dashboards.DefaultDir+"/json" {
		t.Errorf("%+v", providers)
	}
	var compose struct {
		Services map[string]struct{ Volumes []string }
	}
	load("compose.yaml", &compose)
	mounts := strings.Join(compose.Services["grafana"].Volumes, " ")
	for _, m := range []string{"./provisioning:/etc/grafana/provisioning:ro", "./json:" + dashboards.DefaultDir + "/json:ro"} {
		if !strings.Contains(mounts, m) {
			t.Errorf("%s is not among %s", m, mounts)
		}
	}
}

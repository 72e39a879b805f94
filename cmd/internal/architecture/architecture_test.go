// Package architecture holds the shape of the house: what may stand at the top,
// which room may know which, and what the probe may never carry.
package architecture

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pantau-desa/pantau/"

func root(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "probe", "collector", "alerts", "dashboards", "configs", "go.mod", "go.sum", "README.md",
		"Makefile", "DESIGN.md", "LICENSE",
		"bin"} // built, never committed
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s: the top level is fixed: %s", e.Name(), strings.Join(allowed, " "))
		}
	}
}

// rule says what a folder may import of this module. The longest matching folder
// decides.
type rule struct {
	folder string
	may    []string // folders; itself is always allowed
	why    string
}

var rules = []rule{
	{"probe/measure", nil, "the vocabulary knows no room"},
	{"probe/clock", []string{"probe/measure"}, "clocks know the vocabulary only"},
	{"probe/wire", []string{"probe/measure"}, "the wire is shared by both sides and stands on the vocabulary alone"},
	{"probe", []string{"probe", "configs/secret"}, "the probe imports nothing of the collector, and its settings are loaded by cmd"},
	{"collector", []string{"collector", "alerts", "probe/measure", "probe/wire", "configs/inventory", "configs/secret"}, "the collector knows of the probe only what comes over the wire"},
	{"alerts", []string{"alerts", "collector/incident", "collector/state", "collector/portal/bahasa", "collector/portal/rank", "collector/durable", "configs/inventory", "configs/secret", "probe/measure"}, "alerts know what an incident is and count states, and know nothing of how either was found"},
	{"alerts/rules", []string{"collector/series", "configs/nearest"}, "rules are files; they are held against the catalogue and know nothing of who evaluates them"},
	{"configs/nearest", nil, "words know no room"},
	{"configs/inventory", []string{"probe/measure", "configs/inventory", "configs/nearest"}, "the inventory is facts"},
	{"configs/secret", nil, "a secret knows no room"},
	{"configs/klaten", nil, "an example is data"},
	{"configs/settings", []string{"configs/settings", "configs/nearest"}, "settings are read for any room and know none"},
	{"dashboards", nil, "dashboards are text: what they name is held against the other rooms by tests"},
	{"cmd/pantau-probe", []string{"cmd/internal", "probe", "configs/settings", "configs/examples"}, "the village side stays light"},
	{"cmd", []string{"cmd", "probe", "collector", "alerts", "dashboards", "configs"}, "commands wire rooms together"},
}

// external lists libraries that only some folders may import.
var external = map[string][]string{
	"github.com/spf13/viper":             {"cmd", "configs/settings"},
	"github.com/spf13/cobra":             {"cmd"},
	"github.com/prometheus/prometheus":   {"collector", "cmd/pantau", "alerts"},
	"github.com/showwin/speedtest-go":    {"probe/instrument/speed"},
	"github.com/prometheus-community":    {"probe/instrument"},
	"github.com/vishvananda":             {"probe/netlab", "probe/instrument", "cmd/pantau/internal/demo"},
	"go.etcd.io/bbolt":                   {"collector", "alerts"},
	"github.com/wneessen/go-mail":        {"alerts/outbox"},
	"github.com/emersion":                {"alerts/outbox/smtptest"},
	"github.com/prometheus/alertmanager": {"alerts"},
	"github.com/influxdata":              {"collector/sink/influx"},
	// Not the folder itself: the programs carry the JSON, not what makes it.
	"github.com/grafana/grafana-foundation-sdk": {"dashboards/build"},
}

func TestImportsPointOneWay(t *testing.T) {
	top := root(t)
	checked := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(top, path)
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && rel != "." || d.Name() == "testdata" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		folder := filepath.ToSlash(filepath.Dir(rel))
		for _, imp := range f.Imports {
			p, _ := strconv.Unquote(imp.Path.Value)
			checkImport(t, folder, rel, p)
		}
		checked++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 20 {
		t.Fatalf("only %d files were checked", checked)
	}
}

func checkImport(t *testing.T, folder, file, imported string) {
	t.Helper()
	if to, ours := strings.CutPrefix(imported, module); ours {
		best := rule{}
		for _, r := range rules {
			if below(folder, r.folder) && len(r.folder) > len(best.folder) {
				best = r
			}
		}
		if best.folder == "" {
			t.Errorf("%s: no rule for folder %s", file, folder)
			return
		}
		if below(to, best.folder) || slices.ContainsFunc(best.may, func(m string) bool { return below(to, m) }) {
			return
		}
		t.Errorf("%s imports %s: %s", file, to, best.why)
		return
	}
	for lib, folders := range external {
		if below(imported, lib) && !slices.ContainsFunc(folders, func(m string) bool { return below(folder, m) }) {
			t.Errorf("%s imports %s: that library is for %s", file, imported, strings.Join(folders, ", "))
		}
	}
}

func below(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

// The probe must fit a router with 16 MB of flash: what would bring the database
// with it is refused by name, so that the reason is seen before the size.
func TestProbeNeverLinksTheCollectorsWorld(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"cmd/pantau-probe").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for dep := range strings.FieldsSeq(string(out)) {
		for _, no := range []string{"github.com/prometheus/prometheus", module + "collector", module + "configs/inventory",
			"go.etcd.io/bbolt", module + "probe/netlab", "k8s.io", "google.golang.org/grpc", "testing"} {
			if below(dep, no) {
				t.Errorf("pantau-probe links %s", dep)
			}
		}
	}
}

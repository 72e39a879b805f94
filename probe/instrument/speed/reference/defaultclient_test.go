package reference_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

// atStart is read after every import was initialised, before any test.
var atStart = http.DefaultClient.Transport

type marker struct{ http.RoundTripper }

func TestDefaultClientIsLeftAlone(t *testing.T) {
	if atStart != nil {
		t.Fatalf("after import http.DefaultClient has a %T", atStart)
	}
	mine := marker{http.DefaultTransport}
	http.DefaultClient.Transport = mine
	defer func() { http.DefaultClient.Transport = nil }()
	o := quick()
	o.Duration = 200 * time.Millisecond
	i, url := newInstrument(t, o), servertest.Target(t, target.Options{})
	for _, kind := range directions {
		if r := i.Measure(t.Context(), "", url, kind); r.Outcome != measure.OK {
			t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
		}
		if http.DefaultClient.Transport != mine {
			t.Errorf("after a %s http.DefaultClient has a %T", kind, http.DefaultClient.Transport)
		}
	}
}

// In another program, whose first package sets a transport of its own, the one
// that is found after all imports is that one; and without this package it is
// speedtest-go's, or the test would prove nothing.
func TestImportRestoresWhatWasThere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	const module = "github.com/pantau-desa/pantau"
	root, err := filepath.Abs("../../../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	add := func(name, text string) {
		file := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(root, name)] = file
	}
	add("aaa/first/first.go", `package first
import "net/http"
type Own struct{ http.RoundTripper }
func init() { http.DefaultClient.Transport = Own{} }
`)
	program := func(imported string) string {
		return `package main
import (
	"fmt"
	"net/http"
	_ "` + module + `/aaa/first"
	_ "` + imported + `"
)
func main() { fmt.Printf("%T", http.DefaultClient.Transport) }
`
	}
	add("aaa/with/main.go", program(module+"/probe/instrument/speed/reference"))
	add("aaa/without/main.go", program("github.com/showwin/speedtest-go/speedtest"))
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"with": "first.Own", "without": "*speedtest.Speedtest"} {
		cmd := exec.Command("go", "run", "-overlay", list, module+"/aaa/"+name)
		cmd.Dir = root
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if string(out) != want {
			t.Errorf("%s: http.DefaultClient has a %s, want %s", name, out, want)
		}
	}
}

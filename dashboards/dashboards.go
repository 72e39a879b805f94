// Package dashboards carries the Grafana dashboards, and what Grafana needs to
// find them, for whoever writes them somewhere.
//
// The JSON is made by package build and committed; this package knows only the
// files, so that no program carries the tools that make them. It guarantees that
// what [Export] writes is what the tests have seen, but for the addresses that it
// was asked to change.
package dashboards

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

//go:generate go run ./generate json

//go:embed json/*.json provisioning compose.yaml README.md
var files embed.FS

// Files are the dashboards and everything around them, as they are committed.
func Files() fs.FS { return files }

// What the committed files take for granted.
const (
	// DefaultCollector is the collector's office side, on the machine of its own.
	DefaultCollector = "http://127.0.0.1:7480"
	// DefaultDir is where the files are on Grafana's machine.
	DefaultDir = "/etc/grafana/pantau-desa"
)

// Options of an export.
type Options struct {
	Dir string // is created; files in it are replaced
	// DataSource is the collector's office side as Grafana reaches it, Pages as
	// browsers do. Empty: DefaultCollector.
	DataSource, Pages string
}

// Export writes the dashboards, the provisioning files, the compose file and how
// to use them below o.Dir, and nothing outside it. It returns the names of the
// files. Paths in them are those of o.Dir.
func Export(o Options) ([]string, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	// Paths and addresses stand between quotes in YAML, where Grafana replaces $.
	if strings.ContainsAny(dir, "\"\\$:\n\r") {
		return nil, fmt.Errorf("%q: a folder whose path has none of \" \\ $ : is needed", dir)
	}
	source, err := address(o.DataSource)
	pages, err2 := address(o.Pages)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	var written []string
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		switch filepath.Ext(name) {
		case ".json":
			raw = bytes.ReplaceAll(raw, []byte(DefaultCollector), []byte(pages))
		case ".yaml":
			raw = bytes.ReplaceAll(raw, []byte(DefaultCollector), []byte(source))
			raw = bytes.ReplaceAll(raw, []byte(DefaultDir), []byte(dir))
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		written = append(written, to)
		return os.WriteFile(to, raw, 0o644)
	})
	return written, err
}

// address checks that s is the beginning of a web address that can stand in the
// files as it is.
func address(s string) (string, error) {
	if s == "" {
		return DefaultCollector, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.ContainsAny(s, "\"'\\$ ") {
		return "", fmt.Errorf("%q: an address such as %s is needed, without a name, a password or a query", s, DefaultCollector)
	}
	return strings.TrimRight(s, "/"), nil
}

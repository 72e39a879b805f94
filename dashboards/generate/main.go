// Command generate writes the dashboards of package build as JSON.
//
//	go run ./dashboards/generate dashboards/json
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pantau-desa/pantau/dashboards/build"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DIR")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	files, err := build.Files()
	if err != nil {
		return err
	}
	for _, f := range files {
		name := filepath.Join(dir, f.Name)
		if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, f.JSON) {
			continue
		}
		if err := os.WriteFile(name, f.JSON, 0o644); err != nil {
			return err
		}
	}
	return nil
}

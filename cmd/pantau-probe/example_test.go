package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
)

const example = "../../configs/examples/pantau-probe.yaml"

func TestExample(t *testing.T) {
	if got, err := load(example); err != nil || got != defaults() {
		t.Errorf("as it is, the example changes the defaults: %v, %+v", err, got)
	}
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^( *)# ([a-z_]+:( .*)?)$`).ReplaceAll(raw, []byte("$1$2"))
	file := filepath.Join(t.TempDir(), "all.yaml")
	if err := os.WriteFile(file, all, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := load(file); err != nil || got != defaults() {
		t.Errorf("the example shows other values than the defaults: %v, %+v", err, got)
	}
	var keys func(of reflect.Type, indent string)
	keys = func(of reflect.Type, indent string) {
		for f := range of.Fields() {
			key := f.Tag.Get("mapstructure")
			if !regexp.MustCompile(`(?m)^` + indent + key + `:`).Match(all) {
				t.Errorf("nothing is said of %s%s", indent, key)
			}
			if f.Type.Kind() == reflect.Struct {
				keys(f.Type, indent+"  ")
			}
		}
	}
	keys(reflect.TypeFor[runSettings](), "")
}

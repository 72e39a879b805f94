// Package settings loads a program's settings file strictly: everything that is
// wrong is reported at once, with file and line, and an unknown key is an error
// that names its nearest neighbour.
//
// A settings struct carries `mapstructure` tags; its zero-file values are the
// defaults. Durations are written as in Go ("90s", "6h") or in days ("400d").
package settings

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/pantau-desa/pantau/configs/nearest"
)

// maxFile bounds a settings file, in bytes.
const maxFile = 1 << 20

// Problem is one thing that is wrong with a file.
type Problem struct {
	File string
	Line int // 0: of the whole file
	What string
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return p.File + ": " + p.What
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.What)
}

// Problems are all that is wrong with a file, a line each.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Checker is a settings struct that knows what its values may be. It returns one
// problem per key, the key in dotted form.
type Checker interface {
	Check() map[string]string
}

// Load reads file (YAML) over the defaults that into, a pointer to a struct,
// already holds. An error about the content is [Problems]. If into is a
// [Checker], its findings are reported with the lines of their keys.
func Load(file string, into any) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if info.Size() > maxFile {
		return Problems{{File: file, What: fmt.Sprintf("is %d bytes, at most %d: is it a settings file?", info.Size(), maxFile)}}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return parse(file, data, into)
}

func parse(file string, data []byte, into any) error {
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return Problems{{File: file, What: strings.TrimPrefix(err.Error(), "yaml: ")}}
	}
	known := map[string]reflect.Type{}
	knownKeys(reflect.TypeOf(into).Elem(), "", known)
	lines := map[string]int{}
	var problems Problems
	add := func(line int, format string, args ...any) {
		problems = append(problems, Problem{File: file, Line: line, What: fmt.Sprintf(format, args...)})
	}
	if len(root.Content) > 0 {
		if top := root.Content[0]; top.Kind == yaml.MappingNode {
			walk(top, "", known, lines, add)
		} else if top.Tag != "!!null" {
			add(top.Line, "settings are `key: value` lines, not a %s", strings.TrimPrefix(top.Tag, "!!"))
		}
	}
	if len(problems) == 0 {
		v := viper.NewWithOptions(viper.KeyDelimiter("\x00")) // dots in keys are not nesting
		v.SetConfigType("yaml")
		if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
			return Problems{{File: file, What: err.Error()}}
		}
		err := v.Unmarshal(into, viper.DecodeHook(mapstructure.ComposeDecodeHookFunc(durationHook, mapstructure.TextUnmarshallerHookFunc())),
			func(c *mapstructure.DecoderConfig) { c.ErrorUnused, c.WeaklyTypedInput = true, false })
		for _, e := range flatten(err) {
			key, what := keyOf(e, known)
			if t, ok := known[key]; ok && secret(t) {
				what = key + " is not a text: put it into quotation marks" // the error quotes it
			}
			add(lines[key], "%s", what)
		}
	}
	if c, ok := into.(Checker); ok && len(problems) == 0 {
		found := c.Check()
		for key, what := range found {
			add(lines[key], "%s: %s", key, what)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.What, b.What)) })
	return problems
}

// knownKeys lists a struct's keys in dotted form.
func knownKeys(t reflect.Type, prefix string, known map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("mapstructure"), ",")
		if name == "" || name == "-" {
			continue
		}
		known[prefix+name] = f.Type
		if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() {
			knownKeys(f.Type, prefix+name+".", known)
		}
	}
}

func walk(n *yaml.Node, prefix string, known map[string]reflect.Type, lines map[string]int, add func(int, string, ...any)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key := prefix + k.Value
		if first, twice := lines[key]; twice {
			add(k.Line, "%s is set twice, first in line %d", key, first)
			continue
		}
		lines[key] = k.Line
		t, ok := known[key]
		if !ok {
			add(k.Line, "unknown key %s%s", key, suggestion(key, known))
			continue
		}
		if t.Kind() == reflect.Struct {
			if v.Kind == yaml.MappingNode {
				walk(v, key+".", known, lines, add)
			} else if v.Tag != "!!null" {
				add(k.Line, "%s holds further keys, not a value", key)
			}
		}
	}
}

func suggestion(key string, known map[string]reflect.Type) string {
	best, edits := nearest.Of(key, slices.Sorted(maps.Keys(known)))
	if best == "" || edits > len(key)/2+1 {
		return ""
	}
	return "; the nearest is " + best
}

func durationHook(from, to reflect.Type, data any) (any, error) {
	if to != reflect.TypeFor[time.Duration]() {
		return data, nil
	}
	s, ok := data.(string)
	if !ok {
		return nil, fmt.Errorf("a duration has a unit, such as 90s, 6h or 30d, not %v", data)
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, fmt.Errorf("%q is no duration: write 90s, 6h or 30d", s)
	}
	return d, nil
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	if e := errors.Unwrap(err); e != nil {
		if _, many := e.(interface{ Unwrap() []error }); many {
			return flatten(e)
		}
	}
	return []error{err}
}

// secret reports whether a type hides what it holds: a text that is logged as
// something else.
func secret(t reflect.Type) bool {
	return t.Kind() == reflect.String && t.Implements(reflect.TypeFor[slog.LogValuer]())
}

// keyOf finds the key that a decoding error speaks of.
func keyOf(err error, known map[string]reflect.Type) (key, what string) {
	what = err.Error()
	for k := range known {
		if (strings.Contains(what, "'"+k+"'") || strings.HasPrefix(what, k+" ")) && len(k) > len(key) {
			key = k
		}
	}
	return key, what
}

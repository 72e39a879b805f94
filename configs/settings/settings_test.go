package settings

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type example struct {
	DataDir string        `mapstructure:"data_dir"`
	Keep    time.Duration `mapstructure:"keep"`
	Ingest  struct {
		Listen []string `mapstructure:"listen"`
		Max    int      `mapstructure:"max_connections"`
	} `mapstructure:"ingest"`
}

func (e *example) Check() map[string]string {
	if e.Ingest.Max < 0 {
		return map[string]string{"ingest.max_connections": "is negative; 0 means the default"}
	}
	return nil
}

func load(t *testing.T, text string) (example, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e := example{DataDir: "default"}
	err := Load(file, &e)
	if err != nil {
		err = problemsWithout(err, filepath.Dir(file)+"/")
	}
	return e, err
}

type plain string

func (p plain) Error() string { return string(p) }

func problemsWithout(err error, prefix string) error {
	return plain(strings.ReplaceAll(err.Error(), prefix, ""))
}

func TestDefaultsStayWhereNothingIsSaid(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "ingest:\n"} {
		e, err := load(t, text)
		if err != nil || e.DataDir != "default" {
			t.Fatalf("%q: %+v, %v", text, e, err)
		}
	}
}

func TestValuesAreRead(t *testing.T) {
	e, err := load(t, "data_dir: /var/lib/pantau\nkeep: 400d\ningest:\n  listen: [':7443', '[::1]:7443']\n  max_connections: 5\n")
	if err != nil {
		t.Fatal(err)
	}
	if e.DataDir != "/var/lib/pantau" || e.Keep != 400*24*time.Hour || len(e.Ingest.Listen) != 2 || e.Ingest.Max != 5 {
		t.Fatalf("%+v", e)
	}
}

func TestEverythingWrongAtOnceWithItsLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"data_dri: /x\ningest:\n  lisen: [':1']\nzzzzzzzzzzzzzzzzz: 1\n",
			"x.yaml:1: unknown key data_dri; the nearest is data_dir\n" +
				"x.yaml:3: unknown key ingest.lisen; the nearest is ingest.listen\n" +
				"x.yaml:4: unknown key zzzzzzzzzzzzzzzzz"},
		{"keep: 5\n", "x.yaml:1: 'keep' a duration has a unit, such as 90s, 6h or 30d, not 5"},
		{"ingest: yes\n", "x.yaml:1: ingest holds further keys, not a value"},
		{"keep: 1h\nkeep: 2h\n", "x.yaml:2: keep is set twice, first in line 1"},
		{"\ningest:\n  max_connections: -1\n", "x.yaml:3: ingest.max_connections: is negative; 0 means the default"},
		{"- a\n- b\n", "x.yaml:1: settings are `key: value` lines, not a seq"},
		{"ingest:\n  max_connections: many\n", "x.yaml:2: 'ingest.max_connections' expected type 'int', got unconvertible type 'string'"},
	} {
		_, err := load(t, c.text)
		if err == nil || strings.TrimSpace(err.Error()) != c.want {
			t.Errorf("%q:\n got %v\nwant %v", c.text, err, c.want)
		}
	}
}

func TestAMissingFileSaysWhich(t *testing.T) {
	err := Load("/no/such/file.yaml", &example{})
	if err == nil || !strings.Contains(err.Error(), "/no/such/file.yaml") {
		t.Fatal(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("data_dir: x\ningest:\n  listen: [a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		var e example
		_ = parse("x.yaml", []byte(text), &e)
	})
}

// password hides what it holds wherever it is logged.
type password string

func (password) LogValue() slog.Value { return slog.StringValue("···") }

func TestAnErrorShowsNoSecret(t *testing.T) {
	for _, text := range []string{"word: 7777", "word: [7777]", "word: {a: 7777}", "in: {word: 7777}"} {
		file := filepath.Join(t.TempDir(), "x.yaml")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var s struct {
			Word password `mapstructure:"word"`
			In   struct {
				Word password `mapstructure:"word"`
			} `mapstructure:"in"`
		}
		err := Load(file, &s)
		if err == nil || strings.Contains(err.Error(), "7777") || !strings.Contains(err.Error(), "x.yaml:1: ") || !strings.Contains(err.Error(), "word is not a text") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

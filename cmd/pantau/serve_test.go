package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSettingsOfInfluxDB(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	token := write("token", "kunci-rahasia\n")
	load := func(section string) (*serveSettings, string) {
		s, err := loadServe(write("pantau.yaml", "influx:\n"+section))
		if err != nil {
			return nil, strings.ReplaceAll(err.Error(), dir+"/", "")
		}
		return s, ""
	}

	for _, off := range []string{"", "  url: ''\n"} {
		s, wrong := load(off)
		if wrong != "" {
			t.Fatal(wrong)
		}
		if o, err := s.Influx.options(); o != nil || err != nil {
			t.Errorf("%q: %v, %v", off, o, err)
		}
	}
	for _, how := range []string{"token: kunci-rahasia", "token_file: " + token} {
		s, wrong := load("  url: http://127.0.0.1:8086\n  org: dinas\n  bucket: pantau\n  " + how + "\n")
		if wrong != "" {
			t.Fatal(wrong)
		}
		o, err := s.Influx.options()
		if err != nil || o.URL != "http://127.0.0.1:8086" || o.Org != "dinas" || o.Bucket != "pantau" || string(o.Token) != "kunci-rahasia" {
			t.Errorf("%s: %+v, %v", how, o, err)
		}
		if shown := fmt.Sprintf("%v %+v %#v %+v", *s, *s, *s, o); strings.Contains(shown, "kunci") {
			t.Errorf("the token shows in %s", shown)
		}
	}

	const server = "  url: http://127.0.0.1:8086\n  org: dinas\n  bucket: pantau\n"
	for _, c := range []struct{ section, want string }{
		{"  url: 127.0.0.1:8086\n", "3 problems with the settings:\n" +
			"pantau.yaml: influx.bucket: is empty: name the bucket; of InfluxDB 1.8, the database\n" +
			"pantau.yaml: influx.org: is empty: name the organisation; InfluxDB 1.8 has none and takes any word\n" +
			"pantau.yaml:2: influx.url: is no address of a server, such as https://influx.example:8086"},
		{"  bucket: pantau\n", "pantau.yaml: influx.url: is empty, but other keys of the section are set: name the server, or take them out"},
		{"  addr: x\n", "pantau.yaml:2: unknown key influx.addr; the nearest is influx.org"},
		{server + "  token: a b\n", "pantau.yaml:5: influx.token: holds spaces or characters that cannot be seen"},
		{server + "  token: a\n  token_file: " + token + "\n", "pantau.yaml:5: influx.token: is set beside token_file: keep one of them"},
		{server + "  token_file: " + dir + "/nowhere\n", "pantau.yaml:5: influx.token_file: open nowhere: no such file or directory"},
		{server + "  token_file: " + write("empty", "") + "\n", "pantau.yaml:5: influx.token_file: empty is empty"},
	} {
		if _, wrong := load(c.section); wrong != c.want {
			t.Errorf("%q:\n%s\nwant\n%s", c.section, wrong, c.want)
		}
	}
	if _, wrong := load(server + "  token: 123456\n"); !strings.Contains(wrong, "influx.token") || strings.Contains(wrong, "123456") {
		t.Errorf("a token without quotes: %s", wrong)
	}

	// What systemd hands over is there only while the service runs.
	s, wrong := load(server + "  token_file: /run/credentials/pantau.service/influx-token\n")
	if wrong != "" {
		t.Fatal(wrong)
	}
	if _, err := s.Influx.options(); err == nil || !strings.Contains(err.Error(), "influx.token_file: open /run/credentials/") {
		t.Errorf("started without it: %v", err)
	}
}

func TestInstant(t *testing.T) {
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-03-01":                time.Date(2026, 3, 1, 0, 0, 0, 0, time.Local),
		"2026-03-01T08:00:00+07:00": time.Date(2026, 3, 1, 1, 0, 0, 0, time.UTC),
	} {
		if got, err := dayOrInstant(text); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1 March", "2026-13-01", "2026-03-01 08:00"} {
		if _, err := dayOrInstant(text); err == nil || !strings.Contains(err.Error(), "2026-03-01T08:00:00+07:00") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

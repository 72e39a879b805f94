package main

import (
	"crypto/ed25519"
	"os"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/probe/wire"
)

func TestTargetSettingsSayWhatIsWrong(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := wire.TicketKeyText(public)
	for _, c := range []struct {
		name string
		s    targetSettings
		key  string // that is wrong; empty: none
		says string
	}{
		{"defaults", targetSettings{}, "", ""},
		{"guarded", targetSettings{Trust: []string{key, key}, ID: "ukur-1", Capacity: 1e9}, "", ""},
		{"a claim code in place of a key", targetSettings{Trust: []string{"ABCD-EFGH"}, ID: "ukur-1"}, "trust", "pantau target-key"},
		{"a key without a name", targetSettings{Trust: []string{key}}, "id", "targets.csv"},
		{"megabits", targetSettings{Capacity: 1000}, "capacity", "bits per second"},
		{"less than none", targetSettings{Tests: -1}, "tests", "negative"},
	} {
		wrong := c.s.Check()
		if (c.key == "") != (len(wrong) == 0) || !strings.Contains(wrong[c.key], c.says) {
			t.Errorf("%s: %v", c.name, wrong)
		}
	}
}

func TestTargetKeyIsTheCollectors(t *testing.T) {
	dir := t.TempDir()
	file := dir + "/pantau.yaml"
	if err := os.WriteFile(file, []byte("data_dir: "+dir+"/data\ninventory: "+dir+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() (string, error) {
		var out strings.Builder
		c := targetKeyCommand()
		c.SetOut(&out)
		c.SetErr(&out)
		c.SetArgs([]string{"--config", file})
		err := c.ExecuteContext(t.Context())
		return strings.TrimSpace(out.String()), err
	}
	if out, err := run(); err == nil || !strings.Contains(err.Error(), "first time") {
		t.Errorf("before the collector's first start: %q, %v", out, err)
	}
	r, err := registry.Open(registry.Options{Dir: dir + "/data/registry"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out, err := run()
	if key, wrong := wire.ParseTicketKey(out); err != nil || wrong != nil || !key.Equal(r.TicketKey().Public()) {
		t.Errorf("%q, %v, %v", out, err, wrong)
	}
}

package systemd

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// exposure is the most that `systemd-analyze security` may find, of 10, by unit.
var exposure = map[string]float64{"pantau": 1.5, "pantau-target": 1.5, "pantau-probe": 2.0}

const top = "../.."

// prefix is a place to install to, with programs to install in bin.
func prefix(t *testing.T) (dir, bin string) {
	t.Helper()
	dir, bin = t.TempDir(), t.TempDir()
	for _, name := range []string{"pantau", "pantau-probe"} {
		// What is installed is copied, not run: any program does.
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\necho "+name+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, bin
}

func install(t *testing.T, vars ...string) (string, error) {
	t.Helper()
	read(t, filepath.Join(top, "Makefile")) // so that a good run is not remembered past a change of it
	for name := range exposure {
		read(t, filepath.Join(top, "configs/examples", name+".yaml"))
		read(t, name+".service")
	}
	out, err := exec.Command("make", append([]string{"-s", "-C", top, "install"}, vars...)...).CombinedOutput()
	return string(out), err
}

func read(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestInstall(t *testing.T) {
	dest, bin := prefix(t)
	out, err := install(t, "DESTDIR="+dest, "BIN="+bin, "PREFIX=/opt/pantau")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, says := range []string{"systemctl daemon-reload", "pantau check --config /etc/pantau/pantau.yaml", "pantau-probe enroll"} {
		if !strings.Contains(out, says) {
			t.Errorf("does not say %q:\n%s", says, out)
		}
	}
	for name, mode := range map[string]os.FileMode{
		"opt/pantau/bin/pantau": 0o755, "opt/pantau/bin/pantau-probe": 0o755,
		"opt/pantau/lib/systemd/system/pantau.service": 0o644, "opt/pantau/lib/systemd/system/pantau-target.service": 0o644,
		"opt/pantau/lib/systemd/system/pantau-probe.service": 0o644,
		"etc/pantau/pantau.yaml":                             0o644, "etc/pantau/pantau-target.yaml": 0o644, "etc/pantau/pantau-probe.yaml": 0o644,
	} {
		info, err := os.Stat(filepath.Join(dest, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if unit := read(t, filepath.Join(dest, "opt/pantau/lib/systemd/system/pantau-probe.service")); !strings.Contains(unit, "\nExecStart=/opt/pantau/bin/pantau-probe run --config /etc/pantau/pantau-probe.yaml\n") {
		t.Errorf("the unit starts something else:\n%s", unit)
	}

	// Again, after a person has changed something: that stays, the rest is renewed.
	mine := filepath.Join(dest, "etc/pantau/pantau.yaml")
	for file, text := range map[string]string{mine: "data_dir: /srv/pantau\n", filepath.Join(dest, "opt/pantau/bin/pantau"): "old"} {
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err = install(t, "DESTDIR="+dest, "BIN="+bin, "PREFIX=/opt/pantau"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := read(t, mine); got != "data_dir: /srv/pantau\n" {
		t.Errorf("the settings were overwritten:\n%s", got)
	}
	if !strings.Contains(out, "kept: "+mine) {
		t.Errorf("does not say that the settings were kept:\n%s", out)
	}
	if got := read(t, filepath.Join(dest, "opt/pantau/bin/pantau")); got == "old" {
		t.Error("the program was not renewed")
	}
	if got, want := read(t, filepath.Join(dest, "opt/pantau/share/doc/pantau/pantau.yaml")), read(t, filepath.Join(top, "configs/examples/pantau.yaml")); got != want {
		t.Error("the example is not beside the kept settings")
	}
}

func TestInstallBeforeBuild(t *testing.T) {
	dest := t.TempDir()
	if out, err := install(t, "DESTDIR="+dest, "BIN="+t.TempDir()); err == nil || !strings.Contains(out, "make build") {
		t.Errorf("%v: %s", err, out)
	}
	if left, _ := os.ReadDir(dest); len(left) > 0 {
		t.Errorf("half installed: %v", left)
	}
}

// analyze runs systemd-analyze, or skips where there is none.
func analyze(t *testing.T, args ...string) (string, error) {
	t.Helper()
	tool, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is not here: make packages-needed installs it")
		}
		t.Skip("systemd-analyze is not here (Debian package systemd): the units are not verified")
	}
	out, err := exec.Command(tool, args...).CombinedOutput()
	return string(out), err
}

// units are the installed units whose programs are there.
func units(t *testing.T) map[string]string {
	t.Helper()
	dir, bin := prefix(t)
	if out, err := install(t, "PREFIX="+dir, "SYSCONFDIR="+dir+"/etc", "BIN="+bin); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	found := map[string]string{}
	for name := range exposure {
		found[name] = filepath.Join(dir, "lib/systemd/system", name+".service")
	}
	return found
}

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	for name, file := range units(t) {
		if out, err := analyze(t, "verify", "--man=no", file); err != nil || strings.TrimSpace(out) != "" {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
	wrong := filepath.Join(t.TempDir(), "wrong.service")
	if err := os.WriteFile(wrong, []byte("[Service]\nExecStart=/nowhere/pantau\nNoNewPrivilege=yes\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, _ := analyze(t, "verify", "--man=no", wrong); !strings.Contains(out, "NoNewPrivilege") {
		t.Errorf("a wrong unit passes: %s", out)
	}
}

// The settings file of a probe may hold secrets: its example says how the unit gets
// it nevertheless.
func TestSystemdUnderstandsTheExamplesWayToHideSecrets(t *testing.T) {
	file := units(t)["pantau-probe"]
	var lines []string
	for line := range strings.Lines(read(t, filepath.Join(top, "configs/examples/pantau-probe.yaml"))) {
		if text, ok := strings.CutPrefix(line, "  #   "); ok {
			lines = append(lines, strings.ReplaceAll(text, "/usr/local/bin/", filepath.Join(file, "../../../../bin")+"/"))
		}
	}
	if len(lines) != 4 || lines[0] != "[Service]\n" {
		t.Fatalf("%q", lines)
	}
	if err := os.Mkdir(file+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(file+".d", "override.conf"), []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := analyze(t, "verify", "--man=no", file); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("%v: %s", err, out)
	}
}

var level = regexp.MustCompile(`Overall exposure level for [^:]*: ([0-9.]+)`)

func TestTheUnitsExposeLittle(t *testing.T) {
	for name, file := range units(t) {
		out, _ := analyze(t, "security", "--offline=yes", "--no-pager", file)
		m := level.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("%s: %s", name, out)
		}
		if got, err := strconv.ParseFloat(m[1], 64); err != nil || got > exposure[name] {
			t.Errorf("%s: exposure %s, at most %.1f\n%s", name, m[1], exposure[name], out)
		}
	}
}

// What a probe needs of the system, and what hardening would silently take away.
func TestTheProbeCanMeasureInItsUnit(t *testing.T) {
	settings := map[string][]string{}
	for line := range strings.Lines(read(t, "pantau-probe.service")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = append(settings[key], value)
		}
	}
	for key, want := range map[string][]string{
		"AmbientCapabilities": {"CAP_NET_RAW"}, "CapabilityBoundingSet": {"CAP_NET_RAW"},
		"RestrictAddressFamilies": {"AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET"},
		"DynamicUser":             {"yes"}, "StateDirectory": {"pantau-probe"}, "Type": {"notify"}, "Restart": {"always"}, "StartLimitIntervalSec": {"0"},
		"PrivateUsers": nil, "ProcSubset": nil, "ProtectClock": nil, "PrivateNetwork": nil, "IPAddressDeny": nil,
	} {
		if !slices.Equal(settings[key], want) {
			t.Errorf("%s=%v, want %v", key, settings[key], want)
		}
	}
	// Later lines win: the clock is asked after the privileged calls were taken away.
	calls := settings["SystemCallFilter"]
	if took, gave := slices.Index(calls, "~@privileged @resources"), slices.Index(calls, "adjtimex"); took < 0 || gave < took {
		t.Errorf("adjtimex is not allowed: %v", calls)
	}
}

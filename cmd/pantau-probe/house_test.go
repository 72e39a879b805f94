package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/probe/doctor"
	"github.com/pantau-desa/pantau/probe/instrument/signal/modemtest"
	"github.com/pantau-desa/pantau/probe/instrument/snmp/snmpdtest"
)

// Devices of the house, asked as the settings say.

// house is a real agent that has an interface and an optical module.
func house(t *testing.T) (agent *snmpdtest.Agent, settings string) {
	t.Helper()
	agent = snmpdtest.Start(t, []string{"1.3.6.1.2.1.31.1.1", "1.3.6.1.2.1.2.2", "1.3.6.1.4.1.14988.1.1.19"})
	object := func(oid, sort, value string) snmpdtest.Object {
		return snmpdtest.Object{OID: oid, Sort: sort, Value: value}
	}
	agent.Set(object("1.3.6.1.2.1.31.1.1.1.1.4", "string", "pppoe-wan"), object("1.3.6.1.2.1.31.1.1.1.6.4", "counter64", "70000"),
		object("1.3.6.1.2.1.31.1.1.1.10.4", "counter64", "60000"), object("1.3.6.1.4.1.14988.1.1.19.1.1.2.1", "string", "sfp1"),
		object("1.3.6.1.4.1.14988.1.1.19.1.1.3.1", "integer", "0"), object("1.3.6.1.4.1.14988.1.1.19.1.1.10.1", "integer", "-21340"))
	settings = filepath.Join(t.TempDir(), "probe.yaml")
	text := "state_dir: " + t.TempDir() + "\nrouter:\n  interface: pppoe-wan\n  snmp: {address: ADDRESS, community: " + snmpdtest.Community + "}\n" +
		"ont:\n  preset: mikrotik\n  snmp: {address: ADDRESS, version: \"3\", user: both, auth: sha, auth_password: " + snmpdtest.AuthPassword +
		", privacy: aes, privacy_password: " + snmpdtest.PrivacyPassword + "}\n"
	if err := os.WriteFile(settings, []byte(strings.ReplaceAll(text, "ADDRESS", `"`+agent.Address+`"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	return agent, settings
}

func TestMeasureTheHouseByHand(t *testing.T) {
	agent, settings := house(t)
	out := byHand(t, "optics", "--config", settings)
	values, _ := out["values"].(map[string]any)
	if values["optical_receive_power_dbm"] != -21.34 || out["instrument"] != "snmp-mikrotik" || !strings.Contains(strings.Join(texts(out["flags"]), " "), "unverified_preset") {
		t.Errorf("%v", out)
	}
	out = byHand(t, "usage", "--config", settings, "--duration", "1s")
	values, _ = out["values"].(map[string]any)
	if values["link_receive_bytes_total"] != 0.0 || out["instrument"] != "snmp-counters" {
		t.Errorf("%v", out)
	}
	if out = byHand(t, "optics"); out["reason"] != "no_target" {
		t.Errorf("%v", out)
	}
	agent.Stop()
	if out = byHand(t, "optics", "--config", settings); out["reason"] != "refused" || out["bytes_sent"] == 0.0 {
		t.Errorf("%v", out)
	}
}

func TestMeasureTheModemByHand(t *testing.T) {
	bus := modemtest.Bus(t)
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
	if out := byHand(t, "signal"); out["outcome"] != "skipped" || out["reason"] != "no_target" {
		t.Errorf("%v", out)
	}
	manager := modemtest.Start(t, bus)
	one := modemtest.Modem{State: int32(11), AccessTechnologies: uint32(1 << 14), PrimaryPort: "cdc-wdm0", Lte: map[string]any{"rsrp": -101.0}}
	two := one
	two.PrimaryPort, two.Lte = "cdc-wdm1", map[string]any{"rsrp": -80.0}
	manager.Set(one, two)
	if out := byHand(t, "signal"); out["reason"] != "no_target" {
		t.Errorf("%v", out)
	}
	settings := filepath.Join(t.TempDir(), "probe.yaml")
	if err := os.WriteFile(settings, []byte("modem: cdc-wdm1\nstate_dir: "+t.TempDir()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := byHand(t, "signal", "--config", settings)
	if values, _ := out["values"].(map[string]any); values["mobile_rsrp_dbm"] != -80.0 || values["mobile_generation"] != 4.0 {
		t.Errorf("%v", out)
	}

	check := func(v doctor.Verdict, says string) {
		t.Helper()
		s, err := load(settings)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := doctor.Examine(t.Context(), s.doctor(settings))
		if err != nil {
			t.Fatal(err)
		}
		seen := false
		for f := range findings {
			if f.Check == doctor.Signal {
				seen = true
				if f.Verdict != v || !strings.Contains(f.Seen.EN+" "+f.Do.EN, says) || f.Seen.ID == f.Seen.EN {
					t.Errorf("%+v, want %s %q", f, v, says)
				}
			}
		}
		if !seen {
			t.Error("the modem is not looked at")
		}
	}
	check(doctor.OK, "network LTE, RSRP -80 dBm")
	two.State = int32(2)
	manager.Set(one, two)
	check(doctor.Problem, "PIN")
	two.State, two.Denied, two.Rate = int32(11), true, 0
	manager.Set(one, two)
	check(doctor.Problem, "polkit rule")
	manager.Set(one)
	check(doctor.Problem, "mmcli -L")
}

func texts(list any) (out []string) {
	for _, x := range list.([]any) {
		out = append(out, x.(string))
	}
	return out
}

func TestCheckOfTheHouse(t *testing.T) {
	agent, settings := house(t)
	examine := func() map[doctor.Check]doctor.Finding {
		t.Helper()
		s, err := load(settings)
		if err != nil {
			t.Fatal(err)
		}
		found := map[doctor.Check]doctor.Finding{}
		findings, err := doctor.Examine(t.Context(), s.doctor(settings))
		if err != nil {
			t.Fatal(err)
		}
		for f := range findings {
			found[f.Check] = f
			for _, text := range []string{f.Seen.ID, f.Seen.EN, f.Do.ID, f.Do.EN} {
				for _, secret := range []string{snmpdtest.Community, snmpdtest.AuthPassword, snmpdtest.PrivacyPassword} {
					if strings.Contains(text, secret) {
						t.Errorf("%s shows a secret: %s", f.Check, text)
					}
				}
			}
		}
		return found
	}
	want := func(found map[doctor.Check]doctor.Finding, c doctor.Check, v doctor.Verdict, says string) {
		t.Helper()
		if f := found[c]; f.Verdict != v || !strings.Contains(f.Seen.EN+" "+f.Do.EN, says) || f.Seen.ID == f.Seen.EN {
			t.Errorf("%s: %+v, want %s %q", c, f, v, says)
		}
	}
	found := examine()
	want(found, doctor.Usage, doctor.OK, "pppoe-wan")
	want(found, doctor.Optics, doctor.OK, "-21.34 dBm of light; how it was read is from the MIB")
	want(found, doctor.Secrets, doctor.OK, settings)

	if err := os.Chmod(settings, 0o644); err != nil {
		t.Fatal(err)
	}
	agent.Set()
	found = examine()
	want(found, doctor.Usage, doctor.Problem, "no interface pppoe-wan")
	want(found, doctor.Optics, doctor.Problem, "section ont")
	want(found, doctor.Secrets, doctor.Problem, "chmod 600")

	agent.Set(snmpdtest.Object{OID: "1.3.6.1.4.1.14988.1.1.19.1.1.2.1", Sort: "string", Value: "sfp1"},
		snmpdtest.Object{OID: "1.3.6.1.4.1.14988.1.1.19.1.1.3.1", Sort: "integer", Value: "1"})
	want(examine(), doctor.Optics, doctor.Problem, "tell the provider")
	agent.Stop()
	found = examine()
	want(found, doctor.Usage, doctor.Problem, "router.snmp.address")
	want(found, doctor.Optics, doctor.Problem, "ont.snmp.address")

	// A box that has none of it hears nothing of it.
	s, err := load("")
	if err != nil {
		t.Fatal(err)
	}
	s.StateDir = t.TempDir()
	findings, err := doctor.Examine(t.Context(), s.doctor(""))
	if err != nil {
		t.Fatal(err)
	}
	for f := range findings {
		if f.Check == doctor.Optics || f.Check == doctor.Secrets {
			t.Errorf("%+v", f)
		}
	}
}

func TestSettingsOfTheHouse(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"good":              {"router: {interface: wan, snmp: {address: 192.168.1.1, community: baca}}", ""},
		"no community":      {"router: {interface: wan, snmp: {address: 192.168.1.1}}", "router.snmp.community"},
		"no address":        {"ont: {preset: mikrotik, snmp: {community: baca}}", "ont.snmp.address"},
		"a number for it":   {"router:\n  interface: wan\n  snmp: {address: 192.168.1.1, community: 7777}", "router.snmp.community is not a text"},
		"twice":             {"usage_interface: wan0\nrouter: {interface: wan, snmp: {address: 192.168.1.1, community: baca}}", "counted in one place"},
		"refresh":           {"router: {counter_refresh: 1ms}", "router.counter_refresh"},
		"preset":            {"ont: {preset: huawei}", "ont.preset"},
		"custom":            {"ont: {preset: custom, snmp: {address: 192.168.1.1, community: baca}}", "ont.oid"},
		"a key too many":    {"ont: {presets: mikrotik}", "the nearest is ont.preset"},
		"not asked, so any": {"router: {snmp: {community: baca}}", ""},
	} {
		file := filepath.Join(t.TempDir(), "probe.yaml")
		if err := os.WriteFile(file, []byte(c.text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := load(file)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if err != nil && strings.Contains(err.Error(), "7777") {
			t.Errorf("%s: shows the secret: %v", name, err)
		}
	}
}

// What the example says about handing the file over is what systemd understands:
// units_test holds the rest of the unit.
func TestTheExamplesWayToHideSecrets(t *testing.T) {
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"[Service]", "LoadCredential=settings.yaml:/etc/pantau/pantau-probe.yaml", "ExecStart=",
		"ExecStart=/usr/local/bin/pantau-probe run --config ${CREDENTIALS_DIRECTORY}/settings.yaml"} {
		if !regexp.MustCompile(`(?m)^  #   ` + regexp.QuoteMeta(line) + `$`).Match(raw) {
			t.Errorf("the example does not say %s", line)
		}
	}
}

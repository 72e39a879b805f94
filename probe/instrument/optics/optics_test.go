package optics

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/pantau-desa/pantau/probe/instrument/snmp"
	"github.com/pantau-desa/pantau/probe/instrument/snmp/snmpdtest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
)

const (
	mikrotikTable = "1.3.6.1.4.1.14988.1.1.19"
	sensorTable   = "1.3.6.1.2.1.99.1.1"
	partTable     = "1.3.6.1.2.1.47.1.1.1"
	customTable   = "1.3.6.1.4.1.99999.1"
)

// read reads and says what came: a power in dBm, or a reason.
func read(t *testing.T, o Options) (measure.Result, string) {
	t.Helper()
	r := New(o).Measure(t.Context())
	if err := r.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	if r.Outcome != measure.OK {
		return r, string(r.Reason)
	}
	p, _ := r.Value(measure.OpticalReceivePowerDBm)
	return r, fmt.Sprintf("%.3f", p)
}

func object(oid, sort, value string) snmpdtest.Object {
	return snmpdtest.Object{OID: oid, Sort: sort, Value: value}
}

func module(index int, name, loss, power string) []snmpdtest.Object {
	i := fmt.Sprintf(".%d", index)
	return []snmpdtest.Object{object(mtxrOpticalName+i, "string", name), object(mtxrOpticalRxLoss+i, "integer", loss), object(mtxrOpticalRxPower+i, "integer", power)}
}

func TestMikroTik(t *testing.T) {
	agent := snmpdtest.Start(t, []string{mikrotikTable})
	access := snmp.Access{Address: agent.Address, Version: "3", User: "both", Auth: "sha", AuthPassword: snmpdtest.AuthPassword,
		Privacy: "aes", PrivacyPassword: snmpdtest.PrivacyPassword}
	line := ledger.New(ledger.Options{})
	gpon, uplink := module(2, "sfp1", "0", "-21340"), module(2147483646, "sfp-sfpplus1", "0", "-2400")
	for _, c := range []struct {
		name    string
		objects []snmpdtest.Object
		row     string
		want    string
	}{
		{"the only one", gpon, "", "-21.340"},
		{"by its name", append(uplink, gpon...), "sfp1", "-21.340"},
		{"by its name, the other", append(uplink, gpon...), "sfp-sfpplus1", "-2.400"},
		{"which of two", append(uplink, gpon...), "", "no_target"},
		{"none of that name", gpon, "sfp9", "no_target"},
		{"none", nil, "", "no_target"},
		{"lost", module(2, "sfp1", "1", "-21340"), "", "no_signal"},
		{"the floor", module(2, "sfp1", "0", "-40000"), "", "no_signal"},
		{"below the floor", module(2, "sfp1", "0", "-2147483648"), "", "no_signal"},
		{"a module that does not measure", module(2, "sfp1", "0", "0"), "", "malformed"},
		{"beyond any receiver", module(2, "sfp1", "0", "65535"), "", "malformed"},
		{"without the column", module(2, "sfp1", "0", "-1")[:2], "", "malformed"},
		{"of another sort", append(module(2, "sfp1", "0", "-1")[:2], object(mtxrOpticalRxPower+".2", "string", "-21.3")), "", "malformed"},
	} {
		agent.Set(c.objects...)
		r, got := read(t, Options{Access: access, Preset: MikroTik, Row: c.row, Ledger: line})
		if got != c.want || r.Instrument != "snmp-mikrotik" {
			t.Errorf("%s: %s (%s) by %s, want %s", c.name, got, r.Detail, r.Instrument, c.want)
		}
		if (r.Outcome == measure.OK) != (len(r.Flags) == 1 && r.Flags[0] == FlagUnverified) {
			t.Errorf("%s: flags %v", c.name, r.Flags)
		}
		if r.BytesReceived == 0 || r.BytesSent == 0 {
			t.Errorf("%s: costs nothing", c.name)
		}
	}
	if rx, tx := line.Own(); rx == 0 || tx == 0 {
		t.Error("nothing in the ledger")
	}
}

func TestEntitySensor(t *testing.T) {
	agent := snmpdtest.Start(t, []string{sensorTable, partTable})
	access := snmp.Access{Address: agent.Address, Community: snmpdtest.Community}
	const nano, micro, milli, units = "6", "7", "8", "9"
	sensor := func(kind, scale, precision, value, status, unit string) (objects []snmpdtest.Object) {
		for c, v := range map[string]string{entPhySensorType: kind, entPhySensorScale: scale, entPhySensorPrecision: precision,
			entPhySensorValue: value, entPhySensorOperStatus: status} {
			objects = append(objects, object(c+".1007", "integer", v))
		}
		return append(objects, object(entPhySensorUnitsDisplay+".1007", "string", unit),
			object(entPhysicalName+".1007", "string", "PON 1 Rx"), object(entPhysicalDescr+".1007", "string", "GPON receiver"),
			object(entPhysicalName+".1008", "string", "PON 1 Tx"), object(entPhysicalDescr+".1008", "string", "GPON"), object(entPhysicalDescr+".1009", "string", "GPON"))
	}
	good := sensor("6", nano, "0", "7345", "1", "watts")
	for _, c := range []struct {
		name    string
		objects []snmpdtest.Object
		row     string
		want    string
	}{
		{"nanowatts", good, "PON 1 Rx", "-21.340"},
		{"by what it is", good, "GPON receiver", "-21.340"},
		{"by number", good, "1007", "-21.340"},
		{"tenths of a microwatt", sensor("6", micro, "1", "73", "1", ""), "1007", "-21.367"},
		{"milliwatts with six places", sensor("6", milli, "6", "7345", "1", ""), "1007", "-21.340"},
		{"precision of digits", sensor("6", nano, "-3", "7345", "1", ""), "1007", "-21.340"},
		{"dBm, for which there is no type", sensor("1", units, "2", "-2134", "1", "dBm"), "1007", "-21.340"},
		{"dBm in milli", sensor("2", milli, "0", "-21340", "1", "DBM"), "1007", "-21.340"},
		{"in the dark", sensor("6", nano, "0", "0", "1", ""), "1007", "no_signal"},
		{"almost in the dark", sensor("6", nano, "0", "90", "1", ""), "1007", "no_signal"},
		{"negative watts", sensor("6", nano, "0", "-5", "1", ""), "1007", "no_signal"},
		{"a kilowatt of light", sensor("6", "10", "0", "1", "1", ""), "1007", "malformed"},
		{"an overflow", sensor("6", nano, "0", "1000000000", "1", ""), "1007", "malformed"},
		{"a scale that is none", sensor("6", "18", "0", "7345", "1", ""), "1007", "malformed"},
		{"unavailable", sensor("6", nano, "0", "7345", "2", ""), "1007", "other"},
		{"broken", sensor("6", nano, "0", "7345", "3", ""), "1007", "other"},
		{"a thermometer", sensor("8", units, "1", "410", "1", "celsius"), "1007", "no_target"},
		{"relative numbers", sensor("1", units, "0", "-21", "1", "percent"), "1007", "no_target"},
		{"no sensor", good, "1008", "no_target"},
		{"nobody's name", good, "PON 2 Rx", "no_target"},
		{"a name of two", good, "GPON", "no_target"},
	} {
		agent.Set(c.objects...)
		if r, got := read(t, Options{Access: access, Preset: EntitySensor, Row: c.row}); got != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, got, r.Detail, c.want)
		}
	}
}

func TestCustom(t *testing.T) {
	agent := snmpdtest.Start(t, []string{customTable})
	access := snmp.Access{Address: agent.Address, Community: snmpdtest.Community}
	for _, c := range []struct {
		name, sort, value string
		unit              Unit
		divisor           float64
		want              string
	}{
		{"hundredths", "integer", "-2134", "", 100, "-21.340"},
		{"whole", "integer", "-21", DBm, 0, "-21.000"},
		{"microwatts", "gauge", "7", Watt, 1e6, "-21.549"},
		{"a text", "string", "-21.34", "", 0, "-21.340"},
		{"a text with its unit", "string", " -21,34 dBm", "", 0, "-21.340"},
		{"a text that is none", "string", "LOS", "", 0, "malformed"},
		{"two numbers", "string", "-21.34 -8", "", 0, "malformed"},
		{"a text of a thousand digits", "string", strings.Repeat("9", 1000), "", 0, "malformed"},
		{"of another sort", "timeticks", "21", "", 0, "malformed"},
		{"beyond", "integer", "2134", "", 100, "malformed"},
		{"dark", "integer", "-5000", "", 100, "no_signal"},
	} {
		agent.Set(object(customTable+".2.0", c.sort, c.value))
		r, got := read(t, Options{Access: access, Preset: Custom, OID: customTable + ".2.0", Unit: c.unit, Divisor: c.divisor})
		if got != c.want || len(r.Flags) > 0 {
			t.Errorf("%s: %s (%s) %v, want %s", c.name, got, r.Detail, r.Flags, c.want)
		}
	}
	if r, got := read(t, Options{Access: access, Preset: Custom, OID: customTable + ".3.0"}); got != "no_target" {
		t.Errorf("an object that is not there: %s (%s)", got, r.Detail)
	}
	access.Community = "lain"
	if r, got := read(t, Options{Access: access, Preset: Custom, OID: customTable + ".2.0"}); got != "timeout" {
		t.Errorf("another community: %s (%s)", got, r.Detail)
	}
}

func TestNotMeasured(t *testing.T) {
	if r := New(Options{}).Measure(t.Context()); r.Outcome != measure.Skipped || r.Reason != measure.ReasonNoTarget {
		t.Errorf("%s/%s", r.Outcome, r.Reason)
	}
	for _, o := range []Options{{Preset: "huawei"}, {Preset: MikroTik}} {
		if r, got := read(t, o); got != "no_target" {
			t.Errorf("%s (%s)", got, r.Detail)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r := New(Options{Preset: MikroTik, Access: snmp.Access{Address: "192.0.2.1", Community: "x"}}).Measure(ctx); r.Reason != measure.ReasonCancelled {
		t.Errorf("%s/%s", r.Outcome, r.Reason)
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		o   Options
		key string // that is wrong
	}{
		{Options{}, ""}, {Options{Preset: MikroTik}, ""}, {Options{Preset: EntitySensor, Row: "7"}, ""}, {Options{Preset: Custom, OID: customTable, Unit: Watt, Divisor: 1e6}, ""},
		{Options{Preset: "huawei"}, "preset"}, {Options{Preset: EntitySensor}, "row"}, {Options{Preset: Custom}, "oid"}, {Options{Preset: Custom, OID: ".1.3.6.1"}, "oid"},
		{Options{Preset: Custom, OID: "1.3.6.01.4"}, "oid"}, {Options{Preset: Custom, OID: customTable, Row: "x"}, "row"}, {Options{Preset: MikroTik, OID: customTable}, "oid"},
		{Options{Unit: "lumen"}, "unit"}, {Options{Divisor: -1}, "divisor"}, {Options{Divisor: math.Inf(1)}, "divisor"},
	} {
		wrong := c.o.Check()
		if c.key == "" && len(wrong) > 0 || c.key != "" && (len(wrong) != 1 || wrong[c.key] == "") {
			t.Errorf("%+v: %v, want %q", c.o, wrong, c.key)
		}
	}
}

// Every preset says where it comes from, and claims no hardware.
func TestPresetsAreCited(t *testing.T) {
	for _, p := range Presets() {
		if p.Document == "" || !strings.Contains(p.Object, "1.3.6.1.") || p.Verified {
			t.Errorf("%+v", p)
		}
	}
}

package signal

import (
	"context"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/internal/nettest"
	"github.com/pantau-desa/pantau/probe/instrument/signal/modemtest"
	"github.com/pantau-desa/pantau/probe/measure"
)

// read says what came in words: figures, or a reason.
func read(t *testing.T, o Options) (measure.Result, string) {
	t.Helper()
	in := New(o)
	in.settle = 500 * time.Millisecond
	r := in.Measure(t.Context())
	if err := r.Validate(); err != nil {
		t.Errorf("no honest result: %v", err)
	}
	if r.Outcome != measure.OK {
		return r, string(r.Outcome) + " " + string(r.Reason)
	}
	var s []string
	for _, v := range r.Values {
		s = append(s, strings.TrimPrefix(string(v.Metric), "mobile_")+" "+strconv.FormatFloat(v.Number, 'f', -1, 64))
	}
	slices.Sort(s)
	return r, strings.Join(s, ", ")
}

type f map[string]any

const (
	connected = int32(11)
	gsm       = uint32(1 << 3)
	hspa      = uint32(1 << 8)
	lte       = uint32(1 << 14)
	nr        = uint32(1 << 15)
)

func TestModems(t *testing.T) {
	bus := modemtest.Bus(t)
	manager := modemtest.Start(t, bus)
	const whole = "cell_id 30331120, generation 4, rsrp_dbm -101, rsrq_db -11, sinr_db 7.4"
	good := modemtest.Modem{State: connected, AccessTechnologies: lte, PrimaryPort: "cdc-wdm0", Rate: 5,
		Lte: f{"rssi": -70.0, "rsrp": -101.0, "rsrq": -11.0, "snr": 7.4}, Location: "510,10,FFFE,1CED0F0,84CD"}
	with := func(change func(*modemtest.Modem)) []modemtest.Modem {
		m := good
		change(&m)
		return []modemtest.Modem{m}
	}
	other := good
	other.PrimaryPort, other.Lte = "ttyUSB2", f{"rsrp": -80.0}
	for _, c := range []struct {
		name    string
		modems  []modemtest.Modem
		modem   string
		want    string
		says    string
		refused bool
	}{
		{"LTE", []modemtest.Modem{good}, "", whole, "LTE", false},
		{"by its port", []modemtest.Modem{good, other}, "cdc-wdm0", whole, "LTE", false},
		{"by its number", []modemtest.Modem{other, good}, "1", whole, "LTE", false},
		{"nobody had it looked at", with(func(m *modemtest.Modem) { m.Rate = 0 }), "", whole, "LTE", false},
		{"LTE and NR", with(func(m *modemtest.Modem) { m.AccessTechnologies = lte | nr; m.Nr5g = f{"rsrp": -90.0} }), "", strings.Replace(whole, "n 4", "n 5", 1), "LTE and NR", false},
		{"NR alone", with(func(m *modemtest.Modem) {
			m.AccessTechnologies, m.Lte, m.Nr5g = nr, nil, f{"rsrp": -90.5, "rsrq": -10.0, "snr": 20.0}
			m.Location = "510,10,0,FFFFFFFFF,1"
		}), "", "cell_id 68719476735, generation 5, rsrp_dbm -90.5, rsrq_db -10, sinr_db 20", "NR", false},
		{"3G", with(func(m *modemtest.Modem) { m.AccessTechnologies, m.Lte = hspa, nil }), "", "cell_id 30331120, generation 3", "3G", false},
		{"2G", with(func(m *modemtest.Modem) { m.AccessTechnologies, m.Lte = gsm, nil }), "", "cell_id 30331120, generation 2", "2G", false},
		{"an old modem", with(func(m *modemtest.Modem) { m.NoSignal = true }), "", "cell_id 30331120, generation 4", "LTE", false},
		{"an old ModemManager", with(func(m *modemtest.Modem) { m.Location = "510,10,84CD,2BAF" }), "", strings.Replace(whole, "30331120", "11183", 1), "LTE", false},
		{"no cell", with(func(m *modemtest.Modem) { m.Location = nil }), "", strings.TrimPrefix(whole, "cell_id 30331120, "), "", false},
		{"may not ask for the cell", with(func(m *modemtest.Modem) { m.Denied = true }), "", strings.TrimPrefix(whole, "cell_id 30331120, "), "", false},
		{"may not have it looked at", with(func(m *modemtest.Modem) { m.Denied, m.Rate = true, 0 }), "", "failed permission", "polkit", false},

		{"searching", with(func(m *modemtest.Modem) { m.State = int32(7) }), "", "failed no_signal", "searches", false},
		{"locked", with(func(m *modemtest.Modem) { m.State = int32(2) }), "", "failed no_signal", "PIN", false},
		{"failed", with(func(m *modemtest.Modem) { m.State = int32(-1) }), "", "failed no_signal", "SIM", false},
		{"switched off", with(func(m *modemtest.Modem) { m.State = int32(3) }), "", "failed no_signal", "off", false},
		{"says nothing", with(func(m *modemtest.Modem) { m.AccessTechnologies, m.Lte, m.Location = uint32(0), nil, nil }), "", "failed no_signal", "nothing", false},
		{"none", nil, "", "failed no_target", "no modem", false},
		{"which of two", []modemtest.Modem{good, other}, "", "failed no_target", "cdc-wdm0 ttyUSB2", false},
		{"another", []modemtest.Modem{good}, "cdc-wdm7", "failed no_target", "cdc-wdm0", false},
		{"too many", slices.Repeat([]modemtest.Modem{good}, 17), "0", "failed malformed", "17 modems", false},

		{"a word for unknown", with(func(m *modemtest.Modem) { m.Lte = f{"rsrp": -9999.0, "rsrq": -11.0} }), "", "cell_id 30331120, generation 4, rsrq_db -11", "", true},
		{"not a number", with(func(m *modemtest.Modem) { m.Lte = f{"rsrp": math.NaN(), "rsrq": math.Inf(1), "snr": math.Inf(-1)} }), "", "cell_id 30331120, generation 4", "", true},
		{"a text for a number", with(func(m *modemtest.Modem) { m.Lte = f{"rsrp": "-101"} }), "", "cell_id 30331120, generation 4", "", true},
		{"whole numbers", with(func(m *modemtest.Modem) { m.Lte = f{"rsrp": int32(-101), "snr": uint64(7)} }), "", "cell_id 30331120, generation 4", "", true},
		{"a text for a dictionary", with(func(m *modemtest.Modem) { m.Broken = true }), "", "cell_id 30331120, generation 4", "", false},
		{"a cell that is none", with(func(m *modemtest.Modem) { m.Location = "510,10,FFFE,zebra,84CD" }), "", strings.TrimPrefix(whole, "cell_id 30331120, "), "", true},
		{"a cell beyond all", with(func(m *modemtest.Modem) { m.Location = "510,10,FFFE,FFFFFFFFFFFFFFFFFFFF" }), "", strings.TrimPrefix(whole, "cell_id 30331120, "), "", true},
		{"a number for a cell", with(func(m *modemtest.Modem) { m.Location = uint32(7) }), "", strings.TrimPrefix(whole, "cell_id 30331120, "), "", true},
		{"nothing that can be", with(func(m *modemtest.Modem) {
			m.AccessTechnologies, m.Lte, m.Location = "LTE", f{"rsrp": 5.0}, nil
		}), "", "failed malformed", "can be", false},
		{"a state that is none", with(func(m *modemtest.Modem) { m.State = "connected" }), "", "failed malformed", "state", false},
		{"without a state", with(func(m *modemtest.Modem) { m.State = nil }), "", "failed malformed", "state", false},
	} {
		asked := len(c.modems) > 0 && c.modems[0].Rate == 0 && !c.modems[0].NoSignal
		manager.Set(c.modems...)
		before := manager.Setups()
		r, got := read(t, Options{Bus: bus, Modem: c.modem})
		if got != c.want || !strings.Contains(r.Detail, c.says) || slices.Contains(r.Flags, FlagRefused) != c.refused {
			t.Errorf("%s: %s (%s) %v\nwant %s (%s)", c.name, got, r.Detail, r.Flags, c.want, c.says)
		}
		if r.BytesReceived+r.BytesSent != 0 {
			t.Errorf("%s: costs the line something", c.name)
		}
		if (manager.Setups() > before) != asked {
			t.Errorf("%s: had the signal looked at: %v", c.name, manager.Setups() > before)
		}
	}
	// What was asked for stays: the next reading need not ask.
	manager.Set(with(func(m *modemtest.Modem) { m.Rate = 0 })...)
	read(t, Options{Bus: bus})
	before := manager.Setups()
	if _, got := read(t, Options{Bus: bus}); got != whole || manager.Setups() != before {
		t.Errorf("%s, asked again: %v", got, manager.Setups() != before)
	}
}

func TestNobodyThere(t *testing.T) {
	if r, got := read(t, Options{Bus: "unix:path=" + filepath.Join(t.TempDir(), "none")}); got != "skipped no_target" {
		t.Errorf("without a bus: %s (%s)", got, r.Detail)
	}
	if r, got := read(t, Options{Bus: "tcp:host=127.0.0.1"}); got != "failed no_target" {
		t.Errorf("a bus of another sort: %s (%s)", got, r.Detail)
	}
	bus := modemtest.Bus(t)
	if r, got := read(t, Options{Bus: bus}); got != "skipped no_target" || !strings.Contains(r.Detail, "no ModemManager") {
		t.Errorf("without ModemManager: %s (%s)", got, r.Detail)
	}
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
	modemtest.Start(t, bus)
	if r, got := read(t, Options{}); got != "failed no_target" || !strings.Contains(r.Detail, "no modem") {
		t.Errorf("by the environment: %s (%s)", got, r.Detail)
	}
}

// What hangs, hangs no longer than the caller waits, and leaves nothing behind.
func TestWhatHangs(t *testing.T) {
	bus := modemtest.Bus(t)
	manager := modemtest.Start(t, bus)
	manager.Set(modemtest.Modem{State: connected, AccessTechnologies: lte, Silent: true})
	deaf, err := net.Listen("unix", filepath.Join(t.TempDir(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	noise, err := net.Listen("unix", filepath.Join(t.TempDir(), "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer noise.Close()
	go func() {
		for {
			c, err := noise.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for {
					if _, err := c.Write([]byte("REJECTED EXTERNAL\r\nOK 1234\r\nl\x02\x01\x01\xff\xff\xff\x7f")); err != nil {
						return
					}
				}
			}()
		}
	}()
	before := runtime.NumGoroutine()
	for name, bus := range map[string]string{"a silent modem": bus, "a deaf bus": "unix:path=" + deaf.Addr().String(), "a bus that talks nonsense": "unix:path=" + noise.Addr().String()} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		begun := time.Now()
		r := New(Options{Bus: bus}).Measure(ctx)
		if r.Outcome != measure.Failed || len(r.Values) > 0 || time.Since(begun) > 5*time.Second {
			t.Errorf("%s: %s/%s (%s) after %v", name, r.Outcome, r.Reason, r.Detail, time.Since(begun))
		}
		cancel()
	}
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		New(Options{Bus: bus}).Measure(ctx)
		cancel()
	}
	for until := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+30 && time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond)
	}
	// The silent modem's own handlers wait for the end of the test: one for each call.
	if n := runtime.NumGoroutine(); n > before+30 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	bus := modemtest.Bus(t)
	manager := modemtest.Start(t, bus)
	manager.Set(modemtest.Modem{State: connected, AccessTechnologies: lte, Rate: 5, Lte: f{"rsrp": -101.0}})
	in := New(Options{Bus: bus})
	nettest.Steady(t, 300, func() {
		if r := in.Measure(t.Context()); r.Outcome != measure.OK {
			t.Errorf("%s/%s %s", r.Outcome, r.Reason, r.Detail)
		}
	})
}

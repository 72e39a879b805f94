// Package modemtest plays ModemManager on a bus of the test's own: a real
// dbus-daemon, and a service with ModemManager's names that says what the test
// wants. No modem and no ModemManager is needed.
package modemtest

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/godbus/dbus/v5"
)

const (
	service  = "org.freedesktop.ModemManager1"
	rootPath = dbus.ObjectPath("/org/freedesktop/ModemManager1")
	modem    = service + ".Modem"
)

// Bus runs a dbus-daemon until the test ends and returns its address. Without the
// program the test is skipped, or fails if the environment has CI=true.
func Bus(t *testing.T) (address string) {
	t.Helper()
	tool, err := exec.LookPath("dbus-daemon")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs dbus-daemon, and CI may not skip it")
		}
		t.Skip("needs dbus-daemon (Debian: dbus)")
	}
	dir, err := os.MkdirTemp("", "bus") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <listen>unix:path=%s/socket</listen>
  <policy context="default"><allow own="*"/><allow send_destination="*"/><allow eavesdrop="false"/></policy>
</busconfig>
`, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "--config-file="+config, "--nofork", "--nosyslog", "--print-address=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started, done := make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // Pdeathsig is about the thread that forks: it lives as long
		started <- cmd.Start()
		<-t.Context().Done()
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-done })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address, _, _ = strings.Cut(strings.TrimSpace(line), ",guid=")
	return address
}

// Modem is what one modem says. Figures are of any type: a modem may be hostile.
type Modem struct {
	State              any            // MMModemState, int32
	AccessTechnologies any            // MMModemAccessTechnology, uint32
	PrimaryPort        string         // such as cdc-wdm0
	Lte, Nr5g          map[string]any // once somebody has had it looked at
	Rate               uint32         // 0: nobody has
	NoSignal           bool           // has no interface Signal
	Denied             bool           // Setup and GetLocation are not permitted
	Location           any            // of source 1 (3GPP LAC and CI); nil: none
	Broken             bool           // Signal's dictionaries are no dictionaries
	Silent             bool           // answers nothing but the list of modems
}

// Manager is a ModemManager.
type Manager struct {
	t    *testing.T
	conn *dbus.Conn

	mu     sync.Mutex
	modems map[dbus.ObjectPath]*Modem
	setups int
}

// Start plays ModemManager on the bus until the test ends, at first without a modem.
func Start(t *testing.T, address string) *Manager {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	m := &Manager{t: t, conn: conn, modems: map[dbus.ObjectPath]*Modem{}}
	if err := conn.Export(m, rootPath, "org.freedesktop.DBus.ObjectManager"); err != nil {
		t.Fatal(err)
	}
	reply, err := conn.RequestName(service, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatal(reply, err)
	}
	return m
}

// Set makes these the modems that there are, numbered from 0.
func (m *Manager) Set(modems ...Modem) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.modems)
	for i := range modems {
		path := dbus.ObjectPath(fmt.Sprintf("%s/Modem/%d", rootPath, i))
		m.modems[path] = &modems[i]
		h := handle{m, path}
		for iface, methods := range map[string]map[string]any{
			"org.freedesktop.DBus.Properties": {"GetAll": h.getAll},
			modem + ".Signal":                 {"Setup": h.setup},
			modem + ".Location":               {"GetLocation": h.location},
		} {
			if err := m.conn.ExportMethodTable(methods, path, iface); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// Setups is how often somebody has had the signal looked at.
func (m *Manager) Setups() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.setups
}

// GetManagedObjects is org.freedesktop.DBus.ObjectManager's.
func (m *Manager) GetManagedObjects() (map[dbus.ObjectPath]map[string]map[string]dbus.Variant, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[dbus.ObjectPath]map[string]map[string]dbus.Variant{}
	for path, x := range m.modems {
		o := map[string]map[string]dbus.Variant{modem: {"PrimaryPort": dbus.MakeVariant(x.PrimaryPort)}}
		for name, v := range map[string]any{"State": x.State, "AccessTechnologies": x.AccessTechnologies} {
			if v != nil {
				o[modem][name] = dbus.MakeVariant(v)
			}
		}
		if !x.NoSignal {
			o[modem+".Signal"] = x.signal()
		}
		o[modem+".Location"] = map[string]dbus.Variant{}
		all[path] = o
	}
	return all, nil
}

func (x *Modem) signal() map[string]dbus.Variant {
	of := map[string]dbus.Variant{"Rate": dbus.MakeVariant(x.Rate)}
	if x.Broken {
		of["Lte"] = dbus.MakeVariant("strong")
		return of
	}
	for name, figures := range map[string]map[string]any{"Lte": x.Lte, "Nr5g": x.Nr5g} {
		d := map[string]dbus.Variant{}
		if x.Rate > 0 {
			for k, v := range maps.All(figures) {
				d[k] = dbus.MakeVariant(v)
			}
		}
		of[name] = dbus.MakeVariant(d)
	}
	return of
}

type handle struct {
	m    *Manager
	path dbus.ObjectPath
}

// modem returns the modem, or blocks until the test ends if it is silent.
func (h handle) modem() *Modem {
	h.m.mu.Lock()
	x := h.m.modems[h.path]
	h.m.mu.Unlock()
	if x.Silent {
		<-h.m.t.Context().Done()
	}
	return x
}

func (h handle) getAll(iface string) (map[string]dbus.Variant, *dbus.Error) {
	x := h.modem()
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return x.signal(), nil
}

func denied() *dbus.Error {
	return dbus.NewError("org.freedesktop.ModemManager1.Error.Core.Unauthorized", []any{"PolicyKit authorization failed"})
}

func (h handle) setup(rate uint32) *dbus.Error {
	x := h.modem()
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.m.setups++
	if x.Denied {
		return denied()
	}
	x.Rate = rate
	return nil
}

func (h handle) location() (map[uint32]dbus.Variant, *dbus.Error) {
	x := h.modem()
	if x.Denied {
		return nil, denied()
	}
	where := map[uint32]dbus.Variant{2: dbus.MakeVariant("$GPGGA")}
	if x.Location != nil {
		where[1] = dbus.MakeVariant(x.Location)
	}
	return where, nil
}

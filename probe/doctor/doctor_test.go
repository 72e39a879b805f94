package doctor

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/enroll"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// A box against servers that are not what it enrolled with. Against a real
// collector it is tested where the program is.

// authority is a CA with a leaf that is valid until the given time.
func authority(t *testing.T, until time.Time) (ca *x509.Certificate, chain tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().AddDate(-1, 0, 0), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	raw, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ca, tls.Certificate{Certificate: [][]byte{raw, der}, PrivateKey: key}
}

// box is the state directory of an enrolled box.
func box(t *testing.T, dir, collector string, ca *x509.Certificate, config *wirepb.ProbeConfig) enroll.State {
	t.Helper()
	identity, err := json.Marshal(map[string]any{"probe": "kl-0001", "site": "klaten-0001", "collector": collector,
		"heartbeat_key": bytes.Repeat([]byte{5}, wire.HeartbeatKeySize), "ca_certificate": ca.Raw, "enrolled_at": time.Now().Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"identity.json": identity, "key": bytes.Repeat([]byte{7}, 32)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := enroll.State{Dir: dir}
	if err := s.SaveConfig(config); err != nil {
		t.Fatal(err)
	}
	return s
}

// examine returns the findings of some checks, a line each.
func examine(t *testing.T, o Options, checks ...Check) string {
	t.Helper()
	if o.Patience == 0 {
		o.Patience = 500 * time.Millisecond
	}
	findings, err := Examine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for f := range findings {
		if f.Seen.ID == "" || f.Seen.EN == "" || (f.Verdict == Problem) != (f.Do.ID != "" && f.Do.EN != "") || strings.Contains(fmt.Sprint(f), "%!") {
			t.Errorf("a finding without words: %+v", f)
		}
		if slices.Contains(checks, f.Check) {
			out = append(out, fmt.Sprintf("%s %s: %s. %s", f.Check, f.Verdict, f.Seen.EN, f.Do.EN))
			if f.Check == checks[len(checks)-1] {
				break
			}
		}
	}
	return strings.Join(out, "\n")
}

func server(t *testing.T, config *tls.Config, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if s.TLS = config; config != nil {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func TestWhoAnswersInsteadOfTheCollector(t *testing.T) {
	ca, chain := authority(t, time.Now().Add(time.Hour))
	_, foreign := authority(t, time.Now().Add(time.Hour))
	expiredCA, expired := authority(t, time.Now().Add(-48*time.Hour))
	with := func(c tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS13}
	}
	old := with(chain)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	answer := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, text, status) }
	}
	plain := server(t, nil, answer(200, "hello"))
	for _, c := range []struct {
		name string
		url  string
		ca   *x509.Certificate
		want []string
	}{
		{"another CA", server(t, with(foreign), answer(200, "")).URL, ca, []string{"problem", "another server answers", "captive portal"}},
		{"TLS 1.2", server(t, old, answer(200, "")).URL, ca, []string{"problem", "no TLS 1.3"}},
		{"plain HTTP", strings.Replace(plain.URL, "http://", "https://", 1), ca, []string{"problem", "is no collector"}},
		{"expired", server(t, with(expired), answer(200, "")).URL, expiredCA, []string{"problem", "is not valid", "NTP"}},
		{"revoked", server(t, with(chain), answer(403, "this probe\nis revoked")).URL, ca, []string{"problem", "refuses this probe: this probe is revoked", "pantau probe list"}},
		{"busy", server(t, with(chain), answer(503, "later")).URL, ca, []string{"problem", "answers 503: later"}},
		{"no acknowledgement", server(t, with(chain), answer(200, "welcome")).URL, ca, []string{"problem", "not as a collector does"}},
		{"closed port", "https://127.0.0.1:1", ca, []string{"problem", "refuses the TCP connection"}},
		{"no such name", "https://kolektor.invalid:7443", ca, []string{"dns problem", "kolektor.invalid is not found", "collector problem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			box(t, dir, c.url, c.ca, &wirepb.ProbeConfig{})
			got := examine(t, Options{StateDir: dir}, DNS, Collector)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("%s\ndoes not say %q", got, w)
				}
			}
		})
	}
}

func TestACollectorThatIsSilent(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	box(t, dir, "https://"+l.Addr().String(), ca, &wirepb.ProbeConfig{})
	start := time.Now()
	got := examine(t, Options{StateDir: dir, Patience: 300 * time.Millisecond}, Collector, Heartbeat)
	if !strings.Contains(got, "does not answer by TCP") || !strings.Contains(got, "heartbeats by UDP to "+l.Addr().String()+" are not answered") {
		t.Error(got)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestMeasurementServers(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	page := func(h http.HandlerFunc) string { return server(t, nil, h).URL }
	for _, c := range []struct{ name, url, want string }{
		{"good", page(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/speedtest/latency.txt" {
				t.Errorf("asked for %s", r.URL)
			}
			io.WriteString(w, "test=test\n")
		}), "target ok"},
		{"sign-in page", page(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://portal/", http.StatusFound) }), "HTTP 302"},
		{"parked", page(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>\x1b[2Jfor sale") }), `no_server: latency.txt: "<html> [2Jfor sale"`},
		{"gone", "http://127.0.0.1:1/speedtest", "refused"},
		{"silent", silent(t), "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			box(t, dir, "https://127.0.0.1:1", ca, &wirepb.ProbeConfig{SpeedTargets: []*wirepb.SpeedTarget{{Id: "ukur-1", Url: c.url}}})
			if got := examine(t, Options{StateDir: dir}, Target); !strings.Contains(got, c.want) || !strings.Contains(got, "ukur-1") {
				t.Errorf("%s\ndoes not say %q", got, c.want)
			}
		})
	}
}

func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return "http://" + l.Addr().String()
}

func TestClockBeforeWhatHasPassed(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	dir := t.TempDir()
	s := box(t, dir, "https://127.0.0.1:1", ca, &wirepb.ProbeConfig{})
	// To this box, what is written here has passed: its clock has gone back.
	if err := s.SaveLastSeen(time.Now().AddDate(3, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if got := examine(t, Options{StateDir: dir}, Clock); !strings.Contains(got, "clock problem") || !strings.Contains(got, "it is later than") || !strings.Contains(got, "NTP") {
		t.Error(got)
	}
}

func TestIdentityThatIsBroken(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	for name, damage := range map[string]func(dir string) error{
		"torn file": func(dir string) error { return os.Truncate(filepath.Join(dir, "identity.json"), 20) },
		"no key":    func(dir string) error { return os.Remove(filepath.Join(dir, "key")) },
	} {
		dir := t.TempDir()
		box(t, dir, "https://127.0.0.1:1", ca, &wirepb.ProbeConfig{})
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if got := examine(t, Options{StateDir: dir}, Identity, Collector, Target); !strings.Contains(got, "identity problem") || !strings.Contains(got, "enrol again") ||
			!strings.Contains(got, "collector skipped") || !strings.Contains(got, "target skipped") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	dir := t.TempDir()
	box(t, dir, "https://127.0.0.1:1", ca, &wirepb.ProbeConfig{})
	list := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, fmt.Sprint(e.Name(), info.Mode(), info.ModTime(), info.Size()))
		}
		return names
	}
	before := list()
	if got := examine(t, Options{StateDir: dir}, Identity); !strings.Contains(got, "identity ok: probe kl-0001 at site klaten-0001") {
		t.Error(got)
	}
	if after := list(); !slices.Equal(before, after) {
		t.Errorf("before %v\nafter %v", before, after)
	}
}

func TestStateInMemoryIsAProblem(t *testing.T) {
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err != nil || uint32(st.Type) != unix.TMPFS_MAGIC {
		t.Skip("/dev/shm is no file system in memory here")
	}
	dir, err := os.MkdirTemp("/dev/shm", "pantau-doctor-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if got := examine(t, Options{StateDir: dir}, Disk); !strings.Contains(got, "disk problem") || !strings.Contains(got, "is in memory") {
		t.Error(got)
	}
}

func TestInterfaces(t *testing.T) {
	ca, _ := authority(t, time.Now().Add(time.Hour))
	dir := t.TempDir()
	box(t, dir, "https://127.0.0.1:1", ca, &wirepb.ProbeConfig{UsageInterface: "wan7"})
	if got := examine(t, Options{StateDir: dir}, Usage); !strings.Contains(got, "usage problem: interface wan7") {
		t.Error(got)
	}
	if got := examine(t, Options{StateDir: dir, UsageInterface: "lo"}, Usage); !strings.Contains(got, "usage ok: interface lo") {
		t.Error(got)
	}
}

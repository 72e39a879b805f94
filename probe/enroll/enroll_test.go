package enroll

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// authority is a collector's CA with a leaf that begins and ends as told.
func authority(t *testing.T, from, to time.Time) (ca *x509.Certificate, chain tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: from.AddDate(-1, 0, 0), NotAfter: to.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: from, NotAfter: to, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return ca, tls.Certificate{Certificate: [][]byte{leafDER, der}, PrivateKey: key}
}

func code(ca *x509.Certificate) wire.ClaimCode {
	sum := sha256.Sum256(ca.Raw)
	c := wire.ClaimCode{Secret: [10]byte{1, 2, 3}}
	copy(c.Fingerprint[:], sum[:])
	return c
}

// office answers enrolments; keys collects the public keys that asked.
func office(t *testing.T, ca *x509.Certificate, chain tls.Certificate, keys *[][]byte, meddle func(n int, m *wirepb.EnrollResponse) bool) string {
	t.Helper()
	n := 0
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		raw, _ := io.ReadAll(r.Body)
		var ask wirepb.EnrollRequest
		if err := proto.Unmarshal(raw, &ask); err != nil || r.URL.Path != wire.PathEnroll {
			t.Errorf("%s: %v", r.URL, err)
		}
		if !bytes.Equal(ask.Secret, []byte{1, 2, 3, 0, 0, 0, 0, 0, 0, 0}) {
			http.Error(w, "no such claim code", http.StatusForbidden)
			return
		}
		*keys = append(*keys, ask.PublicKey)
		m := &wirepb.EnrollResponse{Probe: "kl-0001", Site: "klaten-0001", HeartbeatKey: bytes.Repeat([]byte{5}, 32), CaCertificate: ca.Raw,
			CollectorTimeNs: time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC).UnixNano(), ConfigVersion: 3, Config: &wirepb.ProbeConfig{LanGateway: "192.0.2.1"}}
		if meddle != nil && !meddle(n, m) {
			panic(http.ErrAbortHandler)
		}
		raw, _ = proto.Marshal(m)
		w.Write(raw)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{chain}, MinVersion: tls.VersionTLS13}
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestEnrolmentMakesAnIdentity(t *testing.T) {
	ca, chain := authority(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	var keys [][]byte
	url := office(t, ca, chain, &keys, nil)
	s := State{Dir: filepath.Join(t.TempDir(), "state")}
	if _, err := s.Identity(); !errors.Is(err, ErrNotEnrolled) {
		t.Fatal(err)
	}
	id, err := s.Enroll(t.Context(), Request{Collector: url + "/", Code: code(ca)})
	if err != nil {
		t.Fatal(err)
	}
	kept, err := s.Identity()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []Identity{id, kept} {
		if i.Probe != "kl-0001" || i.Site != "klaten-0001" || i.Collector != url || !i.CA.Equal(ca) || len(i.HeartbeatKey) != 32 ||
			!bytes.Equal(i.Key.Public().(ed25519.PublicKey), keys[0]) || i.EnrolledAt.Year() != 2026 {
			t.Fatalf("%+v", i)
		}
		if text := fmt.Sprintf("%v %+v %#v", i, i, i); strings.Contains(text, fmt.Sprint([]byte(i.Key.Seed()))) || strings.Contains(text, "[5 5") {
			t.Errorf("a secret prints: %s", text)
		}
	}
	if c, err := s.Config(); err != nil || c.GetLanGateway() != "192.0.2.1" {
		t.Fatalf("%v, %v", c, err)
	}
	if got := s.LastSeen(); !got.Equal(id.EnrolledAt) {
		t.Fatalf("last seen %v", got)
	}
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if info, _ := e.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
	}
}

func TestALostAnswerIsAskedForAgainWithTheSameKey(t *testing.T) {
	ca, chain := authority(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	var keys [][]byte
	url := office(t, ca, chain, &keys, func(n int, _ *wirepb.EnrollResponse) bool { return n > 1 })
	s := State{Dir: t.TempDir()}
	if _, err := s.Enroll(t.Context(), Request{Collector: url, Code: code(ca)}); err == nil {
		t.Fatal("the answer was lost, yet it enrolled")
	}
	if _, err := s.Enroll(t.Context(), Request{Collector: url, Code: code(ca)}); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 2 || !bytes.Equal(keys[0], keys[1]) {
		t.Fatal("another key the second time: the code is spent")
	}
}

func TestAnotherServerIsNotTheCollector(t *testing.T) {
	now := time.Now()
	ours, _ := authority(t, now.Add(-time.Hour), now.Add(time.Hour))
	theirs, chain := authority(t, now.Add(-time.Hour), now.Add(time.Hour))
	var keys [][]byte
	url := office(t, theirs, chain, &keys, nil)
	s := State{Dir: t.TempDir()}
	if _, err := s.Enroll(t.Context(), Request{Collector: url, Code: code(ours)}); !errors.Is(err, ErrWrongCollector) {
		t.Fatal(err)
	}
	if len(keys) != 0 {
		t.Fatal("the secret was told to another server")
	}
}

// A box that boots in 1970, or in 2099, enrols: the time is clamped into the
// leaf's validity, which is here all in the future or all in the past.
func TestAWrongClockDoesNotStopEnrolment(t *testing.T) {
	for name, year := range map[string]int{"clock behind": 10, "clock ahead": -10} {
		t.Run(name, func(t *testing.T) {
			from := time.Now().AddDate(year, 0, 0)
			ca, chain := authority(t, from, from.AddDate(0, 3, 0))
			var keys [][]byte
			url := office(t, ca, chain, &keys, nil)
			if _, err := (State{Dir: t.TempDir()}).Enroll(t.Context(), Request{Collector: url, Code: code(ca)}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	ca, chain := authority(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	var keys [][]byte
	url := office(t, ca, chain, &keys, func(_ int, m *wirepb.EnrollResponse) bool { m.HeartbeatKey = nil; return true })
	wrongCode := code(ca)
	wrongCode.Secret[0]++
	for _, c := range []struct {
		request Request
		says    string
	}{
		{Request{Collector: "http://x:1", Code: code(ca)}, "https://host:7443"},
		{Request{Collector: "kolektor", Code: code(ca)}, "https://host:7443"},
		{Request{Collector: "https://127.0.0.1:1", Code: code(ca)}, "cannot be reached"},
		{Request{Collector: url, Code: wrongCode}, "no such claim code"},
		{Request{Collector: url, Code: code(ca)}, "incomplete"},
	} {
		s := State{Dir: t.TempDir()}
		if _, err := s.Enroll(t.Context(), c.request); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.says, err)
		}
		if _, err := s.Identity(); !errors.Is(err, ErrNotEnrolled) {
			t.Errorf("%s: half an identity is left: %v", c.says, err)
		}
	}
}

func TestRootEnrolsForTheOwnerOfTheDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another account")
	}
	ca, chain := authority(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	var keys [][]byte
	url := office(t, ca, chain, &keys, nil)
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	if _, err := (State{Dir: dir}).Enroll(t.Context(), Request{Collector: url, Code: code(ca)}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 4 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if uid := owner(t, filepath.Join(dir, e.Name())); uid != 65534 {
			t.Errorf("%s belongs to %d", e.Name(), uid)
		}
	}
}

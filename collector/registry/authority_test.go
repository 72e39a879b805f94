package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// serve answers each connection with an echo until the test ends.
func serve(t *testing.T, r *Registry) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", r.TLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

// dial pins the authority, as a probe does.
func dial(t *testing.T, addr string, ca *x509.Certificate, c *fakeClock) *tls.Conn {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Time: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func echo(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestLeafRenewsWithLiveConnections(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	r := open(t, dir, c)
	addr := serve(t, r)
	old := dial(t, addr, r.CA(), c)
	echo(t, old)
	state := old.ConnectionState()
	first := state.PeerCertificates[0]
	if state.Version != tls.VersionTLS13 || len(state.PeerCertificates) != 2 || !state.PeerCertificates[1].Equal(r.CA()) {
		t.Fatalf("version %x, %d certificates", state.Version, len(state.PeerCertificates))
	}
	if got := first.NotAfter.Sub(c.now()); got != 90*24*time.Hour || first.NotBefore.Sub(c.now()) != -24*time.Hour {
		t.Fatalf("valid from %v to %v", first.NotBefore, first.NotAfter)
	}
	if got := r.CA().NotAfter.Sub(c.now()); got < 3650*24*time.Hour || r.CA().NotBefore.Sub(c.now()) != -24*time.Hour {
		t.Fatalf("authority from %v to %v", r.CA().NotBefore, r.CA().NotAfter)
	}

	c.add(60*24*time.Hour - time.Minute)
	if renewed, err := r.Renew(); renewed || err != nil {
		t.Fatalf("renewed before two thirds of its life: %v", err)
	}
	c.add(2 * time.Minute)
	if renewed, err := r.Renew(); !renewed || err != nil {
		t.Fatalf("not renewed after two thirds of its life: %v", err)
	}
	echo(t, old)
	second := dial(t, addr, r.CA(), c).ConnectionState().PeerCertificates[0]
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Fatal("new connections get the old leaf")
	}
	if renewed, err := r.Renew(); renewed || err != nil {
		t.Fatalf("renewed twice: %v", err)
	}

	// It outlives a restart, and so does the authority.
	ca := r.CA()
	r.Close()
	r = open(t, dir, c)
	if !r.CA().Equal(ca) || !r.authority.leaf.Load().Leaf.Equal(second) {
		t.Fatal("a restart changed certificates")
	}
}

// Under Run, a leaf that is due is renewed within the hour, year after year.
func TestRunRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := Open(Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		seen := map[string]bool{}
		for range 400 {
			time.Sleep(24 * time.Hour)
			synctest.Wait()
			leaf := r.authority.leaf.Load().Leaf
			seen[leaf.SerialNumber.String()] = true
			if left := time.Until(leaf.NotAfter); left < leafRest-2*time.Hour {
				t.Fatalf("%v left", left)
			}
		}
		if len(seen) != 7 {
			t.Errorf("%d leaves in 400 days, want one every 60", len(seen))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestLeafIsReplacedWhenItDoesNotServe(t *testing.T) {
	for name, test := range map[string]struct {
		names []string
		harm  func(dir string, c *fakeClock) error
	}{
		"gone": {harm: func(dir string, _ *fakeClock) error { return os.Remove(filepath.Join(dir, leafFile)) }},
		"garbled": {harm: func(dir string, _ *fakeClock) error {
			return os.WriteFile(filepath.Join(dir, leafFile), []byte("x"), 0o600)
		}},
		"ended":          {harm: func(_ string, c *fakeClock) error { c.add(100 * 24 * time.Hour); return nil }},
		"other names":    {names: []string{"new.example", "::1"}, harm: func(string, *fakeClock) error { return nil }},
		"seen by others": {harm: func(dir string, _ *fakeClock) error { return os.Chmod(filepath.Join(dir, leafFile), 0o644) }},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := newClock(), t.TempDir()
			r, err := Open(Options{Dir: dir, Now: c.now})
			if err != nil {
				t.Fatal(err)
			}
			old := r.authority.leaf.Load().Leaf
			r.Close()
			if err := test.harm(dir, c); err != nil {
				t.Fatal(err)
			}
			r, err = Open(Options{Dir: dir, Names: test.names, Now: c.now})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			leaf := r.authority.leaf.Load().Leaf
			if leaf.Equal(old) {
				t.Fatal("it is served still")
			}
			for _, n := range test.names {
				if err := leaf.VerifyHostname(n); err != nil {
					t.Error(err)
				}
			}
			roots := x509.NewCertPool()
			roots.AddCert(r.CA())
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: c.now()}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFingerprintIsOfTheAuthority(t *testing.T) {
	r := open(t, t.TempDir(), newClock())
	sum := sha256.Sum256(r.CA().Raw)
	if f := r.Fingerprint(); string(f[:]) != string(sum[:16]) {
		t.Fatalf("%x is not the beginning of %x", f, sum)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	r := open(t, t.TempDir(), newClock())
	addr := serve(t, r)
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}); err == nil {
		c.Close()
		t.Fatal("TLS 1.2 is spoken")
	}
}

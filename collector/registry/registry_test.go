package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// fakeClock is set by the test.
type fakeClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *fakeClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func newClock() *fakeClock { return &fakeClock{at: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)} }

func open(t testing.TB, dir string, c *fakeClock) *Registry {
	t.Helper()
	r, err := Open(Options{Dir: dir, Names: []string{"collector.example", "127.0.0.1"}, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func add(t testing.TB, r *Registry, id measure.ProbeID) []byte {
	t.Helper()
	code, _, err := r.Add(id, "site-"+measure.SiteID(id))
	if err != nil {
		t.Fatal(err)
	}
	return code.Secret[:]
}

func newKey(t testing.TB) ed25519.PublicKey {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

func claimed(t testing.TB, r *Registry, secret []byte, key ed25519.PublicKey) Grant {
	t.Helper()
	g, err := r.Claim(secret, key)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestEnrolment(t *testing.T) {
	c := newClock()
	r := open(t, t.TempDir(), c)
	code, expires, err := r.Add("kl-0001", "s1")
	if err != nil {
		t.Fatal(err)
	}
	if code.Fingerprint != r.Fingerprint() || !expires.Equal(c.now().Add(7*24*time.Hour)) {
		t.Fatalf("code for %x until %v", code.Fingerprint, expires)
	}
	if _, err := r.Key("kl-0001"); !errors.Is(err, ErrUnknown) || r.Enrolled("kl-0001") {
		t.Fatalf("a code alone makes a key: %v", err)
	}
	key := newKey(t)
	g := claimed(t, r, code.Secret[:], key)
	if g.Probe != "kl-0001" || g.Site != "s1" || g.HeartbeatKey == (HeartbeatKey{}) || !g.EnrolledAt.Equal(c.now()) {
		t.Fatalf("%+v", g)
	}
	k, err := r.Key("kl-0001")
	if err != nil || !k.Public.Equal(key) || k.Heartbeat != g.HeartbeatKey || !r.Enrolled("kl-0001") {
		t.Fatalf("%+v, %v", k, err)
	}
}

// Each case plays a story and ends with one claim.
func TestClaims(t *testing.T) {
	type world struct {
		*testing.T
		r          *Registry
		c          *fakeClock
		mine, thie ed25519.PublicKey
	}
	for name, test := range map[string]struct {
		play func(w world) (secret []byte, key ed25519.PublicKey)
		want error
	}{
		"first": {func(w world) ([]byte, ed25519.PublicKey) { return add(w, w.r, "p"), w.mine }, nil},
		"at the last second": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			w.c.add(ClaimLife - time.Second)
			return s, w.mine
		}, nil},
		"expired": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			w.c.add(ClaimLife)
			return s, w.mine
		}, ErrClaimExpired},
		"never made": {func(w world) ([]byte, ed25519.PublicKey) {
			add(w, w.r, "p")
			return make([]byte, 10), w.mine
		}, ErrClaimUnknown},
		"the same key again": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			return s, w.mine
		}, nil},
		"the same key again, after the end": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			w.c.add(ClaimLife)
			return s, w.mine
		}, ErrClaimExpired},
		"another key": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			return s, w.thie
		}, ErrClaimUsed},
		"a newer code voids the open one": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			add(w, w.r, "p")
			return s, w.mine
		}, ErrClaimUnknown},
		"the old box, after a new one took over": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			claimed(w, w.r, add(w, w.r, "p"), w.thie)
			return s, w.mine
		}, ErrClaimUsed},
		"an open newer code does not disturb the answer": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			add(w, w.r, "p")
			return s, w.mine
		}, nil},
		"revoked before use": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			if err := w.r.Revoke("p"); err != nil {
				w.Fatal(err)
			}
			return s, w.mine
		}, ErrClaimUnknown},
		"revoked after use": {func(w world) ([]byte, ed25519.PublicKey) {
			s := add(w, w.r, "p")
			claimed(w, w.r, s, w.mine)
			if err := w.r.Revoke("p"); err != nil {
				w.Fatal(err)
			}
			return s, w.mine
		}, ErrClaimUsed},
		"short secret": {func(w world) ([]byte, ed25519.PublicKey) { return make([]byte, 9), w.mine }, ErrInvalid},
		"short key":    {func(w world) ([]byte, ed25519.PublicKey) { return add(w, w.r, "p"), w.mine[:31] }, ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := newClock(), t.TempDir()
			r := open(t, dir, c)
			w := world{t, r, c, newKey(t), newKey(t)}
			secret, key := test.play(w)
			g, err := r.Claim(secret, key)
			if !errors.Is(err, test.want) {
				t.Fatalf("%v, want %v", err, test.want)
			}
			// A restart changes no answer.
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := open(t, dir, c).Claim(secret, key)
			if !errors.Is(err, test.want) || again != g {
				t.Fatalf("after a restart: %v, want %v", err, test.want)
			}
		})
	}
}

func TestANewClaimSupersedesOnlyWhenUsed(t *testing.T) {
	c := newClock()
	r := open(t, t.TempDir(), c)
	first, second := newKey(t), newKey(t)
	claimed(t, r, add(t, r, "p"), first)
	c.add(time.Hour)
	secret := add(t, r, "p")
	if k, err := r.Key("p"); err != nil || !k.Public.Equal(first) {
		t.Fatalf("the old key ended with a code that nobody used: %v", err)
	}
	took := claimed(t, r, secret, second)
	if k, err := r.Key("p"); err != nil || !k.Public.Equal(second) || k.Heartbeat != took.HeartbeatKey {
		t.Fatalf("the new key is not in force: %v", err)
	}
	keys := r.List()[0].Keys
	if len(keys) != 2 || !keys[0].To.Equal(c.now()) || !keys[1].From.Equal(c.now()) || !keys[1].To.IsZero() || !keys[0].Public.Equal(first) {
		t.Fatalf("history %+v", keys)
	}
}

func TestRevoke(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	r := open(t, dir, c)
	if err := r.Revoke("nobody"); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
	claimed(t, r, add(t, r, "p"), newKey(t))
	for range 2 {
		if err := r.Revoke("p"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Key("p"); !errors.Is(err, ErrRevoked) {
		t.Fatal(err)
	}
	r.Close()
	r = open(t, dir, c)
	if _, err := r.Key("p"); !errors.Is(err, ErrRevoked) {
		t.Fatalf("after a restart: %v", err)
	}
	if e := r.List()[0]; !e.RevokedAt.Equal(c.now()) || !e.Keys[0].To.Equal(c.now()) {
		t.Fatalf("%+v", e)
	}
	// A person may take it back into service with a new code.
	back := newKey(t)
	claimed(t, r, add(t, r, "p"), back)
	if k, err := r.Key("p"); err != nil || !k.Public.Equal(back) {
		t.Fatal(err)
	}
}

func TestAddRefuses(t *testing.T) {
	r := open(t, t.TempDir(), newClock())
	for id, site := range map[measure.ProbeID]measure.SiteID{"": "s", "seventeen-letters": "s", "a b": "s", "a\nb": "s", "é": "s",
		"p": "", "q": measure.SiteID(strings.Repeat("s", wire.MaxText+1))} {
		if _, _, err := r.Add(id, site); !errors.Is(err, ErrInvalid) {
			t.Errorf("probe %q at %q: %v", id, site, err)
		}
	}
	if n := len(r.List()); n != 0 {
		t.Errorf("%d probes", n)
	}
}

// files returns the content of all files below dir.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		out[d.Name()], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSecretsStayWhereTheyBelong(t *testing.T) {
	var logged bytes.Buffer
	dir := filepath.Join(t.TempDir(), "registry")
	r, err := Open(Options{Dir: dir, Logger: slog.New(slog.NewJSONHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	code, _, err := r.Add("p", "s")
	if err != nil {
		t.Fatal(err)
	}
	g := claimed(t, r, code.Secret[:], newKey(t))
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	kept := files(t, dir)
	if len(kept) != 4 {
		t.Errorf("%d files", len(kept))
	}
	for line := range strings.Lines(string(kept["ticket.pem"])) {
		if line = strings.TrimSpace(line); line == "" || !strings.HasPrefix(line, "-----") && strings.Contains(logged.String(), line) {
			t.Errorf("the ticket key is printed: %q in %s", line, logged.String())
		}
	}
	asJSON, _ := json.Marshal(code.Secret[:])
	for name, content := range kept {
		if bytes.Contains(content, code.Secret[:]) || bytes.Contains(content, asJSON[1:len(asJSON)-1]) {
			t.Errorf("%s holds the secret of a claim code", name)
		}
	}
	var raw []byte = g.HeartbeatKey[:]
	k, _ := r.Key("p")
	printed := fmt.Sprintf("%v %+v %#v %x %s %d", g, k, g, g, g, g.HeartbeatKey)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("grant", "key", g.HeartbeatKey, "grant", g)
	asJSON, _ = json.Marshal(raw)
	for _, form := range []string{string(raw), fmt.Sprintf("%x", raw), string(asJSON[1 : len(asJSON)-1]), code.String(), fmt.Sprint(raw)[1:20]} {
		if strings.Contains(printed, form) || strings.Contains(logged.String(), form) {
			t.Errorf("a secret is printed:\n%s\n%s", printed, logged.String())
		}
	}
	if !strings.Contains(logged.String(), `"probe":"p"`) {
		t.Errorf("nothing was logged: %s", logged.String())
	}
}

// A crash may cut the log anywhere: all whole events count, and writing goes on.
func TestTornLog(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	r := open(t, dir, c)
	key := newKey(t)
	secret := add(t, r, "p")
	before := len(files(t, dir)[eventFile])
	g := claimed(t, r, secret, key)
	r.Close()
	path := filepath.Join(dir, eventFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := before; cut <= len(whole); cut += 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir, c)
		_, err := r.Key("p")
		if enrolled := err == nil; enrolled != (cut == len(whole)) {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		again := claimed(t, r, secret, key)
		if cut == len(whole) && again != g {
			t.Fatal("another answer")
		}
		r.Close()
		r = open(t, dir, c)
		if k, err := r.Key("p"); err != nil || k.Heartbeat != again.HeartbeatKey {
			t.Fatalf("cut at %d: what followed is lost: %v", cut, err)
		}
		r.Close()
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(t *testing.T, dir string, c *fakeClock)
		want string
	}{
		"a garbled line": {func(t *testing.T, dir string, _ *fakeClock) {
			edit(t, filepath.Join(dir, eventFile), func(b []byte) []byte { b[3] = 0xff; return b })
		}, "line 1"},
		"a key with one bit flipped": {func(t *testing.T, dir string, _ *fakeClock) {
			edit(t, filepath.Join(dir, eventFile), func(b []byte) []byte {
				i := bytes.Index(b, []byte(`"public_key":"`)) + 20
				if b[i] == 'A' {
					b[i] = 'B'
				} else {
					b[i] = 'A'
				}
				return b
			})
		}, "line 2: its bytes are not what was written"},
		"an event of a newer version": {func(t *testing.T, dir string, _ *fakeClock) {
			line, err := event{At: time.Now(), Event: "rename", Probe: "p"}.line()
			if err != nil {
				t.Fatal(err)
			}
			edit(t, filepath.Join(dir, eventFile), func(b []byte) []byte { return append(b, line...) })
		}, "newer version"},
		"an enrolment out of nothing": {func(t *testing.T, dir string, _ *fakeClock) {
			edit(t, filepath.Join(dir, eventFile), func(b []byte) []byte { return b[bytes.IndexByte(b, '\n')+1:] })
		}, "without an open claim"},
		"an endless line": {func(t *testing.T, dir string, _ *fakeClock) {
			edit(t, filepath.Join(dir, eventFile), func(b []byte) []byte { return append(b, bytes.Repeat([]byte{' '}, 2*maxLine)...) })
		}, "longer than"},
		"keys without their authority": {func(t *testing.T, dir string, _ *fakeClock) {
			if err := os.Remove(filepath.Join(dir, caFile)); err != nil {
				t.Fatal(err)
			}
		}, "ca.pem is missing"},
		"an authority that is garbled": {func(t *testing.T, dir string, _ *fakeClock) {
			edit(t, filepath.Join(dir, caFile), func(b []byte) []byte { return b[:len(b)/2] })
		}, "restore the file from a backup"},
		"a leaf in its place": {func(t *testing.T, dir string, _ *fakeClock) {
			leaf, err := os.ReadFile(filepath.Join(dir, leafFile))
			if err != nil {
				t.Fatal(err)
			}
			edit(t, filepath.Join(dir, caFile), func([]byte) []byte { return leaf })
		}, "no certificate authority"},
		"secrets for all to read": {func(t *testing.T, dir string, _ *fakeClock) {
			if err := os.Chmod(filepath.Join(dir, caFile), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		"keys for all to read": {func(t *testing.T, dir string, _ *fakeClock) {
			if err := os.Chmod(filepath.Join(dir, eventFile), 0o640); err != nil {
				t.Fatal(err)
			}
		}, "chmod 600"},
		"a clock from before":         {func(_ *testing.T, _ string, c *fakeClock) { c.add(-48 * time.Hour) }, "set the clock"},
		"an authority that has ended": {func(_ *testing.T, _ string, c *fakeClock) { c.add(caLife) }, "enrol all probes anew"},
	} {
		t.Run(name, func(t *testing.T) {
			c, dir := newClock(), t.TempDir()
			r := open(t, dir, c)
			claimed(t, r, add(t, r, "p"), newKey(t))
			r.Close()
			test.harm(t, dir, c)
			before := contents(t, dir)
			r, err := Open(Options{Dir: dir, Now: c.now})
			if err == nil {
				r.Close()
				t.Fatal("it opens")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q does not say %q", err, test.want)
			}
			if d := cmp.Diff(before, contents(t, dir)); d != "" {
				t.Errorf("a refused directory was changed: %s", d)
			}
		})
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(filepath.Join(dir, n.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[n.Name()] = string(b)
	}
	return out
}

func edit(t *testing.T, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOneOwnerAtATime(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	r := open(t, dir, c)
	claimed(t, r, add(t, r, "p"), newKey(t))
	if _, err := Open(Options{Dir: dir, Now: c.now}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("opened twice: %v", err)
	}
	// But it can be read.
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(r.List(), got); d != "" || len(got) != 1 {
		t.Fatal(d)
	}
}

func TestADiskThatFails(t *testing.T) {
	c, dir := newClock(), t.TempDir()
	r := open(t, dir, c)
	claimed(t, r, add(t, r, "p"), newKey(t))
	secret := add(t, r, "q")
	good := r.log.file
	readOnly, err := os.Open(good.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	r.log.file = readOnly // every write fails
	if _, err := r.Claim(secret, newKey(t)); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := r.Revoke("p"); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if _, err := r.Key("p"); err != nil {
		t.Fatalf("a change that failed took effect: %v", err)
	}
	r.log.file = good
	if err := r.Revoke("p"); err == nil {
		t.Fatal("it trusts a disk of which it cannot know what it holds")
	}
	r.Close()
	r = open(t, dir, c)
	if _, err := r.Key("p"); err != nil {
		t.Fatal(err)
	}
	claimed(t, r, secret, newKey(t))
}

func TestManyAtOnce(t *testing.T) {
	c := newClock()
	r := open(t, t.TempDir(), c)
	secret := add(t, r, "p")
	keys := []ed25519.PublicKey{newKey(t), newKey(t)}
	grants := make([]Grant, 16)
	var wg sync.WaitGroup
	for i := range grants {
		wg.Go(func() {
			g, err := r.Claim(secret, keys[i%2])
			if err != nil && !errors.Is(err, ErrClaimUsed) {
				t.Error(err)
			}
			grants[i] = g
			r.Key("p")
			r.List()
		})
	}
	wg.Wait()
	k, err := r.Key("p")
	if err != nil {
		t.Fatal(err)
	}
	won := 0
	for i, g := range grants {
		if g.Probe == "" {
			continue
		}
		won++
		if g.HeartbeatKey != k.Heartbeat || !keys[i%2].Equal(k.Public) {
			t.Error("two keys enrolled with one code")
		}
	}
	if won != len(grants)/2 {
		t.Errorf("%d of %d got the answer", won, len(grants)/2)
	}
}

func TestOldClaimsAreForgotten(t *testing.T) {
	c := newClock()
	r := open(t, t.TempDir(), c)
	add(t, r, "open")
	claimed(t, r, add(t, r, "used"), newKey(t))
	c.add(ClaimLife + forgottenAfter + time.Hour)
	r.forgetExpired(c.now())
	if n := len(r.claims); n != 0 {
		t.Errorf("%d claims are remembered", n)
	}
	if _, err := r.Key("used"); err != nil {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	c := newClock()
	reg := prometheus.NewPedanticRegistry()
	r, err := Open(Options{Dir: t.TempDir(), Now: c.now, Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	claimed(t, r, add(t, r, "a"), newKey(t))
	claimed(t, r, add(t, r, "b"), newKey(t))
	add(t, r, "c")
	if err := r.Revoke("b"); err != nil {
		t.Fatal(err)
	}
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP pantau_registry_probes Probes by whether they may speak: enrolled, revoked, or claimed (a code was made and not used yet).
# TYPE pantau_registry_probes gauge
pantau_registry_probes{state="claimed"} 1
pantau_registry_probes{state="enrolled"} 1
pantau_registry_probes{state="revoked"} 1
`), "pantau_registry_probes")
	if err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
		t.Errorf("%d series after Close, %v", n, err)
	}
}

// FuzzEvents gives the log events whose checksums are right.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"at":"2026-03-01T08:00:00Z","event":"claim","probe":"p","site":"s","secret_sha256":"` + strings.Repeat("A", 43) +
		`=","expires":"2026-03-08T08:00:00Z"}` + "\n" + `{"at":"2026-03-01T09:00:00Z","event":"enrol","probe":"p","public_key":"` +
		strings.Repeat("A", 43) + `=","heartbeat_key":"` + strings.Repeat("A", 43) + `="}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var file []byte
		for object := range bytes.Lines(b) {
			object = bytes.TrimSuffix(object, []byte("\n"))
			if len(object) > 0 {
				file = fmt.Appendf(append(file, object[:len(object)-1]...), sumFormat, crc32.Checksum(append(object[:len(object)-1:len(object)-1], '}'), castagnoli))
			}
		}
		r := &Registry{probes: map[measure.ProbeID]*probe{}, claims: map[secretDigest]measure.ProbeID{}}
		end, err := scan(bytes.NewReader(file), "fuzz", r.apply)
		if err != nil {
			return
		}
		if end != int64(len(file)) {
			t.Fatalf("ends at %d of %d", end, len(file))
		}
		for _, e := range entries(r.probes, time.Now()) {
			if _, err := r.Key(e.Probe); err == nil && len(e.Keys) == 0 {
				t.Fatal("a key out of nothing")
			}
		}
		r.forgetExpired(time.Now())
	})
}

// BenchmarkKey is the look-up of every batch and heartbeat, among a country's
// probes.
func BenchmarkKey(b *testing.B) {
	r := &Registry{probes: map[measure.ProbeID]*probe{}, claims: map[secretDigest]measure.ProbeID{}}
	pub := make([]byte, ed25519.PublicKeySize)
	rand.Read(pub)
	ids := make([]measure.ProbeID, 84_276)
	for i := range ids {
		ids[i] = measure.ProbeID(fmt.Sprintf("probe-%d", i))
		r.probes[ids[i]] = &probe{id: ids[i], keys: []key{{public: pub}}}
	}
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := r.Key(ids[i%len(ids)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func TestTheTicketKeyStays(t *testing.T) {
	dir := t.TempDir()
	if _, err := TicketKeyOf(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before the first start: %v", err)
	}
	open := func() *Registry {
		t.Helper()
		r, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open()
	key := r.TicketKey()
	public, err := TicketKeyOf(dir)
	if err != nil || !public.Equal(key.Public()) {
		t.Errorf("%v, %v", public, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open()
	if !r.TicketKey().Equal(key) {
		t.Error("a start makes another key: every measurement server would refuse")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "ticket.pem")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: dir}); !errors.Is(err, errExposed) {
		t.Errorf("a key that others may read: %v", err)
	}
	for _, content := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := errors.Join(os.Remove(file), os.WriteFile(file, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "ticket.pem") {
			t.Errorf("%q: %v", content, err)
		}
	}
}

// Package enroll makes a box into a probe: it trades a claim code for an
// identity, and keeps that identity on disk.
//
// It guarantees that a lost answer costs nothing (the key is on disk before it is
// asked for, and the same key with the same code gets the same answer), that the
// collector is the one whose fingerprint is in the code, and that secrets are
// readable by the state directory's owner alone.
package enroll

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Identity is what makes a box this probe.
type Identity struct {
	Probe        measure.ProbeID
	Site         measure.SiteID
	Collector    string // base URL, https
	Key          ed25519.PrivateKey
	HeartbeatKey []byte
	CA           *x509.Certificate
	EnrolledAt   time.Time // by the collector's clock
}

// String shows no secret.
func (i Identity) String() string { return fmt.Sprintf("probe %s at %s", i.Probe, i.Collector) }

// GoString shows no secret.
func (i Identity) GoString() string { return i.String() }

const (
	identityFile = "identity.json"
	keyFile      = "key" // Ed25519 seed, made before the first attempt to enrol
	configFile   = "config.pb"
	seenFile     = "last-seen"
)

type stored struct {
	Probe        measure.ProbeID `json:"probe"`
	Site         measure.SiteID  `json:"site"`
	Collector    string          `json:"collector"`
	HeartbeatKey []byte          `json:"heartbeat_key"`
	CA           []byte          `json:"ca_certificate"`
	EnrolledAt   time.Time       `json:"enrolled_at"`
}

// ErrNotEnrolled says that the state directory holds no identity.
var ErrNotEnrolled = errors.New("not enrolled: run `pantau-probe enroll --collector URL --code CODE` with the code from `pantau probe add`")

// State is a probe's state directory.
type State struct{ Dir string }

// Identity reads the identity. Without one the error is [ErrNotEnrolled].
func (s State) Identity() (Identity, error) {
	raw, err := os.ReadFile(s.path(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return Identity{}, fmt.Errorf("%s: %w", s.Dir, ErrNotEnrolled)
	}
	if err != nil {
		return Identity{}, err
	}
	var st stored
	if err := json.Unmarshal(raw, &st); err != nil {
		return Identity{}, fmt.Errorf("%s: %w", s.path(identityFile), err)
	}
	ca, err := x509.ParseCertificate(st.CA)
	if err != nil {
		return Identity{}, fmt.Errorf("%s: ca_certificate: %w", s.path(identityFile), err)
	}
	if len(st.HeartbeatKey) != wire.HeartbeatKeySize {
		return Identity{}, fmt.Errorf("%s: heartbeat_key has %d bytes", s.path(identityFile), len(st.HeartbeatKey))
	}
	key, err := s.readKey()
	if err != nil {
		return Identity{}, err
	}
	return Identity{Probe: st.Probe, Site: st.Site, Collector: st.Collector, Key: key,
		HeartbeatKey: st.HeartbeatKey, CA: ca, EnrolledAt: st.EnrolledAt}, nil
}

func (s State) save(i Identity) error {
	raw, err := json.MarshalIndent(stored{Probe: i.Probe, Site: i.Site, Collector: i.Collector,
		HeartbeatKey: i.HeartbeatKey, CA: i.CA.Raw, EnrolledAt: i.EnrolledAt}, "", "  ")
	if err != nil {
		return err
	}
	return s.write(identityFile, raw)
}

// Config reads the configuration that the collector gave last; nil if none.
func (s State) Config() (*wirepb.ProbeConfig, error) {
	raw, err := os.ReadFile(s.path(configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := new(wirepb.ProbeConfig)
	if err := proto.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("%s: %w", s.path(configFile), err)
	}
	return c, nil
}

// SaveConfig keeps a configuration for the next start.
func (s State) SaveConfig(c *wirepb.ProbeConfig) error {
	raw, err := proto.Marshal(c)
	if err != nil {
		return err
	}
	return s.write(configFile, raw)
}

// LastSeen is a time that has certainly passed: for a box that boots in 1970.
func (s State) LastSeen() time.Time {
	info, err := os.ReadFile(s.path(seenFile))
	if err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, string(info))
	if err != nil {
		return time.Time{}
	}
	return t
}

// SaveLastSeen keeps t for the next start.
func (s State) SaveLastSeen(t time.Time) error {
	return s.write(seenFile, []byte(t.UTC().Format(time.RFC3339)))
}

// key returns the box's key, made on first use.
func (s State) key() (ed25519.PrivateKey, error) {
	key, err := s.readKey()
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	_, key, err = ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	return key, s.write(keyFile, key.Seed())
}

func (s State) readKey() (ed25519.PrivateKey, error) {
	seed, err := os.ReadFile(s.path(keyFile))
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s holds %d bytes, not a key: move it away and enrol anew", s.path(keyFile), len(seed))
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func (s State) path(name string) string { return filepath.Join(s.Dir, name) }

// write replaces a file, readable by the directory's owner alone: root enrols for
// the account that the service runs as.
func (s State) write(name string, data []byte) error {
	tmp := s.path(name + ".tmp")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = s.giveToOwner(f)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.path(name)); err != nil {
		return err
	}
	d, err := os.Open(s.Dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (s State) giveToOwner(f *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(s.Dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

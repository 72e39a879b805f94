// Package registry is who may speak to the collector, and how they know that it
// is the collector: the probes' keys, the claim codes by which a box enrols, the
// certificate authority that probes pin, and the key that signs tickets.
//
// It guarantees:
//
//   - A change that was reported as done is on stable storage. The file of keys
//     is an event log, so that the key a probe had at any time in the past is
//     known, for as long as its signatures are evidence.
//   - A claim code enrols one key. The same key with the same code again gets
//     the same answer until the code expires: a lost answer costs nothing.
//   - Secrets are in files of mode 0600 below Options.Dir, and in no log line. Of
//     a claim code only a digest is kept.
//   - The leaf certificate renews itself without a restart; the authority never
//     changes unasked.
//
// It refuses to guess: a file that cannot be read, keys without their authority,
// or a clock before the authority's time are errors that say what to do.
package registry

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// ClaimLife is how long a claim code is good for.
const ClaimLife = 7 * 24 * time.Hour

// Errors of the registry; all are wrapped. Their texts are fit for a stranger.
var (
	ErrUnknown = errors.New("no such probe is enrolled here")
	ErrRevoked = errors.New("this probe's key was revoked")

	ErrClaimUnknown = errors.New("no such claim code: compare it with the one that was handed out, or ask for a new one")
	ErrClaimExpired = errors.New("this claim code has expired: ask for a new one")
	ErrClaimUsed    = errors.New("this claim code was used by another box or replaced by a newer code: ask for a new one")

	// ErrInvalid is wrapped by the errors for a probe or key that cannot be.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable says that the disk failed: nothing has changed.
	ErrUnavailable = errors.New("the registry's disk is unavailable")
)

// Options of a Registry. Only Dir is required.
type Options struct {
	Dir string // is created with mode 0700
	// Names are the DNS names and IP addresses in the leaf. Probes do not check
	// them: they pin the authority.
	Names      []string
	Now        func() time.Time      // default: time.Now
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: none
}

// Registry is safe for concurrent use. Look-ups never wait for the disk.
type Registry struct {
	opt       Options
	authority *authority
	ticket    ed25519.PrivateKey
	log       *eventLog

	change sync.Mutex // held by a change from its check to its effect

	mu     sync.RWMutex
	probes map[measure.ProbeID]*probe
	claims map[secretDigest]measure.ProbeID // open, used, and expired not long ago
	sweep  int                              // number of claims at which the old ones are forgotten
}

type secretDigest [sha256.Size]byte

func digestSecret(secret []byte) secretDigest {
	return sha256.Sum256(append([]byte("pantau-claim-secret-v1\x00"), secret...))
}

// probe is replaced by a change, never changed: readers hold on to it.
type probe struct {
	id   measure.ProbeID
	site measure.SiteID // of the claim that was used last; else of the open one
	keys []key          // in the order of enrolment
	// revoked is zero while the last key may speak.
	revoked time.Time
	claim   *claim // open
}

type key struct {
	public    ed25519.PublicKey
	heartbeat HeartbeatKey
	from, to  time.Time // to is zero while it may speak
	claim     claim     // by which it came
}

type claim struct {
	digest  secretDigest
	site    measure.SiteID
	expires time.Time
}

// HeartbeatKey authenticates heartbeats (HMAC-SHA256). It does not print.
type HeartbeatKey [wire.HeartbeatKeySize]byte

// Format writes a placeholder, whatever the verb.
func (HeartbeatKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "(secret)") }

// LogValue is a placeholder.
func (HeartbeatKey) LogValue() slog.Value { return slog.StringValue("(secret)") }

// MarshalText refuses: a secret does not get into JSON by accident.
func (HeartbeatKey) MarshalText() ([]byte, error) {
	return nil, errors.New("registry: a heartbeat key is secret")
}

// Open reads or begins the registry below o.Dir. No other process may have it
// open.
func Open(o Options) (*Registry, error) {
	if o.Dir == "" {
		return nil, errors.New("registry: no directory")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	r := &Registry{opt: o, probes: map[measure.ProbeID]*probe{}, claims: map[secretDigest]measure.ProbeID{}}
	var err error
	r.log, err = openLog(filepath.Join(o.Dir, eventFile), o.Logger, r.apply)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	r.forgetExpired(o.Now())
	r.authority, err = openAuthority(o, len(r.probes) == 0)
	if err == nil {
		r.ticket, err = openTicketKey(o.Dir, o.Logger)
	}
	if err == nil && o.Registerer != nil {
		err = o.Registerer.Register(collector{r})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registry: %w", err), r.log.close())
	}
	return r, nil
}

// Close frees the directory.
func (r *Registry) Close() error {
	r.change.Lock()
	defer r.change.Unlock()
	if r.opt.Registerer != nil {
		r.opt.Registerer.Unregister(collector{r})
	}
	return r.log.close()
}

// renewalLook is how often Run looks whether the leaf is due.
const renewalLook = time.Hour

// Run renews the leaf when it is due, until ctx ends. It looks every hour, so
// that neither a suspended machine nor a full disk makes it miss the day.
func (r *Registry) Run(ctx context.Context) error {
	t := time.NewTicker(renewalLook)
	defer t.Stop()
	for {
		if _, err := r.Renew(); err != nil {
			r.opt.Logger.Error("the collector's certificate cannot be renewed: trying again in an hour", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Add makes a claim code for a probe, new or known. An open code of the same
// probe is void from now on; a key that the probe has stays good until the new
// code is used. expires is when the code ends.
func (r *Registry) Add(id measure.ProbeID, site measure.SiteID) (code wire.ClaimCode, expires time.Time, err error) {
	if err := checkProbe(id); err != nil {
		return code, expires, err
	}
	if len(site) == 0 || len(site) > wire.MaxText {
		return code, expires, fmt.Errorf("%w: a site id of %d bytes, from 1 to %d", ErrInvalid, len(site), wire.MaxText)
	}
	code.Fingerprint = r.Fingerprint()
	rand.Read(code.Secret[:]) // never fails (crypto/rand since Go 1.24)
	r.change.Lock()
	defer r.change.Unlock()
	now := r.opt.Now()
	expires = now.Add(ClaimLife).UTC().Truncate(time.Second)
	digest := digestSecret(code.Secret[:])
	if len(r.claims) >= r.sweep {
		r.forgetExpired(now)
	}
	err = r.record(event{At: now, Event: eventClaim, Probe: id, Site: site, Secret: digest[:], Expires: expires})
	if err != nil {
		return wire.ClaimCode{}, time.Time{}, err
	}
	r.opt.Logger.Info("claim code made", "probe", id, "site", site, "expires", expires)
	return code, expires, nil
}

func checkProbe(id measure.ProbeID) error {
	if len(id) == 0 || len(id) > measure.MaxProbeID {
		return fmt.Errorf("%w: a probe id of %d bytes, from 1 to %d", ErrInvalid, len(id), measure.MaxProbeID)
	}
	if strings.ContainsFunc(string(id), func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return fmt.Errorf("%w: probe id %q: printable ASCII without spaces", ErrInvalid, id)
	}
	return nil
}

// Grant is the answer to a claim.
type Grant struct {
	Probe        measure.ProbeID
	Site         measure.SiteID
	HeartbeatKey HeartbeatKey
	EnrolledAt   time.Time
}

// Claim trades the secret of a claim code for an enrolment of public. The same
// secret with the same key gets the same answer until the code expires or the
// probe is claimed anew or revoked.
//
// Errors: [ErrClaimUnknown], [ErrClaimExpired], [ErrClaimUsed], [ErrInvalid],
// [ErrUnavailable].
//
// The look-up is by a digest of what the caller sent, in a map with a random
// seed: the time that it takes says nothing about the secrets that are there.
func (r *Registry) Claim(secret []byte, public ed25519.PublicKey) (Grant, error) {
	if len(secret) != len(wire.ClaimCode{}.Secret) || len(public) != ed25519.PublicKeySize {
		return Grant{}, fmt.Errorf("%w: a secret of %d bytes and a key of %d, not %d and %d", ErrInvalid,
			len(secret), len(public), len(wire.ClaimCode{}.Secret), ed25519.PublicKeySize)
	}
	r.change.Lock()
	defer r.change.Unlock()
	now := r.opt.Now()
	digest := digestSecret(secret)
	id, ok := r.claims[digest] // only changes write it, and they hold r.change
	if !ok {
		return Grant{}, ErrClaimUnknown
	}
	p := r.probes[id]
	if c := p.claim; c != nil && subtle.ConstantTimeCompare(c.digest[:], digest[:]) == 1 {
		if !now.Before(c.expires) {
			return Grant{}, ErrClaimExpired
		}
		return r.enrol(p, now, public)
	}
	k, ok := p.current()
	if !ok || k.claim.digest != digest || !k.public.Equal(public) {
		return Grant{}, ErrClaimUsed
	}
	if !now.Before(k.claim.expires) {
		return Grant{}, ErrClaimExpired
	}
	return k.grant(p), nil
}

func (r *Registry) enrol(p *probe, now time.Time, public ed25519.PublicKey) (Grant, error) {
	var heartbeat HeartbeatKey
	rand.Read(heartbeat[:])
	err := r.record(event{At: now, Event: eventEnrol, Probe: p.id, PublicKey: public, HeartbeatKey: heartbeat[:]})
	if err != nil {
		return Grant{}, err
	}
	p = r.probes[p.id]
	k, _ := p.current()
	r.opt.Logger.Info("probe enrolled", "probe", p.id, "site", p.site, "keys_before", len(p.keys)-1)
	return k.grant(p), nil
}

func (k key) grant(p *probe) Grant {
	return Grant{Probe: p.id, Site: p.site, HeartbeatKey: k.heartbeat, EnrolledAt: k.from}
}

// current is the key that may speak.
func (p *probe) current() (key, bool) {
	if len(p.keys) == 0 || !p.revoked.IsZero() {
		return key{}, false
	}
	return p.keys[len(p.keys)-1], true
}

// Revoke ends a probe's key and any open claim code of it. Doing it again
// changes nothing. [ErrUnknown] if neither a key nor a code was ever made.
func (r *Registry) Revoke(id measure.ProbeID) error {
	r.change.Lock()
	defer r.change.Unlock()
	p := r.probes[id]
	if p == nil {
		return fmt.Errorf("probe %q: %w", id, ErrUnknown)
	}
	if !p.revoked.IsZero() && p.claim == nil {
		return nil
	}
	if err := r.record(event{At: r.opt.Now(), Event: eventRevoke, Probe: id}); err != nil {
		return err
	}
	r.opt.Logger.Info("probe revoked", "probe", id)
	return nil
}

// Key is what a probe's messages are checked with.
type Key struct {
	Public    ed25519.PublicKey // not to be changed
	Heartbeat HeartbeatKey
}

// Key returns the key that a probe has now. Errors: [ErrUnknown], [ErrRevoked].
func (r *Registry) Key(id measure.ProbeID) (Key, error) {
	r.mu.RLock()
	p := r.probes[id]
	r.mu.RUnlock()
	switch {
	case p == nil || len(p.keys) == 0 && p.revoked.IsZero():
		return Key{}, ErrUnknown
	case !p.revoked.IsZero():
		return Key{}, ErrRevoked
	}
	k := p.keys[len(p.keys)-1]
	return Key{Public: k.public, Heartbeat: k.heartbeat}, nil
}

// Enrolled reports whether a probe was ever enrolled, revoked ones included.
func (r *Registry) Enrolled(id measure.ProbeID) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p := r.probes[id]
	return p != nil && len(p.keys) > 0
}

// Entry is all that is known of one probe, without secrets.
type Entry struct {
	Probe      measure.ProbeID
	Site       measure.SiteID
	EnrolledAt time.Time // zero: never
	RevokedAt  time.Time // zero: not revoked
	// ClaimExpires is when its open claim code ends; zero if none is open.
	ClaimExpires time.Time
	Keys         []KeyPeriod // in the order of enrolment
}

// KeyPeriod is a public key and when it was a probe's: from its enrolment until
// the next one, or a revocation.
type KeyPeriod struct {
	Public ed25519.PublicKey
	From   time.Time
	To     time.Time // zero: until now
}

// List returns all probes, ordered by id.
func (r *Registry) List() []Entry {
	now := r.opt.Now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	return entries(r.probes, now)
}

func entries(probes map[measure.ProbeID]*probe, now time.Time) []Entry {
	out := make([]Entry, 0, len(probes))
	for _, p := range probes {
		e := Entry{Probe: p.id, Site: p.site, RevokedAt: p.revoked}
		for _, k := range p.keys {
			e.Keys = append(e.Keys, KeyPeriod{Public: slices.Clone(k.public), From: k.from, To: k.to})
			e.EnrolledAt = k.from
		}
		if p.claim != nil && now.Before(p.claim.expires) {
			e.ClaimExpires = p.claim.expires
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Probe, b.Probe) })
	return out
}

// Read returns all probes from the directory of a registry that may be open in
// another process, such as for checking signatures. It needs no authority and
// writes nothing.
func Read(dir string) ([]Entry, error) {
	r := &Registry{probes: map[measure.ProbeID]*probe{}, claims: map[secretDigest]measure.ProbeID{}}
	if err := readLog(filepath.Join(dir, eventFile), r.apply); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	return entries(r.probes, time.Now()), nil
}

// record makes an event durable, then real. The caller holds r.change.
func (r *Registry) record(e event) error {
	e.At = e.At.UTC().Round(0)
	if err := r.log.append(e); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return r.apply(e)
}

// apply is the effect of an event, the same when it happens and when it is read
// back. Its errors are of files that nobody should have edited.
func (r *Registry) apply(e event) error {
	if err := checkProbe(e.Probe); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next := probe{id: e.Probe}
	if p := r.probes[e.Probe]; p != nil {
		next = *p
		next.keys = slices.Clone(p.keys)
	}
	switch e.Event {
	case eventClaim:
		if len(e.Secret) != sha256.Size || e.Expires.IsZero() || e.Site == "" {
			return errors.New("a claim must have secret_sha256, site and expires")
		}
		if next.claim != nil {
			delete(r.claims, next.claim.digest)
		}
		next.claim = &claim{digest: secretDigest(e.Secret), site: e.Site, expires: e.Expires}
		if len(next.keys) == 0 {
			next.site = e.Site
		}
		r.claims[next.claim.digest] = e.Probe
	case eventEnrol:
		if len(e.PublicKey) != ed25519.PublicKeySize || len(e.HeartbeatKey) != wire.HeartbeatKeySize {
			return errors.New("an enrolment must have public_key and heartbeat_key of 32 bytes each")
		}
		if next.claim == nil {
			return fmt.Errorf("probe %s is enrolled without an open claim", e.Probe)
		}
		next.endKey(e.At)
		next.keys = append(next.keys, key{public: e.PublicKey, heartbeat: HeartbeatKey(e.HeartbeatKey), from: e.At, claim: *next.claim})
		next.site, next.revoked, next.claim = next.claim.site, time.Time{}, nil
	case eventRevoke:
		next.endKey(e.At)
		if next.claim != nil {
			delete(r.claims, next.claim.digest)
		}
		if next.revoked.IsZero() {
			next.revoked = e.At
		}
		next.claim = nil
	default:
		return fmt.Errorf("unknown event %q: was it written by a newer version of this program?", e.Event)
	}
	r.probes[e.Probe] = &next
	return nil
}

func (p *probe) endKey(at time.Time) {
	if n := len(p.keys); n > 0 && p.keys[n-1].to.IsZero() {
		p.keys[n-1].to = at
	}
}

// forgottenAfter is for how long a code that has expired is still told apart from
// one that never was.
const forgottenAfter = 30 * 24 * time.Hour

// forgetExpired bounds the claims in memory. The caller holds r.change, or is
// alone.
func (r *Registry) forgetExpired(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for digest, id := range r.claims {
		p := r.probes[id]
		var expires time.Time
		if p.claim != nil && p.claim.digest == digest {
			expires = p.claim.expires
		}
		for _, k := range p.keys {
			if k.claim.digest == digest {
				expires = k.claim.expires
			}
		}
		if now.Sub(expires) > forgottenAfter {
			delete(r.claims, digest)
		}
	}
	r.sweep = 2*len(r.claims) + 1024 // so that each addition costs little, on average
}

// collector shows the registry's metrics.
type collector struct{ r *Registry }

var (
	descProbes = prometheus.NewDesc("pantau_registry_probes",
		"Probes by whether they may speak: enrolled, revoked, or claimed (a code was made and not used yet).", []string{"state"}, nil)
	descExpiry = prometheus.NewDesc("pantau_registry_certificate_expiry_timestamp_seconds",
		"When the certificate that probes pin (ca) and the one that is served (leaf) end, Unix time.", []string{"certificate"}, nil)
)

func (c collector) Describe(ch chan<- *prometheus.Desc) { ch <- descProbes; ch <- descExpiry }

func (c collector) Collect(ch chan<- prometheus.Metric) {
	var enrolled, revoked, claimed float64
	c.r.mu.RLock()
	for _, p := range c.r.probes {
		switch {
		case !p.revoked.IsZero():
			revoked++
		case len(p.keys) > 0:
			enrolled++
		default:
			claimed++
		}
	}
	c.r.mu.RUnlock()
	ch <- prometheus.MustNewConstMetric(descProbes, prometheus.GaugeValue, enrolled, "enrolled")
	ch <- prometheus.MustNewConstMetric(descProbes, prometheus.GaugeValue, revoked, "revoked")
	ch <- prometheus.MustNewConstMetric(descProbes, prometheus.GaugeValue, claimed, "claimed")
	ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(c.r.CA().NotAfter.Unix()), "ca")
	ch <- prometheus.MustNewConstMetric(descExpiry, prometheus.GaugeValue, float64(c.r.authority.leaf.Load().Leaf.NotAfter.Unix()), "leaf")
}

package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pantau-desa/pantau/collector/durable"
)

// Each file holds a certificate and its key, so that the two are never of
// different ages.
const (
	caFile   = "ca.pem"
	leafFile = "leaf.pem"
)

// Lives of certificates. Both are valid from a day back: a probe's clock may be
// behind.
const (
	caLife    = 10 * 365 * 24 * time.Hour
	leafLife  = 90 * 24 * time.Hour
	leafRest  = leafLife / 3 // what is left of the leaf's life when it is renewed
	backdated = 24 * time.Hour
	// caWarning is how long before the authority's end the log says so every day:
	// all boxes must be enrolled anew by then.
	caWarning = 365 * 24 * time.Hour
)

type authority struct {
	opt Options
	ca  *x509.Certificate
	key crypto.Signer

	mu     sync.Mutex // held while renewing
	warned time.Time
	leaf   atomic.Pointer[tls.Certificate]
}

// openAuthority reads the authority, and makes it if mayMake and there is none.
func openAuthority(o Options, mayMake bool) (*authority, error) {
	now := o.Now()
	path := filepath.Join(o.Dir, caFile)
	pair, err := readPair(path)
	if errors.Is(err, fs.ErrNotExist) && mayMake {
		pair, err = makeCA(path, now)
		if err == nil {
			o.Logger.Info("certificate authority made: keep a backup of this file, all probes pin it", "file", path)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are probes but %s is missing: restore it from a backup; without it every probe must be enrolled anew, with %s moved away", path, eventFile)
	}
	if errors.Is(err, errExposed) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w; restore the file from a backup", err)
	}
	a := &authority{opt: o, ca: pair.Leaf, key: pair.PrivateKey.(crypto.Signer)}
	switch {
	case !a.ca.IsCA:
		return nil, fmt.Errorf("%s holds no certificate authority; restore the file from a backup", path)
	case now.Before(a.ca.NotBefore):
		return nil, fmt.Errorf("this machine's clock says %s, which is before the certificate authority was made: set the clock", now.UTC().Format(time.RFC3339))
	case !now.Before(a.ca.NotAfter):
		return nil, fmt.Errorf("%s ended at %s: check this machine's clock, or move the registry's directory away and enrol all probes anew", path, a.ca.NotAfter.Format(time.RFC3339))
	}
	if err := a.openLeaf(now); err != nil {
		return nil, err
	}
	return a, nil
}

// openLeaf takes the leaf on disk if it serves, else makes another: it is worth
// nothing by itself.
func (a *authority) openLeaf(now time.Time) error {
	leaf, err := readPair(filepath.Join(a.opt.Dir, leafFile))
	if err == nil {
		err = a.check(leaf.Leaf, now)
	}
	if err == nil {
		leaf.Certificate = append(leaf.Certificate[:1:1], a.ca.Raw)
		a.leaf.Store(leaf)
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		a.opt.Logger.Info("the certificate on disk is replaced", "why", err)
	}
	return a.issue(now)
}

// check reports why a leaf cannot be served now, or should not any more.
func (a *authority) check(leaf *x509.Certificate, now time.Time) error {
	if err := leaf.CheckSignatureFrom(a.ca); err != nil {
		return err
	}
	if now.Before(leaf.NotBefore) {
		return errors.New("it begins in the future")
	}
	// When the authority itself ends sooner, a new leaf would live no longer.
	if now.After(leaf.NotAfter.Add(-leafRest)) && leaf.NotAfter.Before(a.ca.NotAfter) || !now.Before(leaf.NotAfter) {
		return fmt.Errorf("it ends at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	dns, ips := splitNames(a.opt.Names)
	if !slices.Equal(dns, leaf.DNSNames) || !slices.EqualFunc(ips, leaf.IPAddresses, net.IP.Equal) {
		return errors.New("its names are others than those in the settings")
	}
	return nil
}

// Renew makes another leaf if the one in use is due, and reports whether it did.
// Connections that are open stay as they are; new ones get the new leaf.
func (r *Registry) Renew() (renewed bool, err error) {
	a := r.authority
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.opt.Now()
	if left := a.ca.NotAfter.Sub(now); left < caWarning && now.Sub(a.warned) >= 24*time.Hour {
		a.warned = now
		a.opt.Logger.Warn("the certificate authority nears its end: every probe must be enrolled anew before", "end", a.ca.NotAfter)
	}
	why := a.check(a.leaf.Load().Leaf, now)
	if why == nil {
		return false, nil
	}
	if err := a.issue(now); err != nil {
		return false, err
	}
	a.opt.Logger.Info("certificate renewed", "why", why, slog.Time("end", a.leaf.Load().Leaf.NotAfter))
	return true, nil
}

// issue makes a leaf, keeps it, and serves it.
func (a *authority) issue(now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	dns, ips := splitNames(a.opt.Names)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Pantau Desa collector"},
		NotBefore: later(now.Add(-backdated), a.ca.NotBefore), NotAfter: earlier(now.Add(leafLife), a.ca.NotAfter),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: dns, IPAddresses: ips, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, key.Public(), a.key)
	if err != nil {
		return err
	}
	pair, err := keepPair(filepath.Join(a.opt.Dir, leafFile), der, key)
	if err != nil {
		return err
	}
	pair.Certificate = append(pair.Certificate, a.ca.Raw)
	a.leaf.Store(pair)
	return nil
}

func makeCA(path string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Pantau Desa collector authority"},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return keepPair(path, der, key)
}

// serial is 127 random bits (RFC 5280 section 4.1.2.2: positive, at most 20 bytes).
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b[:])
}

// splitNames sorts names into DNS names and addresses, in a stable order.
func splitNames(names []string) (dns []string, ips []net.IP) {
	for _, n := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if ip := net.ParseIP(strings.Trim(n, "[]")); ip != nil {
			ips = append(ips, ip)
		} else {
			dns = append(dns, n)
		}
	}
	return dns, ips
}

func keepPair(path string, der []byte, key crypto.Signer) (*tls.Certificate, error) {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	data := slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	if err := durable.Replace(path, data); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(data, data)
	return &pair, err
}

func readPair(path string) (*tls.Certificate, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, err
	}
	var data bytes.Buffer
	if _, err := data.ReadFrom(f); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(data.Bytes(), data.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &pair, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// CA is the certificate that probes pin. It must not be changed.
func (r *Registry) CA() *x509.Certificate { return r.authority.ca }

// Fingerprint is what a claim code says of the CA: the first 128 bits of the
// SHA-256 of its DER.
func (r *Registry) Fingerprint() (f [16]byte) {
	sum := sha256.Sum256(r.CA().Raw)
	copy(f[:], sum[:])
	return f
}

// TLS is a server's configuration: TLS 1.3 only, always the newest leaf, followed
// by the CA, so that a box which knows only the CA's fingerprint can compare.
func (r *Registry) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return r.authority.leaf.Load(), nil
		},
		// Resumption was measured to save no time (DESIGN.md), and tickets are bytes
		// on a village's line.
		SessionTicketsDisabled: true,
	}
}

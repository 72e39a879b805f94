package enroll

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Request is what is needed to enrol.
type Request struct {
	Collector string // base URL, https
	Code      wire.ClaimCode
	Boot      measure.BootID
	Software  string
}

// ErrWrongCollector says that who answered is not who made the claim code.
var ErrWrongCollector = errors.New("the server that answered is not the collector that made this claim code: check the address, and that nothing intercepts the connection")

// Enroll trades the code for an identity and keeps it in s. Doing it again with
// the same code on the same box is harmless.
func (s State) Enroll(ctx context.Context, r Request) (Identity, error) {
	u, err := url.Parse(r.Collector)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return Identity{}, fmt.Errorf("collector %q: give it as https://host:7443", r.Collector)
	}
	r.Collector = strings.TrimRight(r.Collector, "/")
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return Identity{}, err
	}
	key, err := s.key()
	if err != nil {
		return Identity{}, err
	}
	body, err := proto.Marshal(&wirepb.EnrollRequest{Secret: r.Code.Secret[:],
		PublicKey: key.Public().(ed25519.PublicKey), SoftwareVersion: r.Software, BootId: string(r.Boot)})
	if err != nil {
		return Identity{}, err
	}
	transport := &http.Transport{TLSClientConfig: claimTLS(r.Code.Fingerprint), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.Collector+wire.PathEnroll, bytes.NewReader(body))
	if err != nil {
		return Identity{}, err
	}
	req.Header.Set("Content-Type", wire.ContentType)
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return Identity{}, fmt.Errorf("the collector cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return Identity{}, err
	}
	if resp.StatusCode != http.StatusOK {
		return Identity{}, fmt.Errorf("the collector refused: %s", strings.TrimSpace(string(answer[:min(len(answer), 300)])))
	}
	return s.accept(r, key, answer)
}

func (s State) accept(r Request, key ed25519.PrivateKey, answer []byte) (Identity, error) {
	var m wirepb.EnrollResponse
	if err := proto.Unmarshal(answer, &m); err != nil {
		return Identity{}, fmt.Errorf("the collector's answer: %w", err)
	}
	if !matches(m.CaCertificate, r.Code.Fingerprint) {
		return Identity{}, ErrWrongCollector
	}
	ca, err := x509.ParseCertificate(m.CaCertificate)
	if err != nil {
		return Identity{}, fmt.Errorf("the collector's certificate: %w", err)
	}
	if len(m.HeartbeatKey) != wire.HeartbeatKeySize || len(m.Probe) == 0 || len(m.Probe) > measure.MaxProbeID {
		return Identity{}, errors.New("the collector's answer is incomplete: is its version older than this probe's?")
	}
	id := Identity{Probe: measure.ProbeID(m.Probe), Site: measure.SiteID(m.Site), Collector: r.Collector, Key: key,
		HeartbeatKey: m.HeartbeatKey, CA: ca, EnrolledAt: time.Unix(0, m.CollectorTimeNs).UTC()}
	if m.Config != nil {
		if err := s.SaveConfig(m.Config); err != nil {
			return Identity{}, err
		}
	}
	if err := s.SaveLastSeen(id.EnrolledAt); err != nil {
		return Identity{}, err
	}
	return id, s.save(id) // last: with it the box is enrolled
}

func matches(der []byte, fingerprint [16]byte) bool {
	sum := sha256.Sum256(der)
	return bytes.Equal(sum[:len(fingerprint)], fingerprint[:])
}

// claimTLS trusts exactly the CA whose fingerprint is in the claim code. The box's
// clock is not trusted at all yet: the time is clamped into the leaf's validity.
func claimTLS(fingerprint [16]byte) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, // VerifyConnection below is stricter
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 {
				return ErrWrongCollector
			}
			leaf := c.PeerCertificates[0]
			roots := x509.NewCertPool()
			for _, p := range c.PeerCertificates[1:] {
				if matches(p.Raw, fingerprint) {
					roots.AddCert(p)
				}
			}
			now := time.Now()
			if now.Before(leaf.NotBefore) {
				now = leaf.NotBefore
			}
			if now.After(leaf.NotAfter) {
				now = leaf.NotAfter
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now,
				KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
				return fmt.Errorf("%w (%v)", ErrWrongCollector, err)
			}
			return nil
		},
	}
}

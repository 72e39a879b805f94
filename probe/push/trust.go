package push

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// PinnedTLS is a client configuration that trusts one CA and nothing else, TLS
// 1.3 only. The CA signs for the collector alone, so names are not checked: the
// collector may move. now is the time that certificates are judged by; it should
// be [Timekeeper.Floor], since a box without a battery boots in 1970.
func PinnedTLS(ca *x509.Certificate, now func() time.Time) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		Time:       now,
		// The standard verification insists on a name; ours follows.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("the collector showed no certificate")
			}
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between,
				CurrentTime: now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
			return err
		},
	}
}

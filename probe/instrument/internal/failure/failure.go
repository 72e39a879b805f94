// Package failure gives errors of the network their reason from the vocabulary.
package failure

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/pantau-desa/pantau/probe/measure"
)

// ReasonOf is why something on the network failed with err, which is not nil:
// "other" where the error does not say.
func ReasonOf(err error) measure.Reason {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var (
		dns         *net.DNSError
		record      tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
		alert       tls.AlertError
		timeout     interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &dns):
		return measure.ReasonDNS
	case is(syscall.ECONNREFUSED):
		return measure.ReasonRefused
	case is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL,
		syscall.ENODEV): // the interface that it is to leave by is not there
		return measure.ReasonUnreachable
	case is(syscall.EACCES, syscall.EPERM):
		return measure.ReasonPermission
	case errors.As(err, &record), errors.As(err, &certificate), errors.As(err, &alert):
		return measure.ReasonTLS
	case is(context.Canceled):
		return measure.ReasonCancelled
	case is(context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return measure.ReasonTimeout
	case is(io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed):
		return measure.ReasonShortBody
	default:
		return measure.ReasonOther
	}
}

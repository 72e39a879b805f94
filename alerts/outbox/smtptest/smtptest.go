// Package smtptest is a small SMTP server that keeps what it is sent: for tests
// and for the demo. It speaks on a real socket, with STARTTLS and authentication,
// and can be told to fail as servers in the field do.
//
// It guarantees that a mail it answered with 250 is in Mails, and in the folder if
// there is one. It forwards nothing.
package smtptest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Options of a Server.
type Options struct {
	Addr       string // 127.0.0.1:0 if empty
	Dir        string // mails are kept there too, as NNNN.eml; nowhere if empty
	Implicit   bool   // speaks TLS from the first byte, as port 465 does
	TLS        bool   // offers STARTTLS, with a certificate of its own authority for 127.0.0.1 and localhost
	RequireTLS bool   // takes no mail and no password without it
	User       string // required if not empty
	Password   string
}

// Mail is a mail that was taken.
type Mail struct {
	From string
	To   []string
	Data []byte // as received, with its header
}

// Fault is what the server does wrong to a mail.
type Fault int

// The faults.
const (
	None            Fault = iota
	RefuseRecipient       // 550 to RCPT TO
	DeferRecipient        // 451 to RCPT TO
	RefuseSender          // 550 to MAIL FROM
	RefuseContent         // 554 after the data
	DeferContent          // 451 after the data
	DropTaken             // takes the mail, then drops the connection before it says so
	DropLost              // drops the connection after the data, and the mail with it
)

// Server is a running server, or one that is down.
type Server struct {
	opt  Options
	tls  *tls.Config
	pool *x509.CertPool
	addr string

	mu       sync.Mutex
	server   *smtp.Server
	listener net.Listener
	ended    chan struct{}
	mails    []Mail
	sessions int
	behave   func(from, to string) Fault
}

// Start begins to listen.
func Start(opt Options) (*Server, error) {
	if opt.RequireTLS || opt.Implicit {
		opt.TLS = true
	}
	s := &Server{opt: opt, addr: opt.Addr}
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	if opt.TLS {
		var err error
		if s.tls, s.pool, err = certificate(); err != nil {
			return nil, fmt.Errorf("smtptest: certificate: %w", err)
		}
	}
	return s, s.Up()
}

// Up listens again, at the address it had.
func (s *Server) Up() error {
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("smtptest: %w", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		s.mu.Lock()
		s.sessions++
		s.mu.Unlock()
		return &session{server: s, conn: c, known: s.opt.User == ""}, nil
	}))
	server.Domain = "smtptest.example.org"
	server.TLSConfig = s.tls
	server.AllowInsecureAuth = !s.opt.RequireTLS
	server.EnableSMTPUTF8 = true
	server.MaxMessageBytes = 8 << 20
	server.ReadTimeout, server.WriteTimeout = time.Minute, time.Minute
	server.ErrorLog = quiet{}
	ended := make(chan struct{})
	s.mu.Lock()
	s.addr = l.Addr().String()
	if s.opt.Implicit {
		l = tls.NewListener(l, s.tls)
	}
	s.server, s.listener, s.ended = server, l, ended
	s.mu.Unlock()
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	return nil
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Down stops listening and cuts every connection.
func (s *Server) Down() {
	s.mu.Lock()
	server, listener, ended := s.server, s.listener, s.ended
	s.server = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
		_ = listener.Close() // the server knows its listener only once it serves
		<-ended
	}
}

// Close ends the server.
func (s *Server) Close() { s.Down() }

// Host and Port are where it listens, also while it is down.
func (s *Server) Host() string {
	host, _, _ := net.SplitHostPort(s.at())
	return host
}

// Port is the TCP port.
func (s *Server) Port() int {
	a, err := net.ResolveTCPAddr("tcp", s.at())
	if err != nil {
		return 0
	}
	return a.Port
}

func (s *Server) at() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// CA is the authority of its certificate; nil without TLS.
func (s *Server) CA() *x509.CertPool { return s.pool }

// Behave decides on the fault for a mail from then on; nil: none.
func (s *Server) Behave(f func(from, to string) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = f
}

// Mails is what was taken, oldest first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// Sessions is how many connections were greeted.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// Wait waits until n mails were taken.
func (s *Server) Wait(ctx context.Context, n int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		have := len(s.Mails())
		if have >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("smtptest: %d mails of %d: %w", have, n, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *Server) fault(from, to string) Fault {
	s.mu.Lock()
	f := s.behave
	s.mu.Unlock()
	if f == nil {
		return None
	}
	return f(from, to)
}

func (s *Server) keep(m Mail) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opt.Dir != "" {
		// Written under another name first, so that a reader of *.eml sees whole mails.
		file := filepath.Join(s.opt.Dir, fmt.Sprintf("%04d.eml", len(s.mails)+1))
		trace := fmt.Sprintf("Return-Path: <%s>\r\nDelivered-To: %s\r\n", m.From, strings.Join(m.To, ", "))
		if err := os.WriteFile(file+".part", append([]byte(trace), m.Data...), 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+".part", file); err != nil {
			return err
		}
	}
	s.mails = append(s.mails, m)
	return nil
}

type session struct {
	server *Server
	conn   *smtp.Conn
	known  bool
	mail   Mail
}

func refusal(code int, a, b, c int, text string) error {
	return &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{a, b, c}, Message: text}
}

func (s *session) encrypted() bool {
	_, ok := s.conn.TLSConnectionState()
	return ok
}

func (s *session) AuthMechanisms() []string {
	if s.server.opt.User == "" || s.server.opt.RequireTLS && !s.encrypted() {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.server.opt.User || password != s.server.opt.Password {
			return errors.New("wrong user or password")
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	switch {
	case s.server.opt.RequireTLS && !s.encrypted():
		return refusal(530, 5, 7, 0, "Must issue a STARTTLS command first")
	case !s.known:
		return refusal(530, 5, 7, 0, "Authentication required")
	case s.server.fault(from, "") == RefuseSender:
		return refusal(550, 5, 7, 1, "Sender not allowed")
	}
	s.mail = Mail{From: from}
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch s.server.fault(s.mail.From, to) {
	case RefuseRecipient:
		return refusal(550, 5, 1, 1, "No such user here")
	case DeferRecipient:
		return refusal(451, 4, 7, 1, "Greylisted, come again")
	}
	s.mail.To = append(s.mail.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		return err
	}
	s.mail.Data = b.Bytes()
	fault := None
	for _, to := range s.mail.To {
		fault = max(fault, s.server.fault(s.mail.From, to))
	}
	switch fault {
	case RefuseContent:
		return refusal(554, 5, 7, 1, "Looks like spam")
	case DeferContent:
		return refusal(451, 4, 3, 0, "Try again")
	case DropLost:
		_ = s.conn.Conn().Close()
		return errors.New("dropped")
	}
	if err := s.server.keep(s.mail); err != nil {
		return refusal(451, 4, 3, 0, "Cannot keep it")
	}
	if fault == DropTaken {
		_ = s.conn.Conn().Close()
		return errors.New("dropped")
	}
	return nil
}

func (s *session) Reset()        { s.mail = Mail{} }
func (s *session) Logout() error { return nil }

// certificate makes an authority and a server's certificate that lives a day.
func certificate() (*tls.Config, *x509.CertPool, error) {
	now := time.Now()
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "smtptest authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "smtptest"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool, nil
}

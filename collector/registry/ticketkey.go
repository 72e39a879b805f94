package registry

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pantau-desa/pantau/collector/durable"
	"github.com/pantau-desa/pantau/probe/wire"
)

// ticketFile holds the key by which tickets for heavy tests are signed: measurement
// servers trust its public half.
const ticketFile = "ticket.pem"

// TicketKey is the key that signs tickets.
func (r *Registry) TicketKey() ed25519.PrivateKey { return r.ticket }

// TicketKeyOf is the public half of the ticket key in the directory of a registry
// that may be open in another process. It wraps [fs.ErrNotExist] if there is none
// yet: the first start of a collector makes it.
func TicketKeyOf(dir string) (ed25519.PublicKey, error) {
	key, err := readTicketKey(filepath.Join(dir, ticketFile))
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// openTicketKey reads the key, and makes it if there is none: what is lost by that is
// the trust of the measurement servers that were told another one.
func openTicketKey(dir string, log *slog.Logger) (ed25519.PrivateKey, error) {
	path := filepath.Join(dir, ticketFile)
	key, err := readTicketKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := durable.Replace(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return nil, err
	}
	log.Info("key for tickets made: measurement servers that demand tickets must trust it", "file", path, "trust", wire.TicketKeyText(public))
	return key, nil
}

func readTicketKey(path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := private(f); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block: restore it from a backup, or move it away; measurement servers must then trust the new key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of type %T, not Ed25519", path, parsed)
	}
	return key, nil
}

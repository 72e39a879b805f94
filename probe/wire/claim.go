package wire

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"strings"
)

// ClaimCode lets one box enrol once. It names the collector (so that the box
// needs no other root of trust) and proves the right to enrol.
type ClaimCode struct {
	// Fingerprint is the first 128 bits of the SHA-256 of the collector's CA
	// certificate (DER).
	Fingerprint [16]byte
	// Secret is 80 random bits, of which the collector keeps only a digest.
	Secret [10]byte
}

// claimAlphabet is Crockford's base 32: no I, L, O, U, so that a code can be read
// out on the telephone.
var claimAlphabet = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

const (
	claimData  = 42 // characters: 208 bits
	claimCheck = 2  // characters: 10 bits of a digest over the data
)

// ErrClaimCode is what every unreadable claim code wraps.
var ErrClaimCode = errors.New("the claim code is not readable: 44 letters and digits in groups of four; compare it with the one that was handed out")

// String writes the code in groups of four.
func (c ClaimCode) String() string {
	s := claimAlphabet.EncodeToString(c.raw())
	s += claimChecksum(c.raw())
	var b strings.Builder
	for i := 0; i < len(s); i += 4 {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(s[i:min(i+4, len(s))])
	}
	return b.String()
}

// ParseClaimCode reads a code as a person types it: any case, spaces or hyphens,
// O for 0, I or L for 1.
func ParseClaimCode(s string) (ClaimCode, error) {
	var c ClaimCode
	if len(s) > 4*(claimData+claimCheck) {
		return c, ErrClaimCode
	}
	s = strings.NewReplacer("-", "", " ", "", "O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(strings.TrimSpace(s)))
	if len(s) != claimData+claimCheck {
		return c, ErrClaimCode
	}
	raw, err := claimAlphabet.DecodeString(s[:claimData])
	if err != nil || len(raw) != len(c.Fingerprint)+len(c.Secret) {
		return c, ErrClaimCode
	}
	if subtle.ConstantTimeCompare([]byte(claimChecksum(raw)), []byte(s[claimData:])) != 1 {
		return c, ErrClaimCode
	}
	copy(c.Fingerprint[:], raw)
	copy(c.Secret[:], raw[len(c.Fingerprint):])
	// 42 characters hold 210 bits: the two spare ones must be zero, so that one
	// code has one spelling.
	if claimAlphabet.EncodeToString(raw) != s[:claimData] {
		return ClaimCode{}, ErrClaimCode
	}
	return c, nil
}

func (c ClaimCode) raw() []byte {
	return append(append(make([]byte, 0, 26), c.Fingerprint[:]...), c.Secret[:]...)
}

func claimChecksum(raw []byte) string {
	sum := sha256.Sum256(append([]byte("pantau-claim-v1\x00"), raw...))
	return claimAlphabet.EncodeToString(sum[:2])[:claimCheck]
}

package wire

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// HeaderTicket carries a token to a measurement server.
const HeaderTicket = "Pantau-Ticket"

// TicketScheme is what a measurement server that wants a token says in
// WWW-Authenticate (RFC 9110 section 11.6.1).
const TicketScheme = "Pantau-Ticket"

const (
	// TicketLife is how long a token lets tests begin: both directions of the longest
	// test, 60 s each, and what is asked around them.
	TicketLife = 3 * time.Minute
	// TicketSkew is how far the clocks of the collector and a measurement server may
	// differ: by so much later a token still serves, and by so much it may seem to
	// live longer than it does.
	TicketSkew = time.Minute
	// MaxToken is the longest token in bytes.
	MaxToken = 1024
	// MaxTicketRequest is the longest body of a request for one, in bytes.
	MaxTicketRequest = 1024
)

const (
	askDomain   = "pantau-ticket-v1\x00" // a probe signs its wish
	tokenDomain = "pantau-token-v1\x00"  // the collector signs a token
	keyPrefix   = "ed25519:"
)

// TicketID names one ticket, at random.
type TicketID [8]byte

// String is what the ids of the ticket's tests begin with at a measurement server.
func (id TicketID) String() string { return hex.EncodeToString(id[:]) }

// Ticket is the permission to test against one measurement server, now.
type Ticket struct {
	ID      TicketID
	Site    measure.SiteID
	Probe   measure.ProbeID
	Target  measure.TargetID
	Expires time.Time // by the collector's clock
}

// Errors of a token, beside [ErrMalformed]. Their texts are fit for a stranger.
var (
	ErrTicketSignature = errors.New("not signed by a collector that this server trusts")
	ErrTicketExpired   = errors.New("expired")
	ErrTicketClock     = errors.New("expires too far ahead: the clocks of collector and measurement server differ")
	ErrTicketTarget    = errors.New("for another measurement server")
)

// SignTicketRequest signs the body of a request with the probe's key.
func SignTicketRequest(key ed25519.PrivateKey, body []byte) []byte {
	return signFor(askDomain, key, body)
}

// VerifyTicketRequest reports whether sig is the signature of such a body by key.
func VerifyTicketRequest(key ed25519.PublicKey, body, sig []byte) bool {
	return verifyFor(askDomain, key, body, sig)
}

// Token is the ticket as text, signed: base64url of the claims, a dot, base64url of
// the signature.
func (t Ticket) Token(key ed25519.PrivateKey) (string, error) {
	claims, err := proto.MarshalOptions{Deterministic: true}.Marshal(&wirepb.TicketClaims{Site: string(t.Site), Probe: string(t.Probe),
		Target: string(t.Target), ExpiresNs: t.Expires.UnixNano(), Id: t.ID[:]})
	if err != nil {
		return "", err
	}
	token := encode(claims) + "." + encode(signFor(tokenDomain, key, claims))
	if len(token) > MaxToken {
		return "", tooLarge("a token of %d bytes, at most %d", len(token), MaxToken)
	}
	return token, nil
}

// b64 takes one text for one value: no token has two forms.
var b64 = base64.RawURLEncoding.Strict()

func encode(b []byte) string { return b64.EncodeToString(b) }

// ReadTicket reads what a token says, without asking who signed it: for the probe,
// which has it from the collector. Every error wraps [ErrMalformed].
func ReadTicket(token string) (Ticket, error) {
	t, _, _, err := readTicket(token)
	return t, err
}

// VerifyTicket reads a token that one of keys must have signed for target, at an
// instant of a clock that may be off by [TicketSkew].
func VerifyTicket(token string, keys []ed25519.PublicKey, target measure.TargetID, now time.Time) (Ticket, error) {
	t, claims, sig, err := readTicket(token)
	if err != nil {
		return Ticket{}, err
	}
	signed := false
	for _, k := range keys {
		signed = signed || verifyFor(tokenDomain, k, claims, sig)
	}
	switch {
	case !signed:
		return Ticket{}, ErrTicketSignature
	case t.Target != target:
		return Ticket{}, fmt.Errorf("%w (%q)", ErrTicketTarget, t.Target)
	case !now.Before(t.Expires.Add(TicketSkew)):
		return Ticket{}, fmt.Errorf("%w %v ago", ErrTicketExpired, now.Sub(t.Expires).Round(time.Second))
	case t.Expires.After(now.Add(TicketLife + TicketSkew)):
		return Ticket{}, fmt.Errorf("%w (in %v)", ErrTicketClock, t.Expires.Sub(now).Round(time.Second))
	}
	return t, nil
}

func readTicket(token string) (t Ticket, claims, sig []byte, err error) {
	if len(token) > MaxToken {
		return t, nil, nil, tooLarge("a token of %d bytes, at most %d", len(token), MaxToken)
	}
	if strings.ContainsAny(token, "\r\n") { // which base64 overlooks
		return t, nil, nil, malformed("a token of several lines")
	}
	head, tail, _ := strings.Cut(token, ".")
	if claims, err = b64.DecodeString(head); err != nil || len(claims) == 0 {
		return t, nil, nil, malformed("the token's claims are not base64url")
	}
	if sig, err = b64.DecodeString(tail); err != nil || len(sig) != ed25519.SignatureSize {
		return t, nil, nil, malformed("the token's signature is not base64url of %d bytes", ed25519.SignatureSize)
	}
	var c wirepb.TicketClaims
	if err := proto.Unmarshal(claims, &c); err != nil {
		return t, nil, nil, malformed("the token's claims: %v", err)
	}
	switch {
	case len(c.Id) != len(t.ID):
		return t, nil, nil, malformed("a ticket id of %d bytes", len(c.Id))
	case len(c.Site) == 0 || len(c.Site) > MaxText || len(c.Target) == 0 || len(c.Target) > MaxText,
		len(c.Probe) == 0 || len(c.Probe) > measure.MaxProbeID:
		return t, nil, nil, malformed("a token for site %.40q, probe %.40q, target %.40q", c.Site, c.Probe, c.Target)
	}
	copy(t.ID[:], c.Id)
	t.Site, t.Probe, t.Target = measure.SiteID(c.Site), measure.ProbeID(c.Probe), measure.TargetID(c.Target)
	t.Expires = time.Unix(0, c.ExpiresNs).UTC()
	return t, claims, sig, nil
}

// TicketKeyText is a collector's public ticket key as people copy it.
func TicketKeyText(key ed25519.PublicKey) string { return keyPrefix + encode(key) }

// ParseTicketKey reads what [TicketKeyText] wrote.
func ParseTicketKey(s string) (ed25519.PublicKey, error) {
	text, ok := strings.CutPrefix(strings.TrimSpace(s), keyPrefix)
	if !ok {
		return nil, malformed("%.60q does not begin with %s", s, keyPrefix)
	}
	raw, err := b64.DecodeString(text)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, malformed("%.60q is not %s and 43 letters, digits, - or _", s, keyPrefix)
	}
	return raw, nil
}

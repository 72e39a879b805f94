package wire

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

func ticketKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, key
}

func TestATokenServesOneServerForAWhile(t *testing.T) {
	public, key := ticketKey(t)
	stranger, strangersKey := ticketKey(t)
	given := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	ticket := Ticket{ID: TicketID{1, 2, 3}, Site: "s1", Probe: "p1", Target: "ukur-1", Expires: given.Add(TicketLife)}
	token, err := ticket.Token(key)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := ticket.Token(strangersKey)
	if err != nil {
		t.Fatal(err)
	}
	claims, sig, _ := strings.Cut(token, ".")
	otherClaims, _, _ := strings.Cut(mustToken(t, key, Ticket{ID: ticket.ID, Site: "s2", Probe: "p1", Target: "ukur-1", Expires: ticket.Expires}), ".")
	for _, c := range []struct {
		name   string
		token  string
		keys   []ed25519.PublicKey
		target measure.TargetID
		now    time.Time
		want   error
	}{
		{"at once", token, []ed25519.PublicKey{public}, "ukur-1", given, nil},
		{"of two keys", token, []ed25519.PublicKey{stranger, public}, "ukur-1", given, nil},
		{"the server's clock is behind", token, []ed25519.PublicKey{public}, "ukur-1", given.Add(-TicketSkew), nil},
		{"the server's clock is ahead", token, []ed25519.PublicKey{public}, "ukur-1", ticket.Expires.Add(TicketSkew - time.Nanosecond), nil},
		{"expired", token, []ed25519.PublicKey{public}, "ukur-1", ticket.Expires.Add(TicketSkew), ErrTicketExpired},
		{"the server's clock is far behind", token, []ed25519.PublicKey{public}, "ukur-1", given.Add(-TicketSkew - time.Nanosecond), ErrTicketClock},
		{"no key", token, nil, "ukur-1", given, ErrTicketSignature},
		{"another's key", token, []ed25519.PublicKey{stranger}, "ukur-1", given, ErrTicketSignature},
		{"forged", forged, []ed25519.PublicKey{public}, "ukur-1", given, ErrTicketSignature},
		{"another site's claims", otherClaims + "." + sig, []ed25519.PublicKey{public}, "ukur-1", given, ErrTicketSignature},
		{"another server", token, []ed25519.PublicKey{public}, "ukur-2", given, ErrTicketTarget},
		{"empty", "", []ed25519.PublicKey{public}, "ukur-1", given, ErrMalformed},
		{"without a signature", claims, []ed25519.PublicKey{public}, "ukur-1", given, ErrMalformed},
		{"cut", token[:len(token)-1], []ed25519.PublicKey{public}, "ukur-1", given, ErrMalformed},
		{"long", token + strings.Repeat("A", MaxToken), []ed25519.PublicKey{public}, "ukur-1", given, ErrTooLarge},
		{"no site", mustToken(t, key, Ticket{Probe: "p1", Target: "ukur-1", Expires: given}), []ed25519.PublicKey{public}, "ukur-1", given, ErrMalformed},
		{"a batch's signature", claims + "." + encode(Sign(key, mustDecode(t, claims))), []ed25519.PublicKey{public}, "ukur-1", given, ErrTicketSignature},
	} {
		got, err := VerifyTicket(c.token, c.keys, c.target, c.now)
		if !errors.Is(err, c.want) || err == nil && got != ticket || err != nil && got != (Ticket{}) {
			t.Errorf("%s: %+v, %v; want %v", c.name, got, err, c.want)
		}
	}
	if got, err := ReadTicket(token); err != nil || got != ticket {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := (Ticket{Site: measure.SiteID(strings.Repeat("s", MaxToken)), Probe: "p1", Target: "ukur-1"}).Token(key); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func mustToken(t *testing.T, key ed25519.PrivateKey, ticket Ticket) string {
	t.Helper()
	token, err := ticket.Token(key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func mustDecode(t *testing.T, claims string) []byte {
	t.Helper()
	raw, err := b64.DecodeString(claims)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTicketKeysAreText(t *testing.T) {
	public, _ := ticketKey(t)
	got, err := ParseTicketKey(" " + TicketKeyText(public) + "\n")
	if err != nil || !got.Equal(public) {
		t.Errorf("%v, %v", got, err)
	}
	for _, s := range []string{"", "ed25519:", "rsa:" + TicketKeyText(public), TicketKeyText(public)[:50], TicketKeyText(public) + "A"} {
		if _, err := ParseTicketKey(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestAWishIsNoBatch(t *testing.T) {
	public, key := ticketKey(t)
	body := []byte("wish")
	sig := SignTicketRequest(key, body)
	if !VerifyTicketRequest(public, body, sig) || VerifyTicketRequest(public, []byte("wash"), sig) {
		t.Error("a wish is signed by its probe, as it is")
	}
	if Verify(public, body, sig) || VerifyTicketRequest(public, body, Sign(key, body)) {
		t.Error("a signature means something elsewhere")
	}
}

func FuzzVerifyTicket(f *testing.F) {
	public, key := ticketKey(f)
	now := time.Date(2026, 3, 14, 7, 0, 0, 0, time.UTC)
	good, err := Ticket{ID: TicketID{1}, Site: "s1", Probe: "p1", Target: "ukur-1", Expires: now.Add(TicketLife)}.Token(key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("." + good)
	f.Add("CgJzMRICcDEaBnVrdXItMQ.AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		read, readErr := ReadTicket(token)
		ticket, err := VerifyTicket(token, []ed25519.PublicKey{public}, "ukur-1", now)
		switch {
		case err == nil && token != good:
			t.Fatalf("forged: %q", token)
		case readErr != nil && (!errors.Is(readErr, ErrMalformed) || err == nil):
			t.Fatalf("%v, %v", readErr, err)
		case err == nil && read != ticket:
			t.Fatalf("%+v, %+v", read, ticket)
		}
	})
}

package alerts

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pantau-desa/pantau/alerts/ledger"
	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/router"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// By says what a silence goes by.
type By string

// The ways. An incident is silenced by a place only if all of it lies there.
const (
	ByRegency  By = "regency"
	ByDistrict By = "district"
	ByVillage  By = "village"
	ByNode     By = "node" // and all below it
	ByIncident By = "incident"
)

// Ways lists them, the widest first.
func Ways() []By { return []By{ByRegency, ByDistrict, ByVillage, ByNode, ByIncident} }

// Silence is a time in which nobody is told of something. What it mutes is not told
// later either.
type Silence struct {
	ID      string    `json:"id"`   // given
	By      By        `json:"by"`   // if empty, what Of looks like
	Of      string    `json:"of"`   // code or id
	Name    string    `json:"name"` // given: as people say it
	Author  string    `json:"author"`
	Reason  string    `json:"reason"`
	From    time.Time `json:"from"` // now, if zero
	Until   time.Time `json:"until"`
	Current bool      `json:"current"` // given: it has begun
}

// MaxSilence is the longest silence, and how far ahead one may begin.
const MaxSilence = 30 * 24 * time.Hour

// ErrSilence is wrapped by what is wrong with a silence that was asked for.
var ErrSilence = errors.New("silence")

// Notes that a silence carries through the router.
const (
	noteBy = "by"
	noteOf = "of"
)

// Silence begins one; it returns the silence as it is kept.
func (s *Service) Silence(ctx context.Context, x Silence) (Silence, error) {
	now := time.Now()
	if x.From.Before(now) {
		x.From = now
	}
	x.Of, x.Author, x.Reason = strings.TrimSpace(x.Of), strings.TrimSpace(x.Author), strings.TrimSpace(x.Reason)
	inv := s.opt.Inventory()
	if x.By == "" {
		x.By = looksLike(x.Of)
	}
	match, err := x.match(inv, now)
	if err != nil {
		return Silence{}, err
	}
	id, err := s.router.Silence(ctx, router.Silence{Match: match, Author: x.Author, About: x.Reason, From: x.From, Until: x.Until,
		Notes: map[string]string{noteBy: string(x.By), noteOf: x.Of}})
	if errors.Is(err, router.ErrTooMany) {
		return Silence{}, fmt.Errorf("%w: there are %d already: expire one first", ErrSilence, router.MaxSilences)
	}
	if err != nil {
		return Silence{}, err
	}
	x.ID = id
	x.Current = !x.From.After(now)
	x.Name = x.name(inv)
	s.log.Info("silence", "id", id, "by", string(x.By), "of", x.Of, "author", x.Author, "reason", x.Reason, "from", x.From, "until", x.Until)
	return x, nil
}

// match is what the router matches; an error says what is wrong with x.
func (x Silence) match(inv *inventory.Inventory, now time.Time) ([]router.Matcher, error) {
	wrong := func(format string, args ...any) ([]router.Matcher, error) {
		return nil, fmt.Errorf("%w: "+format, append([]any{ErrSilence}, args...)...)
	}
	equal := func(label string) []router.Matcher { return []router.Matcher{{Label: label, Value: x.Of}} }
	var match []router.Matcher
	switch known := false; x.By {
	case ByRegency:
		if _, known = inv.Regency(x.Of); !known {
			return wrong("the inventory has no regency %q", x.Of)
		}
		match = equal(letter.LabelRegency)
	case ByDistrict:
		if _, known = inv.District(x.Of); !known {
			return wrong("the inventory has no district %q", x.Of)
		}
		match = equal(letter.LabelDistrict)
	case ByVillage:
		if _, known = inv.Village(x.Of); !known {
			return wrong("the inventory has no village %q", x.Of)
		}
		match = equal(letter.LabelVillage)
	case ByNode:
		if _, known = inv.Node(inventory.NodeID(x.Of), now); !known {
			return wrong("the inventory has no node %q today", x.Of)
		}
		match = []router.Matcher{{Label: letter.LabelNodes, Value: ".*/" + regexp.QuoteMeta(x.Of) + "/.*", Regexp: true}}
	case ByIncident:
		if !incidentForm.MatchString(x.Of) {
			return wrong("%q is no incident: write it as G-3310-250721-04", x.Of)
		}
		match = equal(letter.LabelIncident)
	default:
		return wrong("it goes by regency, district, village, node or incident, not by %q", x.By)
	}
	switch {
	case !line(x.Author, 100):
		return wrong("the author is missing, longer than 100 characters, or holds what cannot be printed")
	case !line(x.Reason, 300):
		return wrong("the reason is missing, longer than 300 characters, or holds what cannot be printed")
	case !x.Until.After(x.From):
		return wrong("it ends before it begins")
	case x.Until.Sub(x.From) > MaxSilence:
		return wrong("it is longer than %d days", int(MaxSilence.Hours()/24))
	case x.From.Sub(now) > MaxSilence:
		return wrong("it begins more than %d days from now", int(MaxSilence.Hours()/24))
	}
	return match, nil
}

// looksLike tells codes of regions and numbers of incidents from ids of nodes.
func looksLike(of string) By {
	switch {
	case incidentForm.MatchString(of):
		return ByIncident
	case codeForm.MatchString(of):
		return map[int]By{5: ByRegency, 8: ByDistrict, 13: ByVillage}[len(of)]
	}
	return ByNode
}

var codeForm = regexp.MustCompile(`^[0-9]{2}\.[0-9]{2}(\.[0-9]{2}(\.[0-9]{4})?)?$`)

var incidentForm = regexp.MustCompile(`^G-[0-9]{4}-[0-9]{6}-[0-9]{2,}$`)

// line reports whether s is one line of print, of at most so many characters.
func line(s string, most int) bool {
	return s != "" && utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// name is what people call it.
func (x Silence) name(inv *inventory.Inventory) string {
	switch x.By {
	case ByRegency:
		if r, ok := inv.Regency(x.Of); ok {
			return r.Name
		}
	case ByDistrict:
		if r, ok := inv.District(x.Of); ok {
			return "Kecamatan " + r.Name
		}
	case ByVillage:
		if v, ok := inv.Village(x.Of); ok {
			return v.Name + ", Kecamatan " + v.District.Name
		}
	case ByNode:
		if n, ok := inv.Node(inventory.NodeID(x.Of), time.Now()); ok {
			return n.Name
		}
	}
	return ""
}

func (s *Service) told(x router.Silence, now time.Time) Silence {
	out := Silence{ID: x.ID, By: By(x.Notes[noteBy]), Of: x.Notes[noteOf], Author: x.Author, Reason: x.About, From: x.From, Until: x.Until, Current: !x.From.After(now)}
	out.Name = out.name(s.opt.Inventory())
	return out
}

// Silences returns those that are in force or to come, the one that ends first
// first.
func (s *Service) Silences(ctx context.Context) ([]Silence, error) {
	list, err := s.router.Silences(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	out := make([]Silence, len(list))
	for k, x := range list {
		out[k] = s.told(x, now)
	}
	return out, nil
}

// Expire ends a silence now; id may be the beginning of an id, of at least four
// characters, that no other shares.
func (s *Service) Expire(ctx context.Context, id string) (Silence, error) {
	x, err := s.router.Expire(ctx, id)
	if errors.Is(err, router.ErrNoSilence) {
		return Silence{}, fmt.Errorf("%w: none, or more than one, is in force whose id begins with %q", ErrSilence, id)
	}
	if err != nil {
		return Silence{}, err
	}
	s.log.Info("silence ended", "id", x.ID)
	return s.told(x, time.Now()), nil
}

// Muted returns the latest news that silences muted, newest first, at most n.
func (s *Service) Muted(n int) ([]ledger.Muted, error) { return s.ledger.Muted(n) }

// Mails returns the latest mails, newest first, at most n.
func (s *Service) Mails(n int) ([]outbox.Status, error) { return s.outbox.List(n) }

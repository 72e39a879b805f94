package incident

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// Listing is which incidents go on at one instant, as it was known then. It is
// written to the journal each minute and on every event, so that the series of
// incidents can be rebuilt.
type Listing struct {
	At    time.Time `json:"at"`
	Lines []Line    `json:"open"`
}

// Line is one incident of a listing. Cause is the suspected one while the final
// one is not known.
type Line struct {
	ID      ID               `json:"id"`
	Kind    Kind             `json:"kind"`
	Regency string           `json:"regency"` // code
	Node    inventory.NodeID `json:"node,omitempty"`
	Cause   Cause            `json:"cause"`
	Sites   int              `json:"sites"` // silent or failing
}

// ErrListing is wrapped by every error of [ParseListing].
var ErrListing = errors.New("incident: unreadable listing")

// ParseListing reads what json.Marshal made of a listing.
func ParseListing(body []byte) (Listing, error) {
	var l Listing
	if err := json.Unmarshal(body, &l); err != nil {
		return Listing{}, fmt.Errorf("%w: %w", ErrListing, err)
	}
	if l.At.IsZero() {
		return Listing{}, fmt.Errorf("%w: without a time", ErrListing)
	}
	for _, x := range l.Lines {
		if _, _, ok := x.ID.split(); !ok {
			return Listing{}, fmt.Errorf("%w: incident %q", ErrListing, x.ID)
		}
	}
	return l, nil
}

// Listing returns what goes on at an instant.
func (e *Engine) Listing(now time.Time) Listing {
	l := Listing{At: utc(now), Lines: []Line{}}
	for _, i := range e.Open() {
		x := Line{ID: i.ID, Kind: i.Kind, Regency: i.Regency, Node: i.Place.Node, Cause: i.Guess, Sites: i.Silent()}
		if i.Cause != "" {
			x.Cause = i.Cause
		}
		l.Lines = append(l.Lines, x)
	}
	return l
}

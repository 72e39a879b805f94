// Package letter decides who is told what: from an event of an incident, from
// what rules found, or from a week, and the inventory of that time, it makes the
// views that package mail draws.
//
// It guarantees that an event is news only to those whom it concerns and who do
// not know it: the first mail of an incident reads as a first one, whatever the
// event; a recovery is told to nobody who was not told of a trouble; and what is
// wrong with ourselves goes to operations alone.
//
// It is pure: it keeps nothing, sends nothing and reads no clock.
package letter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts/mail"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/configs/inventory"
)

// Style is what all letters of a collector share.
type Style struct {
	Page       string // base address of the office side, without a slash at its end; empty: no links
	Language   mail.Language
	Simulation bool
}

// Told is what a recipient knows of an incident already.
type Told struct {
	Any   bool
	First time.Time // when the first mail was accepted
}

// News is an event of an incident as one audience is to hear it.
type News struct {
	Event  incident.Event
	Role   inventory.Role
	Region string   // code of the regency or province; empty for operations
	Before []string // codes of the region's villages that were told before
	// Joined are incidents that turned out to be parts of this one.
	Joined []incident.ID
}

// Of says to whom an event is news. before are the villages, by code, that the
// incident had when it was told last; joined as in [News].
func Of(ev incident.Event, before []string, joined []incident.ID) []News {
	switch ev.Type {
	case incident.Opened, incident.Widened, incident.Unstable, incident.Recovered:
	default: // Narrowed, Merged and CauseFound are for the page alone
		return nil
	}
	if ev.Incident.Kind == incident.Ours {
		has := func(k incident.FactKind) bool {
			return slices.ContainsFunc(ev.Incident.Evidence, func(f incident.Fact) bool { return f.Kind == k })
		}
		if has(incident.Stalled) && !has(incident.UplinkFails) {
			return nil // a stall is over when it is seen: a rule tells operations if it happens often
		}
		return []News{{Event: ev, Role: inventory.RoleOperations}}
	}
	villages := Villages(ev.Incident)
	var out []News
	add := func(role inventory.Role, region string) {
		in := within(villages, region)
		known := within(before, region)
		if ev.Type == incident.Widened && !slices.ContainsFunc(in, func(v string) bool { return !slices.Contains(known, v) }) {
			return // it widened elsewhere
		}
		out = append(out, News{Event: ev, Role: role, Region: region, Before: known, Joined: joined})
	}
	regencies := prefixes(villages, regencyCode)
	if len(regencies) == 0 && ev.Incident.Regency != "" {
		regencies = []string{ev.Incident.Regency}
	}
	for _, r := range regencies {
		add(inventory.RoleDinas, r)
	}
	for _, p := range prefixes(regencies, provinceCode) {
		add(inventory.RoleProvince, p)
	}
	return out
}

// Villages lists the codes of an incident's villages, in order.
func Villages(i incident.Incident) []string {
	var out []string
	for _, v := range i.Villages() {
		out = append(out, v.Code)
	}
	return out
}

// Lengths of codes: PP and PP.RR.
const (
	provinceCode = 2
	regencyCode  = 5
	districtCode = 8
)

// prefixes lists the beginnings of codes, each once, in order.
func prefixes(codes []string, length int) []string {
	var out []string
	for _, c := range codes {
		if len(c) >= length && !slices.Contains(out, c[:length]) {
			out = append(out, c[:length])
		}
	}
	slices.Sort(out)
	return out
}

func within(codes []string, region string) []string {
	var out []string
	for _, c := range codes {
		if region == "" || c == region || strings.HasPrefix(c, region+".") {
			out = append(out, c)
		}
	}
	return out
}

// Key names the news for ever: the same after any crash.
func (n News) Key() string {
	return fmt.Sprintf("%s/%s-%d/%s", n.Event.Incident.ID, n.Event.Type, n.Event.Seq, cmp.Or(n.Region, string(n.Role)))
}

// Thread names what the news belongs to.
func (n News) Thread() string { return string(n.Event.Incident.ID) }

// Labels are what routes and silences look at. What is in one place alone has that
// place's code; the nodes from the top down to the suspected one are a path.
func (n News) Labels(inv *inventory.Inventory) map[string]string {
	i := n.Event.Incident
	out := map[string]string{LabelSource: SourceIncident, LabelAlertName: "Incident", LabelEvent: n.Key(), LabelRole: string(n.Role), LabelRegion: n.Region,
		LabelIncident: string(i.ID), LabelKind: string(i.Kind), LabelStep: string(n.Event.Type)}
	villages := within(Villages(i), n.Region)
	for label, length := range map[string]int{LabelProvince: provinceCode, LabelRegency: regencyCode, LabelDistrict: districtCode, LabelVillage: villageCode} {
		if codes := prefixes(villages, length); len(codes) == 1 {
			out[label] = codes[0]
		}
	}
	if path := inv.Path(i.Place.Node, n.Event.At); len(path) > 0 {
		ids := make([]string, len(path))
		for k, node := range path {
			ids[len(path)-1-k] = string(node.ID)
		}
		out[LabelNodes] = "/" + strings.Join(ids, "/") + "/"
	}
	for label, value := range out {
		if value == "" {
			delete(out, label)
		}
	}
	return out
}

const villageCode = 13

// Labels of alerts. Rules give kind, severity and those of regions.
const (
	LabelAlertName = "alertname"
	LabelSource    = "source" // SourceIncident, SourceRule or SourceOpen
	LabelEvent     = "event"
	LabelRole      = "role"
	LabelRegion    = "region"
	LabelIncident  = "incident"
	LabelKind      = "kind"
	LabelStep      = "step"
	LabelNodes     = "nodes" // "/POP-A/OLT-15/ODC-15-1/"
	LabelProvince  = "province"
	LabelRegency   = "regency"
	LabelDistrict  = "district"
	LabelVillage   = "village"
)

// Values of LabelSource.
const (
	SourceIncident = "incident" // news of an incident
	SourceRule     = "rule"     // a rule fires
	SourceOpen     = "open"     // an incident goes on: it mutes rules about the same village
)

func say(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// Package maintenance keeps the times of announced work: while one covers a site,
// its silence means nothing, and nobody is mailed about it.
//
// It guarantees that a window which Add has returned is on stable storage, that
// windows are never changed but ended, and that who announced it, and why, is
// always written down. It refuses what is unbounded: a window has an end, and a
// scope that the inventory knows.
package maintenance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/pantau-desa/pantau/collector/durable"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Bounds of a window.
const (
	MaxLength  = 31 * 24 * time.Hour
	maxText    = 200 // runes of an author or a reason
	maxWindows = 2000
	// remember is for how long a window that is over is listed.
	remember = 400 * 24 * time.Hour
)

// Window is one time of announced work.
type Window struct {
	ID int `json:"id"`
	// Scope is a code of a region, a site's id, or a node's: all below it.
	Scope  string    `json:"scope"`
	From   time.Time `json:"from"`
	To     time.Time `json:"to"` // exclusive; earlier than announced if it was ended
	Author string    `json:"author"`
	Reason string    `json:"reason"`
}

// Active reports whether the window covers an instant.
func (w Window) Active(at time.Time) bool { return !at.Before(w.From) && at.Before(w.To) }

// covers reports whether a site lies within the window's scope.
func (w Window) covers(s inventory.Site, path []inventory.Node) bool {
	if string(s.ID) == w.Scope || s.Village == w.Scope || strings.HasPrefix(s.Village, w.Scope+".") {
		return true
	}
	return slices.ContainsFunc(path, func(n inventory.Node) bool { return string(n.ID) == w.Scope })
}

// Errors of a calendar, to be told apart with errors.Is.
var (
	// ErrInvalid: what was asked for cannot be; the text says why.
	ErrInvalid = errors.New("maintenance")
	// ErrNotFound: there is no such window, or it is over.
	ErrNotFound = errors.New("maintenance: no such window, or it is over")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Calendar is all windows. It is safe for concurrent use.
type Calendar struct {
	path string

	mu      sync.Mutex
	last    int
	windows []Window // by id
}

// file is what stands on disk.
type file struct {
	Last    int      `json:"last_id"`
	Windows []Window `json:"windows"`
}

// Open reads the calendar. A file that cannot be read is an error: an empty
// calendar would page people about work that was announced.
func Open(path string) (*Calendar, error) {
	c := &Calendar{path: path}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	var f file
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	if err != nil {
		return nil, fmt.Errorf("maintenance: %s: %w: mend it, or move it away to begin without windows", path, err)
	}
	c.last, c.windows = f.Last, f.Windows
	return c, nil
}

// Add announces work. The id is given; a From before now is taken for now.
func (c *Calendar) Add(w Window, inv *inventory.Inventory, now time.Time) (Window, error) {
	w.Author, w.Reason = strings.TrimSpace(w.Author), strings.TrimSpace(w.Reason)
	if w.From.Before(now) {
		w.From = now
	}
	w.From, w.To = w.From.UTC().Truncate(time.Second), w.To.UTC().Truncate(time.Second)
	switch {
	case !known(inv, w.Scope, w.From):
		return Window{}, invalid("the inventory knows no region, site or node %q at that time", w.Scope)
	case !w.To.After(w.From):
		return Window{}, invalid("it ends (%s) before it begins (%s)", w.To.Format(time.RFC3339), w.From.Format(time.RFC3339))
	case w.To.Sub(w.From) > MaxLength:
		return Window{}, invalid("it is longer than %.0f days: end the plan or the placement in the inventory instead", MaxLength.Hours()/24)
	case !plain(w.Author) || !plain(w.Reason):
		return Window{}, invalid("author and reason are needed, on one line of at most %d letters", maxText)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(c.windows), func(x Window) bool { return now.Sub(x.To) > remember })
	if len(next) >= maxWindows {
		return Window{}, invalid("%d windows are kept already", len(next))
	}
	w.ID = c.last + 1
	return w, c.keep(w.ID, append(next, w))
}

// End ends a window now; one that has not begun never will.
func (c *Calendar) End(id int, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.windows, func(w Window) bool { return w.ID == id && w.To.After(now) })
	if i < 0 {
		return ErrNotFound
	}
	next := slices.Clone(c.windows)
	if next[i].To = now.UTC().Truncate(time.Second); next[i].To.Before(next[i].From) {
		next[i].To = next[i].From
	}
	return c.keep(c.last, next)
}

// keep replaces the file, then what is in memory. The caller holds mu.
func (c *Calendar) keep(last int, windows []Window) error {
	raw, err := json.MarshalIndent(file{last, windows}, "", " ")
	if err != nil {
		return err
	}
	if err := durable.Replace(c.path, raw); err != nil {
		return fmt.Errorf("maintenance: cannot be kept: %w", err)
	}
	c.last, c.windows = last, windows
	return nil
}

// List returns the windows that are not over at an instant, by their beginning.
func (c *Calendar) List(at time.Time) []Window {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(c.windows), func(w Window) bool { return !w.To.After(at) })
	slices.SortStableFunc(out, func(a, b Window) int { return a.From.Compare(b.From) })
	return out
}

// Covered returns which sites are under maintenance at an instant.
func (c *Calendar) Covered(inv *inventory.Inventory, at time.Time) func(inventory.Site) bool {
	active := slices.DeleteFunc(c.List(at), func(w Window) bool { return !w.Active(at) })
	return func(s inventory.Site) bool {
		if len(active) == 0 {
			return false
		}
		path := inv.Path(s.ODP, at)
		return slices.ContainsFunc(active, func(w Window) bool { return w.covers(s, path) })
	}
}

// known reports whether the inventory has such a region, site or node.
func known(inv *inventory.Inventory, scope string, at time.Time) bool {
	if scope == "" {
		return false
	}
	if _, ok := inv.Site(measure.SiteID(scope), at); ok {
		return true
	}
	if _, ok := inv.Node(inventory.NodeID(scope), at); ok {
		return true
	}
	if _, ok := inv.VillageAt(scope, at); ok {
		return true
	}
	for _, find := range []func(string) (inventory.Region, bool){inv.District, inv.Regency, inv.Province} {
		if _, ok := find(scope); ok {
			return true
		}
	}
	return false
}

func plain(s string) bool {
	return s != "" && len([]rune(s)) <= maxText && !strings.ContainsFunc(s, unicode.IsControl)
}

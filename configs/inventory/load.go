package inventory

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
)

// The files of an inventory. All but contacts.csv must be there; one may hold its
// header alone.
const (
	fileRegions  = "regions.csv"
	fileISPs     = "isps.csv"
	fileNodes    = "nodes.csv"
	fileTargets  = "targets.csv"
	fileSites    = "sites.csv"
	filePlans    = "plans.csv"
	fileProbes   = "probes.csv"
	fileContacts = "contacts.csv"
)

// fileNames lists the files in the order in which they build on each other.
func fileNames() []string {
	return []string{fileRegions, fileISPs, fileNodes, fileTargets, fileSites, filePlans, fileProbes, fileContacts}
}

// Load reads an inventory from the CSV files of a directory; files of other
// kinds are ignored. The error is [Problems] if the content is wrong.
func Load(dir string) (*Inventory, error) {
	listing, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("inventory: %w", err)
	}
	files := make(map[string]string)
	for _, f := range listing {
		name := f.Name()
		if f.IsDir() || !strings.EqualFold(filepath.Ext(name), ".csv") || strings.HasPrefix(name, ".") {
			continue
		}
		if !slices.Contains(fileNames(), name) {
			files[name] = "" // named as unknown below, not read
			continue
		}
		if files[name], err = readFile(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("inventory: %w", err)
		}
	}
	return parse(files)
}

// readFile reads one byte more than is allowed at most, so that excess shows.
func readFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() { // before it is opened: a pipe would wait for ever
		return "", fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var text strings.Builder
	text.Grow(int(min(info.Size(), maxFileBytes) + 1))
	_, err = io.Copy(&text, io.LimitReader(f, maxFileBytes+1))
	return text.String(), err
}

// Parse reads an inventory from files by name, such as "sites.csv". The error
// is [Problems] if the content is wrong.
func Parse(files map[string][]byte) (*Inventory, error) {
	texts := make(map[string]string, len(files))
	for name, b := range files {
		texts[name] = string(b)
	}
	return parse(texts)
}

func parse(files map[string]string) (*Inventory, error) {
	b := &builder{
		files:   files,
		holes:   make(map[string]bool),
		damaged: make(map[string]map[string]bool),
		inv:     &Inventory{files: files, digest: digest(files)},
	}
	for name := range files {
		if !slices.Contains(fileNames(), name) {
			b.problems.add(name, 0, "this file is not known",
				fmt.Sprintf("Did you mean %s? Otherwise move it to another folder", meant(strings.ToLower(name), fileNames())))
		}
	}
	b.read()
	if problems := b.problems.sorted(); len(problems) > 0 {
		return nil, problems
	}
	b.finish()
	return b.inv, nil
}

func digest(files map[string]string) (sum [32]byte) {
	h := sha256.New()
	io.WriteString(h, "pantau-inventory-v1\x00")
	for _, name := range fileNames() {
		if _, there := files[name]; !there {
			continue
		}
		io.WriteString(h, name+"\x00")
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(files[name]))))
		io.WriteString(h, files[name])
	}
	return [32]byte(h.Sum(nil))
}

// finish resolves zones and builds the look-ups of an inventory without
// problems.
func (b *builder) finish() {
	inv := b.inv
	inv.regions.setZones(func(e *entry[string, string]) *time.Location { return zoneOf(e.key) })
	inv.isps.setZones(func(*entry[ISPID, ISP]) *time.Location { return wib })
	inv.nodes.setZones(func(e *entry[NodeID, nodeRow]) *time.Location { return b.nodeZone(e.key) })
	inv.targets.setZones(func(e *entry[measure.TargetID, Target]) *time.Location {
		if e.value.Node != "" {
			return b.nodeZone(e.value.Node)
		}
		return cmp.Or(zoneOf(e.value.Region), wib)
	})
	inv.sites.setZones(func(e *entry[measure.SiteID, siteRow]) *time.Location { return zoneOf(e.value.village) })
	inv.plans.setZones(func(e *entry[measure.SiteID, Plan]) *time.Location { return b.siteZone(e.key) })
	inv.contacts.setZones(func(e *entry[contactKey, Contact]) *time.Location { return cmp.Or(zoneOf(e.value.Region), wib) })
	inv.probes.setZones(func(e *entry[measure.ProbeID, Placement]) *time.Location { return b.siteZone(e.value.Site) })

	inv.village = make(map[string]int32)
	for i := range inv.regions.entries {
		e := &inv.regions.entries[i]
		if level(len(e.key)) != village {
			continue
		}
		v := inv.villageOf(e, func(code string) string {
			es := inv.regions.of(code)
			return es[len(es)-1].value
		})
		if at, again := inv.village[e.key]; again {
			inv.villages[at] = v
			continue
		}
		inv.village[e.key] = int32(len(inv.villages))
		inv.villages = append(inv.villages, v)
	}

	inv.sitesOf = group(&inv.sites, func(row *siteRow) string { return row.village })
	inv.probesOf = group(&inv.probes, func(p *Placement) measure.SiteID { return p.Site })
	inv.targetsOf = group(&inv.targets, func(t *Target) NodeID { return t.Node })

	inv.boundaries = boundaries(inv)
}

// group lists the keys of a timeline by what by says of their entries, each
// once, in order.
func group[K cmp.Ordered, V any, G comparable](t *timeline[K, V], by func(*V) G) map[G][]K {
	out := make(map[G][]K)
	for i := range t.entries {
		e := &t.entries[i]
		g := by(&e.value)
		if ks := out[g]; len(ks) == 0 || ks[len(ks)-1] != e.key {
			out[g] = append(ks, e.key)
		}
	}
	return out
}

func boundaries(inv *Inventory) []time.Time {
	seen := make(map[int64]bool)
	note := func(v Validity) {
		seen[v.From.Unix()] = true
		if !v.To.IsZero() {
			seen[v.To.Unix()] = true
		}
	}
	each(&inv.regions, note)
	each(&inv.isps, note)
	each(&inv.nodes, note)
	each(&inv.targets, note)
	each(&inv.sites, note)
	each(&inv.plans, note)
	each(&inv.probes, note)
	each(&inv.contacts, note)
	out := make([]time.Time, 0, len(seen))
	for s := range seen {
		out = append(out, time.Unix(s, 0).UTC())
	}
	slices.SortFunc(out, time.Time.Compare)
	return out
}

func each[K cmp.Ordered, V any](t *timeline[K, V], f func(Validity)) {
	for i := range t.entries {
		f(t.entries[i].valid)
	}
}

package portal

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/pantau-desa/pantau/configs/inventory"
)

// The addresses' parameters.
const (
	paramRegency  = "kab"
	paramDistrict = "kec"
	paramQuery    = "q"
	paramGroup    = "keadaan"
	paramSort     = "urut"
	paramPage     = "hal"
)

const (
	perPage   = 50
	longQuery = 80 // runes
)

// column is one that the list can be ordered by.
type column struct {
	Key, Word string
	Unit      string
	falling   bool // from the largest, when first chosen
	figure    bool // read from the series
}

func columns() []column {
	return []column{
		{Key: "keadaan", Word: "Keadaan"},
		{Key: "nama", Word: "Desa"},
		{Key: "kecamatan", Word: "Kecamatan"},
		{Key: "unduh", Word: "Unduh", Unit: "Mbps", figure: true},
		{Key: "unggah", Word: "Unggah", Unit: "Mbps", figure: true},
		{Key: "latensi", Word: "Latensi", figure: true, falling: true},
		{Key: "terlihat", Word: "Terlihat", falling: true},
	}
}

func columnOf(key string) (column, bool) {
	i := slices.IndexFunc(columns(), func(c column) bool { return c.Key == key })
	if i < 0 {
		return column{}, false
	}
	return columns()[i], true
}

// filter is what the address of the list asks for.
type filter struct {
	Regency, District string // codes; empty: all
	Query             string
	Group             string // key; empty: all
	Sort              string // key of a column
	Turned            bool   // against the column's first order
	Page              int    // from 1
}

// errChoice is an address that asks for what does not exist: to show something
// else instead would pass for the answer.
var errChoice = errors.New("portal: no such choice")

// readFilter reads an address. With one regency only, that one is meant.
func readFilter(v url.Values, regencies []inventory.Region) (filter, error) {
	f := filter{
		Regency:  v.Get(paramRegency),
		District: v.Get(paramDistrict),
		Query:    strings.Join(strings.Fields(v.Get(paramQuery)), " "),
		Group:    v.Get(paramGroup),
		Page:     1,
	}
	if f.Regency == "" && f.District != "" {
		f.Regency = inventory.RegencyCode(f.District)
	}
	if f.Regency == "" && len(regencies) == 1 {
		f.Regency = regencies[0].Code
	}
	if f.Regency != "" && !slices.ContainsFunc(regencies, func(r inventory.Region) bool { return r.Code == f.Regency }) {
		return filter{}, errChoice
	}
	if f.District != "" && (len(f.District) != len("33.10.15") || inventory.RegencyCode(f.District) != f.Regency) {
		return filter{}, errChoice
	}
	if f.Group != "" && !slices.ContainsFunc(groups(), func(g group) bool { return g.Key == f.Group }) {
		return filter{}, errChoice
	}
	if len([]rune(f.Query)) > longQuery {
		return filter{}, errChoice
	}
	key, turned := strings.CutPrefix(v.Get(paramSort), "-")
	f.Sort, f.Turned = cmp.Or(key, "keadaan"), turned
	// An order by figures reads those of every village in question: of one
	// regency, never of the whole country.
	if c, ok := columnOf(f.Sort); !ok || c.figure && f.Regency == "" {
		return filter{}, errChoice
	}
	if s := v.Get(paramPage); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return filter{}, errChoice
		}
		f.Page = n
	}
	return f, nil
}

// narrowed reports whether fewer villages are asked for than the region has.
func (f filter) narrowed() bool { return f.District != "" || f.Query != "" || f.Group != "" }

// href is the address of this list.
func (f filter) href() string {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	if f.District == "" || inventory.RegencyCode(f.District) != f.Regency {
		set(paramRegency, f.Regency)
	}
	set(paramDistrict, f.District)
	set(paramQuery, f.Query)
	set(paramGroup, f.Group)
	if f.Sort != "keadaan" || f.Turned {
		sign := ""
		if f.Turned {
			sign = "-"
		}
		set(paramSort, sign+f.Sort)
	}
	if f.Page > 1 {
		set(paramPage, strconv.Itoa(f.Page))
	}
	if len(v) == 0 {
		return "/"
	}
	return "/?" + v.Encode()
}

// with returns f, changed, on its first page.
func (f filter) with(change func(*filter)) filter {
	f.Page = 1
	change(&f)
	return f
}

// matches reports whether a village is asked for.
func (f filter) matches(p place) bool {
	if !strings.HasPrefix(p.Code, f.Regency) || !strings.HasPrefix(p.Code, f.District) {
		return false
	}
	if f.Group != "" && groups()[groupOf(p.State)].Key != f.Group {
		return false
	}
	q := strings.ToLower(f.Query)
	return strings.Contains(strings.ToLower(p.Name), q) || strings.HasPrefix(p.Code, q)
}

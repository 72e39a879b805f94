package portal

import "github.com/pantau-desa/pantau/collector/state"

// undecided is the state of a village that the collector has not spoken of yet.
const undecided state.State = 0

// look is how a state is shown: always a shape and a word, colour only helps.
type look struct {
	Word  string
	Class string // carries the colour
	Shape string // id of the drawing
	fill  string // class of an area in a chart; empty: hatched
	rank  int    // 0 is the worst
}

func lookOf(s state.State) look {
	switch s {
	case state.Down:
		return look{"Putus", "is-down", "s-down", "down", 0}
	case state.Degraded:
		return look{"Menurun", "is-degraded", "s-degraded", "degraded", 1}
	case state.ProbeFault:
		return look{"Alat bermasalah", "is-unknown", "s-fault", "", 3}
	case state.NeverSeen:
		return look{"Belum terpantau", "is-unknown", "s-never", "", 4}
	case state.NoCoverage:
		return look{"Tanpa jangkauan", "is-quiet", "s-none", "quiet", 5}
	case state.Maintenance:
		return look{"Pemeliharaan", "is-quiet", "s-maintenance", "quiet", 6}
	case state.Up:
		return look{"Normal", "is-up", "s-up", "up", 7}
	}
	return look{"Tidak diketahui", "is-unknown", "s-fault", "", 2}
}

// group is what people count together: the unknown states are one.
type group struct {
	Key, Word string // as in the address, as on the page
	Class     string
	Shape     string
	fill      string
	states    []state.State
}

func (g group) has(s state.State) bool {
	for _, x := range g.states {
		if x == s {
			return true
		}
	}
	return false
}

// Indices into groups.
const (
	groupDown = iota
	groupDegraded
	groupUnknown
	groupNoCoverage
	groupMaintenance
	groupUp
)

// groups lists the groups, worst first; every state is in exactly one.
func groups() []group {
	return []group{
		groupDown:        {"putus", "Putus", "is-down", "s-down", "down", []state.State{state.Down}},
		groupDegraded:    {"menurun", "Menurun", "is-degraded", "s-degraded", "degraded", []state.State{state.Degraded}},
		groupUnknown:     {"tidak-diketahui", "Tidak diketahui", "is-unknown", "s-fault", "", []state.State{undecided, state.ProbeFault, state.NeverSeen}},
		groupNoCoverage:  {"tanpa-jangkauan", "Tanpa jangkauan", "is-quiet", "s-none", "quiet", []state.State{state.NoCoverage}},
		groupMaintenance: {"pemeliharaan", "Pemeliharaan", "is-quiet", "s-maintenance", "quiet", []state.State{state.Maintenance}},
		groupUp:          {"normal", "Normal", "is-up", "s-up", "up", []state.State{state.Up}},
	}
}

func groupOf(s state.State) int {
	for i, g := range groups() {
		if g.has(s) {
			return i
		}
	}
	return groupUnknown
}

// current reports whether figures measured just now may be expected of a
// village in state s; otherwise what is shown was measured before.
func current(s state.State) bool {
	return s == state.Up || s == state.Degraded || s == state.Maintenance
}

package build

import (
	"strconv"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// Colours: one hex for both of Grafana's themes, each at least 3:1 on both. There
// is no green, which meets grey for the colour-blind, and red is for a cut line
// alone. A state never goes by its colour: shape and word stand beside it.
const (
	blue   = "#2584CC" // normal, and the first line of a chart
	amber  = "#CA8200"
	red    = "#CF2A45"
	grey   = "#8B93A0" // not known
	slate  = "#66707E" // not watched on purpose
	ink    = "text"    // the theme's own
	unseen = "transparent"
)

const (
	unknownWord = "? Tidak diketahui"
	noneYet     = "belum ada"
	notEnough   = "data belum cukup"
)

// state is how one code of pantau_village_state is shown.
type state struct {
	code        int
	name        string // in labels
	word, color string
}

// states are in the order of their codes.
func states() []state {
	return []state{
		{1, "up", "● Normal", blue}, {2, "degraded", "▲ Menurun", amber}, {3, "down", "◆ Putus", red}, {4, "probe_fault", "? Alat bermasalah", grey},
		{5, "never_seen", "? Belum terpantau", grey}, {6, "no_coverage", "○ Tanpa jangkauan", slate}, {7, "maintenance", "◎ Pemeliharaan", slate},
	}
}

// mapping is from a value to word and colour; without a colour the word alone.
type mapping struct{ value, word, color string }

// mappings shows each value as its word, and null and NaN as unknown.
func mappings(ms ...mapping) []dashboard.ValueMapping {
	values := dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: map[string]dashboard.ValueMappingResult{}}
	for i, m := range ms {
		r := dashboard.ValueMappingResult{Text: ptr(m.word), Index: ptr(int32(i))}
		if m.color != "" {
			r.Color = ptr(m.color)
		}
		values.Options[m.value] = r
	}
	out := []dashboard.ValueMapping{{ValueMap: &values}}
	return append(out, dashboard.ValueMapping{SpecialValueMap: &dashboard.SpecialValueMap{Type: dashboard.MappingTypeSpecialValue,
		Options: dashboard.DashboardSpecialValueMapOptions{Match: dashboard.SpecialValueMatchNullAndNan,
			Result: dashboard.ValueMappingResult{Text: ptr(unknownWord), Color: ptr(grey), Index: ptr(int32(len(ms)))}}}})
}

func stateMappings() []dashboard.ValueMapping {
	var ms []mapping
	for _, s := range states() {
		ms = append(ms, mapping{strconv.Itoa(s.code), s.word, s.color})
	}
	return mappings(ms...)
}

// unknownCode stands for a minute in which nothing is known, in a chart of
// answers: Grafana would draw the last answer on through a gap.
const unknownCode = "-1"

func answerMappings() []dashboard.ValueMapping {
	return mappings(mapping{"1", "● Menjawab", blue}, mapping{"0", "◆ Tidak menjawab", amber}, mapping{unknownCode, unknownWord, grey})
}

// thresholds colours values from each step on.
func thresholds(base string, steps ...step) *dashboard.ThresholdsConfig {
	t := &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: []dashboard.Threshold{{Color: base}}}
	for _, s := range steps {
		t.Steps = append(t.Steps, dashboard.Threshold{Value: ptr(s.from), Color: s.color})
	}
	return t
}

type step struct {
	from  float64
	color string
}

// againstPlan: below 80% of what the plan promises is degraded.
func againstPlan() *dashboard.ThresholdsConfig { return thresholds(amber, step{0.8, blue}) }

// alarming is quiet at zero and coloured from one on: for counts of what should
// not be.
func alarming(color string) *dashboard.ThresholdsConfig { return thresholds(ink, step{1, color}) }

// Units of Grafana.
const (
	unitSpeed   = "si:bps" // "38.2 Mbps"
	unitSeconds = "s"
	unitRatio   = "percentunit"
	unitAge     = "dthms" // 01:25:00, in any language
	unitBytes   = "bytes"
	unitQuota   = "decbytes" // GB, as quotas are sold
	unitCount   = "none"
)

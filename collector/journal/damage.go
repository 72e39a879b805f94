package journal

import (
	"cmp"
	"slices"
)

// Damage is a range of the journal that cannot be read: acknowledged records
// may have been there. It stays on the disk as it is.
type Damage struct {
	From  Position
	Bytes int64
	Cause DamageCause
}

// DamageCause says what is wrong with a damaged range.
type DamageCause string

// The causes.
const (
	Garbled DamageCause = "garbled" // the bytes are not what was written
	NoHead  DamageCause = "no_head" // both copies of a segment's header are lost
	Missing DamageCause = "missing" // the segment's file is not there
)

// maxDamages bounds the memory for ranges; bytes are counted beyond it.
const maxDamages = 65536

// Damaged returns what was found damaged since Open, in order: the last segment
// is examined by Open, the others when a reader passes.
func (j *Journal) Damaged() []Damage {
	j.damageMu.Lock()
	defer j.damageMu.Unlock()
	out := make([]Damage, 0, len(j.damages))
	for _, d := range j.damages {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Damage) int {
		return cmp.Or(cmp.Compare(a.From.Segment, b.From.Segment), cmp.Compare(a.From.Offset, b.From.Offset))
	})
	return out
}

// report notes a damaged range once, however many readers come upon it.
func (j *Journal) report(d Damage) {
	j.damageMu.Lock()
	old, known := j.damages[d.From]
	if known && old.Bytes >= d.Bytes {
		j.damageMu.Unlock()
		return
	}
	if known || len(j.damages) < maxDamages {
		j.damages[d.From] = d
	}
	j.damageMu.Unlock()
	j.metrics.damaged.Add(float64(d.Bytes - old.Bytes))
	j.log.Error("journal is damaged; the range is skipped and kept on disk",
		"from", d.From.String(), "bytes", d.Bytes, "cause", string(d.Cause), "dir", j.opt.Dir)
}

package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// Position is a place in the journal: a byte offset in a numbered segment file.
// Positions of one journal are ordered; the zero Position is its beginning.
type Position struct {
	Segment uint64
	Offset  int64
}

// Before reports whether p lies before q.
func (p Position) Before(q Position) bool {
	return p.Segment < q.Segment || p.Segment == q.Segment && p.Offset < q.Offset
}

// String is "segment:offset", both decimal.
func (p Position) String() string {
	return strconv.FormatUint(p.Segment, 10) + ":" + strconv.FormatInt(p.Offset, 10)
}

// MarshalText is [Position.String].
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote, and nothing else.
func (p *Position) UnmarshalText(text []byte) error {
	seg, off, _ := strings.Cut(string(text), ":")
	n, err1 := strconv.ParseUint(seg, 10, 64)
	o, err2 := strconv.ParseInt(off, 10, 64)
	q := Position{Segment: n, Offset: o}
	if err1 != nil || err2 != nil || o < 0 || q.String() != string(text) {
		return fmt.Errorf("journal: %q is no position: want segment:offset, such as 12:8192", text)
	}
	*p = q
	return nil
}

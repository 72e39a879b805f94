// Package state holds what is known now of every site and village of the
// inventory: an explicit state each minute and on change, silent and never-seen
// ones included. It decides from heartbeats and fresh reach results, never from
// late ones, and blames nobody for a stall of the collector itself.
package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pantau-desa/pantau/probe/measure"
)

// State is what is known now of a site or a village. The numbers are those of
// the series pantau_village_state.
type State uint8

// The states.
const (
	Up          State = 1
	Degraded    State = 2
	Down        State = 3
	ProbeFault  State = 4
	NeverSeen   State = 5
	NoCoverage  State = 6
	Maintenance State = 7
)

var names = [...]string{Up: "up", Degraded: "degraded", Down: "down", ProbeFault: "probe_fault",
	NeverSeen: "never_seen", NoCoverage: "no_coverage", Maintenance: "maintenance"}

// States lists all states by their number.
func States() []State {
	return []State{Up, Degraded, Down, ProbeFault, NeverSeen, NoCoverage, Maintenance}
}

// String is the state's name, as the contract spells it.
func (s State) String() string {
	if int(s) < len(names) && names[s] != "" {
		return names[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// Valid reports whether s is one of the states.
func (s State) Valid() bool { return s >= Up && s <= Maintenance }

// OfVillage is the state of a village from those of its sites: the one that all
// watched sites share, degraded where they differ. Sites that were never seen or
// have no coverage do not speak for a village that has others.
func OfVillage(sites []State) State {
	var watched State
	verdict := NoCoverage
	for _, s := range sites {
		switch {
		case s == NoCoverage:
		case s == NeverSeen:
			if watched == 0 {
				verdict = NeverSeen
			}
		case watched == 0:
			watched, verdict = s, s
		case s != watched:
			verdict = Degraded
		}
	}
	return verdict
}

// SiteState is one site's line in a snapshot.
type SiteState struct {
	Site  measure.SiteID
	State State
	Since time.Time // by the collector's clock; zero: not known
	// LastBeat is when the last heartbeat of the site's probes arrived; zero: never.
	LastBeat time.Time
}

// Snapshot is the state of every site of the inventory at one instant, as the
// collector knew it then. It is written to the journal each minute and on every
// change, so that the state series can be rebuilt.
type Snapshot struct {
	At    time.Time
	Sites []SiteState
}

// ErrSnapshot is wrapped by every error of [Snapshot.UnmarshalBinary].
var ErrSnapshot = errors.New("state: unreadable snapshot")

const snapshotVersion = 1

// maxSnapshot bounds the memory of decoding one: 100,000 sites need about 4 MB.
const maxSnapshot = 64 << 20

// MarshalBinary returns the compressed snapshot: sites sorted by id.
//
// Layout before zstd: version u8, at i64 ns, count uvarint, then per site: id
// length uvarint, id, state u8, since varint ns, last beat varint ns (both
// before At; -1: not known).
func (s Snapshot) MarshalBinary() ([]byte, error) {
	sites := slices.Clone(s.Sites)
	slices.SortFunc(sites, func(a, b SiteState) int { return strings.Compare(string(a.Site), string(b.Site)) })
	b := []byte{snapshotVersion}
	b = binary.BigEndian.AppendUint64(b, uint64(s.At.UnixNano()))
	b = binary.AppendUvarint(b, uint64(len(sites)))
	for _, x := range sites {
		if !x.State.Valid() {
			return nil, fmt.Errorf("state: site %s has %v", x.Site, x.State)
		}
		b = binary.AppendUvarint(b, uint64(len(x.Site)))
		b = append(b, x.Site...)
		b = append(b, byte(x.State))
		b = binary.AppendVarint(b, s.before(x.Since))
		b = binary.AppendVarint(b, s.before(x.LastBeat))
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(b, nil), nil
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (s *Snapshot) UnmarshalBinary(data []byte) error {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSnapshot))
	if err != nil {
		return err
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(data, nil)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrSnapshot, err)
	}
	if len(raw) < 9 || raw[0] != snapshotVersion {
		return fmt.Errorf("%w: not of version %d", ErrSnapshot, snapshotVersion)
	}
	out := Snapshot{At: time.Unix(0, int64(binary.BigEndian.Uint64(raw[1:9]))).UTC()}
	r := bytes.NewReader(raw[9:])
	n, err := binary.ReadUvarint(r)
	if err != nil || n > uint64(r.Len()) {
		return fmt.Errorf("%w: count", ErrSnapshot)
	}
	out.Sites = make([]SiteState, 0, n)
	for range n {
		l, err := binary.ReadUvarint(r)
		if err != nil || l > uint64(r.Len()) {
			return fmt.Errorf("%w: site id", ErrSnapshot)
		}
		id := make([]byte, l)
		_, _ = r.Read(id)
		st, err1 := r.ReadByte()
		since, err2 := binary.ReadVarint(r)
		beat, err3 := binary.ReadVarint(r)
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("%w: site %q: %v", ErrSnapshot, id, err)
		}
		if !State(st).Valid() {
			return fmt.Errorf("%w: site %q has state %d", ErrSnapshot, id, st)
		}
		out.Sites = append(out.Sites, SiteState{Site: measure.SiteID(id), State: State(st), Since: out.after(since), LastBeat: out.after(beat)})
	}
	*s = out
	return nil
}

func (s Snapshot) before(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return max(int64(s.At.Sub(t)), 0)
}

func (s Snapshot) after(ns int64) time.Time {
	if ns < 0 {
		return time.Time{}
	}
	return s.At.Add(-time.Duration(ns)).UTC()
}

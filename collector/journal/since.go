package journal

import (
	"errors"
	"io"
	"slices"
	"time"
)

// Since returns a position before which every record was received earlier than
// an instant: the beginning of the newest segment whose first record is that old,
// or of the journal. Records of earlier instants may follow it.
func (j *Journal) Since(at time.Time) (Position, error) {
	j.mu.Lock()
	segments := slices.Clone(j.segments)
	j.mu.Unlock()
	for _, s := range slices.Backward(segments) {
		from := Position{Segment: s.number, Offset: dataStart}
		r := j.NewReader(from)
		rec, pos, err := r.TryNext()
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, ErrPosition):
			continue // nothing in it yet
		case err != nil:
			return Position{}, err
		case pos.Segment == s.number && rec.ReceivedAt.Before(at):
			return from, nil
		}
	}
	return Position{}, nil
}

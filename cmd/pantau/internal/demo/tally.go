package demo

import (
	"fmt"
	"slices"
	"time"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/post"
	"github.com/pantau-desa/pantau/collector/incident"
)

// count is what one office was sent about the cut.
type count struct {
	Firing   int `json:"firing"` // that it is, widens, or is unstable
	Recovery int `json:"recovery"`
	Late     int `json:"late"`
}

// tally is what the offices were sent about the cut's incident; about two, if it
// was wrongly made into two.
type tally struct {
	incidents                  []string
	byOffice                   map[string]count
	firing, recovery           []post.Letter
	firstFiring, firstRecovery time.Time
	late                       int // to all offices together
	cause                      incident.Cause
}

// tallyOf counts the letters of these incidents for these offices. Late is every
// letter that comes after the repair and is no recovery, or after an office was
// told of the recovery. restored is zero while the line is cut.
func tallyOf(letters []post.Letter, incidents, offices []string, restored time.Time) tally {
	t := tally{incidents: incidents, byOffice: map[string]count{}}
	for _, o := range offices {
		t.byOffice[o] = count{}
	}
	for _, l := range letters {
		if !slices.Contains(incidents, l.Incident) || l.News == post.Other {
			continue
		}
		c := t.byOffice[l.Recipient]
		late := c.Recovery > 0
		if l.News == post.Recovered {
			c.Recovery++
			t.recovery = append(t.recovery, l)
			t.firstRecovery = first(t.firstRecovery, l.At)
		} else {
			c.Firing++
			t.firing = append(t.firing, l)
			t.firstFiring = first(t.firstFiring, l.At)
			late = late || !restored.IsZero() && l.At.After(restored)
		}
		if late {
			c.Late++
			t.late++
		}
		t.byOffice[l.Recipient] = c
	}
	return t
}

func first(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// without are the offices for which there is none yet.
func (t tally) without(of func(count) int) (out []string) {
	for office, c := range t.byOffice {
		if of(c) == 0 {
			out = append(out, office)
		}
	}
	slices.Sort(out)
	return out
}

// most is the number for the office with the most.
func (t tally) most(of func(count) int) (n int) {
	for _, c := range t.byOffice {
		n = max(n, of(c))
	}
	return n
}

// namesExactly checks that each first letter names all of these, each in both
// twins, and none of the others in either.
func (t tally) namesExactly(these, others []string) error {
	for _, l := range t.firing {
		for _, name := range these {
			if named, half := l.Names(name); !named || half {
				return fmt.Errorf("the mail %q to %s does not name %s in both of its twins", l.Subject, l.Recipient, name)
			}
		}
		for _, name := range others {
			if named, half := l.Names(name); named || half {
				return fmt.Errorf("the mail %q to %s names %s, which is not cut off", l.Subject, l.Recipient, name)
			}
		}
	}
	return nil
}

// saysHowLongAndWhy checks the letters of recovery: their duration, that they have
// a word on the cause, and that they belong to the thread of the first letter.
func (t tally) saysHowLongAndWhy(truth time.Duration) error {
	for _, l := range t.recovery {
		said, ok := l.Lasted()
		switch {
		case !ok:
			return fmt.Errorf("the mail %q to %s does not say how long it was", l.Subject, l.Recipient)
		case (said - truth).Abs() > durationSlack:
			return fmt.Errorf("the mail %q to %s says %v; it was %v", l.Subject, l.Recipient, said, truth.Round(time.Second))
		case l.Cause() == "":
			return fmt.Errorf("the mail %q to %s has no word on the cause", l.Subject, l.Recipient)
		case !slices.ContainsFunc(t.firing, func(f post.Letter) bool {
			return f.Recipient == l.Recipient && slices.Contains(l.References, f.MessageID)
		}):
			return fmt.Errorf("the mail %q to %s is not in the thread of the first", l.Subject, l.Recipient)
		}
	}
	return nil
}

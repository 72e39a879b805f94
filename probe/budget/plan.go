package budget

import (
	"fmt"
	"time"
)

// Zone is where months begin: UTC+7, Jakarta's time, in which the providers' packages
// and the audit's months are counted; one and the same for all of a country's probes,
// so that a site's figures can be added up. A site in WIT has its new month two hours
// into its own.
var zone = time.FixedZone("UTC+7", 7*60*60)

// Month is a calendar month in UTC+7, counted from the year 0. 0: none.
type Month int

// MonthOf is the month that at lies in.
func MonthOf(at time.Time) Month {
	at = at.In(zone)
	return Month(at.Year()*12 + int(at.Month()) - 1)
}

// Bounds are the month's first instant and the next month's.
func (m Month) Bounds() (from, to time.Time) {
	return time.Date(int(m)/12, time.Month(int(m)%12+1), 1, 0, 0, 0, 0, zone),
		time.Date(int(m)/12, time.Month(int(m)%12+2), 1, 0, 0, 0, 0, zone)
}

// Rest is how much of the month is left at an instant: all of it if the instant
// lies outside, because then nobody knows.
func (m Month) Rest(at time.Time) time.Duration {
	from, to := m.Bounds()
	if at.Before(from) || !at.Before(to) {
		return to.Sub(from)
	}
	return to.Sub(at)
}

// Length of the month.
func (m Month) Length() time.Duration {
	from, to := m.Bounds()
	return to.Sub(from)
}

func (m Month) String() string { return fmt.Sprintf("%04d-%02d", int(m)/12, int(m)%12+1) }

// MarshalText implements encoding.TextMarshaler.
func (m Month) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler. It takes what String writes,
// nothing else.
func (m *Month) UnmarshalText(b []byte) error {
	t, err := time.Parse("2006-01", string(b))
	if err != nil {
		return fmt.Errorf("budget: %q is no month", b)
	}
	*m = Month(t.Year()*12 + int(t.Month()) - 1)
	return nil
}

// Sizes in bytes of layer 2, both directions of the line together.
const (
	// firstCost is what a test is thought to cost before one was made: both
	// directions at some 40 Mbit/s, ended early.
	firstCost = 32e6
	// A test may take so many times what one usually takes, because the line may have
	// become faster, and so much in any case; the first may take so much, or an eighth
	// of the month's budget. A kill in the middle of a test costs the month all of it.
	head      = 4
	leastMost = 64e6
	firstMost = 512e6
	// Where the month has so much that one part in plenty of what it can spare is more
	// than that, a test may take this part, up to what no test takes: 400 MB each way,
	// where the engine ends, and what a very fast line carries until it notices.
	plenty = 256
	ample  = 4e9
	// fullCost is how many times an early-ended test one of full length costs: the
	// early end saves three quarters of the bytes.
	fullCost = 4
	// fullEvery is how often one comes.
	fullEvery = 7 * 24 * time.Hour
	// firstLight is what the light instruments, the pushes and the signs of life are
	// thought to cost before it was measured, in bytes per second: twice what three
	// targets cost, for pages and resolvers.
	firstLight = 130
)

// outlook is what a plan is made from.
type outlook struct {
	budget uint64        // bytes of the whole month; 0: no budget
	spent  uint64        // of it
	rest   time.Duration // of the month
	light  float64       // bytes per second that go on whatever happens
	cost   float64       // bytes of an ordinary test
	known  bool          // cost was measured
}

// spare is what the rest of the month may spend on tests, in bytes, after the light
// instruments; below 0 if even they exceed the budget.
func (o outlook) spare() float64 {
	return float64(o.budget) - float64(o.spent) - o.light*o.rest.Seconds()
}

// mean is the mean time between two tests: configured, or longer if the rest of the
// month does not carry so many. What the weekly test of full length costs more is
// set aside first, if there is enough for it. A month that cannot pay for one test
// goes on as configured: each planned test is then skipped and says so.
func (o outlook) mean(configured time.Duration) time.Duration {
	if o.budget == 0 {
		return configured
	}
	spare := o.spare()
	if more, ok := o.fulls(); ok {
		spare -= more
	}
	n := spare / o.cost
	if n < 1 {
		return configured
	}
	return max(configured, time.Duration(float64(o.rest)/n))
}

// fulls is what the weekly tests of full length cost more than others in the rest of
// the month, in bytes, and whether there are any: they are not where they would take
// half of what can be spared.
func (o outlook) fulls() (more float64, ok bool) {
	more = (fullCost - 1) * o.cost * float64(o.rest) / float64(fullEvery)
	return more, o.budget == 0 || more < o.spare()/2
}

// most is how many bytes one test may take, and whether the rest of the month can
// pay for one.
func (o outlook) most(full bool) (bytes uint64, ok bool) {
	cost, most := o.cost, max(head*o.cost, leastMost)
	if !o.known {
		most = firstMost
		if o.budget > 0 {
			most = max(min(most, float64(o.budget)/8), leastMost)
		}
	}
	if o.budget == 0 {
		most = ample
	}
	most = max(most, min(o.spare()/plenty, ample))
	if full {
		cost, most = fullCost*cost, fullCost*most
	}
	if o.budget > 0 {
		most = min(most, o.spare())
	}
	_, fulls := o.fulls()
	return uint64(max(most, 0)), most >= cost && (!full || fulls)
}

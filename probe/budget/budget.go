// Package budget keeps what a probe may move in a month, of a quota that is the
// village's: every byte that it sends or receives counts, tests, pushes, signs of
// life, look-ups and echoes alike.
//
// It guarantees that what is set down on disk for a month is never less than what
// was spent in it, whenever the program is killed: bytes are charged before they
// move (a test's most before it begins, for all else the coming ten minutes and 256
// KiB at least), and what was charged and not spent is given back once that is
// known. A kill therefore costs the month what was charged and loses nothing; only
// a burst of pushes larger than what was charged ahead may, for the two seconds until
// it is noticed. And it guarantees that no test begins that the rest of the month
// cannot pay for, nor one that cannot be set down.
//
// It does not stop the light instruments, not even when they alone exceed the
// budget: a village that is cut off must be seen. That it happened shows in the
// figures.
//
// It does not know what other devices of the village use, nor what the ledger does
// not see.
package budget

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// Options of an Account. All are required.
type Options struct {
	// File is where the account is kept.
	File string
	// Own is what the probe has received and sent since its start, in bytes of layer
	// 2. Neither falls.
	Own func() (rx, tx uint64)
	// Now is the best knowledge of the present, and whether anything vouches for it.
	// While nothing does the month does not turn.
	Now    func() (at time.Time, vouched bool)
	Logger *slog.Logger
}

// Account is safe for concurrent use. Make it with Open.
type Account struct {
	opt Options

	mu     sync.Mutex // guards what follows
	state  state
	budget uint64 // bytes a month; 0: none
	base   uint64 // spent in the month when the probe had moved
	mark   uint64 // so many bytes
	seen   uint64 // had moved at the last look
	looked time.Time
	open   *Grant // the test that runs
	broken error  // of the last write
}

// Times and sizes of keeping up.
const (
	every      = 2 * time.Second // looks at what has moved
	ahead      = 10 * time.Minute
	leastAhead = 256 << 10      // bytes
	smoothing  = 12 * time.Hour // time constant of the average rate of all that is no test: what a cut held up must not weigh
)

// Open reads the account. One that is missing or damaged is begun anew: the part of
// the month that has passed is then taken as spent evenly, as soon as budget and
// month are known, so that a box without a memory does not spend a month twice.
func Open(o Options) *Account {
	a := &Account{opt: o}
	var err error
	a.state, err = load(o.File)
	switch {
	case err == nil:
		a.base = a.state.Months[0].Bytes
	case errors.Is(err, errMissing):
		o.Logger.Info("no account of the month yet: what has passed of it counts as spent evenly", "file", o.File)
	default:
		bad := o.File + ".bad"
		o.Logger.Warn("the account of the month is unreadable: set aside, what has passed of the month counts as spent evenly",
			"file", bad, "err", errors.Join(err, os.Rename(o.File, bad)))
		a.state = state{}
	}
	if a.state.Light == 0 {
		a.state.Light = firstLight
	}
	a.mark = a.own()
	a.seen, a.looked = a.mark, time.Now()
	return a
}

// Seen is a time that has certainly passed; zero: none is known.
func (a *Account) Seen() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.At
}

// Run keeps what is charged ahead of what is spent until ctx ends. Call Keep before
// anything is sent, and Close after everything was.
func (a *Account) Run(ctx context.Context) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			a.Keep()
		}
	}
}

// Keep charges what comes next, if what was charged runs low.
func (a *Account) Keep() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn()
	chunk := max(a.look(), a.chunk())
	if need := a.need(chunk); a.charged() < need-chunk/2 {
		_ = a.write(need) // logged; it is tried again with the next look
	}
}

// Close gives back what was charged and not spent.
func (a *Account) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn()
	return a.write(a.need(0))
}

// SetBudget says what the month may cost, in bytes. 0: there is no budget. What was
// spent stays spent.
func (a *Account) SetBudget(bytes uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.budget = min(bytes, maxBytes)
	a.assume()
}

// Mean is the mean time between two tests: configured, or longer if the rest of the
// month does not carry so many.
func (a *Account) Mean(configured time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn()
	return a.outlook().mean(configured)
}

// SinceTest is how long ago the last test began, and whether one is known.
func (a *Account) SinceTest() (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, _ := a.opt.Now()
	return at.Sub(a.state.Test), !a.state.Test.IsZero()
}

// LastFull is when the last test of full length began; before any, when the account
// did.
func (a *Account) LastFull() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.Full
}

// View is the account as it stands, in bytes.
type View struct {
	Month    Month
	Budget   uint64 // 0: none
	Spent    uint64 // of the month; may exceed the budget, by the light instruments alone
	Reserved uint64 // charged beyond that
	Test     uint64 // what a test is expected to cost
	Light    float64
}

// View returns the account as it stands.
func (a *Account) View() View {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.turn()
	o, spent := a.outlook(), a.spent()
	return View{Month: a.state.Months[0].Month, Budget: a.budget, Spent: spent,
		Reserved: max(a.charged(), spent) - spent, Test: uint64(o.cost), Light: o.light}
}

// Grant is what one test may take. It must be ended.
type Grant struct {
	account *Account
	bytes   uint64
	from    uint64 // spent in the month when it began, or when the month turned
	full    bool
}

// ErrSpent is the cause of a context that ends because a grant is spent.
var ErrSpent = errors.New("the test has taken all that it may")

// Reserve charges the month with the most that a test may take, and has it on disk
// before it returns. The error says why there can be no test now.
func (a *Account) Reserve(full bool) (*Grant, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open != nil {
		return nil, errors.New("another test runs")
	}
	a.turn()
	o := a.outlook()
	most, ok := o.most(full)
	if !ok {
		return nil, fmt.Errorf("a test takes some %.1f MB; of the %.0f MB of %s %.1f MB are spent, and the rest of the month needs %.1f MB without tests",
			o.cost/1e6, float64(o.budget)/1e6, a.state.Months[0].Month, float64(o.spent)/1e6, o.light*o.rest.Seconds()/1e6)
	}
	a.look()
	before := a.state
	a.open = &Grant{account: a, bytes: most, from: a.spent(), full: full}
	a.state.Test, _ = a.opt.Now()
	if full {
		a.state.Full = a.state.Test
	}
	if err := a.write(a.need(a.chunk())); err != nil {
		a.open, a.state = nil, before
		return nil, fmt.Errorf("what a test may take cannot be set down on disk: %w", err)
	}
	return a.open, nil
}

// Left is how many bytes of the grant are left, of layer 2.
func (g *Grant) Left() uint64 {
	g.account.mu.Lock()
	defer g.account.mu.Unlock()
	return g.left()
}

func (g *Grant) left() uint64 {
	return g.bytes - min(g.account.spent()-min(g.from, g.account.spent()), g.bytes)
}

// A transfer of so many bytes of payload moves so many more of layer 2 (headers of
// 1,500-byte packets 4.6%, acknowledgements 2.3%, repetitions), and stops that much late.
const (
	overhead = 1.15
	late     = 256 << 10
)

// Payload is the most payload, in bytes, that part of what is left allows, at least 1.
func (g *Grant) Payload(part float64) int64 {
	return max(int64(part*float64(g.Left())/overhead)-late, 1)
}

// Context ends, with [ErrSpent] as its cause, once the grant is spent: a test that
// does not keep to its most is cut off. The caller calls stop.
func (g *Grant) Context(ctx context.Context) (limited context.Context, stop func()) {
	limited, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(every / 20)
		defer t.Stop()
		for {
			select {
			case <-limited.Done():
				return
			case <-t.C:
				if g.Left() == 0 {
					cancel(ErrSpent)
				}
			}
		}
	}()
	return limited, func() { cancel(context.Canceled); <-done }
}

// End settles the grant: bytes is what the test took. typical says that another
// like it will cost as much.
func (g *Grant) End(bytes uint64, typical bool) {
	a := g.account
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open != g {
		return
	}
	a.turn()
	a.look() // while it is open: its bytes are no burst
	a.open = nil
	if typical && bytes > 0 && !g.full {
		a.state.Costs = append(slices.Clone(a.state.Costs), bytes)
		a.state.Costs = a.state.Costs[max(len(a.state.Costs)-maxCosts, 0):]
	}
	_ = a.write(a.need(a.chunk())) // logged; what was charged for the test stays charged until it works
}

// What follows is called with mu held.

func (a *Account) own() uint64 {
	rx, tx := a.opt.Own()
	return rx + tx
}

func (a *Account) spent() uint64 { return a.base + a.own() - a.mark }

func (a *Account) charged() uint64 { return a.state.Months[0].Bytes }

// chunk is what is charged ahead for all that is no test.
func (a *Account) chunk() uint64 {
	return max(leastAhead, uint64(a.state.Light*ahead.Seconds()))
}

// need is what must be charged now, chunk ahead.
func (a *Account) need(chunk uint64) uint64 {
	n := a.spent()
	if a.open != nil {
		n = max(n, a.open.from+a.open.bytes)
	}
	return n + chunk
}

func (a *Account) outlook() outlook {
	at, _ := a.opt.Now()
	o := outlook{budget: a.budget, spent: a.spent(), rest: a.state.Months[0].Month.Rest(at), light: a.state.Light, cost: firstCost}
	if n := len(a.state.Costs); n > 0 {
		var sum float64
		for _, c := range a.state.Costs {
			sum += float64(c)
		}
		o.cost, o.known = sum/float64(n), true
	}
	return o
}

// look follows what is moved beside tests, and returns what more must be charged ahead
// if it is a burst, of which more may come.
func (a *Account) look() (burst uint64) {
	own, now := a.own(), time.Now()
	moved, elapsed := own-a.seen, now.Sub(a.looked)
	a.seen, a.looked = own, now
	if a.open != nil || elapsed <= 0 {
		return 0
	}
	rate := float64(moved) / elapsed.Seconds()
	a.state.Light = min(a.state.Light+(rate-a.state.Light)*-math.Expm1(-float64(elapsed)/float64(smoothing)), maxLight)
	return 4 * moved
}

// turn begins another month if the clock, vouched for, says so. A month that was left is come back to as it was left; one that was before
// all that are known is taken as spent like the one that is left.
func (a *Account) turn() {
	at, vouched := a.opt.Now()
	m := MonthOf(at)
	if len(a.state.Months) == 0 {
		a.state.Months, a.state.Fresh, a.state.Full = []charge{{Month: m}}, true, at
		a.assume()
		return
	}
	was := a.state.Months[0]
	if !vouched || m == was.Month {
		return
	}
	// A copy: what is on disk is not changed until it is written.
	months := slices.Clone(a.state.Months)
	months[0].Bytes = a.need(0)
	next := charge{Month: m}
	if i := slices.IndexFunc(months, func(c charge) bool { return c.Month == m }); i >= 0 {
		next = months[i]
		months = slices.Delete(months, i, i+1)
	} else if m < was.Month {
		next.Bytes = months[0].Bytes
	}
	a.opt.Logger.Info("another month begins", "month", next.Month, "charged_bytes", next.Bytes, "before", was.Month, "spent_bytes", a.spent(), "budget_bytes", a.budget)
	if g := a.open; g != nil { // what is left of it is the new month's
		g.bytes = g.left()
		g.from = next.Bytes
	}
	a.base, a.mark, a.state.Fresh = next.Bytes, a.own(), false
	months = slices.Insert(months, 0, next)
	a.state.Months = months[:min(len(months), maxMonths)]
}

// assume takes the unknown past of a fresh account's month as spent evenly.
func (a *Account) assume() {
	if !a.state.Fresh || a.budget == 0 || len(a.state.Months) == 0 {
		return
	}
	at, _ := a.opt.Now()
	m := a.state.Months[0].Month
	part := 1 - float64(m.Rest(at))/float64(m.Length())
	a.base += uint64(part * float64(a.budget))
	a.state.Fresh = false
}

// write sets down that bytes are charged to the month.
func (a *Account) write(bytes uint64) error {
	next := a.state
	next.Months = slices.Clone(a.state.Months)
	next.Months[0].Bytes = min(bytes, maxBytes)
	if at, vouched := a.opt.Now(); vouched {
		next.At = at
	}
	err := save(a.opt.File, next)
	if (err == nil) != (a.broken == nil) {
		if err != nil {
			a.opt.Logger.Error("the account of the month cannot be kept: no speed tests until it can", "err", err)
		} else {
			a.opt.Logger.Info("the account of the month is kept again")
		}
	}
	if a.broken = err; err == nil {
		a.state = next
	}
	return err
}

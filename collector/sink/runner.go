package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// Bounds of one group, which is written at once. A record may go beyond the
// second by what it holds itself.
const (
	groupRecords = 2000
	groupSamples = 100_000
	// keepSamples is the largest buffer that is kept for the next group.
	keepSamples = 1_000_000
)

const (
	defaultLinger = 200 * time.Millisecond
	saveInterval  = 5 * time.Second // between two looks at whether the cursor may move
	firstBackoff  = 100 * time.Millisecond
	lastBackoff   = 30 * time.Second
	// lastLater bounds what a store may ask for: a mistake of its own must not
	// stop the sink for a day.
	lastLater = 5 * time.Minute
	// While it fails, a sink says so again after these.
	remindFailing  = 15 * time.Minute
	remindOperator = time.Minute
)

// Options are what a Runner needs; all but Linger and Now are required.
type Options struct {
	Name    string // of the sink, as in metrics and logs
	Sink    Sink   // the runner closes it
	Journal *journal.Journal
	// Cursor is where the position is kept. It belongs beside the store's own
	// files: whoever removes the store removes the cursor with it.
	Cursor *journal.Cursor
	// Inventory returns the dated inventory of now; never nil.
	Inventory func() *inventory.Inventory
	Metrics   *Metrics
	Logger    *slog.Logger
	// Linger is how long a group waits for more records, by default 200 ms;
	// negative: not at all.
	Linger time.Duration
	Now    func() time.Time // default: time.Now
}

// Runner carries the journal to one sink.
type Runner struct {
	opt    Options
	log    *slog.Logger
	codec  *wire.Codec
	mapper *series.Mapper
	reader *journal.Reader

	// Of the goroutine in Run, then of Close.
	samples []series.Sample
	marks   []mark // oldest first, not yet settled but for the first
	saved   journal.Position
	looked  time.Time

	saveEvery time.Duration

	mu      sync.Mutex
	written journal.Position // where the first record begins that the sink does not have
	moved   chan struct{}    // closed when written changes
	fresh   time.Time        // see Fresh
}

// mark says that all before a position was stored at an instant.
type mark struct {
	at  time.Time
	pos journal.Position
}

// NewRunner loads the cursor. A cursor that cannot be read is an error: starting
// over is for a person to decide.
func NewRunner(opt Options) (*Runner, error) {
	if opt.Name == "" || opt.Sink == nil || opt.Journal == nil || opt.Cursor == nil || opt.Inventory == nil || opt.Metrics == nil {
		return nil, errors.New("sink: an option is missing")
	}
	if opt.Linger == 0 {
		opt.Linger = defaultLinger
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	from, err := opt.Cursor.Load()
	if err != nil {
		return nil, fmt.Errorf("sink %s: %w", opt.Name, err)
	}
	codec, err := wire.NewCodec()
	if err != nil {
		return nil, err
	}
	opt.Metrics.start(opt.Name)
	return &Runner{
		opt: opt, log: opt.Logger.With("sink", opt.Name), codec: codec, mapper: series.NewMapper(),
		reader: opt.Journal.NewReader(from), saved: from, written: from, moved: make(chan struct{}), saveEvery: saveInterval,
	}, nil
}

// Run carries records until ctx ends or the journal is closed, which is no
// error. A failing store or disk is waited for. It returns an error only for
// what no waiting mends: a cursor of another journal, or a journal of a newer
// version. It is called once; Close follows it.
func (r *Runner) Run(ctx context.Context) error {
	for backoff := firstBackoff; ctx.Err() == nil; {
		err := r.group(ctx)
		switch {
		case err == nil:
			backoff = firstBackoff
			continue
		case ctx.Err() != nil, errors.Is(err, journal.ErrClosed):
			return nil
		case !errors.Is(err, journal.ErrUnavailable):
			return fmt.Errorf("sink %s: %w", r.opt.Name, err)
		}
		r.log.Error("cannot read the journal; trying again", "err", err, "wait", backoff)
		if !sleep(ctx, backoff) {
			return nil
		}
		backoff = min(2*backoff, lastBackoff)
	}
	return nil
}

// Close makes the store durable and then saves the cursor exactly. It must not
// run beside Run.
func (r *Runner) Close() error {
	err := r.opt.Sink.Close()
	if err == nil {
		err = r.save(r.Position())
	}
	return errors.Join(err, r.reader.Close())
}

// Position is where the first record begins that the sink does not have.
func (r *Runner) Position() journal.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.written
}

// CaughtUp reports whether the sink has every durable record.
func (r *Runner) CaughtUp() bool { return !r.Position().Before(r.opt.Journal.End()) }

// Fresh is the latest instant of which the sink is known to have every record that
// was durable then; zero: of none since the start. It carries Go's monotonic
// reading. While all is well it is seconds ago, however much comes in.
func (r *Runner) Fresh() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fresh
}

// WaitFor returns once the sink has the record at a position, as Append returned
// it, and all before; or with ctx's error.
func (r *Runner) WaitFor(ctx context.Context, at journal.Position) error {
	for {
		r.mu.Lock()
		written, moved := r.written, r.moved
		r.mu.Unlock()
		if at.Before(written) {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("sink %s stands at %v, before %v: %w", r.opt.Name, written, at, ctx.Err())
		}
	}
}

// group reads what there is, up to the bounds, and stores it at once.
func (r *Runner) group(ctx context.Context) error {
	began, end := time.Now(), r.opt.Journal.End()
	oldest, err := r.read(ctx)
	// What was read is stored even if reading on failed.
	if err := r.store(ctx, oldest); err != nil {
		return err
	}
	now := r.opt.Now() // of the storing, not of when someone was told of it
	r.move(r.reader.Position())
	if !r.reader.Position().Before(end) {
		r.mu.Lock()
		r.fresh = began
		r.mu.Unlock()
	}
	r.saveSettled(now)
	if errors.Is(err, errIdle) {
		return nil
	}
	return err
}

// errIdle says that no record came in time.
var errIdle = errors.New("no record")

// read fills r.samples. oldest is when the first record was received.
func (r *Runner) read(ctx context.Context) (oldest time.Time, err error) {
	if cap(r.samples) > keepSamples {
		r.samples = nil
	}
	r.samples = r.samples[:0]
	patience := time.Now().Add(r.saveEvery)
	for n := 0; n < groupRecords && len(r.samples) < groupSamples; n++ {
		rec, err := r.next(ctx, time.Until(patience))
		if err != nil {
			return oldest, err
		}
		if n == 0 {
			oldest = rec.ReceivedAt
			patience = time.Now().Add(r.opt.Linger)
		}
		r.take(rec)
	}
	return oldest, nil
}

// next waits up to a time for a record.
func (r *Runner) next(ctx context.Context, wait time.Duration) (journal.Record, error) {
	rec, _, err := r.reader.TryNext()
	if !errors.Is(err, io.EOF) {
		return rec, err
	}
	if wait <= 0 {
		return rec, errIdle
	}
	limited, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	rec, _, err = r.reader.Next(limited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = errIdle
	}
	return rec, err
}

// take maps one record. What cannot be decoded now never will be: it is counted
// and passed over.
func (r *Runner) take(rec journal.Record) {
	m, name := r.opt.Metrics, r.opt.Name
	var tally series.Tally
	var err error
	switch rec.Type {
	case journal.Batch:
		var b wire.Batch
		if b, err = r.codec.DecodeBatch(rec.Body); err == nil {
			var sent wire.Sent // zero if the header is missing or no good: not known
			if h, ok := rec.Header(wire.HeaderSent); ok {
				sent, _ = wire.ParseSent(h)
			}
			r.samples, tally = r.mapper.Batch(r.samples, &b, sent, rec.ReceivedAt, r.opt.Inventory())
		}
	case journal.State:
		var snap state.Snapshot
		if err = snap.UnmarshalBinary(rec.Body); err == nil {
			r.samples, tally = r.mapper.State(r.samples, snap, rec.ReceivedAt, r.opt.Inventory())
		}
	case journal.Incidents:
		var l incident.Listing
		if l, err = incident.ParseListing(rec.Body); err == nil {
			r.samples, tally = r.mapper.Incidents(r.samples, l, rec.ReceivedAt)
		}
	}
	m.records.WithLabelValues(name, rec.Type.String()).Inc()
	if err != nil {
		m.unreadable.WithLabelValues(name, rec.Type.String()).Inc()
		r.log.Warn("journal record cannot be decoded; passed over", "err", err, "type", rec.Type.String(), "received_at", rec.ReceivedAt)
	}
	for why, n := range tally.Held {
		m.held.WithLabelValues(name, string(why)).Add(float64(n))
	}
	m.corrected.WithLabelValues(name).Add(float64(tally.Corrected))
}

// store writes r.samples until it succeeds or ctx ends.
func (r *Runner) store(ctx context.Context, oldest time.Time) error {
	m, name := r.opt.Metrics, r.opt.Name
	if len(r.samples) == 0 {
		return nil
	}
	lag := func() time.Duration {
		d := max(r.opt.Now().Sub(oldest), 0)
		m.lag.WithLabelValues(name).Set(d.Seconds())
		return d
	}
	var trouble trouble
	for backoff := firstBackoff; ; backoff = min(2*backoff, lastBackoff) {
		behind := lag()
		refused, err := r.opt.Sink.Write(ctx, r.samples)
		if err == nil {
			if !trouble.since.IsZero() {
				r.log.Info("the sink takes samples again", "after", r.opt.Now().Sub(trouble.since))
			}
			m.operator.WithLabelValues(name).Set(0)
			m.lag.WithLabelValues(name).Set(0)
			m.samples.WithLabelValues(name).Add(float64(len(r.samples) - refused.Total()))
			for why, n := range refused.byReason() {
				m.refused.WithLabelValues(name, why).Add(float64(n))
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		m.errors.WithLabelValues(name).Inc()
		needsOperator := errors.Is(err, ErrOperator)
		m.operator.WithLabelValues(name).Set(number(needsOperator))
		if trouble.say(r.opt.Now(), needsOperator) {
			r.log.Error("the sink fails; its records wait in the journal", "err", err, "behind", behind, "since", trouble.since)
		}
		wait := backoff
		if later := (*Later)(nil); errors.As(err, &later) {
			wait = max(wait, min(later.After, lastLater))
		}
		if !sleep(ctx, wait) {
			return ctx.Err()
		}
	}
}

// trouble is what was said of a sink that fails: at once, when waiting turns out
// to be of no use, and again from time to time.
type trouble struct {
	since, said time.Time
	operator    bool
}

// say reports whether a failure at an instant is to be told.
func (t *trouble) say(now time.Time, operator bool) bool {
	remind := remindFailing
	if operator {
		remind = remindOperator
	}
	if !t.since.IsZero() && now.Sub(t.said) < remind && (t.operator || !operator) {
		t.operator = operator
		return false
	}
	if t.since.IsZero() {
		t.since = now
	}
	t.said, t.operator = now, operator
	return true
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (r *Runner) move(to journal.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.written == to {
		return
	}
	r.written = to
	close(r.moved)
	r.moved = make(chan struct{})
}

// saveSettled moves the saved cursor to the newest position whose samples no
// crash of the machine can take back any more.
func (r *Runner) saveSettled(now time.Time) {
	grain := min(time.Second, r.saveEvery) // bounds the number of marks
	pos := r.Position()
	last := mark{pos: r.saved}
	if n := len(r.marks); n > 0 {
		last = r.marks[n-1]
	}
	if last.pos != pos && now.Sub(last.at) >= grain {
		r.marks = append(r.marks, mark{now, pos})
	}
	if now.Sub(r.looked) < r.saveEvery {
		return
	}
	r.looked = now
	settled := -1
	for i, m := range r.marks {
		if now.Sub(m.at) < r.opt.Sink.Settle() {
			break
		}
		settled = i
	}
	if settled < 0 {
		return
	}
	if err := r.save(r.marks[settled].pos); err != nil {
		r.log.Error("cannot save the cursor; a restart will repeat more", "err", err)
		return
	}
	r.marks = r.marks[settled+1:]
}

func (r *Runner) save(p journal.Position) error {
	if p == r.saved {
		return nil
	}
	if err := r.opt.Cursor.Save(p); err != nil {
		return err
	}
	r.saved = p
	return nil
}

// sleep reports whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

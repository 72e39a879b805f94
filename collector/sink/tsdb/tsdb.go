// Package tsdb is the default sink: a Prometheus TSDB inside the collector, and
// what PromQL reads.
//
// It guarantees that no sample from the future gets in, which would make the
// store refuse every good one after it; that late samples are taken for as long
// as package series lets them through; and that a disk that fails or is full
// costs time, never samples: the last bytes of the disk are not used, and after
// a failed write the store is opened again, which repairs its log, before it is
// written to, and not before there is room to repair it.
package tsdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/compression"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink"
)

// DefaultRetention is for how long samples are kept: a year, and the month that
// a yearly report looks back on.
const DefaultRetention = 400 * 24 * time.Hour

// DefaultReserve is room for a repair, which copies a segment of 128 MiB.
const DefaultReserve = 256 << 20

const (
	// settle is how long the kernel may hold written pages back: dirty ones
	// expire after 30 s and are written within 5 s more. The store never syncs
	// its log.
	settle = time.Minute
	// maxSkew lets a record through whose receipt this clock has not reached.
	maxSkew = time.Minute
	// maxBlock is the longest time that one block covers. Late samples make a
	// block anew, so it is kept short.
	maxBlock = 7 * 24 * time.Hour
	// maxRefs bounds the remembered series: one country is 3.4 million.
	maxRefs = 5_000_000
)

// Options are what a DB needs.
type Options struct {
	Dir string // is created
	// Retention is for how long samples are kept; 0 is DefaultRetention.
	Retention  time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
	// Reserve is how many bytes of the disk stay free: below it nothing is
	// written. 0 is DefaultReserve, a negative one none.
	Reserve int64
}

// DB is the store: a [sink.Sink], and the storage that queries and rules use.
// It is safe for concurrent use.
type DB struct {
	opt     Options
	metrics *metrics

	writing    sync.Mutex // one Write or Close at a time
	refs       map[*series.Series]storage.SeriesRef
	supersedes *series.Supersedes

	// committing keeps commits, ours and those of rules, behind each other, so
	// that none follows one that failed.
	committing sync.Mutex
	broken     bool // the log may end in half a record

	mu      sync.Mutex
	current *generation // nil: closed, or could not be opened again
}

// generation is the store between two openings, with those who use it.
type generation struct {
	*tsdb.DB
	users sync.WaitGroup // grows only while it is current
}

var (
	_ sink.Sink                       = (*DB)(nil)
	_ storage.SampleAndChunkQueryable = (*DB)(nil)
	_ storage.ExemplarQueryable       = (*DB)(nil)
	_ storage.AppendableV2            = (*DB)(nil)
)

// errClosed is what everybody gets while there is no store.
var errClosed = errors.New("tsdb: the store is not open")

// ErrFull says that the disk has no room for the store to go on safely.
var ErrFull = errors.New("tsdb: the disk is full")

// errBroken is what rules get until the store is repaired.
var errBroken = errors.New("tsdb: the store's log awaits repair")

// Open opens or creates the store; after an unclean end it repairs and replays
// its log first.
func Open(opt Options) (*DB, error) {
	if opt.Retention == 0 {
		opt.Retention = DefaultRetention
	}
	if opt.Retention < series.MaxAge {
		return nil, fmt.Errorf("tsdb: retention of %v is shorter than the %v for which late samples are taken", opt.Retention, series.MaxAge)
	}
	if opt.Reserve == 0 {
		opt.Reserve = DefaultReserve
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	d := &DB{opt: opt, metrics: &metrics{}}
	if err := d.open(); err != nil {
		return nil, err
	}
	if opt.Registerer != nil {
		if err := opt.Registerer.Register(d.metrics); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

func (d *DB) open() error {
	if err := roomToRepair(d.opt.Dir); err != nil {
		return err
	}
	o := tsdb.DefaultOptions()
	o.RetentionDuration = d.opt.Retention.Milliseconds()
	o.OutOfOrderTimeWindow = series.MaxAge.Milliseconds()
	o.MaxBlockDuration = max(o.MinBlockDuration, min(maxBlock, d.opt.Retention/10).Milliseconds())
	o.WALCompression = compression.Snappy
	o.EnableOverlappingCompaction = true
	reg := prometheus.NewRegistry()
	db, err := tsdb.Open(d.opt.Dir, d.opt.Logger, reg, o, tsdb.NewDBStats())
	if err != nil {
		return fmt.Errorf("tsdb: %w", err)
	}
	supersedes, err := recall(db)
	if err != nil {
		return errors.Join(fmt.Errorf("tsdb: reading the last facts: %w", err), db.Close())
	}
	d.refs, d.supersedes = make(map[*series.Series]storage.SeriesRef), supersedes
	d.committing.Lock()
	d.broken = false
	d.committing.Unlock()
	d.metrics.set(reg)
	d.mu.Lock()
	d.current = &generation{DB: db}
	d.mu.Unlock()
	return nil
}

// recall reads which facts about each site hold: those of the last minutes
// before the newest sample.
func recall(db *tsdb.DB) (*series.Supersedes, error) {
	const lookback = 10 * time.Minute
	u := new(series.Supersedes)
	maxt := db.Head().MaxTime()
	if maxt < 0 { // an empty head has the least of all times
		return u, nil
	}
	q, err := db.Querier(maxt-lookback.Milliseconds(), maxt)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	var it chunkenc.Iterator
	for _, name := range []string{series.SiteInfo, series.PlanDownload, series.PlanUpload} {
		set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, name))
		for set.Next() {
			s := series.Sample{Series: &series.Series{Labels: set.At().Labels()}}
			it = set.At().Iterator(it)
			for it.Next() == chunkenc.ValFloat {
				s.T, s.V = it.At()
			}
			if err := it.Err(); err != nil {
				return nil, err
			}
			if s.T > 0 && !series.IsStale(s.V) {
				u.Next(s)
			}
		}
		if err := set.Err(); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// Settle implements [sink.Sink].
func (d *DB) Settle() time.Duration { return settle }

// Write implements [sink.Sink]: all samples in one commit.
func (d *DB) Write(ctx context.Context, samples []series.Sample) (sink.Refused, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	var refused sink.Refused
	if err := ctx.Err(); err != nil {
		return refused, err
	}
	if err := room(d.opt.Dir, d.opt.Reserve); err != nil {
		return refused, err
	}
	if d.needsRepair() {
		if err := roomToRepair(d.opt.Dir); err != nil {
			return refused, err // until then it can at least be read
		}
		if err := d.shut(); err != nil {
			d.opt.Logger.Warn("closing the store for repair", "err", err, "dir", d.opt.Dir)
		}
		if err := d.open(); err != nil {
			return refused, err
		}
	}
	db, release, err := d.hold()
	if err != nil {
		return refused, err
	}
	defer release()
	if len(d.refs) > maxRefs {
		clear(d.refs)
	}
	limit := d.opt.Now().Add(series.MaxAhead + maxSkew).UnixMilli()
	app := db.AppenderV2(ctx)
	put := func(s series.Sample) error {
		ref, err := app.Append(d.refs[s.Series], s.Series.Labels, 0, s.T, s.V, nil, nil, storage.AppendV2Options{})
		switch {
		case err == nil:
			d.refs[s.Series] = ref
		case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfBounds):
			refused.Old++
		case errors.Is(err, storage.ErrDuplicateSampleForTimestamp), errors.Is(err, storage.ErrOutOfOrderSample):
			refused.Conflict++
		case errors.Is(err, tsdb.ErrInvalidSample):
			refused.Invalid++
		default:
			return err
		}
		return nil
	}
	for _, s := range samples {
		if s.T > limit {
			refused.Future++
			continue
		}
		if ended, ok := d.supersedes.Next(s); ok {
			err = put(ended)
		}
		if err = errors.Join(err, put(s)); err != nil {
			d.committing.Lock()
			defer d.committing.Unlock()
			d.broken = true // what is remembered of series may be ahead of what is stored
			return sink.Refused{}, fmt.Errorf("tsdb: %w", errors.Join(err, app.Rollback()))
		}
	}
	if err := d.commit(app); err != nil {
		return sink.Refused{}, fmt.Errorf("tsdb: %w", err)
	}
	return refused, nil
}

// commit commits what nobody has broken before. A commit that fails may leave
// half a record in the log, and a replay would end there: nothing may be written
// behind it.
func (d *DB) commit(app storage.AppenderV2) error {
	d.committing.Lock()
	defer d.committing.Unlock()
	if d.broken {
		return errors.Join(errBroken, app.Rollback())
	}
	err := app.Commit()
	d.broken = err != nil
	return err
}

func (d *DB) needsRepair() bool {
	d.committing.Lock()
	defer d.committing.Unlock()
	return d.broken
}

// shut closes the store once nobody uses it.
func (d *DB) shut() error {
	d.mu.Lock()
	old := d.current
	d.current = nil
	d.mu.Unlock()
	if old == nil {
		return nil
	}
	old.users.Wait()
	d.metrics.set(nil)
	return old.Close()
}

// Close implements [sink.Sink]. It waits for open queriers.
func (d *DB) Close() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return d.shut()
}

// hold returns the store and keeps it from being closed until release.
func (d *DB) hold() (db *generation, release func(), err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current == nil {
		return nil, nil, errClosed
	}
	d.current.users.Add(1)
	return d.current, sync.OnceFunc(d.current.users.Done), nil
}

// Querier implements [storage.Queryable].
func (d *DB) Querier(mint, maxt int64) (storage.Querier, error) {
	db, release, err := d.hold()
	if err != nil {
		return nil, err
	}
	q, err := db.Querier(mint, maxt)
	if err != nil {
		release()
		return nil, err
	}
	return querier{q, release}, nil
}

type querier struct {
	storage.Querier
	release func()
}

func (q querier) Close() error {
	defer q.release()
	return q.Querier.Close()
}

// ChunkQuerier implements [storage.ChunkQueryable].
func (d *DB) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	db, release, err := d.hold()
	if err != nil {
		return nil, err
	}
	q, err := db.ChunkQuerier(mint, maxt)
	if err != nil {
		release()
		return nil, err
	}
	return chunkQuerier{q, release}, nil
}

type chunkQuerier struct {
	storage.ChunkQuerier
	release func()
}

func (q chunkQuerier) Close() error {
	defer q.release()
	return q.ChunkQuerier.Close()
}

// ExemplarQuerier implements [storage.ExemplarQueryable]; the store keeps none.
func (d *DB) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	db, release, err := d.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	return db.ExemplarQuerier(ctx)
}

// AppenderV2 implements [storage.AppendableV2], for what rules record.
func (d *DB) AppenderV2(ctx context.Context) storage.AppenderV2 {
	db, release, err := d.hold()
	if err != nil {
		return closed{}
	}
	return appender{db.AppenderV2(ctx), d, release}
}

type appender struct {
	storage.AppenderV2
	db      *DB
	release func()
}

func (a appender) Commit() error {
	defer a.release()
	return a.db.commit(a.AppenderV2)
}

func (a appender) Rollback() error {
	defer a.release()
	return a.AppenderV2.Rollback()
}

// closed is an appender to a store that is not there.
type closed struct{}

func (closed) Append(storage.SeriesRef, labels.Labels, int64, int64, float64, *histogram.Histogram, *histogram.FloatHistogram, storage.AppendV2Options) (storage.SeriesRef, error) {
	return 0, errClosed
}
func (closed) Commit() error   { return errClosed }
func (closed) Rollback() error { return nil }

// room reports whether so many bytes are free for the store.
func room(dir string, need int64) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(dir, &disk); err != nil {
		return fmt.Errorf("tsdb: %w", err)
	}
	if free := int64(disk.Bavail) * disk.Bsize; free < need {
		return fmt.Errorf("%w: %s has %d bytes free, %d are needed", ErrFull, dir, free, need)
	}
	return nil
}

// roomToRepair reports whether opening could repair every log. The repair of a
// segment writes it anew: where it runs out of room, all of it is lost.
func roomToRepair(dir string) error {
	var largest int64
	for _, log := range []string{"wal", "wbl"} {
		segments, err := os.ReadDir(filepath.Join(dir, log))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("tsdb: %w", err)
		}
		for _, s := range segments {
			if info, err := s.Info(); err == nil && info.Mode().IsRegular() {
				largest = max(largest, info.Size())
			}
		}
	}
	if largest == 0 {
		return nil
	}
	const margin = 1 << 20 // a new segment's first pages, directories
	return room(dir, largest+margin)
}

// metrics are those of the store that is open: each opening counts anew, as
// after a restart.
type metrics struct {
	current atomic.Pointer[prometheus.Registry]
}

func (m *metrics) set(reg *prometheus.Registry) { m.current.Store(reg) }

// Describe implements [prometheus.Collector]: none, so the collector is an
// unchecked one.
func (m *metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector].
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	if reg := m.current.Load(); reg != nil {
		reg.Collect(ch)
	}
}

package collector

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/sink/influx"
)

// The sinks by name, as in settings, metrics and `pantau rebuild`.
const (
	SinkTSDB   = "tsdb"
	SinkInflux = "influx"
)

// Sinks lists them.
func Sinks() []string { return []string{SinkTSDB, SinkInflux} }

func tsdbDir(dataDir string) string { return filepath.Join(dataDir, "tsdb") }

// tsdbCursor lies among the store's files: who removes them removes it.
func tsdbCursor(dataDir string) *journal.Cursor {
	return journal.NewCursor(filepath.Join(tsdbDir(dataDir), "cursor"))
}

func influxDir(dataDir string) string { return filepath.Join(dataDir, "influx") }

// influxCursor returns the cursor of a bucket. It is of one bucket alone: another
// one has nothing yet, and begins where the journal begins.
func influxCursor(dataDir string, o influx.Options) (*journal.Cursor, error) {
	dir := influxDir(dataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	cursor, destination := filepath.Join(dir, "cursor"), filepath.Join(dir, "destination")
	last, err := os.ReadFile(destination)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if strings.TrimSpace(string(last)) != o.Destination() {
		// In this order: a crash between leaves no cursor, not a wrong one.
		if err := os.Remove(cursor); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err := writeFile(destination, []byte(o.Destination()+"\n")); err != nil {
			return nil, err
		}
	}
	return journal.NewCursor(cursor), nil
}

// Rebuilt says what [Rebuild] did.
type Rebuilt struct {
	Sink string
	From journal.Position // where the sink goes on
	Kept string           // the old store, moved away; empty: there was none
}

// Rebuild has a sink begin again: from the beginning of the journal, or from where
// all records received since an instant lie behind. It writes no sample; the next
// [Collector] does, beside its other work. No collector may run meanwhile, which
// the journal's lock makes sure.
//
// The embedded store takes no sample older than two days beside newer ones, so it
// is moved away and made anew. InfluxDB keeps what it has, and gets it again.
func Rebuild(dataDir, name string, since time.Time) (done Rebuilt, err error) {
	done.Sink = name
	if !slices.Contains(Sinks(), name) {
		return done, fmt.Errorf("no sink is called %q: there are %s", name, strings.Join(Sinks(), " and "))
	}
	if _, err := os.Stat(filepath.Join(dataDir, "journal")); err != nil {
		return done, fmt.Errorf("no collector ever ran on %s: is it the right directory? (%w)", dataDir, err)
	}
	j, err := journal.Open(journal.Options{Dir: filepath.Join(dataDir, "journal")})
	if errors.Is(err, journal.ErrLocked) {
		return done, fmt.Errorf("a collector runs on %s: stop it first (systemctl stop pantau), start it afterwards; probes keep what they measure meanwhile (%w)", dataDir, err)
	}
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	if !since.IsZero() {
		if done.From, err = j.Since(since); err != nil {
			return done, err
		}
	}
	if name == SinkTSDB {
		dir := tsdbDir(dataDir)
		kept := fmt.Sprintf("%s.until-%s", dir, time.Now().UTC().Format("20060102T150405Z"))
		switch err := os.Rename(dir, kept); {
		case err == nil:
			done.Kept = kept
		case !errors.Is(err, fs.ErrNotExist):
			return done, err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return done, err
		}
		return done, tsdbCursor(dataDir).Save(done.From)
	}
	dir := influxDir(dataDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return done, fmt.Errorf("nothing was ever written to InfluxDB from %s: once the settings name a server, it gets all from the beginning by itself", dataDir)
	}
	return done, journal.NewCursor(filepath.Join(dir, "cursor")).Save(done.From)
}

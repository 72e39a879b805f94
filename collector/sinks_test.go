package collector

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/sink/influx"
)

func TestACursorBelongsToItsBucket(t *testing.T) {
	dir := t.TempDir()
	at := func(o influx.Options) journal.Position {
		c, err := influxCursor(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.Load()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := influx.Options{URL: "http://127.0.0.1:8086", Org: "pantau", Bucket: "a", Token: "one"}
	b := a
	b.Bucket = "b"
	if p := at(a); p != (journal.Position{}) {
		t.Errorf("a new bucket begins at %v", p)
	}
	stands := journal.Position{Segment: 3, Offset: 8192}
	c, err := influxCursor(dir, a)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Save(stands); err != nil {
		t.Fatal(err)
	}
	a.Token = "two"
	if p := at(a); p != stands {
		t.Errorf("with another token the bucket begins at %v", p)
	}
	if p := at(b); p != (journal.Position{}) {
		t.Errorf("another bucket begins at %v", p)
	}
	if p := at(a); p != (journal.Position{}) {
		t.Errorf("a bucket that was left for another begins at %v", p)
	}
}

func TestRebuildSaysWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	wants := func(name, want string) {
		t.Helper()
		if _, err := Rebuild(dir, name, time.Time{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	wants(SinkTSDB, "no collector ever ran on")
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	j, err := journal.Open(journal.Options{Dir: filepath.Join(dir, "journal")})
	if err != nil {
		t.Fatal(err)
	}
	wants(SinkTSDB, "stop it first")
	wants("mimir", "no sink is called")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	wants(SinkInflux, "nothing was ever written to InfluxDB")
	done, err := Rebuild(dir, SinkTSDB, time.Time{})
	if err != nil || done.Kept != "" || done.From != (journal.Position{}) {
		t.Errorf("without a store: %+v, %v", done, err)
	}
	if done, err = Rebuild(dir, SinkTSDB, time.Time{}); err != nil || done.Kept == "" {
		t.Errorf("%+v, %v", done, err)
	}
	if _, err := os.Stat(filepath.Join(done.Kept, "cursor")); err != nil {
		t.Errorf("the old store is not whole: %v", err)
	}
}

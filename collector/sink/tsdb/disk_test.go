package tsdb_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/collector/series"
	"github.com/pantau-desa/pantau/collector/sink/sinktest"
	"github.com/pantau-desa/pantau/collector/sink/tsdb"
)

// smallDisk is a file system of its own with so many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, syscall.EPERM) {
		t.Skip("mounting a small disk needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A store whose log cannot be flushed leaves its file open.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk cuts a record of the store's log in two. What is written once
// there is room again must not lie behind that cut: a replay would end there.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, 12<<20)
	dir, ballast := filepath.Join(disk, "store"), filepath.Join(disk, "ballast")
	start := func() *tsdb.DB {
		db, err := tsdb.Open(tsdb.Options{Dir: dir, Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := start()
	defer func() { db.Close() }()

	now := time.Now().Truncate(time.Minute).Add(-time.Hour)
	want := sinktest.Content{}
	group := func(n int) []series.Sample {
		var out []series.Sample
		for i := range 2000 {
			s := &series.Series{Labels: labels.FromStrings(model.MetricNameLabel, "pantau_odp_reachable", "site", fmt.Sprintf("site-%03d-%04d", n, i))}
			out = append(out, series.Sample{Series: s, T: now.UnixMilli() + int64(n), V: float64(i) / 7})
		}
		return out
	}
	expect := func(samples []series.Sample) {
		for _, s := range samples {
			key := s.Series.Labels.String()
			want[key] = append(want[key], sinktest.Point{T: s.T, V: s.V})
		}
	}
	if _, err := db.Write(t.Context(), group(0)); err != nil {
		t.Fatal(err)
	}
	expect(group(0))

	var free unix.Statfs_t
	if err := unix.Statfs(disk, &free); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, int64(free.Bfree)*free.Bsize-256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for n := 1; failed == 0 && n < 100; n++ {
		if _, err := db.Write(t.Context(), group(n)); err != nil {
			failed = n
			break
		}
		expect(group(n))
	}
	if failed == 0 {
		t.Fatal("the disk never filled up")
	}
	// It does not even try to repair: that would lose everything.
	if _, err := db.Write(t.Context(), group(failed)); !errors.Is(err, tsdb.ErrFull) {
		t.Errorf("a write on a full disk: %v", err)
	}
	compare(t, "on the full disk", want, read(t, db))
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for n := failed; n < failed+3; n++ {
		if _, err := db.Write(t.Context(), group(n)); err != nil {
			t.Fatal(err)
		}
		expect(group(n))
	}
	compare(t, "before a restart", want, read(t, db))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = start()
	compare(t, "after a restart", want, read(t, db))
}

// Below its reserve the store takes nothing, so that its log stays whole.
func TestReserve(t *testing.T) {
	disk := smallDisk(t, 12<<20)
	db, err := tsdb.Open(tsdb.Options{Dir: filepath.Join(disk, "store"), Reserve: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sample := []series.Sample{{Series: site, T: time.Now().UnixMilli(), V: 1}}
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 9<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write(t.Context(), sample); !errors.Is(err, tsdb.ErrFull) {
		t.Errorf("below the reserve: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Write(t.Context(), sample); err != nil {
		t.Error(err)
	}
}

func compare(t *testing.T, when string, want, got sinktest.Content) {
	t.Helper()
	var wrong []string
	for key := range want {
		if !slices.Equal(want[key], got[key]) {
			wrong = append(wrong, fmt.Sprintf("%s: %v, want %v", key, got[key], want[key]))
		}
	}
	if len(wrong) > 0 || len(got) != len(want) {
		slices.Sort(wrong)
		t.Errorf("%s: %d of %d series are wrong, %d are there; such as %s", when, len(wrong), len(want), len(got), wrong[:min(1, len(wrong))])
	}
}

package servertest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Quota makes a control group, of either version, whose processes together get so
// many per cent of one processor, in periods of 100 ms. It returns the file that
// takes their ids; without the right to, it skips the test.
func Quota(t testing.TB, percent float64) (procs string) {
	t.Helper()
	const period = 100_000 // µs
	quota := int(percent / 100 * period)
	root := "/sys/fs/cgroup"
	files := [][2]string{{"cpu.max", fmt.Sprintf("%d %d", quota, period)}}
	if v1 := filepath.Join(root, "cpu"); exists(filepath.Join(v1, "cpu.cfs_quota_us")) {
		root, files = v1, [][2]string{{"cpu.cfs_period_us", fmt.Sprint(period)}, {"cpu.cfs_quota_us", fmt.Sprint(quota)}}
	}
	dir, err := os.MkdirTemp(root, "pantau-speed-test-*")
	if err != nil {
		t.Skip("no control group can be made here: ", err)
	}
	t.Cleanup(func() { // once its processes are gone
		Eventually(t, "the control group is gone", func() bool {
			err := os.Remove(dir)
			return err == nil || os.IsNotExist(err)
		})
	})
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f[0]), []byte(f[1]), 0o644); err != nil {
			t.Skip("no control over the processor here: ", err)
		}
	}
	return filepath.Join(dir, "cgroup.procs")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

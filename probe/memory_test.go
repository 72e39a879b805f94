package probe

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What a program has used of its own file is given back, and comes again when it is
// used.
func TestReleaseGivesBack(t *testing.T) {
	before := resident(t)
	release()
	after := resident(t)
	t.Logf("%d kB of the file before, %d after", before, after)
	if after >= before*3/4 {
		t.Errorf("%d kB of the program's file are resident, %d before", after, before)
	}
}

// resident is how much of files is, in kB.
func resident(t *testing.T) (kB int) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); f[0] == "RssFile:" {
			if kB, err = strconv.Atoi(f[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kB
}

package probe

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// started is about when the start is over and the first measurements have begun.
const started = 3 * time.Second

// resting gives back what the start has needed.
func (p *Probe) resting(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-time.After(started):
		release()
	}
	return nil
}

// release gives back to the kernel what a start or a speed test has needed and the
// hours after it do not: free pages of the heap, and the pages of the program's own
// file, of which rest uses less than half (5 of 12 MB). Those that are needed again
// are found in the page cache, without reading; the others are the first that a box
// that is short of memory drops.
func release() {
	debug.FreeOSMemory()
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	// A kernel without smaps, or one that refuses: then everything stays where it is.
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer f.Close()
	// proc_pid_smaps(5): a line "from-to access offset device inode path", then figures,
	// of which Anonymous says how much is no longer as it is in the file.
	var from, to uintptr
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		var begin, end uintptr
		var access string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &begin, &end, &access); n == 3 {
			if from, to = begin, end; strings.Contains(access, "w") || !strings.HasSuffix(line, " "+program) {
				from, to = 0, 0
			}
			continue
		}
		if f := strings.Fields(line); to > from && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0" {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}

package service

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// manager listens as a service manager does, and tells the program where.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return c
}

// heard is the next message, or "" if none comes within the time.
func heard(t *testing.T, c *net.UnixConn, within time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

// heardOf skips what does not begin with the prefix.
func heardOf(t *testing.T, c *net.UnixConn, prefix string) string {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		if m := heard(t, c, time.Until(deadline)); strings.HasPrefix(m, prefix) {
			return m
		}
	}
	t.Fatalf("no message %s...", prefix)
	return ""
}

func TestNotifyReachesTheManager(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), "@pantau-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)} {
		c := manager(t, name)
		if err := Notify(Ready, Status("two\nlines,  MAINPID=1")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := heard(t, c, 5*time.Second), "READY=1\nSTATUS=two lines, MAINPID=1"; got != want {
			t.Errorf("%s: heard %q, want %q", name, got, want)
		}
	}
}

func TestNotifyWithoutAManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(Ready); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	for name, want := range map[string]string{
		filepath.Join(t.TempDir(), "gone"): "no such file",
		"vsock:2:1234":                     "only unix sockets",
	} {
		t.Setenv("NOTIFY_SOCKET", name)
		if err := Notify(Ready); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestAManagerThatDoesNotReadDelaysLittle(t *testing.T) {
	manager(t, filepath.Join(t.TempDir(), "notify"))
	var err error
	start := time.Now()
	for range 10_000 { // until its queue is full
		start = time.Now()
		if err = Notify(Watchdog); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("10,000 messages that nobody read were all taken")
	}
	if took := time.Since(start); took > 3*patience {
		t.Errorf("took %v", took)
	}
}

func TestStatusIsOneBoundedLine(t *testing.T) {
	if got := Status(strings.Repeat("é", 1000)); len(got) > len("STATUS=")+maxStatus || strings.ContainsRune(got, '�') {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

func TestPeriod(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"0", "", 0}, {"-5", "", 0}, {"many", "", 0}, {"9223372036854775807", "", 0},
		{"120000000", "", 2 * time.Minute},
		{"120000000", "1", 0}, // another process's
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got := Period(); got != c.want {
			t.Errorf("WATCHDOG_USEC=%s WATCHDOG_PID=%s: %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}

func TestWatchFeedsOnlyWhileAlive(t *testing.T) {
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "90000") // 90 ms: asked every 30
	var dead atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func() bool { return !dead.Load() }) }()
	for range 3 {
		if got := heard(t, c, 5*time.Second); got != Watchdog {
			t.Fatalf("heard %q", got)
		}
	}
	dead.Store(true)
	heardOf(t, c, "STATUS=no sign of life")
	for range 5 {
		if got := heard(t, c, 5*time.Second); got == Watchdog {
			t.Fatal("the watchdog is fed though the program is not alive")
		}
	}
	dead.Store(false) // it was only slow
	heardOf(t, c, Watchdog)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatchWithoutAWatchdog(t *testing.T) {
	manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "")
	if err := Watch(t.Context(), func() bool { panic("nobody asks") }); err != nil {
		t.Error(err)
	}
}

func TestWatchGoesOnWhenAMessageIsLost(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "30000")
	ctx, cancel := context.WithCancel(t.Context())
	var asked atomic.Int64
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func() bool { asked.Add(1); return true }) }()
	for deadline := time.Now().Add(5 * time.Second); asked.Load() < 3 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	heardOf(t, manager(t, name), Watchdog)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRunTellsOfEachStep(t *testing.T) {
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "")
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	var sites atomic.Int64
	ended := make(chan error, 1)
	broken := errors.New("the disk is gone")
	go func() {
		ended <- Run(ctx, Program{Ready: ready, Alive: func() bool { return true }, Every: 20 * time.Millisecond,
			Status: func() string { return strconv.FormatInt(sites.Load(), 10) + " sites" }, Logger: slog.New(slog.DiscardHandler),
			Run: func(ctx context.Context) error { <-ctx.Done(); return broken }})
	}()
	if got := heard(t, c, 200*time.Millisecond); got != "" {
		t.Fatalf("heard %q before it serves", got)
	}
	close(ready)
	if got := heard(t, c, 5*time.Second); got != "READY=1\nSTATUS=0 sites" {
		t.Fatalf("heard %q", got)
	}
	sites.Store(7)
	heardOf(t, c, "STATUS=7 sites")
	cancel()
	heardOf(t, c, "STOPPING=1")
	if err := <-ended; !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

func TestRunOfAProgramThatFailsAtOnce(t *testing.T) {
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	never := make(chan struct{})
	err := Run(t.Context(), Program{Ready: never, Alive: func() bool { return true }, Logger: slog.New(slog.DiscardHandler),
		Run: func(context.Context) error { return errors.New("port taken") }})
	if err == nil || err.Error() != "port taken" {
		t.Errorf("%v", err)
	}
	if got := heard(t, c, 5*time.Second); got != Stopping {
		t.Errorf("heard %q: it was never ready", got)
	}
}

func TestRunOutlivesAManagerThatIsGone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	var log bytes.Buffer
	err := Run(t.Context(), Program{Alive: func() bool { return true }, Every: time.Millisecond, Status: func() string { return "well" },
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Run: func(context.Context) error { time.Sleep(30 * time.Millisecond); return nil }})
	if err != nil {
		t.Errorf("%v", err)
	}
	if n := strings.Count(log.String(), "cannot be told"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
}

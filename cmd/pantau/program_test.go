package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// The programs as they are shipped, built once for all tests of this folder.

var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "pantau-test-bin")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "github.com/pantau-desa/pantau/cmd/pantau", "github.com/pantau-desa/pantau/cmd/pantau-probe").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := built(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// spawn starts a process that dies with the test.
func spawn(t *testing.T, log, bin string, args ...string) *exec.Cmd {
	t.Helper()
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	go func() { // the kernel's signal is bound to the starting thread: keep it
		runtime.LockOSThread()
		started <- cmd.Start()
		<-ended
	}()
	t.Cleanup(func() { close(ended) })
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	return cmd
}

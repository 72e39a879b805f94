package soak

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/netlab"
)

const (
	module = "github.com/pantau-desa/pantau/"

	lab = "pantau-soak" // begins the names of the namespaces

	keeperFolder = "PANTAU_SOAK_KEEPER" // started with it, this program is a keeper of that folder
	programsIn   = "PANTAU_SOAK_BIN"    // folder of the programs, if they are built already
	writtenIn    = "PANTAU_SOAK_FOLDER" // folder of all that is written, see [folder]
)

// TestMain builds the programs, and leaves it to a keeper that nothing is left.
func TestMain(m *testing.M) {
	if dir := os.Getenv(keeperFolder); dir != "" {
		os.Exit(keep(dir))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// folder is where all that is written is.
func folder(parts ...string) string {
	return filepath.Join(append([]string{os.Getenv(writtenIn)}, parts...)...)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "pantau-soak-")
	if err != nil {
		return 1, err
	}
	dismiss, err := startKeeper(dir)
	if err != nil {
		return 1, errors.Join(err, os.RemoveAll(dir))
	}
	defer func() { err = errors.Join(err, dismiss()) }()
	if err := os.Setenv(writtenIn, dir); err != nil {
		return 1, err
	}
	if os.Getenv(programsIn) == "" {
		bin := filepath.Join(dir, "bin")
		if said, err := exec.Command("go", "build", "-o", filepath.Join(bin, "pantau"), module+"cmd/pantau").CombinedOutput(); err != nil {
			return 1, fmt.Errorf("go build: %w: %s", err, said)
		}
		if err := errors.Join(buildProbe(filepath.Join(bin, "pantau-probe")), os.Setenv(programsIn, bin)); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// startKeeper starts a process that outlives this one, however this one ends, and
// then removes the folder and the namespaces. dismiss makes it do so now.
func startKeeper(dir string) (dismiss func() error, err error) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), keeperFolder+"="+dir)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is not for it
	alive, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	return func() error {
		alive.Close()
		return c.Wait()
	}, nil
}

// keep waits until the process that started it is gone, and clears up after it.
func keep(dir string) int {
	left := fmt.Sprintf("%s-%d", lab, os.Getppid())
	_, _ = io.Copy(io.Discard, os.Stdin)
	err := errors.Join(clearNamespaces(left), os.RemoveAll(dir))
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak: not all could be cleared:", err)
		return 1
	}
	return 0
}

// clearNamespaces removes those whose names begin with label, once their owner is
// wholly dead, with what runs inside.
func clearNamespaces(label string) error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		left, err := namespaces(label)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("these namespaces are left: %s", strings.Join(left, " "))
		}
		// A new lab of the same name clears what the dead ones left.
		l, err := netlab.New(netlab.Options{Name: lab, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			return err
		}
	}
}

// namespaces are the named ones whose names begin with label.
func namespaces(label string) (names []string, err error) {
	entries, err := os.ReadDir("/run/netns")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), label) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

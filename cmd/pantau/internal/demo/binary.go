package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module      = "github.com/pantau-desa/pantau"
	probeSource = module + "/cmd/pantau-probe"
	// unversioned is the version of a program that was neither stamped nor built
	// from a commit, as by `go run`.
	unversioned = "dev"
)

// probeFinder finds the pantau-probe that belongs to this program.
type probeFinder struct {
	own        string // version of this program
	executable func() (string, error)
	say        func(format string, args ...any)
}

// find answers the path of a pantau-probe: built into dir where this program runs
// from its sources, else the one beside it, else one in the path, else built after
// all. One of another version is said, and used only where there is no better.
func (f probeFinder) find(ctx context.Context, dir string) (string, error) {
	if f.own == unversioned && f.inSources(ctx) {
		return f.build(ctx, dir)
	}
	var other string // found, but of another version
	for _, bin := range f.installed() {
		version, err := versionOf(ctx, bin)
		if err != nil {
			f.say("%s is no use: %v", bin, err)
			continue
		}
		if version == f.own {
			return bin, nil
		}
		f.say("%s is version %s, this is version %s.", bin, version, f.own)
		if other == "" {
			other = bin
		}
	}
	switch {
	case f.inSources(ctx):
		return f.build(ctx, dir)
	case other != "":
		f.say("It is used all the same, as there is no better: what it measures may differ.")
		return other, nil
	case ctx.Err() != nil:
		return "", ctx.Err()
	}
	return "", errors.New("pantau-probe is neither beside this program nor in the path, and the working directory is not" +
		" in a checkout of its sources with go in the path: install it beside pantau")
}

// installed are the programs of that name beside this one and in the path.
func (f probeFinder) installed() (bins []string) {
	if self, err := f.executable(); err == nil {
		if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), "pantau-probe")); err == nil {
			bins = append(bins, beside)
		}
	}
	if bin, err := exec.LookPath("pantau-probe"); err == nil {
		bins = append(bins, bin)
	}
	return bins
}

// inSources reports whether the working directory is in a checkout of this module,
// and not merely in one that requires it.
func (f probeFinder) inSources(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{with .Module}}{{.Path}} {{.Main}}{{end}}", probeSource).Output()
	return err == nil && strings.TrimSpace(string(out)) == module+" true"
}

// build builds pantau-probe into dir. It does not ask git, which refuses root in
// another user's checkout, and so has no version.
func (f probeFinder) build(ctx context.Context, dir string) (string, error) {
	bin := filepath.Join(dir, "pantau-probe")
	f.say("Building pantau-probe from its sources ...")
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w", "-o", bin, probeSource)
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	if text, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building pantau-probe: %w\n%s", err, text)
	}
	return bin, nil
}

// versionOf asks a pantau-probe for its version.
func versionOf(ctx context.Context, bin string) (string, error) {
	out, err := exec.CommandContext(ctx, bin, "--version").Output()
	if err != nil {
		return "", err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "pantau-probe version ")
	if !ok {
		return "", fmt.Errorf("it answers %.60q when asked for its version", out)
	}
	return version, nil
}

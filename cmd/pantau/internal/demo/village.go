package demo

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector/admin"
)

// village enrols one box and keeps its probe running, as a service manager would,
// and lets its users use the line.
func (r *run) village(ctx context.Context, i int, dir string) error {
	l := r.lines[i]
	home := filepath.Join(dir, "desa", l.Code)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	claim, err := r.claimCode(ctx, dir, l)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	state := filepath.Join(home, "state")
	if err := r.enrol(ctx, i, home, state, claim.Code); err != nil || ctx.Err() != nil {
		return err
	}
	config := filepath.Join(home, "pantau-probe.yaml")
	metrics := "127.0.0.1:7481"
	if r.world == nil {
		metrics = "127.0.0.1:0" // one host for all of them
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, "state_dir: %q\nmetrics:\n  listen: %q\n", state, metrics), 0o644); err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return r.keepRunning(ctx, i, home, config) })
	if r.world != nil {
		g.Go(func() error {
			v := r.world.Villages[i]
			return v.Browse(ctx, world.Browsing{URL: "http://" + r.world.PusatAddress.String() + "/", Rate: min(64e3, v.Up/200, v.Down/200)})
		})
	}
	return g.Wait()
}

// enrolments is how often a box tries: someone may have cut its line already.
const enrolments = 20

// enrol makes the box a probe. The same code serves every try.
func (r *run) enrol(ctx context.Context, i int, home, state, code string) error {
	name := r.lines[i].Name
	for try := 1; ; try++ {
		err := r.inVillage(ctx, i, home, "enroll", "--state-dir", state, "--collector", r.url, "--code", code)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if try == enrolments {
			return fmt.Errorf("%s: enrolment: %w; see %s", name, err, filepath.Join(home, "log"))
		}
		if try == 1 {
			r.say("%s: its enrolment failed (%v): trying again; see %s", name, err, filepath.Join(home, "log"))
		}
		pause(ctx, time.Second)
	}
}

// pause waits, but not beyond ctx.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// claimCode asks the collector for a code, as an operator would.
func (r *run) claimCode(ctx context.Context, dir string, l line) (c admin.Claim, err error) {
	client := admin.NewClient(filepath.Join(dir, "collector"))
	for range 50 { // the socket opens within the first instants
		if c, err = client.Add(ctx, l.Site, l.Probe); err == nil || ctx.Err() != nil {
			return c, nil
		}
		pause(ctx, 100*time.Millisecond)
	}
	return c, err
}

// keepRunning restarts a probe that ends, as systemd would: someone may kill it to
// see what happens.
func (r *run) keepRunning(ctx context.Context, i int, home, config string) error {
	for ctx.Err() == nil {
		err := r.inVillage(ctx, i, home, "run", "--config", config)
		if ctx.Err() != nil {
			return nil
		}
		r.log.Warn("a probe ended: starting it again", "site", r.lines[i].Site, "err", err)
		r.say("%s  %s: its probe ended (%v): starting it again", clockTime(time.Now()), r.lines[i].Name, err)
		pause(ctx, 2*time.Second)
	}
	return nil
}

// patience is how long a probe may take to seal and push at its end.
const patience = 5 * time.Second

// inVillage runs pantau-probe in the village's box until it ends. When ctx ends it
// is told to.
func (r *run) inVillage(ctx context.Context, i int, home string, args ...string) error {
	log, err := os.OpenFile(filepath.Join(home, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	prepare := func(c *exec.Cmd) {
		c.Dir, c.Stdout, c.Stderr = home, log, log
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
		c.WaitDelay = patience
		// In a group of its own: Ctrl-C is for the demo alone, which tells its probes.
		c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	if r.world != nil {
		c := r.world.Villages[i].Box.Command(ctx, r.bin, args...)
		prepare(c.Cmd)
		return c.Run()
	}
	// The kernel kills the child when the thread that started it ends, so this one
	// must live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.CommandContext(ctx, r.bin, args...)
	prepare(c)
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return c.Run()
}

// browseServer is what the villages' users look at.
func (r *run) browseServer(ctx context.Context) error {
	if r.web == nil {
		<-ctx.Done()
		return nil
	}
	srv := &http.Server{Handler: world.Website(), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(r.web); err != http.ErrServerClosed {
		return err
	}
	return nil
}

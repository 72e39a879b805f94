package soak

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sample is what is seen at one instant.
type sample struct {
	at   time.Duration // since the day began
	life int           // of the probe, from 1; 0: none runs
	age  time.Duration // of that life
	// rss and peak are the resident memory now and at most in this life, cpu the
	// processor's time that this life has taken, in bytes and seconds.
	rss, peak int64
	cpu       float64
	// down and up are what the router's interface towards the line has received and
	// sent, in bytes of frames.
	down, up uint64
	asked    bool // its metrics were asked for since the sample before, which costs it
}

func (s sample) moved() uint64 { return s.down + s.up }

// every is how often it is looked.
const every = 500 * time.Millisecond

// watcher looks at the probe that runs and at the router. Its methods may be
// called at the same time.
type watcher struct {
	v     *village
	began time.Time

	mu      sync.Mutex
	probe   *process
	life    int
	asked   bool
	samples []sample
	errs    []error
}

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.look()
		}
	}
}

// lives notes that a new probe runs, or, nil, that none does.
func (w *watcher) lives(p *process) (life int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probe = p; p != nil {
		w.life++
	}
	return w.life
}

// look takes a sample and returns it.
func (w *watcher) look() sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := sample{at: time.Since(w.began), asked: w.asked}
	w.asked = false
	var err error
	if s.down, s.up, err = w.v.home.Drop.B.Counters(); err != nil {
		w.errs = append(w.errs, err)
		return s
	}
	if w.probe != nil {
		if err := s.read(w.probe.pid()); err == nil { // else it has just died
			s.life, s.age = w.life, time.Since(w.probe.began)
		}
	}
	w.samples = append(w.samples, s)
	return s
}

func (w *watcher) asks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = true
}

// testing reports whether a speed test fills the line now.
func (w *watcher) testing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.samples)
	return n >= 2 && w.samples[n-1].life == w.life && heavy(w.samples[n-2], w.samples[n-1])
}

// read fills in what the kernel knows of a process: proc_pid_status(5) and
// proc_pid_stat(5).
func (s *sample) read(pid int) error {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "kB" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "VmRSS:":
				s.rss = n << 10
			case "VmHWM:":
				s.peak = n << 10
			}
		}
	}
	if s.rss == 0 || s.peak == 0 {
		return fmt.Errorf("process %d has no memory: it is dead", pid)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // after the name, which may hold anything
	f := strings.Fields(rest)
	if len(f) < 13 {
		return fmt.Errorf("process %d: %q", pid, stat)
	}
	const ticks = 100                // a second, on every architecture of Linux
	for _, field := range f[11:13] { // utime, stime
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return err
		}
		s.cpu += n / ticks
	}
	return nil
}

// Package service tells the service manager how a program does, by the protocol
// of sd_notify(3): that it really serves, what it is at, that it ends, that it is
// alive.
//
// It guarantees that without a service manager nothing happens, that a manager
// which does not listen delays the program by at most a second, and that the
// watchdog is fed by what the program can show of itself, never by the clock
// alone. It refuses to start, stop or restart anything: that is the manager's.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// States that a program is in. A status line is made with [Status].
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Watchdog = "WATCHDOG=1"
)

// maxStatus bounds a status line, in bytes.
const maxStatus = 512

// Status is the state of which `systemctl status` shows the text: one line.
func Status(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "")
	}
	return "STATUS=" + text
}

// patience bounds one message: a manager that does not read must not stop us.
const patience = time.Second

// Notify sends states, one a line, to the socket that NOTIFY_SOCKET names: a path,
// or '@' and the name of an abstract one. Without the variable it does nothing.
func Notify(states ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	if name[0] != '/' && name[0] != '@' {
		return fmt.Errorf("service: NOTIFY_SOCKET %q: only unix sockets are spoken to, /path or @name", name)
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if _, err := c.Write([]byte(strings.Join(states, "\n"))); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	return nil
}

// Period is the time in which the manager wants a sign of life: WATCHDOG_USEC, if
// it is meant for this process (WATCHDOG_PID). 0: there is no watchdog.
func Period() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || us <= 0 || us > int64(1<<63-1)/int64(time.Microsecond) {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}

// Watch feeds the watchdog until ctx ends: it asks alive three times in each
// period, and gives a sign of life only if the answer is yes. Where alive says no,
// or hangs, the manager hears nothing and will end the program; the status line
// then says why. A message that could not be sent does not end it: the error
// returned is that of the last one. Without a watchdog it returns at once.
func Watch(ctx context.Context, alive func() bool) error {
	period := Period()
	if period == 0 {
		return nil
	}
	t := time.NewTicker(max(period/3, time.Millisecond))
	defer t.Stop()
	for {
		say := Watchdog
		if !alive() {
			say = Status("no sign of life from the program's own work: the watchdog is not fed")
		}
		err := Notify(say)
		select {
		case <-ctx.Done():
			return err
		case <-t.C:
		}
	}
}

// Program is what [Run] runs.
type Program struct {
	Run func(context.Context) error
	// Ready is closed once the program really serves. nil: as soon as it runs.
	Ready <-chan struct{}
	// Alive reports whether the program's own work goes on. It must not block for
	// longer than a third of the watchdog's period.
	Alive func() bool
	// Status is a line for people. nil: none.
	Status func() string
	// Every is the time between two status lines. 0: 30 s.
	Every  time.Duration
	Logger *slog.Logger
}

// Run runs p until ctx ends and tells the manager of it. The error is the
// program's own: a manager that cannot be told is logged, once.
func Run(ctx context.Context, p Program) error {
	var once sync.Once
	failed := func(err error) {
		if err != nil {
			once.Do(func() { p.Logger.Warn("the service manager cannot be told", "err", err) })
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()

	// The watchdog is not asked for while the program ends.
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { failed(Watch(watching, p.Alive)) })
	defer watch.Wait()
	defer stop()

	if p.Every <= 0 {
		p.Every = 30 * time.Second
	}
	status := func(states ...string) {
		if p.Status != nil {
			states = append(states, Status(p.Status()))
		}
		if len(states) > 0 {
			failed(Notify(states...))
		}
	}
	ready := p.Ready
	if ready == nil {
		now := make(chan struct{})
		close(now)
		ready = now
	}
	again := time.NewTicker(p.Every)
	defer again.Stop()
	served := false
	done := ctx.Done()
	for {
		select {
		case err := <-ended:
			if done != nil { // of its own accord
				failed(Notify(Stopping))
			}
			return err
		case <-done:
			done = nil
			failed(Notify(Stopping, Status("ending: what is pending is kept")))
		case <-ready:
			ready, served = nil, true
			if done != nil {
				status(Ready)
			}
		case <-again.C:
			if served && done != nil && p.Alive() {
				status()
			}
		}
	}
}

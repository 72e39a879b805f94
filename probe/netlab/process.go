package netlab

import (
	"bytes"
	"context"
	"os/exec"
	"runtime"
	"syscall"
)

// Cmd is an exec.Cmd whose process runs inside a node. It dies with the lab,
// and with the lab's owner, however that dies.
type Cmd struct {
	*exec.Cmd
	node *Node
}

// Command is exec.CommandContext inside the node: the process sees the node's
// network and everything else of the host.
func (n *Node) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.CommandContext(ctx, name, args...), node: n}
}

// Start is that of exec.Cmd. The caller must call Wait.
func (c *Cmd) Start() error {
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	// The kernel sends it when the thread that forked dies, not the process:
	// hence the lab's own thread for this.
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	return c.node.lab.onSpawner(func() error {
		return andBack(func() error {
			if err := c.node.ns.enter(); err != nil {
				return err
			}
			return c.Cmd.Start()
		})
	})
}

// Run is that of exec.Cmd.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// CombinedOutput is that of exec.Cmd.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var b bytes.Buffer
	c.Stdout, c.Stderr = &b, &b
	err := c.Run()
	return b.Bytes(), err
}

// Output is that of exec.Cmd, but leaves standard error to the caller.
func (c *Cmd) Output() ([]byte, error) {
	var b bytes.Buffer
	c.Stdout = &b
	err := c.Run()
	return b.Bytes(), err
}

// spawner runs what is sent to it on one thread, until the lab is closed.
func (l *Lab) spawner(work <-chan func()) {
	defer close(l.gone)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for f := range work {
		f()
	}
}

// onSpawner runs f on the spawner's thread.
func (l *Lab) onSpawner(f func() error) error {
	done := make(chan error, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.spawn <- func() { done <- f() }
	l.mu.Unlock()
	return <-done
}

// Package netlab builds small networks of Linux network namespaces on this
// machine: nodes, links of known rate, routes, real TCP between them. It is the
// ground truth that instruments are tested against, and the ground that the
// demonstration stands on.
//
// It guarantees that a shaped link carries what [PayloadRate] says, frame by
// frame, on a machine that does not stand still; that a lab leaves nothing behind after [Lab.Close]; and that what a
// killed lab left behind is cleared by the next [New] of the same name, while
// the labs of living owners are not touched.
//
// It refuses to guess privilege from a user id: it tries, and answers
// [ErrNotPermitted]. It runs no external program. Everything is IPv4.
package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// ErrNotPermitted is the answer when the kernel refuses namespaces, links or
// their settings to this process.
var ErrNotPermitted = errors.New("netlab: not permitted to build networks here" +
	" (needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which root has outside of a container)")

// ErrClosed is the answer of everything that belongs to a closed lab.
var ErrClosed = errors.New("netlab: the lab is closed")

var (
	labName  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	nodeName = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
)

// Options say how to open a lab.
type Options struct {
	// Name begins the name of every namespace, and is the name under which
	// [New] looks for the remains of dead labs: lower case letters, digits and
	// dashes, at most 32.
	Name string
	// Logger hears what was cleared and what could not be. Nil: nobody.
	Logger *slog.Logger
}

// Lab is a set of nodes and links with one owner: this process.
//
// Its namespaces are named LABEL-NODE, where LABEL is the lab's name, the
// owner's process id and, from the process's second lab on, a letter:
// pantau-1234-olt, pantau-1234b-olt. One more, named LABEL, claims the label.
type Lab struct {
	label string
	log   *slog.Logger

	mu        sync.Mutex
	closed    bool
	nodes     []*Node // the first is the claim
	links     []*Link
	emulators []*Emulator
	spawn     chan func() // to the thread that starts processes; nil once closed
	gone      chan struct{}
}

// New clears what dead labs of the same name left behind, then opens an empty
// lab. It tries everything that a lab needs, so that a process without the
// privilege learns it here, as [ErrNotPermitted]. The caller must call
// [Lab.Close].
func New(o Options) (*Lab, error) {
	if !labName.MatchString(o.Name) {
		return nil, fmt.Errorf("netlab: lab name %q: want a lower case letter, then at most 31 letters, digits and dashes", o.Name)
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := tryNamespace(); err != nil {
		return nil, refusal(fmt.Errorf("netlab: %w", err))
	}
	if err := prepareDirectory(); err != nil {
		return nil, refusal(fmt.Errorf("netlab: %w", err))
	}
	if err := clearDead(o.Name, log); err != nil {
		return nil, refusal(fmt.Errorf("netlab: clearing a dead lab: %w", err))
	}
	claim, err := claimLabel(o.Name)
	if err != nil {
		return nil, refusal(fmt.Errorf("netlab: %w", err))
	}
	l := &Lab{label: claim.name, log: log, spawn: make(chan func()), gone: make(chan struct{})}
	go l.spawner(l.spawn)
	if err := l.try(claim); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// claimLabel makes the namespace that claims the first free label of this
// process.
func claimLabel(name string) (*namespace, error) {
	for letter := 'a'; letter <= 'z'; letter++ {
		label := fmt.Sprintf("%s-%d", name, os.Getpid())
		if letter > 'a' {
			label += string(letter)
		}
		ns, err := newNamespace(label, label)
		if !errors.Is(err, fs.ErrExist) {
			return ns, err
		}
	}
	return nil, fmt.Errorf("this process has 26 labs named %q already", name)
}

// try makes the claim a node, then makes and removes a shaped link in it, so
// that a kernel without veth or tbf says so before anything is built.
func (l *Lab) try(claim *namespace) error {
	l.mu.Lock()
	n, err := l.addNode("claim", claim)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	k, err := l.Link(n, n, LinkOptions{NameA: "a", NameB: "b", RateAB: leastRate})
	if err != nil {
		return err
	}
	return k.remove()
}

// Label is the beginning that the names of this lab's namespaces share.
func (l *Lab) Label() string { return l.label }

// Close kills every process inside the lab's namespaces, then removes the
// links and the namespaces. A socket that the caller made inside and still
// holds keeps working only as a file: its node has no link any more. Close may
// be called twice; other calls after it answer [ErrClosed].
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	nodes, links, emulators := l.nodes, l.links, l.emulators
	close(l.spawn)
	l.mu.Unlock()
	<-l.gone

	var all []*namespace
	for _, n := range nodes {
		all = append(all, n.ns)
	}
	errs := []error{killInside(all...)}
	for _, e := range emulators {
		errs = append(errs, e.Close())
	}
	for _, k := range slices.Backward(links) {
		errs = append(errs, k.remove())
	}
	for _, n := range slices.Backward(nodes) {
		errs = append(errs, n.close())
	}
	return errors.Join(errs...)
}

// refusal marks err as ErrNotPermitted if the kernel's answer means that.
func refusal(err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) { // EROFS: /proc/sys of a container
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}

package netlab

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// directory is where iproute2 looks for named namespaces.
const directory = "/run/netns"

// mark begins the alias of the loopback interface of every namespace of ours,
// followed by the lab's label: a namespace without it was made by others.
const mark = "netlab "

// namespace is a named network namespace. Its descriptor holds an exclusive
// flock on the namespace's own inode: the kernel drops it when the owner dies,
// however it dies, and never before. That, not a process id that may have been
// given to another process since, tells a dead lab from a living one.
type namespace struct {
	name string
	ino  uint64

	mu sync.RWMutex // held for reading while fd is in use
	fd netns.NsHandle
}

// newNamespace makes a namespace that belongs to the lab with this label, with
// its loopback up. It answers fs.ErrExist if the name is taken.
func newNamespace(name, label string) (*namespace, error) {
	ns := &namespace{name: name, fd: netns.None()}
	err := aside(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		fd, err := netns.Get()
		if err != nil {
			return err
		}
		ns.fd = fd
		if err := ns.lock(); err != nil {
			return err
		}
		if err := markLoopback(label); err != nil {
			return err
		}
		return publish(name)
	})
	if err != nil {
		ns.fd.Close()
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return ns, nil
}

// lock takes the namespace for this process, or answers unix.EWOULDBLOCK
// because a living owner has it.
func (ns *namespace) lock() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.fd), &st); err != nil {
		return err
	}
	ns.ino = st.Ino
	return unix.Flock(int(ns.fd), unix.LOCK_EX|unix.LOCK_NB)
}

func markLoopback(label string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := h.LinkSetAlias(lo, mark+label); err != nil {
		return err
	}
	return h.LinkSetUp(lo)
}

// publish gives the calling thread's namespace a name that iproute2 sees.
func publish(name string) error {
	path := filepath.Join(directory, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("mount on %s: %w", path, err), os.Remove(path))
	}
	return nil
}

// do runs f on a thread of its own inside the namespace and waits for it.
func (ns *namespace) do(f func() error) error {
	return aside(func() error {
		if err := ns.enter(); err != nil {
			return err
		}
		return f()
	})
}

// enter moves the calling thread into the namespace.
func (ns *namespace) enter() error {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	if !ns.fd.IsOpen() {
		return ErrClosed
	}
	if err := netns.Set(ns.fd); err != nil {
		return fmt.Errorf("enter namespace %s: %w", ns.name, err)
	}
	return nil
}

// remove takes away the namespace's links and its name. It ends with the last
// process or socket inside; without links that is an island.
func (ns *namespace) remove() error {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	if !ns.fd.IsOpen() {
		return nil
	}
	path := filepath.Join(directory, ns.name)
	errs := []error{ns.removeLinks(), ignoring(unix.Unmount(path, unix.MNT_DETACH), unix.EINVAL, unix.ENOENT),
		ignoring(os.Remove(path), fs.ErrNotExist), ns.fd.Close()}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("netlab: remove namespace %s: %w", ns.name, err)
	}
	return nil
}

func (ns *namespace) removeLinks() error {
	h, err := netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		return err
	}
	for _, k := range links {
		if k.Type() == "veth" {
			err = errors.Join(err, ignoring(h.LinkDel(k), unix.ENODEV))
		}
	}
	return err
}

// aside runs f on a thread of its own, brings the thread home to the namespace
// it came from, and waits. A thread that cannot be brought home is discarded.
func aside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errors.New("netlab: the function ended its goroutine")
		defer func() { done <- err }()
		err = andBack(f)
	}()
	return <-done
}

// andBack runs f on this goroutine's thread, which f may move to another
// namespace. If the thread cannot be brought back it stays locked, so that it
// dies with the goroutine.
func andBack(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer func() {
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
	}()
	return f()
}

// tryNamespace makes a namespace that has no name and ends at once.
func tryNamespace() error {
	return aside(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		return nil
	})
}

// prepareDirectory makes the directory of named namespaces a shared mount, as
// the first "ip netns add" does: otherwise that command, run while a lab
// stands, would mount the directory over itself and pin the lab's namespaces.
func prepareDirectory() error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	d, err := os.Open(directory)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX); err != nil { // iproute2 takes the same lock
		return err
	}
	share := func() error { return unix.Mount("", directory, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err = share()
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err := unix.Mount(directory, directory, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s on itself: %w", directory, err)
		}
		err = share()
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", directory, err)
	}
	return nil
}

// clearDead removes the namespaces of dead labs of this name, with the
// processes and links inside.
func clearDead(name string, log *slog.Logger) error {
	ours := regexp.MustCompile(`^(` + regexp.QuoteMeta(name) + `-([0-9]+)[b-z]?)(?:-[a-z][a-z0-9]*)?$`)
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	var dead []*namespace
	var errs []error
	for _, e := range entries {
		m := ours.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		pid, _ := strconv.Atoi(m[2])
		ns, err := takeDead(e.Name(), m[1], pid)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
		}
		if ns != nil {
			dead = append(dead, ns)
		}
	}
	errs = append(errs, killInside(dead...))
	for _, ns := range dead {
		log.Info("clearing a namespace whose lab is dead", "namespace", ns.name)
		errs = append(errs, ns.remove())
	}
	return errors.Join(errs...)
}

// takeDead locks the named namespace if it is of a dead lab with this label,
// and answers nil if it is not.
func takeDead(name, label string, pid int) (*namespace, error) {
	path := filepath.Join(directory, name)
	fd, err := netns.GetFromPath(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // its owner was quicker
	}
	if err != nil {
		return nil, err
	}
	ns := &namespace{name: name, fd: fd}
	keep, err := ns.isDead(path, label, pid)
	if !keep {
		ns.fd.Close()
		ns = nil
	}
	return ns, err
}

func (ns *namespace) isDead(path, label string, pid int) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(ns.fd), &st); err != nil {
		return false, err
	}
	if st.Type != unix.NSFS_MAGIC {
		// Killed between making the file and mounting the namespace on it.
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return false, ignoring(os.Remove(path), fs.ErrNotExist)
		}
		return false, nil
	}
	if err := ns.lock(); err != nil {
		return false, ignoring(err, unix.EWOULDBLOCK)
	}
	h, err := netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE)
	if err != nil {
		return false, err
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err != nil {
		return false, err
	}
	return lo.Attrs().Alias == mark+label, nil
}

// killPatience bounds the wait for killed processes to leave.
const killPatience = 5 * time.Second

// killInside kills all processes inside the namespaces, this one excepted, and
// waits until they have left.
func killInside(spaces ...*namespace) error {
	if len(spaces) == 0 {
		return nil
	}
	inside := make(map[uint64]bool, len(spaces))
	for _, ns := range spaces {
		inside[ns.ino] = true
	}
	for deadline := time.Now().Add(killPatience); ; {
		left, err := killOnce(inside)
		if err != nil || left == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("netlab: %d processes did not die within %v", left, killPatience)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func killOnce(inside map[uint64]bool) (left int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() || !livesIn(pid, inside) {
			continue
		}
		// A process id may be given away between looking and killing; a
		// pidfd may not.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it died meanwhile
		}
		if livesIn(pid, inside) {
			left++
			unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
	}
	return left, nil
}

func livesIn(pid int, inside map[uint64]bool) bool {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)) // "net:[4026531840]"
	if err != nil {
		return false // dead, or a zombie
	}
	text := strings.TrimSuffix(strings.TrimPrefix(link, "net:["), "]")
	ino, err := strconv.ParseUint(text, 10, 64)
	return err == nil && inside[ino]
}

// ignoring is err, or nil if it is one of the harmless ones.
func ignoring(err error, harmless ...error) error {
	for _, h := range harmless {
		if errors.Is(err, h) {
			return nil
		}
	}
	return err
}

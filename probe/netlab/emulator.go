package netlab

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// EmulatorOptions say what an emulated link does.
type EmulatorOptions struct {
	AB, BA Path
	// Seed draws the losses and the jitter: the same seed, the same draws in the
	// same order of frames.
	Seed uint64
}

// Emulator joins two ports of one node as a link would, frame by frame in user
// space. Its paths can do what the kernel's shaper cannot: delay, jitter, loss.
// Each direction costs a thread and, per frame, some 10 µs of a processor: it
// is for some ten Mbit/s, and says itself whether it kept up ([Emulator.Report]).
type Emulator struct {
	ways [2]*way // a to b, b to a
	stop int     // eventfd that ends them
	once sync.Once
	done sync.WaitGroup
}

// Emulate joins the ports a and b, which must be of the same node, have no
// address, and stay as they are until [Emulator.Close] or [Lab.Close].
func (l *Lab) Emulate(a, b *Port, o EmulatorOptions) (*Emulator, error) {
	if a.Node != b.Node || a == b || a.Addr.IsValid() || b.Addr.IsValid() {
		return nil, errors.New("netlab: emulate: want two ports of one node, without addresses")
	}
	for _, p := range []Path{o.AB, o.BA} {
		if err := p.check(); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	var fds []int
	closing := func(err error) error {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return refusal(fmt.Errorf("netlab: emulate %s - %s: %w", a.Name, b.Name, err))
	}
	err := a.Node.Do(func() error {
		for _, p := range []*Port{a, b} {
			fd, err := frameSocket(p.link.Attrs().Index)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		return nil
	})
	if err != nil {
		return nil, closing(err)
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return nil, closing(err)
	}
	e := &Emulator{stop: stop, ways: [2]*way{
		{in: fds[0], out: fds[1], stop: stop, course: newCourse(o.AB, 2*o.Seed)},
		{in: fds[1], out: fds[0], stop: stop, course: newCourse(o.BA, 2*o.Seed+1)},
	}}
	for _, w := range e.ways {
		e.done.Go(w.run)
	}
	l.emulators = append(l.emulators, e)
	return e, nil
}

// SetRates changes the rates, in bits per second of frames. 0 leaves one as it is.
func (e *Emulator) SetRates(ab, ba float64) {
	for i, rate := range []float64{ab, ba} {
		if rate != 0 {
			e.ways[i].rate.Store(int64(min(max(rate, leastRate), mostRate)))
		}
	}
	// The threads look again with the next frame, which on a link that is measured
	// is at once.
}

// Close ends the emulation: nothing passes any more. It may be called twice.
func (e *Emulator) Close() error {
	e.once.Do(func() {
		unix.Write(e.stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		e.done.Wait()
		unix.Close(e.stop)
		for _, w := range e.ways {
			unix.Close(w.in) // the other's out
		}
	})
	return nil
}

// WayReport is what became of the frames of one direction.
type WayReport struct {
	Passed  uint64 // frames
	Lost    uint64 // by Loss and bursts
	Dropped uint64 // for lack of room in the queue
	Missed  uint64 // by this machine: no frame should ever be
	// Late counts the frames that left more than so long after their time; Worst
	// is the latest.
	Late1ms, Late5ms, Late20ms uint64
	Worst                      time.Duration
}

// EmulatorReport is what became of both directions' frames since the start or
// the last [Emulator.Reset].
type EmulatorReport struct{ AB, BA WayReport }

// Report may be called at any time.
func (e *Emulator) Report() EmulatorReport {
	return EmulatorReport{e.ways[0].report(), e.ways[1].report()}
}

// Reset begins a new account.
func (e *Emulator) Reset() {
	for _, w := range e.ways {
		w.mu.Lock()
		w.tally = WayReport{}
		w.mu.Unlock()
	}
}

// What a report may show at most of this machine's own slowness for the link to
// have been the link that was asked for: 5% of the frames more than 5 ms late,
// one in two hundred more than 20 ms, none more than 150 ms (three quarters of
// the usual queue), and not one missed. Rate and queue are kept by a clock of their
// own and do not suffer from lateness: what does is the round trip.
const (
	mostLate5ms  = 0.05
	mostLate20ms = 0.005
	mostWorst    = 150 * time.Millisecond
)

// Sound says nil, or what made the link another one than was asked for.
func (r EmulatorReport) Sound() error {
	for _, w := range []WayReport{r.AB, r.BA} {
		switch n := float64(max(w.Passed, 1)); {
		case w.Missed > 0:
			return fmt.Errorf("netlab: the emulator missed %d of %d frames", w.Missed, w.Passed)
		case float64(w.Late5ms) > mostLate5ms*n:
			return fmt.Errorf("netlab: %.2f%% of the frames were more than 5 ms late", float64(w.Late5ms)/n*100)
		case float64(w.Late20ms) > mostLate20ms*n:
			return fmt.Errorf("netlab: %.2f%% of the frames were more than 20 ms late", float64(w.Late20ms)/n*100)
		case w.Worst > mostWorst:
			return fmt.Errorf("netlab: a frame was %v late", w.Worst.Round(time.Millisecond))
		}
	}
	return nil
}

// way is one direction: a thread that waits for frames and for their time.
type way struct {
	in, out, stop int // descriptors
	course        *course
	rate          atomic.Int64 // asked for and not yet taken over; 0: none

	mu    sync.Mutex
	tally WayReport
}

func (w *way) report() WayReport {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tally
}

const (
	// virtioHeader precedes every frame: with it a checksum that the sender left
	// to the network card, which there is not, is still left open at the receiver.
	virtioHeader = 10
	largestFrame = virtioHeader + 2048
	// early is how much before its time a frame may leave: the kernel's timers
	// are later than that.
	early = 20 * time.Microsecond
	// atOnce bounds the frames that are read without looking at the clock.
	atOnce = 64
)

// run passes frames on until the emulator is closed.
func (w *way) run() {
	runtime.LockOSThread() // never unlocked: the thread ends, with its priority
	hurry()
	var (
		free [][]byte
		wait = []unix.PollFd{{Fd: int32(w.in), Events: unix.POLLIN}, {Fd: int32(w.stop), Events: unix.POLLIN}}
	)
	buffer := func() []byte {
		if n := len(free); n > 0 {
			b := free[n-1]
			free = free[:n-1]
			return b
		}
		return make([]byte, largestFrame)
	}
	b := buffer()
	for {
		now := monotonic()
		if rate := w.rate.Swap(0); rate != 0 {
			w.course.setRate(float64(rate), now)
		}
		for f, ok := w.course.due(now + int64(early)); ok; f, ok = w.course.due(now + int64(early)) {
			_, err := unix.Write(w.out, f.data)
			w.passed(time.Duration(now-f.at), err)
			free = append(free, f.data[:cap(f.data)])
		}
		more := true
		for range atOnce {
			n, _, err := unix.Recvfrom(w.in, b, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
			if err != nil || n <= virtioHeader {
				more = false
				break
			}
			if n > len(b) { // many as one: the link was made with Offload
				w.passed(0, unix.EMSGSIZE)
				continue
			}
			data := b[virtioHeader:n]
			arp := len(data) > 13 && data[12] == 8 && data[13] == 6
			if w.course.admit(frame{data: b[:n], size: n - virtioHeader}, now, arp) {
				b = buffer()
			}
		}
		if more {
			continue
		}
		w.course.looked = now
		w.account()
		timeout := unix.NsecToTimespec(int64(time.Second))
		if at, ok := w.course.next(); ok {
			timeout = unix.NsecToTimespec(max(at-monotonic(), 0))
		}
		unix.Ppoll(wait, &timeout, nil)
		if wait[1].Revents != 0 {
			return
		}
	}
}

// passed counts a frame that left so late.
func (w *way) passed(late time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := &w.tally
	t.Passed++
	if err != nil {
		t.Missed++
	}
	if late > time.Millisecond {
		t.Late1ms++
	}
	if late > 5*time.Millisecond {
		t.Late5ms++
	}
	if late > 20*time.Millisecond {
		t.Late20ms++
	}
	t.Worst = max(t.Worst, late)
}

// account takes over what the course and the kernel counted.
func (w *way) account() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.Lost += w.course.lost
	w.tally.Dropped += w.course.dropped
	w.course.lost, w.course.dropped = 0, 0
	if s, err := unix.GetsockoptTpacketStats(w.in, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		w.tally.Missed += uint64(s.Drops) // the kernel's own count begins anew
	}
}

// frameSocket opens a socket for the frames of an interface of the calling
// thread's namespace.
func frameSocket(index int) (fd int, err error) {
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // network byte order
	if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	const room = 64 << 20 // bytes; what comes while this machine is elsewhere
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room},
	} {
		if err = unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	if err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// hurry puts the calling thread before the ordinary ones, where that is
// permitted: it sleeps nearly always, and is late whenever it has to queue.
func hurry() {
	const roundRobin = 2 // sched(7) SCHED_RR
	err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: roundRobin, Priority: 5}, 0)
	if err != nil {
		unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), -10)
	}
}

func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

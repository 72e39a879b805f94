package netlab

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Path is what an emulated link does to frames in one direction: it loses some,
// passes the others through a queue of a certain rate, then delays them. It
// never changes their order.
type Path struct {
	// Rate is in bits per second of Ethernet frames without checksum: see
	// [PayloadRate]. 0: as fast as they come.
	Rate float64
	// Queue is how long a full queue takes to empty; what comes on top is
	// dropped. 0: [DefaultQueue]. At least ten frames fit.
	Queue time.Duration
	// Police has what is above Rate dropped instead of queued: Queue is then how
	// long the line may be idle and make up for it.
	Police bool
	// Delay is added to every frame; Jitter up to so much more, evenly spread. Order is
	// kept, so jitter waits for the frame before.
	Delay, Jitter time.Duration
	// Loss is the share of frames lost independently, 0 to 1.
	Loss float64
	// BurstEnter and BurstLeave are Gilbert and Elliott's chances, per frame, to
	// enter and to leave a state in which all is lost.
	BurstEnter, BurstLeave float64
}

func (p Path) check() error {
	for _, share := range []float64{p.Loss, p.BurstEnter, p.BurstLeave} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("netlab: path: %g is no share", share)
		}
	}
	if p.BurstEnter > 0 && p.BurstLeave == 0 {
		return fmt.Errorf("netlab: path: a burst of loss that never ends")
	}
	if p.Rate != 0 && !(p.Rate >= leastRate && p.Rate <= mostRate) {
		return fmt.Errorf("netlab: path: rate %g bit/s: want 0 or %g to %g", p.Rate, leastRate, mostRate)
	}
	for _, d := range []time.Duration{p.Queue, p.Delay, p.Jitter} {
		if d < 0 || d > 10*time.Second {
			return fmt.Errorf("netlab: path: %v: want 0 to 10 s", d)
		}
	}
	return nil
}

// credit is how far back a frame may be taken to have arrived at a line that was
// free: what a late look may make up for, as [DefaultBurst] of a shaped link.
const credit = 20 * time.Millisecond

// frame is one on its way. Times are nanoseconds of the monotonic clock.
type frame struct {
	data    []byte
	size    int   // bytes that count on the line
	arrived int64 // when it was seen
	at      int64 // when it is to leave
}

// course decides the fate of the frames of one direction. It knows no clock and
// no socket: all its methods are told the time, which never falls.
type course struct {
	path   Path
	random *rand.Rand
	bursts bool // in a state that loses all

	queue  fifo[frame]
	queued int   // bytes
	free   int64 // when the line has sent what it has taken
	looked int64 // when it was last seen that nothing waits to come in

	line fifo[frame] // sent, under way
	last int64       // when the latest of them leaves

	lost, dropped uint64 // frames
}

func newCourse(p Path, seed uint64) *course {
	if p.Queue == 0 {
		p.Queue = DefaultQueue
	}
	return &course{path: p, random: rand.New(rand.NewPCG(seed, 0))}
}

// admit takes a frame that was seen at now, or says that it is gone. precious
// frames are never lost: without address resolution there is nothing to measure.
func (c *course) admit(f frame, now int64, precious bool) bool {
	c.serve(now)
	if !precious && c.loses() {
		c.lost++
		return false
	}
	f.arrived = now
	if c.path.Rate == 0 {
		c.depart(f, now)
		return true
	}
	room := max(int(c.path.Rate/8*c.path.Queue.Seconds()), leastQueue)
	if c.path.Police {
		room = max(int(c.path.Rate/8*c.path.Queue.Seconds()), leastBurst)
		c.free = max(c.free, now)
		if ahead := int(float64(c.free-now) * c.path.Rate / 8e9); ahead+f.size > room {
			c.dropped++
			return false
		}
		c.free += c.time(f.size)
		c.depart(f, now)
		return true
	}
	if c.queued+f.size > room {
		c.dropped++
		return false
	}
	if c.queue.len() == 0 {
		c.free = max(c.free, c.looked, now-int64(credit))
	}
	c.queued += f.size
	c.queue.push(f)
	c.serve(now)
	return true
}

// loses draws a frame's lot.
func (c *course) loses() bool {
	if c.path.BurstEnter > 0 {
		if c.bursts {
			c.bursts = c.random.Float64() >= c.path.BurstLeave
		} else {
			c.bursts = c.random.Float64() < c.path.BurstEnter
		}
		if c.bursts {
			return true
		}
	}
	return c.path.Loss > 0 && c.random.Float64() < c.path.Loss
}

// time is how long size bytes take, in nanoseconds.
func (c *course) time(size int) int64 { return int64(float64(size) * 8e9 / c.path.Rate) }

// serve sends what the line could send until now.
func (c *course) serve(now int64) {
	for c.queue.len() > 0 {
		f := c.queue.front()
		done := c.free
		if c.path.Rate > 0 {
			done += c.time(f.size)
		}
		if done > now {
			return
		}
		c.free = done
		c.queued -= f.size
		c.depart(c.queue.pop(), done)
	}
}

// depart puts a frame that was sent at the instant sent onto the delay line.
func (c *course) depart(f frame, sent int64) {
	f.at = max(sent, f.arrived) + int64(c.path.Delay)
	if c.path.Jitter > 0 {
		f.at += int64(c.random.Float64() * float64(c.path.Jitter))
	}
	f.at = max(f.at, c.last)
	c.last = f.at
	c.line.push(f)
}

// due returns the next frame that is to leave by now.
func (c *course) due(now int64) (frame, bool) {
	c.serve(now)
	if c.line.len() == 0 || c.line.front().at > now {
		return frame{}, false
	}
	return c.line.pop(), true
}

// next is when something is to be done without a new frame; ok is false for never.
func (c *course) next() (at int64, ok bool) {
	if c.line.len() > 0 {
		at, ok = c.line.front().at, true
	}
	if c.queue.len() > 0 {
		sent := c.free + c.time(c.queue.front().size)
		if !ok || sent < at {
			at, ok = sent, true
		}
	}
	return at, ok
}

// setRate changes the rate of what is not sent yet. 0 is not for a queue that
// has had a rate.
func (c *course) setRate(bitsPerSecond float64, now int64) {
	c.serve(now)
	c.path.Rate = bitsPerSecond
}

// fifo is a queue in a ring that grows.
type fifo[T any] struct {
	ring        []T
	head, count int
}

func (q *fifo[T]) len() int { return q.count }

func (q *fifo[T]) front() *T { return &q.ring[q.head] }

func (q *fifo[T]) push(v T) {
	if q.count == len(q.ring) {
		bigger := make([]T, max(64, 2*len(q.ring)))
		n := copy(bigger, q.ring[q.head:])
		copy(bigger[n:], q.ring[:q.head])
		q.ring, q.head = bigger, 0
	}
	q.ring[(q.head+q.count)%len(q.ring)] = v
	q.count++
}

func (q *fifo[T]) pop() T {
	v := q.ring[q.head]
	var none T
	q.ring[q.head] = none
	q.head = (q.head + 1) % len(q.ring)
	q.count--
	return v
}

package engine

import (
	"math"
	"time"
)

// The rules of the method; METHOD.md says why.
const (
	firstStreams = 8
	mostStreams  = 16
	longWay      = 150 * time.Millisecond
	// worthwhile is the rise of the sum, as a ratio, that counts as one.
	worthwhile = 0.03
	// plateau is the rise below which twice the streams brought nothing, where
	// nothing is lost: without a line that holds them it would be 1.
	plateau = 0.10
	// lossy is the share of segments sent again from which on losses may hold the
	// streams; answering is by how much, at least, the losses of a full line grow
	// with twice the streams: for each to have half, where TCP's rate falls with
	// the root of the loss, up to four times as much must be dropped.
	lossy     = 0.001
	answering = 1.1

	windows = 4 // that must agree for an early end
	// agreement is how far apart the highest and the lowest of them may be, as a
	// ratio of their mean.
	agreement = 2 * 0.025
	// alike is how far apart the windows of a full line are at most.
	alike       = 2 * 0.01
	leastWindow = 500 * time.Millisecond
	// windowBytes is how much a window holds at least, or it is a sixth of the limit:
	// a segment is about a hundredth of it.
	windowBytes = 128 << 10
	windowRTTs  = 3
	lookEvery   = 50 * time.Millisecond
	// skipped is never measured: connections begin, windows open, and a shaper gives
	// what it had saved up.
	skipped = 500 * time.Millisecond

	// A queue stands where round trips take this much longer than the shortest one.
	standingQueue = 20 * time.Millisecond
	// Those of TCP wait for delayed acknowledgements: where the way is long, so much
	// of the shortest one, but not more than is waited there.
	standingShare = 0.15
	standingMost  = 50 * time.Millisecond
)

// mostly is the share of looks that says most of the time.
const mostly = 0.5

// stopReason says why a transfer ended.
type stopReason string

const (
	stopStable stopReason = "stable" // four windows agreed
	stopLimit  stopReason = "limit"  // the time was over
	stopBytes  stopReason = "bytes"  // the bytes were spent
)

// queued reports whether a queue stood: round trips take longer than the
// shortest one, and longer than they ever do at rest.
func (p Look) queued(rest time.Duration) (yes, known bool) {
	if p.RTT == 0 || p.MinRTT == 0 {
		return false, false
	}
	more := standingQueue
	if !p.Echo {
		more = max(more, min(time.Duration(float64(p.MinRTT)*standingShare), standingMost))
	}
	return p.RTT > max(rest, p.MinRTT+more), true
}

// course decides, from what has passed, when streams are added and when the
// transfer ends. It knows no clock and no socket: all it knows it is told.
type course struct {
	limit     time.Duration
	mostBytes int64
	full      bool          // no early end
	rest      time.Duration // the 95th percentile of round trips before the transfer; 0: not known

	passed series
	looks  []Look

	streams int
	grown   bool          // no further step
	stepped bool          // there was one, from firstStreams to mostStreams
	changed time.Duration // when
	before  float64       // the sum's rate before it, bits per second
	loss    float64       // and the share of segments sent again
	sent    float64       // of so many
	rise    float64       // what it brought, as a ratio
}

func newCourse(limit time.Duration, mostBytes int64, full bool) *course {
	return &course{limit: limit, mostBytes: mostBytes, full: full, streams: firstStreams}
}

// begins tells what a round trip takes before the transfer: on a long way all
// streams run at once. There a stream needs many seconds to make up for a loss, the
// longer the larger its window, and a comparison of eight with sixteen would need
// more time than there is.
func (c *course) begins(idle time.Duration) {
	if idle >= longWay {
		c.streams = mostStreams
	}
}

// order is what is to be done.
type order struct {
	streams int        // so many are to run
	stop    stopReason // empty: go on
	from    time.Duration
	to      time.Duration // what is measured, if it stops
	steady  bool          // the windows of the interval agreed
	rising  bool          // each is above the one before, further than they may lie apart
	queued  bool          // a queue stood all along
}

// minRTT is the shortest round trip known.
func (c *course) minRTT() time.Duration {
	var m time.Duration
	for _, p := range c.looks {
		if p.MinRTT > 0 && (m == 0 || p.MinRTT < m) {
			m = p.MinRTT
		}
	}
	return m
}

// window is the length of one.
func (c *course) window() time.Duration {
	w := max(leastWindow, min(windowRTTs*c.minRTT(), c.limit/(2*windows)))
	if t := c.passed.end(); t > leastWindow {
		if rate := c.passed.rate(0, t) / 8; rate > 0 {
			w = max(w, min(time.Duration(windowBytes/rate*float64(time.Second)), c.limit/6))
		}
	}
	return w
}

// settle is how long the sum takes to show what a change of streams brought.
func (c *course) settle() time.Duration { return c.window() }

// queuedShare is the share of looks between two instants at which a queue stood.
// known is false if nobody could tell.
func (c *course) queuedShare(from, to time.Duration) (share float64, known bool) {
	var n, q int
	for _, p := range c.looks {
		if p.At < from || p.At > to {
			continue
		}
		if yes, ok := p.queued(c.rest); ok {
			n++
			if yes {
				q++
			}
		}
	}
	if n == 0 {
		return 0, false
	}
	return float64(q) / float64(n), true
}

// queues reports whether a queue stood for most of the time between two instants.
func (c *course) queues(from, to time.Duration) bool {
	share, known := c.queuedShare(from, to)
	return known && share >= mostly
}

// lost is the share of segments sent again between two instants, and of how many.
func (c *course) lost(from, to time.Duration) (share, segments float64) {
	var first, last *Look
	for i := range c.looks {
		p := &c.looks[i]
		if p.At >= from && first == nil {
			first = p
		}
		if p.At <= to {
			last = p
		}
	}
	if first == nil || last == nil || last.Segments <= first.Segments {
		return 0, 0
	}
	segments = float64(last.Segments - first.Segments)
	return float64(last.Again-first.Again) / segments, segments
}

// next looks at what is known.
func (c *course) next() order {
	t, w := c.passed.end(), c.window()
	since := t
	if c.stepped {
		since = t - c.changed - c.settle()
	}
	// The end that nothing can put off.
	switch {
	case t >= c.limit:
		return c.last(stopLimit)
	case c.mostBytes > 0 && c.passed.total() >= c.mostBytes:
		return c.last(stopBytes)
	}
	if !c.grown && since >= 2*w {
		c.grow(t, w)
	}
	if !c.full && since >= windows*w && t >= skipped+windows*w {
		from := t - windows*w
		mean, spread, rising := c.spread(t, w)
		queued, held := c.queues(from, t), c.filled(t, w, spread)
		compared := c.grown || c.streams == mostStreams && !c.stepped
		if mean > 0 && spread < agreement && !(rising && spread > worthwhile) && (held || compared && !queued) {
			return order{streams: c.streams, stop: stopStable, from: from, to: t, steady: true, queued: held}
		}
	}
	return order{streams: c.streams}
}

// grow decides whether more streams may bring more: they may where no queue
// stands before the line and the sum no longer rises by itself.
func (c *course) grow(t, w time.Duration) {
	if c.stepped {
		c.rise = c.passed.rate(t-2*w, t)/c.before - 1
		c.grown = true
		return
	}
	if c.streams == mostStreams || c.queues(t-2*w, t) {
		return
	}
	now, before := c.passed.rate(t-w, t), c.passed.rate(t-2*w, t-w)
	if now > before*(1+worthwhile) && t < c.limit/3 {
		return
	}
	c.before = c.passed.rate(t-2*w, t)
	c.loss, c.sent = c.lost(t-2*w, t)
	c.streams, c.changed, c.stepped = mostStreams, t, true
}

// spread looks at the four windows of length w before t: how far apart the highest
// and the lowest are, as a ratio of their mean, and whether each is above the one
// before.
func (c *course) spread(t, w time.Duration) (mean, spread float64, rising bool) {
	from := t - windows*w
	var low, high, last float64
	rising = true
	for i := range time.Duration(windows) {
		r := c.passed.rate(from+i*w, from+(i+1)*w)
		if i == 0 {
			low, high = r, r
		} else if r <= last {
			rising = false
		}
		low, high, last = min(low, r), max(high, r), r
	}
	if mean = c.passed.rate(from, t); mean > 0 {
		spread = (high - low) / mean
	}
	return mean, spread, rising
}

// filled reports whether a queue stood all through the four windows before t: for
// most of the time, and for most of each window unless they are so much alike that
// the line must have been full between queues as well.
func (c *course) filled(t, w time.Duration, spread float64) bool {
	if !c.queues(t-windows*w, t) {
		return false
	}
	for i := range time.Duration(windows) {
		if share, known := c.queuedShare(t-(i+1)*w, t-i*w); spread >= alike && known && share < mostly {
			return false
		}
	}
	return true
}

// last is what is measured when the transfer must end: half of its time, in four
// windows; of all such stretches the one whose windows agree best, rather where a
// queue stood than where none did. Slow start, a change of streams and the time
// after many losses make windows differ; none of this is the line's. Where there was
// to be no early end, it is everything from the first quarter or the fourth window
// on.
func (c *course) last(why stopReason) order {
	t := c.passed.end()
	w := t / (2 * windows)
	least := w // the first window is slow start
	if c.full {
		least = max(t/4, min((windows-1)*c.window(), t/2))
	}
	if c.stepped {
		least = max(least, min(c.changed+c.settle(), t/2))
	}
	if c.full {
		w = (t - least) / windows
	}
	o := order{streams: c.streams, stop: why, from: t - windows*w, to: t}
	best := math.Inf(1)
	for to := least + windows*w; to <= t; to += lookEvery {
		mean, spread, rising := c.spread(to, w)
		queued := c.filled(to, w, spread)
		if mean > 0 && (queued && !o.queued || queued == o.queued && spread <= best) {
			o.from, o.to, o.rising, o.queued = to-windows*w, to, rising && spread > agreement, queued
			best = spread
		}
	}
	if c.stepped && !c.grown && c.before > 0 {
		c.rise = c.passed.rate(o.from, o.to)/c.before - 1 // there was no time for more
	}
	o.steady = best < 2*agreement
	return o
}

// saturated reports whether the line, and not the streams, held the rate. It is
// so if a queue stood before it all through the interval. Without one it is not if
// the rate was still on its way up. Else the losses tell: those of a full line grow with the
// streams, those of a bad one do not, and hold every stream down. Without either,
// twice the streams would have brought more; where there was no such comparison,
// nobody can say that the line was full.
func (c *course) saturated(o order) bool {
	_, known := c.queuedShare(o.from, o.to)
	loss, sent := c.lost(o.from, o.to)
	switch {
	case o.queued:
		return true
	case o.rising:
		return false
	case !c.stepped:
		return !known && sent == 0 // nothing is known of the way at all
	case loss >= lossy:
		return c.rise < plateau && c.sent > 0 && loss > answering*c.loss && loss-c.loss > 2*deviation(loss, sent, c.loss, c.sent)
	}
	return c.rise < plateau
}

// deviation is that of the difference of two shares, of so many each.
func deviation(p, n, q, m float64) float64 { return math.Sqrt(p*(1-p)/n + q*(1-q)/m) }

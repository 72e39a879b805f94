package engine

import (
	"sort"
	"time"
)

// series is what passed, over time: both rise. It is not safe for concurrent use.
type series []Point

// add appends a point. One that does not come after the last is dropped: it says
// nothing new.
func (s *series) add(p Point) {
	if n := len(*s); n > 0 && (p.At <= (*s)[n-1].At || p.Bytes < (*s)[n-1].Bytes) {
		return
	}
	*s = append(*s, p)
}

// end is the instant of the last point.
func (s series) end() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].At
}

// total is the bytes of the last point.
func (s series) total() int64 {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].Bytes
}

// bytesAt interpolates.
func (s series) bytesAt(t time.Duration) float64 {
	i := sort.Search(len(s), func(i int) bool { return s[i].At >= t })
	switch {
	case len(s) == 0:
		return 0
	case i == 0:
		return float64(s[0].Bytes)
	case i == len(s):
		return float64(s[len(s)-1].Bytes)
	}
	a, b := s[i-1], s[i]
	return float64(a.Bytes) + float64(b.Bytes-a.Bytes)*float64(t-a.At)/float64(b.At-a.At)
}

// rate is the mean between two instants, in bits per second.
func (s series) rate(from, to time.Duration) float64 {
	if to <= from {
		return 0
	}
	return (s.bytesAt(to) - s.bytesAt(from)) * 8 / (to - from).Seconds()
}

// moved is when the last byte passed.
func (s series) moved() time.Duration {
	for i := len(s) - 1; i > 0; i-- {
		if s[i].Bytes > s[i-1].Bytes {
			return s[i].At
		}
	}
	return 0
}

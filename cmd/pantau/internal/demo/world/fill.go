package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// fillStreams is how many connections share a line that is filled: as in a
// village where many watch at once, so that none waits for another's loss.
const fillStreams = 4

// Fill lets a village's people fetch from pusat all that their drop line
// carries, through the box's interface, until ctx is done. It answers the bytes
// that arrived. It is an error if it cannot begin, or if a connection breaks
// before ctx is done.
func (w *World) Fill(ctx context.Context, v *Village) (received int64, err error) {
	l, err := w.Pusat.Listen("tcp", net.JoinHostPort(w.PusatAddress.String(), "0"))
	if err != nil {
		return 0, fmt.Errorf("world: fill the line of %s: %w", v.Code, err)
	}
	g, streams := errgroup.WithContext(ctx)
	closing := func(c io.Closer) (stop func() bool) {
		return context.AfterFunc(streams, func() { c.Close() })
	}
	defer closing(l)()
	var total atomic.Int64
	for range fillStreams {
		g.Go(func() error {
			c, err := l.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			defer closing(c)()
			chunk := make([]byte, 64<<10)
			for {
				if _, err := c.Write(chunk); err != nil {
					return err
				}
			}
		})
		g.Go(func() error {
			c, err := v.Box.DialContext(streams, "tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			defer closing(c)()
			n, err := io.Copy(counting{&total}, c)
			if err == nil {
				err = fmt.Errorf("ended after %d bytes: %w", n, io.ErrUnexpectedEOF)
			}
			return err
		})
	}
	err = g.Wait()
	l.Close()
	if ctx.Err() != nil && (errors.Is(err, net.ErrClosed) || errors.Is(err, ctx.Err())) {
		err = nil // ended as asked
	}
	if err != nil {
		err = fmt.Errorf("world: fill the line of %s: %w", v.Code, err)
	}
	return total.Load(), err
}

// counting takes bytes and counts them.
type counting struct{ n *atomic.Int64 }

func (c counting) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

package target

import (
	"bufio"
	"bytes"
	"fmt"
	"time"
)

// maxLine is the longest line in bytes. A client's id is a UUID.
const maxLine = 128

// maxLines is how many a connection may send.
const maxLines = 10_000

// lineProtocol is Ookla's TCP ping: lines ended by LF (CR LF is taken too).
//
//	HI [id]     -> HELLO version
//	PING any    -> PONG milliseconds since 1970
//	QUIT        -> closes
//
// Anything else is answered with ERROR, and the connection closed.
type lineProtocol struct {
	limits  Limits
	metrics *metrics
}

func (p lineProtocol) serve(c *conn) {
	in := bufio.NewReaderSize(c, maxLine)
	end := time.Now().Add(p.limits.RequestTime)
	for range maxLines {
		c.SetDeadline(earlier(end, time.Now().Add(p.limits.IdleTime)))
		line, err := in.ReadSlice('\n')
		switch {
		case err == bufio.ErrBufferFull:
			fmt.Fprint(c, "ERROR line too long\n")
			return
		case err != nil:
			return
		case c.refused != "":
			fmt.Fprint(c, "ERROR too many connections\n")
			return
		}
		verb, _, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
		switch string(verb) {
		case "HI":
			fmt.Fprint(c, "HELLO 2.9 (pantau) 2026-01-01\n")
		case "PING":
			p.metrics.requests.WithLabelValues("ping").Inc()
			fmt.Fprintf(c, "PONG %d\n", time.Now().UnixMilli())
		case "QUIT":
			return
		default:
			fmt.Fprint(c, "ERROR\n")
			return
		}
	}
}

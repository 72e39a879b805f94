package target_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/target"
)

// How much the target moves over loopback in eight streams, the client's cost on the
// same processors included, beside what moves the same bytes with nothing around them.
// The figure is Gbit/s of payload.

const (
	streams = 8
	chunk   = 64 << 10
)

// rate runs eight streams until they have moved total bytes, and reports it. move
// moves bytes on one connection for ever, and says how many each time.
func rate(b *testing.B, addr string, move func(c net.Conn, moved func(int)) error) {
	b.Helper()
	const total = 2 << 30
	for b.Loop() {
		var mu sync.Mutex
		var sum int64
		over := make(chan struct{})
		conns := make([]net.Conn, streams)
		for i := range conns {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			conns[i] = c
		}
		begin := time.Now()
		var all sync.WaitGroup
		for _, c := range conns {
			all.Go(func() {
				err := move(c, func(n int) {
					mu.Lock()
					defer mu.Unlock()
					if sum < total && sum+int64(n) >= total {
						close(over)
					}
					sum += int64(n)
				})
				select {
				case <-over:
				default:
					b.Error(err)
				}
			})
		}
		<-over
		took := time.Since(begin)
		for _, c := range conns {
			c.Close()
		}
		all.Wait()
		b.ReportMetric(total*8/took.Seconds()/1e9, "Gbit/s")
	}
}

// download asks for objects as the engine does, and throws them away.
func download(c net.Conn, moved func(int)) error {
	in := bufio.NewReaderSize(c, chunk)
	const ask = "GET /speedtest/random4000x4000.jpg HTTP/1.1\r\nHost: x\r\n\r\n"
	buf := make([]byte, chunk)
	if _, err := io.WriteString(c, ask); err != nil {
		return err
	}
	for {
		if _, err := io.WriteString(c, ask); err != nil {
			return err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", resp.Status)
		}
		for left := resp.ContentLength; left > 0; {
			n, err := in.Read(buf[:min(left, chunk)])
			if err != nil {
				return err
			}
			left -= int64(n)
			moved(n)
		}
	}
}

// upload sends one endless body.
func upload(c net.Conn, moved func(int)) error {
	if _, err := io.WriteString(c, "POST /speedtest/upload.php HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000000\r\n\r\n"); err != nil {
		return err
	}
	return pour(c, moved)
}

func pour(c net.Conn, moved func(int)) error {
	buf := make([]byte, chunk)
	for {
		n, err := c.Write(buf)
		if err != nil {
			return err
		}
		moved(n)
	}
}

func drain(c net.Conn, moved func(int)) error {
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		moved(n)
	}
}

// bare is a server that only moves bytes.
func bare(b *testing.B, serve func(net.Conn)) (addr string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return ln.Addr().String()
}

func BenchmarkRate(b *testing.B) {
	nothing := func(int) {}
	b.Run("target/down", func(b *testing.B) {
		s, _ := start(b, target.Options{})
		rate(b, s.Addr().String(), download)
	})
	b.Run("bare/down", func(b *testing.B) {
		rate(b, bare(b, func(c net.Conn) { pour(c, nothing) }), drain)
	})
	b.Run("target/up", func(b *testing.B) {
		s, _ := start(b, target.Options{})
		rate(b, s.Addr().String(), upload)
	})
	b.Run("bare/up", func(b *testing.B) {
		rate(b, bare(b, func(c net.Conn) { drain(c, nothing) }), pour)
	})
	if _, err := exec.LookPath("iperf3"); err != nil {
		return
	}
	b.Run("iperf3/down", func(b *testing.B) { iperf(b, "-R") })
	b.Run("iperf3/up", func(b *testing.B) { iperf(b) })
}

// received is iperf3's figure for all streams, in Gbit/s.
var received = regexp.MustCompile(`\[SUM\].* ([0-9.]+) Gbits/sec .*receiver`)

func iperf(b *testing.B, direction ...string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	if err := ln.Close(); err != nil {
		b.Fatal(err)
	}
	s := exec.Command("iperf3", "-s", "-p", port)
	if err := s.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := s.Process.Kill(); err != nil {
			b.Error(err)
		}
		_ = s.Wait() // killed
	}()
	eventually(b, "iperf3 listens", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for b.Loop() {
		out, err := exec.Command("iperf3", append([]string{"-c", "127.0.0.1", "-p", port, "-P", strconv.Itoa(streams), "-t", "2", "-f", "g"}, direction...)...).CombinedOutput()
		m := received.FindSubmatch(out)
		if err != nil || m == nil {
			b.Fatalf("%v: %s", err, out)
		}
		rate, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(rate, "Gbit/s")
	}
}

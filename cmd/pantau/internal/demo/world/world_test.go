package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/pantau-desa/pantau/probe/netlab"
)

func places(n int) []Place {
	all := make([]Place, n)
	for i := range all {
		all[i] = Place{Code: fmt.Sprintf("33.10.15.%d", 2001+i), Name: fmt.Sprintf("Desa %d", i+1)}
	}
	return all
}

func build(t *testing.T, n int) *World {
	t.Helper()
	w, err := Build(t.Context(), Options{Seed: 7, Villages: places(n), Name: "world-test"})
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDraw(t *testing.T) {
	for seed := range uint64(200) {
		all := draw(seed, 6)
		if diff := cmp.Diff(all, draw(seed, 6), cmp.AllowUnexported(rates{})); diff != "" {
			t.Fatal("the same seed drew otherwise: ", diff)
		}
		published := 0
		for _, r := range all {
			if r == (rates{PublishedDown, PublishedUp}) {
				published++
			}
			if r.down < 10e6 || r.down > 100e6 || r.up < 5e6 || r.up > 50e6 || r.up > r.down {
				t.Errorf("seed %d: %+v", seed, r)
			}
		}
		if published != 1 {
			t.Errorf("seed %d: %d villages have the published rates, want 1", seed, published)
		}
	}
	if cmp.Equal(draw(1, 6), draw(2, 6), cmp.AllowUnexported(rates{})) {
		t.Error("two seeds drew the same")
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, o := range []Options{{}, {Villages: places(241)}, {Villages: places(1), PerODC: -1}} {
		if _, err := Build(t.Context(), o); err == nil || errors.Is(err, netlab.ErrNotPermitted) {
			t.Errorf("%d villages, %d to an ODC: %v", len(o.Villages), o.PerODC, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Build(ctx, Options{Villages: places(6), Name: "world-test"})
	if !errors.Is(err, context.Canceled) && !errors.Is(err, netlab.ErrNotPermitted) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWorld(t *testing.T) {
	w := build(t, 6)
	echo := serveEcho(t, w.Pusat)

	t.Run("reach", func(t *testing.T) {
		for _, v := range w.Villages {
			if !v.reaches(t, echo, 3*time.Second) {
				t.Errorf("%s does not reach pusat by TCP and UDP", v.Code)
			}
			for _, a := range []netip.Addr{v.LANGateway, v.FirstHop, v.ODC.Address, w.OLTAddress, w.BNGAddress, w.PusatAddress} {
				if !ping(t, v, a, 3*time.Second) {
					t.Errorf("%s: no answer from %s to an unprivileged ping", v.Code, a)
				}
			}
			if got := trace(t, v.Box, w.PusatAddress); !cmp.Equal(got, v.Path, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
				t.Errorf("%s: trace shows %v, want %v", v.Code, got, v.Path)
			}
			if v.Path[0] != v.LANGateway || v.Path[1] != v.FirstHop {
				t.Errorf("%s: path %v", v.Code, v.Path)
			}
		}
	})
	t.Run("shape of the tree", func(t *testing.T) {
		if len(w.Villages) != 6 || len(w.ODCs) != 2 || len(w.ODCs[0].Villages) != 3 || len(w.ODCs[1].Villages) != 3 {
			t.Errorf("%d villages, %d ODCs", len(w.Villages), len(w.ODCs))
		}
		for i, v := range w.Villages {
			if v.ODC != w.ODCs[i/3] || v.Place != places(6)[i] {
				t.Errorf("village %d is %+v on %s", i, v.Place, v.ODC.Node.Name())
			}
		}
	})
	t.Run("a cut drop line isolates its village", func(t *testing.T) {
		v := w.Villages[2]
		want := map[string]bool{}
		for _, other := range w.Villages {
			want[other.Code] = other != v
		}
		cutAndRestore(t, w, echo, v.Cut, v.Restore, want, func() {
			if !ping(t, v, v.LANGateway, time.Second) {
				t.Error("the LAN gateway does not answer its box")
			}
			if ping(t, v, v.FirstHop, 100*time.Millisecond) {
				t.Error("the first hop answers through a cut line")
			}
		})
	})
	t.Run("a cut uplink isolates its ODC", func(t *testing.T) {
		o := w.ODCs[1]
		want := map[string]bool{}
		for _, v := range w.Villages {
			want[v.Code] = v.ODC != o
		}
		cutAndRestore(t, w, echo, o.Cut, o.Restore, want, func() {
			for _, v := range o.Villages {
				if !ping(t, v, v.FirstHop, time.Second) {
					t.Errorf("%s: the first hop is below the cut and does not answer", v.Code)
				}
				if ping(t, v, w.OLTAddress, 100*time.Millisecond) {
					t.Errorf("%s: the OLT answers through a cut line", v.Code)
				}
			}
		})
	})
	t.Run("throughput", func(t *testing.T) {
		for _, v := range w.Villages {
			if v.Down == PublishedDown {
				throughput(t, w, v)
			}
		}
	})
	t.Run("filling", func(t *testing.T) { filling(t, w, w.Villages[1], w.Villages[0]) })
	t.Run("browsing", func(t *testing.T) { browsing(t, w, w.Villages[0]) })
}

// cutAndRestore runs the commands that users are told, and checks who reaches
// pusat after the cut, and that all do after the repair.
func cutAndRestore(t *testing.T, w *World, echo netip.AddrPort, cut, restore string, want map[string]bool, meanwhile func()) {
	t.Helper()
	shell(t, w, cut)
	got := map[string]bool{}
	for _, v := range w.Villages {
		patience := 3 * time.Second
		if !want[v.Code] {
			patience = 150 * time.Millisecond
		}
		got[v.Code] = v.reaches(t, echo, patience)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("after %q, who reaches pusat (-want +got):\n%s", cut, diff)
	}
	meanwhile()
	shell(t, w, restore)
	for _, v := range w.Villages {
		for deadline := time.Now().Add(5 * time.Second); !v.reaches(t, echo, 200*time.Millisecond); {
			if time.Now().After(deadline) {
				t.Errorf("%s does not reach pusat after %q", v.Code, restore)
				break
			}
		}
	}
}

// shell does what the command says: with iproute2 where there is one, else by
// the port that the command names.
func shell(t *testing.T, w *World, command string) {
	t.Helper()
	words := strings.Fields(command)
	if path, err := exec.LookPath(words[0]); err == nil {
		out, err := exec.CommandContext(t.Context(), path, words[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		return
	}
	ports := []*netlab.Port{}
	for _, v := range w.Villages {
		ports = append(ports, v.Drop.A, v.ODC.Uplink.B)
	}
	for _, p := range ports {
		switch down, up := commands(p); command {
		case down:
			must(t, p.Down())
			return
		case up:
			must(t, p.Up())
			return
		}
	}
	t.Fatalf("no port for %q", command)
}

// serveEcho answers at pusat: TCP and UDP on one port, each byte as it came.
func serveEcho(t *testing.T, pusat *netlab.Node) netip.AddrPort {
	t.Helper()
	ln, err := pusat.Listen("tcp", "0.0.0.0:7")
	must(t, err)
	pc, err := pusat.ListenPacket("udp", "0.0.0.0:7")
	must(t, err)
	t.Cleanup(func() { ln.Close(); pc.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); io.Copy(c, c) }()
		}
	}()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(b[:n], from)
		}
	}()
	return netip.AddrPortFrom(address(centreNet, 0, 2), 7)
}

// reaches reports whether both TCP and UDP come back from pusat in time. It
// fails the test if only one does.
func (v *Village) reaches(t *testing.T, echo netip.AddrPort, patience time.Duration) bool {
	t.Helper()
	ok := map[string]bool{}
	for _, network := range []string{"tcp", "udp"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		ok[network] = func() bool {
			c, err := v.Box.DialContext(ctx, network, echo.String())
			if err != nil {
				return false
			}
			defer c.Close()
			must(t, c.SetDeadline(time.Now().Add(patience)))
			if _, err := c.Write([]byte(v.Code)); err != nil {
				return false
			}
			b := make([]byte, len(v.Code))
			_, err = io.ReadFull(c, b)
			return err == nil && string(b) == v.Code
		}()
		cancel()
	}
	return ok["tcp"] && ok["udp"]
}

// ping sends one echo request from an unprivileged ICMP socket.
func ping(t *testing.T, v *Village, to netip.Addr, patience time.Duration) bool {
	t.Helper()
	var pc *icmp.PacketConn
	must(t, v.Box.Do(func() (err error) {
		pc, err = icmp.ListenPacket("udp4", "0.0.0.0")
		return err
	}))
	defer pc.Close()
	must(t, pc.SetDeadline(time.Now().Add(patience)))
	request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: 1}}).Marshal(nil)
	must(t, err)
	if _, err := pc.WriteTo(request, &net.UDPAddr{IP: to.AsSlice()}); err != nil {
		return false
	}
	b := make([]byte, 1500)
	n, _, err := pc.ReadFrom(b)
	if err != nil {
		return false
	}
	reply, err := icmp.ParseMessage(1, b[:n])
	return err == nil && reply.Type == ipv4.ICMPTypeEchoReply
}

// trace lists who answers for each TTL, up to the destination.
func trace(t *testing.T, n *netlab.Node, to netip.Addr) []netip.Addr {
	t.Helper()
	var pc *icmp.PacketConn
	must(t, n.Do(func() (err error) {
		pc, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	}))
	defer pc.Close()
	must(t, pc.SetDeadline(time.Now().Add(5*time.Second)))
	var path []netip.Addr
	b := make([]byte, 1500)
	for ttl := 1; ttl <= 10; ttl++ {
		must(t, pc.IPv4PacketConn().SetTTL(ttl))
		request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 99, Seq: ttl}}).Marshal(nil)
		must(t, err)
		_, err = pc.WriteTo(request, &net.IPAddr{IP: to.AsSlice()})
		must(t, err)
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			t.Errorf("TTL %d: %v", ttl, err)
			return path
		}
		reply, err := icmp.ParseMessage(1, b[:n])
		must(t, err)
		path = append(path, netip.MustParseAddr(from.String()))
		if reply.Type == ipv4.ICMPTypeEchoReply {
			return path
		}
		if reply.Type != ipv4.ICMPTypeTimeExceeded {
			t.Errorf("TTL %d: %v from %v", ttl, reply.Type, from)
		}
	}
	return path
}

// throughput sends both ways through all hops, one after the other.
func throughput(t *testing.T, w *World, v *Village) {
	t.Helper()
	ln, err := w.Pusat.Listen("tcp", "0.0.0.0:5001")
	must(t, err)
	defer ln.Close()
	for _, c := range []struct {
		direction string
		rate      float64
		toPusat   bool
	}{{"down", v.Down, false}, {"up", v.Up, true}} {
		want, off := netlab.PayloadRate(c.rate), math.Inf(1)
		// A machine that stands still for a moment spoils a transfer, but not all.
		for try := 0; try < 4 && math.Abs(off) > 0.03; try++ {
			box, err := v.Box.DialContext(t.Context(), "tcp", netip.AddrPortFrom(w.PusatAddress, 5001).String())
			must(t, err)
			pusat, err := ln.Accept()
			must(t, err)
			sender, receiver := pusat, box
			if c.toPusat {
				sender, receiver = box, pusat
			}
			got := goodput(t, sender, receiver, 3*time.Second)
			off = got/want - 1
			t.Logf("%s %s: %.3f Mbit/s, truth %.3f, %+.2f%%", v.Code, c.direction, got/1e6, want/1e6, off*100)
		}
		if math.Abs(off) > 0.03 {
			t.Errorf("%s: off by %+.2f%%, want within 3%%", c.direction, off*100)
		}
	}
}

// goodput is bytes at the receiver over monotonic time after the first
// quarter, in bits per second. It closes both ends.
func goodput(t *testing.T, sender, receiver net.Conn, whole time.Duration) float64 {
	t.Helper()
	defer sender.Close()
	defer receiver.Close()
	go func() {
		block := make([]byte, 64<<10)
		for {
			if _, err := sender.Write(block); err != nil {
				return
			}
		}
	}()
	start := time.Now()
	must(t, receiver.SetReadDeadline(start.Add(whole+5*time.Second)))
	block := make([]byte, 64<<10)
	var from time.Time
	bytes := 0
	for {
		n, err := receiver.Read(block)
		now := time.Now()
		must(t, err)
		switch since := now.Sub(start); {
		case from.IsZero() && since >= whole/4:
			from = now
		case !from.IsZero():
			bytes += n
			if since >= whole {
				return float64(bytes) * 8 / now.Sub(from).Seconds()
			}
		}
	}
}

// browsing passes the box's interface, at about the rate asked for, and
// outlives a cut.
func browsing(t *testing.T, w *World, v *Village) {
	t.Helper()
	if err := v.Browse(t.Context(), Browsing{Rate: v.Up / 50}); err == nil {
		t.Error("browsing at 2% of the line was accepted")
	}
	ln, err := w.Pusat.Listen("tcp", "0.0.0.0:80")
	must(t, err)
	pages := make(chan string, 100)
	site := Website()
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		site.ServeHTTP(rw, r)
		pages <- r.URL.Query().Get("bytes") + " from " + r.RemoteAddr
	})}
	go server.Serve(ln)
	defer server.Close()

	before := received(t, v)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- v.Browse(ctx, Browsing{URL: "http://" + w.PusatAddress.String() + "/", Every: 100 * time.Millisecond, Rate: 40e3})
	}()
	const wanted = 5
	for range wanted {
		select {
		case page := <-pages:
			if !strings.HasPrefix(page, "500 from "+v.BoxAddress.String()+":") { // 40 kbit/s x 0.1 s
				t.Errorf("page %q", page)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no page asked for")
		}
	}
	if got := received(t, v) - before; got < (wanted-1)*500 {
		t.Errorf("the box's interface counted %d bytes for %d pages", got, wanted)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// filling leaves little of the line, and nothing on a neighbour's.
func filling(t *testing.T, w *World, v, neighbour *Village) {
	t.Helper()
	share := 0.0
	for try := 0; try < 4 && share < 0.9; try++ { // a machine that stands still for a moment spoils one
		before, others, start := received(t, v), received(t, neighbour), time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		n, err := w.Fill(ctx, v)
		cancel()
		must(t, err)
		share = float64(n) * 8 / time.Since(start).Seconds() / netlab.PayloadRate(v.Down)
		if got := int64(received(t, v) - before); got < n {
			t.Errorf("%d bytes arrived, the box's interface counted %d", n, got)
		}
		if got := received(t, neighbour) - others; got > 1<<16 {
			t.Errorf("%d bytes on the line of a neighbour", got)
		}
	}
	if share < 0.9 || share > 1.1 {
		t.Errorf("it filled %.2f of the line", share)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := w.Fill(ctx, v); n > 0 || err != nil {
		t.Errorf("ended before it began: %d bytes, %v", n, err)
	}
}

func received(t *testing.T, v *Village) (n int) {
	t.Helper()
	must(t, v.Box.Do(func() error {
		text, err := os.ReadFile("/proc/thread-self/net/dev")
		if err != nil {
			return err
		}
		_, counts, ok := strings.Cut(string(text), v.Interface+":")
		if !ok {
			return fmt.Errorf("no %s in %s", v.Interface, text)
		}
		n, err = strconv.Atoi(strings.Fields(counts)[0])
		return err
	}))
	return n
}

func TestWebsite(t *testing.T) {
	for _, c := range []struct {
		method, query string
		code, length  int
	}{
		{"GET", "bytes=1000", 200, 1000},
		{"GET", "bytes=0", 200, 0},
		{"GET", "bytes=1048577", 400, -1},
		{"GET", "bytes=-1", 400, -1},
		{"GET", "", 400, -1},
		{"POST", "bytes=1", 405, -1},
	} {
		answer := httptest.NewRecorder()
		Website().ServeHTTP(answer, httptest.NewRequest(c.method, "/?"+c.query, nil))
		if answer.Code != c.code || c.length >= 0 && answer.Body.Len() != c.length {
			t.Errorf("%s %q: %d, %d bytes", c.method, c.query, answer.Code, answer.Body.Len())
		}
	}
}

package server

import (
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
)

// FlagCongestionPrefix begins a flag that names the congestion control by which
// the server says it sends, such as server_cc_cubic.
const FlagCongestionPrefix = "server_cc_"

// Latency is what latency.txt holds, but for white space around it.
const Latency = "test=test"

// MinObject is the least length in bytes of what is downloaded: that of
// random1000x1000.jpg on Ookla's servers is 1,986,284.
const MinObject = 1_000_000

// ParseBase returns the directory of the server's files.
func ParseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%q: want http:// or https://", raw)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%q names no host", raw)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q: want an address and a path, nothing else", raw)
	}
	switch {
	case u.Path == "" || u.Path == "/":
		u.Path = "/speedtest"
	case strings.HasSuffix(u.Path, "/upload.php"):
		u.Path = path.Dir(u.Path)
	case strings.TrimRight(u.Path, "/") == "/speedtest": // as the inventory has it
		u.Path = "/speedtest"
	default:
		return nil, fmt.Errorf("%q: the path must be empty, /speedtest, or end in /upload.php", raw)
	}
	return u, nil
}

// GoodStatus lets nothing but 200 pass.
func GoodStatus(resp *http.Response) error {
	switch s := resp.StatusCode; {
	case s == http.StatusOK:
		return nil
	case s == http.StatusServiceUnavailable:
		return Fail(measure.ReasonSaturated, "the server has no room (503, Retry-After %.20q)", resp.Header.Get("Retry-After"))
	case (s == http.StatusUnauthorized || s == http.StatusForbidden) && resp.Header.Get("WWW-Authenticate") == wire.TicketScheme:
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 120))
		f := Fail(measure.ReasonNoServer, "this server tests only by ticket, which an enrolled box gets from its collector (by hand: --config FILE); %d: %s", s, strings.TrimSpace(string(why)))
		f.Refused = true
		return f
	case s >= 300 && s < 400:
		return Fail(measure.ReasonRedirect, "%s leads to %.100q: a captive portal?", resp.Request.URL.Path, resp.Header.Get("Location"))
	default:
		return Fail(measure.ReasonHTTPStatus, "%s: %.60s", resp.Request.URL.Path, resp.Status)
	}
}

// CongestionControl reads what the server says of itself; a name that no kernel
// has is ignored.
func CongestionControl(h http.Header) string {
	if cc := h.Get("Pantau-Congestion-Control"); congestionName.MatchString(cc) {
		return cc
	}
	return ""
}

var congestionName = regexp.MustCompile(`^[a-z0-9_]{1,15}$`) // TCP_CA_NAME_MAX is 16 with its NUL

// ProcessCPU is the processor time that this process has used, in user and
// kernel mode.
func ProcessCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// NewNoise makes size bytes that no link compresses.
func NewNoise(size int) ([]byte, error) {
	var seed [32]byte
	if _, err := crand.Read(seed[:]); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b)
	return b, nil
}

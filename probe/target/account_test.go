package target_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/target"
)

const anID = "0123456789abcdef"

func read(t *testing.T, s *target.Target, id string) (r target.Reading) {
	t.Helper()
	resp, err := client(t).Get(url(s, "/speedtest/received?id="+id))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

// What a test moved is told by its id, and nobody else's.
func TestAccountOfATest(t *testing.T) {
	s, _ := start(t, target.Options{})
	c := client(t)
	before := read(t, s, anID)
	for path, body := range map[string]string{
		"/speedtest/upload.php?id=" + anID:             strings.Repeat("x", 123456),
		"/speedtest/upload.php?id=ffffffffffffffff":    strings.Repeat("x", 1000),
		"/speedtest/upload.php?id=short":               strings.Repeat("x", 1000),
		"/speedtest/random350x350.jpg?x=1&id=" + anID:  "",
		"/speedtest/random350x350.jpg":                 "",
		"/speedtest/latency.txt?id=" + "0000000000000": "",
	} {
		var resp *http.Response
		var err error
		if body != "" {
			resp, err = c.Post(url(s, path), "application/octet-stream", strings.NewReader(body))
		} else {
			resp, err = c.Get(url(s, path))
		}
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	// The client may have the last byte before the server has counted it.
	r := read(t, s, anID)
	for deadline := time.Now().Add(10 * time.Second); r.Sent < 245388 && time.Now().Before(deadline); r = read(t, s, anID) {
		time.Sleep(time.Millisecond)
	}
	if r.Arrived > 123456 {
		t.Errorf("%d bytes arrived", r.Arrived)
	}
	if before.Received != 0 || r.Received != 123456 || r.Sent != 245388 || r.Clock <= before.Clock {
		t.Errorf("%+v, then %+v", before, r)
	}
	if r := read(t, s, "ffffffffffffffff"); r.Received != 1000 {
		t.Errorf("the other's: %+v", r)
	}
}

func TestAccountFollowsAnUpload(t *testing.T) {
	s, _ := start(t, target.Options{})
	resp, err := client(t).Get(url(s, "/speedtest/received?every=50ms&id="+anID))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in, out := io.Pipe()
	defer out.Close()
	go func() {
		if resp, err := client(t).Post(url(s, "/speedtest/upload.php?id="+anID), "application/octet-stream", in); err == nil {
			resp.Body.Close()
		}
	}()
	seen := make(chan struct{}) // the request, by the server
	go func() {
		for i := range 10 {
			out.Write(make([]byte, 10_000))
			if i == 0 {
				<-seen
			}
		}
	}()
	lines := bufio.NewScanner(resp.Body)
	var last target.Reading
	for deadline := time.Now().Add(10 * time.Second); last.Received < 100_000 && time.Now().Before(deadline) && lines.Scan(); {
		var r target.Reading
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Received < last.Received || r.Clock <= last.Clock || r.CPU < 0 || r.CPU > 1 {
			t.Fatalf("%+v after %+v", r, last)
		}
		if r.Streams == 1 && last.Streams == 0 {
			close(seen)
		}
		last = r
	}
	if last.Received != 100_000 || last.Streams != 1 || last.Tests != 1 {
		t.Errorf("%+v", last)
	}
	// Without what had come before the request was seen, and with the lines of the
	// chunks.
	if last.Arrived < 90_000 || last.Arrived > 101_000 {
		t.Errorf("%d bytes arrived", last.Arrived)
	}
}

func TestAccountWantsAnID(t *testing.T) {
	s, _ := start(t, target.Options{})
	for _, id := range []string{"", "short", strings.Repeat("a", 33), "0123456789abcdef%0a"} {
		resp, err := client(t).Get(url(s, "/speedtest/received?id="+id))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%q: %s", id, resp.Status)
		}
	}
}

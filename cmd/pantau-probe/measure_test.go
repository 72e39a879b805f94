package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// byHand runs `pantau-probe measure` and reads what it writes.
func byHand(t *testing.T, args ...string) (out map[string]any) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "out.json")
	c := measureCommand()
	c.SetArgs(append(args, "--json", file))
	c.SetOut(io.Discard)
	c.SetErr(io.Discard)
	c.SilenceUsage = true
	failed := c.Execute()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: %v, %v", args, failed, err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	if (failed == nil) != (out["outcome"] == "ok") {
		t.Errorf("%v: outcome %v, command %v", args, out["outcome"], failed)
	}
	if out["kind"] != args[0] || out["measured_at"] == nil || out["instrument"] == "" {
		t.Errorf("%v: %s", args, raw)
	}
	return out
}

func TestMeasureByHand(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	value := func(out map[string]any, name string) float64 {
		v, _ := out["values"].(map[string]any)
		n, _ := v[name].(float64)
		return n
	}
	if out := byHand(t, "http", "--target", web.URL); value(out, "http_first_byte_seconds") <= 0 || out["target"] != "manual" {
		t.Errorf("%v", out)
	}
	if out := byHand(t, "http"); out["outcome"] != "skipped" || out["reason"] != "no_target" {
		t.Errorf("%v", out)
	}
	if out := byHand(t, "dns", "--target", "www.example.id", "--resolver", "127.0.0.77"); out["outcome"] != "failed" || len(out["values"].(map[string]any)) != 0 {
		t.Errorf("%v", out) // nobody answers there
	}
	if out := byHand(t, "path"); out["reason"] != "no_target" {
		t.Errorf("%v", out)
	}
	if os.Geteuid() == 0 {
		out := byHand(t, "path", "--target", "127.0.0.1")
		if hops, _ := out["hops"].([]any); value(out, "path_reached") != 1 || value(out, "path_hops") != 1 || len(hops) != 1 {
			t.Errorf("%v", out)
		}
	}
	for _, args := range [][]string{{"http", "--target", "ftp://x/"}, {"dns", "--target", "a b"}, {"dns", "--target", "a", "--resolver", "b"}, {"gravity"}} {
		c := measureCommand()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		if c.Execute() == nil {
			t.Errorf("%v is let through", args)
		}
	}
}

// A resolver on port 53 needs a privileged port of loopback.
// The public network is asked only by who says so, and all of it.
func TestPublicOnlyWhereItSays(t *testing.T) {
	for _, args := range [][]string{
		{"speed", "--public"},
		{"speed", "--public", "--instrument", "speedtest-go", "--target", "http://192.0.2.1:7442"},
		{"latency", "--public", "--instrument", "speedtest-go"},
	} {
		c := measureCommand()
		c.SetArgs(args)
		c.SetOut(io.Discard)
		c.SetErr(io.Discard)
		c.SilenceUsage = true
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "--public is for") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestMeasureDNSByHand(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.77:53")
	if err != nil {
		t.Skip(err)
	}
	defer conn.Close()
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			var m dnsmessage.Message
			if err != nil || m.Unpack(buf[:n]) != nil {
				return
			}
			q := m.Questions[0]
			m.Response = true
			m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 1}}}}
			p, _ := m.Pack()
			conn.WriteTo(p, from)
		}
	}()
	if out := byHand(t, "dns", "--target", "www.example.id", "--resolver", "127.0.0.77"); out["outcome"] != "ok" || out["detail"] != "resolver 127.0.0.77:53" {
		t.Errorf("%v", out)
	}
}

// Package influxtest runs a real InfluxDB 1.8 for tests: on loopback, in a folder
// of its own, calling nobody.
package influxtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	influxdb "github.com/influxdata/influxdb-client-go/v2"
)

// program is what the Makefile builds into .tools.
const program = "influxd"

// patience is how long a server may take to answer on a busy machine.
const patience = 60 * time.Second

// Options of a server.
type Options struct {
	Flux bool // answers Flux; it starts seconds later
	// User, with Password, is an administrator without whom nobody gets an answer;
	// empty: everybody may do everything.
	User, Password string
}

// Server is one influxd with its data. It can be killed and started again, on the
// same address and data.
type Server struct {
	t    testing.TB
	opt  Options
	dir  string
	addr string
	cmd  *exec.Cmd
	end  chan struct{} // closed when cmd has ended
}

// Start starts a server that ends with the test. Without influxd in the path the
// test is skipped, but in CI it fails.
func Start(t testing.TB, opt Options) *Server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		const why = "influxd is not in the path: `make test` builds it into .tools"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	s := &Server{t: t, opt: opt, dir: t.TempDir()}
	t.Cleanup(s.Kill)
	// A port below those that the kernel gives to clients: while the server is down
	// nobody else gets it by chance.
	for range 20 {
		s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))
		if l, err := net.Listen("tcp", s.addr); err == nil {
			l.Close()
			s.Restart()
			if opt.User != "" {
				s.opt.User = "" // the first user is made by nobody
				s.InfluxQL("", fmt.Sprintf("CREATE USER %q WITH PASSWORD '%s' WITH ALL PRIVILEGES", opt.User, opt.Password))
				s.opt.User = opt.User
			}
			return s
		}
	}
	t.Fatal("no free port on loopback")
	return nil
}

// URL of the server.
func (s *Server) URL() string { return "http://" + s.addr }

// Restart starts the server that was killed, and returns when it answers.
func (s *Server) Restart() {
	s.t.Helper()
	config := filepath.Join(s.dir, "influxd.conf")
	text := fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = %[1]q
[data]
  dir = %[2]q
  wal-dir = %[3]q
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = %[4]q
  flux-enabled = %[5]t
  auth-enabled = %[6]t
  log-enabled = false
[logging]
  level = "warn"
`, filepath.Join(s.dir, "meta"), filepath.Join(s.dir, "data"), filepath.Join(s.dir, "wal"), s.addr, s.opt.Flux, s.opt.User != "")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.end = exec.Command(program, "run", "-config", config), make(chan struct{})
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func(cmd *exec.Cmd, end chan struct{}) {
		// The kernel kills the child when the thread that started it ends: this one
		// lives as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(end)
		defer log.Close()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}(s.cmd, s.end)
	if err := <-started; err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(s.URL() + "/ping")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-s.end:
			s.t.Fatalf("influxd ends at once: %s", s.said())
		default:
		}
		if time.Now().After(end) {
			s.t.Fatalf("influxd does not answer within %v: %v\n%s", patience, err, s.said())
		}
	}
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

func (s *Server) said() string {
	raw, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-4000):])
}

// Kill ends the server without warning: kill -9.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.end
}

// Stop lets the server take connections and answer none, until Continue.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Continue ends Stop.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Series is one series of an answer to InfluxQL, times in Unix milliseconds.
type Series struct {
	Name    string            `json:"name"`
	Tags    map[string]string `json:"tags"`
	Columns []string          `json:"columns"`
	Values  [][]any           `json:"values"` // float64, string, nil
}

// InfluxQL asks a database; db may be empty where none is needed.
func (s *Server) InfluxQL(db, query string) []Series {
	s.t.Helper()
	ask := url.Values{"db": {db}, "q": {query}, "epoch": {"ms"}}
	req, err := http.NewRequest(http.MethodPost, s.URL()+"/query?"+ask.Encode(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.opt.User != "" {
		req.SetBasicAuth(s.opt.User, s.opt.Password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var out struct {
		Error   string
		Results []struct {
			Error  string
			Series []Series
		}
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		s.t.Fatalf("%s: %v: %s", query, err, raw)
	}
	var all []Series
	for _, r := range out.Results {
		if r.Error != "" {
			out.Error = r.Error
		}
		all = append(all, r.Series...)
	}
	if out.Error != "" {
		s.t.Fatalf("%s: %s", query, out.Error)
	}
	return all
}

// Create makes a database.
func (s *Server) Create(db string) {
	s.t.Helper()
	s.InfluxQL("", "CREATE DATABASE "+strconv.Quote(db))
}

// Flux asks with Flux: a map of column to value for each row.
func (s *Server) Flux(query string) []map[string]any {
	s.t.Helper()
	client := influxdb.NewClient(s.URL(), "")
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	result, err := client.QueryAPI("").Query(ctx, query)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	var rows []map[string]any
	for result.Next() {
		rows = append(rows, result.Record().Values())
	}
	if err := result.Err(); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// Line writes one line as it is, and returns the status.
func (s *Server) Line(db, line string) int {
	s.t.Helper()
	resp, err := http.Post(s.URL()+"/api/v2/write?bucket="+url.QueryEscape(db)+"&precision=ms", "text/plain", strings.NewReader(line))
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

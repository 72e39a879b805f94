// Package snmpdtest runs a real SNMP agent (net-snmp's snmpd) for a test, on
// loopback, with objects that the test makes up.
package snmpdtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Community is what the agent lets read by version 2c.
const Community = "pantau-uji"

// Passwords of the users of version 3: "auth" by SHA, "both" by SHA and AES,
// "strong" by SHA-256 and AES.
const (
	AuthPassword    = "kata-sandi-uji"
	PrivacyPassword = "kata-rahasia-uji"
)

// Object is one made-up object. Sort is one of net-snmp's for pass_persist: integer,
// gauge, counter, counter64, timeticks, string.
type Object struct {
	OID, Sort, Value string
}

// Agent is one running snmpd.
type Agent struct {
	t       *testing.T
	dir     string
	Address string // 127.0.0.1:PORT
	config  string
	cmd     *exec.Cmd
	done    chan struct{}
}

// Start runs an agent until the test ends. Below each of the subtrees it has only
// what Set says; elsewhere what snmpd knows of this machine. more is added to its
// configuration. Without snmpd the test is skipped, or fails if the environment has
// CI=true.
func Start(t *testing.T, subtrees []string, more ...string) *Agent {
	t.Helper()
	if _, err := exec.LookPath(snmpd()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs snmpd, and CI may not skip it")
		}
		t.Skip("needs snmpd (Debian: snmpd)")
	}
	a := &Agent{t: t, dir: t.TempDir(), Address: free(t)}
	a.Set()
	script := filepath.Join(a.dir, "pass.sh")
	write(t, script, strings.ReplaceAll(pass, "FILE", a.objects()), 0o700)
	lines := []string{"agentaddress udp:" + a.Address, "rocommunity " + Community + " 127.0.0.1",
		`createUser auth SHA "` + AuthPassword + `"`, "rouser auth auth",
		`createUser both SHA "` + AuthPassword + `" AES "` + PrivacyPassword + `"`, "rouser both priv",
		`createUser strong SHA-256 "` + AuthPassword + `" AES "` + PrivacyPassword + `"`, "rouser strong priv",
	}
	for _, s := range subtrees {
		lines = append(lines, "pass_persist -p 10 ."+s+" "+script)
	}
	a.config = filepath.Join(a.dir, "snmpd.conf")
	write(t, a.config, strings.Join(append(lines, more...), "\n")+"\n", 0o600)
	t.Cleanup(a.Stop)
	a.Run()
	return a
}

func snmpd() string {
	if p, err := exec.LookPath("snmpd"); err == nil {
		return p
	}
	return "/usr/sbin/snmpd" // not on everybody's PATH
}

// Run starts the agent again after Stop: its clock begins at 0.
func (a *Agent) Run() {
	a.t.Helper()
	var out bytes.Buffer
	a.cmd = exec.Command(snmpd(), "-f", "-Lo", "-C", "-c", a.config, "-p", filepath.Join(a.dir, "pid"))
	a.cmd.Env = append(os.Environ(), "SNMP_PERSISTENT_DIR="+filepath.Join(a.dir, "kept"), "MIBS=")
	a.cmd.Stdout, a.cmd.Stderr = &out, &out
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd, started, done := a.cmd, make(chan error), make(chan struct{})
	a.done = done
	go func() {
		defer close(done)
		runtime.LockOSThread() // Pdeathsig is about the thread that forks: it lives as long
		started <- cmd.Start()
		cmd.Wait()
	}()
	if err := <-started; err != nil {
		a.t.Fatal(err)
	}
	for begun := time.Now(); !a.answers(); time.Sleep(50 * time.Millisecond) {
		select {
		case <-done:
			a.t.Fatalf("snmpd ended at once:\n%s", out.String())
		default:
		}
		if time.Since(begun) > 30*time.Second {
			a.t.Fatalf("snmpd does not answer:\n%s", out.String())
		}
	}
}

// Stop ends the agent.
func (a *Agent) Stop() {
	if a.cmd == nil {
		return
	}
	_ = syscall.Kill(-a.cmd.Process.Pid, syscall.SIGKILL)
	<-a.done
	a.cmd = nil
}

// answers asks for sysUpTime by version 2c, with a request made by hand.
func (a *Agent) answers() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "udp", a.Address)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
	tlv := func(tag byte, parts ...[]byte) []byte {
		b := bytes.Join(parts, nil)
		return append([]byte{tag, byte(len(b))}, b...)
	}
	oid := tlv(6, []byte{0x2b, 6, 1, 2, 1, 1, 3, 0})
	request := tlv(0x30, tlv(2, []byte{1}), tlv(4, []byte(Community)),
		tlv(0xa0, tlv(2, []byte{1}), tlv(2, []byte{0}), tlv(2, []byte{0}), tlv(0x30, tlv(0x30, oid, tlv(5)))))
	if _, err := conn.Write(request); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 512))
	return err == nil
}

func (a *Agent) objects() string { return filepath.Join(a.dir, "objects") }

// Set makes these all the made-up objects that there are.
func (a *Agent) Set(objects ...Object) {
	a.t.Helper()
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(x, y Object) int { return slices.Compare(numbers(x.OID), numbers(y.OID)) })
	var b strings.Builder
	for _, o := range objects {
		fmt.Fprintf(&b, ".%s %s %s\n", o.OID, o.Sort, cmp.Or(o.Value, " "))
	}
	next := a.objects() + ".next"
	write(a.t, next, b.String(), 0o600)
	if err := os.Rename(next, a.objects()); err != nil {
		a.t.Fatal(err)
	}
}

func numbers(oid string) (ns []int) {
	for s := range strings.SplitSeq(oid, ".") {
		n, _ := strconv.Atoi(s)
		ns = append(ns, n)
	}
	return ns
}

// pass speaks net-snmp's pass_persist protocol and answers from the objects,
// which are in their order. (Its simpler pass protocol remembers answers for 30 s.)
const pass = `#!/bin/sh
answer() {
  awk -v how="$1" -v asked="$2" '
function after(a, b,   x, y, m, n, i) {
  m = split(a, x, "."); n = split(b, y, ".")
  for (i = 2; i <= m && i <= n; i++) if (x[i] + 0 != y[i] + 0) return x[i] + 0 > y[i] + 0
  return m > n
}
!found && (how == "get" && $1 == asked || how == "getnext" && after($1, asked)) {
  found = 1; oid = $1; sort = $2; sub(/^[^ ]+ [^ ]+ /, ""); print oid; print sort; print
}
END { if (!found) print "NONE" }' FILE
}
while read -r how; do
  case "$how" in
  PING) echo PONG ;;
  get|getnext) read -r oid; answer "$how" "$oid" ;;
  set) read -r oid; read -r value; echo not-writable ;;
  *) exit ;;
  esac
done
`

func write(t *testing.T, file, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func free(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().String()
}

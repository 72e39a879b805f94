package demo

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/post"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/collector/state"
)

// What is our own fault is blamed on nobody: no dinas is mailed.

// quickDemo names the folder of a demo with timers of seconds, on loopback, that
// this test binary is.
const quickDemo = "PANTAU_TEST_DEMO"

// quick are options with timers of seconds, all in the proportions of the field.
func quick() Options {
	return Options{Villages: 4, Office: "127.0.0.1:0", downAfter: 10 * time.Second,
		pace: &provision.Schedule{Light: 10 * time.Second, Seal: 2 * time.Second, Transition: time.Second, Heartbeat: 2 * time.Second,
			SpeedMean: 10 * time.Minute, SpeedDuration: time.Second, BudgetFiberGB: noBudget},
		incidents: &incident.Timers{Suspect: 6 * time.Second, Confirm: 10 * time.Second, ConfirmAlone: 12 * time.Second, Listen: 10 * time.Second,
			Stall: 5 * time.Second, Together: 20 * time.Second, Vanish: 10 * time.Second, UplinkPatience: 30 * time.Second, Hold: 2 * time.Second,
			Good: 4 * time.Second, GoodGroup: 4 * time.Second, Records: 5 * time.Second, Calm: time.Second}}
}

func beDemo(dir string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	o := quick()
	o.Dir, o.NoNetns, o.Out = dir, true, os.Stdout
	if _, err := Run(ctx, o); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startQuick starts such a demo as a process of its own.
func startQuick(t *testing.T) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, self, func(dir string) ([]string, []string) { return nil, []string{quickDemo + "=" + dir} })
}

// letters are the mails that a demo in this folder has had.
func letters(t *testing.T, dir string) []post.Letter {
	t.Helper()
	all, err := post.Read(filepath.Join(dir, "surat"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wait asks once in a while until it is so.
func wait(t *testing.T, what string, within time.Duration, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !so(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// A collector that is stopped for longer than any village may be silent, and goes
// on, has not heard anybody meanwhile: that opens no incident and mails nobody. A
// probe that is stopped just as long does.
func TestStoppedCollectorBlamesNobody(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute and a half")
	}
	t.Parallel()
	const stopped = 20 * time.Second // far longer than ConfirmAlone
	p := startQuick(t)
	page := strings.TrimSpace(strings.TrimPrefix(p.await("halaman: "), "halaman: "))
	p.await("every village has its first figures")
	time.Sleep(quick().incidents.Listen)

	probe, err := strconv.Atoi(processesIn(t, p.dir)[0])
	if err != nil {
		t.Fatal(err)
	}
	signalTo(t, probe, syscall.SIGSTOP)
	wait(t, "mails about the stopped probe", time.Minute, func() bool { return len(letters(t, p.dir)) == 2 })
	signalTo(t, probe, syscall.SIGCONT)
	wait(t, "mails about its return", time.Minute, func() bool { return len(letters(t, p.dir)) == 4 })

	signalTo(t, p.cmd.Process.Pid, syscall.SIGSTOP)
	time.Sleep(stopped)
	signalTo(t, p.cmd.Process.Pid, syscall.SIGCONT)
	time.Sleep(quick().incidents.Listen + 5*time.Second) // whatever would open has
	for _, l := range letters(t, p.dir)[4:] {
		t.Errorf("a mail to %s after a stall of our own: %s", l.Recipient, l.Subject)
	}
	if said := get(t, page+"metrics"); !strings.Contains(said, "\npantau_collector_stalls_total 1\n") {
		t.Error("the collector did not notice its stall: nothing is proved")
	}
	if said := get(t, page+"api/v1/query?query=pantau_village_state"); strings.Count(said, `,"1"]`) != 4 {
		t.Errorf("not all villages are up again: %s", said)
	}
	p.cmd.Process.Signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit %d: %s%s", code, p.said.String(), p.stderr())
	}
}

func signalTo(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// A collector whose own uplink is cut hears nobody: that is an incident of ours,
// which no dinas is mailed.
func TestCutUplinkOfOursBlamesNobody(t *testing.T) {
	needsNamespaces(t)
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	p := play(t, quick())
	p.await("the first figures", time.Minute, func() bool { return strings.Contains(p.said.String(), "every village has its first figures") })
	time.Sleep(p.opt.incidents.Listen)
	allUp := func() bool {
		for _, v := range p.states() {
			if v.State != state.Up {
				return false
			}
		}
		return true
	}
	p.await("all to be up", time.Minute, allUp)
	if err := p.world.Uplink.A.Down(); err != nil {
		t.Fatal(err)
	}
	p.await("an incident of ours", 90*time.Second, func() bool { return p.kinds()[incident.Ours] == 1 })
	time.Sleep(p.opt.incidents.ConfirmAlone + 3*time.Second)
	if err := p.world.Uplink.A.Up(); err != nil {
		t.Fatal(err)
	}
	p.await("all to be up again", time.Minute, allUp)
	p.await("its end", time.Minute, func() bool { return len(p.col.Incidents().Open()) == 0 })
	time.Sleep(5 * time.Second)
	if kinds := p.kinds(); kinds[incident.Outage]+kinds[incident.Quality] > 0 || kinds[incident.Ours] != 1 {
		t.Errorf("incidents: %v", kinds)
	}
	told := toldOfIncidents()
	for _, l := range letters(t, p.opt.Dir) {
		for _, dinas := range told {
			if l.Recipient == dinas {
				t.Errorf("a mail to %s: %s", dinas, l.Subject)
			}
		}
	}
}

// kinds counts all incidents so far.
func (p *playing) kinds() map[incident.Kind]int {
	p.t.Helper()
	all, err := p.col.Incidents().Recent(p.began)
	if err != nil {
		p.t.Fatal(err)
	}
	n := map[incident.Kind]int{}
	for _, i := range all {
		n[i.Kind]++
	}
	return n
}

package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/pantau-desa/pantau/cmd/pantau/internal/demo/world"
	"github.com/pantau-desa/pantau/collector/admin"
	"github.com/pantau-desa/pantau/collector/provision"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/netlab"
)

const (
	site  measure.SiteID  = "kantor"
	boxID measure.ProbeID = "kotak"

	ingestPort, targetPort, officePort, metricsPort = "7443", "7442", "7480", "7481"
)

// village is the whole: the box behind its router and line, and the data centre
// with collector, measurement server and resolver.
type village struct {
	t         *testing.T
	net       *world.World
	home      *world.Village
	collector *process
	month     month
	office    *http.Client // as from the data centre
	box       *http.Client // as from the box
}

// build makes the network, starts the servers and enrols the box.
func build(t *testing.T, d day) *village {
	t.Helper()
	w, err := world.Build(t.Context(), world.Options{Name: lab, Villages: []world.Place{{Code: "33.10.15.2001", Name: "Uji"}}})
	if errors.Is(err, netlab.ErrNotPermitted) && os.Getenv("CI") != "true" {
		t.Skip("needs root: ", err)
	}
	must(t, err)
	t.Cleanup(func() { check(t, w.Close()) })
	v := &village{t: t, net: w, home: w.Villages[0], month: monthUntil(time.Now().Add(d.monthEnds))}
	v.office = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: w.Pusat.DialContext, DisableKeepAlives: true}}
	v.box = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: v.home.Box.DialContext, DisableKeepAlives: true}}

	pusat := w.PusatAddress.String()
	resolver, err := w.Pusat.ListenPacket("udp", net.JoinHostPort(pusat, "53"))
	must(t, err)
	t.Cleanup(func() { resolver.Close() })
	go answer(resolver)
	v.inventory(d)
	write(t, "pantau.yaml", fmt.Sprintf("data_dir: %q\ninventory: %q\ningest: {listen: %q, names: [%q]}\noffice: {listen: %q}\n%s",
		folder("collector"), folder("inventory"), net.JoinHostPort(pusat, ingestPort), pusat, "127.0.0.1:"+officePort, probes(d.pace)))
	write(t, "pantau-probe.yaml", fmt.Sprintf("state_dir: %q\nmetrics: {listen: %q}\n", folder("state"), "127.0.0.1:"+metricsPort))

	v.start(w.Pusat, "target", "pantau", "target", "--listen", net.JoinHostPort(pusat, targetPort))
	v.collector = v.start(w.Pusat, "collector", "pantau", "serve", "--config", folder("pantau.yaml"))
	v.await("the collector is ready", func() bool {
		_, err := get(v.office, "http://127.0.0.1:"+officePort+"/readyz")
		return err == nil
	})
	claim, err := admin.NewClient(folder("collector")).Add(t.Context(), site, boxID)
	must(t, err)
	enrolment := v.start(v.home.Box, "enrolment", "pantau-probe", "enroll", "--state-dir", folder("state"),
		"--collector", "https://"+net.JoinHostPort(pusat, ingestPort), "--code", claim.Code)
	<-enrolment.ended
	if code := enrolment.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("enrolment: exit %d: %s", code, enrolment.said())
	}
	return v
}

// probes are the settings of the schedule.
func probes(s provision.Schedule) string {
	return fmt.Sprintf("probes: {light: %v, heartbeat: %v, seal: %v, transition: %v, rare: %v, speed_mean: %v, speed_duration: %v, peak_share: %.4f}\n",
		s.Light, s.Heartbeat, s.Seal, s.Transition, s.Rare, s.SpeedMean, s.SpeedDuration, s.PeakShare)
}

func (v *village) inventory(d day) {
	pusat := v.net.PusatAddress.String()
	const since = ";2025-01-01"
	for file, rows := range map[string][]string{
		"regions.csv": {"code;name;valid_from", "33;Jawa Tengah" + since, "33.10;Kabupaten Klaten" + since,
			"33.10.15;Wonosari" + since, v.home.Code + ";" + v.home.Name + since},
		"isps.csv":  {"isp;name;valid_from", "uji;Penyedia Uji" + since},
		"nodes.csv": {"node;type;parent;name;valid_from", "OLT-1;olt;;OLT Uji" + since, "ODP-1;odp;OLT-1;ODP Uji" + since},
		"sites.csv": {"site;village;name;isp;access;odp;budget_gb;valid_from", fmt.Sprintf("%s;%s;Kantor Desa Uji;uji;fiber;ODP-1;%.3f%s",
			site, v.home.Code, v.month.budget(d.quota, time.Now()), since)},
		"plans.csv": {"site;download_mbps;upload_mbps;source_document;valid_from", string(site) + ";30;15;Uji" + since},
		// The box is the village's router, in whose way nobody is.
		"probes.csv": {"probe;site;usage_interface;valid_from", string(boxID) + ";" + string(site) + ";" + v.home.Interface + since},
		"targets.csv": {"target;method;address;port;url;question;latency;valid_from",
			"pusat;icmp;" + pusat + ";;;;yes" + since, "olt;icmp;" + v.net.OLTAddress.String() + ";;;;" + since,
			"ukur-tcp;tcp;" + pusat + ";" + targetPort + ";;;" + since,
			"ukur;speed;;;http://" + net.JoinHostPort(pusat, targetPort) + "/speedtest;;" + since,
			"halaman;http;;;http://" + net.JoinHostPort(pusat, targetPort) + "/speedtest/latency.txt;;" + since,
			"nama;dns;" + pusat + ";;;*.ukur.example.id;" + since},
	} {
		write(v.t, "inventory/"+file, strings.Join(rows, "\n")+"\n")
	}
}

// answer answers every question with an address of the world.
func answer(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response = true
		m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, Body: &dnsmessage.AResource{A: [4]byte{203, 0, 113, 7}}}}
		if p, err := m.Pack(); err == nil {
			conn.WriteTo(p, from)
		}
	}
}

// metrics are what the probe says of itself, by the series as it is written.
func (v *village) metrics() (map[string]float64, error) {
	body, err := get(v.box, "http://127.0.0.1:"+metricsPort+"/metrics")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for line := range strings.Lines(body) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				out[name] = n
			}
		}
	}
	return out, nil
}

func get(c *http.Client, url string) (body string, err error) {
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, res.Status)
	}
	return string(raw), err
}

// process runs in a node. It dies with the test, however that dies.
type process struct {
	name  string
	cmd   *netlab.Cmd
	began time.Time
	ended chan struct{}
}

// start runs one of the programs in a node. What it says goes to a log.
func (v *village) start(n *netlab.Node, name, program string, args ...string) *process {
	v.t.Helper()
	p, err := launch(n, "", name, program, args...)
	must(v.t, err)
	return p
}

// launch is start with one more variable in the environment, if it is not empty.
func launch(n *netlab.Node, variable, name, program string, args ...string) (*process, error) {
	log, err := os.OpenFile(folder(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: n.Command(context.Background(), filepath.Join(os.Getenv(programsIn), program), args...),
		began: time.Now(), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if variable != "" {
		p.cmd.Env = append(os.Environ(), variable)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		defer close(p.ended)
		defer log.Close()
		_ = p.cmd.Wait() // told by ProcessState
	}()
	return p, nil
}

// probe starts the box's probe.
func (v *village) probe() (*process, error) {
	return launch(v.home.Box, v.month.variable(), "probe", "pantau-probe", "run", "--config", folder("pantau-probe.yaml"))
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// kill ends it without warning: kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// end tells it to end, as a service manager does.
func (p *process) end(t *testing.T) {
	t.Helper()
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-p.ended:
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("%s ends with %v\n%s", p.name, p.cmd.ProcessState, p.said())
		}
	case <-time.After(10 * time.Second):
		p.kill()
		t.Errorf("%s does not end\n%s", p.name, p.said())
	}
}

// said is the end of what it said.
func (p *process) said() string {
	raw, err := os.ReadFile(folder(p.name + ".log"))
	if err != nil {
		return err.Error()
	}
	return string(raw[max(0, len(raw)-4000):])
}

// await looks until it is so.
func (v *village) await(what string, so func() bool) {
	v.t.Helper()
	const patience = 60 * time.Second
	for end := time.Now().Add(patience); !so(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			v.t.Fatalf("not within %v: %s\n%s", patience, what, v.collector.said())
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(folder(name)), 0o755))
	must(t, os.WriteFile(folder(name), []byte(text), 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

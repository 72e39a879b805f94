package endtoend

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/collector/ingest/ingesttest"
	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
	probeticket "github.com/pantau-desa/pantau/probe/ticket"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// A measurement server that demands tickets: the enrolled probe measures, a stranger is
// told why not.
func TestAGuardedServerMeasuresForEnrolledProbes(t *testing.T) {
	w := newWorld(t, 1, pace)
	if out, errs, code := call(t, "pantau", "target-key", "--config", w.config); code == 0 || !strings.Contains(errs, "first time") {
		t.Errorf("before the collector's first start: exit %d, %s%s", code, out, errs)
	}
	w.serveReady()
	key := strings.TrimSpace(must(t, "pantau", "target-key", "--config", w.config))
	config := w.write("pantau-target.yaml", fmt.Sprintf("listen: %q\ntrust: [%q]\nid: server\ncapacity: 1e9\n", w.target, key))
	start(t, w.path("target.log"), nil, "pantau", "target", "--config", config)
	w.await("the target answers", func() bool {
		c, err := net.Dial("tcp", w.target)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	out, _, code := call(t, "pantau-probe", "measure", "speed", "--target", "http://"+w.target, "--duration", "2s", "--json", "-")
	var hand struct{ Outcome, Reason, Detail string }
	if err := json.Unmarshal([]byte(out), &hand); err != nil || code != 1 || hand.Outcome != "skipped" || hand.Reason != "no_server" || !strings.Contains(hand.Detail, "enrolled box") {
		t.Errorf("by hand: exit %d, %v, %s", code, err, out)
	}
	w.enroll("site-1")
	p := w.probe("site-1")
	// Of a result: on loopback a figure may be this machine's own, and is none then.
	w.await("the probe has tested", func() bool {
		n, ok := w.one(`sum(last_over_time(pantau_result_total{kind="download", reason!="no_server"}[5m]))`)
		return ok && n > 0
	})
	if n, _ := w.metric("pantau_tickets_granted_total"); n < 1 {
		t.Errorf("%v tickets were given", n)
	}
	out, errs, code := call(t, "pantau-probe", "measure", "speed", "--target", "http://"+w.target+"/speedtest", "--duration", "2s", "--json", "-",
		"--config", w.path("site-1/pantau-probe.yaml"))
	if err := json.Unmarshal([]byte(out), &hand); err != nil || hand.Reason == "no_server" {
		t.Errorf("by hand, on the enrolled box: exit %d, %v, %s%s", code, err, out, errs)
	}
	w.await("the ticket is back", func() bool { n, ok := w.metric("pantau_tickets_under_way"); return ok && n == 0 })
	if strings.Contains(p.said(), "no ticket") {
		t.Errorf("the probe tried without a ticket:\n%s", p.said())
	}
}

// Two probes of a house, against a real server: they take turns, and asking costs little.
func TestTwoProbesOfAHouseTakeTurns(t *testing.T) {
	c := ingesttest.Start(t)
	s, err := target.New(target.Options{Addr: "127.0.0.1:0", ID: "ukur-1", Trust: []ed25519.PublicKey{c.Registry.TicketKey().Public().(ed25519.PublicKey)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-served })

	var mu sync.Mutex
	under, refusals := 0, 0
	var both sync.WaitGroup
	for _, id := range []measure.ProbeID{"house/a", "house/b"} {
		p := c.Enrol(t, id)
		line := ledger.New(ledger.Options{})
		client := &http.Client{Transport: &http.Transport{DialContext: line.DialContext, TLSClientConfig: c.TLS()}}
		t.Cleanup(client.CloseIdleConnections)
		office := probeticket.New(probeticket.Options{Probe: id, Key: p.Key, Collector: c.URL, Client: client, Logger: slog.New(slog.DiscardHandler)})
		in, err := speed.New(speed.Options{Ledger: line, Duration: 2 * time.Second, MostBytes: 50e6, NoEcho: true})
		if err != nil {
			t.Fatal(err)
		}
		both.Go(func() {
			for tests := 0; tests < 2; {
				_, err := office.Test(t.Context(), "ukur-1", func(ctx context.Context) []measure.Result {
					mu.Lock()
					under++
					if under > 1 {
						t.Error("both test at once")
					}
					mu.Unlock()
					r := in.Measure(ctx, "ukur-1", "http://"+s.Addr().String(), measure.KindDownload)
					mu.Lock()
					under--
					mu.Unlock()
					if r.Outcome != measure.OK {
						t.Errorf("%+v", r)
					}
					return []measure.Result{r}
				})
				if no, ok := errors.AsType[*probeticket.Refusal](err); ok {
					if no.Reason != measure.ReasonBusyLine {
						t.Errorf("%+v", no)
					}
					mu.Lock()
					refusals++
					mu.Unlock()
					time.Sleep(250 * time.Millisecond) // less patient than a probe
					continue
				}
				tests++
			}
			rx, tx := line.Own()
			if _, err := office.Test(t.Context(), "ukur-1", func(context.Context) []measure.Result { return nil }); err != nil {
				return // the other one's turn
			}
			again, sent := line.Own()
			t.Logf("%s: a ticket and its end cost %d bytes to and %d from the probe, on a connection that stands", id, again-rx, sent-tx)
			if again-rx+sent-tx > 4000 {
				t.Errorf("asking costs %d bytes", again-rx+sent-tx)
			}
			client.CloseIdleConnections()
			rx, tx = line.Own()
			if _, err := office.Test(t.Context(), "ukur-1", func(context.Context) []measure.Result { return nil }); err != nil {
				return
			}
			again, sent = line.Own()
			t.Logf("%s: with a handshake %d and %d bytes", id, again-rx, sent-tx)
			if again-rx+sent-tx > 9000 {
				t.Errorf("asking costs %d bytes", again-rx+sent-tx)
			}
		})
	}
	both.Wait()
	if refusals == 0 {
		t.Error("neither had to wait: were they at once?")
	}
}

// Five hundred probes ask over the wire at one instant: as many as may are let in, and
// the others come back one after the other.
func TestFiveHundredAskAtOnce(t *testing.T) {
	const probes = 500
	c := ingesttest.Start(t)
	client := c.Client(t, true)
	public := c.Registry.TicketKey().Public().(ed25519.PublicKey)
	requests := make([]*http.Request, probes)
	for i := range requests {
		p := c.Enrol(t, measure.ProbeID("p-"+strconv.Itoa(i)))
		body, err := proto.Marshal(&wirepb.TicketRequest{Target: "ukur-1"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+wire.PathTickets, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(wire.HeaderProbe, string(p.ID))
		r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.SignTicketRequest(p.Key, body)))
		requests[i] = r
	}
	var mu sync.Mutex
	var waits []int // seconds
	given := map[wire.TicketID]bool{}
	var all sync.WaitGroup
	for _, r := range requests {
		all.Go(func() {
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			var body bytes.Buffer
			if _, err := body.ReadFrom(resp.Body); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			switch resp.StatusCode {
			case http.StatusOK:
				var m wirepb.TicketResponse
				if err := proto.Unmarshal(body.Bytes(), &m); err != nil {
					t.Error(err)
				}
				got, err := wire.VerifyTicket(m.Token, []ed25519.PublicKey{public}, "ukur-1", time.Now())
				if err != nil {
					t.Error(err)
				}
				given[got.ID] = true
			case http.StatusServiceUnavailable:
				s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
				if err != nil {
					t.Error(err)
				}
				waits = append(waits, s)
			default:
				t.Errorf("%s: %s", resp.Status, body.String())
			}
		})
	}
	all.Wait()
	if len(given) != ticket.DefaultPerTarget || len(given)+len(waits) != probes {
		t.Fatalf("%d tickets and %d refusals", len(given), len(waits))
	}
	// A test of 15 s, 20 at a time: a turn every 0.75 s.
	slices.Sort(waits)
	perSecond := map[int]int{}
	most := 0
	for _, s := range waits {
		perSecond[s]++
		most = max(most, perSecond[s])
	}
	t.Logf("%d tickets; the others are told to come back in %d to %d s, at most %d within one second", len(given), waits[0], waits[len(waits)-1], most)
	if last := waits[len(waits)-1]; last < 330 || last > 400 || most > 10 {
		t.Errorf("waits to %d s, %d within one second", last, most)
	}
}

package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/alerts"
	"github.com/pantau-desa/pantau/alerts/letter"
	"github.com/pantau-desa/pantau/alerts/outbox"
	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
	"github.com/pantau-desa/pantau/collector/incident"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/wire"
)

// TestMain lets the test's own binary be the process that is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PANTAU_CRASH_DIR"); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func load() (*inventory.Inventory, error) { return inventory.Load("../../configs/klaten") }

// timers are the engine's, a few hundred times as fast. Unrest decays at once:
// what falls twenty times in a test is not unstable.
func timers() incident.Timers {
	const ms = time.Millisecond
	return incident.Timers{Suspect: 250 * ms, Confirm: 400 * ms, ConfirmAlone: 500 * ms, Listen: 300 * ms, Stall: 10 * time.Second, Together: 2 * time.Second, Vanish: 100 * ms,
		UplinkPatience: time.Second, Hold: 100 * ms, Good: 200 * ms, GoodGroup: 250 * ms, Records: 300 * ms, Calm: ms, Note: 50 * ms}
}

// serve is the process: an engine that sees all sites but those that the file
// "cut" calls silent, and what tells people.
func serve(dir string) error {
	inv, err := load()
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(os.Getenv("PANTAU_CRASH_PORT"))
	if err != nil {
		return err
	}
	var service *alerts.Service
	engine, err := incident.New(incident.Options{Path: filepath.Join(dir, "incidents.log"), Inventory: func() *inventory.Inventory { return inv }, Timers: timers(),
		Notify: func(incident.Event) { service.Wake() }})
	if err != nil {
		return err
	}
	service, err = alerts.New(alerts.Options{Dir: filepath.Join(dir, "alerts"), Inventory: func() *inventory.Inventory { return inv }, Incidents: engine,
		States:   func() state.Snapshot { return state.Snapshot{At: time.Now()} },
		Settings: alerts.Settings{From: "pantau@example.id", Retry: 50 * time.Millisecond, SMTP: outbox.SMTP{Host: "127.0.0.1", Port: port, Encryption: outbox.Plain}}})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- service.Run(context.Background()) }()
	sites := inv.Sites(time.Now())
	for {
		cut, err := os.ReadFile(filepath.Join(dir, "cut"))
		if err != nil {
			return err
		}
		var since time.Time
		if len(cut) > 0 {
			if err := since.UnmarshalText(cut); err != nil {
				return err
			}
		}
		now := time.Now()
		v := incident.View{Uplink: wire.Yes}
		for _, s := range sites {
			x := incident.SiteView{Site: s.ID, State: state.Up, Since: now.Add(-time.Hour), LastBeat: now, Beyond: wire.Yes}
			if !since.IsZero() && falls(inv, s, now) {
				x.LastBeat = since
			}
			v.Sites = append(v.Sites, x)
		}
		if err := engine.Observe(now, v); err != nil {
			return err
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// falls says which sites are cut: those below one cabinet.
func falls(inv *inventory.Inventory, s inventory.Site, now time.Time) bool {
	for _, n := range inv.Path(s.ODP, now) {
		if n.ID == "ODC-15-1" {
			return true
		}
	}
	return false
}

// world is the parent's side.
type world struct {
	t      *testing.T
	dir    string
	server *smtptest.Server
	cmd    *exec.Cmd
	said   *bytes.Buffer
	kills  int
}

func (w *world) start() {
	w.t.Helper()
	w.said = new(bytes.Buffer)
	w.cmd = exec.Command(os.Args[0])
	w.cmd.Env = append(os.Environ(), "PANTAU_CRASH_DIR="+w.dir, "PANTAU_CRASH_PORT="+strconv.Itoa(w.server.Port()))
	w.cmd.Stderr = w.said
	if err := w.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) kill() {
	w.t.Helper()
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
	if w.said.Len() > 0 && !strings.Contains(w.said.String(), "signal: killed") {
		w.t.Fatalf("the process said: %s", w.said)
	}
	w.kills++
}

// write replaces the file that says since when the sites are silent; zero: all
// are heard.
func (w *world) write(since time.Time) {
	w.t.Helper()
	var text []byte
	if !since.IsZero() {
		text, _ = since.MarshalText()
	}
	tmp := filepath.Join(w.dir, "cut.tmp")
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(w.dir, "cut")); err != nil {
		w.t.Fatal(err)
	}
}

// count is how many mails with a subject that begins so have come to the dinas.
func (w *world) count(beginning string) int {
	ids := map[string]bool{}
	for _, m := range w.server.Mails() {
		if got, err := mail.ReadMessage(bytes.NewReader(m.Data)); err == nil && m.To[0] == "kominfo@klaten.example.id" && strings.HasPrefix(got.Header.Get("Subject"), beginning) {
			ids[got.Header.Get("Message-Id")] = true
		}
	}
	return len(ids)
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for %s; the process said: %s", what, w.said)
		}
	}
}

// The process is killed twenty times: between the fall of a cabinet and the mail,
// and between its return and the mail. Every event of every incident arrives at
// every contact; what arrives twice is the same mail, and no more than one for each
// kill.
func TestKilledWhileTelling(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	server, err := smtptest.Start(smtptest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	w := &world{t: t, dir: t.TempDir(), server: server}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	w.write(time.Time{})
	w.start()
	t.Cleanup(func() { _ = w.cmd.Process.Kill(); _ = w.cmd.Wait() })
	// In every second round the instant is that of delivery: the server has just been
	// told a recipient.
	asked := make(chan struct{}, 1)
	server.Behave(func(_, to string) smtptest.Fault {
		if to != "" {
			select {
			case asked <- struct{}{}:
			default:
			}
		}
		return smtptest.None
	})
	instant := func(round int) {
		if round%2 == 0 { // the event comes about 0.4 s after the change
			time.Sleep(time.Duration(random.IntN(900)) * time.Millisecond)
			return
		}
		select {
		case <-asked:
			time.Sleep(time.Duration(random.IntN(8000)) * time.Microsecond)
		case <-time.After(30 * time.Second):
			t.Fatal("no mail was brought to the server")
		}
	}
	drain := func() {
		select {
		case <-asked:
		default:
		}
	}
	const rounds = 10
	for round := range rounds {
		drain()
		w.write(time.Now())
		instant(round)
		w.kill()
		w.start()
		w.await(fmt.Sprintf("the news of round %d", round), func() bool { return w.count("[Gangguan]") == round+1 })
		drain()
		w.write(time.Time{})
		instant(round)
		w.kill()
		w.start()
		w.await(fmt.Sprintf("the end of round %d", round), func() bool { return w.count("[Pulih]") == round+1 })
	}
	w.kill()

	// What the engine made durable, and what arrived.
	inv, err := load()
	if err != nil {
		t.Fatal(err)
	}
	engine, err := incident.New(incident.Options{Path: filepath.Join(w.dir, "incidents.log"), Inventory: func() *inventory.Inventory { return inv }, Timers: timers()})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	events, err := engine.EventsAfter(0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	arrived := map[string][][]byte{} // by Message-ID and recipient
	for _, m := range server.Mails() {
		got, err := mail.ReadMessage(bytes.NewReader(m.Data))
		if err != nil {
			t.Fatal(err)
		}
		key := got.Header.Get("Message-Id") + " to " + m.To[0]
		arrived[key] = append(arrived[key], m.Data)
	}
	want, twice := 0, 0
	for _, ev := range events {
		for _, n := range letter.Of(ev, nil, nil) {
			for _, c := range inv.Contacts(time.Now()) {
				if c.Role != inventory.RoleDinas || n.Role != inventory.RoleDinas { // five villages are not large enough for the province
					continue
				}
				want++
				if !has(arrived, n, c.Email) {
					b, _ := json.Marshal(ev)
					t.Errorf("%s to %s is lost: %s", n.Key(), c.Email, b)
				}
			}
		}
	}
	for key, all := range arrived {
		for _, again := range all[1:] {
			twice++
			if !bytes.Equal(again, all[0]) {
				t.Errorf("%s came twice, and differs", key)
			}
		}
		if len(all) > 2 {
			t.Errorf("%s came %d times", key, len(all))
		}
	}
	if len(arrived) != want || want < 4*rounds {
		t.Errorf("%d different mails arrived, %d were due", len(arrived), want)
	}
	if twice > w.kills {
		t.Errorf("%d repetitions after %d kills", twice, w.kills)
	}
	t.Logf("%d kills, %d events, %d mails due, %d arrived twice", w.kills, len(events), want, twice)
}

// has reports whether a mail of that news came to an address: its Message-ID begins
// with the news's key.
func has(arrived map[string][][]byte, n letter.News, to string) bool {
	beginning := "<" + strings.NewReplacer("/", "-", ".", "-").Replace(n.Key()) + "."
	for key := range arrived {
		if strings.HasPrefix(key, beginning) && strings.HasSuffix(key, " to "+to) {
			return true
		}
	}
	return false
}

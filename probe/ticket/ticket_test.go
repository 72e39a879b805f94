package ticket

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// collector answers wishes with whatever a test wants.
type collector struct {
	t        *testing.T
	public   ed25519.PublicKey
	key      ed25519.PrivateKey // signs tokens
	answer   func(w http.ResponseWriter, m *wirepb.TicketRequest)
	finished [][]byte
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Error(err)
	}
	sig, err := base64.StdEncoding.DecodeString(r.Header.Get(wire.HeaderSignature))
	if err != nil || !wire.VerifyTicketRequest(c.public, body, sig) || r.Header.Get(wire.HeaderProbe) != "p1" || r.URL.Path != wire.PathTickets {
		c.t.Errorf("%s %v: not signed by the probe (%v)", r.URL, r.Header, err)
	}
	var m wirepb.TicketRequest
	if err := proto.Unmarshal(body, &m); err != nil {
		c.t.Error(err)
	}
	if len(m.Finished) > 0 {
		c.finished = append(c.finished, m.Finished)
		return
	}
	c.answer(w, &m)
}

func (c *collector) give(w http.ResponseWriter, probe measure.ProbeID, target string) {
	token, err := wire.Ticket{ID: wire.TicketID{7}, Site: "s1", Probe: probe, Target: measure.TargetID(target), Expires: time.Now()}.Token(c.key)
	if err != nil {
		c.t.Error(err)
	}
	body, err := proto.Marshal(&wirepb.TicketResponse{Token: token})
	if err != nil {
		c.t.Error(err)
	}
	w.Write(body)
}

func office(t *testing.T) (*Office, *collector) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, public: public, key: key}
	s := httptest.NewServer(c)
	t.Cleanup(s.Close)
	return New(Options{Probe: "p1", Key: key, Collector: s.URL, Client: s.Client(), Logger: slog.New(slog.DiscardHandler)}), c
}

// testing is a test that went well, and how often it ran.
func good(ran *int) func(context.Context) []measure.Result {
	return func(context.Context) []measure.Result {
		*ran++
		return []measure.Result{{Kind: measure.KindDownload, Outcome: measure.OK}, measure.Result{Kind: measure.KindUpload}.Fail(measure.ReasonStalled, "x")}
	}
}

func TestATestRunsByTicketAndHandsItBack(t *testing.T) {
	o, c := office(t)
	c.answer = func(w http.ResponseWriter, m *wirepb.TicketRequest) { c.give(w, "p1", m.Target) }
	ran := 0
	ctx, stop := context.WithCancel(t.Context())
	results, err := o.Test(ctx, "ukur-1", func(ctx context.Context) []measure.Result {
		if len(c.finished) > 0 {
			t.Error("handed back before the test")
		}
		defer stop() // the end of the program does not keep a line closed
		return good(&ran)(ctx)
	})
	if err != nil || ran != 1 || len(results) != 2 || len(results[0].Flags) > 0 {
		t.Errorf("%+v, %v, ran %d times", results, err, ran)
	}
	if id := (wire.TicketID{7}); len(c.finished) != 1 || !slices.Equal(c.finished[0], id[:]) {
		t.Errorf("handed back: %x", c.finished)
	}
}

func TestWhoIsToldToWaitDoesNotTest(t *testing.T) {
	for _, x := range []struct {
		status int
		after  string
		reason measure.Reason
		wait   time.Duration
	}{
		{429, "17", measure.ReasonBusyLine, 17 * time.Second},
		{503, "40", measure.ReasonSaturated, 40 * time.Second},
		{503, "", measure.ReasonSaturated, time.Second},
		{429, "1000000000", measure.ReasonBusyLine, time.Hour},
	} {
		o, c := office(t)
		c.answer = func(w http.ResponseWriter, _ *wirepb.TicketRequest) {
			w.Header().Set("Retry-After", x.after)
			http.Error(w, "as many tests\nas may be", x.status)
		}
		ran := 0
		_, err := o.Test(t.Context(), "ukur-1", good(&ran))
		no, ok := errors.AsType[*Refusal](err)
		if !ok || no.Reason != x.reason || no.After != x.wait || no.Detail == "" || ran > 0 || len(c.finished) > 0 {
			t.Errorf("%d: %+v, ran %d times", x.status, err, ran)
		}
	}
}

// Nobody answers, or not as a collector does that knows tickets: the line is measured
// all the same, and what was measured says so.
func TestWithoutAnyoneToAskResultsAreMarked(t *testing.T) {
	for name, answer := range map[string]func(c *collector, w http.ResponseWriter, m *wirepb.TicketRequest){
		"a collector of before": func(_ *collector, w http.ResponseWriter, _ *wirepb.TicketRequest) {
			http.Error(w, "nothing here", http.StatusNotFound)
		},
		"revoked": func(_ *collector, w http.ResponseWriter, _ *wirepb.TicketRequest) {
			http.Error(w, "revoked", http.StatusForbidden)
		},
		"ill": func(_ *collector, w http.ResponseWriter, _ *wirepb.TicketRequest) {
			http.Error(w, "ill", http.StatusInternalServerError)
		},
		"a captive portal":        func(_ *collector, w http.ResponseWriter, _ *wirepb.TicketRequest) { io.WriteString(w, "<html>log in") },
		"another server's ticket": func(c *collector, w http.ResponseWriter, _ *wirepb.TicketRequest) { c.give(w, "p1", "ukur-2") },
		"another probe's ticket":  func(c *collector, w http.ResponseWriter, m *wirepb.TicketRequest) { c.give(w, "p2", m.Target) },
		"gone":                    func(*collector, http.ResponseWriter, *wirepb.TicketRequest) { panic(http.ErrAbortHandler) },
	} {
		o, c := office(t)
		c.answer = func(w http.ResponseWriter, m *wirepb.TicketRequest) { answer(c, w, m) }
		ran := 0
		results, err := o.Test(t.Context(), "ukur-1", good(&ran))
		if err != nil || ran != 1 || len(results) != 2 || !slices.Equal(results[0].Flags, []measure.Flag{measure.FlagUnticketed}) || len(results[1].Flags) > 0 {
			t.Errorf("%s: %+v, %v, ran %d times", name, results, err, ran)
		}
		if len(c.finished) > 0 {
			t.Errorf("%s: handed back what it did not get", name)
		}
	}
}

package probe

import (
	"crypto/ed25519"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/ticket"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// A test waits for its ticket until the next one would be due, then it is skipped.
func TestATestWaitsForItsTicketForAWhile(t *testing.T) {
	status, after := 0, ""
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
	}))
	defer s.Close()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := kitFor(t)
	k.office = ticket.New(ticket.Options{Probe: "p1", Key: key, Collector: s.URL, Client: s.Client(), Logger: slog.New(slog.DiscardHandler)})
	c := &wirepb.ProbeConfig{SpeedMeanIntervalNs: int64(2 * time.Minute)}
	for _, id := range []string{"a", "b", "c", "d", "e", "f"} { // nothing listens there
		c.SpeedTargets = append(c.SpeedTargets, &wirepb.SpeedTarget{Id: id, Url: "http://127.0.0.1:1/speedtest"})
	}
	set := k.set(c, Local{})

	var at measure.TargetID
	for _, x := range []struct {
		status int
		after  string
		wait   time.Duration
		reason measure.Reason // of both directions; none: it waits
	}{
		{429, "20", 20 * time.Second, ""},
		{503, "50", 50 * time.Second, ""},
		{503, "61", 0, measure.ReasonSaturated},
		{429, "30", 30 * time.Second, ""}, // the next test, with a patience of its own
		{429, "3600", 0, measure.ReasonBusyLine},
		{404, "", 0, measure.ReasonRefused}, // nobody to ask: it is tried, and no server answers
	} {
		status, after = x.status, x.after
		waiting := k.put.target
		results := set.Heavy(t.Context())
		if wait := set.Postponed(); wait != x.wait {
			t.Errorf("%d: put off for %v, want %v", x.status, wait, x.wait)
		}
		if x.reason == "" {
			if at = measure.TargetID(k.put.target.Id); len(results) > 0 || waiting != nil && waiting.Id != string(at) {
				t.Errorf("%d: %v, at another server: its turn is not there", x.status, results)
			}
			continue
		}
		if len(results) != 2 || results[0].Kind != measure.KindDownload || results[1].Kind != measure.KindUpload {
			t.Fatalf("%d: %+v", x.status, results)
		}
		for _, r := range results {
			if r.Reason != x.reason || (r.Outcome == measure.Skipped) != (x.status != 404) || x.status != 404 && r.Target != at {
				t.Errorf("%d: %+v, want %s", x.status, r, x.reason)
			}
		}
	}
}

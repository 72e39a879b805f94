package speed_test

import (
	"context"
	"crypto/ed25519"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed"
	"github.com/pantau-desa/pantau/probe/instrument/speed/engine"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
	"github.com/pantau-desa/pantau/probe/wire"
)

// guarded is a measurement server that demands tickets, and who gives them.
func guarded(t *testing.T) (url string, give func(n byte, site measure.SiteID, expires time.Time) string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	url = servertest.Target(t, target.Options{ID: "ukur-1", Trust: []ed25519.PublicKey{public}})
	return url, func(n byte, site measure.SiteID, expires time.Time) string {
		token, err := wire.Ticket{ID: wire.TicketID{n}, Site: site, Probe: "p1", Target: "ukur-1", Expires: expires}.Token(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
}

func instrument(t *testing.T, n speed.Name) speed.Instrument {
	t.Helper()
	in, err := speed.New(speed.Options{Instrument: n, Ledger: ledger.New(ledger.Options{}), Duration: 2 * time.Second, NoEcho: true})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestAGuardedServerTestsByTicketAlone(t *testing.T) {
	url, give := guarded(t)
	soon := time.Now().Add(wire.TicketLife)
	for _, n := range []speed.Name{speed.Pantau, speed.SpeedtestGo} {
		in := instrument(t, n)
		for name, token := range map[string]string{"no ticket": "", "expired": give(1, "s1", time.Now().Add(-2*wire.TicketSkew))} {
			for _, k := range []measure.Kind{measure.KindDownload, measure.KindUpload} {
				r := in.Measure(speed.WithTicket(t.Context(), token), "ukur-1", url, k)
				if r.Outcome != measure.Skipped || r.Reason != measure.ReasonNoServer || !strings.Contains(r.Detail, "by ticket") ||
					!strings.Contains(r.Detail, name) || r.BytesReceived+r.BytesSent > 50_000 || r.Validate() != nil {
					t.Errorf("%s, %s, %s: %+v", n, name, k, r)
				}
			}
		}
		ctx := speed.WithTicket(t.Context(), give(2, "s1", soon))
		for _, k := range []measure.Kind{measure.KindDownload, measure.KindUpload} {
			r := in.Measure(ctx, "ukur-1", url, k)
			if r.Outcome != measure.OK || slices.Contains(r.Flags, engine.FlagSharedLine) {
				t.Errorf("%s, by ticket, %s: %+v", n, k, r)
			}
		}
	}
}

// Two probes of one house test at once, whatever kept the collector from seeing it.
func TestASharedLineIsSaid(t *testing.T) {
	url, give := guarded(t)
	soon := time.Now().Add(wire.TicketLife)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/speedtest/received?every=5s&id="+wire.TicketID{1}.String()+"0000000000000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(wire.HeaderTicket, give(1, "s1", soon))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	in := instrument(t, speed.Pantau)
	own := in.Measure(speed.WithTicket(t.Context(), give(2, "s1", soon)), "ukur-1", url, measure.KindDownload)
	if own.Outcome != measure.OK || !slices.Contains(own.Flags, engine.FlagSharedLine) {
		t.Errorf("%+v", own)
	}
	// Half a line is no figure of the line's.
	own.Flags = []measure.Flag{engine.FlagSharedLine}
	if p := speed.Publishable(own); p.Outcome != measure.Failed || p.Reason != measure.ReasonBusyLine || len(p.Values) > 0 || !strings.Contains(p.Detail, "Mbit/s") {
		t.Errorf("%+v", p)
	}
	if other := in.Measure(speed.WithTicket(t.Context(), give(3, "s2", soon)), "ukur-1", url, measure.KindDownload); slices.Contains(other.Flags, engine.FlagSharedLine) {
		t.Errorf("of another house: %+v", other)
	}
}

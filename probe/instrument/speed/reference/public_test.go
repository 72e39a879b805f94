package reference_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/servertest"
	"github.com/pantau-desa/pantau/probe/instrument/speed/reference"
	"github.com/pantau-desa/pantau/probe/ledger"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/target"
)

// publicNetwork is options for which www.speedtest.net is here.
func publicNetwork(t *testing.T, list http.HandlerFunc) reference.Options {
	s := httptest.NewTLSServer(list)
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return reference.Options{TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"},
		Ledger: ledger.New(ledger.Options{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			switch addr {
			case "www.speedtest.net:443":
				addr = s.Listener.Addr().String()
			case "gone.example.id:8080":
				return nil, errors.New("no such host")
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		}})}
}

func TestPublicFindsTheServerThatAnswersSoonest(t *testing.T) {
	near := servertest.Target(t, target.Options{})
	far := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond)
		io.WriteString(w, "test=test\n")
	})
	portal := servertest.Serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
	o := publicNetwork(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `[null, {"url": "ftp://x/upload.php"}, {"url": "http://gone.example.id:8080/speedtest/upload.php"},
			{"url": "%s/speedtest/upload.php", "name": "Captive"}, {"url": "%s/speedtest/upload.php", "name": "Far"},
			{"url": "%s/speedtest/upload.php", "name": "Near", "sponsor": "One", "country": "Indonesia", "unknown": 1}]`, portal, far, near)
	})
	got, err := reference.Public(t.Context(), o)
	if err != nil || got.Name != "Near" || got.URL != near+"/speedtest/upload.php" || got.RTT <= 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	rx, tx := o.Ledger.Own()
	if rx < 500 || tx < 500 {
		t.Errorf("the ledger has %d and %d bytes", rx, tx)
	}
	o.Duration = 500 * time.Millisecond
	if r := newInstrument(t, o).Measure(t.Context(), "", got.URL, measure.KindDownload); r.Outcome != measure.OK {
		t.Errorf("%s, %s (%s)", r.Outcome, r.Reason, r.Detail)
	}
}

func TestPublicFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		list http.HandlerFunc
		want measure.Reason
	}{
		{"portal", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://portal.example.id/", http.StatusFound)
		}, measure.ReasonRedirect},
		{"error", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusBadGateway) }, measure.ReasonHTTPStatus},
		{"page", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") }, measure.ReasonNoServer},
		{"empty", func(w http.ResponseWriter, r *http.Request) {}, measure.ReasonNoServer},
		{"none", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "[null, {}]") }, measure.ReasonNoServer},
		{"all gone", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, `[{"url": "http://gone.example.id:8080/speedtest/upload.php"}]`)
		}, measure.ReasonNoServer},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "[")
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(`{"url": "x"},`, 1000)); err != nil {
					return
				}
			}
		}, measure.ReasonNoServer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			got, err := reference.Public(t.Context(), publicNetwork(t, c.list))
			f, ok := errors.AsType[*server.Failure](err)
			if !ok || f.Reason != c.want {
				t.Errorf("%+v, %v; want %s", got, err, c.want)
			}
			if d := time.Since(begin); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

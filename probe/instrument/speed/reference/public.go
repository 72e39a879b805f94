package reference

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/showwin/speedtest-go/speedtest"

	"github.com/pantau-desa/pantau/probe/instrument/speed/internal/server"
	"github.com/pantau-desa/pantau/probe/measure"
)

// PublicServer is one of the public Ookla network.
type PublicServer struct {
	Name, Sponsor, Country string
	URL                    string // of its upload.php
	RTT                    time.Duration
}

func (s PublicServer) String() string {
	return fmt.Sprintf("%s, %s, %s, %.0f ms", s.Sponsor, s.Name, s.Country, float64(s.RTT)/1e6)
}

const (
	publicTime    = 20 * time.Second // for the list and an echo of each
	publicServers = 10               // of the list that are asked: the nearest, it says
	publicBody    = 256 << 10        // bytes of the list that are read; it has some 4 kB
)

// Public asks www.speedtest.net for servers near this box's address, which it
// learns thereby, and returns the one that answers soonest. It takes 20 s at most.
// An error is a failure with its reason.
func Public(ctx context.Context, o Options) (PublicServer, error) {
	ctx, cancel := context.WithTimeout(ctx, publicTime)
	defer cancel()
	group := o.Ledger.Group()
	defer group.CloseAll()
	line := &publicTransport{http: &http.Transport{DialContext: group.DialContext, TLSClientConfig: o.TLS.Clone(),
		TLSHandshakeTimeout: publicTime / 2, ResponseHeaderTimeout: publicTime / 2}}
	defer line.http.CloseIdleConnections()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	st := &speedtest.Speedtest{Manager: speedtest.NewDataManager()}
	speedtest.WithDoer(client)(st)
	speedtest.WithUserConfig(&speedtest.UserConfig{UserAgent: userAgent})(st) // sets the client's transport
	client.Transport = line
	all, err := st.FetchServerListContext(ctx)
	if line.failed != nil {
		err = line.failed // what it was rather than what the library made of it
	}
	if err != nil {
		return PublicServer{}, server.Explain(err)
	}
	var best *speedtest.Server
	for _, s := range all {
		if s.Latency > 0 && (best == nil || s.Latency < best.Latency) {
			best = s
		}
	}
	if best == nil {
		return PublicServer{}, server.Fail(measure.ReasonNoServer, "none of %d public servers answers", len(all))
	}
	return PublicServer{Name: best.Name, Sponsor: best.Sponsor, Country: best.Country, URL: best.URL, RTT: best.Latency}, nil
}

// publicTransport carries speedtest-go's requests for the list and the echoes, and
// hands it a list that cannot harm it.
type publicTransport struct {
	http   *http.Transport
	listed bool
	failed error // of the list; the echoes, which come after it at once, leave it alone
}

func (t *publicTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.http.RoundTrip(req)
	if t.listed {
		if err == nil {
			if err = server.GoodStatus(resp); err != nil {
				resp.Body.Close()
				return nil, err
			}
			resp.Body = struct {
				io.Reader
				io.Closer
			}{io.LimitReader(resp.Body, 4096), resp.Body}
		}
		return resp, err
	}
	t.listed = true
	var list []byte
	if err == nil {
		list, err = readList(resp)
		resp.Body.Close()
	}
	if t.failed = err; err != nil {
		return nil, err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(list)), int64(len(list))
	return resp, nil
}

// readList takes from the answer what is a server.
func readList(resp *http.Response) ([]byte, error) {
	if err := server.GoodStatus(resp); err != nil {
		return nil, err
	}
	var all, good []*speedtest.Server
	if err := json.NewDecoder(io.LimitReader(resp.Body, publicBody)).Decode(&all); err != nil {
		return nil, server.Fail(measure.ReasonNoServer, "the list of public servers cannot be read: %v", err)
	}
	for _, s := range all {
		if s == nil || len(good) == publicServers {
			continue
		}
		if _, err := server.ParseBase(s.URL); err == nil {
			good = append(good, &speedtest.Server{URL: s.URL, Name: s.Name, Sponsor: s.Sponsor, Country: s.Country, ID: s.ID, Host: s.Host, Distance: s.Distance})
		}
	}
	if len(good) == 0 {
		return nil, server.Fail(measure.ReasonNoServer, "the list of %d public servers has none with a usable address", len(all))
	}
	return json.Marshal(good)
}

// Package ingesttest runs the collector's real ingest on loopback for tests of
// those who speak to it: TLS, registry, journal and index are what a collector
// has, in a directory of the test's own. Only what lies behind ingest (states,
// configurations) is recorded or set by the test.
package ingesttest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pantau-desa/pantau/collector/ingest"
	"github.com/pantau-desa/pantau/collector/journal"
	"github.com/pantau-desa/pantau/collector/journal/index"
	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/collector/ticket"
	"github.com/pantau-desa/pantau/probe/measure"
	"github.com/pantau-desa/pantau/probe/wire"
	"github.com/pantau-desa/pantau/probe/wire/wirepb"
)

// Boot is a boot id for batches and beats.
const Boot = measure.BootID("0b5e6c1e-93a8-4b63-9a6e-2a5df3b3a001")

// Collector is a running ingest.
type Collector struct {
	*ingest.Server
	URL      string // https://127.0.0.1:port
	Registry *registry.Registry
	Journal  *journal.Journal
	Index    *index.Index
	Metrics  *prometheus.Registry
	Codec    *wire.Codec
	Desk     *ticket.Desk

	mu      sync.Mutex
	configs map[measure.ProbeID]*wirepb.ProbeConfig
	failing error
	batches []Batch
	beats   []Beat
	heard   chan struct{} // closed at the next batch or beat
	stop    context.CancelFunc
}

// Batch is what the state engine would have been told.
type Batch struct {
	Probe    measure.ProbeID
	Received time.Time
	Batch    wire.Batch
	Sent     wire.Sent
}

// Beat is what the state engine would have been told.
type Beat struct {
	Beat    wire.Heartbeat
	Arrived time.Time
}

// Start runs a collector's ingest until the test ends. Each change may set
// options before the start.
func Start(t testing.TB, changes ...func(*ingest.Options)) *Collector {
	t.Helper()
	dir := t.TempDir()
	c := &Collector{Metrics: prometheus.NewPedanticRegistry(), configs: map[measure.ProbeID]*wirepb.ProbeConfig{}, heard: make(chan struct{})}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	o := ingest.Options{Addr: "127.0.0.1:0", Configs: c, Batches: c, Beats: c, Registerer: c.Metrics, Now: time.Now}
	for _, change := range changes {
		change(&o)
	}
	var err error
	c.Codec, err = wire.NewCodec()
	must(err)
	c.Registry, err = registry.Open(registry.Options{Dir: filepath.Join(dir, "registry"), Names: []string{"127.0.0.1"}, Now: o.Now})
	must(err)
	t.Cleanup(func() { must(c.Registry.Close()) })
	c.Journal, err = journal.Open(journal.Options{Dir: filepath.Join(dir, "journal")})
	must(err)
	t.Cleanup(func() { must(c.Journal.Close()) })
	c.Index, err = index.Open(t.Context(), index.Options{Path: filepath.Join(dir, "index.db"), Journal: c.Journal, Key: ingest.KeyOf(c.Codec)})
	must(err)
	t.Cleanup(func() { must(c.Index.Close()) })
	o.Registry, o.Index = c.Registry, c.Index
	c.Desk, err = ticket.New(ticket.Options{Key: c.Registry.TicketKey(), Places: c, Now: o.Now})
	must(err)
	if o.Tickets == nil {
		o.Tickets = c.Desk
	}
	if o.Journal == nil {
		o.Journal = c.Journal
	}
	c.Server, err = ingest.New(o)
	must(err)
	c.URL = "https://" + c.Addr().String()

	// Not the test's own context: that ends before clean-up, which is ours.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.Server.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() {
		if err := c.Index.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	c.stop = cancel
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c
}

// Stop begins to end the collector, as the end of the test does.
func (c *Collector) Stop() { c.stop() }

// Config serves what SetConfig has set.
func (c *Collector) Config(id measure.ProbeID, _ time.Time) (*wirepb.ProbeConfig, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing != nil {
		return nil, 0, c.failing
	}
	config := c.configs[id]
	if config == nil {
		return nil, 0, nil
	}
	version, err := wire.ConfigVersion(config)
	return config, version, err
}

// Place is the site that Enrol gives a probe.
func (c *Collector) Place(id measure.ProbeID, _ time.Time) (measure.SiteID, bool) {
	return SiteOf(id), true
}

// Target lets every site test against every server but one of no name.
func (c *Collector) Target(_ measure.SiteID, target measure.TargetID, _ time.Time) bool {
	return target != ""
}

// SiteOf is the site that Enrol gives a probe: probes whose ids differ in what
// follows a slash share one.
func SiteOf(id measure.ProbeID) measure.SiteID {
	site, _, _ := strings.Cut(string(id), "/")
	return measure.SiteID("site-" + site)
}

// SetConfig sets the configuration of one probe.
func (c *Collector) SetConfig(id measure.ProbeID, config *wirepb.ProbeConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.configs[id] = config
}

// FailConfig makes every configuration fail, until it is told nil.
func (c *Collector) FailConfig(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failing = err
}

// Batch records a batch.
func (c *Collector) Batch(id measure.ProbeID, received time.Time, b wire.Batch, sent wire.Sent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches = append(c.batches, Batch{id, received, b, sent})
	c.told()
}

// Beat records a beat.
func (c *Collector) Beat(b wire.Heartbeat, arrived time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats = append(c.beats, Beat{b, arrived})
	c.told()
}

func (c *Collector) told() {
	close(c.heard)
	c.heard = make(chan struct{})
}

// Batches are those that came so far.
func (c *Collector) Batches() []Batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.batches)
}

// Beats are those that came so far.
func (c *Collector) Beats() []Beat {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.beats)
}

// Heard is closed when the next batch or beat has come.
func (c *Collector) Heard() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

// Records returns all that is in the journal.
func (c *Collector) Records(t testing.TB) []journal.Record {
	t.Helper()
	r := c.Journal.NewReader(journal.Position{})
	defer r.Close()
	var out []journal.Record
	for {
		record, _, err := r.TryNext()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, record)
	}
}

// TLS is a client's configuration that pins the collector's authority.
func (c *Collector) TLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(c.Registry.CA())
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}
}

// Client speaks HTTP/2, or HTTP/1.1 alone.
func (c *Collector) Client(t testing.TB, http2 bool) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	transport := &http.Transport{TLSClientConfig: c.TLS(), Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// Probe is an enrolled probe.
type Probe struct {
	ID        measure.ProbeID
	Key       ed25519.PrivateKey
	Heartbeat []byte
}

// Enrol makes a probe that may speak.
func (c *Collector) Enrol(t testing.TB, id measure.ProbeID) Probe {
	t.Helper()
	code, _, err := c.Registry.Add(id, SiteOf(id))
	if err != nil {
		t.Fatal(err)
	}
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	grant, err := c.Registry.Claim(code.Secret[:], public)
	if err != nil {
		t.Fatal(err)
	}
	return Probe{ID: id, Key: key, Heartbeat: grant.HeartbeatKey[:]}
}

// Body is a batch of the probe with a few results, as it would be sent.
func (c *Collector) Body(t testing.TB, p Probe, seq uint64, results int) []byte {
	t.Helper()
	at := time.Date(2026, 3, 14, 7, 5, 12, 0, time.UTC)
	b := wire.Batch{Probe: p.ID, Epoch: wire.Epoch{1}, Seq: seq, Boot: Boot, SealedAt: at.Add(time.Minute), SealedMono: 91 * time.Second, Software: "1.0.0"}
	for i := range results {
		b.Results = append(b.Results, measure.Result{Kind: measure.KindReach, Outcome: measure.OK, Instrument: "pro-bing", MethodVersion: "1",
			MeasuredAt: at.Add(time.Duration(i) * time.Second), Monotonic: time.Duration(31+i) * time.Second, Boot: Boot,
			Values: []measure.Value{{Metric: measure.ODPReachable, Number: 1}}})
	}
	body, err := c.Codec.EncodeBatch(b)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// Request is a push of body by the probe.
func (c *Collector) Request(t testing.TB, p Probe, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+wire.PathBatches, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", wire.ContentType)
	r.Header.Set(wire.HeaderProbe, string(p.ID))
	r.Header.Set(wire.HeaderSignature, base64.StdEncoding.EncodeToString(wire.Sign(p.Key, body)))
	r.Header.Set(wire.HeaderSent, wire.Sent{Boot: Boot, Mono: 95 * time.Second, Wall: time.Unix(1_700_000_000, 0)}.String())
	r.Header.Set(wire.HeaderConfig, strconv.Itoa(0))
	return r
}

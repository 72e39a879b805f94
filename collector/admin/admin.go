// Package admin is how `pantau probe ...` and the like talk to a running collector: a unix
// socket below its data directory. Who may open the socket may administer; there
// is no other authentication, and no network.
package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/collector/registry"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Socket is the path of the socket of a collector with this data directory.
func Socket(dataDir string) string { return filepath.Join(dataDir, "admin.sock") }

// Claim is a claim code that was handed out.
type Claim struct {
	Probe   measure.ProbeID `json:"probe"`
	Site    measure.SiteID  `json:"site"`
	Code    string          `json:"code"`
	Expires time.Time       `json:"expires"`
}

// Probe is one line of the list.
type Probe struct {
	Probe        measure.ProbeID `json:"probe"`
	Site         measure.SiteID  `json:"site"`
	EnrolledAt   *time.Time      `json:"enrolled_at,omitempty"`
	RevokedAt    *time.Time      `json:"revoked_at,omitempty"`
	ClaimExpires *time.Time      `json:"claim_expires,omitempty"`
	LastBeat     *time.Time      `json:"last_beat,omitempty"`
}

// Options of a Server.
type Options struct {
	DataDir   string
	Registry  *registry.Registry
	Inventory func() *inventory.Inventory
	LastBeat  func(measure.ProbeID) time.Time
	// Maintenance keeps announced work, Reload reads the inventory again.
	Maintenance Calendar
	Reload      func(context.Context) error
	// Silences mutes mails; nil: there are none.
	Silences Silencer
	Logger   *slog.Logger
}

// Server answers on the socket. Make it with New.
type Server struct {
	opt Options
	ln  net.Listener
}

// New opens the socket, readable by its owner alone. A socket that a crash left
// is replaced; one that another collector answers on is an error.
func New(o Options) (*Server, error) {
	path := Socket(o.DataDir)
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("admin: another collector answers on %s: stop that one first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin: %w", err), ln.Close())
	}
	return &Server{opt: o, ln: ln}, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /probes", s.list)
	mux.HandleFunc("POST /probes", s.add)
	mux.HandleFunc("POST /probes/{id}/revoke", s.revoke)
	mux.HandleFunc("GET /maintenance", s.windows)
	mux.HandleFunc("POST /maintenance", s.addWindow)
	mux.HandleFunc("POST /maintenance/{id}/end", s.endWindow)
	mux.HandleFunc("GET /silences", s.silences)
	mux.HandleFunc("POST /silences", s.addSilence)
	mux.HandleFunc("POST /silences/{id}/expire", s.expireSilence)
	mux.HandleFunc("POST /reload", s.reload)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

// Close gives the socket free, for a server that will not be run.
func (s *Server) Close() error {
	if err := s.ln.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Server) add(w http.ResponseWriter, r *http.Request) {
	var ask struct {
		Site  measure.SiteID  `json:"site"`
		Probe measure.ProbeID `json:"probe"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&ask); err != nil {
		http.Error(w, "unreadable request: "+err.Error(), http.StatusBadRequest)
		return
	}
	now := time.Now()
	id, err := s.place(ask.Site, ask.Probe, now)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	code, expires, err := s.opt.Registry.Add(id, ask.Site)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.opt.Logger.Info("claim code made", "probe", id, "site", ask.Site, "expires", expires)
	answer(w, Claim{Probe: id, Site: ask.Site, Code: code.String(), Expires: expires})
}

// place is the probe that the inventory has at a site.
func (s *Server) place(site measure.SiteID, want measure.ProbeID, now time.Time) (measure.ProbeID, error) {
	inv := s.opt.Inventory()
	if _, ok := inv.Site(site, now); !ok {
		return "", fmt.Errorf("the inventory has no site %q today: look in sites.csv", site)
	}
	var ids []string
	for _, p := range inv.ProbesAt(site, now) {
		if p.Probe == want {
			return want, nil
		}
		ids = append(ids, string(p.Probe))
	}
	switch {
	case len(ids) == 0:
		return "", fmt.Errorf("the inventory has no probe at site %s today: add a row to probes.csv, then run `pantau reload`", site)
	case want != "":
		return "", fmt.Errorf("the inventory has no probe %s at site %s, but %s", want, site, strings.Join(ids, ", "))
	case len(ids) > 1:
		return "", fmt.Errorf("site %s has several probes, say which with --probe: %s", site, strings.Join(ids, ", "))
	}
	return measure.ProbeID(ids[0]), nil
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	out := []Probe{}
	for _, e := range s.opt.Registry.List() {
		out = append(out, Probe{Probe: e.Probe, Site: e.Site, EnrolledAt: known(e.EnrolledAt), RevokedAt: known(e.RevokedAt),
			ClaimExpires: known(e.ClaimExpires), LastBeat: known(s.opt.LastBeat(e.Probe))})
	}
	answer(w, out)
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Round(0)
	return &t
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	id := measure.ProbeID(r.PathValue("id"))
	err := s.opt.Registry.Revoke(id)
	switch {
	case errors.Is(err, registry.ErrUnknown):
		http.Error(w, fmt.Sprintf("no probe %s is enrolled: see `pantau probe list`", id), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.opt.Logger.Info("probe revoked", "probe", id)
		answer(w, struct{}{})
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader is gone: nothing to do
}

// Client talks to a collector on this machine.
type Client struct {
	dataDir string
	http    http.Client
}

// NewClient makes a client for the collector with this data directory.
func NewClient(dataDir string) *Client {
	path := Socket(dataDir)
	return &Client{dataDir: dataDir, http: http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}}
}

// Add asks for a claim code for the probe at a site; probe may be empty where
// there is one.
func (c *Client) Add(ctx context.Context, site measure.SiteID, probe measure.ProbeID) (out Claim, err error) {
	return out, c.do(ctx, http.MethodPost, "/probes", map[string]string{"site": string(site), "probe": string(probe)}, &out)
}

// List lists all probes that were ever given a claim code.
func (c *Client) List(ctx context.Context) (out []Probe, err error) {
	return out, c.do(ctx, http.MethodGet, "/probes", nil, &out)
}

// Revoke ends a probe's key.
func (c *Client) Revoke(ctx context.Context, id measure.ProbeID) error {
	return c.do(ctx, http.MethodPost, "/probes/"+string(id)+"/revoke", nil, &struct{}{})
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://collector"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("no collector answers on %s: is `pantau serve` running with this data directory? (%w)", Socket(c.dataDir), errors.Unwrap(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(cmp.Or(strings.TrimSpace(string(raw)), resp.Status))
	}
	return json.Unmarshal(raw, out)
}

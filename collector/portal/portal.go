// Package portal is the office side's pages: how every village is now, and what
// was measured in one of them.
//
// It guarantees pages that need no script and nothing from elsewhere, that read
// in Indonesian, that escape every name as data, and that are rendered even if
// the series cannot be read: they then say which figures are missing. What is
// not known is hatched and called so, never a zero. Beside a figure stand how
// many measurements it rests on and how old it is.
//
// It refuses to decide anything: states come from the state room, figures from
// PromQL, names and plans from the inventory.
package portal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/pantau-desa/pantau/collector/maintenance"
	"github.com/pantau-desa/pantau/collector/portal/bahasa"
	"github.com/pantau-desa/pantau/collector/state"
	"github.com/pantau-desa/pantau/configs/inventory"
	"github.com/pantau-desa/pantau/probe/measure"
)

// Options of the pages. Inventory, States and Query are required.
type Options struct {
	// Inventory is the one in force; nil while there is none.
	Inventory func() *inventory.Inventory
	// States is what is known now of every site.
	States func() state.Snapshot
	Query  Querier
	// Incidents is what broke. nil: the pages about it are not there.
	Incidents Incidents
	// Mail is what became of mails; nil: mail is not configured.
	Mail Mailbox
	// Maintenance lists announced work that is not over. nil: none.
	Maintenance func() []maintenance.Window
	// Notice is what every page must say, such as that a reload failed; empty:
	// nothing. nil: never anything.
	Notice func() string
	// Now is the time of the figures. nil: time.Now.
	Now func() time.Time
	// Simulation marks every page, on screen and on paper, as not of the real
	// network.
	Simulation bool
	// Schematic says under the map that the inventory's positions are not where
	// the villages lie.
	Schematic bool
	// Software is a probe's software version, if it is known. nil: of none.
	Software func(measure.ProbeID) (version string, known bool)
	// Patience is how long one page may wait for its figures. 0: 10 s.
	Patience time.Duration
	Logger   *slog.Logger
}

//go:embed style.css
var styleSheet []byte

//go:embed templates
var templates embed.FS

// pages serves the office side.
type pages struct {
	Options
	mux       *http.ServeMux
	templates *template.Template
	style     string // path of the style sheet
	maps      mapCache
}

// smallest is the size, in bytes, from which an answer is compressed.
const smallest = 4 << 10

// New returns the handler of the pages: GET and HEAD of "/", "/desa/{code}",
// "/gangguan", "/gangguan/{id}", "/surat" and the style sheet. Another path is a page that says 404, another method one that
// says 405. Long answers are compressed (gzip, RFC 1952) for those who accept it.
// It panics if a required option is missing.
func New(o Options) http.Handler {
	if o.Inventory == nil || o.States == nil || o.Query == nil {
		panic("portal: Inventory, States and Query are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Software == nil {
		o.Software = func(measure.ProbeID) (string, bool) { return "", false }
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	sum := sha256.Sum256(styleSheet)
	p := &pages{
		Options:   o,
		mux:       http.NewServeMux(),
		templates: template.Must(template.ParseFS(templates, "templates/*.html")),
		style:     "/gaya-" + hex.EncodeToString(sum[:8]) + ".css",
	}
	p.mux.HandleFunc("/{$}", p.home)
	p.mux.HandleFunc("/desa/{code}", p.village)
	if o.Incidents != nil {
		p.mux.HandleFunc("/gangguan", p.incidents)
		p.mux.HandleFunc("/gangguan/{id}", p.incident)
	}
	p.mux.HandleFunc("/surat", p.mails)
	p.mux.HandleFunc(p.style, p.sendStyle)
	p.mux.HandleFunc("/", p.missing)
	// No page holds a secret, so its compressed length betrays none.
	compressed, err := gzhttp.NewWrapper(gzhttp.MinSize(smallest), gzhttp.EnableZstd(false))
	if err != nil {
		panic("portal: " + err.Error()) // the options are constant
	}
	return compressed(p)
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if _, page := p.mux.Handler(r); page == "/" { // nothing is there, whatever is asked of it
			p.missing(w, r)
			return
		}
		h.Set("Allow", "GET, HEAD")
		p.send(w, http.StatusMethodNotAllowed, "message", p.message("Permintaan tidak dikenal", "Halaman ini hanya untuk dibaca."))
		return
	}
	p.mux.ServeHTTP(w, r)
}

// sendStyle sends the style sheet, whose path changes with its content.
func (p *pages) sendStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Write(styleSheet)
}

func (p *pages) missing(w http.ResponseWriter, _ *http.Request) {
	p.send(w, http.StatusNotFound, "message", p.message("Halaman tidak ditemukan", "Alamat ini tidak ada. Periksa kembali penulisannya."))
}

// frame is what every page has.
type frame struct {
	Title      string
	Style      string
	Simulation bool
	Now        time.Time // in the zone of what is shown
	Full       string    // Now, in full
	Clock      string    // Now, the time of day and its zone
	Refresh    string    // address of this page
	Missing    string    // figures that could not be read; empty: none
	Pages      []link    // that there are beside the home page
	Notice     string    // for the office, on every page; empty: none
}

func (p *pages) frame(now time.Time) frame {
	f := frame{Style: p.style, Simulation: p.Simulation, Now: now, Full: bahasa.Full(now),
		Clock: bahasa.Clock(now) + " " + bahasa.Zone(now), Refresh: "/"}
	if p.Notice != nil {
		f.Notice = p.Notice()
	}
	if p.Incidents != nil {
		text := "Gangguan"
		if n := len(p.Incidents.Open()); n > 0 {
			text = fmt.Sprintf("Gangguan (%s)", bahasa.Count(n))
		}
		f.Pages = append(f.Pages, link{Href: "/gangguan", Text: text})
	}
	f.Pages = append(f.Pages, link{Href: "/surat", Text: "Surat"})
	return f
}

// message is a page that only says something.
type message struct {
	frame
	Heading, Text string
}

func (p *pages) message(heading, text string) message {
	now := p.Now()
	if inv := p.Inventory(); inv != nil {
		now = now.In(inv.Location(firstProvince(inv)))
	} else {
		now = now.In(time.FixedZone("WIB", 7*60*60)) // the capital's
	}
	m := message{frame: p.frame(now), Heading: heading, Text: text}
	m.Title = heading
	return m
}

// send renders before it writes, so that a page is whole or not there.
func (p *pages) send(w http.ResponseWriter, status int, name string, page any) {
	var body bytes.Buffer
	if err := p.templates.ExecuteTemplate(&body, name, page); err != nil {
		p.Logger.Error("a page cannot be rendered", "page", name, "error", err)
		http.Error(w, "Halaman ini tidak dapat ditampilkan saat ini.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// gaps gathers which figures of a page could not be read.
type gaps struct {
	names []string
	errs  []error
}

// note records err, if it is one, under the name that readers know the figure by.
func (g *gaps) note(name string, err error) {
	if err != nil {
		g.names = append(g.names, name)
		g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
	}
}

// tell logs what is missing, once per page, and returns it for the reader. A
// reader who went away is no fault of ours.
func (g *gaps) tell(ctx context.Context, log *slog.Logger, page string) string {
	if len(g.names) == 0 {
		return ""
	}
	if ctx.Err() != context.Canceled {
		log.Error("figures of a page cannot be read", "page", page, "error", errors.Join(g.errs...))
	}
	return strings.Join(g.names, ", ")
}

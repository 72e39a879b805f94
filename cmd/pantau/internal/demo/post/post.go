// Package post is the demo's post office: a real SMTP server within the process,
// whose mails are kept as files and shown on pages, and a reader that takes a mail
// for what its recipient sees in it.
//
// It guarantees that what it shows and reads is what came over the wire, from the
// files; and that a mail's content cannot act: it is shown without scripts,
// images, forms or links to anywhere but a new window.
//
// It forwards nothing to anybody.
package post

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pantau-desa/pantau/alerts/outbox/smtptest"
)

// Options of an Office.
type Options struct {
	Dir    string       // the mails, as NNNN.eml; it is made
	Pages  net.Listener // of the pages; closed with the office
	Logger *slog.Logger // nil: none
}

// Office takes mails from Open on. Run serves the pages.
type Office struct {
	opt    Options
	server *smtptest.Server
	pages  *template.Template
}

// Open makes the folder and begins to take mails on a port of its own, with
// STARTTLS.
func Open(o Options) (*Office, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	pages, err := parsePages()
	if err != nil {
		return nil, err
	}
	s, err := smtptest.Start(smtptest.Options{Dir: o.Dir, RequireTLS: true})
	if err != nil {
		return nil, err
	}
	return &Office{opt: o, server: s, pages: pages}, nil
}

// SMTP is where it takes mails.
func (o *Office) SMTP() *smtptest.Server { return o.server }

// Addr is where its pages are.
func (o *Office) Addr() net.Addr { return o.opt.Pages.Addr() }

// Close takes no more mails, and ends the pages if Run has not.
func (o *Office) Close() error {
	o.server.Close()
	if err := o.opt.Pages.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run serves the pages until ctx ends.
func (o *Office) Run(ctx context.Context) error {
	srv := &http.Server{Handler: o.Handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(o.opt.Pages); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Letters reads all mails, the oldest first. One that cannot be read has its
// reason in the error and is left out; the rest is there.
func (o *Office) Letters() ([]Letter, error) { return Read(o.opt.Dir) }

// Read is Letters for the folder of an office.
func Read(dir string) (all []Letter, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".eml")
		if !ok {
			continue // half written
		}
		l, err := readFile(dir, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
			continue
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Letter) int { return cmp.Compare(a.Name, b.Name) })
	return all, errors.Join(errs...)
}

// readFile reads one mail; its file was written when it was taken.
func readFile(dir, name string) (Letter, error) {
	if name != filepath.Base(name) {
		return Letter{}, fs.ErrNotExist
	}
	f, err := os.Open(filepath.Join(dir, name+".eml"))
	if err != nil {
		return Letter{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Letter{}, err
	}
	l, err := read(f)
	l.Name, l.At = name, info.ModTime()
	return l, err
}

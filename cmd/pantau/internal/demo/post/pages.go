package post

import (
	_ "embed"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

//go:embed pages.html
var pagesHTML string

// parsePages reads the templates. Times are those of the mails, in WIB.
func parsePages() (*template.Template, error) {
	wib := time.FixedZone("WIB", 7*3600)
	return template.New("pages").Funcs(template.FuncMap{
		"at": func(t time.Time) string { return t.In(wib).Format("15.04.05") + " WIB" },
	}).Parse(pagesHTML)
}

// Handler serves the pages: / lists the mails, the latest first; /{name} shows one,
// /{name}.html its dressed twin alone, /{name}.eml the mail as it came. Anything
// else is 404.
func (o *Office) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", o.list)
	mux.HandleFunc("GET /{file}", o.show)
	return mux
}

// policy lets a page have its own style and the frame with the mail, nothing else.
const policy = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'"

func (o *Office) list(w http.ResponseWriter, _ *http.Request) {
	letters, err := o.Letters()
	if err != nil {
		o.opt.Logger.Warn("a mail cannot be read", "err", err)
	}
	slices.Reverse(letters)
	o.render(w, "list", struct {
		Letters    []Letter
		Unreadable bool
	}{letters, err != nil})
}

func (o *Office) show(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	extension := filepath.Ext(file)
	l, err := readFile(o.opt.Dir, strings.TrimSuffix(file, extension))
	switch {
	case errors.Is(err, fs.ErrNotExist), extension != "" && extension != ".html" && extension != ".eml":
		http.NotFound(w, r)
	case extension == ".eml":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8") // to be read, not opened
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.ServeFile(w, r, filepath.Join(o.opt.Dir, l.Name+".eml"))
	case err != nil:
		http.Error(w, "surat ini tidak terbaca: "+err.Error(), http.StatusInternalServerError)
	case extension == ".html":
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'")
		w.Write([]byte(strings.Replace(l.HTML, "<head>", `<head><base target="_blank">`, 1)))
	default:
		o.render(w, "letter", l)
	}
}

func (o *Office) render(w http.ResponseWriter, name string, data any) {
	var b strings.Builder
	if err := o.pages.ExecuteTemplate(&b, name, data); err != nil {
		o.opt.Logger.Error("a page of the mails", "err", err)
		http.Error(w, "halaman ini gagal dibuat", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("Cache-Control", "no-store")
	w.Write([]byte(b.String()))
}

package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"time"
)

// defaultControl is the control address of the commands that name none.
const defaultControl = "127.0.0.1:9090"

//go:embed page
var pageFiles embed.FS

// Policy lets the page load its own files and talk to its own origin, and nothing else.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// page is the demo page of `dev`.
type page struct {
	index []byte
	files http.Handler
}

// New returns the page. control is the address for its ready-made commands.
func New(control string) (http.Handler, error) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		return nil, fmt.Errorf("demo page: %w", err)
	}
	index, err := template.ParseFS(files, "index.html")
	if err != nil {
		return nil, fmt.Errorf("demo page: %w", err)
	}
	addr := ""
	if control != defaultControl {
		addr = control // the commands' own default does not reach it
	}
	var b bytes.Buffer
	if err := index.Execute(&b, struct{ Addr string }{addr}); err != nil {
		return nil, fmt.Errorf("demo page: %w", err)
	}
	return &page{index: b.Bytes(), files: http.FileServerFS(files)}, nil
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	switch r.URL.Path {
	case "/":
		h.Set("Content-Type", "text/html; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(p.index))
	case "/page.css", "/page.js", "/icon.svg":
		p.files.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

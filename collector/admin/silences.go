package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"

	"github.com/pantau-desa/pantau/alerts"
)

// Silencer keeps silences; *alerts.Service does.
type Silencer interface {
	Silence(context.Context, alerts.Silence) (alerts.Silence, error)
	Silences(context.Context) ([]alerts.Silence, error)
	Expire(ctx context.Context, id string) (alerts.Silence, error)
}

// silent answers for a collector that mails nobody. It reports whether it did.
func (s *Server) silent(w http.ResponseWriter) bool {
	if s.opt.Silences == nil {
		http.Error(w, "this collector has no section mail in its settings: it tells nobody, so there is nothing to silence", http.StatusConflict)
		return true
	}
	return false
}

func answerSilence(w http.ResponseWriter, made any, err error) {
	switch {
	case errors.Is(err, alerts.ErrSilence):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		answer(w, made)
	}
}

func (s *Server) silences(w http.ResponseWriter, r *http.Request) {
	if s.silent(w) {
		return
	}
	list, err := s.opt.Silences.Silences(r.Context())
	answerSilence(w, list, err)
}

func (s *Server) addSilence(w http.ResponseWriter, r *http.Request) {
	if s.silent(w) {
		return
	}
	var ask alerts.Silence
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&ask); err != nil {
		http.Error(w, "unreadable request: "+err.Error(), http.StatusBadRequest)
		return
	}
	made, err := s.opt.Silences.Silence(r.Context(), ask)
	answerSilence(w, made, err)
}

func (s *Server) expireSilence(w http.ResponseWriter, r *http.Request) {
	if s.silent(w) {
		return
	}
	ended, err := s.opt.Silences.Expire(r.Context(), r.PathValue("id"))
	answerSilence(w, ended, err)
}

// Silence begins a silence.
func (c *Client) Silence(ctx context.Context, x alerts.Silence) (out alerts.Silence, err error) {
	return out, c.do(ctx, http.MethodPost, "/silences", x, &out)
}

// Silences lists those that are in force or to come.
func (c *Client) Silences(ctx context.Context) (out []alerts.Silence, err error) {
	return out, c.do(ctx, http.MethodGet, "/silences", nil, &out)
}

// Expire ends a silence now; the beginning of its id is enough.
func (c *Client) Expire(ctx context.Context, id string) (out alerts.Silence, err error) {
	return out, c.do(ctx, http.MethodPost, "/silences/"+url.PathEscape(id)+"/expire", nil, &out)
}

package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pantau-desa/pantau/collector/maintenance"
)

// Calendar keeps announced work; *maintenance.Calendar does, with the inventory of
// the moment.
type Calendar interface {
	Add(w maintenance.Window) (maintenance.Window, error)
	End(id int) error
	List() []maintenance.Window
}

func (s *Server) addWindow(w http.ResponseWriter, r *http.Request) {
	var ask maintenance.Window
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&ask); err != nil {
		http.Error(w, "unreadable request: "+err.Error(), http.StatusBadRequest)
		return
	}
	made, err := s.opt.Maintenance.Add(ask)
	switch {
	case errors.Is(err, maintenance.ErrInvalid):
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.opt.Logger.Info("maintenance announced", "id", made.ID, "scope", made.Scope, "from", made.From, "to", made.To, "author", made.Author)
		answer(w, made)
	}
}

func (s *Server) endWindow(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err == nil {
		err = s.opt.Maintenance.End(id)
	}
	switch {
	case errors.Is(err, maintenance.ErrNotFound), errors.Is(err, strconv.ErrSyntax), errors.Is(err, strconv.ErrRange):
		http.Error(w, fmt.Sprintf("no maintenance %q goes on or is announced: see `pantau maintenance list`", r.PathValue("id")), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		s.opt.Logger.Info("maintenance ended", "id", id)
		answer(w, struct{}{})
	}
}

func (s *Server) windows(w http.ResponseWriter, _ *http.Request) { answer(w, s.opt.Maintenance.List()) }

// reloadLimit bounds how long the inventory of a whole country may take to load.
const reloadLimit = time.Minute

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), reloadLimit)
	defer cancel()
	if err := s.opt.Reload(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	answer(w, struct{}{})
}

// AddMaintenance announces work.
func (c *Client) AddMaintenance(ctx context.Context, w maintenance.Window) (out maintenance.Window, err error) {
	return out, c.do(ctx, http.MethodPost, "/maintenance", w, &out)
}

// Maintenance lists the windows that are not over.
func (c *Client) Maintenance(ctx context.Context) (out []maintenance.Window, err error) {
	return out, c.do(ctx, http.MethodGet, "/maintenance", nil, &out)
}

// EndMaintenance ends a window now.
func (c *Client) EndMaintenance(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/maintenance/"+id+"/end", nil, &struct{}{})
}

// Reload has the collector read its inventory again.
func (c *Client) Reload(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/reload", nil, &struct{}{})
}

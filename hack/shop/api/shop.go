package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// shop answers the requests.
type shop struct {
	log     *slog.Logger
	store   *store
	cache   *cache
	pod     string
	version string
	// missing is why the shop is not ready yet; nil once it is. It stays ready
	// when the database goes later: its page says so, and restarting helps nobody.
	missing atomic.Pointer[string]
}

func newShop(log *slog.Logger, store *store, cache *cache, pod, version string) *shop {
	s := &shop{log: log, store: store, cache: cache, pod: pod, version: version}
	waiting := "the database was not asked yet"
	s.missing.Store(&waiting)
	return s
}

// prepare prepares the database, again and again until it is there.
func (s *shop) prepare(ctx context.Context) {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		try, cancel := context.WithTimeout(ctx, requestTimeout)
		err := s.store.prepare(try)
		cancel()
		if err == nil {
			s.missing.Store(nil)
			s.log.Info("the database is prepared")
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("the database is not there yet", "error", err, "again in", pause)
		reason := "the database is not there yet: " + err.Error()
		s.missing.Store(&reason)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("POST /orders", s.orderByForm)
	mux.HandleFunc("GET /api/products", s.listProducts)
	mux.HandleFunc("POST /api/orders", s.orderByJSON)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /ready", s.ready)
	return http.TimeoutHandler(mux, requestTimeout, "the shop took too long to answer\n")
}

func (s *shop) ready(w http.ResponseWriter, _ *http.Request) {
	if reason := s.missing.Load(); reason != nil {
		http.Error(w, *reason, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// window is what a visitor sees.
type window struct {
	Products []product `json:"products"`
	From     string    `json:"from"`             // "cache" or "database"
	Visits   int64     `json:"visits,omitempty"` // 0: nobody knows, the cache is away
	Orders   int       `json:"orders"`
	Pod      string    `json:"pod"`
	Version  string    `json:"version"`
	Ordered  int       `json:"-"` // the number of the order just made
}

// look counts a visit and gathers what there is to see. Only the database can
// make it fail.
func (s *shop) look(ctx context.Context) (window, error) {
	w := window{From: "cache", Pod: s.pod, Version: s.version}
	var err error
	if w.Visits, err = s.cache.visit(ctx); err != nil {
		s.log.Warn("count a visit", "error", err)
	}
	// A cache that just failed would only cost its timeout again.
	working := err == nil
	if working {
		if w.Products, err = s.cache.products(ctx); err != nil {
			s.log.Warn("read the products from the cache", "error", err)
		}
	}
	if w.Products == nil {
		w.From = "database"
		if w.Products, err = s.store.products(ctx); err != nil {
			return w, fmt.Errorf("read the products: %w", err)
		}
		if working {
			if err := s.cache.keep(ctx, w.Products); err != nil {
				s.log.Warn("keep the products in the cache", "error", err)
			}
		}
	}
	if w.Orders, err = s.store.orders(ctx); err != nil {
		return w, fmt.Errorf("count the orders: %w", err)
	}
	return w, nil
}

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

func (s *shop) page(w http.ResponseWriter, r *http.Request) {
	seen, err := s.look(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	seen.Ordered, _ = strconv.Atoi(r.FormValue("ordered"))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	// An error here is a client that left.
	_ = pageTemplate.Execute(w, seen)
}

func (s *shop) listProducts(w http.ResponseWriter, r *http.Request) {
	seen, err := s.look(r.Context())
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusOK, seen)
}

// orderByForm is for the page's buttons.
func (s *shop) orderByForm(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
	id, err := strconv.Atoi(r.FormValue("product"))
	if err != nil {
		http.Error(w, "the form names no product", http.StatusBadRequest)
		return
	}
	number, err := s.order(r.Context(), id)
	if err != nil {
		s.fail(w, err)
		return
	}
	http.Redirect(w, r, fmt.Sprintf("/?ordered=%d", number), http.StatusSeeOther)
}

func (s *shop) orderByJSON(w http.ResponseWriter, r *http.Request) {
	var wanted struct {
		Product int `json:"product"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&wanted); err != nil {
		http.Error(w, `send {"product": ID}: `+err.Error(), http.StatusBadRequest)
		return
	}
	number, err := s.order(r.Context(), wanted.Product)
	if err != nil {
		s.fail(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{"order": number, "pod": s.pod})
}

func (s *shop) order(ctx context.Context, id int) (int, error) {
	number, err := s.store.order(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("order product %d: %w", id, err)
	}
	s.log.Info("sold", "order", number, "product", id)
	if err := s.cache.forget(ctx); err != nil {
		s.log.Warn("drop the products from the cache", "error", err)
	}
	return number, nil
}

// fail answers with an error; what the database said is for the log only.
func (s *shop) fail(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, errNoProduct):
		http.Error(w, err.Error(), http.StatusNotFound)
	case errors.Is(err, errSoldOut):
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		s.log.Error("answer a request", "error", err)
		http.Error(w, "the shop's database does not answer; try again in a moment", http.StatusServiceUnavailable)
	}
}

func writeJSON(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value)
}

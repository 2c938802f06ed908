package main

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// With the servers, the API is tested in hack/shop.

// lonely is a shop whose database and cache do not answer.
func lonely(t *testing.T) *shop {
	t.Helper()
	store, err := openStore(t.Context(), "postgres://shop@127.0.0.1:1/shop", "the-password")
	if err != nil {
		t.Fatal(err)
	}
	cache := openCache("127.0.0.1:1")
	t.Cleanup(func() { store.close(); cache.close() })
	return newShop(slog.New(slog.DiscardHandler), store, cache, "pod-1", "7")
}

func TestWithoutItsDatabaseTheShopSaysSo(t *testing.T) {
	handler := lonely(t).handler()
	for _, c := range []struct {
		method, path, body string
		code               int
		want               string
	}{
		{"GET", "/healthz", "", http.StatusOK, "ok"},
		{"GET", "/ready", "", http.StatusServiceUnavailable, "database"},
		{"GET", "/", "", http.StatusServiceUnavailable, "database does not answer"},
		{"GET", "/api/products", "", http.StatusServiceUnavailable, "database does not answer"},
		{"POST", "/orders", "product=1", http.StatusServiceUnavailable, "database does not answer"},
		{"POST", "/orders", "product=x", http.StatusBadRequest, "names no product"},
		{"POST", "/api/orders", `{"product": 1}`, http.StatusServiceUnavailable, "database does not answer"},
		{"POST", "/api/orders", `{"product": 1`, http.StatusBadRequest, `{"product": ID}`},
		{"POST", "/api/orders", `{"x": "` + strings.Repeat("x", 2000) + `"}`, http.StatusBadRequest, "too large"},
		{"DELETE", "/api/orders", "", http.StatusMethodNotAllowed, ""},
		{"GET", "/else", "", http.StatusNotFound, ""},
	} {
		request := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		if c.path == "/orders" {
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != c.code || !strings.Contains(answer.Body.String(), c.want) {
			t.Errorf("%s %s: %d %q, expected %d with %q", c.method, c.path, answer.Code, answer.Body, c.code, c.want)
		}
		if strings.Contains(answer.Body.String(), "the-password") {
			t.Errorf("%s %s: the answer has the password", c.method, c.path)
		}
	}
}

func TestThePageEscapesAndExplains(t *testing.T) {
	var page strings.Builder
	err := pageTemplate.Execute(&page, window{
		Products: []product{{ID: 3, Name: "<Rope>", Cents: 905, Stock: 1}, {ID: 4, Name: "Gone"}},
		From:     "database", Orders: 2, Pod: "pod-1", Version: "7", Ordered: 12,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;Rope&gt;", "9.05", `value="3"`, "sold out", "number 12", "the cache is away", "pod-1, version 7"} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	if strings.Contains(page.String(), `value="4"`) {
		t.Error("what is sold out can be ordered")
	}
}

func TestPrice(t *testing.T) {
	for cents, want := range map[int]string{0: "0.00", 7: "0.07", 100: "1.00", 12345: "123.45"} {
		if got := (product{Cents: cents}).Price(); got != want {
			t.Errorf("%d cents are %s, expected %s", cents, got, want)
		}
	}
}

func TestOptionsComeFromTheEnvironment(t *testing.T) {
	set := url.Values{"LISTEN": {":1"}, "SHOP_VERSION": {"2"}}
	got := readOptions(set.Get)
	want := options{":1", "postgres://shop@database:5432/shop", "/run/secrets/shop/password", "cache:6379", "2"}
	if got != want {
		t.Errorf("options %+v, expected %+v", got, want)
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	missing := filepath.Join(t.TempDir(), "none")
	if err := run(t.Context(), log, options{passwordFile: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("error %v", err)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("the-password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), log, options{passwordFile: file, databaseURL: "postgres://shop@database:port/shop", cacheAddress: "127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "database's address") || strings.Contains(err.Error(), "the-password") {
		t.Errorf("error %v", err)
	}
}

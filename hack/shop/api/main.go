// Command api is the shop's own service: it renders the shop's page and answers
// /api, with products and orders in PostgreSQL and a cache in Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	// requestTimeout bounds what one request may take, its queries included.
	requestTimeout = 5 * time.Second
	// shutdownTimeout is for the requests that are under way.
	shutdownTimeout = 10 * time.Second
	// firstRetry and lastRetry are the pauses between tries to prepare the
	// database, which doubles them from one to the other.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// options come from the environment; the manifest sets those that differ.
type options struct {
	listen       string // LISTEN
	databaseURL  string // DATABASE_URL, without a password
	passwordFile string // DATABASE_PASSWORD_FILE
	cacheAddress string // CACHE_ADDRESS
	version      string // SHOP_VERSION
}

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, log, readOptions(os.Getenv)); err != nil {
		log.Error("the shop's API ends", "error", err)
		os.Exit(1)
	}
}

func readOptions(env func(string) string) options {
	or := func(name, otherwise string) string {
		if value := env(name); value != "" {
			return value
		}
		return otherwise
	}
	return options{
		listen:       or("LISTEN", ":8000"),
		databaseURL:  or("DATABASE_URL", "postgres://shop@database:5432/shop"),
		passwordFile: or("DATABASE_PASSWORD_FILE", "/run/secrets/shop/password"),
		cacheAddress: or("CACHE_ADDRESS", "cache:6379"),
		version:      or("SHOP_VERSION", "unknown"),
	}
}

func run(ctx context.Context, log *slog.Logger, options options) error {
	password, err := os.ReadFile(options.passwordFile)
	if err != nil {
		return fmt.Errorf("read the database's password: %w", err)
	}
	store, err := openStore(ctx, options.databaseURL, strings.TrimRight(string(password), "\n"))
	if err != nil {
		return err
	}
	defer store.close()
	cache := openCache(options.cacheAddress)
	defer cache.close()
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	shop := newShop(log, store, cache, pod, options.version)

	server := &http.Server{Addr: options.listen, Handler: shop.handler(), ReadHeaderTimeout: requestTimeout}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	// Served at once: /ready says meanwhile what is missing.
	go shop.prepare(ctx)
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", options.listen, err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

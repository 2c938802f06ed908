package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

// run serves until a signal asks it to stop or the server fails.
func run(args []string) error {
	flags, err := parseFlags(args)
	if err != nil {
		return err
	}
	if err := flags.checkBootstrap(); err != nil {
		return err
	}
	config, err := flags.config()
	if err != nil {
		return err
	}

	// Signals are watched before the server starts, so that a stop during a
	// slow start is orderly too.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	defer server.Close()
	select {
	case <-ctx.Done():
		return nil
	case <-server.Server.StopNotify():
		return errors.New("the server stopped by itself; its log says why")
	case err := <-server.Err():
		return fmt.Errorf("serve: %w", err)
	}
}

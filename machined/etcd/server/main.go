package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

// run serves until a signal asks it to stop or the server fails.
func run(args []string) error {
	if len(args) == 2 && args[0] == checkCommand {
		return check(args[1], os.Stdout)
	}
	flags, err := parseFlags(args)
	if err != nil {
		return err
	}
	proberInterval = probeEvery
	log, err := newLogger(flags.logLevel)
	if err != nil {
		return err
	}
	listener, err := listen(flags.adminSocket, flags.adminGroup)
	if err != nil {
		return err
	}
	defer listener.Close()

	// Signals are watched before the server starts, so that a stop during a
	// slow start is orderly too.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	a, err := newAdmin(flags, log)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.serve(ctx, listener) })
	group.Go(func() error {
		defer stop()
		return a.runMember(ctx)
	})
	return group.Wait()
}

// runMember brings this node's member up and works until it ends.
func (a *admin) runMember(ctx context.Context) error {
	config, err := a.flags.config(a.log)
	if err != nil {
		return err
	}
	config.GRPCAdditionalServerOptions = append(config.GRPCAdditionalServerOptions, grpc.ChainUnaryInterceptor(a.guard))
	restarted, err := a.ground(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while it waited
		}
		return err
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	defer server.Close()
	defer a.serveMember(server)()
	if restarted && !a.running.Load().isLearner() { // the power failed before this was noted
		if err := a.flags.votes(); err != nil {
			return err
		}
	}
	defer a.background(ctx)()
	select {
	case <-ctx.Done():
		return nil
	case <-server.Server.StopNotify():
		return a.stopped(ctx, errors.New("the server stopped by itself; its log says why"))
	case err := <-server.Err():
		return a.stopped(ctx, fmt.Errorf("serve: %w", err))
	}
}

// background starts the tasks once the member is ready. The function that it
// returns ends them and waits for that.
func (a *admin) background(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	m := a.running.Load()
	var group errgroup.Group
	group.Go(func() error {
		select {
		case <-m.Server.ReadyNotify():
		case <-ctx.Done():
			return nil
		}
		for _, each := range a.tasks() {
			group.Go(func() error {
				for {
					err := a.runTask(ctx, m, each)
					if err == nil || ctx.Err() != nil {
						return nil
					}
					a.log.Error("a task of etcd's failed and is tried again", zap.String("task", each.name), zap.Error(err))
					if !pause(ctx, taskRetry) {
						return nil
					}
				}
			})
		}
		return nil
	})
	return func() {
		cancel()
		_ = group.Wait()
	}
}

// taskRetry is how long a task that failed is left alone.
const taskRetry = time.Minute

// runTask runs a task; a panic in it ends no more than that.
func (a *admin) runTask(ctx context.Context, m *member, t task) (err error) {
	defer a.survive(t.name, &err)
	return t.run(ctx, m)
}

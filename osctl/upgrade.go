package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/keelson-os/keelson/pkg/api/upgrade"
)

// upgradeWait is how long an update may take to be found healthy or given up:
// three boots, of which each has twenty minutes.
const upgradeWait = 90 * time.Minute

// upgradeOptions are the flags of upgrade.
type upgradeOptions struct {
	image                   string
	stage, force, downgrade bool
	wait                    bool
	timeout                 time.Duration
	// drainTimeout is how long the node may be drained before it is decided that it
	// restarts; zero leaves the draining to its way down.
	drainTimeout time.Duration
}

func (options *upgradeOptions) request() *upgrade.UpgradeOptions {
	return &upgrade.UpgradeOptions{
		Stage: options.stage, Force: options.force, Downgrade: options.downgrade, DrainTimeout: durationpb.New(options.drainTimeout),
	}
}

func (app *app) upgradeCommand() *cobra.Command {
	options := &upgradeOptions{}
	command := &cobra.Command{
		Use: "upgrade --image FILE|URL", Short: "Write another OS image to the node and restart it with it", Args: cobra.NoArgs,
		Long: `Write an OS bundle (keelson.bundle of the image build) to the slot of the node
that does not run, and restart it: its pods move to other nodes first. The node
takes a bundle only if a key signed it that is in the running image, or in
machine.update.keys.

The new image has three boots to be found healthy in. If it panics, hangs once
machined runs, or is not healthy within twenty minutes, the node goes back to the image before by
itself; osctl version then tells why.`,
		Example: `  osctl upgrade --image _out/keelson.bundle --wait
  osctl upgrade --image https://example.com/keelson.bundle --stage && osctl reboot`,
	}
	flags := command.Flags()
	flags.StringVar(&options.image, "image", "", "the OS bundle: a file, \"-\" for standard input, or an http:// or https:// URL")
	flags.BoolVar(&options.stage, "stage", false, "do not restart: the image is booted whenever the node restarts")
	flags.BoolVar(&options.force, "force", false, "do not move pods away first, and do not give them time to end")
	flags.BoolVar(&options.downgrade, "downgrade", false, "take an older version, too, which may not read what the newer one wrote")
	flags.DurationVar(&options.drainTimeout, "drain-timeout", 0, "call the update off when pods are left on the node after so long (0: restart then, after the config's kubelet.drainTimeout)")
	flags.BoolVar(&options.wait, "wait", false, "wait until the image is found healthy, or the node went back")
	flags.DurationVar(&options.timeout, "timeout", upgradeWait, "how long to wait")
	_ = command.MarkFlagRequired("image") // it is there
	command.RunE = func(command *cobra.Command, _ []string) error {
		if options.drainTimeout != 0 && (options.stage || options.force || options.drainTimeout < 0) {
			return usagef("--drain-timeout takes a time, and neither --stage nor --force with it")
		}
		if options.wait && options.stage {
			return usagef("--wait and --stage: an image that is staged is booted later")
		}
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		if len(nodes.nodes) > 1 {
			return usagef("-N: nodes are updated one at a time, so that the others can take over what each does")
		}
		return app.upgrade(command.Context(), nodes.nodes[0], options)
	}
	return command
}

func (app *app) upgrade(ctx context.Context, node *askedNode, options *upgradeOptions) error {
	bundle, total, err := app.openBundle(ctx, options.image)
	if err != nil {
		return err
	}
	defer bundle.Close()
	asked := app.now()
	watch := app.watchWayDown(ctx, node.Client)
	defer watch.end()
	last, err := app.sendBundle(ctx, node, bundle, total, options)
	if err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	if options.stage {
		return node.line(last.GetTo() + " is written, and is booted at the next restart")
	}
	if !options.wait {
		return node.line(last.GetTo() + " is written; restarting with it")
	}
	fmt.Fprintln(app.stderr, node.label()+last.GetTo()+" is written; waiting until the node has started again and is healthy")
	ctx, cancel := context.WithTimeoutCause(ctx, options.timeout, fmt.Errorf("%s was neither found healthy nor given up within %s: see the node's console", last.GetTo(), options.timeout))
	defer cancel()
	return app.waitUpgraded(ctx, node, asked, last.GetTo())
}

// openBundle opens a file or fetches a URL. The size is zero when unknown.
func (app *app) openBundle(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	if !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://") {
		if name == "-" {
			return io.NopCloser(app.stdin), 0, nil
		}
		file, err := os.Open(name)
		if err != nil {
			return nil, 0, err
		}
		info, err := file.Stat()
		if err == nil && info.IsDir() {
			err = fmt.Errorf("%s is a directory: expected an OS bundle, keelson.bundle of the image build", name)
		}
		if err != nil {
			file.Close()
			return nil, 0, err
		}
		return file, info.Size(), nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, 0, usagef("--image: %v", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, 0, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, 0, fmt.Errorf("fetch the OS bundle: %s answered %s", request.URL.Redacted(), answer.Status)
	}
	return answer.Body, max(answer.ContentLength, 0), nil
}

// sendBundle sends a bundle and shows what the node says; the last answer tells
// what is booted next.
func (app *app) sendBundle(ctx context.Context, node *askedNode, bundle io.Reader, total int64, options *upgradeOptions) (*upgrade.UpgradeResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := node.Upgrade.Upgrade(ctx)
	if err != nil {
		return nil, err
	}
	progress := app.newProgress(options.image)
	defer progress.end()
	sent := make(chan error, 1)
	go func() {
		err := sendChunks(stream, bundle, total, progress, options.request())
		if err != nil {
			cancel() // nobody is to wait for the rest
		}
		sent <- err
	}()
	last, err := hearUpgrade(stream)
	cancel() // a node that refused takes no more
	if sending := <-sent; err != nil && sending != nil {
		return nil, sending
	}
	return last, err
}

func sendChunks(stream grpc.BidiStreamingClient[upgrade.UpgradeRequest, upgrade.UpgradeResponse], bundle io.Reader, total int64, progress *progress, options *upgrade.UpgradeOptions) error {
	if err := stream.Send(&upgrade.UpgradeRequest{Options: options}); err != nil {
		return nil // the answer says why
	}
	err := upload(bundle, total, progress, func(chunk []byte) error {
		return stream.Send(&upgrade.UpgradeRequest{Chunk: chunk})
	})
	if err != nil {
		return err
	}
	progress.say("sent, being verified")
	return stream.CloseSend()
}

// hearUpgrade reads the node's answers to the last one.
func hearUpgrade(stream grpc.BidiStreamingClient[upgrade.UpgradeRequest, upgrade.UpgradeResponse]) (*upgrade.UpgradeResponse, error) {
	for {
		answer, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the node said nothing of the end: ask osctl version what it has")
		}
		if err != nil {
			return nil, err
		}
		if answer.GetDone() {
			return answer, nil
		}
	}
}

// waitUpgraded waits until an update is found healthy or given up.
func (app *app) waitUpgraded(ctx context.Context, node *askedNode, asked time.Time, image string) error {
	if err := app.poll(ctx, func(ctx context.Context) (bool, error) { return app.hasRebooted(ctx, node.Client, asked) }); err != nil {
		return err
	}
	var last *upgrade.Update
	err := app.poll(ctx, func(ctx context.Context) (bool, error) {
		slots, err := node.Upgrade.Slots(ctx, &upgrade.SlotsRequest{})
		if err != nil {
			return false, err
		}
		last = slots.GetLast()
		return !slots.GetProbation() && last.GetOutcome() != upgrade.Update_OUTCOME_PENDING, nil
	})
	if err != nil {
		return err
	}
	if last.GetOutcome() != upgrade.Update_OUTCOME_GOOD {
		return fmt.Errorf("the node went back to %s: %s", last.GetFrom(), last.GetWhy())
	}
	return node.line(fmt.Sprintf("%s is healthy after %s, and stays", image, app.now().Sub(asked).Round(time.Second)))
}

func (app *app) rollbackCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "rollback", Short: "Go back to the OS image in the node's other slot, and restart it", Args: cobra.NoArgs,
		Long: `Go back to the OS image in the node's other slot, and restart it: its pods move to
other nodes first. It is the image before the last update, which was healthy. An
update that waits there for its first boot (osctl upgrade --stage) is called off
instead; a node that is not on its way down for it does not restart.`,
	}
	flags := command.Flags()
	force := flags.Bool("force", false, "do not move pods away first, and do not give them time to end")
	wait := flags.Bool("wait", false, "wait until the node has started again")
	timeout := flags.Duration("timeout", wayDownTimeout, "how long to wait")
	command.RunE = func(command *cobra.Command, _ []string) error {
		nodes, err := app.fanOutNamed(command.Context())
		if err != nil {
			return err
		}
		if len(nodes.nodes) > 1 {
			return usagef("-N: nodes are rolled back one at a time, so that the others can take over what each does")
		}
		node, ctx, asked := nodes.nodes[0], command.Context(), app.now()
		watch := app.watchWayDown(ctx, node.Client)
		defer watch.end()
		answer, err := node.Upgrade.Rollback(ctx, &upgrade.RollbackRequest{Force: *force})
		if err != nil {
			return fmt.Errorf("rollback: %w", err)
		}
		if off := answer.GetCalledOff(); off != "" {
			line := "the update to " + off + " is called off: the node goes on with what it runs"
			if answer.GetRestarts() {
				line += "; it was on its way down already, and starts again"
			}
			return node.line(line)
		}
		if !*wait {
			return node.line("restarting with the image in the other slot")
		}
		fmt.Fprintln(app.stderr, node.label()+"waiting until the node has started again")
		if err := app.waitRebooted(ctx, node.Client, asked, *timeout); err != nil {
			return err
		}
		return node.line(fmt.Sprintf("the node has started again after %s", app.now().Sub(asked).Round(time.Second)))
	}
	return command
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/api/workload"
)

// logTime is how lines are stamped: RFC 3339 with a fixed width.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// logsOptions are the flags of logs.
type logsOptions struct {
	follow, timestamps   bool
	tail                 int64
	namespace, container string
	previous             bool
	since                time.Duration
	output               *outputFlag
}

// logLine is a line of a service's log in JSON and YAML.
type logLine struct {
	Time string `json:"time"`
	Line string `json:"line"`
}

func (app *app) logsCommand() *cobra.Command {
	var options logsOptions
	command := &cobra.Command{
		Use: "logs NAME | logs pod/NAME", Short: "Show the log of a service of the node, or of a pod's container",
		Example: `  osctl logs etcd                  # a service of the node
  osctl logs kubelet -f --tail 20
  osctl logs etcd -f -N all        # of every node, merged as lines come
  osctl logs pod/web-0             # a pod; -n and -c make it one too
  osctl logs web-0 -n shop -c app -f`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: app.completeServices,
	}
	options.output = addOutput(command, asTable, asJSON, asYAML)
	flags := command.Flags()
	flags.BoolVarP(&options.follow, "follow", "f", false, "keep showing new lines")
	flags.BoolVar(&options.timestamps, "timestamps", false, "begin each line with its time")
	flags.Int64Var(&options.tail, "tail", 0, "show only so many of the newest lines (0: all)")
	flags.StringVarP(&options.namespace, "namespace", "n", "", "the pod's namespace (default \"default\")")
	flags.StringVarP(&options.container, "container", "c", "", "the pod's container")
	flags.BoolVarP(&options.previous, "previous", "p", false, "the pod's container before its last restart")
	flags.DurationVar(&options.since, "since", 0, "show only lines of a pod that are younger than this")
	command.RunE = func(command *cobra.Command, args []string) error {
		if options.tail < 0 || options.tail > 1<<31 {
			return usagef("--tail %d: expected a number of lines, or 0 for all", options.tail)
		}
		pod, isPod := strings.CutPrefix(args[0], "pod/")
		if long, found := strings.CutPrefix(args[0], "pods/"); found {
			pod, isPod = long, true
		}
		if !isPod && strings.Contains(pod, "/") {
			return usagef("%q: expected a service's name or pod/NAME", args[0])
		}
		for _, flag := range []string{"namespace", "container", "previous", "since"} {
			isPod = isPod || flags.Changed(flag)
		}
		if isPod && options.output.value != asTable {
			return usagef("-o %s: a pod's log is shown as its container wrote it; only services' logs have other forms", options.output.value)
		}
		if isPod {
			return app.podLogs(command.Context(), pod, &options)
		}
		return app.serviceLogs(command.Context(), args[0], &options)
	}
	return command
}

func (app *app) serviceLogs(ctx context.Context, name string, options *logsOptions) error {
	nodes, err := app.fanOut(ctx)
	if err != nil {
		return err
	}
	return follow(ctx, nodes,
		func(ctx context.Context, node *askedNode) (service.ServiceService_LogsClient, error) {
			return node.Service.Logs(ctx, &service.LogsRequest{Name: name, Follow: options.follow, Tail: uint32(options.tail)})
		},
		func(node *askedNode, line *service.LogsResponse) error {
			if format := options.output.value; format != asTable {
				text, err := json.Marshal(logLine{line.GetTime().AsTime().Format(logTime), string(line.GetLine())})
				if err != nil {
					return fmt.Errorf("encode a line: %w", err)
				}
				return node.document(format, text)
			}
			text := string(line.GetLine())
			if options.timestamps {
				text = app.paint(faint, line.GetTime().AsTime().Format(logTime)) + " " + text
			}
			return node.line(text)
		})
}

func (app *app) podLogs(ctx context.Context, pod string, options *logsOptions) error {
	node, err := app.connect(ctx)
	if err != nil {
		return err
	}
	stream, err := node.Workload.Logs(ctx, &workload.LogsRequest{
		Namespace: options.namespace, Pod: pod, Container: options.container,
		Follow: options.follow, Previous: options.previous, Timestamps: options.timestamps,
		Tail: options.tail, SinceSeconds: int64(options.since.Round(time.Second).Seconds()),
	})
	if err != nil {
		return err
	}
	return each(stream, func(part *workload.LogsResponse) error {
		_, err := app.stdout.Write(part.GetData())
		return err
	})
}

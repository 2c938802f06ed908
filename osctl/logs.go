package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/api/workload"
)

// logTime is how lines are stamped: RFC 3339 with a fixed width.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// selectedTail is how many lines of each log -l shows, if nothing else is said;
// it is kubectl's.
const selectedTail int64 = 10

// logsOptions are the flags of logs.
type logsOptions struct {
	follow, timestamps   bool
	tail                 int64
	tailGiven            bool
	namespace, container string
	previous             bool
	since                time.Duration
	sinceTime            string
	selector             string
	allContainers        bool
	allPods, prefix      bool
	limitBytes           int64
	maxFollowed          uint32
	ignoreErrors         bool
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
		Use: "logs NAME | logs pod/NAME [CONTAINER] | logs deployment/NAME | logs -l LABELS", Short: "Show the log of a service of the node, or of a pod's container",
		Example: `  osctl logs etcd                  # a service of the node
  osctl logs kubelet -f --tail 20
  osctl logs etcd -f -N all        # of every node, merged as lines come
  osctl logs pod/web-0             # a pod; -n and -c make it one too
  osctl logs web-0 -n shop -c app -f
  osctl logs deployment/web        # of one of its pods; --all-pods of each
  osctl logs -l app=web --all-containers --prefix -f`,
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: app.completeLogs,
	}
	options.output = addOutput(command, asTable, asJSON, asYAML)
	flags := command.Flags()
	flags.BoolVarP(&options.follow, "follow", "f", false, "keep showing new lines")
	flags.BoolVar(&options.timestamps, "timestamps", false, "begin each line with its time")
	flags.Int64Var(&options.tail, "tail", -1, "show only so many of the newest lines (-1: all; with -l, if it is not given, 10)")
	flags.StringVarP(&options.namespace, "namespace", "n", "", "the pod's namespace (default \"default\")")
	app.completeNamespaces(command)
	flags.StringVarP(&options.container, "container", "c", "", "the pod's container")
	flags.BoolVarP(&options.previous, "previous", "p", false, "the pod's container before its last restart")
	flags.DurationVar(&options.since, "since", 0, "show only lines of a pod that are younger than this")
	flags.StringVar(&options.sinceTime, "since-time", "", "show only lines of a pod since then, in RFC 3339: 2026-11-20T12:00:00Z")
	flags.StringVarP(&options.selector, "selector", "l", "", "labels of the pods, instead of a name")
	flags.BoolVar(&options.allContainers, "all-containers", false, "every container of the pods")
	flags.BoolVar(&options.allPods, "all-pods", false, "every pod of what is named, not one of them")
	flags.BoolVar(&options.prefix, "prefix", false, "begin each line with its pod and container; --all-pods does so by itself")
	flags.Int64Var(&options.limitBytes, "limit-bytes", 0, "show at most so many bytes of each container's log (0: all)")
	flags.Uint32Var(&options.maxFollowed, "max-log-requests", 20, "follow the logs of so many pods at once at most (up to 100)")
	flags.BoolVar(&options.ignoreErrors, "ignore-errors", false, "go on with the others where a container's log cannot be read")
	command.MarkFlagsMutuallyExclusive("since", "since-time")
	command.MarkFlagsMutuallyExclusive("container", "all-containers")
	command.RunE = func(command *cobra.Command, args []string) error {
		if options.tail < -1 || options.tail > 1<<31 {
			return usagef("--tail %d: expected a number of lines, or -1 for all", options.tail)
		}
		if (len(args) > 0) == (options.selector != "") {
			return usagef("name a service or a pod, or give the pods' labels with -l")
		}
		options.tailGiven = flags.Changed("tail")
		if !flags.Changed("prefix") {
			options.prefix = options.allPods
		}
		name := ""
		switch len(args) {
		case 2:
			if options.container != "" || options.allContainers {
				return usagef("a container is named twice: give it as argument or by flag")
			}
			options.container = args[1]
			fallthrough
		case 1:
			name = args[0]
		}
		if kind, of, found := strings.Cut(name, "/"); found && (kind == "" || of == "" || strings.Contains(of, "/")) {
			return usagef("%q: expected a service's name, pod/NAME or another KIND/NAME", name)
		}
		isPod := name == "" || options.container != "" || strings.Contains(name, "/")
		name = podName(name)
		for _, flag := range []string{"namespace", "container", "previous", "since", "since-time", "all-containers", "all-pods", "prefix", "limit-bytes", "max-log-requests", "ignore-errors"} {
			isPod = isPod || flags.Changed(flag)
		}
		if isPod && options.output.value != asTable {
			return usagef("-o %s: a pod's log is shown as its container wrote it; only services' logs have other forms", options.output.value)
		}
		if isPod {
			return app.podLogs(command.Context(), name, &options)
		}
		return app.serviceLogs(command.Context(), name, &options)
	}
	return command
}

// podName is the plain name of "pod/NAME"; other kinds keep theirs.
func podName(name string) string {
	return strings.TrimPrefix(strings.TrimPrefix(name, "pods/"), "pod/")
}

func (app *app) serviceLogs(ctx context.Context, name string, options *logsOptions) error {
	nodes, err := app.fanOut(ctx)
	if err != nil {
		return err
	}
	return follow(ctx, nodes,
		func(ctx context.Context, node *askedNode) (service.ServiceService_LogsClient, error) {
			request := &service.LogsRequest{Name: name, Follow: options.follow}
			if options.tail >= 0 {
				request.Tail = new(uint32(options.tail))
			}
			return node.Service.Logs(ctx, request)
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
	request := &workload.LogsRequest{
		Namespace: options.namespace, Pod: pod, Container: options.container,
		Follow: options.follow, Previous: options.previous, Timestamps: options.timestamps,
		SinceSeconds:  int64(options.since.Round(time.Second).Seconds()),
		LabelSelector: options.selector, AllContainers: options.allContainers, AllPods: options.allPods, LimitBytes: options.limitBytes,
		IgnoreErrors: options.ignoreErrors,
	}
	if options.follow {
		request.MaxFollowed = options.maxFollowed
	}
	switch {
	case options.tail >= 0:
		request.Tail = &options.tail
	case options.selector != "" && !options.tailGiven:
		request.Tail = new(selectedTail)
	}
	if options.sinceTime != "" {
		since, err := time.Parse(time.RFC3339, options.sinceTime)
		if err != nil {
			return usagef("--since-time=%s: expected a time such as 2026-11-20T12:00:00Z", options.sinceTime)
		}
		request.SinceTime = timestamppb.New(since)
	}
	stream, err := node.Workload.Logs(ctx, request)
	if err != nil {
		return err
	}
	lines := &prefixedLines{out: app.stdout}
	return each(stream, func(part *workload.LogsResponse) error {
		if part.GetError() != "" {
			fmt.Fprintf(app.stderr, "%s pod/%s/%s: %s\n", app.paint(red, "error:"), part.GetPod(), part.GetContainer(), part.GetError())
			return nil
		}
		if options.prefix {
			return lines.write(fmt.Sprintf("[pod/%s/%s] ", part.GetPod(), part.GetContainer()), part.GetData())
		}
		_, err := app.stdout.Write(part.GetData())
		return err
	})
}

// prefixedLines writes lines with a prefix. Only the log of a single container
// comes in parts that end within a line.
type prefixedLines struct {
	out    io.Writer
	within bool
}

func (p *prefixedLines) write(prefix string, data []byte) error {
	for line := range bytes.Lines(data) {
		if !p.within {
			if _, err := io.WriteString(p.out, prefix); err != nil {
				return err
			}
		}
		if _, err := p.out.Write(line); err != nil {
			return err
		}
		p.within = !bytes.HasSuffix(line, []byte("\n"))
	}
	return nil
}

// Command conformance runs specs of the upstream Kubernetes conformance suite
// against a running cluster and tells how they ended. The suite, its kubectl and
// its images are built from the Kubernetes module of go.mod; docs/conformance.md
// says how to use it.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/keelson-os/keelson/pkg/version"
)

// options are the command's flags.
type options struct {
	artifacts, out string
	cluster        string
	kubeconfig     string
	importImages   bool
	selection      selection
	list, summary  bool
	resume, retry  bool
	limit, timeout time.Duration
	procs          int
}

// errTimeOver ends a run at -for.
var errTimeOver = errors.New("the time of -for is over")

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run() error {
	o, err := parseOptions(flag.CommandLine, os.Args[1:])
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second interrupt ends the program at once

	built, err := buildSuite(ctx, o.artifacts, os.Stderr)
	if err != nil {
		return err
	}
	specs, err := built.specs(ctx)
	if err != nil {
		return err
	}
	all := o.selection.plan(specs)
	if len(all) == 0 {
		return fmt.Errorf("no spec of the %d that the suite has is chosen: see -focus, -group, -every", len(specs))
	}
	if o.list {
		return list(os.Stdout, all)
	}
	missing, err := built.missingImages(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("images that the suite names and that are not built: %s\n", strings.Join(missing, ", "))
	return o.runSpecs(ctx, built, all)
}

func parseOptions(flags *flag.FlagSet, args []string) (options, error) {
	var o options
	flags.StringVar(&o.artifacts, "artifacts", "_out", "`folder` of what is built")
	flags.StringVar(&o.out, "out", "_out/conformance/run", "`folder` of the results: results.jsonl, summary.md, the logs")
	flags.StringVar(&o.cluster, "cluster", "", "osctl's `context` of the cluster (default: the current one)")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` to reach the cluster by, instead of one from osctl")
	flags.BoolVar(&o.importImages, "import", true, "import the suite's images to all nodes first")
	focus := flags.String("focus", "", "run the specs whose names match this `expression`")
	group := flags.String("group", "", "run these `groups` of specs, with commas: "+strings.Join(groupNames()[:len(groups)], ", "))
	skip := flags.String("skip", "", "leave out the specs whose names match this `expression`")
	flags.BoolVar(&o.selection.every, "every", false, "also specs that are not tagged [Conformance]")
	flags.BoolVar(&o.selection.serial, "serial", false, "also specs that need the cluster for themselves, after the others")
	flags.BoolVar(&o.list, "list", false, "list the chosen specs and end")
	flags.BoolVar(&o.summary, "summary", false, "tell of the results in -out and end")
	flags.BoolVar(&o.resume, "resume", false, "go on with the run in -out: run what has no result yet")
	flags.BoolVar(&o.retry, "retry", false, "as -resume, and run again what failed")
	flags.DurationVar(&o.limit, "for", 0, "end after this `time`; what has not run by then is told, and -resume runs it (default: no limit)")
	flags.DurationVar(&o.timeout, "spec-timeout", 30*time.Minute, "a spec that takes longer than this `time` failed")
	flags.IntVar(&o.procs, "procs", 1, "run this `number` of specs at once")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q; -help lists the flags", flags.Arg(0))
	}
	o.resume = o.resume || o.retry || o.summary
	var err error
	if o.selection.groups, err = chosenGroups(*group); err != nil {
		return o, err
	}
	if o.selection.focus, err = expression("-focus", *focus); err != nil {
		return o, err
	}
	if o.selection.skip, err = expression("-skip", *skip); err != nil {
		return o, err
	}
	switch {
	case o.selection.focus == nil && len(o.selection.groups) == 0:
		return o, errors.New("say which specs to run by -group or -focus (-focus . is all)")
	case o.procs < 1:
		return o, errors.New("-procs is at least 1")
	case o.timeout <= 0 || o.limit < 0:
		return o, errors.New("-spec-timeout and -for are times above zero")
	}
	for _, path := range []*string{&o.artifacts, &o.out} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, err
		}
	}
	if o.kubeconfig != "" {
		if o.kubeconfig, err = filepath.Abs(o.kubeconfig); err != nil {
			return o, err
		}
	}
	return o, nil
}

// expression compiles a flag's regular expression; nil if the flag is not set.
func expression(flag, text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return compiled, nil
}

// list prints what a run would do.
func list(to io.Writer, all []planned) error {
	for _, p := range all {
		note := ""
		if p.excluded != "" {
			note = "  # excluded: " + p.excluded
		}
		if _, err := fmt.Fprintf(to, "%-13s%s%s\n", p.group, p.spec, note); err != nil {
			return err
		}
	}
	return nil
}

// runSpecs runs what is to run of the plan and tells how everything ended.
func (o options) runSpecs(ctx context.Context, built suite, all []planned) error {
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	results, err := openJournal(filepath.Join(o.out, "results.jsonl"), o.resume)
	if err != nil {
		return err
	}
	defer results.close()
	parallel, serial := todo(all, results.all(), o.retry)
	fmt.Printf("%d specs chosen, %d to run\n", len(all), len(parallel)+len(serial))

	summary := func() (string, error) { return o.summarize(all, results.all()) }
	var runError error
	if !o.summary && len(parallel)+len(serial) > 0 {
		kubeconfig, err := o.reachCluster(ctx, built)
		if err != nil {
			return err
		}
		r := &runner{
			suite: built, kubeconfig: kubeconfig, out: o.out, timeout: o.timeout, journal: results, print: os.Stdout,
			after: func() error { _, err := summary(); return err },
		}
		if o.limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, o.limit, errTimeOver)
			defer cancel()
		}
		runError = r.runAll(ctx, parallel, serial, o.procs)
	}
	text, err := summary()
	if err != nil {
		return errors.Join(runError, err)
	}
	fmt.Printf("\n%s\n", text)
	if runError != nil {
		return runError
	}
	if _, sum := count(all, results.all()); sum.failed+sum.notRun > 0 {
		return fmt.Errorf("%d specs failed, %d did not run; %s has the logs", sum.failed, sum.notRun, o.out)
	}
	return nil
}

// reachCluster returns a kubeconfig of the cluster when its nodes have the
// suite's images.
func (o options) reachCluster(ctx context.Context, built suite) (string, error) {
	c := cluster{o.cluster}
	kubeconfig := o.kubeconfig
	if kubeconfig == "" {
		kubeconfig = filepath.Join(o.out, "kubeconfig")
		if err := c.kubeconfig(ctx, kubeconfig); err != nil {
			return "", err
		}
	}
	if o.importImages {
		fmt.Println("importing the suite's images")
		if err := c.importImages(ctx, built.images, os.Stdout); err != nil {
			return "", err
		}
	}
	return kubeconfig, nil
}

// summarize writes summary.md anew and returns its text.
func (o options) summarize(all []planned, outcomes map[string]outcome) (string, error) {
	var text bytes.Buffer
	a := about{suiteVersion: version.Version, what: o.selection.String()}
	if err := writeSummary(&text, a, all, outcomes); err != nil {
		return "", err
	}
	return text.String(), renameio.WriteFile(filepath.Join(o.out, "summary.md"), text.Bytes(), 0o644)
}

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/attach"
	"k8s.io/kubectl/pkg/cmd/auth"
	"k8s.io/kubectl/pkg/cmd/autoscale"
	"k8s.io/kubectl/pkg/cmd/cp"
	"k8s.io/kubectl/pkg/cmd/create"
	"k8s.io/kubectl/pkg/cmd/debug"
	"k8s.io/kubectl/pkg/cmd/describe"
	"k8s.io/kubectl/pkg/cmd/diff"
	"k8s.io/kubectl/pkg/cmd/drain"
	"k8s.io/kubectl/pkg/cmd/edit"
	"k8s.io/kubectl/pkg/cmd/events"
	"k8s.io/kubectl/pkg/cmd/explain"
	"k8s.io/kubectl/pkg/cmd/expose"
	"k8s.io/kubectl/pkg/cmd/label"
	"k8s.io/kubectl/pkg/cmd/patch"
	"k8s.io/kubectl/pkg/cmd/portforward"
	"k8s.io/kubectl/pkg/cmd/replace"
	"k8s.io/kubectl/pkg/cmd/rollout"
	runpod "k8s.io/kubectl/pkg/cmd/run"
	"k8s.io/kubectl/pkg/cmd/scale"
	"k8s.io/kubectl/pkg/cmd/set"
	"k8s.io/kubectl/pkg/cmd/taint"
	"k8s.io/kubectl/pkg/cmd/top"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	"k8s.io/kubectl/pkg/cmd/wait"
)

// kubectlCommands are kubectl's own commands, whose flags and messages people
// and scripts know. They reach Kubernetes through the node's API like the rest.
// What osctl does better by itself (get, apply, delete, logs, exec) is not here.
func (app *app) kubectlCommands() []*cobra.Command {
	streams := genericiooptions.IOStreams{In: app.stdin, Out: app.stdout, ErrOut: app.stderr}
	k := &kubernetes{app: app}
	f := cmdutil.NewFactory(k)
	commands := []*cobra.Command{
		annotate.NewCmdAnnotate("osctl", f, streams),
		apiresources.NewCmdAPIResources(f, streams),
		attach.NewCmdAttach(f, streams),
		auth.NewCmdAuth(f, streams),
		autoscale.NewCmdAutoscale(f, streams),
		drain.NewCmdCordon(f, streams),
		cp.NewCmdCp(f, streams),
		create.NewCmdCreate(f, streams),
		debug.NewCmdDebug(f, streams),
		app.explaining(k, describe.NewCmdDescribe("osctl", f, streams)),
		diff.NewCmdDiff(f, streams),
		drain.NewCmdDrain(f, streams),
		edit.NewCmdEdit(f, streams),
		events.NewCmdEvents(f, streams),
		explain.NewCmdExplain("osctl", f, streams),
		expose.NewCmdExposeService(f, streams),
		label.NewCmdLabel(f, streams),
		patch.NewCmdPatch(f, streams),
		portforward.NewCmdPortForward(f, streams),
		replace.NewCmdReplace(f, streams),
		app.explaining(k, rollout.NewCmdRollout("osctl", f, streams)),
		app.withReplicas(f, runpod.NewCmdRun(f, streams)),
		scale.NewCmdScale(f, streams),
		set.NewCmdSet(f, streams),
		taint.NewCmdTaint(f, streams),
		top.NewCmdTop(f, streams),
		drain.NewCmdUncordon(f, streams),
		app.explaining(k, wait.NewCmdWait(f, streams)),
	}
	for _, command := range commands {
		k.adopt(command)
		if command.PersistentFlags().Lookup("namespace") == nil {
			command.PersistentFlags().StringVarP(&k.namespace, "namespace", "n", "", `namespace (default "default")`)
		}
	}
	return commands
}

// kubectlWord is kubectl's name in its help, not in addresses of its manual.
var kubectlWord = regexp.MustCompile(`(^|[^/.\w-])kubectl([^/.\w-]|$)`)

// adopt makes a command of kubectl, and those below it, one of osctl.
func (k *kubernetes) adopt(command *cobra.Command) {
	for _, text := range []*string{&command.Short, &command.Long, &command.Example, &command.Use} {
		*text = kubectlWord.ReplaceAllString(*text, "${1}osctl${2}")
	}
	if command.Run != nil {
		inner := command.Run
		command.Run = nil
		command.RunE = func(command *cobra.Command, args []string) error {
			return k.run(command, func() { inner(command, args) })
		}
	}
	for _, below := range command.Commands() {
		k.adopt(below)
	}
}

// kubectlExit is how a command of kubectl ends that did not succeed.
type kubectlExit struct {
	message string
	code    int
}

func (e kubectlExit) Error() string { return e.message }

// run calls a command of kubectl, which ends the process where others return an
// error: here it ends its goroutine. Not every one of them heeds the context, so
// an interrupted one is left behind; osctl ends then.
func (k *kubernetes) run(command *cobra.Command, call func()) error {
	silenceClientGo()
	cmdutil.BehaviorOnFatal(func(message string, code int) { panic(kubectlExit{message, code}) })
	ended := make(chan error, 1)
	go func() {
		defer func() {
			switch p := recover().(type) {
			case nil:
				ended <- nil
			case kubectlExit:
				ended <- p
			default:
				panic(p)
			}
		}()
		call()
	}()
	defer k.close()
	select {
	case err := <-ended:
		return k.result(err)
	case <-command.Context().Done():
		return command.Context().Err()
	}
}

// result prints what kubectl would have, and keeps its exit code.
func (k *kubernetes) result(err error) error {
	exit, ok := errors.AsType[kubectlExit](err)
	if !ok {
		return err
	}
	if k.lost != nil {
		// kubectl wraps it in its own words, which say less.
		return k.lost
	}
	if message := strings.TrimSpace(kubectlWord.ReplaceAllString(exit.message, "${1}osctl${2}")); message != "" {
		for _, prefix := range []string{"error: ", "Error: "} {
			if rest, found := strings.CutPrefix(message, prefix); found {
				message = k.app.paint(red, "error:") + " " + rest
				break
			}
		}
		fmt.Fprintln(k.app.stderr, message)
	}
	if strings.Contains(exit.message, "See '") {
		return programExit(exitUsage)
	}
	return programExit(exit.code)
}

// silenceClientGo keeps client-go's log off the terminal: what matters of it is
// in the errors.
var silenceClientGo = sync.OnceFunc(func() { klog.SetLogger(klog.Logger{}) })

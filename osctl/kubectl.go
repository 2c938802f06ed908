package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/cmd/annotate"
	"k8s.io/kubectl/pkg/cmd/apiresources"
	"k8s.io/kubectl/pkg/cmd/attach"
	"k8s.io/kubectl/pkg/cmd/auth"
	"k8s.io/kubectl/pkg/cmd/autoscale"
	"k8s.io/kubectl/pkg/cmd/certificates"
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

	"github.com/keelson-os/keelson/pkg/nearest"
)

// kubectlCommands are kubectl's own commands, whose flags and messages people
// and scripts know. They reach Kubernetes through the node's API like the rest.
// What osctl does better by itself (get, apply, delete, logs, exec) is not here.
func (app *app) kubectlCommands() []*cobra.Command {
	streams := genericiooptions.IOStreams{In: app.stdin, Out: app.stdout, ErrOut: app.stderr}
	k := &kubernetes{app: app}
	f := k.factory()
	commands := []*cobra.Command{
		annotate.NewCmdAnnotate("osctl", f, streams),
		apiresources.NewCmdAPIResources(f, streams),
		apiresources.NewCmdAPIVersions(f, streams),
		attach.NewCmdAttach(f, streams),
		auth.NewCmdAuth(f, streams),
		autoscale.NewCmdAutoscale(f, streams),
		certificates.NewCmdCertificate(f, streams),
		drain.NewCmdCordon(f, streams),
		cp.NewCmdCp(f, streams),
		create.NewCmdCreate(f, streams),
		debug.NewCmdDebug(f, streams),
		app.explaining(k, describe.NewCmdDescribe("osctl", f, streams)),
		asApplied(diff.NewCmdDiff(f, streams)),
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
			app.completeNamespaces(command)
		}
	}
	return commands
}

// factory is what kubectl's commands get their clients from. It is kubectl's whole
// chain: attach, cp and debug take a config from it whose defaults they rely on.
func (k *kubernetes) factory() cmdutil.Factory {
	return cmdutil.NewFactory(cmdutil.NewMatchVersionFlags(k))
}

// asApplied makes diff show what apply does, by default.
func asApplied(command *cobra.Command) *cobra.Command {
	for name, value := range map[string]string{"server-side": "true", "field-manager": "osctl"} {
		_ = command.Flags().Set(name, value) // as if the user had: diff looks at that
		command.Flags().Lookup(name).DefValue = value
	}
	return command
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

// usageMessage is the end of what kubectl says to who called it wrongly.
var usageMessage = regexp.MustCompile(`See '.*' for help and examples\.?$`)

// kubectlExit is how a command of kubectl ends that did not succeed.
type kubectlExit struct {
	message string
	code    int
}

func (e kubectlExit) Error() string { return e.message }

// run calls a command of kubectl, which ends the process where others return an
// error: here it ends the goroutine that it does so in, its own or one that it
// started. Not every command heeds the context, so an interrupted one is left
// behind; osctl ends then.
func (k *kubernetes) run(command *cobra.Command, call func()) error {
	k.ctx = command.Context()
	silenceClientGo()
	rest.SetDefaultWarningHandler(rest.NewWarningWriter(k.app.stderr, rest.WarningWriterOptions{Deduplicate: true}))
	ended := make(chan error, 1)
	end := func(err error) {
		select {
		case ended <- err:
		default: // it has ended already
		}
	}
	cmdutil.BehaviorOnFatal(func(message string, code int) {
		end(kubectlExit{message, code})
		runtime.Goexit()
	})
	restore := terminalState(k.app.stdin)
	go func() {
		defer end(nil)
		call()
	}()
	defer k.close()
	select {
	case err := <-ended:
		if k.ctx.Err() == nil {
			if err != nil && k.failing != nil && k.lostError() == nil {
				k.failing(err.Error())
			}
			return k.result(err)
		}
	case <-k.ctx.Done():
	}
	// Interrupted, whichever was seen first.
	restore()
	return k.ctx.Err()
}

// terminalState returns what brings the terminal back to how it is now: a
// command that is left behind may have made it pass every key on.
func terminalState(stdin io.Reader) (restore func()) {
	file, ok := stdin.(*os.File)
	if !ok {
		return func() {}
	}
	state, err := term.GetState(int(file.Fd()))
	if err != nil {
		return func() {} // no terminal
	}
	return func() { _ = term.Restore(int(file.Fd()), state) }
}

// unknownResource is what kubectl says to a resource that does not exist.
var unknownResource = regexp.MustCompile(`the server doesn't have a resource type "([^"]*)"$`)

// resourceNames lists every plain name that a resource is known by. It is best
// effort.
func (k *kubernetes) resourceNames() []string {
	client, err := k.ToDiscoveryClient()
	if err != nil {
		return nil
	}
	// A group that does not answer hides its own resources only.
	lists, _ := client.ServerPreferredResources()
	return nearest.ResourceNames(lists)
}

// result prints what kubectl would have, and keeps its exit code.
func (k *kubernetes) result(err error) error {
	exit, ok := errors.AsType[kubectlExit](err)
	if !ok {
		return err
	}
	message := strings.TrimSpace(exit.message)
	if lost := k.lostError(); lost != nil {
		// kubectl wraps it in its own words, which say less.
		message = "error: " + k.app.explain(lost)
	} else if mistyped := unknownResource.FindStringSubmatch(message); mistyped != nil {
		if near := nearest.Names(strings.ToLower(mistyped[1]), k.resourceNames()); len(near) > 0 {
			message += "; is it one of: " + strings.Join(near, ", ")
		}
	}
	if rest, found := strings.CutPrefix(message, "error: "); found {
		message = k.app.paint(red, "error:") + " " + rest
	}
	if message != "" {
		fmt.Fprintln(k.app.stderr, message)
	}
	if exit.code == exitError && usageMessage.MatchString(message) {
		return programExit(exitUsage)
	}
	return programExit(exit.code)
}

// silenceClientGo keeps client-go's log off the terminal: what matters of it is
// in the errors.
var silenceClientGo = sync.OnceFunc(func() { klog.SetLogger(klog.Logger{}) })

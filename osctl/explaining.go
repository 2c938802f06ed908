package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

const (
	// explainTimeout bounds what is asked to explain why a pod does not run: it
	// is an addition to an answer that stands already.
	explainTimeout = 20 * time.Second
	// maxExplained is how many pods are explained at most.
	maxExplained = 10
	// lastWords is how many lines of a crashed container's log are shown.
	lastWords int64 = 5
	// maxShown is how many pods the line that tells what a wait waits for names.
	maxShown = 3
	// maxEventText is how much of an event's message that line keeps, in
	// characters.
	maxEventText = 120
)

// explaining makes describe, wait and rollout status say in a sentence why pods
// do not start.
func (app *app) explaining(k *kubernetes, command *cobra.Command) *cobra.Command {
	switch command.Name() {
	case "describe":
		show := command.Run
		command.Run = func(command *cobra.Command, args []string) {
			show(command, args)
			app.explainAfter(command, k, args)
		}
	case "wait":
		app.explainDuring(k, command)
	case "rollout":
		for _, below := range command.Commands() {
			if below.Name() == "status" {
				app.explainDuring(k, below)
			}
		}
	}
	return command
}

// explainAfter adds to a description.
func (app *app) explainAfter(command *cobra.Command, k *kubernetes, args []string) {
	ctx, cancel := context.WithTimeout(command.Context(), explainTimeout)
	defer cancel()
	e, err := k.explainer()
	if err != nil {
		return
	}
	if causes := e.look(ctx, command, args).causes; len(causes) > 0 {
		fmt.Fprintf(app.stdout, "\n%s\n  %s\n", app.paint(red, "Why it does not run:"), strings.Join(causes, "\n  "))
	}
}

// explainDuring says, on stderr, what a wait waits for: after a while, from time
// to time, and when it has waited in vain.
func (app *app) explainDuring(k *kubernetes, command *cobra.Command) {
	inner := command.Run
	command.Run = func(command *cobra.Command, args []string) {
		explainer := sync.OnceValues(k.explainer)
		o := &onlooker{out: app.stderr, look: func(ctx context.Context) sight {
			e, err := explainer()
			if err != nil {
				return sight{} // the wait itself says so
			}
			return e.look(ctx, command, args)
		}}
		ctx, cancel := context.WithCancel(command.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			o.run(ctx)
		}()
		stop := func() {
			cancel()
			select {
			case <-ended:
			case <-time.After(lastWord):
			}
		}
		defer stop()
		k.failing = func(message string) {
			if !waitedInVain.MatchString(message) {
				return
			}
			stop()
			ctx, cancel := context.WithTimeout(command.Context(), explainTimeout)
			defer cancel()
			o.last(ctx)
		}
		inner(command, args)
	}
}

// waitedInVain is what kubectl says of a wait, or a rollout, that took too long.
var waitedInVain = regexp.MustCompile("timed out waiting|exceeded its progress deadline")

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	// firstLook is how long a wait goes on in silence before it says what it
	// waits for: most are over by then.
	firstLook = 5 * time.Second
	// nextLook is the least time between two looks at what a wait waits for.
	nextLook = 2 * time.Second
	// nextWord is how long a wait says nothing at most.
	nextWord = 30 * time.Second
	// lastWord is how long an explanation that is under way may hold up the end of
	// a wait.
	lastWord = time.Second
)

// sight is what one look at the pods that are waited for shows.
type sight struct {
	// causes are why they do not run, as far as that is known: a sentence each,
	// which more lines may follow.
	causes []string
	// state makes one line of how far they are; nil if there are none.
	state func(ctx context.Context) string
	// awaitChange waits until there may be something else to see, or ctx ends; nil
	// if that cannot be waited for.
	awaitChange func(ctx context.Context)
}

// onlooker says what a wait waits for, while it does.
type onlooker struct {
	out  io.Writer
	look func(context.Context) sight
	// said are the causes that the user knows.
	said map[string]bool
	// spoke is when the user was told anything.
	spoke time.Time
}

// run tells each cause once, and how far the pods are when there is no news.
func (o *onlooker) run(ctx context.Context) {
	o.said = make(map[string]bool)
	pause := firstLook
	for {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		began := time.Now()
		seen := o.look(ctx)
		if ctx.Err() != nil {
			return // what was seen may be half of it
		}
		for _, cause := range seen.causes {
			if first, _, _ := strings.Cut(cause, "\n"); !o.said[first] {
				o.said[first] = true
				o.say(cause)
			}
		}
		if time.Since(o.spoke) >= nextWord {
			o.tell(ctx, seen)
		}
		if seen.awaitChange != nil {
			limited, cancel := context.WithDeadline(ctx, o.spoke.Add(nextWord))
			seen.awaitChange(limited)
			cancel()
		}
		pause = nextLook - time.Since(began)
	}
}

// last tells once more what the wait has waited for in vain.
func (o *onlooker) last(ctx context.Context) {
	seen := o.look(ctx)
	for _, cause := range seen.causes {
		o.say(cause)
	}
	if len(seen.causes) == 0 {
		o.tell(ctx, seen)
	}
}

// tell says how far the pods are.
func (o *onlooker) tell(ctx context.Context, seen sight) {
	if seen.state == nil {
		return
	}
	if line := seen.state(ctx); ctx.Err() == nil {
		o.say(line)
	}
}

func (o *onlooker) say(line string) {
	fmt.Fprintln(o.out, line)
	o.spoke = time.Now()
}

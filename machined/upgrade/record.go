package upgrade

import (
	"fmt"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// Record is what META remembers across boots and slots. Fields are only ever
// added: the image in the other slot reads it, too.
type Record struct {
	// Update is the last one; nil if there never was any.
	Update *Update `json:"update,omitempty"`
}

// Outcome is what became of an update.
type Outcome string

// The outcomes. A pending update was written, and is not known to be good.
const (
	Pending Outcome = "pending"
	Good    Outcome = "good"
	Failed  Outcome = "failed"
	// Undone means that someone went back to the other slot on purpose.
	Undone Outcome = "undone"
)

// Update is one that was written to a slot.
type Update struct {
	// Generation is that of the boot entry, Slot where the image is.
	Generation uint64      `json:"generation"`
	Slot       osdisk.Slot `json:"slot"`
	// From and To are the images' names: "v1.37.1 (build 7)".
	From    string    `json:"from"`
	To      string    `json:"to"`
	Written time.Time `json:"written"`
	Outcome Outcome   `json:"outcome"`
	// Why says in a sentence why it failed.
	Why string `json:"why,omitempty"`
	// Attempts are the boots of it that got as far as machined, newest last.
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Attempt is how far a boot got.
type Attempt struct {
	// Reached is the last phase of the boot sequence that was done, or "running".
	Reached string `json:"reached,omitempty"`
	// Problems are those that were left.
	Problems []string `json:"problems,omitempty"`
}

// Bounds of what META keeps of an attempt.
const (
	maxAttempts   = 8
	maxProblems   = 8
	maxProblemLen = 300
)

// beginAttempt notes that the update is being booted.
func (u *Update) beginAttempt() {
	u.Attempts = append(u.Attempts, Attempt{})
	if extra := len(u.Attempts) - maxAttempts; extra > 0 {
		u.Attempts = u.Attempts[extra:]
	}
}

// note tells how far the attempt under way is.
func (u *Update) note(reached string, problems []string) {
	if len(u.Attempts) == 0 {
		return
	}
	last := &u.Attempts[len(u.Attempts)-1]
	last.Reached, last.Problems = reached, nil
	for _, problem := range problems[:min(len(problems), maxProblems)] {
		if len(problem) > maxProblemLen {
			problem = problem[:maxProblemLen] + "…"
		}
		last.Problems = append(last.Problems, problem)
	}
}

// reached is how far the attempt under way was when it was last noted.
func (u *Update) reached() string {
	if len(u.Attempts) == 0 {
		return ""
	}
	return u.Attempts[len(u.Attempts)-1].Reached
}

// explain says why an update whose tries are used up failed, after so many boots.
func (u *Update) explain(boots int) string {
	if len(u.Attempts) == 0 {
		return fmt.Sprintf("in %s it did not get as far as its first program: its kernel cannot be loaded, panics or hangs, or its root image is damaged", countBoots(boots))
	}
	last := u.Attempts[len(u.Attempts)-1]
	text := fmt.Sprintf("it was not healthy in %s; ", countBoots(max(boots, len(u.Attempts))))
	switch last.Reached {
	case "":
		text += "the last one ended in the first phase"
	case Running:
		text += "the last one had its services started"
	default:
		text += "the last one got as far as the end of phase " + last.Reached
	}
	if len(last.Problems) > 0 {
		text += ", with: " + strings.Join(last.Problems, "; ")
	} else { // it did not say goodbye
		text += ", and then panicked or hung"
	}
	return text
}

func countBoots(n int) string {
	if n == 1 {
		return "one boot"
	}
	return fmt.Sprintf("%d boots", n)
}

// Running is an Attempt's Reached when the boot sequence is done.
const Running = "running"

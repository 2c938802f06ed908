package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// confirm asks whether something that cannot be undone is meant. Where nobody
// can be asked it refuses.
func (app *app) confirm(question string, args ...any) error {
	if !app.live {
		return usagef("this cannot be undone: give --yes")
	}
	fmt.Fprintf(app.stderr, question+" [y/N] ", args...)
	line, err := bufio.NewReader(app.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing done")
}

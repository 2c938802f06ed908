package machineconfig

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a config. It never quotes a value of
// the Secrets document.
type Error struct {
	// File is the name given to Decode.
	File string
	// Line and Column count from 1; zero for what stands in no file.
	Line, Column int
	// Field is a path: "machine.network.interfaces[0].mtu". Empty when the
	// error is about the file or a whole document.
	Field string
	// Message says what is wrong and what is expected.
	Message string
}

// Error returns "FILE:LINE:COL: field.path: message".
func (err *Error) Error() string {
	where := ""
	if err.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d: ", err.File, err.Line, err.Column)
	}
	if err.Field != "" {
		where += err.Field + ": "
	}
	return where + err.Message
}

// Errors takes apart what Decode returned, in the order of the file. Anything
// else yields nil.
func Errors(err error) []*Error {
	var many interface{ Unwrap() []error }
	var one *Error
	switch {
	case errors.As(err, &many):
		var all []*Error
		for _, part := range many.Unwrap() {
			all = append(all, Errors(part)...)
		}
		return all
	case errors.As(err, &one):
		return []*Error{one}
	}
	return nil
}

// join sorts errors by position, so that a reader fixes a file from its top.
func join(found []*Error) error {
	slices.SortStableFunc(found, func(a, b *Error) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	all := make([]error, len(found))
	for i, err := range found {
		all[i] = err
	}
	return errors.Join(all...)
}

// nearest returns the candidate that word was most likely meant to be, or ""
// when none is near.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)/3+2
	for _, candidate := range candidates {
		if strings.EqualFold(word, candidate) {
			return candidate
		}
		if distance := editDistance(strings.ToLower(word), strings.ToLower(candidate)); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// editDistance is Levenshtein's. Long words are cut: nothing near them exists.
func editDistance(a, b string) int {
	const limit = 64
	a, b = a[:min(len(a), limit)], b[:min(len(b), limit)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

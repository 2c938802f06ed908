package osbundle

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// ErrForeign says that a bundle is not made for a node at all.
var ErrForeign = errors.New("not for this node")

// CheckFor tells whether a node of a version and architecture may be updated to the
// bundle. downgrade allows older versions. The error wraps ErrForeign if no wish of
// the user's changes that.
func (m Manifest) CheckFor(running, architecture string, downgrade bool) error {
	switch order := semver.Compare(m.Version, running); {
	case m.Architecture != architecture:
		return foreignError(fmt.Sprintf("the bundle is for %s, and this node is %s", m.Architecture, architecture))
	case !semver.IsValid(m.Version):
		return foreignError(fmt.Sprintf("the bundle's version is %q, which is none", m.Version))
	case order < 0 && !downgrade:
		return fmt.Errorf("the bundle has %s, which is older than %s; etcd and Kubernetes may not read what newer ones wrote: "+
			"if you want it all the same, say so (--downgrade)", m.Version, running)
	case MinorsAhead(running, m.Version) > 1:
		return fmt.Errorf("from %s to %s is more than one minor version, which Kubernetes does not support: install each in between first", running, m.Version)
	}
	return nil
}

// foreignError is an ErrForeign with words of its own.
type foreignError string

func (e foreignError) Error() string { return string(e) }

func (foreignError) Is(target error) bool { return target == ErrForeign }

// MinorsAhead is how many minor versions a version is ahead of another one; negative
// if it is behind. A major version counts for more than there are.
func MinorsAhead(from, to string) int {
	const majors = 1000
	return (number(semver.Major(to))-number(semver.Major(from)))*majors + minor(to) - minor(from)
}

func minor(version string) int {
	return number(strings.TrimPrefix(semver.MajorMinor(version), semver.Major(version)+"."))
}

// number reads "v1" and "37"; what is no number is zero.
func number(text string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(text, "v"))
	return n
}

package qemu

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// The oldest QEMU with -netdev stream.
const minMajor, minMinor = 7, 2

func (p Platform) installHint() string {
	return fmt.Sprintf("install Debian's package %s (apt-get install %s)", p.Package, p.Package)
}

// versionTimeout bounds asking QEMU for its version.
const versionTimeout = 5 * time.Second

// Find returns the path of a QEMU that is new enough, or an error that says
// what to install.
func (p Platform) Find(ctx context.Context) (string, error) {
	path, err := exec.LookPath(p.program)
	if err != nil {
		return "", fmt.Errorf("%s is not installed: %s", p.program, p.installHint())
	}
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	output, err := exec.CommandContext(ctx, path, "-version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	if err := p.checkVersion(string(output)); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return path, nil
}

var versionPattern = regexp.MustCompile(`version (\d+)\.(\d+)`)

func (p Platform) checkVersion(output string) error {
	match := versionPattern.FindStringSubmatch(output)
	if match == nil {
		return fmt.Errorf("no version in %q: %s", output, p.installHint())
	}
	major, _ := strconv.Atoi(match[1]) // digits, by the pattern
	minor, _ := strconv.Atoi(match[2])
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("version %d.%d is too old, at least %d.%d is needed: %s",
			major, minor, minMajor, minMinor, p.installHint())
	}
	return nil
}

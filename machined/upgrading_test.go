package main

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/version"
)

func TestCheckBundle(t *testing.T) {
	for name, test := range map[string]struct {
		version, architecture string
		downgrade             bool
		code                  codes.Code
	}{
		"the same":                {version: version.Version},
		"the next patch":          {version: "v1.37.99"},
		"the next minor":          {version: "v1.38.0"},
		"one further":             {version: "v1.39.0", code: codes.FailedPrecondition},
		"another major":           {version: "v2.0.0", code: codes.FailedPrecondition},
		"an older one":            {version: "v1.36.9", code: codes.FailedPrecondition},
		"an older one on purpose": {version: "v1.36.9", downgrade: true},
		"no version":              {version: "latest", downgrade: true, code: codes.InvalidArgument},
		"another machine's":       {version: version.Version, architecture: "arm64", code: codes.InvalidArgument},
	} {
		if test.architecture == "" {
			test.architecture = "amd64"
		}
		err := checkBundle(osbundle.Manifest{Version: test.version, Architecture: test.architecture}, test.downgrade)
		if status.Code(err) != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
}

func TestProbationTime(t *testing.T) {
	n := testNode(t)
	for commandLine, want := range map[string]time.Duration{
		"quiet": probationTime, "keelson.probation=4m": 4 * time.Minute, "keelson.probation=soon": probationTime, "keelson.probation=-1m": probationTime,
	} {
		n.commandLine = host.ParseCommandLine(commandLine)
		if got := n.probationTime(); got != want {
			t.Errorf("%q: %s", commandLine, got)
		}
	}
}

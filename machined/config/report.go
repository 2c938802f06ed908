package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// How often a boot server is told that a machine is installed, and within what time:
// the machine waits with its restart.
const (
	reportTries   = 3
	reportTimeout = 10 * time.Second
)

// ReportInstalled tells a boot server, at Options.URL, that the machine is installed:
// from then on it is to be left to its disk. The network must be up.
func ReportInstalled(ctx context.Context, options Options) error {
	parsed, err := parseURL(options.URL)
	if err != nil {
		return fmt.Errorf("%s on the kernel command line: expected http://HOST/PATH or https://HOST/PATH", InstalledParameter)
	}
	client := &http.Client{Transport: options.Transport, Timeout: reportTimeout, CheckRedirect: keepEncryption}
	delay := firstDelay
	for try := 1; ; try++ {
		target, err := expand(ctx, options, parsed.Host)
		if err == nil {
			err = post(ctx, client, target)
		}
		if err == nil || try == reportTries || errors.As(err, new(unknownError)) {
			return err
		}
		select {
		case <-time.After(delay):
			delay *= 2
		case <-ctx.Done():
			return err
		}
	}
}

func post(ctx context.Context, client *http.Client, to *url.URL) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), nil)
	if err != nil {
		return errors.New("the URL cannot be requested")
	}
	response, err := client.Do(request)
	if err != nil {
		return withoutURL(err)
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, 4096)
	if response.StatusCode/100 != 2 {
		return statusError(response.StatusCode)
	}
	return nil
}

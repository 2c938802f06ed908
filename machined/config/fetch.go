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

// How long fetching is tried: a config server may start later than its nodes,
// and after this time the maintenance API helps more than another try.
const (
	fetchDeadline  = 3 * time.Minute
	requestTimeout = 30 * time.Second
	firstDelay     = time.Second
	maxDelay       = 15 * time.Second
)

// FetchError says that the URL of the kernel command line gave no config.
type FetchError struct {
	// URL without user, password and query, which may be secrets.
	URL string
	// Err is what the last try said.
	Err error
}

func (err *FetchError) Error() string {
	return fmt.Sprintf("fetch the machine config from %s (%s on the kernel command line): %v", err.URL, URLParameter, err.Err)
}

func (err *FetchError) Unwrap() error { return err.Err }

// statusError is an answer that is not the config.
type statusError int

func (code statusError) Error() string {
	return fmt.Sprintf("the server answered %d %s", int(code), http.StatusText(int(code)))
}

// permanent tells whether asking again cannot help.
func (code statusError) permanent() bool {
	return code >= 400 && code < 500 && code != http.StatusRequestTimeout && code != http.StatusTooManyRequests &&
		code != http.StatusTooEarly
}

// fetch gets the config from the URL, trying again with growing delays until
// the deadline.
func fetch(ctx context.Context, options Options) ([]byte, Source, error) {
	parsed, err := parseURL(options.URL)
	if err != nil {
		return nil, "", err
	}
	shown := withoutSecrets(parsed)
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	if options.Network != nil {
		if err := options.Network(ctx); err != nil {
			return nil, Source(shown), &FetchError{URL: shown, Err: fmt.Errorf("bring up the network: %w", err)}
		}
	}
	client := &http.Client{Transport: options.Transport, Timeout: requestTimeout, CheckRedirect: keepEncryption}
	for delay := firstDelay; ; delay = min(2*delay, maxDelay) {
		var text []byte
		target, err := expand(ctx, options, parsed.Host)
		if err == nil {
			shown = withoutSecrets(target)
			text, err = get(ctx, client, target)
		}
		if err == nil {
			return text, Source(shown), nil
		}
		if errors.As(err, new(unknownError)) {
			return nil, Source(shown), &FetchError{URL: shown, Err: err}
		}
		var code statusError
		if errors.As(err, &code) && code.permanent() {
			return nil, Source(shown), &FetchError{URL: shown, Err: err}
		}
		options.Log.Warn("machine config not fetched yet", "url", shown, "error", err, "again_in", delay)
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, Source(shown), &FetchError{URL: shown, Err: err}
		}
	}
}

func parseURL(text string) (*url.URL, error) {
	parsed, err := url.Parse(text)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return nil, &FetchError{URL: "its URL", Err: errors.New("expected http://HOST/PATH or https://HOST/PATH")}
	}
	return parsed, nil
}

// withoutSecrets is a URL for messages.
func withoutSecrets(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

func get(ctx context.Context, client *http.Client, from *url.URL) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), nil)
	if err != nil {
		return nil, errors.New("the URL cannot be requested")
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		_, _ = io.CopyN(io.Discard, response.Body, 4096)
		return nil, statusError(response.StatusCode)
	}
	return readBounded(response.Body)
}

// withoutURL is a client's error without the whole URL that it quotes, query
// included.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// keepEncryption refuses redirects that would send a config in the clear.
func keepEncryption(request *http.Request, before []*http.Request) error {
	if len(before) >= 5 {
		return errors.New("more than 5 redirects")
	}
	if before[0].URL.Scheme == "https" && request.URL.Scheme != "https" {
		return errors.New("redirected from https to http")
	}
	return nil
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	// serverName is in the certificate of every API server.
	serverName = "kubernetes"
	// askTimeout bounds one question. A busy emulated machine takes a second.
	askTimeout = 3 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 16 << 10
)

// asker asks API servers whether they are ready, as anyone may.
type asker struct {
	client *http.Client
}

func newAsker(caFile string) (*asker, error) {
	text, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read the CA: no certificate in %s", caFile)
	}
	return &asker{client: &http.Client{
		Timeout: askTimeout,
		Transport: &http.Transport{
			DialContext:     dialer.DialContext,
			TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName, MinVersion: tls.VersionTLS13},
			// A handshake each time would be most of what a question costs.
			MaxIdleConnsPerHost: 1,
			IdleConnTimeout:     time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ask returns what the API server at address is, and why if it is not ready.
func (a *asker) ask(ctx context.Context, address string) (state, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/readyz", nil)
	if err != nil {
		return silent, err
	}
	response, err := a.client.Do(request)
	var failed *url.Error
	if errors.As(err, &failed) {
		return stateOf(err), failed.Err // the log names the upstream anyway
	}
	if err != nil {
		return silent, err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)); err != nil {
		return silent, err
	}
	if response.StatusCode != http.StatusOK {
		return answering, fmt.Errorf("/readyz says %s", response.Status)
	}
	return ready, nil
}

package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// machinedUser is machined's name in Kubernetes' audit log.
const machinedUser = "keelson:machined"

// Life of machined's own certificate. It is a member of system:masters, which
// no RBAC limits and nothing can revoke, so that its certificate lives for a
// day, in memory, and is minted again in time.
const (
	machinedTTL   = 24 * time.Hour
	machinedRenew = 12 * time.Hour
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 8 << 20

// client speaks to the cluster's API and, by one transport, to the other
// servers whose certificates the cluster's CA signed. It is plain HTTP: PID 1
// holds no Kubernetes code.
type client struct {
	base string
	ca   *x509.Certificate
	// mint makes or finds machined's own certificate.
	mint func(pki.Request) (pki.KeyPair, error)

	mu     sync.Mutex
	http   *http.Client
	minted time.Time
}

func newClient(ca *x509.Certificate, endpoint netip.AddrPort, mint func(pki.Request) (pki.KeyPair, error)) *client {
	return &client{base: "https://" + endpoint.String(), ca: ca, mint: mint}
}

// forget makes the next request begin with the certificate that there is then.
func (c *client) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.minted = time.Time{}
}

// connections returns the connections to make a request by. A new certificate
// comes with new ones: probes keep a connection in use for ever, and servers
// check at every request whether the certificate it began with has expired.
func (c *client) connections(now time.Time) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.http != nil && now.Sub(c.minted) < machinedRenew {
		return c.http, nil
	}
	pair, err := c.mint(pki.Request{
		CommonName: machinedUser, Organizations: []string{"system:masters"}, Client: true, Now: now, TTL: machinedTTL,
	})
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, fmt.Errorf("read machined's own certificate: %w", err)
	}
	if c.http != nil {
		// Requests under way end on the old ones, which are closed after them.
		c.http.CloseIdleConnections()
	}
	// Certificates go by the wall clock, which may be set meanwhile.
	c.http, c.minted = newHTTP(c.ca, cert), now.Round(0)
	return c.http, nil
}

// newHTTP makes a client whose connections bear certs.
func newHTTP(ca *x509.Certificate, certs ...tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS13},
		// A probe every few seconds per server should not be a handshake each.
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
	}}
}

// statusError is an answer of the API server's that is no success.
type statusError struct {
	code    int
	message string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.message) }

func isNotFound(err error) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == http.StatusNotFound
}

// do sends a request to url and returns the answer's body, to be closed.
func (c *client) do(ctx context.Context, method, url, contentType string, body []byte) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	connections, err := c.connections(time.Now())
	if err != nil {
		return nil, err
	}
	response, err := connections.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode < http.StatusMultipleChoices {
		return response.Body, nil
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %s: %w", method, url, response.Status, err)
	}
	return nil, fmt.Errorf("%s %s: %w", method, url, &statusError{response.StatusCode, statusMessage(text)})
}

// statusMessage is the message of a Kubernetes Status, the names of the checks
// that failed of a /readyz answer, or else the text as it is on one line.
func statusMessage(text []byte) string {
	var status struct{ Message string }
	if err := json.Unmarshal(text, &status); err == nil && status.Message != "" {
		return status.Message
	}
	var failed []string
	for line := range strings.Lines(string(text)) {
		// "[-]poststarthook/rbac/bootstrap-roles failed: reason withheld"
		if check, ok := strings.CutPrefix(line, "[-]"); ok {
			name, _, _ := strings.Cut(check, " ")
			failed = append(failed, strings.TrimPrefix(name, "poststarthook/"))
		}
	}
	if len(failed) > 0 {
		return "not ready: " + strings.Join(failed, ", ")
	}
	return strings.Join(strings.Fields(string(text)), " ")
}

// get reads the object at path into target.
func (c *client) get(ctx context.Context, path string, target any) error {
	body, err := c.do(ctx, http.MethodGet, c.base+path, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(target); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// send writes a document to path.
func (c *client) send(ctx context.Context, method, path, contentType string, document any) error {
	text, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode what is sent to %s: %w", path, err)
	}
	body, err := c.do(ctx, method, c.base+path, contentType, text)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(body, maxAnswer)) // frees the connection
	return err
}

// check asks the API server for a path that answers 200 when all is well.
func (c *client) check(ctx context.Context, path string) error { return c.checkURL(ctx, c.base+path) }

// checkURL asks any server of the node for one.
func (c *client) checkURL(ctx context.Context, url string) error {
	body, err := c.do(ctx, http.MethodGet, url, "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(body, maxAnswer))
	return err
}

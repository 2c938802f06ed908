package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificates holds the TLS configuration made of the certificate files, and
// makes it anew when the files change: renewed certificates and a rotated CA
// take effect with the next connection.
type certificates struct {
	caFile, certFile, keyFile string
	// configure makes the configuration; ca is nil without a CA file.
	configure func(pair tls.Certificate, ca *x509.CertPool) *tls.Config
	log       *slog.Logger

	mu      sync.Mutex
	stamp   [3]fileStamp
	current *tls.Config
	// version counts the configurations.
	version int
}

// fileStamp tells one content of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
}

// loadCertificates loads what the server listens with. It fails when the files
// are not usable now.
func loadCertificates(o options, log *slog.Logger) (*certificates, error) {
	ca := o.ca
	if o.maintenance {
		ca = ""
	}
	return newCertificates(&certificates{caFile: ca, certFile: o.cert, keyFile: o.key, configure: serverConfig, log: log})
}

// loadForwarder loads what proves to other nodes that a call is passed on by
// one that may.
func loadForwarder(o options, log *slog.Logger) (*certificates, error) {
	return newCertificates(&certificates{caFile: o.ca, certFile: o.forwardCert, keyFile: o.forwardKey, configure: forwarderConfig, log: log})
}

func newCertificates(c *certificates) (*certificates, error) {
	c.stamp = c.stat()
	var err error
	c.current, err = c.load()
	return c, err
}

// config is the configuration to listen with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: c.forClient}
}

func (c *certificates) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	config, _ := c.newest()
	return config, nil
}

// newest is called for every connection. Looking at three files is cheap beside
// the handshake, and needs no watcher that could miss a change.
func (c *certificates) newest() (config *tls.Config, version int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := c.stat()
	if stamp == c.stamp {
		return c.current, c.version
	}
	// Kept also when loading fails, so that a broken file is logged once. Files
	// replaced one after the other change the stamp again.
	c.stamp = stamp
	fresh, err := c.load()
	if err != nil {
		c.log.Error("certificate files changed and are not usable; going on with the previous ones", "reason", err)
		return c.current, c.version
	}
	c.log.Info("certificate files changed and were loaded", "certificate", c.certFile)
	c.current = fresh
	c.version++
	return c.current, c.version
}

func (c *certificates) stat() (stamp [3]fileStamp) {
	for i, name := range []string{c.caFile, c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			stamp[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return stamp
}

func (c *certificates) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("load the certificate %s: %w", c.certFile, err)
	}
	if c.caFile == "" {
		return c.configure(pair, nil), nil
	}
	pem, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	ca := x509.NewCertPool()
	if !ca.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA %s: it holds no certificate in PEM", c.caFile)
	}
	return c.configure(pair, ca), nil
}

func serverConfig(pair tls.Certificate, ca *x509.CertPool) *tls.Config {
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		// A resumed session would skip the check against a CA rotated since.
		SessionTicketsDisabled: true,
	}
	if ca != nil {
		config.ClientCAs, config.ClientAuth = ca, tls.RequireAndVerifyClientCert
	}
	return config
}

func forwarderConfig(pair tls.Certificate, ca *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: ca}
}

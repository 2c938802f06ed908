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
	log                       *slog.Logger

	mu      sync.Mutex
	stamp   [3]fileStamp
	current *tls.Config
}

// fileStamp tells one content of a file from another.
type fileStamp struct {
	modified time.Time
	size     int64
}

// loadCertificates fails when the files are not usable now.
func loadCertificates(o options, log *slog.Logger) (*certificates, error) {
	c := &certificates{caFile: o.ca, certFile: o.cert, keyFile: o.key, log: log}
	if o.maintenance {
		c.caFile = ""
	}
	c.stamp = c.stat()
	var err error
	c.current, err = c.load()
	return c, err
}

// config is the configuration to listen with.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: c.forClient}
}

// forClient is called at every handshake. Looking at three files is cheap
// beside the handshake, and needs no watcher that could miss a change.
func (c *certificates) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp := c.stat()
	if stamp == c.stamp {
		return c.current, nil
	}
	// Kept also when loading fails, so that a broken file is logged once. Files
	// replaced one after the other change the stamp again.
	c.stamp = stamp
	fresh, err := c.load()
	if err != nil {
		c.log.Error("certificate files changed and are not usable; serving with the previous ones", "reason", err)
		return c.current, nil
	}
	c.log.Info("certificate files changed and were loaded")
	c.current = fresh
	return c.current, nil
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
		return nil, fmt.Errorf("load the server certificate %s: %w", c.certFile, err)
	}
	config := &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{pair},
		// A resumed session would skip the check against a CA rotated since.
		SessionTicketsDisabled: true,
	}
	if c.caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.caFile)
	if err != nil {
		return nil, fmt.Errorf("read the client CA: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the client CA %s: it holds no certificate in PEM", c.caFile)
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

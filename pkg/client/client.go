package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/keelson-os/keelson/pkg/api/install"
	"github.com/keelson-os/keelson/pkg/api/log"
	"github.com/keelson-os/keelson/pkg/api/machine"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/api/upgrade"
	"github.com/keelson-os/keelson/pkg/api/workload"
)

// DefaultPort is where apid listens.
const DefaultPort = "50000"

// maxMessage bounds one answer, in bytes: a list of a large cluster's objects
// comes as one message and is far above gRPC's default of 4 MiB.
const maxMessage = 64 << 20

// reconnect is how often a node that does not answer is tried: gRPC's default
// grows to two minutes, which would miss a node that has long come back.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 250 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 20 * time.Second,
}

// alive is when a silent node is asked for a sign of life and how long it may
// take: without it, following a log of a node that lost its power never ends.
// The node takes a question every 15 s.
var alive = keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 30 * time.Second}

// Options says how to reach a node and how to prove who asks.
type Options struct {
	// Endpoint is HOST or HOST:PORT of the node's API.
	Endpoint string
	// Fallbacks are tried in order when Endpoint does not answer.
	Fallbacks []string
	// CA is the certificate (PEM) that nodes are checked against.
	CA []byte
	// Cert and Key (PEM) prove who the user is, and carry the roles.
	Cert, Key []byte
	// Maintenance is set for a node that has no config yet; CA, Cert and Key
	// are not used then.
	Maintenance *Maintenance
	// Extra options for the connection, for tests.
	Extra []grpc.DialOption
}

// Client calls one node's API.
type Client struct {
	Machine  machine.MachineServiceClient
	Service  service.ServiceServiceClient
	Log      log.LogServiceClient
	Cluster  cluster.ClusterServiceClient
	Etcd     etcd.EtcdServiceClient
	Image    image.ImageServiceClient
	Workload workload.WorkloadServiceClient
	Upgrade  upgrade.UpgradeServiceClient
	Install  install.InstallServiceClient

	conn   grpc.ClientConnInterface
	closer io.Closer
}

// Dial prepares a connection; it is made by the first call, which is also
// where an unreachable endpoint shows. The connection is closed when ctx ends,
// or by Close.
func Dial(ctx context.Context, options Options) (*Client, error) {
	config, err := options.tlsConfig()
	if err != nil {
		return nil, err
	}
	endpoints := append([]string{options.Endpoint}, options.Fallbacks...)
	addresses := make([]resolver.Address, len(endpoints))
	for i, endpoint := range endpoints {
		address, err := WithPort(endpoint)
		if err != nil {
			return nil, err
		}
		// Each node's certificate is checked against the name it was dialled by.
		addresses[i] = resolver.Address{Addr: address, ServerName: address}
	}
	builder := manual.NewBuilderWithScheme("keelson")
	builder.InitialState(resolver.State{Addresses: addresses})
	dialOptions := []grpc.DialOption{
		grpc.WithResolvers(builder),
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithConnectParams(reconnect),
		grpc.WithKeepaliveParams(alive),
	}
	if options.Maintenance != nil {
		dialOptions = append(dialOptions, grpc.WithPerRPCCredentials(pairingCode(options.Maintenance.PairingCode)))
	}
	conn, err := grpc.NewClient(builder.Scheme()+":///"+addresses[0].Addr, append(dialOptions, options.Extra...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", options.Endpoint, err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	return New(conn), nil
}

// New makes a client of a connection that exists already. Close closes it.
func New(conn *grpc.ClientConn) *Client { return newClient(conn, conn) }

func newClient(conn grpc.ClientConnInterface, closer io.Closer) *Client {
	return &Client{
		Machine:  machine.NewMachineServiceClient(conn),
		Service:  service.NewServiceServiceClient(conn),
		Log:      log.NewLogServiceClient(conn),
		Cluster:  cluster.NewClusterServiceClient(conn),
		Etcd:     etcd.NewEtcdServiceClient(conn),
		Image:    image.NewImageServiceClient(conn),
		Workload: workload.NewWorkloadServiceClient(conn),
		Upgrade:  upgrade.NewUpgradeServiceClient(conn),
		Install:  install.NewInstallServiceClient(conn),
		conn:     conn,
		closer:   closer,
	}
}

// Close ends the connection and every call on it.
func (client *Client) Close() error { return client.closer.Close() }

// WithPort adds apid's port to an endpoint that names none.
func WithPort(endpoint string) (string, error) {
	if endpoint == "" {
		return "", errors.New("the endpoint is empty: expected HOST or HOST:PORT")
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		host, port = endpoint, DefaultPort
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || net.ParseIP(host) == nil && !hostname(host) {
		return "", fmt.Errorf("endpoint %q: expected HOST or HOST:PORT, such as 10.0.0.5 or [fd00::5]:50000", endpoint)
	}
	return net.JoinHostPort(host, port), nil
}

// hostname tells whether a text can be a host's name rather than a URL or an
// address with something wrong.
func hostname(text string) bool {
	for _, char := range text {
		switch {
		case char >= 'a' && char <= 'z', char >= 'A' && char <= 'Z', char >= '0' && char <= '9', char == '.', char == '-':
		default:
			return false
		}
	}
	return text != ""
}

func (options *Options) tlsConfig() (*tls.Config, error) {
	if options.Maintenance != nil {
		return options.Maintenance.tlsConfig()
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(options.CA) {
		return nil, errors.New("the CA certificate for the node's API cannot be read: expected PEM")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots}
	if len(options.Cert) > 0 || len(options.Key) > 0 {
		cert, err := tls.X509KeyPair(options.Cert, options.Key)
		if err != nil {
			return nil, fmt.Errorf("the client certificate for the node's API: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

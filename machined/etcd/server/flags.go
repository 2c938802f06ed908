package main

import (
	"errors"
	"flag"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// flags is the command line. Whatever is not here is etcd's default.
type flags struct {
	name, dataDir, bootstrapIf, clusterToken   string
	listenClients, advertiseClients, peer      string
	ca, cert, key, peerCert, peerKey, peerName string
	heartbeat, election, compactAfter          time.Duration
	quotaBytes                                 int64
	logLevel                                   string
	joinFrom, serverName, joining, removed     string
	learnerTimeout, rejoinAfter                time.Duration
	adminSocket                                string
	adminGroup                                 int
	snapshots                                  snapshotFlags
	defragmentInterval                         time.Duration
}

// optional are the flags that may be empty; those of numbers never are.
var optional = []string{"join-from", "snapshot-dir", "snapshot-store"}

func parseFlags(args []string) (*flags, error) {
	f := &flags{}
	set := flag.NewFlagSet("etcd", flag.ContinueOnError)
	set.StringVar(&f.name, "name", "", "this member's `name`, unique in the cluster")
	set.StringVar(&f.dataDir, "data-dir", "", "`folder` of the data")
	set.StringVar(&f.bootstrapIf, "bootstrap-if", "", "start a new cluster if there is no data and this `file` exists")
	set.StringVar(&f.joinFrom, "join-from", "", "`file` of members' client URLs, one a line, to join if there is no data")
	set.StringVar(&f.serverName, "server-name", "", "`name` in the certificates for clients of all members")
	set.StringVar(&f.joining, "joining", "", "`file` that exists from the time a member is added until it votes")
	set.StringVar(&f.removed, "removed", "", "`file` that is made when the member was removed: it does not come back by itself")
	set.DurationVar(&f.learnerTimeout, "learner-timeout", 10*time.Minute, "for a member that was added to catch up, until it is removed")
	set.DurationVar(&f.rejoinAfter, "rejoin-after", time.Minute, "until one that did not catch up tries again")
	set.StringVar(&f.clusterToken, "cluster-token", "", "`text` that tells a new cluster from all others")
	set.StringVar(&f.listenClients, "listen-client-urls", "", "`URLs` for clients, separated by commas")
	set.StringVar(&f.advertiseClients, "advertise-client-urls", "", "`URLs` that other nodes' clients are told")
	set.StringVar(&f.peer, "peer-url", "", "`URL` for the other members, to listen on and to be known by")
	set.StringVar(&f.ca, "ca", "", "`file` of the CA of clients and members")
	set.StringVar(&f.cert, "cert", "", "`file` of the certificate for clients")
	set.StringVar(&f.key, "key", "", "`file` of its key")
	set.StringVar(&f.peerCert, "peer-cert", "", "`file` of the certificate for members")
	set.StringVar(&f.peerKey, "peer-key", "", "`file` of its key")
	set.StringVar(&f.peerName, "peer-name", "", "common `name` that members' certificates must have")
	set.DurationVar(&f.heartbeat, "heartbeat-interval", 100*time.Millisecond, "between a leader's signs of life")
	set.DurationVar(&f.election, "election-timeout", time.Second, "without a sign of life until an election")
	// Twice etcd's default, half of what upstream calls safe: past it, etcd
	// refuses writes until someone defragments.
	set.Int64Var(&f.quotaBytes, "quota-backend-bytes", 4<<30, "database `bytes` at which writes are refused")
	// kube-apiserver compacts every five minutes. This is the net below it, for
	// the hours in which no API server runs.
	set.DurationVar(&f.compactAfter, "auto-compaction", time.Hour, "history kept")
	set.StringVar(&f.adminSocket, "admin-socket", "", "`path` of the unix socket of this member's own API")
	set.IntVar(&f.adminGroup, "admin-group", 0, "`ID` of the group that may open it; 0 leaves it as its folder makes it")
	f.snapshots.add(set)
	set.DurationVar(&f.defragmentInterval, "defragment-interval", 10*time.Minute, "how often a leader looks whether defragmenting pays; 0 for never")
	set.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	var missing []string
	set.VisitAll(func(each *flag.Flag) {
		if each.Value.String() == "" && !slices.Contains(optional, each.Name) {
			missing = append(missing, "--"+each.Name)
		}
	})
	if f.snapshots.interval > 0 && f.snapshots.dir == "" {
		missing = append(missing, "--snapshot-dir")
	}
	if missing != nil {
		return nil, fmt.Errorf("needed and not given: %s", strings.Join(missing, ", "))
	}
	return f, nil
}

// config turns the flags into the library's form.
func (f *flags) config(log *zap.Logger) (*embed.Config, error) {
	config := embed.NewConfig()
	config.Name = f.name
	config.Dir = f.dataDir
	var errs []error
	parse := func(name, text string) []url.URL {
		list, err := parseURLs(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
		return list
	}
	config.ListenClientUrls = parse("listen-client-urls", f.listenClients)
	config.AdvertiseClientUrls = parse("advertise-client-urls", f.advertiseClients)
	config.ListenPeerUrls = parse("peer-url", f.peer)
	config.AdvertisePeerUrls = config.ListenPeerUrls
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	// Our own rules stand in for these: see guard.
	config.StrictReconfigCheck = false

	config.ClientTLSInfo.CertFile, config.ClientTLSInfo.KeyFile = f.cert, f.key
	config.ClientTLSInfo.TrustedCAFile = f.ca
	config.ClientTLSInfo.ClientCertAuth = true
	config.PeerTLSInfo.CertFile, config.PeerTLSInfo.KeyFile = f.peerCert, f.peerKey
	config.PeerTLSInfo.TrustedCAFile = f.ca
	config.PeerTLSInfo.ClientCertAuth = true
	config.PeerTLSInfo.AllowedCNs = []string{f.peerName}
	config.TlsMinVersion = "TLS1.3"

	config.TickMs = uint(f.heartbeat.Milliseconds())
	config.ElectionMs = uint(f.election.Milliseconds())
	config.QuotaBackendBytes = f.quotaBytes
	config.AutoCompactionMode = embed.CompactorModePeriodic
	config.AutoCompactionRetention = f.compactAfter.String()
	config.UnsafeNoFsync = false
	config.EnableGRPCGateway = false // JSON over HTTP has no user here
	config.WarningApplyDuration = slowApply
	config.WarningUnaryRequestDuration = slowRequest
	config.Logger = "zap"
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	return config, nil
}

func parseURLs(text string) ([]url.URL, error) {
	var list []url.URL
	for each := range strings.SplitSeq(text, ",") {
		parsed, err := url.Parse(each)
		if err != nil {
			return nil, err
		}
		if parsed.Scheme != "https" || parsed.Port() == "" {
			return nil, fmt.Errorf("%q is not of the form https://ADDRESS:PORT", each)
		}
		list = append(list, *parsed)
	}
	return list, nil
}

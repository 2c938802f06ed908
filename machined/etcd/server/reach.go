package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/types"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"

	"github.com/keelson-os/keelson/machined/etcd/reach"
)

const (
	// answerTime is how long a member may take to answer whether it is there.
	answerTime = 3 * time.Second
	// maxAnswer bounds what is read of an answer, in bytes.
	maxAnswer = 1 << 20
	// clusterHeader names the answering member's cluster.
	clusterHeader = "X-Etcd-Cluster-Id"
)

// credentials read what this process shows to other members and holds theirs
// against.
func (f *flags) credentials() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.peerCert, f.peerKey)
	if err != nil {
		return nil, fmt.Errorf("read this member's certificate: %w", err)
	}
	text, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("read etcd's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read etcd's CA: no certificate in %s", f.ca)
	}
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}, nil
}

// prober asks members' peer addresses whether they are there: other than those
// for clients, they answer without a quorum too.
type prober struct{ http *http.Client }

func newProber(credentials *tls.Config) *prober {
	return &prober{http: &http.Client{
		Timeout: answerTime,
		Transport: &http.Transport{
			TLSClientConfig: credentials, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
		},
	}}
}

// ask returns nil when a process of the cluster answers at one of the URLs.
func (p *prober) ask(ctx context.Context, cluster types.ID, urls []string) error {
	err := errors.New("it has no address")
	for _, each := range urls {
		if err = p.askOne(ctx, cluster, each); err == nil {
			return nil
		}
	}
	return err
}

func (p *prober) askOne(ctx context.Context, cluster types.ID, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/members", nil)
	if err != nil {
		return err
	}
	response, err := p.http.Do(request)
	if err != nil {
		return errors.New(reach.Why(err, answerTime))
	}
	defer response.Body.Close()
	// Read to the end, so that the connection can be used again.
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)); err != nil {
		return errors.New(reach.Why(err, answerTime))
	}
	if other := response.Header.Get(clusterHeader); other != cluster.String() {
		return fmt.Errorf("it serves another etcd cluster (%s, not %s), made anew or from a snapshot: osctl reset --force the node that is to give way", other, cluster)
	}
	return nil
}

// rollCall asks all members at once whether they are there.
func (p *prober) rollCall(ctx context.Context, cluster types.ID, members []*membership.Member, self types.ID) []presence {
	list := make([]presence, len(members))
	var group sync.WaitGroup
	for i, each := range members {
		list[i] = presence{id: uint64(each.ID), name: nameOf(each), learner: each.IsLearner, self: each.ID == self}
		if list[i].self {
			list[i].answers = true
			continue
		}
		group.Go(func() {
			if err := p.ask(ctx, cluster, each.PeerURLs); err != nil {
				list[i].trouble = err.Error()
			} else {
				list[i].answers = true
			}
		})
	}
	group.Wait()
	return list
}

// rollCall asks the members of the cluster, as this one knows it.
func (a *admin) rollCall(ctx context.Context, m *member) []presence {
	return a.prober.rollCall(ctx, m.Server.Cluster().ID(), m.members(), m.Server.MemberID())
}

// members are the members this one knows, by their names.
func (m *member) members() []*membership.Member {
	list := m.Server.Cluster().Members()
	slices.SortStableFunc(list, func(a, b *membership.Member) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// nameOf is what people call a member: one that never started has no name.
func nameOf(m *membership.Member) string {
	if m.Name != "" {
		return m.Name
	}
	return "member " + m.ID.String() + ", not started"
}

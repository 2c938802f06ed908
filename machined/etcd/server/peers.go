package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/keelson-os/keelson/machined/etcd/reach"
)

// dial makes a client of other members. It verifies the cluster's name, not the
// address: members may be called by addresses that are in no certificate.
func (a *admin) dial(urls []string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints: urls, TLS: a.credentials, DialOptions: []grpc.DialOption{grpc.WithAuthority(a.flags.serverName)},
		Logger: zap.NewNop(), // its errors are told by those who call it
	})
	if err != nil {
		return nil, fmt.Errorf("make a client of %s: %w", strings.Join(urls, ", "), err)
	}
	return client, nil
}

// peers are members' addresses for clients, as this node's config has them.
type peers struct {
	admin *admin
	http  *http.Client
}

func (a *admin) newPeers() *peers {
	credentials := a.credentials.Clone()
	credentials.ServerName = a.flags.serverName
	return &peers{admin: a, http: &http.Client{
		Timeout: answerTime, Transport: &http.Transport{TLSClientConfig: credentials, DisableKeepAlives: true},
	}}
}

// answering returns the URLs at which a member of this cluster answers, and for
// each other one why not.
func (p *peers) answering(ctx context.Context, urls []string) (good, bad []string) {
	errs := make([]error, len(urls))
	var group sync.WaitGroup
	for i, url := range urls {
		group.Go(func() { errs[i] = p.ask(ctx, url) })
	}
	group.Wait()
	for i, url := range urls {
		if errs[i] == nil {
			good = append(good, url)
		} else {
			bad = append(bad, strings.TrimPrefix(url, "https://")+": "+errs[i].Error())
		}
	}
	return good, bad
}

func (p *peers) ask(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/version", nil)
	if err != nil {
		return err
	}
	response, err := p.http.Do(request)
	if err != nil {
		return errors.New(reach.Why(err, answerTime))
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// oneCluster tells the members' cluster, and where its leader is, if that is
// among them. It is an error when they are not of one cluster: then nobody but a
// person knows which is the right one.
func (p *peers) oneCluster(ctx context.Context, urls []string) (id uint64, leader string, err error) {
	client, err := p.admin.dial(urls)
	if err != nil {
		return 0, "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	clusters := map[uint64]string{}
	for _, url := range urls {
		answer, failed := client.Status(ctx, url)
		if failed != nil {
			err = fmt.Errorf("ask %s for its cluster: %s", url, told(failed))
			continue
		}
		id = answer.Header.ClusterId
		clusters[id] = url
		if answer.Leader == answer.Header.MemberId {
			leader = url
		}
	}
	switch len(clusters) {
	case 0:
		return 0, "", err
	case 1:
		return id, leader, nil
	}
	var list []string
	for id, url := range clusters {
		list = append(list, fmt.Sprintf("%s serves cluster %x", strings.TrimPrefix(url, "https://"), id))
	}
	slices.Sort(list)
	return 0, "", fmt.Errorf("the control-plane nodes are not of one etcd cluster (%s): osctl reset --force the nodes of the one that is to go", strings.Join(list, ", "))
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

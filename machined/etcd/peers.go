package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keelson-os/keelson/machined/etcd/reach"
)

// askTime is how long another node may take to say whether its etcd works.
const askTime = 5 * time.Second

// report is what another control-plane node said when its etcd was asked for.
type report struct {
	peer string
	// ready: it has a quorum, so that this node can join.
	ready bool
	// listens: there is an etcd, whether it works or not.
	listens bool
	said    string
}

// others are the URLs of the other control-plane nodes' etcd, for clients.
func (o Options) others() []string {
	if o.Peers == nil {
		return nil
	}
	var list []string
	for _, peer := range o.Peers() {
		host, port, err := net.SplitHostPort(peer)
		if err != nil {
			host, port = peer, strconv.Itoa(o.ClientPort)
		}
		own := host == o.NodeIP.String() || strings.EqualFold(host, o.Hostname)
		if own && port == strconv.Itoa(o.ClientPort) {
			continue
		}
		if each := "https://" + net.JoinHostPort(host, port); !slices.Contains(list, each) {
			list = append(list, each)
		}
	}
	return list
}

// askOthers asks all other control-plane nodes at once.
func (s *Service) askOthers(ctx context.Context) []report {
	urls := s.options.others()
	reports := make([]report, len(urls))
	var group sync.WaitGroup
	for i, each := range urls {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTime)
			defer cancel()
			reports[i] = s.ask(ctx, each)
		})
	}
	group.Wait()
	return reports
}

// ask asks one node. That etcd answers with "not ready" says that it is formed.
func (s *Service) ask(ctx context.Context, at string) report {
	r := report{peer: strings.TrimSuffix(strings.TrimPrefix(at, "https://"), ":"+strconv.Itoa(clientPort))}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/readyz", nil)
	if err != nil {
		r.said = err.Error()
		return r
	}
	response, err := s.others.Do(request)
	if err != nil {
		r.said = reach.Why(err, askTime)
		r.listens = reach.IsForeign(err) || s.accepts(ctx, at)
		return r
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		r.said = reach.Why(err, askTime)
	}
	r.listens, r.ready = true, response.StatusCode == http.StatusOK
	if !r.ready {
		r.said = "its etcd is not ready: " + failedChecks(string(text), response.Status)
	}
	return r
}

// accepts tells whether anything listens at a URL: etcd without a quorum, which
// says nothing, does.
func (s *Service) accepts(ctx context.Context, at string) bool {
	// What was asked before may have used the time up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	parsed, err := url.Parse(at)
	if err != nil {
		return false
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", parsed.Host)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

// failedChecks picks what failed from etcd's list of checks.
func failedChecks(text, fallback string) string {
	var failed []string
	for line := range strings.Lines(text) {
		if rest, found := strings.CutPrefix(strings.TrimSpace(line), "[-]"); found {
			failed = append(failed, rest)
		}
	}
	if failed == nil {
		return fallback
	}
	return strings.Join(failed, ", ")
}

// refuseNew says why no new cluster can be made beside what the others run.
func refuseNew(reports []report) error {
	for _, each := range reports {
		switch {
		case each.ready:
			return fmt.Errorf("bootstrap refused: %s serves the cluster already, and this node joins it by itself", each.peer)
		case each.listens && each.said == reach.Foreign:
			return fmt.Errorf("bootstrap refused: %s %s", each.peer, each.said)
		case each.listens:
			return fmt.Errorf("bootstrap refused: %s runs etcd already (%s): if that cluster is lost, osctl reset --force the node first", each.peer, each.said)
		}
	}
	return nil
}

// canJoin tells whether any of the others can be joined, and if not why.
func canJoin(reports []report) (bool, error) {
	var said []string
	for _, each := range reports {
		if each.ready {
			return true, nil
		}
		said = append(said, each.peer+": "+each.said)
	}
	if said == nil {
		return false, errors.New("run osctl bootstrap on one control-plane node")
	}
	return false, fmt.Errorf("no etcd to join: %s; run osctl bootstrap on one control-plane node if the cluster is new", strings.Join(said, "; "))
}

package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
)

// checkTimeout bounds one check.
const checkTimeout = 10 * time.Second

// A server that answers nothing for about a minute is restarted: long enough
// for a machine that is only busy, as an emulated one is while it boots.
const (
	probeInterval = 15 * time.Second
	probeTimeout  = 10 * time.Second
	probeFailures = 6
	startTimeout  = 5 * time.Minute
)

// serverHealth is the supervisor's check of a service by its health URL.
func (k *Kubernetes) serverHealth(url string) *supervise.HealthCheck {
	return &supervise.HealthCheck{
		Probe:        func(ctx context.Context) error { return k.api.checkURL(ctx, url) },
		Interval:     probeInterval,
		Timeout:      probeTimeout,
		Failures:     probeFailures,
		StartTimeout: startTimeout,
	}
}

// Check is the result of one health check.
type Check struct {
	Name string
	OK   bool
	// Message says what is wrong and what to do, or a little more when all is well.
	Message string
}

// Health checks this node's part of the cluster.
func (k *Kubernetes) Health(ctx context.Context) []Check {
	k.mu.Lock()
	node, reconciled := k.node, k.reconciled
	k.mu.Unlock()
	if k.isWorker() {
		return []Check{k.checkEndpoint(ctx), checkNode(k.options.Hostname, node), k.checkPodNetwork()}
	}
	return []Check{
		k.checkAPIServer(ctx),
		checkNode(k.options.Hostname, node),
		result("manifests", reconciled, fmt.Sprintf("%d in the cluster", len(k.manifests))),
		k.checkPodNetwork(),
		k.checkMetrics(ctx),
	}
}

// checkEndpoint asks whether the node reaches the cluster's API.
func (k *Kubernetes) checkEndpoint(ctx context.Context) Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := k.api.check(ctx, "/readyz")
	if err != nil {
		k.unreachable(err)
		err = fmt.Errorf("no control-plane node's API server can be used from here: %w; see osctl -N CONTROL-PLANE-NODE health", err)
	}
	return result("kubernetes API", err, "reachable")
}

func (k *Kubernetes) checkAPIServer(ctx context.Context) Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := k.api.checkURL(ctx, k.own+"/readyz?verbose")
	var status *statusError
	switch {
	case errors.As(err, &status):
		err = fmt.Errorf("%s; see osctl logs %s", status.message, APIServer)
	case err != nil:
		err = fmt.Errorf("it does not answer (%w); see osctl logs %s", err, APIServer)
	}
	return result(APIServer, err, "ready")
}

func checkNode(name string, node Node) Check {
	check := Check{Name: "node Ready", OK: node.Ready, Message: name}
	switch {
	case !node.Registered:
		check.Message = name + " has not joined the cluster; see osctl logs kubelet"
	case !node.Ready:
		check.Message = name + ": " + node.Message
	}
	return check
}

func result(name string, err error, fine string) Check {
	if err != nil {
		return Check{Name: name, Message: err.Error()}
	}
	return Check{Name: name, OK: true, Message: fine}
}

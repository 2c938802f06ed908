package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/client"
)

// answersCheck is the check that a node which does not answer fails.
const answersCheck = "API"

// healthCheck asks nodes for their checks.
type healthCheck struct {
	app *app
	// named are the nodes of -N; nil without it.
	named *fanout
	// endpoint knows what nodes there are.
	endpoint *client.Client
}

func (app *app) newHealthCheck(ctx context.Context) (*healthCheck, error) {
	check := &healthCheck{app: app}
	if len(app.nodes) > 0 || app.endpoint != "" {
		var err error
		check.named, err = app.fanOut(ctx)
		return check, err
	}
	access, _, err := app.currentContext()
	if err != nil {
		return nil, err
	}
	check.endpoint, err = app.connectTo(ctx, access.Options(""))
	return check, err
}

// nodes is whom to ask: the nodes of -N, else all that the cluster has. A node
// that belongs to no cluster yet, or to one of a single node, is asked by itself.
func (check *healthCheck) nodes(ctx context.Context) (*fanout, error) {
	if check.named != nil {
		return check.named, nil
	}
	names, err := clusterNodes(ctx, check.endpoint)
	if endpointLost(err) || status.Code(err) == codes.DeadlineExceeded {
		return nil, err
	}
	fan := &fanout{app: check.app}
	if len(names) < 2 {
		// Why there is no list, the node's own checks say best.
		fan.add(check.endpoint, "", false)
		return fan, nil
	}
	fan.labelled = true
	for _, name := range names {
		fan.add(check.endpoint.Node(name), name, false)
	}
	return fan, nil
}

// run asks every node. The error is of what concerns all of them: the endpoint
// cannot be reached, for example.
func (check *healthCheck) run(ctx context.Context) (healthReport, error) {
	fan, err := check.nodes(ctx)
	if err != nil {
		return healthReport{}, err
	}
	report := healthReport{fan: fan, answers: make([]answer[*cluster.HealthResponse], len(fan.nodes))}
	var cut atomic.Bool
	err = fan.each(ctx, maxAsked, func(ctx context.Context, node *askedNode) error {
		whole, end := ctx.Deadline()
		hurried := end && time.Until(whole) < answerTimeout
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		found, err := node.Cluster.Health(ctx, &cluster.HealthRequest{})
		if err != nil {
			if hurried && status.Code(err) == codes.DeadlineExceeded {
				cut.Store(true)
			}
			if !fan.labelled || !node.direct && endpointLost(err) {
				return err
			}
			found = silent(node, err)
		}
		report.answers[node.index] = answer[*cluster.HealthResponse]{node, found}
		return nil
	})
	if err != nil {
		return healthReport{}, err
	}
	report.cut = cut.Load()
	return report, nil
}

// wait asks until every check passes on every node, and returns the last report;
// it is empty if there was none.
func (check *healthCheck) wait(ctx context.Context, timeout time.Duration) (healthReport, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not healthy within %s", timeout))
	defer cancel()
	var last healthReport
	err := check.app.poll(ctx, func(ctx context.Context) (bool, error) {
		report, err := check.run(ctx)
		if err != nil {
			return false, err
		}
		// One that was cut short says less than one before it. Whether it was, the
		// clock does not tell: the node's end of the call may be the first to see
		// the deadline.
		if !report.cut || last.fan == nil {
			last = report
		}
		return report.healthy(), nil
	})
	if failed := last.firstFailed(); err != nil && failed != "" {
		err = fmt.Errorf("%w: %s", err, failed)
	}
	return last, err
}

// silent is the report on a node that makes none.
func silent(node *askedNode, err error) *cluster.HealthResponse {
	return &cluster.HealthResponse{Checks: []*cluster.Check{{Name: answersCheck, Message: node.sentence(err)}}}
}

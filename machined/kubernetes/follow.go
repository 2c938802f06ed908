package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"time"
)

// watchFor is how long the API server keeps one watch open, in seconds. The
// next one begins at once.
const watchFor = 600

// listTimeout bounds the reading of one page of a list.
const listTimeout = time.Minute

// Between two questions whether the cluster's API answers, while it does not.
const (
	askFirst = 250 * time.Millisecond
	askMax   = 2 * time.Second
)

// FollowAPI finds out when the cluster's API can be used, until ctx ends:
// what waits for it (kubelet, the pod network, machined's own watches) goes on
// at that moment. While it answers nothing is asked: whoever loses it says so.
func (k *Kubernetes) FollowAPI(ctx context.Context) {
	for delay := askFirst; ; {
		if k.serving.has() && k.ready.has() {
			delay = askFirst
			select {
			case <-k.lost:
			case <-ctx.Done():
				return
			}
			continue
		}
		k.ask(ctx)
		if !pause(ctx, delay) {
			return
		}
		delay = min(2*delay, askMax)
	}
}

// ask tries the API once and marks how far it is.
func (k *Kubernetes) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if !k.serving.has() {
		if k.api.check(ctx, "/version") != nil {
			return
		}
		k.serving.reach()
	}
	if k.api.check(ctx, "/readyz") == nil {
		k.ready.reach()
	}
}

// unreachable notes an error of a request: if there was no answer at all,
// FollowAPI looks for when there is one again.
func (k *Kubernetes) unreachable(err error) {
	var status *statusError
	if err == nil || errors.As(err, &status) || errors.Is(err, context.Canceled) { // who asked is gone, not the API
		return
	}
	k.loseAPI()
}

// loseAPI says that the API is not known to answer any more.
func (k *Kubernetes) loseAPI() {
	k.serving.lose()
	k.ready.lose()
	select {
	case k.lost <- struct{}{}:
	default: // it is told already
	}
}

// collection is something in the cluster that is followed.
type collection struct {
	what, path string
	query      url.Values
	// list takes all objects, at the beginning of each watch; changed what
	// happened to one since: "ADDED", "MODIFIED" or "DELETED".
	list    func([]json.RawMessage) error
	changed func(kind string, object json.RawMessage) error
}

// follow keeps a collection in sight until ctx ends.
func (k *Kubernetes) follow(ctx context.Context, c collection) {
	delay, told := retryFirst, ""
	for {
		if k.serving.wait(ctx) != nil {
			return
		}
		began := time.Now()
		err := k.listAndWatch(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			k.unreachable(err)
			if text := err.Error(); text != told { // else the log would hold nothing else
				told = text
				k.options.Log.Warn("watch ended", slog.String("of", c.what), slog.Any("error", err))
			}
		}
		if time.Since(began) > retryMax {
			delay, told = retryFirst, ""
		}
		if !pause(ctx, delay) {
			return
		}
		delay = min(2*delay, retryMax)
	}
}

func (k *Kubernetes) listAndWatch(ctx context.Context, c collection) error {
	all, version, err := fetchList[json.RawMessage](ctx, k, listTimeout, c.path, maps.Clone(c.query))
	if err != nil {
		return err
	}
	if err := c.list(all); err != nil {
		return err
	}
	query := url.Values{
		"watch": {"true"}, "resourceVersion": {version}, "timeoutSeconds": {fmt.Sprint(watchFor)},
	}
	maps.Copy(query, c.query)
	// The server ends it in time; this is for a server that does not.
	ctx, cancel := context.WithTimeout(ctx, (watchFor+60)*time.Second)
	defer cancel()
	body, err := k.api.do(ctx, http.MethodGet, k.api.base+c.path+"?"+query.Encode(), "", nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return readEvents(body, c.changed)
}

// readEvents passes a watch's events on until it ends.
func readEvents(body io.Reader, changed func(string, json.RawMessage) error) error {
	events := json.NewDecoder(body)
	for {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		switch event.Type {
		case "ADDED", "MODIFIED", "DELETED":
			if err := changed(event.Type, event.Object); err != nil {
				return err
			}
		case "ERROR":
			// The version that the watch began with may be too old by now.
			return &statusError{http.StatusGone, statusMessage(event.Object)}
		}
	}
}

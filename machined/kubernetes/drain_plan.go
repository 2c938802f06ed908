package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Pauses between two tries to evict one pod: they double from the first to the
// last. A budget allows the next pod when the one before runs elsewhere.
const (
	evictAgainFirst = time.Second
	evictAgainMax   = 15 * time.Second
)

// podObject is the part of a Pod that is used here.
type podObject struct {
	Metadata struct {
		Namespace   string            `json:"namespace"`
		Name        string            `json:"name"`
		UID         string            `json:"uid"`
		Annotations map[string]string `json:"annotations"`
		// Deleted is set while the pod ends.
		Deleted *time.Time `json:"deletionTimestamp"`
		Owners  []struct {
			Kind       string `json:"kind"`
			Controller bool   `json:"controller"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

func (p podObject) String() string { return p.Metadata.Namespace + "/" + p.Metadata.Name }

// moves tells whether the pod would run elsewhere once it is evicted. What does
// not is left to kubelet, which ends it with the node.
func (p podObject) moves() bool {
	if p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return false // it runs no more
	}
	if _, isMirror := p.Metadata.Annotations["kubernetes.io/config.mirror"]; isMirror {
		return false // its source is a file of this node
	}
	for _, owner := range p.Metadata.Owners {
		if owner.Controller {
			return owner.Kind != "DaemonSet" // which would put it back here
		}
	}
	return false // nobody would make it anew: it would be lost
}

// drainage is what became of the pods that have to move, by UID.
type drainage map[string]*eviction

// eviction is what became of one pod.
type eviction struct {
	accepted bool
	refusals int
	next     time.Time
	reason   string // of the last refusal
}

// next returns the pods that are to move yet, and those of them that are due to
// be evicted now.
func (d drainage) next(pods []podObject, now time.Time) (left, due []podObject) {
	for _, pod := range pods {
		if !pod.moves() {
			continue
		}
		left = append(left, pod)
		state, known := d[pod.Metadata.UID]
		if !known {
			state = &eviction{}
			d[pod.Metadata.UID] = state
		}
		if pod.Metadata.Deleted != nil {
			state.accepted = true // whoever asked for it
		}
		if !state.accepted && !now.Before(state.next) {
			due = append(due, pod)
		}
	}
	return left, due
}

// note keeps what the API server answered to an eviction, and returns what to
// tell of it: a first refusal, an eviction; empty for what is said already.
func (d drainage) note(pod podObject, answer error, now time.Time) string {
	state := d[pod.Metadata.UID]
	reason := refusal(answer)
	if reason == "" {
		state.accepted = true
		return fmt.Sprintf("evicting %s", pod)
	}
	again := evictAgainMax
	if state.refusals < 10 {
		again = min(evictAgainFirst<<state.refusals, evictAgainMax)
	}
	state.refusals++
	state.next = now.Add(again)
	if state.reason != "" {
		return ""
	}
	state.reason = reason
	return fmt.Sprintf("evicting %s: %s", pod, reason)
}

// refusal says why a pod was not evicted; empty when it was, or is gone.
func refusal(answer error) string {
	var status *statusError
	switch {
	case answer == nil:
		return ""
	case !errors.As(answer, &status):
		return answer.Error()
	case status.code == http.StatusNotFound:
		return "" // gone
	case status.code == http.StatusConflict:
		return "it was changed at the same time" // or another pod has its name by now
	case status.code == http.StatusTooManyRequests && strings.Contains(status.message, "disruption budget"):
		return "its disruption budget allows none now"
	}
	return status.message
}

// maxNamed is how many pods a message names.
const maxNamed = 5

// describe names the pods that are left and why.
func (d drainage) describe(left []podObject) string {
	var names []string
	for _, pod := range left {
		if len(names) == maxNamed {
			names = append(names, fmt.Sprintf("and %d more", len(left)-maxNamed))
			break
		}
		text := pod.String()
		switch state := d[pod.Metadata.UID]; {
		case state == nil:
		case state.accepted:
			text += " (still ends)"
		case state.reason != "":
			text += " (" + state.reason + ")"
		}
		names = append(names, text)
	}
	return strings.Join(names, ", ")
}

// othersTakePods tells whether a pod that is evicted from the node of that name
// could run on another.
func othersTakePods(nodes []nodeObject, name string) bool {
	for _, node := range nodes {
		if node.Metadata.Name == name || node.Spec.Unschedulable {
			continue
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == "True" {
				return true
			}
		}
	}
	return false
}

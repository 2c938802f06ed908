package supervise

import (
	"errors"
	"fmt"
	"strings"
)

// ErrEssential is the answer to stopping a service the API itself runs on.
var ErrEssential = errors.New("the node's API runs on this service; restart it instead, or shut the node down")

// ErrStopping is the answer to starting a service while the node goes down.
var ErrStopping = errors.New("the node is shutting down")

// UnknownServiceError names the services there are.
type UnknownServiceError struct {
	Name  string
	Known []string
}

func (e *UnknownServiceError) Error() string {
	return fmt.Sprintf("no service %q; the services are: %s", e.Name, strings.Join(e.Known, ", "))
}

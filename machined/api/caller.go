package api

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/keelson-os/keelson/pkg/identity"
)

// caller is who apid says made a call.
type caller struct {
	User  string
	Roles []string
	// Until is when its certificate expires; zero when it has none.
	Until time.Time
}

func (c caller) String() string {
	if c.User == "" {
		return "a process on the node"
	}
	return fmt.Sprintf("%s (%s)", c.User, strings.Join(c.Roles, ", "))
}

// callerOf reads the caller from the call's metadata, which is apid's word: it
// drops what a client sent under these names.
func callerOf(ctx context.Context) caller {
	md, _ := metadata.FromIncomingContext(ctx)
	var c caller
	if users := md.Get(identity.MetadataUser); len(users) == 1 {
		c.User, c.Roles = users[0], md.Get(identity.MetadataRole)
	}
	if until := md.Get(identity.MetadataUntil); len(until) == 1 {
		// What cannot be read stays zero, which gives nothing.
		c.Until, _ = time.Parse(time.RFC3339, until[0])
	}
	return c
}

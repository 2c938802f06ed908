package join

import (
	"sync"
	"time"
)

// Names that were just given away: a node that was let in takes some minutes
// until Kubernetes knows it. Others wait for their turn when all places are
// taken.
const (
	recentFor = 5 * time.Minute
	maxRecent = 1024
)

// recent keeps two machines of one name from being let in while neither has
// registered. It is a help against mistakes: other control-plane nodes do not
// know of it.
type recent struct {
	mu    sync.Mutex
	names map[string]letIn
}

type letIn struct {
	machineID string
	at        time.Time
}

func newRecent() *recent { return &recent{names: map[string]letIn{}} }

// claim gives a name to a machine, unless another has it.
func (r *recent) claim(claimed claim, now time.Time) (other string, taken bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, one := range r.names {
		if now.Sub(one.at) > recentFor {
			delete(r.names, name)
		}
	}
	if one, ok := r.names[claimed.hostname]; ok && one.machineID != claimed.machineID {
		return one.machineID, true
	}
	if len(r.names) < maxRecent {
		r.names[claimed.hostname] = letIn{claimed.machineID, now}
	}
	return "", false
}

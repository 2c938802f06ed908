package join

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/throttle"
)

// Wrong tokens that are looked at: of one address, and of all together. The
// second is more than a dozen addresses can use up, as whoever uses it up also
// keeps the right ones out.
var (
	wrongOfOne = throttle.Limit{Burst: 5, Every: 12 * time.Second}
	wrongOfAll = throttle.Limit{Burst: 60, Every: time.Second}
)

// guessing compares tokens and bounds how often one may be wrong.
type guessing struct {
	hash [sha256.Size]byte

	mu    sync.Mutex
	wrong *throttle.Remotes
}

func newGuessing(token string) *guessing {
	return &guessing{hash: sha256.Sum256([]byte(token)), wrong: throttle.New(wrongOfOne, wrongOfAll)}
}

// check refuses even the right token once the tries are used up: otherwise
// guessing could go on.
func (g *guessing) check(remote netip.Addr, token string, now time.Time) error {
	g.mu.Lock() // no two guesses for one try
	defer g.mu.Unlock()
	if !g.wrong.Left(remote, now) {
		return status.Error(codes.ResourceExhausted, "too many wrong tokens: wait a minute, then try again")
	}
	// Of hashes, so that neither the content nor the length shows in the time.
	hash := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(hash[:], g.hash[:]) == 1 {
		return nil
	}
	g.wrong.Take(remote, now)
	return status.Error(codes.Unauthenticated,
		"wrong token: secrets.joinToken of this node's config is not the cluster's; make its config anew from the cluster's secrets (osctl gen config --secrets)")
}

// Refusals that are recorded: so many at once, then one every noticeEvery.
const (
	noticeBurst = 20
	noticeEvery = 3 * time.Second
)

// notices bounds the records of what anybody on the network can cause.
type notices struct {
	mu      sync.Mutex
	limiter *rate.Limiter
	dropped int
}

func newNotices() *notices {
	return &notices{limiter: rate.NewLimiter(rate.Every(noticeEvery), noticeBurst)}
}

// allow tells whether to record now, and how many were left out since the last.
func (n *notices) allow(now time.Time) (dropped int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.limiter.AllowN(now, 1) {
		n.dropped++
		return 0, false
	}
	dropped, n.dropped = n.dropped, 0
	return dropped, true
}

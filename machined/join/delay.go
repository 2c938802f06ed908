package join

import "time"

const (
	joinFirst = time.Second
	joinMost  = 30 * time.Second
	// lastingDelay is between two tries of a node that is refused: whoever
	// corrects that on the control plane need not come to the node, too.
	lastingDelay = time.Minute

	renewFirst = time.Minute
	// checkEvery is how often the clock is looked at: it may be set meanwhile,
	// and certificates go by it.
	checkEvery = time.Hour
)

// joinDelay is between round number failures+1 and the next.
func joinDelay(failures int, lasting bool) time.Duration {
	if lasting {
		return lastingDelay
	}
	return doubled(joinFirst, failures, joinMost)
}

// renewDelay is the same for renewals, which have weeks.
func renewDelay(failures int) time.Duration { return doubled(renewFirst, failures, checkEvery) }

func doubled(first time.Duration, times int, most time.Duration) time.Duration {
	delay := first
	for range times {
		if delay *= 2; delay >= most {
			return most
		}
	}
	return delay
}

// untilCheck is how long to wait with an identity that is not due yet.
func untilCheck(identity *Identity, now time.Time) time.Duration {
	return min(identity.renewAt().Sub(now), checkEvery)
}

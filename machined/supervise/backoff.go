package supervise

import "time"

const (
	backoffFirst = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
	// stableAfter is how long a service must have run for its next failure to
	// count as the first again. It is longer than backoffMax, so that a service
	// that dies at once never resets itself by waiting.
	stableAfter = time.Minute
)

// backoff is the delay before start attempt number failures+1: it doubles from
// half a second to half a minute.
func backoff(failures int) time.Duration {
	delay := backoffFirst
	for range failures - 1 {
		delay *= 2
		if delay >= backoffMax {
			return backoffMax
		}
	}
	return delay
}

// countFailure returns the number of failures in a row, this one included, of
// a service that ran for ranFor before it failed.
func countFailure(before int, ranFor time.Duration) int {
	if ranFor >= stableAfter {
		return 1
	}
	return before + 1
}

package main

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// kept is one snapshot, on this node's disk or in the store.
type kept struct {
	name     string
	time     time.Time
	revision int64
	size     int64
	// damaged was found to be. A snapshot that nobody has read yet is not.
	damaged bool
	// stored says that the store has it.
	stored bool
}

// A snapshot's name says when it was made and what it holds.
const nameTime = "20060102T150405Z"

var namePattern = regexp.MustCompile(`^([0-9]{8}T[0-9]{6}Z)-r([0-9]{1,19})\.db$`)

func snapshotName(now time.Time, revision int64) string {
	return fmt.Sprintf("%s-r%d.db", now.UTC().Format(nameTime), revision)
}

// parseName reads a name; whatever else lies beside the snapshots is not ours.
func parseName(name string) (kept, bool) {
	match := namePattern.FindStringSubmatch(name)
	if match == nil {
		return kept{}, false
	}
	at, err := time.Parse(nameTime, match[1])
	if err != nil {
		return kept{}, false
	}
	revision, err := strconv.ParseInt(match[2], 10, 64)
	if err != nil {
		return kept{}, false
	}
	return kept{name: name, time: at, revision: revision}, true
}

// clockSlack is how far ahead of this node's clock that of another may be.
const clockSlack = 10 * time.Minute

// newestFirst sorts snapshots. One from the future is of a clock that was
// wrong: it goes last, or it would be the newest for years.
func newestFirst(list []kept, now time.Time) []kept {
	future := func(one kept) bool { return one.time.After(now.Add(clockSlack)) }
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b kept) int {
		if future(a) != future(b) {
			if future(a) {
				return 1
			}
			return -1
		}
		return cmp.Or(b.time.Compare(a.time), cmp.Compare(b.revision, a.revision), cmp.Compare(b.name, a.name))
	})
	return sorted
}

// newest returns the newest snapshot that is not damaged.
func newest(list []kept, now time.Time) (kept, bool) {
	for _, one := range newestFirst(list, now) {
		if !one.damaged {
			return one, true
		}
	}
	return kept{}, false
}

// superfluous returns what to remove: good ones beyond the number to keep or
// older than maxAge (zero: never), damaged ones behind which a newer good one
// stands. The newest good one always stays.
func superfluous(list []kept, number int, maxAge time.Duration, now time.Time) []kept {
	var remove []kept
	good := 0
	for _, one := range newestFirst(list, now) {
		old := maxAge > 0 && now.Sub(one.time) > maxAge
		switch {
		case one.damaged && good > 0:
			remove = append(remove, one)
		case one.damaged:
		case good > 0 && (good >= number || old):
			remove = append(remove, one)
		default:
			good++
		}
	}
	return remove
}

// When snapshots are made.
const (
	// settle is how long after its start a member is left alone: a node that
	// boots has better things to do.
	settle = time.Minute
	// firstRetry doubles with every failure up to lastRetry.
	firstRetry = time.Minute
	lastRetry  = 30 * time.Minute
)

// untilNext returns how long to wait for the next snapshot. It counts from the
// newest one on disk, so that reboots neither skip one nor add one; a clock
// that was set back delays it by one interval at most.
func untilNext(list []kept, interval time.Duration, now time.Time) time.Duration {
	last, ok := newest(list, now)
	if !ok {
		return 0
	}
	return min(max(last.time.Add(interval).Sub(now), 0), interval)
}

// retryAfter returns how long to wait after so many failures one after another.
func retryAfter(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 10), lastRetry)
}

// spare is what must stay free on the disk beside a new snapshot, in bytes:
// etcd's log and database grow meanwhile, and so do others.
const spare = 256 << 20

// checkSpace refuses a snapshot for which there is too little room.
func checkSpace(free, size int64) error {
	if free < size+spare {
		return fmt.Errorf("too little space for a snapshot: %s free, needed are %s for it and %s to spare; free some space in /var, or keep fewer (cluster.etcd.snapshots.keep)",
			mebibytes(free), mebibytes(size), mebibytes(spare))
	}
	return nil
}

func mebibytes(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }

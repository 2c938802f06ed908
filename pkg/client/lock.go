package client

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A change of the config takes milliseconds: who holds the lock for longer
// than lockTimeout is stopped or stuck.
const (
	lockTimeout = 10 * time.Second
	lockPoll    = 10 * time.Millisecond
)

// lockDir takes the lock of a directory, which it makes if need be. The config
// itself cannot be locked, since each change puts a new file in its place, and
// a lock file beside it would stay. The kernel drops the lock when its holder
// ends, however it does.
func lockDir(path string) (unlock func(), err error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for late := time.After(lockTimeout); ; {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { dir.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			dir.Close()
			return nil, err
		}
		select {
		case <-tick.C:
		case <-late:
			dir.Close()
			return nil, errors.New("another program has held the lock for " + lockTimeout.String() + ": does another osctl hang?")
		}
	}
}

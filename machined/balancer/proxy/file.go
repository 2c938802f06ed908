package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/fsnotify/fsnotify"
)

// Bounds of the upstreams' file: its upstreams, the preferred one included, and
// its bytes.
const (
	maxUpstreams = 65
	maxFile      = 64 << 10
)

// upstreamFile is where machined writes the API servers.
type upstreamFile struct {
	path   string
	prefer string // an upstream also when the file does not have it
	listen string // never an upstream: connections would go round in circles
}

// read returns the upstreams, each once.
func (f upstreamFile) read() ([]string, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read the upstreams: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the upstreams: %w", err)
	}
	list, err := f.parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the upstreams from %s: %w", f.path, err)
	}
	return list, nil
}

func (f upstreamFile) parse(text []byte) ([]string, error) {
	var all []string
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	var list []string
	if f.prefer != "" {
		list = append(list, f.prefer)
	}
	for _, address := range all {
		if err := checkUpstream(address, f.listen); err != nil {
			return nil, err
		}
		if !slices.Contains(list, address) {
			list = append(list, address)
		}
	}
	if len(list) > maxUpstreams {
		return nil, fmt.Errorf("%d upstreams; at most %d can be used", len(list), maxUpstreams)
	}
	return list, nil
}

func checkUpstream(address, listen string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not of the form HOST:PORT", address)
	}
	if number, err := strconv.ParseUint(port, 10, 16); host == "" || err != nil || number == 0 {
		return fmt.Errorf("%q is not of the form HOST:PORT", address)
	}
	if address == listen {
		return fmt.Errorf("%s is the balancer itself", address)
	}
	return nil
}

// watch tells, until ctx ends, that the file was replaced; an error means that
// it no longer can. It watches the folder: a replaced file is another one.
func (f upstreamFile) watch(ctx context.Context) (<-chan error, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch the upstreams: %w", err)
	}
	if err := watcher.Add(filepath.Dir(f.path)); err != nil {
		return nil, errors.Join(fmt.Errorf("watch the upstreams: %w", err), watcher.Close())
	}
	told := make(chan error, 1)
	tell := func(err error) {
		select {
		case told <- err:
		default: // told already, and not read since
		}
	}
	go func() {
		defer watcher.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case event, ok := <-watcher.Events:
				if !ok {
					tell(errors.New("watch the upstreams: the watch has ended"))
					return
				}
				if filepath.Base(event.Name) == filepath.Base(f.path) && event.Has(fsnotify.Create|fsnotify.Write) {
					tell(nil)
				}
			case err := <-watcher.Errors:
				if errors.Is(err, fsnotify.ErrEventOverflow) {
					tell(nil) // the file's event may be among the lost ones
					continue
				}
				tell(fmt.Errorf("watch the upstreams: %w", err))
			}
		}
	}()
	return told, nil
}

package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// faults are the rules of a switch, kept in the cluster's folder: a link that
// was cut stays cut when the network process is restarted.
type faults struct {
	path string
	sw   *vnet.Switch
	mu   sync.Mutex // one change at a time, from the switch to the file
}

// openFaults gives a switch the rules that were set before, but those of nodes
// that are gone. It must be done before the first port is attached.
func openFaults(dir string, nodes []nodeSpec, sw *vnet.Switch) (*faults, error) {
	f := &faults{path: filepath.Join(dir, faultsFile), sw: sw}
	var rules []vnet.FaultRule
	if err := readJSON(f.path, &rules); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rules = slices.DeleteFunc(rules, func(r vnet.FaultRule) bool { return !isPort(r.From, nodes) || !isPort(r.To, nodes) })
	if err := sw.SetFaults(rules...); err != nil {
		return nil, fmt.Errorf("the rules of %s: %w", f.path, err)
	}
	return f, nil
}

// isPort tells what a fault rule may name.
func isPort(name string, nodes []nodeSpec) bool {
	return name == Gateway || name == vnet.AnyPort || slices.ContainsFunc(nodes, func(n nodeSpec) bool { return n.Name == name })
}

// set adds rules.
func (f *faults) set(rules []vnet.FaultRule) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.sw.SetFaults(rules...); err != nil {
		return err
	}
	return f.save()
}

// heal removes every rule.
func (f *faults) heal() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sw.Heal()
	return f.save()
}

func (f *faults) save() error {
	if err := writeJSON(f.path, f.sw.Faults()); err != nil {
		return fmt.Errorf("the fault rules are set, but not kept: %w", err)
	}
	return nil
}

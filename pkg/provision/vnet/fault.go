package vnet

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// AnyPort stands for every port in a fault rule.
const AnyPort = "*"

// Fault is what happens to frames from one port to another. The zero value is
// a healthy direction.
type Fault struct {
	Cut bool `json:"cut,omitempty"`
	// DropPercent is the share of frames lost at random, 0 to 100.
	DropPercent float64 `json:"dropPercent,omitempty"`
	// Delay is added to every frame; in JSON it is in nanoseconds.
	Delay time.Duration `json:"delay,omitempty"`
}

// FaultRule says what happens to frames in one direction. From or To may be
// AnyPort; of several rules that fit, the one without wildcard wins, then the one that names From.
type FaultRule struct {
	From string `json:"from"`
	To   string `json:"to"`
	Fault
}

// MaxDelay is the longest delay a fault rule may ask for.
const MaxDelay = time.Minute

func (r FaultRule) validate() error {
	switch {
	case r.From == "" || r.To == "":
		return fmt.Errorf("fault rule %q to %q: name both ports, or use %q for all", r.From, r.To, AnyPort)
	case r.DropPercent < 0 || r.DropPercent > 100:
		return fmt.Errorf("fault rule %s to %s: drop %v %%: must be between 0 and 100", r.From, r.To, r.DropPercent)
	case r.Delay < 0 || r.Delay > MaxDelay:
		return fmt.Errorf("fault rule %s to %s: delay %s: must be between 0 and %s", r.From, r.To, r.Delay, MaxDelay)
	}
	return nil
}

// SetFaults adds rules, replacing those of the same directions, all at once.
// A rule with a zero Fault heals its direction.
func (s *Switch) SetFaults(rules ...FaultRule) error {
	for _, r := range rules {
		if err := r.validate(); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rules {
		d := direction{r.From, r.To}
		if r.Fault == (Fault{}) {
			delete(s.faults, d)
			continue
		}
		s.faults[d] = r.Fault
	}
	return nil
}

// Heal removes every fault rule.
func (s *Switch) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Faults lists the rules by their ports.
func (s *Switch) Faults() []FaultRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]FaultRule, 0, len(s.faults))
	for d, f := range maps.All(s.faults) {
		list = append(list, FaultRule{From: d.from, To: d.to, Fault: f})
	}
	slices.SortFunc(list, func(a, b FaultRule) int {
		return cmp.Or(strings.Compare(a.From, b.From), strings.Compare(a.To, b.To))
	})
	return list
}

// fault finds the rule for a direction; s.mu is held.
func (s *Switch) fault(from, to string) Fault {
	if len(s.faults) == 0 {
		return Fault{}
	}
	for _, d := range [...]direction{{from, to}, {from, AnyPort}, {AnyPort, to}} {
		if f, found := s.faults[d]; found {
			return f
		}
	}
	return s.faults[direction{AnyPort, AnyPort}]
}

// PartitionRules are the rules that cut every link between ports of different
// groups, both ways. Ports in no group are untouched.
func PartitionRules(groups ...[]string) []FaultRule {
	var rules []FaultRule
	for i, a := range groups {
		for j, b := range groups {
			if i == j {
				continue
			}
			for _, from := range a {
				for _, to := range b {
					rules = append(rules, FaultRule{From: from, To: to, Fault: Fault{Cut: true}})
				}
			}
		}
	}
	return rules
}

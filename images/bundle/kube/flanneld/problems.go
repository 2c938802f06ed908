package flanneld

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"k8s.io/klog/v2"
)

// maxProblems bounds the file: a wrong setting is wrong on every node.
const maxProblems = 20

// problems is what is wrong with the pod network though it runs: a file that
// machined shows among the node's health, one sentence a line. It is empty when
// nothing is wrong.
type problems struct {
	file string
	last []string
}

// set replaces them, and logs those that are new.
func (p *problems) set(now []string) {
	if p.last != nil && slices.Equal(p.last, now) {
		return
	}
	for _, problem := range now {
		if !slices.Contains(p.last, problem) {
			klog.InfoS("Pod network has a problem", "problem", problem)
		}
	}
	p.last = append([]string{}, now...)
	if len(now) > maxProblems {
		now = append(slices.Clone(now[:maxProblems]), fmt.Sprintf("and %d more", len(now)-maxProblems))
	}
	var text strings.Builder
	for _, problem := range now {
		text.WriteString(strings.ReplaceAll(problem, "\n", " ") + "\n")
	}
	if err := renameio.WriteFile(p.file, []byte(text.String()), 0o600); err != nil {
		klog.ErrorS(err, "Cannot tell the node's health", "file", p.file)
	}
}

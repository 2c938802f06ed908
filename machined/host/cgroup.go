package host

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// CgroupRoot is where the cgroup v2 tree is mounted.
const CgroupRoot = "/sys/fs/cgroup"

// SetUpCgroups enables every controller the kernel has for the children of the
// root cgroup, where services and pods live. Kubelet refuses to start without.
func SetUpCgroups(os OS) error {
	const available = "sys/fs/cgroup/cgroup.controllers"
	list, err := fs.ReadFile(os.Root(), available)
	if err != nil {
		return fmt.Errorf("read the cgroup controllers: %w", err)
	}
	// One write per controller: a controller that cannot be enabled (cpu, when
	// a realtime process exists) must not take the others with it.
	var failed []error
	for _, controller := range strings.Fields(string(list)) {
		if err := os.WriteControl(CgroupRoot+"/cgroup.subtree_control", "+"+controller); err != nil {
			failed = append(failed, fmt.Errorf("enable the cgroup controller %s: %w", controller, err))
		}
	}
	return errors.Join(failed...)
}

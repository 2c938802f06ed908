package main

import (
	"slices"
	"strings"
	"testing"
)

func names(targets []target) []string {
	var list []string
	for _, t := range targets {
		list = append(list, t.name)
	}
	return list
}

func TestChooseAddsWhatIsNeededInOrder(t *testing.T) {
	for _, c := range []struct{ ask, want string }{
		{"programs", "programs"},
		{"kernel", "packages kernel"},
		{"initramfs", "programs packages modules initramfs"},
		{"sample kernel", "programs packages kernel sample"},
		{"shop", "shop"},
		{"all", "programs packages modules kernel sample initramfs loader rootfs uki disk bundle iso netboot sbom sizes"},
		{"testimages all", "programs packages modules kernel sample initramfs loader rootfs uki disk bundle iso netboot sbom sizes testimages"},
	} {
		chosen, err := choose(strings.Fields(c.ask))
		if err != nil {
			t.Errorf("%s: %v", c.ask, err)
		}
		if got := strings.Join(names(chosen), " "); got != c.want {
			t.Errorf("choose(%s) = %s, expected %s", c.ask, got, c.want)
		}
	}
}

func TestChooseNamesTheTargetsThereAre(t *testing.T) {
	_, err := choose([]string{"floppy"})
	if err == nil || !strings.Contains(err.Error(), "rootfs") {
		t.Errorf("error %v", err)
	}
}

func TestEachTargetNeedsOnlyEarlierOnes(t *testing.T) {
	for i, target := range targets {
		for _, need := range target.needs {
			if !slices.Contains(names(targets[:i]), need) {
				t.Errorf("%s needs %s, which is not made before it", target.name, need)
			}
		}
	}
}

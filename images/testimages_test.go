package main

import (
	"slices"
	"testing"

	suite "k8s.io/kubernetes/test/utils/image"
)

func TestPlannedPackages(t *testing.T) {
	plan := `Reading package lists...
The following NEW packages will be installed:
  libmnl0 socat
'http://mirror/pool/socat_1.7.4.4-2_amd64.deb' socat_1.7.4.4-2_amd64.deb 375188 MD5Sum:b1fd
'http://mirror/pool/libssl3_3.0.22-1%7edeb12u2_amd64.deb' libssl3_3.0.22-1~deb12u2_amd64.deb 2039888
`
	if got, want := plannedPackages(plan), []string{"libssl3", "socat"}; !slices.Equal(got, want) {
		t.Errorf("plannedPackages = %q, expected %q", got, want)
	}
	if got := plannedPackages("Reading package lists...\n"); len(got) != 0 {
		t.Errorf("plannedPackages of an empty plan = %q", got)
	}
}

func TestEachTestImageIsBuiltOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, i := range testImages {
		for _, id := range i.ids {
			if name := suite.GetE2EImage(id); seen[name] {
				t.Errorf("%s is in the table twice", name)
			} else {
				seen[name] = true
			}
		}
	}
}

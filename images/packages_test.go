package main

import "testing"

func TestParseOffer(t *testing.T) {
	for _, c := range []struct {
		line string
		want debPackage
	}{
		{
			"'http://mirror/pool/libgmp10_6.2.1%2bdfsg1-1.1_amd64.deb' libgmp10_2%3a6.2.1+dfsg1-1.1_amd64.deb 559364 SHA256:187aedef2ed763f425c1e523753b9719677633c7eede660401739e9c893482bd\n",
			debPackage{
				name: "libgmp10", version: "2:6.2.1+dfsg1-1.1", file: "libgmp10_2%3a6.2.1+dfsg1-1.1_amd64.deb",
				sha256: "187aedef2ed763f425c1e523753b9719677633c7eede660401739e9c893482bd",
			},
		},
		{
			"'http://mirror/c.deb' ca-certificates_20250419~deb12u2_all.deb 160948 SHA256:b9f7",
			debPackage{name: "ca-certificates", version: "20250419~deb12u2", file: "ca-certificates_20250419~deb12u2_all.deb", sha256: "b9f7"},
		},
	} {
		got, err := parseOffer(c.line)
		if err != nil || got != c.want {
			t.Errorf("parseOffer(%q) = %+v, %v", c.line, got, err)
		}
	}
	for _, line := range []string{
		"", "Reading package lists...",
		"'http://mirror/a.deb' a_1_amd64.deb 5 MD5Sum:abc", // not strong enough to rely on
		"'http://mirror/a.deb' a.deb 5 SHA256:abc",
		"'http://mirror/a.deb' a_1%zz_amd64.deb 5 SHA256:abc",
	} {
		if got, err := parseOffer(line); err == nil {
			t.Errorf("parseOffer(%q) = %+v, expected an error", line, got)
		}
	}
}

package api

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/pki"
)

func TestFrontOfAControlPlaneNode(t *testing.T) {
	ca, err := pki.NewCA("os", time.Now(), time.Hour)
	must(t, err)
	opts := FrontOptions{
		CA: ca, Hostname: "cp-1", Names: []string{"cp-1"}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")},
		ControlPlanes: []netip.Addr{netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("fd00::6")},
	}
	args := strings.Join(FrontSpec(opts).Args, " ")
	for _, flag := range []string{"--listen=:50000", "--join-listen=:50001", "--kubeconfig=", "--forward-cert=", "--forward-key=", "--ca=", "--control-plane=10.0.0.5", "--control-plane=fd00::6"} {
		if !strings.Contains(args, flag) {
			t.Errorf("no %s in %s", flag, args)
		}
	}
	files, err := opts.files()
	must(t, err)
	for _, name := range []string{"server", "forward"} {
		must(t, pki.KeyPair{Cert: files[name+".crt"], Key: files[name+".key"]}.Check())
	}
	server, err := pki.ParseCert(files["server.crt"])
	must(t, err)
	if err := errors.Join(server.VerifyHostname("cp-1"), server.VerifyHostname("10.0.0.5"), server.VerifyHostname("127.0.0.1")); err != nil {
		t.Error(err)
	}
	forward, err := pki.ParseCert(files["forward.crt"])
	must(t, err)
	if !slices.Equal(forward.Subject.Organization, []string{identity.Forwarder}) || forward.Subject.CommonName != "cp-1" {
		t.Errorf("forwards as %s", forward.Subject)
	}
}

func TestFrontOfAWorkerHasWhatWasSignedForIt(t *testing.T) {
	pair, signed := pki.KeyPair{Cert: []byte("cert"), Key: []byte("key")}, error(nil)
	opts := FrontOptions{CACert: []byte("ca"), Pair: func() (pki.KeyPair, error) { return pair, signed }}
	args := strings.Join(FrontSpec(opts).Args, " ")
	for _, flag := range []string{"--join-listen", "--kubeconfig", "--forward"} {
		if strings.Contains(args, flag) {
			t.Errorf("%s in %s", flag, args)
		}
	}
	pair.Cert = []byte("renewed") // asked for each time
	files, err := opts.files()
	must(t, err)
	if diff := cmp.Diff([]string{"ca.crt", "server.crt", "server.key"}, slices.Sorted(maps.Keys(files))); diff != "" || string(files["server.crt"]) != "renewed" {
		t.Errorf("%q %s", files["server.crt"], diff)
	}
	signed = errors.New("no certificate yet")
	if err := opts.Write(); !errors.Is(err, signed) {
		t.Errorf("got %v", err)
	}
}

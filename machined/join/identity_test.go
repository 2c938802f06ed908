package join

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// workerOf is the config of one of a cluster's workers.
func workerOf(config *machineconfig.Config, hosts ...machineconfig.Host) *machineconfig.Config {
	cluster := *config.Cluster
	cluster.ControlPlane.Addresses = hosts
	return &machineconfig.Config{
		Machine: &machineconfig.Machine{Type: machineconfig.Worker}, Cluster: &cluster, Secrets: config.Secrets.ForWorker(),
	}
}

// sign has an identity signed without any network, at a time.
func sign(t testing.TB, config *machineconfig.Config, at time.Time) *Identity {
	t.Helper()
	s, _ := newSigner(t, config)
	s.now = func() time.Time { return at }
	by, err := newAuthorities(config.Secrets)
	must(t, err)
	c := client{by: by, owner: owner{
		clusterID: config.Secrets.ClusterID, hostname: "worker-1", machineID: thisMachine, addresses: []netip.Addr{stranger},
	}}
	request := newRequest(t, config)
	keys := map[joinpb.CertificateRequest_Use][]byte{}
	for _, each := range request.GetRequests() {
		keys[each.GetUse()], each.Csr, err = pki.NewCSR()
		must(t, err)
	}
	response, err := s.Join(t.Context(), stranger, request)
	must(t, err)
	identity, err := c.assemble(response, keys)
	must(t, err)
	return identity
}

func TestIdentityComesBackFromTheDisk(t *testing.T) {
	config := newConfig(t)
	by, err := newAuthorities(config.Secrets)
	must(t, err)
	made := sign(t, config, time.Now())
	dir := filepath.Join(t.TempDir(), "keelson", "identity")
	if _, err := load(dir, made.owner, by, time.Now()); !errors.Is(err, errNone) {
		t.Errorf("before the first: %v", err)
	}
	must(t, save(dir, made))
	// A machine whose clock starts in 1970 has joined all the same.
	for _, now := range []time.Time{time.Now(), time.Unix(0, 0)} {
		read, err := load(dir, made.owner, by, now)
		must(t, err)
		for _, use := range uses {
			one, err := made.Pair(use)
			must(t, err)
			two, err := read.Pair(use)
			must(t, err)
			if !bytes.Equal(one.Cert, two.Cert) || !bytes.Equal(one.Key, two.Key) {
				t.Errorf("%s came back as another", use)
			}
		}
		if !read.Until().Equal(made.Until()) || time.Until(read.Until()) < TTL-time.Hour {
			t.Errorf("until %s", read.Until())
		}
	}
	for path, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, identityFile): 0o600} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %s", path, info.Mode())
		}
	}
	if _, err := made.Pair(0); err == nil {
		t.Error("a pair for no use")
	}
}

func TestAnIdentityThatIsOfNoUse(t *testing.T) {
	config := newConfig(t)
	by, err := newAuthorities(config.Secrets)
	must(t, err)
	others, err := newAuthorities(newConfig(t).Secrets)
	must(t, err)
	made, now := sign(t, config, time.Now()), time.Now()
	text, err := encode(made)
	must(t, err)
	change := func(change func(*stored)) []byte {
		var s stored
		must(t, json.Unmarshal(text, &s))
		change(&s)
		changed, err := json.Marshal(s)
		must(t, err)
		return changed
	}
	changed := func(change func(*owner)) owner {
		other := made.owner
		change(&other)
		return other
	}
	client, server := useKubeletClient.String(), useKubeletServer.String()
	for name, test := range map[string]struct {
		text []byte
		of   owner
		by   authorities
		now  time.Time
		says string
	}{
		"empty":                   {nil, made.owner, by, now, "damaged"},
		"another name":            {text, changed(func(o *owner) { o.hostname = "worker-2" }), by, now, "changed"},
		"another machine":         {text, changed(func(o *owner) { o.machineID = otherMachine }), by, now, "changed"},
		"another cluster":         {text, changed(func(o *owner) { o.clusterID = "x" }), by, now, "changed"},
		"other authorities":       {text, made.owner, others, now, "another cluster's authority"},
		"it ended":                {text, made.owner, by, now.Add(TTL + time.Hour), "ended at"},
		"a use is missing":        {change(func(s *stored) { delete(s.Pairs, client) }), made.owner, by, now, client},
		"key of another use":      {change(func(s *stored) { s.Pairs[client] = storedPair{s.Pairs[client].Cert, s.Pairs[server].Key} }), made.owner, by, now, "does not belong"},
		"of another's authority":  {change(func(s *stored) { s.Pairs[useAPIServer.String()] = s.Pairs[client] }), made.owner, by, now, "another cluster's authority"},
		"a certificate is broken": {change(func(s *stored) { s.Pairs[client] = storedPair{"x", s.Pairs[client].Key} }), made.owner, by, now, "no PEM block"},
	} {
		_, err := decode(test.text, test.of, test.by, test.now)
		if err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %q", name, err, test.says)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: the error tells a key", name)
		}
	}
}

// A power cut may come after any byte was written, and before or after the
// rename. Then the old identity is there, or the new one; never parts of both,
// and never something the next save stumbles over.
func TestPowerCutsLeaveTheOldIdentityOrTheNew(t *testing.T) {
	config := newConfig(t)
	by, err := newAuthorities(config.Secrets)
	must(t, err)
	before, after := sign(t, config, time.Now()), sign(t, config, time.Now())
	text, err := encode(after)
	must(t, err)
	dir := filepath.Join(t.TempDir(), "identity")
	must(t, save(dir, before))
	next := filepath.Join(dir, newFile)
	certOf := func() string {
		identity, err := load(dir, before.owner, by, time.Now())
		must(t, err)
		pair, err := identity.Pair(useAPIServer)
		must(t, err)
		return string(pair.Cert)
	}
	old := certOf()
	for written := 0; written <= len(text); written += 97 {
		must(t, os.WriteFile(next, text[:written], 0o644))
		if certOf() != old {
			t.Fatalf("after %d bytes the identity is another", written)
		}
	}
	must(t, save(dir, after))
	if certOf() == old {
		t.Error("the new identity is not the old one's successor")
	}
	if _, err := os.Stat(next); err == nil {
		t.Error("a part was left over")
	}
	// What no power cut does: a file system that loses bytes. Then it joins anew.
	for written := 0; written < len(text); written += 97 {
		if _, err := decode(text[:written], before.owner, by, time.Now()); err == nil {
			t.Fatalf("%d bytes of an identity are taken for one", written)
		}
	}
}

package machineconfig

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/pki"
)

func TestRegistriesAreReadAndWritten(t *testing.T) {
	ca, err := pki.NewCA("registry", time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue(pki.Request{CommonName: "node", Client: true, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := Registries{
		Mirrors: map[string]Mirror{
			"docker.io":   {Endpoints: []string{"https://mirror.lan:5000/docker", "http://10.0.0.9:5000"}, OverridePath: true},
			AnyRegistry:   {Endpoints: []string{"https://mirror.lan:5000"}, SkipFallback: true},
			"[fd00::5]:5": {Endpoints: []string{"https://[fd00::5]:5"}},
		},
		Config: map[string]RegistryHost{
			"mirror.lan:5000": {
				Auth: RegistryAuth{Username: "node", Password: `hunter2 "'\ü`},
				TLS: RegistryTLS{
					CA:             string(ca.KeyPair().Cert) + string(ca.KeyPair().Cert),
					ClientIdentity: ClientIdentity{Cert: string(client.Cert), Key: Secret(client.Key)},
				},
			},
			"docker.io": {Auth: RegistryAuth{Auth: "bm9kZTpodW50ZXIy"}},
			"quay.io":   {Auth: RegistryAuth{IdentityToken: "hunter2"}},
			AnyRegistry: {TLS: RegistryTLS{CA: string(ca.KeyPair().Cert)}},
		},
	}
	config := Default()
	config.Machine.Registries = want
	text, err := Encode(&Config{Machine: config.Machine})
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), `type: ""`, "type: controlplane", 1) + clusterDocument + secretsDocument(t, testSecrets()))
	got, err := Decode("node.yaml", strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Machine.Registries); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if printed := fmt.Sprintf(verb, got.Machine.Registries); strings.Contains(printed, "hunter2") || strings.Contains(printed, "bm9kZTpodW50ZXIy") || strings.Contains(printed, "PRIVATE KEY") {
			t.Errorf("%s prints a secret", verb)
		}
	}
}

func TestErrorsQuoteNoCredentials(t *testing.T) {
	for _, name := range []string{"registries", "registries-values"} {
		if text := readFile(t, "testdata/bad/"+name+".golden"); strings.Contains(text, "hunter2") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}

func TestHowARegistryIsSpokenTo(t *testing.T) {
	registries := &Registries{Config: map[string]RegistryHost{
		"docker.io":  {Auth: RegistryAuth{Username: "docker"}},
		"a.lan":      {Auth: RegistryAuth{Username: "a"}, TLS: RegistryTLS{CA: "a's"}},
		"b.lan:5000": {Auth: RegistryAuth{Username: "b"}},
		AnyRegistry:  {TLS: RegistryTLS{CA: "any"}},
	}}
	for host, want := range map[string]string{
		"registry-1.docker.io": "docker any", "docker.io": "docker any", "a.lan": "a a's", "a.lan:443": "a a's", "a.lan:5000": " any",
		"b.lan:5000": "b any", "b.lan": " any", "c.lan": " any",
	} {
		got := registries.Host(host)
		if text := got.Auth.Username + " " + got.TLS.CA; text != want {
			t.Errorf("%s: %q, want %q", host, text, want)
		}
	}
	if UpstreamOf("docker.io") != "registry-1.docker.io" || UpstreamOf("quay.io") != "quay.io" {
		t.Error("upstreams")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

package machineconfig

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testSecrets = sync.OnceValue(func() *Secrets {
	secrets, err := NewSecrets("test", time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	if err != nil {
		panic(err)
	}
	return secrets
})

const machineDocument = `apiVersion: keelson/v1
kind: Machine
type: controlplane
hostname: node-1
network:
  interfaces:
    - name: eth0
      addresses: [10.0.0.5/24]
      gateway: 10.0.0.1
      mtu: 1500
kernel:
  sysctls:
    vm.max_map_count: 262144
`

const clusterDocument = `---
apiVersion: keelson/v1
kind: Cluster
name: test
endpoint: https://10.0.0.5:6443
controlPlane:
  addresses: [10.0.0.5]
network:
  podSubnet: 10.244.0.0/16
  serviceSubnet: 10.96.0.0/16
etcd:
  heartbeatInterval: 250ms
`

func secretsDocument(t testing.TB, secrets *Secrets) string {
	t.Helper()
	text, err := Encode(&Config{Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	return "---\n" + string(text)
}

func TestDecodeReadsWhatIsWrittenAndSetsDefaults(t *testing.T) {
	text := machineDocument + clusterDocument + secretsDocument(t, testSecrets())
	config, err := Decode("node.yaml", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Machine.Type = ControlPlane
	want.Machine.Hostname = "node-1"
	want.Machine.Network.Interfaces = []Interface{{
		Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/24")},
		Gateway: netip.MustParseAddr("10.0.0.1"), MTU: 1500,
	}}
	want.Machine.Kernel.Sysctls = map[string]string{"vm.max_map_count": "262144"}
	want.Cluster.Name = "test"
	want.Cluster.Endpoint = "https://10.0.0.5:6443"
	want.Cluster.ControlPlane.Addresses = []Host{"10.0.0.5"}
	want.Cluster.Etcd.HeartbeatInterval = 250 * time.Millisecond
	want.Secrets = testSecrets()
	if diff := cmp.Diff(want, config, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}

	again, err := Encode(config)
	if err != nil {
		t.Fatal(err)
	}
	round, err := Decode("again.yaml", strings.NewReader(string(again)))
	if err != nil {
		t.Fatalf("what Encode wrote is refused: %v\n%s", err, again)
	}
	if diff := cmp.Diff(config, round, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("encoded and decoded again: -first +second\n%s", diff)
	}
}

func TestDefaultIsTheGoldenFile(t *testing.T) {
	config := Default()
	got, err := Encode(&Config{Machine: config.Machine, Cluster: config.Cluster})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "default.yaml", string(got))
}

// TestDecodeErrors pins where and how each mistake is reported: every file
// under testdata/bad, with the secrets of a control-plane node appended where
// it says so, against the golden file beside it.
func TestDecodeErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := string(content)
			if before, found := strings.CutSuffix(text, "# plus good secrets\n"); found {
				text = before + secretsDocument(t, testSecrets())
			}
			_, err = Decode(filepath.Base(file), strings.NewReader(text))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, one := range Errors(err) {
				if one.Line < 1 || one.Column < 1 || one.Message == "" {
					t.Errorf("no place or message: %+v", one)
				}
			}
			golden(t, strings.TrimSuffix(filepath.Join("bad", filepath.Base(file)), ".yaml")+".golden", err.Error()+"\n")
		})
	}
}

func TestMissingAndMismatchedSecretsAreNamedAndNeverQuoted(t *testing.T) {
	other, err := NewSecrets("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*Secrets)
		want   string
	}{
		{"key", func(s *Secrets) { s.KubernetesCA.Key = "" }, "secrets.kubernetesCA.key: required on a control-plane node"},
		{"pair", func(s *Secrets) { s.EtcdCA = KeyPair{} }, "secrets.etcdCA.cert: required"},
		{"certificate", func(s *Secrets) { s.OSCA.Cert = "MIIBhandwritten" }, `secrets.osCA.cert: no PEM block "CERTIFICATE"`},
		{"mismatch", func(s *Secrets) { s.OSCA.Key = other.OSCA.Key }, "secrets.osCA.key: the key does not belong to the certificate"},
		{"token", func(s *Secrets) { s.JoinToken = "" }, "secrets.joinToken: required"},
		{"signing key", func(s *Secrets) { s.ServiceAccountKey = "" }, "secrets.serviceAccountKey: required on a control-plane node"},
		{"damaged key", func(s *Secrets) { s.ServiceAccountKey = s.ServiceAccountKey[:60] }, "secrets.serviceAccountKey: no PEM block"},
		{"encryption", func(s *Secrets) { s.EncryptionKey = "c2hvcnQtc2VjcmV0" }, "secrets.encryptionKey: expected 32 bytes in base64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			secrets := *testSecrets()
			test.change(&secrets)
			_, err := Decode("node.yaml", strings.NewReader(machineDocument+clusterDocument+secretsDocument(t, &secrets)))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v\nwant %s", err, test.want)
			}
			for _, secret := range []string{"MIIBhandwritten", "c2hvcnQ", string(testSecrets().JoinToken), "MHcCAQEE"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error quotes %s", secret)
				}
			}
		})
	}
}

func TestAWorkerNeedsNoKeys(t *testing.T) {
	text := strings.Replace(machineDocument, "controlplane", "worker", 1) + clusterDocument +
		secretsDocument(t, testSecrets().ForWorker())
	if strings.Contains(text, "PRIVATE KEY") {
		t.Error("a worker's secrets hold a private key")
	}
	if _, err := Decode("worker.yaml", strings.NewReader(text)); err != nil {
		t.Error(err)
	}
}

func TestDecodeSecretsWantsNothingElse(t *testing.T) {
	text := secretsDocument(t, testSecrets())
	if _, err := DecodeSecrets("secrets.yaml", strings.NewReader(text)); err != nil {
		t.Error(err)
	}
	_, err := DecodeSecrets("secrets.yaml", strings.NewReader(machineDocument+text))
	if want := "secrets.yaml:1:1: a document of kind Machine"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestDecodeBoundsWhatItReads(t *testing.T) {
	for want, text := range map[string]string{
		"larger than":        strings.Repeat("#", MaxSize+1),
		"more than 16 docum": strings.Repeat("--- {}\n", 20),
	} {
		if _, err := Decode("big.yaml", strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	config := Config{Secrets: testSecrets()}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		text := fmt.Sprintf(verb, *config.Secrets)
		for _, secret := range []Secret{config.Secrets.JoinToken, config.Secrets.EncryptionKey, "PRIVATE KEY"} {
			if strings.Contains(text, string(secret)) {
				t.Errorf("%s prints a secret", verb)
			}
		}
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "config", config)
	if text := logged.String(); !strings.Contains(text, redacted) || strings.Contains(text, string(config.Secrets.JoinToken)) {
		t.Errorf("slog writes %s", text)
	}
}

func TestErrorsOfAnotherErrorIsNil(t *testing.T) {
	if got := Errors(errors.New("other")); got != nil {
		t.Errorf("got %v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(machineDocument + clusterDocument))
	f.Add([]byte("kind: *a\n---\n? [x]\n: <<: y\n"))
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		config, err := Decode("fuzz", strings.NewReader(string(content)))
		if (config == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", config, err)
		}
		if err == nil {
			if _, err := Encode(config); err != nil {
				t.Fatalf("accepted and not encodable: %v", err)
			}
			return
		}
		for _, one := range Errors(err) {
			if one.Line < 1 || one.Column < 1 {
				t.Fatalf("no place: %+v", one)
			}
		}
	})
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-update writes it anew): -want +got\n%s", file, diff)
	}
}

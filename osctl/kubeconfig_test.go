package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func TestKubeconfigIsWrittenForItsOwnerAndNeverOverSomethingElse(t *testing.T) {
	harness, _ := newClusterHarness(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if code := harness.run(t, "kubeconfig", path); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil || config.Clusters["dev"].Server != "https://127.0.0.1:4001" {
		t.Errorf("%+v, %v", config, err)
	}
	harness.fails(t, exitError, []string{"exists already", "--force"}, "kubeconfig", path)
	if code := harness.run(t, "kubeconfig", path, "--force"); code != exitOK {
		t.Errorf("with --force: exit code %d: %s", code, harness.err)
	}
	if code := harness.run(t, "kubeconfig", "-"); code != exitOK || !strings.Contains(harness.out.String(), "current-context: admin@dev") {
		t.Errorf("to standard output: exit code %d: %s", code, harness.out)
	}
}

func TestKubeconfigMergeKeepsTheOthers(t *testing.T) {
	harness, _ := newClusterHarness(t)
	path := filepath.Join(t.TempDir(), "config")
	other := strings.NewReplacer("dev", "other", "name: admin,", "name: admin@other,", "user: admin}", "user: admin@other}", "a2V5", "b3RoZXI=").Replace(testKubeconfig)
	if err := os.WriteFile(path, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time replaces its own
		if code := harness.run(t, "kubeconfig", "--merge", path); code != exitOK {
			t.Fatalf("exit code %d: %s", code, harness.err)
		}
	}
	config, err := clientcmd.LoadFromFile(path)
	if err != nil || len(config.Contexts) != 2 || config.CurrentContext != "admin@dev" {
		t.Errorf("%+v, %v", config, err)
	}
	// Both clusters know an "admin", each with a key of his own.
	for name, key := range map[string]string{"admin@dev": "key", "admin@other": "other"} {
		if user := config.AuthInfos[config.Contexts[name].AuthInfo]; user == nil || string(user.ClientKeyData) != key {
			t.Errorf("%s: %+v", name, user)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Replace(testKubeconfig, "Y2E=", "b3RoZXI=", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.fails(t, exitError, []string{`another cluster named "dev"`}, "kubeconfig", "--merge", path)
	harness.fails(t, exitError, []string{"is a directory"}, "kubeconfig", "--merge", t.TempDir())
}

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/client"
)

func TestConfigContextsAndInfo(t *testing.T) {
	harness := newHarness(t, nil)
	harness.golden(t, "contexts.txt", "config", "contexts")
	harness.golden(t, "contexts.json", "config", "contexts", "-o", "json")
	harness.golden(t, "info.json", "config", "info", "-o", "json")
	if code := harness.run(t, "config", "info"); code != exitOK || !strings.Contains(harness.out.String(), "os:admin") {
		t.Errorf("exit code %d: %s", code, harness.out)
	}
	if strings.Contains(harness.out.String(), "PRIVATE") {
		t.Error("info shows the key")
	}
	harness.now = func() time.Time { return testNow.Add(2 * adminTTL) }
	if harness.run(t, "config", "info"); !strings.Contains(harness.out.String(), "(expired)") {
		t.Errorf("an expired certificate: %s", harness.out)
	}
}

func TestConfigUseAndRemove(t *testing.T) {
	harness := newHarness(t, nil)
	path, _ := harness.configPath()
	err := client.UpdateConfig(path, func(config *client.Config) error {
		config.Contexts["prod"] = config.Contexts["dev"]
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if code := harness.run(t, "config", "use", "prod"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	if config, _ := harness.loadConfig(); config.Current != "prod" {
		t.Errorf("current %q", config.Current)
	}
	harness.fails(t, exitError, []string{`no context "test"; there are: dev, prod`}, "config", "use", "test")
	if code := harness.run(t, "config", "remove", "prod"); code != exitOK {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	harness.fails(t, exitError, []string{"no context is chosen"}, "config", "info")
	harness.fails(t, exitOK, nil, "config", "info", "--context", "dev")
}

package main

import (
	"testing"
)

func TestServices(t *testing.T) {
	harness, _ := newServicesHarness(t)
	harness.golden(t, "services.txt", "services")
	harness.golden(t, "services.json", "services", "-o", "json")
	harness.golden(t, "services.yaml", "services", "-o", "yaml")
	harness.golden(t, "services.name", "services", "-o", "name")
}

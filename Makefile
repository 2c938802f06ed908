# Keelson's targets. "make" alone lists them.

# One build cache for programs, tests and checks: everything is built without
# cgo (but runc, see images/) and with the same flags.
export CGO_ENABLED := 0
export GOFLAGS := -trimpath

# GOARCH=arm64 makes images for that architecture, by tools that run on this one.
HOSTARCH := $(shell go env GOHOSTARCH)
ARCH := $(or $(GOARCH),$(HOSTARCH))
unexport GOARCH

OUT ?= _out$(if $(filter-out $(HOSTARCH),$(ARCH)),/$(ARCH))
CLUSTER ?= dev
# Minutes a test run may take; a machine without KVM needs most of them.
TEST_TIMEOUT ?= 75m

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install the Debian packages that are missing (as root or through sudo)
	@hack/setup.sh build run $(ARCH)

.PHONY: image
image: setup ## Build the OS image (GOARCH=arm64: for that architecture) and bin/osctl
	@go run ./images -arch $(ARCH) -out $(OUT) all
	@go build -ldflags='-s -w' -o bin/osctl ./osctl

.PHONY: shop
shop: setup ## Build the images of the example shop, docs/shop.md
	@go run ./images -arch $(ARCH) -out $(OUT) shop

.PHONY: up
up: image ## Build everything, start a one-node cluster, run a sample workload on it
	@hack/up.sh $(CLUSTER) $(OUT) $(ARCH)

.PHONY: down
down: ## Destroy the cluster that "make up" started
	@test ! -x bin/osctl || bin/osctl cluster destroy $(CLUSTER)

.PHONY: test
test: image shop ## Run all tests, those that boot VMs included
	KEELSON_ARTIFACTS=$(abspath $(OUT)) go test -timeout 20m $$(go list ./... | grep -v /hack/e2e)
	KEELSON_ARTIFACTS=$(abspath $(OUT)) go test -count=1 -timeout $(TEST_TIMEOUT) ./hack/e2e

.PHONY: unit
unit: ## Run the tests that need no VM
	go test -timeout 20m $$(go list ./... | grep -v /hack/e2e)

.PHONY: soak
soak: image shop ## Run the loops that take hours (emulated: most of a day): reboots, power cuts, fuzzing
	KEELSON_ARTIFACTS=$(abspath $(OUT)) KEELSON_SOAK=1 go test -count=1 -v -timeout 24h ./hack/e2e
	hack/fuzz.sh

.PHONY: bench
bench: image ## Measure sizes, boot milestones and idle use; prints a table, writes $(OUT)/bench.json
	@go run ./hack/bench -artifacts $(abspath $(OUT)) -json $(OUT)/bench.json

.PHONY: conformance
conformance: ## Run specs of the Kubernetes conformance suite, chosen by FOCUS, on the current cluster (docs/conformance.md)
	@go run ./hack/conformance -artifacts $(OUT) -out $(OUT)/conformance/run -resume -focus '$(FOCUS)'

.PHONY: generate
generate: ## Write the generated code and docs anew
	@hack/setup.sh verify
	@hack/generate.sh

.PHONY: verify
verify: ## Check format, vet, staticcheck, generated code and go.mod
	@hack/setup.sh build verify
	@hack/verify.sh

.PHONY: clean
clean: ## Remove what was built; clusters and the Go build cache stay
	rm -rf $(OUT) bin

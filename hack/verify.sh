#!/bin/sh
# The checks of "make verify": each leaves the tree as it found it or fails.
set -eu
cd "$(dirname "$0")/.."

echo "format"
unformatted=$(git ls-files '*.go' | grep -v '\.pb\.go$' | xargs gofmt -l)
[ -z "$unformatted" ] || { echo "run gofmt -w on:" "$unformatted"; exit 1; }

echo "vet"
go vet ./...

echo "staticcheck"
go tool staticcheck ./...

echo "generated code"
before=$(git status --porcelain; git diff | cksum)
hack/generate.sh
[ "$before" = "$(git status --porcelain; git diff | cksum)" ] ||
	{ echo "generated code was out of date; it is up to date now, commit it:"; git status --short; exit 1; }

echo "go.mod"
go mod tidy -diff
go mod verify >/dev/null
echo "verified"

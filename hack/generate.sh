#!/bin/sh
# Generates the Go code of every .proto beside it, and the references in docs. The two plugins are built
# from go.mod's tool lines, so their versions are pinned there.
set -eu
cd "$(dirname "$0")/.."
plugins=$(mktemp -d)
trap 'rm -rf "$plugins"' EXIT
go build -o "$plugins/" google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$plugins:$PATH" protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative pkg/api/*/*.proto
# Beside first: one that is interrupted must not leave half a page.
go run ./osctl docs >"$plugins/cli.md"
go run ./hack/configdocs >"$plugins/configuration.md"
cp "$plugins/cli.md" "$plugins/configuration.md" docs/

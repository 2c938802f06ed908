#!/bin/sh
# What "make up" does once everything is built: a one-node cluster, the sample
# workload on it, and a page from its pod. Running it again does only what is
# not done yet.
set -eu
cd "$(dirname "$0")/.."
cluster=$1
out=$2
arch=$3
start=$(date +%s)

say() { printf '[%4ds] %s\n' $(($(date +%s) - start)) "$1"; }

if bin/osctl cluster list -o name | grep -qx "$cluster"; then
	say "cluster $cluster exists; starting what does not run"
	bin/osctl cluster start "$cluster"
else
	bin/osctl cluster create "$cluster" --arch "$arch" --artifacts "$out"
fi
bin/osctl config use "$cluster" >/dev/null

if bin/osctl image list -o name | grep -qx keelson.local/sample-web:1; then
	say "the sample's image is on the node"
else
	say "importing the sample's image through the API"
	bin/osctl image import "$out/sample-web.tar"
fi
say "applying hack/sample/sample-web.yaml"
bin/osctl apply -f hack/sample/sample-web.yaml

say "waiting for the page"
page=
tries=300
while [ -z "$page" ]; do
	pod=$(bin/osctl get pods -l app=sample-web --field-selector status.phase=Running -o name 2>/dev/null | head -n 1)
	# The page is fetched inside the cluster, by the Service's name.
	[ -z "$pod" ] || page=$(bin/osctl exec "$pod" -- /sample-web get http://sample-web/ 2>/dev/null) || page=
	tries=$((tries - 1))
	[ "$tries" -gt 0 ] || { say "no page yet; look at: bin/osctl get pods, bin/osctl get events"; exit 1; }
	[ -n "$page" ] || sleep 1
done
say "done; the page, served by $pod:"
printf '\n%s\n\n' "$page"
cat <<EOF
Next:
  bin/osctl get nodes
  bin/osctl services
  bin/osctl get pods -A
  bin/osctl logs etcd
  bin/osctl exec $pod -- /sample-web get http://sample-web/
  bin/osctl kubeconfig kubeconfig && kubectl --kubeconfig kubeconfig get nodes
  make down
EOF

package kubernetes

import (
	"maps"
	"strings"
)

const storageClasses = "/apis/storage.k8s.io/v1/storageclasses"

// isDefault is the annotation of the class of claims that name none. Of several
// such classes Kubernetes takes the newest.
const isDefault = "storageclass.kubernetes.io/is-default-class"

// seeded are kinds that are made when they are missing, and are the people's of
// the cluster from then on: nothing that they change is undone.
var seeded = map[string]bool{"StorageClass": true}

// seed returns what is made of a missing manifest. A class is no default if
// people have another: one that was deleted, and comes back, would be the newest.
func seed(missing manifest, live map[string]any) map[string]any {
	if missing.kind != "StorageClass" || !hasDefaultClass(live) {
		return missing.object
	}
	object := maps.Clone(missing.object)
	metadata, _ := object["metadata"].(map[string]any)
	metadata = maps.Clone(metadata)
	metadata["annotations"] = map[string]any{isDefault: "false"}
	object["metadata"] = metadata
	return object
}

func hasDefaultClass(live map[string]any) bool {
	for path, object := range live {
		object, _ := object.(map[string]any)
		metadata, _ := object["metadata"].(map[string]any)
		annotations, _ := metadata["annotations"].(map[string]any)
		if strings.HasPrefix(path, storageClasses+"/") && annotations[isDefault] == "true" {
			return true
		}
	}
	return false
}

// Package localpath makes PersistentVolumes out of folders on this node's disk,
// for claims whose first pod was placed here, and removes them again.
package localpath

// Package storage is boot stage 4: it finds the node's own partitions on the
// install disk, or makes them on an empty one, checks and mounts them.
package storage

package storage

import "github.com/keelson-os/keelson/pkg/osdisk"

// fileSystems are the partitions that Open makes and mounts. The others are
// written when an image is installed or updated, and a reset leaves them.
var fileSystems = []osdisk.Partition{osdisk.State, osdisk.Ephemeral}

// formatted is set among a partition's attributes once its file system is whole
// and on the disk: a power cut during the first format leaves it unset. UEFI
// leaves bits 48 to 63 to whoever defines the partition type.
const formatted = uint64(1) << 56

// Package provision makes and runs clusters of QEMU machines as an ordinary
// user, on a user-space network, and injects faults; osctl and the tests use it.
//
// A cluster is a folder. Its cluster.json is written, synced, before the first process
// starts, and every process carries a mark that names the folder, so that Destroy
// finds everything whatever happened to the program that made it.
//
// The nodes' consoles and the processes' logs are bounded: the newest 8 MiB or more of each are
// in its file and in the one of the same name with ".old" behind it.
//
// Image artefacts are used where they are, not copied: whoever builds new ones while a cluster
// runs must put them in place by rename, so that the old files live on for it.
package provision

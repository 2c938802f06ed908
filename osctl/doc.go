// Command osctl drives Keelson nodes and clusters, and what runs on them,
// through the nodes' API. Each command is in a file of its name.
package main

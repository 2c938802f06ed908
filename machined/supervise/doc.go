// Package supervise keeps the node's services running: dependencies, health,
// restarts, cgroups, privileges, logs, and the reaping that PID 1 owes Linux.
package supervise

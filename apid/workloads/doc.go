// Package workloads answers keelson.workload.v1 as a client of the Kubernetes
// API server. It acts by impersonation: what a caller may do is Kubernetes'
// RBAC to decide, and its audit log names the caller.
package workloads

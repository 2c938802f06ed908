// Package host is boot stage 1: the kernel interfaces every later stage stands
// on (mounts, cgroups, sysctls, modules, kernel messages) behind one narrow seam.
package host

// Package version holds the one version of everything in the OS image: the
// image, its programs, and the Kubernetes they run.
package version

// Version is the OS image's version. It is the version of Kubernetes that
// go.mod pins (k8s.io/kubernetes); a test holds the two together.
const Version = "v1.37.1"

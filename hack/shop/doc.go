// Package shop is the example of an application of several services; docs/shop.md
// is its how-to. Beside the manifests are the sources of its own programs, and
// tests that run its images, as the manifests say, without a cluster.
package shop

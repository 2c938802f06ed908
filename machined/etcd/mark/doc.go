// Package mark keeps facts as small files that survive a power cut: set before
// something begins, cleared when it is done.
package mark

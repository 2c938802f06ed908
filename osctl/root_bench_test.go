package main

import "testing"

// BenchmarkRoot is the part of every start that grows with the commands.
func BenchmarkRoot(b *testing.B) {
	for b.Loop() {
		newApp().root()
	}
}

// Package nearest finds what a mistyped name was meant to be, and lists names in
// error messages.
package nearest

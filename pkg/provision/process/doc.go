// Package process starts programs that outlive their starter, finds them
// again, and ends them, without ever touching a process it did not start.
package process

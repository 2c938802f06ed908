// Package machineconfig is the configuration of a node: its schema, its
// defaults, strict decoding that names file, line and column, and validation.
package machineconfig

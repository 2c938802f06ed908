// Package logind lets kubelet delay a shutdown: the few D-Bus calls that it
// makes to systemd's logind, served on a socket of its own.
package logind

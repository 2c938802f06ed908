// Package vnet is the user-space network of a QEMU cluster: an L2 switch with
// fault rules, and a gateway that is DHCP server, DNS server and way in (and, only if asked, way out).
package vnet

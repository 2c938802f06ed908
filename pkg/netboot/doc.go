// Package netboot boots machines over the network, from an operator's computer:
// it tells them by DHCP what to boot, beside the DHCP server that gives them their
// addresses, and serves it by HTTP and TFTP together with their machine configs.
package netboot

// Package network is boot stage 3: it gives the links their addresses, by DHCP or
// by the machine config, and keeps leases, resolver and host name up to date.
package network

// Command balancer (machined/balancer/proxy) passes TCP connections from the
// loopback on to the API servers that work. It looks into none of them.
package main

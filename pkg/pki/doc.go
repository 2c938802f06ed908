// Package pki makes the certificates of a Keelson cluster: certificate
// authorities and what they issue, ECDSA P-256 throughout, as PEM.
package pki

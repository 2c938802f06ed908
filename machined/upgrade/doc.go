// Package upgrade is boot stage 8: it keeps the two slots of OS images, writes an
// update to the one that does not run, and finds out what became of it.
package upgrade

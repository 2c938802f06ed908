// Package secretdir writes the folders that hold one service's keys and
// settings: nobody but that service's user can read them.
package secretdir

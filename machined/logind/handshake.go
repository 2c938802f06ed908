package logind

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxHandshake is how many lines a handshake may take; it needs five.
const maxHandshake = 16

// guid names this bus towards its clients, which do nothing with it.
const guid = "6b65656c736f6e2e6c6f67696e642e30"

// handshake is the server's side of what comes before D-Bus messages. The
// kernel says who the client is; what the client says must agree.
func (c *client) handshake(in *bufio.Reader) error {
	user, err := c.user()
	if err != nil {
		return err
	}
	if user != os.Geteuid() {
		return fmt.Errorf("user %d is not admitted", user)
	}
	if first, err := in.ReadByte(); err != nil || first != 0 {
		return errors.Join(err, errors.New("it does not begin with a zero"))
	}
	admitted := false
	for range maxHandshake {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		word, rest, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
		answer := "ERROR"
		switch {
		case word == "AUTH" && rest == "EXTERNAL":
			answer = "DATA" // the client may name itself yet
		case word == "AUTH":
			answer = "REJECTED EXTERNAL"
			if claim, ok := strings.CutPrefix(rest, "EXTERNAL "); ok && claims(claim, user) {
				answer, admitted = "OK "+guid, true
			}
		case word == "DATA" && claims(rest, user):
			answer, admitted = "OK "+guid, true
		case word == "DATA", word == "CANCEL", word == "ERROR":
			answer = "REJECTED EXTERNAL"
		case word == "NEGOTIATE_UNIX_FD" && admitted:
			answer = "AGREE_UNIX_FD"
		case word == "BEGIN" && admitted:
			return nil
		}
		if _, err := c.conn.Write([]byte(answer + "\r\n")); err != nil {
			return err
		}
	}
	return fmt.Errorf("no end after %d lines", maxHandshake)
}

// claims tells whether a client's claim, if it makes one, is its user's number
// as hexadecimal text.
func claims(claim string, user int) bool {
	text, err := hex.DecodeString(claim)
	return err == nil && (len(text) == 0 || string(text) == strconv.Itoa(user))
}

// user asks the kernel who made the connection.
func (c *client) user() (int, error) {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	failed := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(failed, err); err != nil {
		return 0, fmt.Errorf("ask who the client is: %w", err)
	}
	return int(peer.Uid), nil
}

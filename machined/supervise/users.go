package supervise

import (
	"bufio"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// User is who a service runs as.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary
	Home   string
}

// LookupUser finds a user in etc/passwd of fsys and its further groups in
// etc/group. os/user is not used: it reads the running system's files only.
func LookupUser(fsys fs.FS, name string) (User, error) {
	if name == "" {
		name = "root"
	}
	var user User
	err := eachRecord(fsys, "etc/passwd", 7, func(fields []string) error {
		if fields[0] != name || user.Name != "" {
			return nil
		}
		uid, uidErr := strconv.ParseUint(fields[2], 10, 32)
		gid, gidErr := strconv.ParseUint(fields[3], 10, 32)
		if uidErr != nil || gidErr != nil {
			return fmt.Errorf("user %s has no numeric ids", name)
		}
		user = User{Name: name, UID: uint32(uid), GID: uint32(gid), Home: fields[5]}
		return nil
	})
	if err != nil {
		return User{}, err
	}
	if user.Name == "" {
		return User{}, fmt.Errorf("no user %q in etc/passwd", name)
	}
	err = eachRecord(fsys, "etc/group", 4, func(fields []string) error {
		gid, err := strconv.ParseUint(fields[2], 10, 32)
		if err != nil {
			return fmt.Errorf("group %s has no numeric id", fields[0])
		}
		if slices.Contains(strings.Split(fields[3], ","), name) && uint32(gid) != user.GID {
			user.Groups = append(user.Groups, uint32(gid))
		}
		return nil
	})
	return user, err
}

// eachRecord calls f with the fields of every line of a colon-separated file.
func eachRecord(fsys fs.FS, path string, fields int, f func([]string) error) error {
	file, err := fsys.Open(path)
	if err != nil {
		return fmt.Errorf("look up users: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for number := 1; lines.Scan(); number++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		record := strings.Split(lines.Text(), ":")
		if len(record) != fields {
			return fmt.Errorf("%s:%d: %d fields, want %d", path, number, len(record), fields)
		}
		if err := f(record); err != nil {
			return fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	return lines.Err()
}

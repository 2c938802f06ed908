package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"github.com/cavaliergopher/cpio"
)

// tree is what an image will hold. Everything in it belongs to root and bears
// one time, so that nothing of the building machine gets in.
type tree struct {
	nodes map[string]node // by path, without a leading slash
	errs  []error
}

// node is one file, folder or symbolic link.
type node struct {
	mode fs.FileMode
	link string // target of a symbolic link
	file string // regular file: its content is in this file …
	text []byte // … or is this
}

func newTree() *tree { return &tree{nodes: map[string]node{}} }

// file adds a regular file with the content of a file of this machine.
func (t *tree) file(name, file string, mode fs.FileMode) { t.add(name, node{mode: mode, file: file}) }

// text adds a regular file.
func (t *tree) text(name, content string) { t.add(name, node{mode: 0o644, text: []byte(content)}) }

// link adds a symbolic link.
func (t *tree) link(name, target string) {
	t.add(name, node{mode: fs.ModeSymlink | 0o777, link: target})
}

// dir adds a folder; the folders above a node need no call.
func (t *tree) dir(name string, mode fs.FileMode) { t.add(name, node{mode: fs.ModeDir | mode}) }

func (t *tree) add(name string, n node) {
	if old, taken := t.nodes[name]; taken && !(old.mode.IsDir() && n.mode.IsDir()) {
		t.errs = append(t.errs, fmt.Errorf("%s is added twice", name))
	}
	t.nodes[name] = n
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if above, ok := t.nodes[dir]; !ok {
			t.nodes[dir] = node{mode: fs.ModeDir | 0o755}
		} else if !above.mode.IsDir() {
			t.errs = append(t.errs, fmt.Errorf("%s is below %s, which is no folder", name, dir))
		}
	}
}

// walk calls visit for each node, folders before what they hold, in the order
// of the names.
func (t *tree) walk(visit func(name string, n node, content io.Reader, size int64) error) error {
	if len(t.errs) > 0 {
		return errors.Join(t.errs...)
	}
	names := make([]string, 0, len(t.nodes))
	for name := range t.nodes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := t.visit(name, visit); err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
	}
	return nil
}

func (t *tree) visit(name string, visit func(string, node, io.Reader, int64) error) error {
	n := t.nodes[name]
	if n.file == "" {
		return visit(name, n, bytes.NewReader(n.text), int64(len(n.text)))
	}
	f, err := os.Open(n.file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return visit(name, n, f, info.Size())
}

// writeTar writes the tree as a tar archive.
func (t *tree) writeTar(to io.Writer, when time.Time) error {
	archive := tar.NewWriter(to)
	err := t.walk(func(name string, n node, content io.Reader, size int64) error {
		header := tar.Header{Name: name, Mode: int64(n.mode.Perm()), ModTime: when}
		switch n.mode.Type() {
		case fs.ModeDir:
			header.Typeflag, header.Name = tar.TypeDir, name+"/"
			if n.mode&fs.ModeSticky != 0 {
				header.Mode |= 0o1000
			}
		case fs.ModeSymlink:
			header.Typeflag, header.Linkname = tar.TypeSymlink, n.link
		default:
			header.Typeflag, header.Size = tar.TypeReg, size
			if n.mode&fs.ModeSetuid != 0 {
				header.Mode |= 0o4000
			}
		}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		_, err := io.Copy(archive, content)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

// writeCPIO writes the tree as a cpio archive of the kind that the kernel
// unpacks (newc).
func (t *tree) writeCPIO(to io.Writer, when time.Time) error {
	archive := cpio.NewWriter(to)
	err := t.walk(func(name string, n node, content io.Reader, size int64) error {
		header := cpio.Header{Name: name, Mode: cpio.FileMode(n.mode.Perm()), ModTime: when, Links: 1, Size: size}
		switch n.mode.Type() {
		case fs.ModeDir:
			header.Mode |= cpio.TypeDir
			header.Links = 2
		case fs.ModeSymlink:
			header.Mode |= cpio.TypeSymlink
			header.Size, content = int64(len(n.link)), bytes.NewReader([]byte(n.link))
		default:
			header.Mode |= cpio.TypeReg
		}
		if err := archive.WriteHeader(&header); err != nil {
			return err
		}
		_, err := io.Copy(archive, content)
		return err
	})
	if err != nil {
		return err
	}
	return archive.Close()
}

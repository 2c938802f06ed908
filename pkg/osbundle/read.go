package osbundle

import (
	"archive/tar"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrDamaged is every error that says that a bundle is not what was signed.
var ErrDamaged = errors.New("the bundle is damaged")

// damagedError is an ErrDamaged in words of its own.
type damagedError string

func damagedf(format string, args ...any) error { return damagedError(fmt.Sprintf(format, args...)) }

func (e damagedError) Error() string        { return string(e) }
func (e damagedError) Is(target error) bool { return target == ErrDamaged }

// Reader reads a bundle from a stream.
type Reader struct {
	// Manifest is signed by one of the keys.
	Manifest Manifest

	archive *tar.Reader
	next    int
}

// NewReader reads and checks the manifest of a bundle, and nothing behind it. One
// that no key signed is ErrSignature.
func NewReader(from io.Reader, keys []ed25519.PublicKey) (*Reader, error) {
	r := &Reader{archive: tar.NewReader(from)}
	text, err := r.small(manifestName, maxManifest)
	if err != nil {
		return nil, err
	}
	signature, err := r.small(signatureName, ed25519.SignatureSize)
	if err != nil {
		return nil, err
	}
	if err := verify(keys, text, signature); err != nil {
		return nil, err
	}
	r.Manifest, err = decodeManifest(text)
	return r, err
}

// small reads a member of a bounded size.
func (r *Reader) small(name string, most int64) ([]byte, error) {
	if err := r.member(name, func(size int64) bool { return size > 0 && size <= most }); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r.archive)
	if err != nil {
		return nil, fmt.Errorf("read the bundle's %s: %w", name, err)
	}
	return content, nil
}

// errNoBundle is what is said of a file that is something else.
var errNoBundle = errors.New("this is no OS bundle: give the file keelson.bundle of the image build")

func (r *Reader) member(name string, fits func(size int64) bool) error {
	header, err := r.archive.Next()
	switch {
	case err != nil && name == manifestName:
		return fmt.Errorf("%w (%w)", errNoBundle, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return damagedf("the bundle ends before its %s: copy or download it again", name)
	case err != nil:
		return fmt.Errorf("read the bundle: %w", err)
	case header.Name != name && name == manifestName:
		return errNoBundle
	case header.Name != name || !fits(header.Size):
		return fmt.Errorf("the bundle has %q of %d bytes where its %s should be: build it again", header.Name, header.Size, name)
	}
	return nil
}

// Next returns the next part and its content, which is io.EOF behind the last
// one. Reading the content to its end checks it: what differs from the manifest
// is an error instead of io.EOF.
func (r *Reader) Next() (Part, io.Reader, error) {
	if r.next == len(r.Manifest.Parts) {
		return Part{}, nil, io.EOF
	}
	part := r.Manifest.Parts[r.next]
	r.next++
	if err := r.member(part.Name, func(size int64) bool { return size == part.Size }); err != nil {
		return Part{}, nil, err
	}
	return part, &checked{from: r.archive, part: part, sum: sha256.New()}, nil
}

// checked hashes what is read, and judges at the end.
type checked struct {
	from io.Reader
	part Part
	sum  hash.Hash
	read int64
}

func (c *checked) Read(b []byte) (int, error) {
	n, err := c.from.Read(b)
	c.sum.Write(b[:n])
	c.read += int64(n)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF) && c.read < c.part.Size:
		return n, damagedf("the bundle ends within its %s, after %d of %d bytes: copy or download it again", c.part.Name, c.read, c.part.Size)
	case errors.Is(err, io.EOF) && hex.EncodeToString(c.sum.Sum(nil)) != c.part.SHA256:
		return n, damagedf("the bundle's %s is damaged: copy or download it again", c.part.Name)
	}
	return n, err
}

// Peek reads the manifest of a bundle without knowing who signed it, for plans
// and messages: nodes decide by the signature.
func Peek(from io.Reader) (Manifest, error) {
	r := &Reader{archive: tar.NewReader(from)}
	text, err := r.small(manifestName, maxManifest)
	if err != nil {
		return Manifest{}, err
	}
	return decodeManifest(text)
}

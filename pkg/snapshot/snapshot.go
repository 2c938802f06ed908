package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

const (
	// SumSize is what a file has behind its database, in bytes.
	SumSize = sha256.Size
	// pageUnit divides the size of every database: its pages are larger, but
	// never odd.
	pageUnit = 512
	// magic, a little-endian number behind the first page's header, is on every
	// bbolt database.
	magic       = 0xED0CDAED
	magicOffset = 16
	// bufferSize of one read, in bytes.
	bufferSize = 256 << 10
)

// Why a file is refused.
var (
	// ErrForeign is a file that was never a snapshot.
	ErrForeign = errors.New("no snapshot of etcd: it does not begin like one")
	// ErrTruncated is one of which the end is missing.
	ErrTruncated = errors.New("truncated: the snapshot does not end with its checksum; fetch it again")
	// ErrAltered is one that is not what was written.
	ErrAltered = errors.New("altered or truncated: the snapshot's checksum does not match; fetch it again")
)

// Sum is the SHA-256 of a whole file, its own checksum included.
type Sum [sha256.Size]byte

// Check reads a snapshot of size bytes and tells whether it is whole, by one of
// the errors above; others are r's own. The sum is what stores and copies can
// be held against.
func Check(r io.Reader, size int64) (Sum, error) {
	sum := sha256.New()
	head := make([]byte, magicOffset+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return Sum{}, orError(ErrForeign, err)
	}
	if binary.LittleEndian.Uint32(head[magicOffset:]) != magic {
		return Sum{}, ErrForeign
	}
	if size < pageUnit || size%pageUnit != SumSize {
		return Sum{}, ErrTruncated
	}
	sum.Write(head)
	rest := size - SumSize - int64(len(head))
	if _, err := io.CopyBuffer(sum, io.LimitReader(r, rest), make([]byte, bufferSize)); err != nil {
		return Sum{}, fmt.Errorf("read the snapshot: %w", err)
	}
	expected := sum.Sum(nil)
	found := make([]byte, SumSize)
	if _, err := io.ReadFull(r, found); err != nil {
		return Sum{}, orError(ErrTruncated, err)
	}
	if !bytes.Equal(found, expected) {
		return Sum{}, ErrAltered
	}
	sum.Write(found)
	return Sum(sum.Sum(nil)), nil
}

// orError tells a file that ends too early from one that cannot be read.
func orError(early, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return early
	}
	return fmt.Errorf("read the snapshot: %w", err)
}

// Writer passes a database on and remembers its checksum.
type Writer struct {
	to  io.Writer
	sum hash.Hash
}

// NewWriter writes a snapshot to w: first everything that is written to it,
// then what Finish adds.
func NewWriter(w io.Writer) *Writer { return &Writer{to: w, sum: sha256.New()} }

// Write takes the next bytes of the database.
func (w *Writer) Write(data []byte) (int, error) {
	count, err := w.to.Write(data)
	w.sum.Write(data[:count])
	return count, err
}

// Finish adds the checksum.
func (w *Writer) Finish() error {
	_, err := w.to.Write(w.sum.Sum(nil))
	return err
}

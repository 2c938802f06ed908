package upgrade

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The partition META holds two copies of one record. The older one is
// overwritten, so that a power cut leaves the other: at worst, what was written
// last is forgotten.

const (
	metaMagic = "KEELMETA"
	// copyStride is the distance of the two copies, in bytes; they are far from
	// each other, as erase blocks are large.
	copyStride = 512 << 10
	// maxRecord bounds a record, in bytes.
	maxRecord = 64 << 10
)

// metaHeader is in front of each copy.
type metaHeader struct {
	Magic [8]byte
	// Sequence counts the writes: of two good copies the higher is the newer.
	Sequence uint64
	Length   uint32
	_        uint32
	// Sum is the SHA-256 of Sequence, Length and the record.
	Sum [sha256.Size]byte
}

var metaHeaderSize = int64(binary.Size(metaHeader{}))

func (h metaHeader) sum(record []byte) [sha256.Size]byte {
	b := binary.LittleEndian.AppendUint64(nil, h.Sequence)
	b = binary.LittleEndian.AppendUint32(b, h.Length)
	return sha256.Sum256(append(b, record...))
}

// errNoCopy says that a copy was never written, or not to its end.
var errNoCopy = errors.New("no whole copy")

// readCopy reads the copy at an offset.
func readCopy(from io.ReaderAt, at int64) (record []byte, sequence uint64, err error) {
	head := make([]byte, metaHeaderSize)
	if _, err := from.ReadAt(head, at); err != nil {
		return nil, 0, fmt.Errorf("read META at %d: %w", at, err)
	}
	var h metaHeader
	if _, err := binary.Decode(head, binary.LittleEndian, &h); err != nil {
		return nil, 0, err
	}
	if string(h.Magic[:]) != metaMagic || h.Length > maxRecord {
		return nil, 0, errNoCopy
	}
	record = make([]byte, h.Length)
	if _, err := from.ReadAt(record, at+metaHeaderSize); err != nil {
		return nil, 0, fmt.Errorf("read META at %d: %w", at, err)
	}
	if h.sum(record) != h.Sum {
		return nil, 0, errNoCopy
	}
	return record, h.Sequence, nil
}

// newest is the newer copy of those that are whole, and where the other one is.
// sequence is zero if there is none.
func newest(from io.ReaderAt) (record []byte, sequence uint64, other int64, err error) {
	other = 0
	for _, at := range []int64{0, copyStride} {
		text, number, copyErr := readCopy(from, at)
		switch {
		case errors.Is(copyErr, errNoCopy):
		case copyErr != nil:
			err = errors.Join(err, copyErr) // the other copy may do
		case number > sequence:
			record, sequence, other = text, number, copyStride-at
		}
	}
	if sequence > 0 {
		err = nil
	}
	return record, sequence, other, err
}

// ReadRecord reads what META remembers: nothing, on a new disk. What cannot be
// understood, as it is when an older image is booted, is an error.
func ReadRecord(from io.ReaderAt) (Record, error) {
	text, sequence, _, err := newest(from)
	if err != nil || sequence == 0 {
		return Record{}, err
	}
	var record Record
	if err := json.Unmarshal(text, &record); err != nil {
		return Record{}, fmt.Errorf("decode META: %w", err)
	}
	return record, nil
}

// metaFile is the partition META; *os.File is one.
type metaFile interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// WriteRecord replaces the record and waits until it is on the disk.
func WriteRecord(to metaFile, record Record) error {
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode META: %w", err)
	}
	if len(text) > maxRecord {
		return fmt.Errorf("a record of %d bytes does not fit META", len(text))
	}
	_, sequence, at, err := newest(to)
	if err != nil {
		return err
	}
	h := metaHeader{Magic: [8]byte([]byte(metaMagic)), Sequence: sequence + 1, Length: uint32(len(text))}
	h.Sum = h.sum(text)
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		return err
	}
	b.Write(text)
	if _, err := to.WriteAt(b.Bytes(), at); err != nil {
		return fmt.Errorf("write META: %w", err)
	}
	if err := to.Sync(); err != nil {
		return fmt.Errorf("write META: %w", err)
	}
	return nil
}

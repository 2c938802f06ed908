package verity

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Superblock describes a hash tree. It stands in front of the tree, as
// veritysetup(8) writes it.
type Superblock struct {
	UUID          [16]byte
	DataBlockSize uint32 // bytes
	HashBlockSize uint32 // bytes
	DataBlocks    uint64
	Salt          []byte
}

// RootHash is the hash of a tree's top block, which vouches for all the data.
type RootHash [sha256.Size]byte

// ParseRootHash reads 64 hexadecimal digits.
func ParseRootHash(s string) (RootHash, error) {
	var hash RootHash
	if len(s) != hex.EncodedLen(len(hash)) {
		return hash, fmt.Errorf("root hash %q: want %d hexadecimal digits, got %d characters", s, hex.EncodedLen(len(hash)), len(s))
	}
	if _, err := hex.Decode(hash[:], []byte(s)); err != nil {
		return hash, fmt.Errorf("root hash %q: %w", s, err)
	}
	return hash, nil
}

func (h RootHash) String() string { return hex.EncodeToString(h[:]) }

// onDisk is struct verity_sb of cryptsetup's lib/verity/verity.c.
type onDisk struct {
	Magic         [8]byte
	Version       uint32
	HashType      uint32
	UUID          [16]byte
	Algorithm     [32]byte
	DataBlockSize uint32
	HashBlockSize uint32
	DataBlocks    uint64
	SaltSize      uint16
	_             [6]byte
	Salt          [256]byte
	_             [168]byte
}

const (
	superblockSize = 512
	magic          = "verity\x00\x00"
	algorithm      = "sha256"
	// A page is the most that the kernel takes; a sector is the least.
	minBlockSize, maxBlockSize = 512, 4096
	// More blocks than any disk has, and few enough not to overflow.
	maxDataBlocks = 1 << 48
)

// ReadSuperblock reads the superblock at offset bytes. What the kernel would not
// take, or Keelson's images do not use, is an error that says what it is.
func ReadSuperblock(r io.ReaderAt, offset int64) (Superblock, error) {
	buffer := make([]byte, superblockSize)
	if _, err := r.ReadAt(buffer, offset); err != nil {
		return Superblock{}, fmt.Errorf("read the verity superblock at %d: %w", offset, err)
	}
	return parseSuperblock(buffer)
}

func parseSuperblock(buffer []byte) (Superblock, error) {
	var d onDisk
	if _, err := binary.Decode(buffer, binary.LittleEndian, &d); err != nil {
		return Superblock{}, fmt.Errorf("verity superblock: %w", err)
	}
	if string(d.Magic[:]) != magic {
		return Superblock{}, fmt.Errorf("no verity superblock")
	}
	// Hash type 1 is "normal": the salt comes first.
	if d.Version != 1 || d.HashType != 1 {
		return Superblock{}, fmt.Errorf("verity superblock version %d, hash type %d: only 1 and 1 are supported", d.Version, d.HashType)
	}
	if name := strings.TrimRight(string(d.Algorithm[:]), "\x00"); name != algorithm {
		return Superblock{}, fmt.Errorf("verity hash algorithm %q: only %s is supported", name, algorithm)
	}
	for _, size := range []uint32{d.DataBlockSize, d.HashBlockSize} {
		if size < minBlockSize || size > maxBlockSize || size&(size-1) != 0 {
			return Superblock{}, fmt.Errorf("verity block size %d: want a power of two from %d to %d", size, minBlockSize, maxBlockSize)
		}
	}
	// One block of data would have no tree: its own hash would be the root hash.
	if d.DataBlocks < 2 || d.DataBlocks > maxDataBlocks {
		return Superblock{}, fmt.Errorf("verity superblock covers %d blocks", d.DataBlocks)
	}
	if int(d.SaltSize) > len(d.Salt) {
		return Superblock{}, fmt.Errorf("verity salt of %d bytes: at most %d fit", d.SaltSize, len(d.Salt))
	}
	return Superblock{
		UUID:          d.UUID,
		DataBlockSize: d.DataBlockSize,
		HashBlockSize: d.HashBlockSize,
		DataBlocks:    d.DataBlocks,
		Salt:          bytes.Clone(d.Salt[:d.SaltSize]),
	}, nil
}

// DataSize is how many bytes the tree covers.
func (s Superblock) DataSize() int64 { return int64(s.DataBlocks) * int64(s.DataBlockSize) }

// treeBlock is where the tree begins, in hash blocks from the device's start:
// the first whole block behind the superblock.
func (s Superblock) treeBlock(offset int64) int64 {
	size := int64(s.HashBlockSize)
	return (offset + superblockSize + size - 1) / size
}

// RootHash computes the root hash of the tree whose superblock is at offset
// bytes, from its top block, which comes first. The levels below are checked by
// the kernel, block by block, as they are read.
func (s Superblock) RootHash(r io.ReaderAt, offset int64) (RootHash, error) {
	top := make([]byte, s.HashBlockSize)
	at := s.treeBlock(offset) * int64(s.HashBlockSize)
	if _, err := r.ReadAt(top, at); err != nil {
		return RootHash{}, fmt.Errorf("read the hash tree's top block at %d: %w", at, err)
	}
	return sha256.Sum256(append(bytes.Clone(s.Salt), top...)), nil
}

// Table is the device-mapper target's parameters for a device that holds the
// data and, with its superblock at offset bytes, the tree
// (Documentation/admin-guide/device-mapper/verity.rst).
func (s Superblock) Table(device string, offset int64, root RootHash) string {
	salt := "-"
	if len(s.Salt) > 0 {
		salt = hex.EncodeToString(s.Salt)
	}
	return fmt.Sprintf("1 %s %s %d %d %d %d %s %s %s", device, device,
		s.DataBlockSize, s.HashBlockSize, s.DataBlocks, s.treeBlock(offset), algorithm, root, salt)
}

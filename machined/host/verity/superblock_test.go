package verity

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"strings"
	"testing"
)

// zeros16k is what "veritysetup format" of cryptsetup 2.6 wrote for 16 KiB of
// zeros with this salt and root hash.
const (
	zeros16kSalt = "\x01\x23\x45\x67\x89\xab\xcd\xef"
	zeros16kRoot = "4db397a834dbaaa3b1e452882f05c9c130d7983cb88f7c83aa574da3f7523eb5"
)

func zeros16k(t testing.TB) []byte {
	t.Helper()
	tree, err := os.ReadFile("testdata/zeros16k.verity")
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestReadSuperblock(t *testing.T) {
	s, err := ReadSuperblock(bytes.NewReader(zeros16k(t)), 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.DataBlockSize != 4096 || s.HashBlockSize != 4096 || s.DataBlocks != 4 || string(s.Salt) != zeros16kSalt || s.UUID[15] != 0xff {
		t.Errorf("%+v", s)
	}
	if s.DataSize() != 16<<10 {
		t.Errorf("data size %d", s.DataSize())
	}
}

func TestRootHash(t *testing.T) {
	// As on a node: the tree follows the data on the same device.
	image := append(make([]byte, 16<<10), zeros16k(t)...)
	const offset = 16 << 10
	device := bytes.NewReader(image)
	s, err := ReadSuperblock(device, offset)
	if err != nil {
		t.Fatal(err)
	}
	root, err := s.RootHash(device, offset)
	if err != nil || root.String() != zeros16kRoot {
		t.Errorf("root hash %s, %v", root, err)
	}
	want := "1 /dev/vdb /dev/vdb 4096 4096 4 5 sha256 " + zeros16kRoot + " 0123456789abcdef"
	if got := s.Table("/dev/vdb", offset, root); got != want {
		t.Errorf("table %q, want %q", got, want)
	}
	s.Salt = nil
	if got := s.Table("/dev/vdb", offset, root); !strings.HasSuffix(got, " -") {
		t.Errorf("table without a salt: %q", got)
	}
	image[offset+4096+40] ^= 1
	if root, err := s.RootHash(device, offset); err != nil || root.String() == zeros16kRoot {
		t.Errorf("a changed tree has the root hash %s, %v", root, err)
	}
	if _, err := s.RootHash(bytes.NewReader(image[:offset+4096]), offset); err == nil {
		t.Error("a cut-off tree has a root hash")
	}
}

func TestReadSuperblockRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, test := range map[string]struct {
		change func([]byte)
		want   string
	}{
		"magic":            {func(b []byte) { b[0] = 'V' }, "no verity superblock"},
		"version":          {func(b []byte) { b[8] = 2 }, "version 2"},
		"hash type":        {func(b []byte) { b[12] = 0 }, "hash type 0"},
		"algorithm":        {func(b []byte) { copy(b[32:], "sha512") }, `"sha512"`},
		"data block size":  {func(b []byte) { le.PutUint32(b[64:], 5000) }, "block size 5000"},
		"hash block size":  {func(b []byte) { le.PutUint32(b[68:], 0) }, "block size 0"},
		"large block size": {func(b []byte) { le.PutUint32(b[64:], 1<<31) }, "block size 2147483648"},
		"one data block":   {func(b []byte) { le.PutUint64(b[72:], 1) }, "covers 1 blocks"},
		"too many blocks":  {func(b []byte) { le.PutUint64(b[72:], 1<<63) }, "covers 9223372036854775808 blocks"},
		"salt":             {func(b []byte) { le.PutUint16(b[80:], 257) }, "salt of 257 bytes"},
	} {
		tree := zeros16k(t)
		test.change(tree)
		if s, err := ReadSuperblock(bytes.NewReader(tree), 0); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %+v, %v; want %q", name, s, err, test.want)
		}
	}
	if _, err := ReadSuperblock(strings.NewReader("short"), 0); err == nil {
		t.Error("a short read gave a superblock")
	}
}

func TestParseRootHash(t *testing.T) {
	if root, err := ParseRootHash(zeros16kRoot); err != nil || root.String() != zeros16kRoot {
		t.Errorf("%s, %v", root, err)
	}
	for _, s := range []string{"", "4db3", zeros16kRoot + "00", strings.Replace(zeros16kRoot, "4", "g", 1)} {
		if root, err := ParseRootHash(s); err == nil {
			t.Errorf("%q gave %s", s, root)
		}
	}
}

func FuzzSuperblock(f *testing.F) {
	f.Add(zeros16k(f), int64(0))
	f.Fuzz(func(t *testing.T, image []byte, offset int64) {
		if offset < 0 || offset > 1<<20 {
			return
		}
		device := io.NewSectionReader(bytes.NewReader(image), 0, int64(len(image)))
		s, err := ReadSuperblock(device, offset)
		if err != nil {
			return
		}
		if s.DataSize() <= 0 || s.treeBlock(offset)*int64(s.HashBlockSize) < offset+superblockSize {
			t.Errorf("%+v: %d bytes of data, tree at block %d", s, s.DataSize(), s.treeBlock(offset))
		}
		_, _ = s.RootHash(device, offset)
	})
}

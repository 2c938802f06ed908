package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// file makes a snapshot of so many pages.
func file(t *testing.T, pages int) []byte {
	t.Helper()
	database := make([]byte, pages*4096)
	for i := range database {
		database[i] = byte(i * 7)
	}
	binary.LittleEndian.PutUint32(database[magicOffset:], magic)
	var out bytes.Buffer
	w := NewWriter(&out)
	for part := range slices.Chunk(database, 1000) {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCheck(t *testing.T) {
	whole := file(t, 100)
	sum, err := Check(bytes.NewReader(whole), int64(len(whole)))
	if err != nil || sum != sha256.Sum256(whole) {
		t.Errorf("a whole file: %x, %v", sum, err)
	}
	altered := bytes.Clone(whole)
	altered[70000] ^= 1
	otherSum := bytes.Clone(whole)
	otherSum[len(whole)-1] ^= 1
	for name, test := range map[string]struct {
		content []byte
		want    error
	}{
		"a bit flipped in the database":  {altered, ErrAltered},
		"a bit flipped in the checksum":  {otherSum, ErrAltered},
		"without its checksum":           {whole[:len(whole)-SumSize], ErrTruncated},
		"cut in the middle":              {whole[:len(whole)/2], ErrTruncated},
		"cut where a checksum could end": {whole[:50*4096+SumSize], ErrAltered},
		"a byte too long":                {append(bytes.Clone(whole), 0), ErrTruncated},
		"only its head":                  {whole[:30], ErrTruncated},
		"another kind of file":           {bytes.Repeat([]byte("text"), 4096), ErrForeign},
		"a short text":                   {[]byte("text"), ErrForeign},
		"nothing":                        {nil, ErrForeign},
	} {
		if _, err := Check(bytes.NewReader(test.content), int64(len(test.content))); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if _, err := Check(bytes.NewReader(whole[:len(whole)-600]), int64(len(whole))); !errors.Is(err, ErrTruncated) {
		t.Errorf("a file that became shorter meanwhile: %v", err)
	}
}

func TestCheckTellsAnUnreadableFileFromADamagedOne(t *testing.T) {
	whole := file(t, 4)
	broken := errors.New("input/output error")
	for _, good := range []int{0, 100, len(whole) - 10} {
		r := io.MultiReader(bytes.NewReader(whole[:good]), iotest.ErrReader(broken))
		if _, err := Check(r, int64(len(whole))); !errors.Is(err, broken) {
			t.Errorf("unreadable from byte %d on: %v", good, err)
		}
	}
}

package verity

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStatus(t *testing.T) {
	answer := func(text string) []byte {
		header, err := binary.Append(nil, binary.NativeEndian, unix.DmTargetSpec{Length: 8})
		if err != nil {
			t.Fatal(err)
		}
		return append(append(header, text...), make([]byte, 200)...)
	}
	for text, want := range map[string]bool{"V": false, "C": true, "C ": true} {
		if damaged, err := parseStatus(answer(text)); err != nil || damaged != want {
			t.Errorf("%q: %v, %v", text, damaged, err)
		}
	}
	for _, wrong := range [][]byte{nil, answer(""), answer("0 8 linear")} {
		if _, err := parseStatus(wrong); err == nil {
			t.Errorf("%d bytes are taken for a state", len(wrong))
		}
	}
}

package upgrade

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// memory is a partition META; it remembers the writes.
type memory struct {
	content []byte
	writes  []struct {
		at      int64
		content []byte
	}
	sync error
}

func newMemory() *memory { return &memory{content: make([]byte, 1<<20)} }

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(m.content).ReadAt(b, at)
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	m.writes = append(m.writes, struct {
		at      int64
		content []byte
	}{at, bytes.Clone(b)})
	return copy(m.content[at:], b), nil
}

func (m *memory) Sync() error { return m.sync }

func recordNamed(name string) Record { return Record{Update: &Update{To: name, Outcome: Pending}} }

func TestMetaKeepsTheLastRecord(t *testing.T) {
	m := newMemory()
	if got, err := ReadRecord(m); err != nil || got.Update != nil {
		t.Errorf("a new disk: %+v, %v", got, err)
	}
	for _, name := range []string{"one", "two", "three"} {
		if err := WriteRecord(m, recordNamed(name)); err != nil {
			t.Fatal(err)
		}
		got, err := ReadRecord(m)
		if diff := cmp.Diff(recordNamed(name), got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

// A power cut leaves any part of a write on the disk: the record is then the old
// one or the new one.
func TestMetaSurvivesTornWrites(t *testing.T) {
	m := newMemory()
	for _, name := range []string{"one", "two"} {
		if err := WriteRecord(m, recordNamed(name)); err != nil {
			t.Fatal(err)
		}
	}
	before := bytes.Clone(m.content)
	if err := WriteRecord(m, recordNamed("three")); err != nil {
		t.Fatal(err)
	}
	write := m.writes[len(m.writes)-1]
	for written := range len(write.content) + 1 {
		torn := &memory{content: bytes.Clone(before)}
		copy(torn.content[write.at:], write.content[:written])
		got, err := ReadRecord(torn)
		want := "two"
		if written == len(write.content) {
			want = "three"
		}
		if err != nil || got.Update == nil || got.Update.To != want {
			t.Fatalf("after %d of %d bytes: %+v, %v", written, len(write.content), got, err)
		}
		// The next write does not destroy the only good copy.
		if err := WriteRecord(torn, recordNamed("four")); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadRecord(torn); err != nil || got.Update.To != "four" {
			t.Fatalf("after %d bytes, written again: %+v, %v", written, got, err)
		}
	}
}

func TestMetaWithOneRottenCopy(t *testing.T) {
	for _, rotten := range []int64{0, copyStride} {
		m := newMemory()
		for _, name := range []string{"one", "two"} {
			if err := WriteRecord(m, recordNamed(name)); err != nil {
				t.Fatal(err)
			}
		}
		m.content[rotten+metaHeaderSize]++
		want := map[int64]string{0: "two", copyStride: "one"}[rotten]
		if got, err := ReadRecord(m); err != nil || got.Update.To != want {
			t.Errorf("the copy at %d is rotten: %+v, %v", rotten, got, err)
		}
	}
}

func TestMetaFails(t *testing.T) {
	m := newMemory()
	m.sync = errors.New("I/O error")
	if err := WriteRecord(m, recordNamed("one")); !errors.Is(err, m.sync) {
		t.Error(err)
	}
	if err := WriteRecord(m, recordNamed(strings.Repeat("x", maxRecord))); err == nil {
		t.Error("a record that is too large was written")
	}
	if _, err := ReadRecord(bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

func FuzzReadRecord(f *testing.F) {
	m := newMemory()
	if err := WriteRecord(m, recordNamed("one")); err != nil {
		f.Fatal(err)
	}
	f.Add(m.content[:1024])
	f.Fuzz(func(t *testing.T, start []byte) {
		m := newMemory()
		copy(m.content, start)
		record, err := ReadRecord(m)
		if err == nil && WriteRecord(m, record) != nil {
			t.Error("what was read cannot be written")
		}
	})
}

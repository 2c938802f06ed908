package host

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseKernelMessage(t *testing.T) {
	for record, want := range map[string]KernelMessage{
		"6,339,5140900,-;NET: Registered protocol family 10\n": {339, 5140900 * time.Microsecond, 6, 0, "NET: Registered protocol family 10"},
		"30,340,5690716,-;systemd[1]: hello\n":                 {340, 5690716 * time.Microsecond, 6, 3, "systemd[1]: hello"},
		"7,160,424069,-;pci_root: host bridge (ignored)\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n": {
			160, 424069 * time.Microsecond, 7, 0, "pci_root: host bridge (ignored)"},
		"6,1,0,c,caller=T1;with; semicolons\n": {1, 0, 6, 0, "with; semicolons"},
		"6,2,0,-;tab\\x09 back\\x5cslash":      {2, 0, 6, 0, "tab\t back\\slash"},
	} {
		got, err := ParseKernelMessage(record)
		if err != nil {
			t.Errorf("%q: %v", record, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", record, diff)
		}
	}
	for _, record := range []string{"", "6,1;x", "x,1,2,-;x", "6,-1,2,-;x", "6,1,2,- no text", "6,1,99999999999999999999,-;x"} {
		if got, err := ParseKernelMessage(record); err == nil {
			t.Errorf("%q gave %+v", record, got)
		}
	}
}

func FuzzParseKernelMessage(f *testing.F) {
	f.Add("6,339,5140900,-;NET: \\x41\n KEY=v\n")
	f.Fuzz(func(t *testing.T, record string) {
		m, err := ParseKernelMessage(record)
		if err == nil && (m.Priority > 7 || m.SinceBoot < 0) {
			t.Errorf("%+v", m)
		}
	})
}

func TestReadKernelLogSurvivesLostRecords(t *testing.T) {
	reads := []struct {
		record string
		err    error
	}{
		{"6,1,10,-;one\n", nil},
		{"", unix.EPIPE},
		{"6,9,20,-;nine\n", nil},
		{"", unix.EAGAIN},
	}
	var got []string
	err := readKernelLog(func(b []byte) (int, error) {
		next := reads[0]
		reads = reads[1:]
		return copy(b, next.record), next.err
	}, func(m KernelMessage, _ error) bool {
		got = append(got, m.Text)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"one", "nine"}, got); diff != "" {
		t.Error(diff)
	}
	broken := func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
	if err := readKernelLog(broken, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a failing read gave %v", err)
	}
}

func TestKernelLogOfThisKernel(t *testing.T) {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		t.Skip("the kernel log cannot be read here: ", err)
	}
	f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kept := 0
	for _, err := range KernelLog(ctx, false) {
		if err != nil {
			t.Fatal(err)
		}
		kept++
	}
	if kept == 0 {
		t.Error("the kernel log is empty")
	}
	// Following sees the same messages, then ends with its context.
	following, stop := context.WithCancel(ctx)
	defer stop()
	followed := 0
	for _, err := range KernelLog(following, true) {
		if followed++; followed == kept {
			stop()
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if ctx.Err() != nil {
		t.Error("following did not end when it was told to")
	}
}

package verity

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The names of the devices that stage 1 makes: of the verified root, and of the
// part of a medium that it is in.
const (
	RootDevice   = "root"
	MediumDevice = "medium"
)

// sectorSize is the device mapper's unit of length, whatever the disk's is.
const sectorSize = 512

// Open makes the read-only device-mapper device called name over device, which
// holds the data and, with its superblock at offset bytes, the tree. It returns
// the device's node. A block that does not match its hash is an I/O error for
// whoever reads it.
func Open(name, device string, s Superblock, offset int64, root RootHash) (node string, err error) {
	return makeDevice(name, "verity", uint64(s.DataSize()/sectorSize), s.Table(device, offset, root))
}

// makeDevice makes a read-only device of one target.
func makeDevice(name, kind string, sectors uint64, parameters string) (node string, err error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("open the device mapper: %w (is the module dm_mod loaded?)", err)
	}
	defer control.Close()
	created, _, err := mapper(control, unix.DM_DEV_CREATE, name, 0, nil)
	if err != nil {
		return "", fmt.Errorf("create the device %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_, _, _ = mapper(control, unix.DM_DEV_REMOVE, name, 0, nil)
		}
	}()
	target := encodeTarget(kind, sectors, parameters)
	if _, _, err := mapper(control, unix.DM_TABLE_LOAD, name, unix.DM_READONLY_FLAG, target); err != nil {
		return "", fmt.Errorf("load the %s table %q: %w", kind, parameters, err)
	}
	// Without DM_SUSPEND_FLAG this resumes: the loaded table comes into force.
	if _, _, err := mapper(control, unix.DM_DEV_SUSPEND, name, unix.DM_READONLY_FLAG, nil); err != nil {
		return "", fmt.Errorf("start the %s device %s: %w", kind, name, err)
	}
	return fmt.Sprintf("/dev/dm-%d", unix.Minor(created.Dev)), nil
}

// Window makes the read-only device-mapper device called name of size bytes of
// another device, from offset on; both are multiples of 512. It returns the
// device's node.
func Window(name, device string, offset, size int64) (node string, err error) {
	return makeDevice(name, "linear", uint64(size/sectorSize), fmt.Sprintf("%s %d", device, offset/sectorSize))
}

// Close removes the device called name, which must not be in use.
func Close(name string) error {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("open the device mapper: %w", err)
	}
	defer control.Close()
	if _, _, err := mapper(control, unix.DM_DEV_REMOVE, name, 0, nil); err != nil {
		return fmt.Errorf("remove the device %s: %w", name, err)
	}
	return nil
}

// Damaged tells whether the kernel has met a block of the verified device called
// name that does not match its hash.
func Damaged(name string) (bool, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("open the device mapper: %w", err)
	}
	defer control.Close()
	const room = 512 // the answer has a header and one letter
	_, answer, err := mapper(control, unix.DM_TABLE_STATUS, name, 0, make([]byte, room))
	if err != nil {
		return false, fmt.Errorf("ask for the state of the device %s: %w", name, err)
	}
	return parseStatus(answer)
}

// parseStatus reads the state of a device of one verity target: "V" for valid,
// "C" for corrupted (Documentation/admin-guide/device-mapper/verity.rst).
func parseStatus(answer []byte) (damaged bool, err error) {
	if len(answer) < unix.SizeofDmTargetSpec {
		return false, fmt.Errorf("the device mapper's answer has %d bytes", len(answer))
	}
	text, _, _ := strings.Cut(string(answer[unix.SizeofDmTargetSpec:]), "\x00")
	// Other kernels may say more after it.
	switch state, _, _ := strings.Cut(strings.TrimSpace(text), " "); state {
	case "V":
		return false, nil
	case "C":
		return true, nil
	}
	return false, fmt.Errorf("the device mapper's answer %q is not that of a verified device", text)
}

// encodeTarget is one target as DM_TABLE_LOAD wants it: a header and its
// parameters, ended by a zero byte and filled up to eight bytes.
func encodeTarget(kind string, sectors uint64, table string) []byte {
	spec := unix.DmTargetSpec{Length: sectors}
	copy(spec.Target_type[:], kind)
	parameters := make([]byte, (len(table)+8)&^7)
	copy(parameters, table)
	spec.Next = uint32(unix.SizeofDmTargetSpec + len(parameters))
	target, err := binary.Append(nil, binary.NativeEndian, spec)
	if err != nil {
		panic(err) // the struct has fixed-size fields only
	}
	return append(target, parameters...)
}

// mapper makes one device-mapper request (include/uapi/linux/dm-ioctl.h) with at
// most one target, or with as many bytes for the answer's.
func mapper(control *os.File, request uint, name string, flags uint32, target []byte) (header unix.DmIoctl, answer []byte, err error) {
	header = unix.DmIoctl{
		Version:    [3]uint32{4, 0, 0}, // the oldest interface that has what is used here
		Data_size:  uint32(unix.SizeofDmIoctl + len(target)),
		Data_start: unix.SizeofDmIoctl,
		Flags:      flags,
	}
	if len(target) > 0 {
		header.Target_count = 1
	}
	if len(name) >= len(header.Name) {
		return header, nil, fmt.Errorf("device name %q is too long", name)
	}
	copy(header.Name[:], name)
	buffer, err := binary.Append(nil, binary.NativeEndian, header)
	if err != nil {
		panic(err) // the struct has fixed-size fields only
	}
	buffer = append(buffer, target...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), uintptr(request), uintptr(unsafe.Pointer(&buffer[0]))); errno != 0 {
		return header, nil, errno
	}
	if _, err := binary.Decode(buffer, binary.NativeEndian, &header); err != nil {
		return header, nil, fmt.Errorf("read the device mapper's answer: %w", err)
	}
	return header, buffer[min(int(header.Data_start), len(buffer)):], nil
}

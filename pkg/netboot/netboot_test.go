package netboot

import (
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/pin/tftp/v3"
)

// section is a part of an EFI program for a test.
type section struct {
	name string
	data []byte
}

// room is the test image's command line's.
const room = 256

func testSections() []section {
	cmdline := bytes.Repeat([]byte(" "), room)
	copy(cmdline, "console=ttyS0 keelson.roothash=ab")
	return []section{{".cmdline", cmdline}, {".linux", []byte("the kernel")}, {".initrd", bytes.Repeat([]byte("initrd"), 5000)}}
}

// writeProgram writes an EFI program of the given sections (PE format).
func writeProgram(t *testing.T, signature uint32, sections []section) string {
	t.Helper()
	const headers, align = 0x400, 0x200
	var b bytes.Buffer
	b.WriteString("MZ")
	b.Write(make([]byte, 0x3a))
	put := func(v any) {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	put(uint32(0x40))
	b.WriteString("PE\x00\x00")
	put(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(sections)), SizeOfOptionalHeader: uint16(binary.Size(pe.OptionalHeader64{}))})
	optional := pe.OptionalHeader64{Magic: 0x20b, NumberOfRvaAndSizes: 16}
	const securityDirectory = 4
	optional.DataDirectory[securityDirectory].Size = signature
	put(optional)
	at := uint32(headers)
	for _, s := range sections {
		h := pe.SectionHeader32{VirtualSize: uint32(len(s.data)), SizeOfRawData: (uint32(len(s.data)) + align - 1) / align * align, PointerToRawData: at}
		copy(h.Name[:], s.name)
		put(h)
		at += h.SizeOfRawData
	}
	b.Write(make([]byte, headers-b.Len()))
	for _, s := range sections {
		b.Write(s.data)
		b.Write(make([]byte, (align-len(s.data)%align)%align))
	}
	path := filepath.Join(t.TempDir(), "image.efi")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openImage(t *testing.T, path string) *Image {
	t.Helper()
	image, err := OpenImage(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { image.Close() })
	return image
}

func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestImage(t *testing.T) {
	path := writeProgram(t, 0, testSections())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	image := openImage(t, path)
	if image.CommandLine() != "console=ttyS0 keelson.roothash=ab" || string(readAll(t, image.Kernel())) != "the kernel" || len(readAll(t, image.Initrd())) != 30000 {
		t.Errorf("command line %q", image.CommandLine())
	}
	const added = "keelson.config=http://192.0.2.1/c"
	changed, err := image.WithArgument(added)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Replace(whole, append([]byte("=ab"), bytes.Repeat([]byte(" "), len(added)+1)...), []byte("=ab "+added), 1)
	got := readAll(t, changed)
	if !bytes.Equal(got, want) {
		t.Errorf("an image of %d bytes with the argument, want %d; or others", len(got), len(want))
	}
	// A client that goes on with a half-loaded file reads from anywhere.
	for at := range len(whole) - 7 {
		part := make([]byte, 7)
		if _, err := changed.Seek(int64(at), io.SeekStart); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(changed, part); err != nil || !bytes.Equal(part, want[at:at+7]) {
			t.Fatalf("at %d: %q, want %q: %v", at, part, want[at:at+7], err)
		}
	}
	if _, err := image.WithArgument(strings.Repeat("x", room)); err == nil || !strings.Contains(err.Error(), "has room for 256 bytes") {
		t.Error(err)
	}
	unchanged, err := image.WithArgument("")
	if err != nil || !bytes.Equal(readAll(t, unchanged), whole) {
		t.Errorf("without an argument it differs: %v", err)
	}
}

func TestASignedImageStaysAsItIs(t *testing.T) {
	image := openImage(t, writeProgram(t, 100, testSections()))
	if _, err := image.WithArgument("a=b"); err == nil || !strings.Contains(err.Error(), "is signed") {
		t.Error(err)
	}
	server, err := New(Options{Image: image, Address: netip.MustParseAddrPort("192.0.2.1:80"), Config: noConfig, Log: slog.Default(), Once: true})
	if err != nil {
		t.Fatalf("a signed image is served as it is: %v", err)
	}
	// It cannot be asked to tell of its installation.
	if _, ok := server.claim(knownMAC, "192.0.2.7"); !ok || !server.isDone(knownMAC) {
		t.Error("a machine is not left to its disk once it has its config")
	}
}

func noConfig(net.HardwareAddr) ([]byte, error) { return nil, fs.ErrNotExist }

func TestWhatIsNoImage(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(writeProgram(t, 0, testSections()))
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(short, whole[:len(whole)-600], 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		text:                                   "is no image for network boot",
		short:                                  "is cut off",
		writeProgram(t, 0, testSections()[:1]): "has no section .",
		text + "-none":                         "no such file",
	} {
		if _, err := OpenImage(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

var knownMAC = net.HardwareAddr{0x52, 0x54, 0, 0xab, 0, 1}

func testServer(t *testing.T, change func(*Options)) *Server {
	t.Helper()
	options := Options{
		Image: openImage(t, writeProgram(t, 0, testSections())), Address: netip.MustParseAddrPort("192.0.2.1:8080"),
		Config: func(mac net.HardwareAddr) ([]byte, error) {
			if mac.String() != knownMAC.String() {
				return nil, fs.ErrNotExist
			}
			return []byte("kind: Machine"), nil
		},
		Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&options)
	}
	s, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func discover(t *testing.T, mac net.HardwareAddr, modifiers ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	request, err := dhcpv4.NewDiscovery(mac, modifiers...)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func class(name string, arch iana.Arch) dhcpv4.Modifier {
	return func(d *dhcpv4.DHCPv4) {
		d.UpdateOption(dhcpv4.OptClassIdentifier(name))
		d.UpdateOption(dhcpv4.OptClientArch(arch))
	}
}

func TestFirmwareOfEachArchitecture(t *testing.T) {
	ipxe := dhcpv4.WithUserClass("iPXE", false)
	for arch, other := range map[string]string{"amd64": "arm64", "arm64": "amd64"} {
		own := clientArchs[arch]
		for want, request := range map[Firmware]*dhcpv4.DHCPv4{
			FirmwareHTTP: discover(t, knownMAC, class("HTTPClient", own.http[0])),
			FirmwarePXE:  discover(t, knownMAC, class("PXEClient", own.pxe[0])),
			FirmwareIPXE: discover(t, knownMAC, class("PXEClient", own.pxe[0]), ipxe),
		} {
			if got, known := firmwareOf(request, arch); got != want || !known {
				t.Errorf("%s of %s: %q, known %v", want, arch, got, known)
			}
			if got, known := firmwareOf(request, other); got != want || known {
				t.Errorf("%s of %s asks for an image for %s: %q, known %v", want, arch, other, got, known)
			}
		}
	}
}

func TestAnswers(t *testing.T) {
	ipxe := dhcpv4.WithUserClass("iPXE", false)
	for name, test := range map[string]struct {
		modifiers   []dhcpv4.Modifier
		mac         net.HardwareAddr
		class, file string // "": no answer
	}{
		"UEFI HTTP boot":          {[]dhcpv4.Modifier{class("HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP)}, knownMAC, "HTTPClient", "http://192.0.2.1:8080/keelson-netboot.efi"},
		"UEFI PXE":                {[]dhcpv4.Modifier{class("PXEClient:Arch:00007:UNDI:003001", iana.EFI_X86_64)}, knownMAC, "PXEClient", "keelson-netboot.efi"},
		"UEFI PXE of old":         {[]dhcpv4.Modifier{class("PXEClient:Arch:00009:UNDI:003001", iana.EFI_BC)}, knownMAC, "PXEClient", "keelson-netboot.efi"},
		"iPXE":                    {[]dhcpv4.Modifier{class("PXEClient:Arch:00007:UNDI:003010", iana.EFI_X86_64), ipxe}, knownMAC, "PXEClient", "http://192.0.2.1:8080/boot.ipxe"},
		"iPXE of BIOS":            {[]dhcpv4.Modifier{class("PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC), ipxe}, knownMAC, "", ""},
		"BIOS":                    {[]dhcpv4.Modifier{class("PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC)}, knownMAC, "", ""},
		"arm64":                   {[]dhcpv4.Modifier{class("HTTPClient:Arch:00019:UNDI:003001", iana.EFI_ARM64_HTTP)}, knownMAC, "", ""},
		"a running system":        {nil, knownMAC, "", ""},
		"a machine of no concern": {[]dhcpv4.Modifier{class("PXEClient", iana.EFI_X86_64)}, net.HardwareAddr{2, 0, 0, 0, 0, 9}, "", ""},
		"a release":               {[]dhcpv4.Modifier{class("PXEClient", iana.EFI_X86_64), dhcpv4.WithMessageType(dhcpv4.MessageTypeRelease)}, knownMAC, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := testServer(t, nil).answer(discover(t, test.mac, test.modifiers...))
			if err != nil {
				t.Fatal(err)
			}
			if reply == nil {
				if test.class != "" {
					t.Error("no answer")
				}
				return
			}
			if reply.ClassIdentifier() != test.class || reply.BootFileNameOption() != test.file || reply.BootFileName != test.file {
				t.Errorf("answer: %s", reply.Summary())
			}
			if !reply.YourIPAddr.IsUnspecified() || reply.IPAddressLeaseTime(0) != 0 || !reply.ServerIPAddr.Equal(net.IPv4(192, 0, 2, 1)) {
				t.Errorf("it gives an address, or none of its own: %s", reply.Summary())
			}
		})
	}
}

func TestAnyMachine(t *testing.T) {
	request := discover(t, net.HardwareAddr{2, 0, 0, 0, 0, 9}, class("PXEClient", iana.EFI_X86_64))
	server := testServer(t, func(o *Options) { o.Any, o.Config = true, nil })
	if reply, err := server.answer(request); err != nil || reply == nil {
		t.Errorf("no answer: %v", err)
	}
	if server.argument != "" {
		t.Errorf("machines are told to fetch %s where there are no configs", server.argument)
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	image := openImage(t, writeProgram(t, 0, testSections()))
	good := netip.MustParseAddrPort("192.0.2.1:80")
	for want, options := range map[string]Options{
		"an IPv4 address and a port": {Image: image, Any: true},
		"nothing would ever boot":    {Image: image, Address: good},
		"has room for":               {Image: image, Address: good, Config: noConfig},
	} {
		if want == "has room for" {
			sections := testSections()
			sections[0].data = sections[0].data[:40]
			options.Image = openImage(t, writeProgram(t, 0, sections))
		}
		if _, err := New(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// runServer serves on loopback.
func runServer(t *testing.T, server *Server) Sockets {
	t.Helper()
	udp := func() net.PacketConn {
		conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	web, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sockets := Sockets{HTTP: web, DHCP: udp(), PXE: udp(), TFTP: udp()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Run(ctx, sockets) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return sockets
}

func get(t *testing.T, url string) (int, []byte) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, readAll(t, response.Body)
}

func TestServe(t *testing.T) {
	server := testServer(t, func(o *Options) { o.Once = true })
	sockets := runServer(t, server)
	base := "http://" + sockets.HTTP.Addr().String() + "/"
	image, err := server.image()
	if err != nil {
		t.Fatal(err)
	}
	want := readAll(t, image)
	if !bytes.Contains(want, []byte("keelson.config=http://192.0.2.1:8080/configs/${mac} keelson.installed=http://192.0.2.1:8080/installed/${mac} ")) {
		t.Error("the image does not say where the config is, and who wants to know of the end")
	}
	if code, got := get(t, base+"keelson-netboot.efi"); code != http.StatusOK || !bytes.Equal(got, want) {
		t.Errorf("HTTP: %d, %d bytes, want %d", code, len(got), len(want))
	}
	if _, script := get(t, base+"boot.ipxe"); !strings.Contains(string(script), "kernel http://192.0.2.1:8080/vmlinuz initrd=initrd console=ttyS0 keelson.roothash=ab keelson.config=http://192.0.2.1:8080/configs/${mac} keelson.installed=http://192.0.2.1:8080/installed/${mac}\n") {
		t.Errorf("script:\n%s", script)
	}
	if _, kernel := get(t, base+"vmlinuz"); string(kernel) != "the kernel" {
		t.Errorf("kernel %q", kernel)
	}
	client, err := tftp.NewClient(sockets.TFTP.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	transfer, err := client.Receive("/keelson-netboot.efi", "octet")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := transfer.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("TFTP: %d bytes, want %d: %v", got.Len(), len(want), err)
	}
	if _, err := client.Receive("../../etc/passwd", "octet"); err == nil {
		t.Error("a file of the computer's is served")
	}
	// A machine that is installed is left to its disk.
	installed := func() int {
		response, err := http.Post(base+"installed/"+knownMAC.String(), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	if code := installed(); code != http.StatusForbidden {
		t.Errorf("who had no config says that it is installed: %d", code)
	}
	request := discover(t, knownMAC, class("PXEClient", iana.EFI_X86_64))
	if response, err := http.Head(base + "configs/" + knownMAC.String()); err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("HEAD: %v %v", response, err)
	}
	for i := range 2 { // a machine that was cut off asks again
		if code, text := get(t, base+"configs/"+knownMAC.String()); code != http.StatusOK || string(text) != "kind: Machine" {
			t.Errorf("config, time %d: %d %s", i, code, text)
		}
		server.mu.Lock()
		if had := server.served[knownMAC.String()]; had != "127.0.0.1" {
			t.Errorf("it was handed out to %q", had)
		}
		server.mu.Unlock()
		if reply, err := server.answer(request); err != nil || reply == nil {
			t.Errorf("it is not booted any more: %v %v", reply, err)
		}
	}
	if code := installed(); code != http.StatusNoContent {
		t.Errorf("it says that it is installed: %d", code)
	}
	if reply, err := server.answer(request); err != nil || reply != nil {
		t.Errorf("it is still booted: %v %v", reply, err)
	}
	server.mu.Lock()
	server.served[knownMAC.String()] = "192.0.2.77"
	server.mu.Unlock()
	if code, text := get(t, base+"configs/"+knownMAC.String()); code != http.StatusGone || strings.Contains(string(text), "Machine") {
		t.Errorf("another address asks for it: %d %s", code, text)
	}
	if code := installed(); code != http.StatusNoContent { // from the address in its config
		t.Errorf("it says that it is installed from another address: %d", code)
	}
	for _, mac := range []string{"02:00:00:00:00:09", "none"} {
		if code, _ := get(t, base+"configs/"+mac); code != http.StatusNotFound {
			t.Errorf("config of %s: %d", mac, code)
		}
	}
}

// A machine that is to be booted however often it was installed is not asked to tell.
func TestServeAgain(t *testing.T) {
	server := testServer(t, nil)
	if strings.Contains(server.argument, "keelson.installed") || !strings.Contains(server.argument, "keelson.config") {
		t.Errorf("argument %q", server.argument)
	}
	for range 2 {
		if _, ok := server.claim(knownMAC, "192.0.2.7"); !ok || server.isDone(knownMAC) {
			t.Error("it is left to its disk")
		}
	}
}

func TestThePortOfPXE(t *testing.T) {
	sockets := runServer(t, testServer(t, nil))
	conn, err := net.Dial("udp4", sockets.PXE.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := discover(t, knownMAC, class("PXEClient", iana.EFI_X86_64), dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest))
	if _, err := conn.Write(request.ToBytes()); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := dhcpv4.FromBytes(answer[:n])
	if err != nil || reply.MessageType() != dhcpv4.MessageTypeAck || reply.BootFileNameOption() != imageFile {
		t.Errorf("%v: %v", reply, err)
	}
}

func TestAConfigThatCannotBeRead(t *testing.T) {
	server := testServer(t, func(o *Options) {
		o.Once = true
		o.Config = func(net.HardwareAddr) ([]byte, error) { return nil, errors.New("broken disk") }
	})
	sockets := runServer(t, server)
	url := "http://" + sockets.HTTP.Addr().String() + "/configs/" + knownMAC.String()
	for range 2 { // it may be there later
		if code, text := get(t, url); code != http.StatusInternalServerError || strings.Contains(string(text), "broken") {
			t.Errorf("%d %s", code, text)
		}
	}
}

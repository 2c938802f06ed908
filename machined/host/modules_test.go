package host_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/hosttest"
)

const modulesDir = "lib/modules/6.12.57"

// modulesFS holds lines as depmod writes them for Debian's kernel.
func modulesFS() fstest.MapFS {
	file := func(lines ...string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
	}
	return fstest.MapFS{
		modulesDir + "/modules.dep": file(
			"kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko",
			"kernel/fs/jbd2/jbd2.ko:",
			"kernel/fs/mbcache.ko:",
			"kernel/crypto/crc32c_generic.ko:",
			"kernel/arch/x86/crypto/crc32c-intel.ko:",
			"kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko",
			"kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko",
			"kernel/net/core/failover.ko:",
			"kernel/drivers/char/hw_random/virtio-rng.ko.xz:",
			"kernel/broken/broken.ko: kernel/broken/absent.ko",
			"kernel/circle/a.ko:",
			"kernel/circle/b.ko:",
		),
		modulesDir + "/modules.softdep": file(
			"# Soft dependencies extracted from modules themselves.",
			"softdep ext4 pre: crc32c",
			"softdep jbd2 pre: not-there",
			"softdep a pre: b",
			"softdep b pre: a",
			"softdep virtio_net post: virtio-rng",
		),
		modulesDir + "/modules.alias": file(
			"# Aliases extracted from modules themselves.",
			"alias crc32c crc32c_generic",
			"alias crypto-crc32c crc32c_generic",
			"alias cpu:type:x86,ven*fam*mod*:feature:*0094* crc32c_intel",
			"alias virtio:d00000001v* virtio_net",
			"alias virtio:d00000004v* virtio_rng",
			"alias of:N*T*Cfsl,a/b* virtio_rng",
			"alias self self",
		),
		modulesDir + "/modules.builtin": file("kernel/lib/crc16.ko", "kernel/drivers/virtio/virtio-pci.ko"),
	}
}

func readModules(t *testing.T) *host.Modules {
	t.Helper()
	modules, err := host.ReadModules(modulesFS(), modulesDir)
	if err != nil {
		t.Fatal(err)
	}
	return modules
}

func stepNames(steps []host.ModuleStep) []string {
	var names []string
	for _, step := range steps {
		names = append(names, step.Name)
	}
	return names
}

func TestPlan(t *testing.T) {
	modules := readModules(t)
	for _, test := range []struct {
		names   []string
		want    []string
		unknown string
	}{
		{[]string{"ext4"}, []string{"mbcache", "jbd2", "crc32c_generic", "ext4"}, ""},
		{[]string{"virtio-net", "net_failover"}, []string{"failover", "net_failover", "virtio_net", "virtio_rng"}, ""},
		{[]string{"virtio_pci", "crc16"}, nil, ""},
		{[]string{"crc32c-intel"}, []string{"crc32c_intel"}, ""},
		{[]string{"a"}, []string{"b", "a"}, ""},
		{[]string{"nonsense", "mbcache"}, []string{"mbcache"}, "module nonsense: neither built into the kernel nor in the image"},
		{[]string{"self"}, nil, "module self: neither"},
		{[]string{"broken"}, nil, "module broken needs: module absent: neither"},
	} {
		steps, err := modules.Plan(test.names...)
		if diff := cmp.Diff(test.want, stepNames(steps)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.names, diff)
		}
		var unknown *host.UnknownModuleError
		if got := errors.As(err, &unknown); got != (test.unknown != "") || (got && !strings.Contains(err.Error(), test.unknown)) {
			t.Errorf("%v: error %v, want %q", test.names, err, test.unknown)
		}
		for i, step := range steps {
			if len(step.After) > 0 && slices.Max(step.After) >= i {
				t.Errorf("%v: step %d, %s, waits for %v", test.names, i, step.Name, step.After)
			}
		}
	}
}

func TestByAlias(t *testing.T) {
	modules := readModules(t)
	for modalias, want := range map[string][]string{
		"virtio:d00000001v00001AF4": {"virtio_net"},
		"virtio:d00000002v00001AF4": nil,
		"crc32c":                    {"crc32c_generic"},
		"cpu:type:x86,ven0000fam0006mod00D1:feature:,0093,0094,00": {"crc32c_intel"},
		"of:NethernetT(null)Cfsl,a/b/c":                            {"virtio_rng"},
		"":                                                         nil,
	} {
		if diff := cmp.Diff(want, modules.ByAlias(modalias)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", modalias, diff)
		}
	}
}

func TestReadModulesNamesTheBadLine(t *testing.T) {
	for file, line := range map[string]string{
		"modules.dep":     "no colon here",
		"modules.softdep": "softdep",
		"modules.alias":   "alias [ broken",
	} {
		root := modulesFS()
		root[modulesDir+"/"+file] = &fstest.MapFile{Data: []byte("# fine\n" + line + "\n")}
		_, err := host.ReadModules(root, modulesDir)
		if err == nil || !strings.Contains(err.Error(), file+": line 2: ") {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := host.ReadModules(fstest.MapFS{}, modulesDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an index: %v", err)
	}
}

func FuzzReadModules(f *testing.F) {
	f.Add("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n", "softdep a pre: b c post: d\n", "alias pci:v*d[0-9]* a\n", "pci:v1d2")
	f.Fuzz(func(t *testing.T, dep, softdep, alias, modalias string) {
		modules, err := host.ReadModules(fstest.MapFS{
			"m/modules.dep":     {Data: []byte(dep)},
			"m/modules.softdep": {Data: []byte(softdep)},
			"m/modules.alias":   {Data: []byte(alias)},
		}, "m")
		if err != nil {
			return
		}
		steps, _ := modules.Plan(append(modules.ByAlias(modalias), "a", "b")...)
		for i, step := range steps {
			if len(step.After) > 0 && slices.Max(step.After) >= i {
				t.Errorf("step %d, %s, waits for %v", i, step.Name, step.After)
			}
		}
	})
}

func TestColdplug(t *testing.T) {
	devices := fstest.MapFS{
		"sys/bus/virtio/devices/virtio0/modalias": {Data: []byte("virtio:d00000001v00001AF4\n")},
		"sys/bus/virtio/devices/virtio1/modalias": {Data: []byte("virtio:d00000001v00001AF4\n")},
		"sys/bus/virtio/devices/virtio2/modalias": {Data: []byte("virtio:d00000004v00001AF4\n")},
		"sys/bus/pci/devices/0000:00:00.0/class":  {Data: []byte("0x060000\n")},
	}
	names, err := host.Coldplug(devices, readModules(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"virtio_net", "virtio_rng"}, names); diff != "" {
		t.Error(diff)
	}
}

// growing is a machine on which loading a module brings a device.
type growing struct {
	*hosttest.OS
	brings map[string]string // module file → modalias
}

func (g growing) LoadModule(path string) error {
	if modalias, ok := g.brings[path[strings.LastIndex(path, "/")+1:]]; ok {
		g.Files["sys/bus/virtio/devices/brought/modalias"] = &fstest.MapFile{Data: []byte(modalias + "\n")}
	}
	return g.OS.LoadModule(path)
}

func TestDriversBringDevices(t *testing.T) {
	machine := growing{
		&hosttest.OS{
			Files: fstest.MapFS{"sys/bus/cpu/devices/cpu0/modalias": {Data: []byte("crc32c\n")}},
			Fail:  map[string]error{"LoadModule /" + modulesDir + "/kernel/drivers/char/hw_random": unix.ENODEV},
		},
		map[string]string{"crc32c_generic.ko": "virtio:d00000004v00001AF4"},
	}
	drivers := host.NewDrivers(machine, readModules(t))
	want := []string{
		"LoadModule /" + modulesDir + "/kernel/crypto/crc32c_generic.ko",
		"LoadModule /" + modulesDir + "/kernel/drivers/char/hw_random/virtio-rng.ko.xz",
	}
	for range 2 { // the second time, all is done
		if err := drivers.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, machine.Calls()); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLoadModulesKeepsTheOrderAndGoesOn(t *testing.T) {
	steps, err := readModules(t).Plan("ext4", "virtio_net")
	if err != nil {
		t.Fatal(err)
	}
	refused := errors.New("key was rejected")
	machine := &hosttest.OS{Fail: map[string]error{"LoadModule /" + modulesDir + "/kernel/fs/jbd2/jbd2.ko": refused}}
	err = host.LoadModules(t.Context(), machine, steps)
	if !errors.Is(err, refused) || !strings.Contains(err.Error(), "module ext4: jbd2, which it needs, is not loaded") {
		t.Errorf("error: %v", err)
	}
	position := map[string]int{}
	for i, call := range machine.Calls() {
		position[call[strings.LastIndex(call, "/")+1:]] = i + 1
	}
	if position["ext4.ko"] != 0 {
		t.Error("ext4 was loaded without jbd2")
	}
	if f, n, v := position["failover.ko"], position["net_failover.ko"], position["virtio_net.ko"]; f == 0 || !(f < n && n < v) {
		t.Errorf("order: %v", machine.Calls())
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	machine = &hosttest.OS{}
	if err := host.LoadModules(cancelled, machine, steps); !errors.Is(err, context.Canceled) || len(machine.Calls()) != 0 {
		t.Errorf("cancelled: %v, %v", err, machine.Calls())
	}
}

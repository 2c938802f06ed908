package main

import (
	"fmt"
	"path"
	"runtime"
	"strings"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// architecture is everything of the build that differs between the processors
// that there are images for, but for pkg/osdisk's names of EFI programs.
type architecture struct {
	// name is Go's, Debian's and the container images'.
	name string
	// triplet names Debian's folders of libraries, and its cross compiler.
	triplet string
	// loader is the program interpreter (ELF's PT_INTERP) of every dynamically
	// linked program.
	loader string
	// serial is the first serial port, for Linux.
	serial string
	// bootModules and imageModules are drivers that no other kernel has, or that
	// the others have built in: of the initramfs, and of the root image besides.
	bootModules, imageModules []string
}

var amd64 = architecture{
	name: "amd64", triplet: "x86_64-linux-gnu", loader: "/lib64/ld-linux-x86-64.so.2",
	serial:      "ttyS0",
	bootModules: []string{"vmw_pvscsi"},
	imageModules: []string{
		"vmw_balloon", "vmw_vsock_vmci_transport",
		"forcedeth", "dwmac_intel",
		"arcmsr", "mmc_block",
		"crc32c_intel", "crct10dif_pclmul", "crc32_pclmul", "aesni_intel", "ghash_clmulni_intel", "sha256_ssse3", "sha512_ssse3",
		"iTCO_wdt", "lpc_ich", "i2c_i801", "sp5100_tco", "button", "acpi_cpufreq",
	},
}

// Its drivers are those of servers, and of boards that UEFI starts: others
// describe themselves to the kernel in ways that need an image per board.
var arm64 = architecture{
	name: "arm64", triplet: "aarch64-linux-gnu", loader: "/lib/ld-linux-aarch64.so.1",
	serial:      "ttyAMA0",
	bootModules: []string{"ahci_platform", "hisi_sas_v2_hw", "hisi_sas_v3_hw", "xhci_plat_hcd", "sdhci_iproc"},
	imageModules: []string{
		"hns3", "hclge", "hclgevf", "nicvf", "nicpf", "rvu_nicpf", "rvu_nicvf", "xgene_enet", "mvpp2", "fsl_dpaa2_eth", "fsl_enetc",
		"netsec", "qcom_emac", "genet", "broadcom", "macb",
		"aes_ce_blk", "aes_ce_ccm", "aes_neon_blk", "ghash_ce", "crct10dif_ce", "sha2_ce", "sha512_ce", "chacha_neon", "poly1305_neon",
		"sbsa_gwdt", "sp805_wdt", "bcm2835_wdt", "ipmi_ssif", "cppc_cpufreq",
	},
}

// architectures are those that there are images for.
var architectures = []architecture{amd64, arm64}

// architectureNamed finds an architecture by Go's name.
func architectureNamed(name string) (architecture, error) {
	var names []string
	for _, a := range architectures {
		if a.name == name {
			return a, nil
		}
		names = append(names, a.name)
	}
	return architecture{}, fmt.Errorf("there are no images for %q, only for %s", name, strings.Join(names, " and "))
}

// foreign tells whether this machine is of another architecture: its compiler,
// its libraries and apt's lists are of no use then.
func (a architecture) foreign() bool { return a.name != runtime.GOARCH }

// tool is a program of the compiler's, by its usual name: one that knows programs
// of the architecture.
func (a architecture) tool(name string) string {
	if a.foreign() {
		return a.triplet + "-" + name
	}
	return name
}

// defaultOut is the folder of the artefacts unless another one is wished.
func (a architecture) defaultOut() string {
	if a.foreign() {
		return "_out/" + a.name
	}
	return "_out"
}

// kernelMetapackage depends on the newest signed generic 6.12 kernel that apt
// offers.
func (a architecture) kernelMetapackage() string { return "linux-image-6.12-" + a.name }

// Where bootPackage has systemd's boot loader and stub.
func (a architecture) efiStub() string {
	return efiFolder + "linux" + osdisk.EFIName(a.name) + ".efi.stub"
}
func (a architecture) efiLoader() string { return efiFolder + a.loaderFile() }

// loaderFile is the boot loader's name, in the root image too (machined/install).
func (a architecture) loaderFile() string { return "systemd-boot" + osdisk.EFIName(a.name) + ".efi" }

const efiFolder = "usr/lib/systemd/boot/efi/"

// libraryFolders are where Debian's packages have shared libraries.
func (a architecture) libraryFolders() []string {
	return []string{"lib/" + a.triplet, "usr/lib/" + a.triplet}
}

// addLibraries adds shared libraries, given by their soname, to a tree with a
// merged /usr.
func (a architecture) addLibraries(t *tree, found map[string]string) {
	for soname, file := range found {
		t.file("usr/lib/"+a.triplet+"/"+soname, file, 0o755)
	}
}

// linkLoader leads from where programs look for their loader to where the
// libraries are. A tree's link lib64 must lead somewhere on every architecture.
func (a architecture) linkLoader(t *tree) {
	t.dir("usr/lib64", 0o755)
	t.link("usr"+a.loader, "../lib/"+a.triplet+"/"+path.Base(a.loader))
}

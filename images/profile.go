package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// profile is what an image may have that others do not: from the file of -profile,
// and from flags, which add to its lists and win over the rest.
type profile struct {
	// BuildID tells builds of one version apart; often empty.
	BuildID string `json:"buildID"`
	// SignKey is the file of the key that signs bundles; "" is one of the build's
	// own.
	SignKey string `json:"signKey"`
	// KernelArgs are appended to the kernel command line of what boots by itself.
	KernelArgs []string `json:"kernelArgs"`
	// Consoles are what the kernel writes to, such as tty0 and ttyS1,115200n8; the
	// last one is the one that programs write to.
	Consoles []string `json:"consoles"`
	// Modules are kernel modules beside the image's own, by name.
	Modules []string `json:"modules"`
	// Config is the file of a machine config for machines that find no other.
	Config string `json:"config"`
	// Images are archives of container images that every node has.
	Images []string `json:"images"`
	// SecureBoot signs what firmware starts; without it nothing is signed.
	SecureBoot secureBoot `json:"secureBoot"`
}

// secureBoot names files in PEM: a key, and its certificate that is in firmware's
// db.
type secureBoot struct {
	Key         string `json:"key"`
	Certificate string `json:"certificate"`
}

// addFlags adds a flag for each field. The file comes first, whatever the order on
// the command line: call the result after parsing.
func (p *profile) addFlags(flags *flag.FlagSet) (finish func() error) {
	var given profile
	file := flags.String("profile", "", "YAML `file` of what follows; the flags add to its lists, and win over the rest")
	flags.StringVar(&given.BuildID, "build-id", "", "what tells builds of one version apart, in osctl version and in bundles")
	flags.StringVar(&given.SignKey, "sign-key", "", "Ed25519 key in PEM that signs bundles (default: one made once in the folder of the artefacts)")
	list := func(into *[]string) func(string) error {
		return func(text string) error {
			*into = append(*into, text)
			return nil
		}
	}
	flags.Func("kernel-arg", "append to the kernel command line of what boots by itself; may be repeated", list(&given.KernelArgs))
	flags.Func("console", "a console of the kernel's, such as ttyS1,115200n8, instead of tty0 and the first serial port; may be repeated, the last one is the programs'", list(&given.Consoles))
	flags.Func("module", "a kernel module of Debian's to have in the image, too; may be repeated", list(&given.Modules))
	flags.StringVar(&given.Config, "config", "", "machine config for machines that find no other; it can be read in the image")
	flags.Func("image", "archive of container images to have on every node; may be repeated", list(&given.Images))
	flags.StringVar(&given.SecureBoot.Key, "secure-boot-key", "", "RSA key in PEM that signs what firmware starts, with -secure-boot-cert")
	flags.StringVar(&given.SecureBoot.Certificate, "secure-boot-cert", "", "the key's certificate, in PEM, which firmware must have in its db")
	return func() error {
		if *file != "" {
			if err := p.read(*file); err != nil {
				return err
			}
		}
		p.add(given)
		return p.check()
	}
}

// read reads a profile. Files that it names are beside it.
func (p *profile) read(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(text, p); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, path := range p.files() {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(filepath.Dir(file), *path)
		}
	}
	return nil
}

// files are the fields that name files.
func (p *profile) files() []*string {
	all := []*string{&p.SignKey, &p.Config, &p.SecureBoot.Key, &p.SecureBoot.Certificate}
	for i := range p.Images {
		all = append(all, &p.Images[i])
	}
	return all
}

func (p *profile) add(more profile) {
	for _, field := range []struct{ into, from *string }{
		{&p.BuildID, &more.BuildID}, {&p.SignKey, &more.SignKey}, {&p.Config, &more.Config},
		{&p.SecureBoot.Key, &more.SecureBoot.Key}, {&p.SecureBoot.Certificate, &more.SecureBoot.Certificate},
	} {
		if *field.from != "" {
			*field.into = *field.from
		}
	}
	p.KernelArgs = slices.Concat(p.KernelArgs, more.KernelArgs)
	p.Modules = slices.Concat(p.Modules, more.Modules)
	p.Images = slices.Concat(p.Images, more.Images)
	if len(more.Consoles) > 0 {
		p.Consoles = more.Consoles
	}
}

var (
	buildIDPattern   = regexp.MustCompile(`^[A-Za-z0-9._-]{0,40}$`)
	kernelArgPattern = regexp.MustCompile(`^[!#-~]+$`)
	consolePattern   = regexp.MustCompile(`^[A-Za-z0-9]+(,[A-Za-z0-9,]+)?$`)
	modulePattern    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
)

// check finds what is wrong with a profile before anything is made of it.
func (p *profile) check() error {
	var wrong []error
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if !buildIDPattern.MatchString(p.BuildID) {
		complain("build ID %q: letters, digits, dots, dashes and underscores only, 40 at most", p.BuildID)
	}
	for _, list := range []struct {
		what    string
		values  []string
		pattern *regexp.Regexp
		want    string
	}{
		{"kernel argument", p.KernelArgs, kernelArgPattern, "one argument of printable characters, without blanks and quotes"},
		{"console", p.Consoles, consolePattern, "such as tty0 or ttyS1,115200n8"},
		{"kernel module", p.Modules, modulePattern, "a module's name, such as nvme_tcp"},
	} {
		for _, value := range list.values {
			if !list.pattern.MatchString(value) {
				complain("%s %q: expected %s", list.what, value, list.want)
			}
		}
	}
	if (p.SecureBoot.Key == "") != (p.SecureBoot.Certificate == "") {
		complain("Secure Boot needs both a key and its certificate")
	}
	for _, file := range p.files() {
		if *file == "" {
			continue
		}
		if info, err := os.Stat(*file); err != nil {
			wrong = append(wrong, err)
		} else if !info.Mode().IsRegular() {
			complain("%s is no file", *file)
		}
	}
	if p.Config != "" {
		if text, err := os.ReadFile(p.Config); err == nil {
			_, err = machineconfig.Decode(p.Config, bytes.NewReader(text))
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// consoles are the kernel's arguments for the consoles: unless the profile says
// otherwise, a screen, and the first serial port for programs too.
func (b *build) consoles() (arguments []string) {
	consoles := b.Consoles
	if len(consoles) == 0 {
		consoles = []string{"tty0", b.arch.serial}
	}
	for _, console := range consoles {
		arguments = append(arguments, "console="+console)
	}
	return arguments
}

// The profile's own files in the root image.
const (
	embeddedConfig = "usr/share/keelson/config.yaml"
	embeddedImages = "usr/share/keelson/images"
)

// addProfile adds the profile's files to the root image.
func (b *build) addProfile(t *tree) error {
	if b.Config != "" {
		t.file(embeddedConfig, b.Config, 0o600)
	}
	for _, archive := range b.Images {
		sum, err := b.digest(archive)
		if err != nil {
			return err
		}
		// Its name tells a node whether it has imported it.
		t.file(embeddedImages+"/"+sum+".tar", archive, 0o644)
	}
	return nil
}

// profileInputs are the digests of the profile's files in the root image.
func (b *build) profileInputs() (inputs []string, err error) {
	for _, file := range append([]string{b.Config}, b.Images...) {
		sum := ""
		if file != "" {
			if sum, err = b.digest(file); err != nil {
				return nil, err
			}
		}
		inputs = append(inputs, "profile "+sum)
	}
	return append(inputs, b.Modules...), nil
}

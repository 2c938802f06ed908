package main

import (
	"bytes"
	"cmp"
	"context"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/keelson-os/keelson/pkg/version"
)

func (b *build) makeSBOM(ctx context.Context) error {
	inputs, err := b.rootfsInputs()
	if err != nil {
		return err
	}
	stage1, err := b.digest(b.program(programNamed("initramfs")))
	if err != nil {
		return err
	}
	return b.once("bill of materials", []string{b.path("sbom.spdx.json")}, append(inputs, stage1), func(partial []string) error {
		document, err := b.billOfMaterials(ctx)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if err := spdxjson.Write(document, &text, spdxjson.Indent(" ")); err != nil {
			return err
		}
		return os.WriteFile(partial[0], text.Bytes(), 0o644)
	})
}

// billOfMaterials names what is in the root image, the initramfs and the
// kernel: our programs, the Go modules compiled into each, and Debian's
// packages. It is read from what was built, not from what was asked for.
func (b *build) billOfMaterials(ctx context.Context) (*spdx.Document, error) {
	image := newPackage("keelson", version.Version, "", "")
	image.PrimaryPackagePurpose = "OPERATING-SYSTEM"
	bill := bill{packages: map[common.ElementID]*spdx.Package{}}
	bill.add(common.ElementID("DOCUMENT"), common.TypeRelationshipDescribe, image)
	for _, p := range programs {
		if p.name == "sample" {
			continue // not part of the image
		}
		if err := b.addProgram(&bill, image, p); err != nil {
			return nil, err
		}
	}
	if err := b.addPackages(&bill, image); err != nil {
		return nil, err
	}
	if err := b.addStaticLibraries(ctx, &bill); err != nil {
		return nil, err
	}
	return bill.document(b.epoch), nil
}

// bill collects packages and what they have to do with each other.
type bill struct {
	packages      map[common.ElementID]*spdx.Package
	relationships []*spdx.Relationship
}

func (l *bill) add(from common.ElementID, relationship string, p *spdx.Package) {
	l.packages[p.PackageSPDXIdentifier] = p
	l.relationships = append(l.relationships, &spdx.Relationship{
		RefA:         common.MakeDocElementID("", string(from)),
		RefB:         common.MakeDocElementID("", string(p.PackageSPDXIdentifier)),
		Relationship: relationship,
	})
}

// document has no random name and no present time: it is the same for the
// same content.
func (l *bill) document(created time.Time) *spdx.Document {
	document := &spdx.Document{
		SPDXVersion:    spdx.Version,
		DataLicense:    spdx.DataLicense,
		SPDXIdentifier: "DOCUMENT",
		DocumentName:   "keelson-" + version.Version,
		CreationInfo: &spdx.CreationInfo{
			Created:  created.Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "keelson-images"}},
		},
		Relationships: l.relationships,
	}
	var content []string
	for _, id := range slices.Sorted(maps.Keys(l.packages)) {
		p := l.packages[id]
		document.Packages = append(document.Packages, p)
		content = append(content, string(id))
		for _, sum := range p.PackageChecksums {
			content = append(content, sum.Value)
		}
	}
	slices.SortFunc(document.Relationships, func(a, b *spdx.Relationship) int {
		return cmp.Or(cmp.Compare(a.RefA.ElementRefID, b.RefA.ElementRefID), cmp.Compare(a.RefB.ElementRefID, b.RefB.ElementRefID))
	})
	document.DocumentNamespace = "https://github.com/keelson-os/keelson/sbom/" + version.Version + "/" + digestOf(content...)
	return document
}

// addProgram adds a program and the modules that its build information lists.
func (b *build) addProgram(l *bill, image *spdx.Package, p program) error {
	file := b.program(p)
	sum, err := b.digest(file)
	if err != nil {
		return err
	}
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read the build information of %s: %w", file, err)
	}
	entry := newPackage(p.name, version.Version, sum, "")
	entry.PackageSPDXIdentifier = elementID("program", p.name)
	entry.PrimaryPackagePurpose = "APPLICATION"
	entry.PackageComment = "Built from " + info.Path + "; the checksum is of the program."
	l.add(image.PackageSPDXIdentifier, common.TypeRelationshipContains, entry)

	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	l.add(entry.PackageSPDXIdentifier, common.TypeRelationshipContains,
		newPackage("stdlib", goVersion, "", "pkg:golang/stdlib@"+goVersion))
	modules := slices.Clone(info.Deps)
	if info.Main.Sum != "" { // a third party's main
		modules = append(modules, &info.Main)
		entry.PackageVersion = info.Main.Version
	}
	for _, module := range modules {
		m, err := goModule(module)
		if err != nil {
			return err
		}
		l.add(entry.PackageSPDXIdentifier, common.TypeRelationshipContains, m)
	}
	return nil
}

func goModule(module *debug.Module) (*spdx.Package, error) {
	if module.Replace != nil {
		module = module.Replace
	}
	// go.sum's h1 is a SHA-256 over the list of the module's files.
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(module.Sum, "h1:"))
	if err != nil || len(sum) != 32 {
		return nil, fmt.Errorf("module %s has the checksum %q, not a SHA-256 (h1:…)", module.Path, module.Sum)
	}
	p := newPackage(module.Path, module.Version, hex.EncodeToString(sum),
		"pkg:golang/"+strings.ToLower(module.Path)+"@"+url.PathEscape(module.Version))
	p.PackageComment = "The checksum is that of go.sum, in hexadecimal."
	return p, nil
}

// addPackages adds the Debian packages that files of the image come from.
func (b *build) addPackages(l *bill, image *spdx.Package) error {
	root, err := b.rootTree(b.path("build", "pause.tar"))
	if err != nil {
		return err
	}
	kernel, _ := b.kernel()
	used := map[string]bool{
		kernel.name:       true, // vmlinuz and modules
		"ca-certificates": true, // joined to one file
	}
	for _, n := range root.nodes {
		if below, err := filepath.Rel(b.path("build", "packages"), n.file); err == nil && n.file != "" && !strings.HasPrefix(below, "..") {
			name, _, _ := strings.Cut(below, "/")
			used[name] = true
		}
	}
	for name := range used {
		p := b.debian[name]
		entry := newPackage(p.name, p.version, p.sha256, b.debianURL(p.name, p.version))
		entry.PackageFileName = filepath.Base(p.file)
		l.add(image.PackageSPDXIdentifier, common.TypeRelationshipContains, entry)
	}
	return nil
}

func (b *build) addStaticLibraries(ctx context.Context, l *bill) error {
	libraries, err := b.staticLibraries(ctx)
	if err != nil {
		return err
	}
	for _, library := range libraries {
		sum, err := b.digest(library.file)
		if err != nil {
			return err
		}
		archive := filepath.Base(library.file)
		entry := newPackage(library.pkg, library.version, sum, b.debianURL(library.pkg, library.version))
		entry.PackageFileName = archive
		entry.PackageComment = "Linked statically; the checksum is of the archive " + archive + "."
		l.add(elementID("program", "runc"), common.TypeRelationshipContains, entry)
	}
	return nil
}

func (b *build) debianURL(name, version string) string {
	return "pkg:deb/debian/" + name + "@" + url.QueryEscape(version) + "?arch=" + b.arch.name
}

func newPackage(name, version, sha256, packageURL string) *spdx.Package {
	p := &spdx.Package{
		PackageName:               name,
		PackageSPDXIdentifier:     elementID(name, version),
		PackageVersion:            version,
		PackageDownloadLocation:   "NOASSERTION",
		PackageLicenseConcluded:   "NOASSERTION",
		PackageLicenseDeclared:    "NOASSERTION",
		PackageCopyrightText:      "NOASSERTION",
		IsFilesAnalyzedTagPresent: true,
	}
	if sha256 != "" {
		p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sha256}}
	}
	if packageURL != "" {
		p.PackageExternalReferences = []*spdx.PackageExternalReference{
			{Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: packageURL},
		}
	}
	return p
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// elementID is an SPDX identifier: letters, digits, dots and hyphens.
func elementID(name, version string) common.ElementID {
	return common.ElementID(notInID.ReplaceAllString(name+"-"+version, "-"))
}

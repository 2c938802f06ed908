package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The example shop, hack/shop: its own programs, and servers of Debian's.

// shopPrograms are the Go programs of the shop. They are built with its images
// only.
var shopPrograms = []program{
	{name: "shop-api", pkg: "./hack/shop/api"},
	{name: "shop-database", pkg: "./hack/shop/database"},
}

// shopPackages are the Debian packages that the shop's images take files from.
var shopPackages = []string{
	// Servers and their programs; initdb runs its steps by /bin/sh.
	"nginx", "nginx-common", "redis-server", "redis-tools", "postgresql-15", "postgresql-client-15", "dash",
	// initdb asks the program locale which there are.
	"libc-bin",
	// Libraries of all of them, …
	"libc6", "libssl3", "zlib1g",
	// … of nginx, …
	"libcrypt1", "libpcre2-8-0",
	// … of Redis, and of PostgreSQL too, …
	"libatomic1", "libjemalloc2", "liblzf1", "libstdc++6", "libgcc-s1", "gcc-12-base",
	"libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblz4-1", "liblzma5", "libzstd1",
	// … and of PostgreSQL.
	"libpq5", "libicu72", "libxml2", "libpam0g", "libaudit1", "libcap-ng0", "libreadline8", "libtinfo6",
	"libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1",
	"libldap-2.5-0", "libsasl2-2", "libgnutls30", "libp11-kit0", "libffi8", "libidn2-0", "libunistring2",
	"libtasn1-6", "libnettle8", "libhogweed6", "libgmp10",
}

// Users of the shop's servers; the manifests name the same.
const (
	frontUser    = "101:101"
	cacheUser    = "102:102"
	databaseUser = "103:103"
	apiUser      = "104:104"
)

// postgres is where Debian has the server and its files.
const (
	postgresLib   = "usr/lib/postgresql/15"
	postgresShare = "usr/share/postgresql/15"
)

// databaseEnv is for osctl exec: where the programs are, and that psql shall not
// look for a program that shows its output page by page.
var databaseEnv = []string{"PATH=/" + postgresLib + "/bin:/usr/bin", "PAGER="}

// makeShop makes one archive of all images: what they share is in it once, and
// one import brings them all.
func (b *build) makeShop(ctx context.Context) error {
	packages, err := b.fetchPackages(ctx, "shop-packages", shopPackages)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.path("build", "programs"), 0o755); err != nil {
		return err
	}
	if err := b.goBuild(ctx, shopPrograms, noC, containerdTags, ""); err != nil {
		return err
	}
	inputs, err := b.shopInputs(packages)
	if err != nil {
		return err
	}
	return b.once("the shop's images", []string{b.path("shop.tar")}, inputs, func(partial []string) error {
		images, err := b.shopContainers(packages)
		if err != nil {
			return err
		}
		return b.writeArchive(partial[0], images)
	})
}

// shopInputs are the digests of everything in the shop's images.
func (b *build) shopInputs(packages map[string]debPackage) ([]string, error) {
	files, err := filepath.Glob(b.shopFile("front", "*"))
	if err != nil {
		return nil, err
	}
	files = append(files, b.shopFile("database", "pg_hba.conf"))
	for _, p := range shopPrograms {
		files = append(files, b.program(p))
	}
	var inputs []string
	for _, file := range files {
		sum, err := b.digest(file)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, filepath.Base(file), sum)
	}
	for _, p := range packages {
		inputs = append(inputs, p.name+" "+p.sha256)
	}
	slices.Sort(inputs)
	return inputs, nil
}

func (b *build) shopFile(elements ...string) string {
	return filepath.Join(append([]string{b.source, "hack", "shop"}, elements...)...)
}

// shopContainers are the images of the shop. Those of Debian's servers have a
// layer with the libraries that all three need below their own.
func (b *build) shopContainers(packages map[string]debPackage) ([]container, error) {
	front, err := b.frontTree(packages)
	if err != nil {
		return nil, err
	}
	servers := []*debianTree{front, b.cacheTree(packages), b.databaseTree(packages)}
	layers, err := b.serverLayers(packages, servers)
	if err != nil {
		return nil, err
	}
	api, err := b.apiLayer()
	if err != nil {
		return nil, err
	}
	// By these signals nginx finishes what is under way, and PostgreSQL does not
	// wait until its clients leave.
	return []container{
		{"keelson.local/shop-front:1", layers[0], v1.Config{Entrypoint: []string{"/usr/sbin/nginx"}, User: frontUser, StopSignal: "SIGQUIT"}},
		{"keelson.local/shop-cache:1", layers[1], v1.Config{Entrypoint: []string{"/usr/bin/redis-server"}, User: cacheUser}},
		{"keelson.local/shop-database:1", layers[2], v1.Config{Entrypoint: []string{"/usr/bin/shop-database"}, User: databaseUser, Env: databaseEnv, StopSignal: "SIGINT"}},
		// Two versions, of the same program, for a rolling update.
		{"keelson.local/shop-api:1", []layer{api}, v1.Config{Entrypoint: []string{"/shop-api"}, User: apiUser, Env: []string{"SHOP_VERSION=1"}}},
		{"keelson.local/shop-api:2", []layer{api}, v1.Config{Entrypoint: []string{"/shop-api"}, User: apiUser, Env: []string{"SHOP_VERSION=2"}}},
	}, nil
}

// serverLayers makes the layers of images: the libraries that all of them need,
// and then what each has for itself.
func (b *build) serverLayers(packages map[string]debPackage, servers []*debianTree) ([][]layer, error) {
	shared := map[string]string{}
	needs := make([]map[string]string, len(servers))
	for i, server := range servers {
		var err error
		if needs[i], err = server.needed(); err != nil {
			return nil, err
		}
		for soname, file := range needs[i] {
			shared[soname] = file
		}
	}
	for soname := range shared {
		for _, need := range needs {
			if need[soname] == "" {
				delete(shared, soname)
			}
		}
	}
	below := newDebianTree(b.arch, "libraries", packages)
	below.loader()
	below.libraries(shared)
	if err := below.copyrights(nil); err != nil {
		return nil, err
	}
	base, err := b.compressedLayer(below.what, below.tree)
	if err != nil {
		return nil, err
	}
	var layers [][]layer
	for i, server := range servers {
		for soname := range shared {
			delete(needs[i], soname)
		}
		server.libraries(needs[i])
		if err := server.copyrights(below); err != nil {
			return nil, err
		}
		own, err := b.compressedLayer(server.what, server.tree)
		if err != nil {
			return nil, err
		}
		layers = append(layers, []layer{base, own})
	}
	return layers, nil
}

// frontTree is nginx, and the files that it serves itself.
func (b *build) frontTree(packages map[string]debPackage) (*debianTree, error) {
	d := newDebianTree(b.arch, "nginx", packages)
	d.program("nginx", "usr/sbin/nginx", "usr/sbin/nginx")
	d.data("nginx-common", "etc/nginx/mime.types", "etc/nginx/mime.types")
	d.text("etc/passwd", "nginx:x:101:101::/:/nonexistent\n")
	d.text("etc/group", "nginx:x:101:\n")
	files, err := filepath.Glob(b.shopFile("front", "*"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("nothing in %s: the front end has no files", b.shopFile("front"))
	}
	for _, file := range files {
		d.file("srv/shop/"+filepath.Base(file), file, 0o644)
	}
	return d, nil
}

func (b *build) cacheTree(packages map[string]debPackage) *debianTree {
	d := newDebianTree(b.arch, "redis", packages)
	// Debian's redis-server is a link to a program of redis-tools, which acts by
	// its name.
	d.used["redis-server"] = true
	d.program("redis-tools", "usr/bin/redis-check-rdb", "usr/bin/redis-server")
	d.program("redis-tools", "usr/bin/redis-cli", "usr/bin/redis-cli")
	d.text("etc/passwd", "redis:x:102:102::/:/nonexistent\n")
	d.text("etc/group", "redis:x:102:\n")
	return d
}

// databaseTree is PostgreSQL without its just-in-time compiler, which would be
// larger than the rest, and without most extensions.
func (b *build) databaseTree(packages map[string]debPackage) *debianTree {
	d := newDebianTree(b.arch, "postgresql", packages)
	d.program("dash", "bin/dash", "usr/bin/sh")
	d.program("libc-bin", "usr/bin/locale", "usr/bin/locale")
	d.folder("libc-bin", "usr/lib/locale/C.utf8")
	for _, name := range []string{"postgres", "initdb"} {
		d.program("postgresql-15", postgresLib+"/bin/"+name, postgresLib+"/bin/"+name)
	}
	for _, name := range []string{"psql", "pg_isready", "pg_dump"} {
		d.program("postgresql-client-15", postgresLib+"/bin/"+name, postgresLib+"/bin/"+name)
	}
	// What initdb makes conversions, languages and dictionaries of.
	for _, pattern := range []string{"*_and_*.so", "dict_snowball.so", "plpgsql.so"} {
		d.glob("postgresql-15", postgresLib+"/lib/"+pattern, d.program)
	}
	for _, pattern := range []string{"*.bki", "*.sql", "*.sample", "*.txt"} {
		d.glob("postgresql-15", postgresShare+"/"+pattern, d.data)
	}
	d.glob("postgresql-15", postgresShare+"/extension/plpgsql*", d.data)
	d.folder("postgresql-15", postgresShare+"/timezonesets")
	d.folder("postgresql-15", postgresShare+"/tsearch_data")
	d.file("usr/bin/shop-database", b.program(shopPrograms[1]), 0o755)
	d.file("etc/postgresql/pg_hba.conf", b.shopFile("database", "pg_hba.conf"), 0o644)
	d.text("etc/passwd", "postgres:x:103:103::/var/lib/postgresql:/bin/sh\n")
	d.text("etc/group", "postgres:x:103:\n")
	d.dir("usr/share/zoneinfo", 0o755) // empty: it knows UTC by itself
	d.dir("run/postgresql", 0o755)
	d.dir("var/lib/postgresql", 0o755)
	return d
}

func (b *build) apiLayer() (layer, error) {
	t := newTree()
	t.file("shop-api", b.program(shopPrograms[0]), 0o755)
	addMountPoints(t)
	return b.compressedLayer("shop-api", t)
}

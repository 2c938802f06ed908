package osbundle

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testTime = time.Unix(1767225600, 0)

func testKey(t testing.TB) (ed25519.PrivateKey, []ed25519.PublicKey) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return key, []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}
}

func testBundle(t testing.TB) []byte {
	t.Helper()
	dir, files := t.TempDir(), map[string]string{}
	for name, content := range map[string]string{Loader: "loader", Kernel: strings.Repeat("kernel", 1000), Root: strings.Repeat("root", 10000)} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, _ := testKey(t)
	var bundle bytes.Buffer
	manifest := Manifest{Version: "v1.2.3", Build: "7", Architecture: "amd64", RootHash: "abc"}
	if err := Write(&bundle, manifest, files, key, testTime); err != nil {
		t.Fatal(err)
	}
	return bundle.Bytes()
}

// readAll reads every part.
func readAll(bundle []byte, keys []ed25519.PublicKey) (map[string]string, *Reader, error) {
	r, err := NewReader(bytes.NewReader(bundle), keys)
	if err != nil {
		return nil, nil, err
	}
	parts := map[string]string{}
	for {
		part, content, err := r.Next()
		if errors.Is(err, io.EOF) {
			return parts, r, nil
		}
		if err != nil {
			return nil, r, err
		}
		text, err := io.ReadAll(content)
		if err != nil {
			return nil, r, err
		}
		parts[part.Name] = string(text)
	}
}

func TestWriteAndRead(t *testing.T) {
	_, keys := testKey(t)
	bundle := testBundle(t)
	parts, r, err := readAll(bundle, keys)
	if err != nil {
		t.Fatal(err)
	}
	if parts[Loader] != "loader" || len(parts[Kernel]) != 6000 || len(parts[Root]) != 40000 || r.Manifest.Name() != "v1.2.3 (build 7)" {
		t.Errorf("%d parts of %+v", len(parts), r.Manifest)
	}
	if !bytes.Equal(bundle, testBundle(t)) {
		t.Error("two bundles of the same parts differ")
	}
}

func TestNobodyElsesBundleIsRead(t *testing.T) {
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	for name, keys := range map[string][]ed25519.PublicKey{"another key": {other}, "no key": nil, "a broken key": {{1, 2}}} {
		if _, err := NewReader(bytes.NewReader(testBundle(t)), keys); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, keys := testKey(t)
	for name, change := range map[string]func([]byte){
		"the version":   func(b []byte) { copy(b[bytes.Index(b, []byte("v1.2.3")):], "v9.9.9") },
		"the signature": func(b []byte) { b[3*512+512]++ },
	} {
		bundle := testBundle(t)
		change(bundle)
		if _, err := NewReader(bytes.NewReader(bundle), keys); !errors.Is(err, ErrSignature) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}

func TestDamagedBundles(t *testing.T) {
	_, keys := testKey(t)
	whole := testBundle(t)
	kernelAt, rootAt := bytes.Index(whole, []byte("kernelkernel")), bytes.Index(whole, []byte("rootroot"))
	for name, test := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"empty":                 {func([]byte) []byte { return nil }, "this is no OS bundle"},
		"something else":        {func([]byte) []byte { return []byte(strings.Repeat("hello", 1000)) }, "this is no OS bundle"},
		"another archive":       {func([]byte) []byte { return otherArchive(t) }, "this is no OS bundle"},
		"cut in the manifest":   {func(b []byte) []byte { return b[:600] }, "read the bundle's manifest.json"},
		"cut in the kernel":     {func(b []byte) []byte { return b[:kernelAt+100] }, "ends within its keelson.efi, after 100 of 6000"},
		"cut before the root":   {func(b []byte) []byte { return b[:rootAt-512] }, "ends before its rootfs.img"},
		"cut within the root":   {func(b []byte) []byte { return b[:rootAt+39999] }, "ends within its rootfs.img"},
		"a flipped kernel byte": {func(b []byte) []byte { b[kernelAt+5999]++; return b }, "bundle's keelson.efi is damaged"},
		"a flipped root byte":   {func(b []byte) []byte { b[rootAt]++; return b }, "bundle's rootfs.img is damaged"},
		"another part":          {func(b []byte) []byte { copy(b[rootAt-512:], "rootfs.img2"); return b }, "read the bundle: "},
	} {
		_, _, err := readAll(test.change(bytes.Clone(whole)), keys)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if cut := strings.Contains(test.want, "ends") || strings.Contains(test.want, "is damaged"); cut != errors.Is(err, ErrDamaged) {
			t.Errorf("%s: damaged is not told from other errors: %v", name, err)
		}
	}
}

func otherArchive(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	archive := tar.NewWriter(&b)
	if err := archive.WriteHeader(&tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestManifestsThatASignerGotWrong(t *testing.T) {
	for want, text := range map[string]string{
		"decode":      `{"version":"v1","more":1}`,
		"has 0 parts": `{"version":"v1","architecture":"amd64"}`,
		"part 1":      `{"version":"v1","architecture":"amd64","parts":[{"name":"x"},{"name":"y"},{"name":"z"}]}`,
	} {
		if _, err := decodeManifest([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestKeys(t *testing.T) {
	key, public := testKey(t)
	privatePEM, publicPEM, err := EncodeKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	readPrivate, err := ParsePrivateKey(privatePEM)
	if err != nil || !readPrivate.Equal(key) {
		t.Error(err)
	}
	readPublic, err := ParsePublicKeys(append(publicPEM, publicPEM...))
	if err != nil || len(readPublic) != 2 || !readPublic[0].Equal(public[0]) {
		t.Error(err)
	}
	for _, text := range []string{"", "nonsense", string(publicPEM)} {
		if _, err := ParsePrivateKey([]byte(text)); err == nil {
			t.Errorf("a private key in %q", text)
		}
	}
	for _, text := range []string{"", "nonsense", string(privatePEM)} {
		if _, err := ParsePublicKeys([]byte(text)); err == nil {
			t.Errorf("a public key in %q", text)
		}
	}
}

func FuzzReader(f *testing.F) {
	_, keys := testKey(f)
	whole := testBundle(f)
	f.Add(whole[:4096])
	f.Add(whole)
	f.Fuzz(func(t *testing.T, bundle []byte) {
		_, _, _ = readAll(bundle, keys)
	})
}

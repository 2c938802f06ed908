package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// makeLoader makes the boot loader: Debian's, signed if a key is given.
func (b *build) makeLoader(ctx context.Context) error {
	if b.SecureBoot.Key == "" {
		return nil
	}
	unsigned := filepath.Join(b.debian[bootPackage].dir, b.arch.efiLoader())
	sum, err := b.digest(unsigned)
	if err != nil {
		return err
	}
	keys, err := b.secureBootInputs()
	if err != nil {
		return err
	}
	return b.once("signed boot loader", []string{b.loader()}, append(keys, sum), func(partial []string) error {
		return b.sign(ctx, unsigned, partial[0])
	})
}

// loader is the boot loader's file.
func (b *build) loader() string {
	if b.SecureBoot.Key == "" {
		return filepath.Join(b.debian[bootPackage].dir, b.arch.efiLoader())
	}
	return b.path("build", "signed-"+b.arch.loaderFile())
}

// secureBootInputs are the digests of what signs; none if nothing does.
func (b *build) secureBootInputs() (inputs []string, err error) {
	if b.SecureBoot.Key == "" {
		return nil, nil
	}
	for _, file := range []string{b.SecureBoot.Key, b.SecureBoot.Certificate} {
		sum, err := b.digest(file)
		if err != nil {
			return nil, err
		}
		inputs = append(inputs, sum)
	}
	return inputs, nil
}

// sign signs an EFI program for firmware that asks for it. The signature has the
// time in it: two signed builds are not the same bytes.
func (b *build) sign(ctx context.Context, unsigned, output string) error {
	printed, err := command(ctx, "", "sbsign", "--key", b.SecureBoot.Key, "--cert", b.SecureBoot.Certificate, "--output", output, unsigned)
	if err != nil {
		return fmt.Errorf("sign %s for Secure Boot with the key %s, which must be RSA, in PEM and without a passphrase: %w", filepath.Base(unsigned), b.SecureBoot.Key, err)
	}
	if _, err := os.Stat(output); err != nil { // sbsign may fail with success
		return fmt.Errorf("sbsign signed nothing:\n%s", printed)
	}
	return nil
}

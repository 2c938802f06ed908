package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// FirmwarePath is where the module qemu_fw_cfg shows the config that QEMU was
// given as "-fw_cfg name=opt/org.keelson/config,file=…", below the root.
const FirmwarePath = "sys/firmware/qemu_fw_cfg/by_name/opt/org.keelson/config/raw"

// EmbeddedPath is where an image has the config that it was built with, if any,
// below the root (images, -config).
const EmbeddedPath = "usr/share/keelson/config.yaml"

// URLParameter is the kernel parameter that names a config's URL.
const URLParameter = "keelson.config"

// InstalledParameter is the kernel parameter that names a URL to be told, by POST,
// that the machine is installed.
const InstalledParameter = "keelson.installed"

// Source says where a config came from, for messages. It holds no secret.
type Source string

// installedSource is the config that the node was installed with.
const installedSource Source = "the partition STATE"

// embeddedSource is the config that the image was built with.
const embeddedSource Source = "the OS image"

// Options says where to look.
type Options struct {
	// Root is the root file system; FirmwarePath is looked up in it.
	Root fs.FS
	// Installed reads the config that the node was installed with; nil if it was
	// not. It is fs.ErrNotExist if there is none, and the others are asked.
	Installed func(context.Context) ([]byte, error)
	// URL is the value of URLParameter, or of InstalledParameter; empty when it is not
	// given. In it ${mac}, ${uuid} and ${serial} stand for what the machine is known by.
	URL string
	// Network brings up enough of the network to fetch URL. It is called only
	// when that is needed, before the first request.
	Network func(context.Context) error
	// MAC finds the MAC address of the network card that leads to a host; nil means
	// to ask the kernel.
	MAC func(ctx context.Context, host string) (net.HardwareAddr, error)
	// Transport makes the requests; nil means http.DefaultTransport.
	Transport http.RoundTripper
	// Log gets a line for every try that did not succeed.
	Log *slog.Logger
}

// NotFoundError says that no source had a config.
type NotFoundError struct{}

func (*NotFoundError) Error() string {
	return "no machine config: the disk holds none, QEMU's fw_cfg no opt/org.keelson/config, the kernel command line no " + URLParameter + "=URL, and the image none either"
}

// Load returns the first config found. The error is a *NotFoundError when
// there is none, a *FetchError when its URL does not answer, and holds a
// *machineconfig.Error for each thing that is wrong with what was found; see
// machineconfig.Errors. The Source is set as soon as a source had something.
func Load(ctx context.Context, options Options) (*machineconfig.Config, Source, error) {
	text, source, err := find(ctx, options)
	if err != nil {
		return nil, source, err
	}
	config, err := machineconfig.Decode(string(source), bytes.NewReader(text))
	return config, source, err
}

func find(ctx context.Context, options Options) ([]byte, Source, error) {
	if options.Installed != nil {
		text, err := options.Installed(ctx)
		if err == nil {
			return text, installedSource, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, installedSource, fmt.Errorf("read the config that the node was installed with: %w", err)
		}
	}
	text, err := readFirmware(options.Root)
	if err != nil {
		return nil, "fw_cfg", err
	}
	if len(text) > 0 {
		return text, "fw_cfg", nil
	}
	if options.URL != "" {
		return fetch(ctx, options)
	}
	text, err = fs.ReadFile(options.Root, EmbeddedPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", &NotFoundError{}
	}
	return text, embeddedSource, err
}

// readFirmware reads the fw_cfg file. Without one, or with an empty one, the
// result is empty.
func readFirmware(root fs.FS) ([]byte, error) {
	file, err := root.Open(FirmwarePath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the machine config in fw_cfg: %w", err)
	}
	defer file.Close()
	text, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("read the machine config in fw_cfg: %w", err)
	}
	return bytes.TrimLeft(text, " \t\r\n\x00"), nil
}

// readBounded reads one byte more than a config may have, which is enough for
// the decoder to refuse what is too large.
func readBounded(reader io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(reader, machineconfig.MaxSize+1))
}
